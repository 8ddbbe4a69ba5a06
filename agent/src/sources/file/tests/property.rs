//! The reader against a naive splitter: any content, written in any pieces, read at any moment.

use edgelogger_common::block::RecordFlags;
use edgelogger_common::size::ByteSize;
use proptest::prelude::*;

use super::*;

const LIMIT: usize = 64;

/// Bodies, source lengths and flags as they should be, when all but the last line has its line feed and the last
/// one's time was over.
fn naive(content: &[u8]) -> Vec<(Vec<u8>, u64, RecordFlags)> {
    content
        .split_inclusive(|byte| *byte == b'\n')
        .map(|line| {
            let (body, mut flags) = match line.strip_suffix(b"\n") {
                Some(body) => (body.strip_suffix(b"\r").unwrap_or(body), RecordFlags::default()),
                None => (line, RecordFlags::NO_LINE_FEED),
            };
            if body.len() > LIMIT {
                flags = flags.with(RecordFlags::TRUNCATED);
            }
            (body[..body.len().min(LIMIT)].to_vec(), line.len() as u64, flags)
        })
        .collect()
}

fn line() -> impl Strategy<Value = Vec<u8>> {
    let body = prop_oneof![
        8 => proptest::collection::vec(any::<u8>().prop_map(|byte| byte.max(1)), 0..80),
        1 => (60usize..70).prop_map(|len| vec![b'x'; len]),
        1 => (15_000usize..40_000).prop_map(|len| vec![b'y'; len]),
        1 => (1usize..3).prop_map(|count| vec![b'z'; count * (256 << 10)]),
    ];
    let end = prop_oneof![4 => Just(&b"\n"[..]), 2 => Just(&b"\r\n"[..]), 1 => Just(&b"\r\r\n"[..]), 1 => Just(&b""[..])];
    (body, end).prop_map(|(mut body, end)| {
        body.extend_from_slice(end);
        body
    })
}

/// So many cases in a normal run; `PROPTEST_CASES` asks for more.
pub(super) fn cases(cases: u32) -> ProptestConfig {
    let asked = std::env::var_os("PROPTEST_CASES").is_some();
    let default = ProptestConfig::default();
    ProptestConfig {
        cases: if asked { default.cases } else { cases },
        failure_persistence: None,
        ..default
    }
}

proptest! {
    #![proptest_config(cases(48))]

    #[test]
    fn lines_are_what_a_naive_splitter_finds(
        content in proptest::collection::vec(line(), 1..20).prop_map(|lines| lines.concat()),
        cuts in proptest::collection::vec(any::<prop::sample::Index>(), 0..6),
        restart in any::<bool>(),
    ) {
        let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(content.len().max(1))).collect();
        cuts.sort_unstable();
        let mut world = World::with(|config| {
            config.line_bytes_max = ByteSize::bytes(LIMIT as u64);
            config.allow_binary = true;
        });
        world.start();
        let mut at = 0;
        for cut in cuts.into_iter().chain([content.len()]) {
            world.append("a.log", &content[at..cut]);
            world.settle();
            if restart {
                world.stop();
                world.start();
            }
            at = cut;
        }
        world.pass(Duration::from_secs(5));
        if content.is_empty() {
            prop_assert!(world.streams.is_empty());
            return Ok(());
        }
        let found: Vec<_> =
            world.stream(0).rows.iter().map(|row| (row.body.clone(), row.source_len, row.flags)).collect();
        prop_assert_eq!(found, naive(&content));
        prop_assert_eq!(world.stream(0).end, content.len() as u64);
    }
}
