//! What is kept no longer goes, and is known as expired: in the ledger, through crashes, and never stored again.

// One range is what is meant.
#![allow(clippy::single_range_in_vec_init)]

use std::sync::Arc;
use std::time::Duration;

use edgelogger_common::clock::ManualClock;
use edgelogger_common::disk::{Disk, Effect, Fault, FaultDisk, Operation, Survivors};
use edgelogger_proto::v1;
use rustix::io::Errno;

use super::common::{NOW, block_on, blocks_entry, descriptor, entry, lines, options, sql_texts, stream_id};
use crate::{EmbeddedStore, Retention, Store, StoreError, StoreOptions, TableRetention};

const ROWS: &str = "SELECT stream_id, position, body FROM logs ORDER BY stream_id, position";

/// Keeps logs for three days.
fn open(disk: &FaultDisk, days: u64) -> Result<Arc<EmbeddedStore>, StoreError> {
    let clock = Arc::new(ManualClock::at(NOW));
    clock.advance(Duration::from_secs(days * 86_400));
    let logs = TableRetention {
        age_max: Some(Duration::from_secs(3 * 86_400)),
        bytes_max: None,
    };
    EmbeddedStore::open(StoreOptions {
        clock,
        retention: Retention {
            logs,
            ..Retention::default()
        },
        ..options(Arc::new(disk.clone()))
    })
}

fn stream_end(number: u8, size: u64) -> v1::LogEntry {
    let id = stream_id(number);
    let end = v1::StreamEnd {
        stream_id: id.to_proto(),
        size,
        exact: true,
        reason: v1::StreamEndReason::Deleted.into(),
        ..v1::StreamEnd::default()
    };
    let streams = vec![descriptor(id, &format!("/var/log/{number}.log"))];
    entry("m1", v1::log_entry::Body::StreamEnd(end), streams)
}

/// Stream 1 has lines of today and of a week later, stream 2 is closed and only of today.
fn log() -> Vec<v1::LogEntry> {
    let old = blocks_entry(
        "m1",
        &[
            lines(stream_id(1), 0, b"old line\n"),
            lines(stream_id(2), 0, b"closed\n"),
        ],
    );
    let mut new = blocks_entry("m1", &[lines(stream_id(1), 9, b"2026-11-28T12:00:00Z new\n")]);
    new.received_time_ns = NOW + 7 * 86_400_000_000_000;
    vec![old, stream_end(2, 7), new]
}

/// Applies what is not applied yet, and drops what is due ten days later.
fn run(disk: &FaultDisk, days: u64) -> Result<Arc<EmbeddedStore>, StoreError> {
    let store = open(disk, days)?;
    for (entry, sequence) in log().iter().zip(0u64..) {
        store.apply(sequence, entry)?;
    }
    store.flush()?;
    store.expire(&|| true)?;
    Ok(store)
}

fn rows(store: &EmbeddedStore) -> usize {
    sql_texts(store, ROWS).len()
}

fn expired(store: &EmbeddedStore, number: u8) -> (Vec<std::ops::Range<u64>>, u64) {
    let key = ("m1".into(), stream_id(number));
    let state = store.streams_of(&[key]).remove(0).unwrap();
    (state.expired().to_vec(), state.gone_rows())
}

fn check_expired(store: &EmbeddedStore, what: &str) {
    assert_eq!(rows(store), 1, "{what}");
    assert_eq!(expired(store, 1), (vec![0..9], 1), "{what}");
    assert_eq!(expired(store, 2), (vec![0..7], 1), "{what}");
    let key = ("m1".into(), stream_id(1));
    assert_eq!(
        store.streams_of(&[key]).remove(0).unwrap().applied(),
        [0..34],
        "{what}"
    );
}

#[test]
fn files_of_days_that_are_over_go_and_their_positions_are_expired_for_good() {
    let disk = FaultDisk::new(1);
    drop(run(&disk, 0).unwrap());
    let store = open(&disk, 7).unwrap();
    assert_eq!(rows(&store), 3, "only looking drops nothing");
    let dropped = store.expire(&|| true).unwrap();
    assert_eq!((dropped.files, dropped.rows), (1, 2));
    check_expired(&store, "dropped");
    assert_eq!(disk.list_files("/store/files".as_ref()).unwrap().len(), 1);
    assert_eq!(store.expire(&|| true).unwrap().files, 0);
    drop(store);
    disk.restart();
    let store = open(&disk, 7).unwrap();
    check_expired(&store, "reopened");
    let again = store.apply(3, &log()[0]).unwrap();
    assert_eq!(
        (again.rows, again.duplicates),
        (0, 2),
        "what is expired stays applied"
    );
    store.flush().unwrap();
    check_expired(&store, "sent again");
}

#[test]
fn what_expires_of_a_folded_stream_is_known_by_day() {
    let disk = FaultDisk::new(1);
    drop(run(&disk, 0).unwrap());
    // Stream 2 folds after a week, before anything expires.
    let forever = EmbeddedStore::open(StoreOptions {
        clock: Arc::new(ManualClock::at(NOW + 9 * 86_400_000_000_000)),
        ..options(Arc::new(disk.clone()))
    });
    let store = forever.unwrap();
    store
        .apply(3, &blocks_entry("m1", &[lines(stream_id(4), 0, b"x\n")]))
        .unwrap();
    store.flush().unwrap();
    assert_eq!(store.folded_streams(), 1);
    drop(store);
    let store = open(&disk, 9).unwrap();
    // The line of stream 4 came without a time, with the clock of that day.
    assert_eq!(store.expire(&|| true).unwrap().rows, 3);
    assert_eq!(expired(&store, 1), (vec![0..9], 1));
    drop(store);
    disk.restart();
    let store = open(&disk, 9).unwrap();
    let days: Vec<_> = store.summaries(0).map(Result::unwrap).collect();
    let summaries: Vec<_> = days.iter().flat_map(|(_, summaries)| summaries).collect();
    assert_eq!(summaries.len(), 1, "{summaries:?}");
    let summary = summaries[0];
    assert_eq!((summary.positions, summary.expired), (7, 7));
    assert_eq!((summary.rows, summary.expired_rows), (1, 1));
    let problems = block_on(store.status()).unwrap().problems;
    assert!(problems.is_empty(), "{problems:?}");
}

#[test]
fn a_stream_whose_rows_expired_before_it_folds_says_so_in_its_day() {
    let disk = FaultDisk::new(1);
    drop(run(&disk, 0).unwrap());
    let store = open(&disk, 9).unwrap();
    store.expire(&|| true).unwrap();
    store
        .apply(3, &blocks_entry("m1", &[lines(stream_id(4), 0, b"x\n")]))
        .unwrap();
    store.flush().unwrap();
    assert_eq!(store.folded_streams(), 1);
    let days: Vec<_> = store.summaries(0).map(Result::unwrap).collect();
    assert_eq!((days[0].1[0].expired, days[0].1[0].expired_rows), (7, 1));
}

#[test]
fn room_is_made_though_a_full_disk_keeps_rows_from_being_written() {
    let disk = FaultDisk::new(1);
    drop(run(&disk, 0).unwrap());
    let store = open(&disk, 7).unwrap();
    store
        .apply(3, &blocks_entry("m1", &[lines(stream_id(5), 0, b"waits\n")]))
        .unwrap();
    disk.install(Fault::once(Operation::Write, 1, Effect::Error(Errno::NOSPC)));
    store.flush().unwrap_err();
    assert_eq!(store.expire(&|| true).unwrap().rows, 2);
    assert_eq!(rows(&store), 2);
    store.flush().unwrap();
    drop(store);
    disk.restart();
    let store = open(&disk, 7).unwrap();
    assert_eq!((rows(&store), store.cursor()), (2, 4));
    assert_eq!(expired(&store, 1), (vec![0..9], 1));
}

fn check_every_change(effect: Effect) {
    let changes = {
        let disk = FaultDisk::new(1);
        drop(run(&disk, 0).unwrap());
        let before = disk.changes();
        run(&disk, 7).unwrap();
        disk.changes() - before
    };
    for nth in 1..=changes {
        let disk = FaultDisk::new(nth);
        drop(run(&disk, 0).unwrap());
        disk.install(Fault::once(Operation::AnyChange, nth, effect));
        drop(run(&disk, 7));
        disk.clear_faults();
        disk.restart();
        let store = run(&disk, 7).unwrap_or_else(|error| panic!("change {nth}: {error}"));
        check_expired(&store, &format!("change {nth}"));
        drop(store);
        disk.restart();
        let store = open(&disk, 7).unwrap();
        check_expired(&store, &format!("reopened after change {nth}"));
        // What only the manifest before names goes with the next look.
        store.merge_idle(&|| true).unwrap();
        let names = disk.list_files("/store/files".as_ref()).unwrap();
        assert_eq!(names.len(), 1, "change {nth}: {names:?}");
    }
}

#[test]
fn after_a_crash_at_any_change_of_the_disk_rows_are_there_or_expired() {
    check_every_change(Effect::Kill);
    for survivors in [Survivors::Nothing, Survivors::Some] {
        check_every_change(Effect::PowerCut(survivors));
    }
}

#[test]
fn after_an_error_at_any_change_of_the_disk_rows_are_there_or_expired() {
    check_every_change(Effect::Error(Errno::NOSPC));
    check_every_change(Effect::PartThenError(Errno::IO));
}
