//! The bytes, for ever.

use super::super::format::*;
use super::super::walk::{Step, Walker};
use super::*;
use proptest::prelude::*;

/// Version 1. A change here is a new version, and this one stays.
const GOLDEN_V1: &str = "\
454447455345470a 0100 4000 00000000 61206c6f67206964206f66206f757273 0100000000000000 00002a36fe9c9717 \
000000000000000000000000 2a8b67a3 \
e51fa746 05000000 0100000000000000 5c20db55 68656c6c6f \
e51fa746 00000000 0200000000000000 44191d38 \
e51fa745 00000000 0300000000000000 63642171";

fn golden() -> Vec<u8> {
    let digits: Vec<u8> = GOLDEN_V1.bytes().filter(u8::is_ascii_hexdigit).collect();
    digits
        .chunks(2)
        .map(|two| u8::from_str_radix(std::str::from_utf8(two).unwrap(), 16).unwrap())
        .collect()
}

#[test]
fn a_segment_of_version_1_is_written_byte_for_byte() {
    let disk = FaultDisk::new(1);
    let (mut log, _) = open(&disk, options());
    log.append(&[b"hel", b"lo"]).unwrap();
    log.append(&[]).unwrap();
    log.roll().unwrap();
    let written = disk
        .contents(&Path::new(DIR).join("00000000000000000001.seg"))
        .unwrap();
    assert_eq!(hex(&written), hex(&golden()));
}

#[test]
fn a_segment_of_version_1_is_read() {
    let disk = FaultDisk::new(1);
    disk.create_dir_all(Path::new(DIR)).unwrap();
    let path = Path::new(DIR).join("00000000000000000001.seg");
    disk.create_new(&path).unwrap();
    disk.corrupt(&path, |bytes| *bytes = golden());
    let (log, report) = open(&disk, options());
    assert_eq!(log.log_id(), LOG_ID);
    assert_eq!(report.plan.next_sequence, 3);
    let expect = |sequence, payload| {
        ReadItem::Frame(Frame {
            sequence,
            payload: Bytes::from_static(payload),
        })
    };
    assert_eq!(read_from(&log, 1), [expect(1, b"hello"), expect(2, b"")]);
}

#[test]
fn a_later_version_is_refused_and_left_alone() {
    let disk = filled(3, options());
    let path = last_segment(&disk);
    disk.corrupt(&path, |bytes| {
        bytes[8] = 2;
        let crc = crc32c::crc32c(&bytes[..60]);
        bytes[60..64].copy_from_slice(&crc.to_le_bytes());
    });
    let before = disk.contents(&path);
    disk.restart();
    let error = SegmentLog::open(Arc::new(disk.clone()), Path::new(DIR), options()).unwrap_err();
    assert!(
        matches!(error, SegmentError::TooNew { version: 2, .. }),
        "{error}"
    );
    assert_eq!(disk.contents(&path), before);
}

#[test]
fn file_names_are_twenty_digits_and_nothing_else() {
    assert_eq!(file_name(4711), "00000000000000004711.seg");
    assert_eq!(parse_file_name(&file_name(u64::MAX)), Some(u64::MAX));
    for name in [
        "4711.seg",
        "00000000000000004711.seg.new",
        "0000000000000000471x.seg",
        "99999999999999999999.seg",
        "+0000000000000004711.seg",
    ] {
        assert_eq!(parse_file_name(name), None, "{name}");
    }
}

#[test]
fn the_log_id_file_is_one_line_with_a_check() {
    let text = encode_log_id(&LOG_ID);
    assert_eq!(decode_log_id(text.as_bytes()), Some(LOG_ID));
    for at in 0..text.len() {
        let mut wrong = text.clone().into_bytes();
        wrong[at] ^= 1;
        assert_eq!(decode_log_id(&wrong), None);
        assert_eq!(decode_log_id(&text.as_bytes()[..at]), None);
    }
}

/// Every frame that a walker reports, and the lost ranges.
fn walk(bytes: &[u8], chunk: usize) -> (Vec<u64>, Vec<std::ops::Range<u64>>, Option<u64>) {
    let mut walker = Walker::new(&LOG_ID, 4096, 0, 1..u64::MAX);
    let (mut start, mut end) = (0, 0);
    let (mut seen, mut lost) = (Vec::new(), Vec::new());
    loop {
        match walker.step(&bytes[start..end], end == bytes.len()) {
            Step::Need(wanted) => {
                assert!(
                    end < bytes.len() && start + wanted > end,
                    "asks for more only when there is more"
                );
                end = (start + wanted.max(chunk)).min(bytes.len());
            }
            Step::Frame { sequence, bytes } => {
                seen.push(sequence);
                start += bytes;
            }
            Step::Skip(bytes) => {
                assert!(bytes > 0);
                start += bytes;
            }
            Step::Damaged(region) => lost.push(region.lost),
            Step::End { next_sequence } => return (seen, lost, Some(next_sequence)),
            Step::Exhausted(_) => return (seen, lost, None),
        }
    }
}

fn encoded(payloads: &[Vec<u8>]) -> Vec<u8> {
    let crc = FrameCrc::new(&LOG_ID);
    let mut bytes = Vec::new();
    for (sequence, payload) in (1..).zip(payloads) {
        bytes.extend(crc.frame_header(u32::try_from(payload.len()).unwrap(), sequence, &[payload]));
        bytes.extend(payload);
    }
    bytes.extend(crc.end_mark(payloads.len() as u64 + 1));
    bytes
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn frames_are_walked_the_same_whatever_the_chunks(
        payloads in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..200), 0..12), chunk in 1_usize..300,
    ) {
        let all: Vec<u64> = (1..=payloads.len() as u64).collect();
        prop_assert_eq!(walk(&encoded(&payloads), chunk), (all.clone(), vec![], Some(all.len() as u64 + 1)));
    }

    #[test]
    fn after_any_damage_the_good_frames_around_it_are_found_and_the_rest_is_named(
        payloads in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..100), 1..12),
        at in any::<prop::sample::Index>(), junk in prop::collection::vec(any::<u8>(), 1..300), chunk in 1_usize..300,
    ) {
        let mut bytes = encoded(&payloads);
        let clean = bytes.clone();
        let at = at.index(bytes.len());
        let end = (at + junk.len()).min(bytes.len());
        bytes[at..end].copy_from_slice(&junk[..end - at]);
        let (seen, lost, next) = walk(&bytes, chunk);
        // A frame is there exactly if none of its bytes changed.
        let mut offset = 0;
        for (sequence, payload) in (1..).zip(&payloads) {
            let frame = offset..offset + FRAME_HEADER_BYTES + payload.len();
            prop_assert_eq!(seen.contains(&sequence), bytes[frame.clone()] == clean[frame.clone()]);
            offset = frame.end;
        }
        // Seen and lost are in order and disjoint, and complete when the end was found.
        let mut covered: Vec<u64> = lost.into_iter().flatten().chain(seen).collect();
        covered.sort_unstable();
        let upto = next.unwrap_or(covered.len() as u64 + 1);
        prop_assert_eq!(covered, (1..upto).collect::<Vec<_>>());
    }

    #[test]
    fn garbage_never_panics(bytes in prop::collection::vec(prop_oneof![Just(0xe5), Just(0x1f), Just(0xa7), Just(0x46), any::<u8>()], 0..500)) {
        let (seen, _, next) = walk(&bytes, 64);
        prop_assert!(seen.is_empty() && next.is_none());
        prop_assert!(Header::decode(&bytes).is_err());
    }
}

#[test]
fn frames_of_another_log_inside_a_payload_are_not_ours() {
    let theirs = FrameCrc::new(b"somebody else's!").frame_header(2, 2, &[b"no"]);
    let mut bytes = encoded(&[[&theirs[..], b"no"].concat(), b"two".to_vec()]);
    bytes[0] ^= 1; // the outer frame is damaged, so its payload is searched
    let (seen, lost, next) = walk(&bytes, 4096);
    assert_eq!((seen, next), (vec![2], Some(3)));
    assert_eq!(lost, std::slice::from_ref(&(1..2)));
}

#[test]
fn an_old_frame_in_a_reused_place_is_damage_and_not_data() {
    let crc = FrameCrc::new(&LOG_ID);
    let mut bytes = crc.frame_header(1, 1, &[b"a"]).to_vec();
    bytes.extend(b"a");
    let stale = bytes.clone();
    bytes.extend(&stale);
    bytes.extend(crc.end_mark(2));
    let (seen, lost, next) = walk(&bytes, 4096);
    assert_eq!((seen, next), (vec![1], Some(2)));
    assert_eq!(lost, std::slice::from_ref(&(2..2)), "nothing is lost");
}
