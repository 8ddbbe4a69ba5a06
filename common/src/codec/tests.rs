use super::error::Found;
use super::*;
use bytes::Bytes;
use proptest::prelude::*;

const LIMITS: DecodeLimits = DecodeLimits {
    compressed_bytes_max: 1 << 20,
    decompressed_bytes_max: 4 << 20,
    ratio_max: 100_000,
    zstd_window_log_max: 23,
};

fn settings() -> Vec<CodecSetting> {
    let zstd = [-100, -5, -1, 0, 1, 3, 9, 19].map(|level| CodecSetting::new(Codec::Zstd, level));
    let gzip = [0, 1, 6, 9].map(|level| CodecSetting::new(Codec::Gzip, level));
    let plain = [Codec::None, Codec::Lz4, Codec::Snappy].map(|codec| Ok(CodecSetting::default_of(codec)));
    zstd.into_iter()
        .chain(gzip)
        .chain(plain)
        .map(Result::unwrap)
        .collect()
}

fn open(codec: Codec, payload: &[u8], declared: usize) -> Result<Vec<u8>, CodecError> {
    let mut out = Vec::new();
    Decompressor::new().decompress(codec, payload, declared, &LIMITS, &mut out)?;
    Ok(out)
}

fn log_lines(count: usize) -> Vec<u8> {
    let line = |i: usize| {
        format!(
            "2026-01-01T00:{:02}:{:02}Z host app[{}]: request {} ok\n",
            i / 60 % 60,
            i % 60,
            i % 7,
            i * 31
        )
    };
    (0..count).flat_map(|i| line(i).into_bytes()).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn what_was_compressed_opens_again_with_kept_contexts(
        inputs in prop::collection::vec((prop::collection::vec(any::<u8>(), 0..2000), 1_usize..60), 1..4),
    ) {
        let mut compressor = Compressor::new();
        let mut decompressor = Decompressor::new();
        let (mut packed, mut opened) = (Vec::new(), Vec::new());
        for setting in settings() {
            for (seed, repeats) in &inputs {
                let input = seed.repeat(*repeats);
                compressor.compress(setting, &input, &mut packed).unwrap();
                prop_assert_eq!(&packed, &compress(setting, &input).unwrap(), "a kept context changes nothing");
                decompressor.decompress(setting.codec(), &packed, input.len(), &LIMITS, &mut opened).unwrap();
                prop_assert_eq!(&opened, &input);
                let shared = Bytes::copy_from_slice(&packed);
                let bytes = decompressor.decompress_bytes(setting.codec(), &shared, input.len(), &LIMITS).unwrap();
                prop_assert_eq!(&bytes[..], &input[..]);
            }
        }
    }

    #[test]
    fn garbage_never_panics_and_never_opens_beyond_what_was_declared(
        payload in prop::collection::vec(any::<u8>(), 0..300), declared in 0_usize..10_000,
    ) {
        for codec in Codec::ALL {
            let mut out = Vec::new();
            let done = Decompressor::new().decompress(codec, &payload, declared, &LIMITS, &mut out);
            prop_assert!(out.capacity() <= declared.max(64));
            prop_assert_eq!(out.len(), if done.is_ok() { declared } else { 0 });
        }
    }
}

#[test]
fn every_truncation_is_an_error() {
    let input = log_lines(60);
    for setting in settings() {
        let packed = compress(setting, &input).unwrap();
        for len in 0..packed.len() {
            let opened = open(setting.codec(), &packed[..len], input.len());
            assert!(opened.is_err(), "{setting} cut to {len} of {}", packed.len());
        }
    }
}

#[test]
fn every_bit_flip_is_an_error_or_within_the_bound() {
    let input = log_lines(30);
    let mut decompressor = Decompressor::new();
    let mut out = Vec::new();
    for setting in settings() {
        let mut packed = compress(setting, &input).unwrap();
        for bit in 0..packed.len() * 8 {
            packed[bit / 8] ^= 1 << (bit % 8);
            let done = decompressor.decompress(setting.codec(), &packed, input.len(), &LIMITS, &mut out);
            assert_eq!(out.len(), if done.is_ok() { input.len() } else { 0 });
            assert!(out.capacity() <= input.len());
            packed[bit / 8] ^= 1 << (bit % 8);
        }
        // The context that met all of these is still good.
        decompressor
            .decompress(setting.codec(), &packed, input.len(), &LIMITS, &mut out)
            .unwrap();
        assert_eq!(out, input);
    }
}

#[test]
fn a_wrong_declared_length_is_an_error_both_ways() {
    let input = log_lines(50);
    for setting in settings() {
        let packed = compress(setting, &input).unwrap();
        for declared in [0, 1, input.len() - 1, input.len() + 1, 2 * input.len()] {
            let error = open(setting.codec(), &packed, declared).unwrap_err();
            assert!(
                matches!(error, CodecError::LengthMismatch { .. }),
                "{setting} {declared}: {error}"
            );
        }
    }
}

#[test]
fn trailing_bytes_are_an_error() {
    let input = log_lines(50);
    for setting in settings() {
        for garbage in [&b"\0"[..], b"garbage"] {
            let packed = [&compress(setting, &input).unwrap(), garbage].concat();
            assert!(open(setting.codec(), &packed, input.len()).is_err(), "{setting}");
        }
        // Two whole payloads one after another are not one.
        let twice = compress(setting, &input).unwrap().repeat(2);
        assert!(open(setting.codec(), &twice, input.len()).is_err(), "{setting}");
        if setting != CodecSetting::NONE {
            assert!(
                open(setting.codec(), &twice, 2 * input.len()).is_err(),
                "{setting}"
            );
        }
    }
}

#[test]
fn nothing_compresses_and_opens_to_nothing() {
    for setting in settings() {
        let packed = compress(setting, b"").unwrap();
        assert_eq!(open(setting.codec(), &packed, 0).unwrap(), b"", "{setting}");
    }
}

#[test]
fn a_zstd_bomb_of_33_kb_is_refused_whatever_it_declares() {
    // 1 GiB of zeroes at level 1, without holding a GiB: a stream whose content size isn't known in front.
    let mut bomb = Vec::new();
    let mut encoder = zstd::stream::write::Encoder::new(&mut bomb, 1).unwrap();
    let chunk = vec![0; 1 << 20];
    for _ in 0..1024 {
        std::io::Write::write_all(&mut encoder, &chunk).unwrap();
    }
    encoder.finish().unwrap();
    assert!(bomb.len() < 100_000, "{}", bomb.len());
    let honest = open(Codec::Zstd, &bomb, 1 << 30).unwrap_err();
    assert!(
        matches!(honest, CodecError::DecompressedTooLarge { .. }),
        "{honest}"
    );
    let lying = open(Codec::Zstd, &bomb, 1 << 20).unwrap_err();
    assert!(
        matches!(
            lying,
            CodecError::Malformed { .. } | CodecError::LengthMismatch { .. }
        ),
        "{lying}"
    );
    let strict = DecodeLimits {
        ratio_max: 100,
        ..LIMITS
    };
    let mut out = Vec::new();
    let ratio = Decompressor::new()
        .decompress(Codec::Zstd, &bomb, 4 << 20, &strict, &mut out)
        .unwrap_err();
    assert!(matches!(ratio, CodecError::RatioTooLarge { .. }), "{ratio}");
    assert_eq!(ratio.code().code, "E0302");
    assert_eq!(out.capacity(), 0);
}

#[test]
fn a_header_of_12_bytes_that_asks_for_a_2_gib_window_is_refused_unread() {
    let mut frame = 0xfd2f_b528_u32.to_le_bytes().to_vec();
    frame.extend([0x00, (31 - 10) << 3]); // no content size, window of 2^31 bytes
    frame.extend([0x03, 0x00, 0x00, 0x00, 0x00, 0x00]); // a last, empty block and some more
    assert_eq!(frame.len(), 12);
    assert_eq!(
        open(Codec::Zstd, &frame, 100).unwrap_err(),
        CodecError::WindowTooLarge {
            window_bytes: 1 << 31,
            window_bytes_max: 1 << 23
        },
    );
}

#[test]
fn a_zstd_frame_that_declares_another_content_size_is_refused_unread() {
    let packed = compress(CodecSetting::default(), &vec![0; 4 << 20]).unwrap();
    assert_eq!(
        open(Codec::Zstd, &packed, 1000).unwrap_err(),
        CodecError::LengthMismatch {
            codec: Codec::Zstd,
            declared: 1000,
            found: Found::Exactly(4 << 20)
        },
    );
}

#[test]
fn skippable_frames_dictionaries_and_reserved_bits_are_refused() {
    let check = |bytes: &[u8], word: &str| {
        let error = open(Codec::Zstd, bytes, 10).unwrap_err().to_string();
        assert!(error.contains(word), "{error}");
    };
    check(
        &[0x50, 0x2a, 0x4d, 0x18, 0, 0, 0, 0],
        "does not begin with a zstd frame",
    );
    check(&[0x28, 0xb5, 0x2f, 0xfd, 0x21, 1, 10], "dictionary");
    check(&[0x28, 0xb5, 0x2f, 0xfd, 0x28, 10], "reserved");
    check(&[0x28, 0xb5, 0x2f, 0xfd, 0x00], "cut short");
    check(&[0x28, 0xb5, 0x2f, 0xfd, 0xe0, 1, 2, 3], "cut short");
}

#[test]
fn a_gzip_bomb_stops_at_the_declared_length() {
    let bomb = compress(CodecSetting::new(Codec::Gzip, 9).unwrap(), &vec![0; 64 << 20]).unwrap();
    assert!(bomb.len() < 100_000);
    let mut out = Vec::new();
    let done = Decompressor::new().decompress(Codec::Gzip, &bomb, 1000, &LIMITS, &mut out);
    assert_eq!(
        done.unwrap_err(),
        CodecError::LengthMismatch {
            codec: Codec::Gzip,
            declared: 1000,
            found: Found::More
        },
    );
    assert!(out.capacity() <= 1000);
}

#[test]
fn an_lz4_bomb_and_a_snappy_bomb_stop_at_the_declared_length() {
    for codec in [Codec::Lz4, Codec::Snappy] {
        let bomb = compress(CodecSetting::default_of(codec), &vec![0; 16 << 20]).unwrap();
        assert!(bomb.len() < 1 << 20);
        let error = open(codec, &bomb, 1000).unwrap_err();
        assert!(matches!(error, CodecError::LengthMismatch { .. }), "{error}");
        assert!(matches!(
            open(codec, &bomb, 16 << 20).unwrap_err(),
            CodecError::DecompressedTooLarge { .. }
        ));
    }
}

#[test]
fn limits_are_checked_at_their_exact_edges() {
    let limits = DecodeLimits {
        compressed_bytes_max: 1000,
        decompressed_bytes_max: 200_000,
        ratio_max: 100,
        zstd_window_log_max: 20,
    };
    limits.check(1000, 100_000).unwrap();
    limits.check(0, RATIO_EXEMPT_BYTES).unwrap();
    let code = |compressed, opened| limits.check(compressed, opened).unwrap_err();
    assert!(matches!(code(1001, 1), CodecError::CompressedTooLarge { .. }));
    assert!(matches!(
        code(1000, 200_001),
        CodecError::DecompressedTooLarge { .. }
    ));
    assert!(matches!(code(1000, 100_001), CodecError::RatioTooLarge { .. }));
    assert!(matches!(
        code(655, RATIO_EXEMPT_BYTES + 1),
        CodecError::RatioTooLarge { .. }
    ));
}

#[test]
fn no_compression_shares_the_bytes_instead_of_copying_them() {
    let payload = Bytes::from(log_lines(3));
    let shared = Decompressor::new()
        .decompress_bytes(Codec::None, &payload, payload.len(), &LIMITS)
        .unwrap();
    assert_eq!(shared.as_ptr(), payload.as_ptr());
    assert!(
        Decompressor::new()
            .decompress_bytes(Codec::None, &payload, 3, &LIMITS)
            .is_err()
    );
}

#[test]
fn zstd_writes_one_frame_with_its_content_size_and_no_checksum() {
    let packed = compress(CodecSetting::default(), &log_lines(100)).unwrap();
    let header = zstd_header::parse(&packed).unwrap();
    assert_eq!(header.content_bytes, Some(log_lines(100).len() as u64));
    assert_eq!(packed[4] & 0x04, 0, "the checksum flag");
}

#[test]
fn settings_print_as_they_are_written() {
    for text in ["zstd:3", "zstd:-5", "zstd:22", "gzip:0", "lz4", "snappy", "none"] {
        assert_eq!(text.parse::<CodecSetting>().unwrap().to_string(), text);
    }
    assert_eq!("zstd".parse::<CodecSetting>().unwrap().to_string(), "zstd:3");
    assert_eq!(
        "gzip".parse::<CodecSetting>().unwrap(),
        CodecSetting::new(Codec::Gzip, 6).unwrap()
    );
    let json = serde_json::to_string(&CodecSetting::default()).unwrap();
    assert_eq!(
        serde_json::from_str::<CodecSetting>(&json).unwrap(),
        CodecSetting::default()
    );
}

#[test]
fn a_wrong_setting_says_what_to_write() {
    let check = |text: &str, word: &str| {
        let error = text.parse::<CodecSetting>().unwrap_err().to_string();
        assert!(error.contains(word), "{text}: {error}");
    };
    check(
        "brotli",
        "unknown codec `brotli`; write one of zstd, gzip, lz4, snappy, none",
    );
    check("ZSTD", "unknown codec `ZSTD`");
    check("lz4:3", "`lz4` has no levels; write just `lz4`");
    check("zstd:23", "whole number from -100 to 22");
    check("zstd:", "`` is not a level of zstd");
    check("gzip:-1", "from 0 to 9");
    check("", "unknown codec ``");
}

#[test]
fn codecs_have_the_wire_numbers_of_the_schema() {
    for codec in Codec::ALL {
        assert_eq!(
            Codec::from_wire(edgelogger_proto::v1::Codec::from(codec) as i32).unwrap(),
            codec
        );
    }
    for number in [-1, 0, 6, i32::MAX] {
        assert_eq!(
            Codec::from_wire(number).unwrap_err(),
            CodecError::UnknownCodec { number }
        );
    }
}

#[test]
fn sha256_is_the_standard_one() {
    assert_eq!(sha256(b"abc")[..4], [0xba, 0x78, 0x16, 0xbf]);
}

/// `cargo test -p edgelogger-common --lib codec::tests::speed -- --ignored --nocapture`
#[test]
#[ignore = "a measurement"]
fn speed_of_every_codec_on_a_mebibyte_of_log_lines() {
    let input = log_lines(16_000);
    let (mut compressor, mut decompressor) = (Compressor::new(), Decompressor::new());
    let (mut packed, mut opened) = (Vec::new(), Vec::new());
    for setting in settings() {
        let rate = |rounds: u32, seconds: f64| f64::from(rounds) * input.len() as f64 / 1_048_576.0 / seconds;
        let rounds = if setting.level() >= 9 { 3 } else { 50 };
        let start = std::time::Instant::now();
        (0..rounds).for_each(|_| compressor.compress(setting, &input, &mut packed).unwrap());
        let compress = rate(rounds, start.elapsed().as_secs_f64());
        let start = std::time::Instant::now();
        for _ in 0..50 {
            decompressor
                .decompress(setting.codec(), &packed, input.len(), &LIMITS, &mut opened)
                .unwrap();
        }
        let open = rate(50, start.elapsed().as_secs_f64());
        let ratio = input.len() as f64 / packed.len() as f64;
        println!(
            "{:10} {compress:8.0} MiB/s  open {open:8.0} MiB/s  {ratio:6.1} to 1",
            setting.to_string()
        );
    }
}
