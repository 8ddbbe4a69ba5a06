//! Whatever is deleted whenever, wherever the process stops: what every deletion covered is gone, and nothing else.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use edgelogger_common::clock::ManualClock;
use edgelogger_common::disk::FaultDisk;
use edgelogger_proto::v1::LogEntry;
use proptest::prelude::*;

use super::common::{NOW, SECOND, blocks_entry, lines, options, sql_texts, stream_id};
use crate::{DeleteRequest, DeleteScope, EmbeddedStore, StoreFiles, StoreOptions};

const SELECT: &str = "SELECT stream_id, position FROM logs ORDER BY stream_id, position";
const STREAMS: u8 = 4;
const LINES: u64 = 36;
/// Lines of a block.
const BLOCK: u64 = 3;
const STEP: i64 = 2 * 3600 * SECOND;
const START: i64 = NOW - 60 * 3600 * SECOND;

/// Even streams are of m0, odd ones of m1.
fn machine(stream: u8) -> String {
    format!("m{}", stream % 2)
}

/// Lines of one stream are two hours apart, those of the next a minute later.
fn time(stream: u8, line: u64) -> i64 {
    START + line.cast_signed() * STEP + i64::from(stream) * 60 * SECOND
}

fn text(stream: u8, line: u64) -> String {
    let time = jiff::Timestamp::from_nanosecond(time(stream, line).into()).unwrap();
    format!("{time} stream {stream} line {line:02}\n")
}

/// All lines have one length.
fn position(line: u64) -> u64 {
    line * text(0, 0).len() as u64
}

#[derive(Debug, Clone)]
enum Step {
    /// A block of a stream comes to the log.
    Append(u8, u64),
    Apply(usize),
    Flush,
    Merge,
    Delete(DeleteScope),
    /// Carries deletions out, and is told to stop after so many looks.
    CarryOut(u32),
    Restart,
}

fn scope() -> impl Strategy<Value = DeleteScope> {
    let machine = proptest::option::of(proptest::sample::select(vec!["m0", "m1", "m*", "m2"]));
    let source = proptest::option::of(proptest::sample::select(vec!["/var/log/1.log", "*2.log", "*"]));
    let time = || proptest::option::of((0..LINES).prop_map(|line| time(1, line)));
    (machine, source, time(), time()).prop_map(|(machine, source, first, second)| {
        let (from, to) = match (first, second) {
            (Some(first), Some(second)) => (Some(first.min(second)), Some(first.max(second) + 1)),
            other => other,
        };
        let machine = match source {
            None => Some(machine.unwrap_or("m1")),
            Some(_) => machine,
        };
        DeleteScope {
            machine: machine.map(str::to_owned),
            source: source.map(str::to_owned),
            from,
            to,
        }
    })
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => (0..STREAMS, 0..LINES / BLOCK).prop_map(|(stream, block)| Step::Append(stream, block)),
        4 => (1usize..6).prop_map(Step::Apply),
        2 => Just(Step::Flush),
        2 => Just(Step::Merge),
        2 => scope().prop_map(Step::Delete),
        2 => (0u32..20).prop_map(Step::CarryOut),
        1 => Just(Step::Restart),
    ]
}

struct World {
    disk: FaultDisk,
    store: Option<Arc<EmbeddedStore>>,
    log: Vec<LogEntry>,
    /// The entry that brings a line first.
    first: BTreeMap<(u8, u64), u64>,
    /// Each with the entries that were applied when it was accepted.
    deletions: Vec<(u64, DeleteScope)>,
}

impl World {
    fn store(&mut self) -> Arc<EmbeddedStore> {
        // The days of the rows are over: any two files of them are merged.
        let options = StoreOptions {
            clock: Arc::new(ManualClock::at(NOW + 3 * 86_400 * SECOND)),
            ..options(Arc::new(self.disk.clone()))
        };
        Arc::clone(
            self.store
                .get_or_insert_with(|| EmbeddedStore::open(options).unwrap()),
        )
    }

    fn apply(&mut self, count: usize) {
        let store = self.store();
        let from = store.cursor();
        let entries = self.log.iter().zip(0u64..);
        for (entry, sequence) in entries.skip(usize::try_from(from).unwrap()).take(count) {
            store.apply(sequence, entry).unwrap();
        }
    }

    fn step(&mut self, step: Step) {
        match step {
            Step::Append(stream, block) => {
                let sequence = self.log.len() as u64;
                let range = block * BLOCK..(block + 1) * BLOCK;
                let body: String = range.clone().map(|line| text(stream, line)).collect();
                for line in range.clone() {
                    self.first.entry((stream, line)).or_insert(sequence);
                }
                let block = lines(stream_id(stream), position(range.start), body.as_bytes());
                self.log.push(blocks_entry(&machine(stream), &[block]));
            }
            Step::Apply(count) => self.apply(count),
            Step::Flush => drop(self.store().flush().unwrap()),
            Step::Merge => while self.store().merge_idle(&|| true).unwrap().is_some() {},
            Step::Delete(scope) => {
                let store = self.store();
                let request = DeleteRequest {
                    scope: scope.clone(),
                    who: "ada".to_owned(),
                    reason: "a test".to_owned(),
                };
                store.accept_deletion(request).unwrap();
                self.deletions.push((store.cursor(), scope));
            }
            Step::CarryOut(looks) => {
                let left = Cell::new(looks);
                let go_on = || left.replace(left.get().saturating_sub(1)) > 0;
                while self.store().carry_out_deletion(&go_on).unwrap().is_some() {}
            }
            Step::Restart => {
                self.store = None;
                self.disk.kill();
                self.disk.restart();
            }
        }
    }

    fn is_gone(&self, stream: u8, line: u64, sequence: u64) -> bool {
        let source = format!("/var/log/{stream}.log");
        self.deletions.iter().any(|(before, scope)| {
            sequence < *before && scope.matches(&machine(stream), &source, time(stream, line))
        })
    }

    /// What there has to be, and how many rows are gone of each stream.
    fn expected(&self) -> (Vec<String>, BTreeMap<u8, u64>) {
        let (mut rows, mut gone) = (Vec::new(), BTreeMap::new());
        for ((stream, line), sequence) in &self.first {
            if self.is_gone(*stream, *line, *sequence) {
                *gone.entry(*stream).or_default() += 1;
            } else {
                rows.push(format!("{}|{}", stream_id(*stream), position(*line)));
            }
        }
        (rows, gone)
    }

    fn check(&mut self) -> Result<(), TestCaseError> {
        let store = self.store();
        let (rows, gone) = self.expected();
        prop_assert_eq!(sql_texts(&store, SELECT), rows);
        for (id, state) in store.streams() {
            let of_stream = gone.get(&id.as_bytes()[0]).copied().unwrap_or_default();
            let positions: u64 = state.deleted().iter().map(|range| range.end - range.start).sum();
            prop_assert_eq!((state.gone_rows(), positions), (of_stream, position(of_stream)));
        }
        let counted: u64 = store.all_deletions().iter().map(|deletion| deletion.rows).sum();
        prop_assert_eq!(counted, gone.values().sum::<u64>());
        Ok(())
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]
    #[test]
    fn what_every_deletion_covered_is_gone_and_nothing_else(steps in proptest::collection::vec(step(), 1..60)) {
        let mut world = World {
            disk: FaultDisk::new(7),
            store: None,
            log: Vec::new(),
            first: BTreeMap::new(),
            deletions: Vec::new(),
        };
        for step in steps {
            world.step(step);
        }
        world.apply(usize::MAX);
        world.step(Step::CarryOut(u32::MAX));
        world.check()?;
        world.store().flush().unwrap();
        world.step(Step::Merge);
        world.check()?;
        world.step(Step::Restart);
        world.check()?;
        world.store = None;
        let files = StoreFiles::open(Arc::new(world.disk.clone()), Path::new("/store")).unwrap();
        for listing in files.list() {
            prop_assert_eq!(files.verify(&listing.name), Vec::<String>::new());
        }
    }
}
