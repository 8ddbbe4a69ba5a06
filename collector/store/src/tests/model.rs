//! Whatever order blocks come in, however often, and wherever the process stops: each row is there once.

use std::collections::BTreeMap;
use std::sync::Arc;

use edgelogger_common::block::RecordFlags;
use edgelogger_common::clock::ManualClock;
use edgelogger_common::disk::{Disk, FaultDisk};
use edgelogger_proto::v1::LogEntry;
use proptest::prelude::*;

use super::common::{NOW, SECOND, blocks_entry, lines, options, sql_texts, stream_id};
use crate::{EmbeddedStore, StoreOptions};

const SELECT: &str =
    "SELECT stream_id, position, source_len, flags, body FROM logs ORDER BY stream_id, position, source_len";

/// What a block is cut from: the same bytes at the same positions, always.
fn source(stream: u8) -> Vec<u8> {
    (0..60)
        .flat_map(|line| format!("stream {stream} line {line}{}\n", "-".repeat(line % 7)).into_bytes())
        .collect()
}

/// Rows as they must be: a naive set of positions, and for each record a look at every one of them.
#[derive(Default)]
struct Model {
    applied: BTreeMap<u8, Vec<bool>>,
    rows: Vec<String>,
}

impl Model {
    fn apply(&mut self, stream: u8, start: usize, text: &[u8]) {
        let applied = self
            .applied
            .entry(stream)
            .or_insert_with(|| vec![false; source(stream).len()]);
        let before = applied.clone();
        let mut at = start;
        for line in text.split_inclusive(|byte| *byte == b'\n') {
            let range = at..at + line.len();
            at = range.end;
            if before[range.clone()].iter().all(|applied| *applied) {
                continue;
            }
            let overlaps = before[range.clone()].iter().any(|applied| *applied);
            let flags = if overlaps { RecordFlags::OVERLAPS.0 } else { 0 };
            let body = std::str::from_utf8(&line[..line.len() - 1]).unwrap();
            self.rows.push(format!(
                "{}|{}|{}|{flags}|{body}",
                stream_id(stream),
                range.start,
                line.len()
            ));
        }
        applied[start..at].fill(true);
    }

    fn sorted(mut self) -> Vec<String> {
        self.rows.sort_by_key(|row| {
            let mut cells = row.split('|');
            let stream = cells.next().unwrap().to_owned();
            let mut number = || cells.next().unwrap().parse::<u64>().unwrap();
            (stream, number(), number())
        });
        self.rows
    }
}

/// A block: which stream, from which byte (also in the middle of a line), how many lines.
type Piece = (u8, usize, usize);

fn cut((stream, start, count): Piece) -> (usize, Vec<u8>) {
    let source = source(stream);
    let start = start % source.len();
    let ends = memchr::memchr_iter(b'\n', &source[start..]).take(count.max(1));
    let end = ends.last().map_or(source.len(), |end| start + end + 1);
    (start, source[start..end].to_vec())
}

#[derive(Debug, Clone)]
enum Step {
    Append(Vec<Piece>),
    Apply(usize),
    Again(u64),
    Flush,
    Merge,
    Restart,
}

fn step() -> impl Strategy<Value = Step> {
    let piece = (0u8..3, 0usize..1200, 1usize..25);
    prop_oneof![
        4 => proptest::collection::vec(piece, 1..4).prop_map(Step::Append),
        4 => (1usize..4).prop_map(Step::Apply),
        1 => (0u64..40).prop_map(Step::Again),
        4 => Just(Step::Flush),
        2 => Just(Step::Merge),
        1 => Just(Step::Restart),
    ]
}

/// The day of the rows is over: any two files of it are merged.
fn two_days_later(disk: Arc<dyn Disk>) -> StoreOptions {
    StoreOptions {
        clock: Arc::new(ManualClock::at(NOW + 2 * 86_400 * SECOND)),
        ..options(disk)
    }
}

struct World {
    disk: FaultDisk,
    store: Option<Arc<EmbeddedStore>>,
    log: Vec<LogEntry>,
}

impl World {
    fn store(&mut self) -> Arc<EmbeddedStore> {
        let disk = self.disk.clone();
        Arc::clone(
            self.store
                .get_or_insert_with(|| EmbeddedStore::open(two_days_later(Arc::new(disk))).unwrap()),
        )
    }

    fn apply(&mut self, count: usize) {
        let store = self.store();
        let from = store.cursor();
        let entries = self
            .log
            .iter()
            .zip(0u64..)
            .skip(usize::try_from(from).unwrap())
            .take(count);
        for (entry, sequence) in entries {
            store.apply(sequence, entry).unwrap();
        }
    }

    fn step(&mut self, step: Step) {
        match step {
            Step::Append(pieces) => {
                let blocks: Vec<_> = pieces
                    .into_iter()
                    .map(|piece| {
                        let (start, text) = cut(piece);
                        lines(stream_id(piece.0), start as u64, &text)
                    })
                    .collect();
                self.log.push(blocks_entry("m1", &blocks));
            }
            Step::Apply(count) => self.apply(count),
            Step::Again(sequence) => {
                let store = self.store();
                if sequence < store.cursor() {
                    let entry = &self.log[usize::try_from(sequence).unwrap()];
                    assert_eq!(store.apply(sequence, entry).unwrap().rows, 0);
                }
            }
            Step::Flush => {
                self.store().flush().unwrap();
            }
            Step::Merge => while self.store().merge_idle(&|| true).unwrap().is_some() {},
            Step::Restart => {
                self.store = None;
                self.disk.kill();
                self.disk.restart();
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]
    #[test]
    fn every_row_is_there_once_after_duplicates_overlaps_reordering_merges_and_restarts(
        steps in proptest::collection::vec(step(), 1..30),
    ) {
        let mut model = Model::default();
        for step in &steps {
            let Step::Append(pieces) = step else { continue };
            for piece in pieces {
                let (start, text) = cut(*piece);
                model.apply(piece.0, start, &text);
            }
        }
        let mut world = World { disk: FaultDisk::new(7), store: None, log: Vec::new() };
        for step in steps {
            world.step(step);
        }
        world.apply(usize::MAX);
        let expected = model.sorted();
        prop_assert_eq!(sql_texts(&world.store(), SELECT), expected.clone());
        world.store().flush().unwrap();
        prop_assert_eq!(sql_texts(&world.store(), SELECT), expected.clone());
        world.step(Step::Restart);
        prop_assert_eq!(world.store().cursor(), world.log.len() as u64);
        prop_assert_eq!(sql_texts(&world.store(), SELECT), expected);
    }
}
