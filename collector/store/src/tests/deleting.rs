//! What somebody deletes goes for good: from files and memory, through crashes, and nothing else.

// One range is what is meant.
#![allow(clippy::single_range_in_vec_init)]

use std::cell::Cell;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use edgelogger_common::block::{Block, MetricBlockBuilder, MetricRow};
use edgelogger_common::clock::ManualClock;
use edgelogger_common::disk::{Disk, Effect, Fault, FaultDisk, Operation, Survivors};
use edgelogger_proto::v1;
use rustix::io::Errno;

use super::common::{
    NOW, SECOND, block_on, blocks_entry, descriptor, entry, lines, options, sql_texts, stream_id,
};
use crate::{
    DeleteError, DeletePart, DeleteRequest, DeleteScope, Deletion, EmbeddedStore, LogQuery, QueryError,
    SeriesFilter, Store, StoreError, StoreFiles, StoreOptions,
};

const ROWS: &str = "SELECT body FROM logs ORDER BY body";

fn open(disk: &FaultDisk) -> Result<Arc<EmbeddedStore>, StoreError> {
    EmbeddedStore::open(options(Arc::new(disk.clone())))
}

fn request(machine: &str) -> DeleteRequest {
    DeleteRequest {
        scope: DeleteScope {
            machine: Some(machine.to_owned()),
            ..DeleteScope::default()
        },
        who: "ada".to_owned(),
        reason: "sold".to_owned(),
    }
}

fn of_source(source: &str) -> DeleteRequest {
    let scope = DeleteScope {
        source: Some(source.to_owned()),
        ..DeleteScope::default()
    };
    DeleteRequest {
        scope,
        ..request("m1")
    }
}

/// Streams 1 and 2 of m1, 3 of m2; two days. Bodies say where they come from.
fn log() -> Vec<v1::LogEntry> {
    let of = |stream: u8, start: u64, text: &str| lines(stream_id(stream), start, text.as_bytes());
    vec![
        blocks_entry(
            "m1",
            &[
                of(
                    1,
                    0,
                    "2026-11-20T10:00:00Z m1 s1 a\n2026-11-21T10:00:00Z m1 s1 b\n",
                ),
                of(2, 0, "2026-11-20T11:00:00Z m1 s2 a\n"),
            ],
        ),
        blocks_entry(
            "m2",
            &[of(
                3,
                0,
                "2026-11-20T10:30:00Z m2 s3 a\n2026-11-21T10:30:00Z m2 s3 b\n",
            )],
        ),
        blocks_entry("m1", &[of(1, 58, "2026-11-21T11:00:00Z m1 s1 c\n")]),
    ]
}

/// Applies what is not applied yet: two entries in files, one in memory.
fn filled(disk: &FaultDisk) -> Result<Arc<EmbeddedStore>, StoreError> {
    let store = open(disk)?;
    for (entry, sequence) in log().iter().zip(0u64..) {
        store.apply(sequence, entry)?;
        if sequence == 1 {
            store.flush()?;
        }
    }
    Ok(store)
}

fn bodies(store: &EmbeddedStore) -> Vec<String> {
    let cut = |body: String| body[21..].to_owned();
    let mut bodies: Vec<_> = sql_texts(store, ROWS).into_iter().map(cut).collect();
    bodies.sort();
    bodies
}

fn carry_out(store: &EmbeddedStore) -> Result<Vec<Deletion>, StoreError> {
    let mut done = Vec::new();
    while let Some(deletion) = store.carry_out_deletion(&|| true)? {
        done.push(deletion);
    }
    Ok(done)
}

fn accept(store: &EmbeddedStore, request: DeleteRequest) -> Result<(), StoreError> {
    match store.accept_deletion(request) {
        Ok(_) => Ok(()),
        Err(DeleteError::Store(error)) => Err(error),
        Err(error) => panic!("{error}"),
    }
}

/// Positions that were deleted, and rows that are gone, of a stream.
fn deleted(store: &EmbeddedStore, machine: &str, number: u8) -> (Vec<std::ops::Range<u64>>, u64) {
    let key = (machine.into(), stream_id(number));
    let state = store.streams_of(&[key]).remove(0).unwrap();
    (state.deleted().to_vec(), state.gone_rows())
}

fn verified(disk: &FaultDisk) {
    let files = StoreFiles::open(Arc::new(disk.clone()), Path::new("/store")).unwrap();
    for listing in files.list() {
        assert_eq!(files.verify(&listing.name), Vec::<String>::new(), "{listing:?}");
    }
    assert_eq!(files.unnamed().unwrap(), Vec::<String>::new());
}

#[test]
fn rows_of_a_machine_go_from_files_and_memory_and_nothing_else() {
    let disk = FaultDisk::new(1);
    let store = filled(&disk).unwrap();
    let accepted = store.accept_deletion(request("m1")).unwrap();
    assert_eq!((accepted.id, accepted.accepted_ns, accepted.rows), (1, NOW, 0));
    assert_eq!(bodies(&store).len(), 6, "accepted is not done");
    let done = carry_out(&store).unwrap();
    assert_eq!((done.len(), done[0].rows, done[0].files), (1, 4, 3));
    assert!(done[0].bytes > 0 && done[0].finished_ns == Some(NOW), "{done:?}");
    assert_eq!(bodies(&store), ["m2 s3 a", "m2 s3 b"]);
    assert_eq!(deleted(&store, "m1", 1), (vec![0..87], 3));
    assert_eq!(deleted(&store, "m1", 2), (vec![0..29], 1));
    assert_eq!(deleted(&store, "m2", 3), (vec![], 0));
    assert_eq!(store.all_deletions(), done);

    drop(store);
    disk.restart();
    verified(&disk);
    let store = open(&disk).unwrap();
    assert_eq!(bodies(&store), ["m2 s3 a", "m2 s3 b"]);
    assert_eq!(store.all_deletions(), done, "kept for ever");
    let again = store.apply(3, &log()[0]).unwrap();
    assert_eq!(
        (again.rows, again.duplicates),
        (0, 3),
        "what is deleted stays applied"
    );
    let late = lines(stream_id(1), 87, b"2026-11-20T09:00:00Z m1 s1 late\n");
    store.apply(4, &blocks_entry("m1", &[late])).unwrap();
    store.flush().unwrap();
    assert_eq!(carry_out(&store).unwrap(), []);
    assert_eq!(
        bodies(&store),
        ["m1 s1 late", "m2 s3 a", "m2 s3 b"],
        "what comes later is stored"
    );
}

#[test]
fn times_and_sources_bound_what_goes() {
    let check = |scope: DeleteScope, expected: &[&str]| {
        let store = filled(&FaultDisk::new(1)).unwrap();
        let asked = DeleteRequest { scope, ..request("") };
        let plan = block_on(store.plan_deletion(asked.scope.clone(), Duration::from_secs(60))).unwrap();
        accept(&store, asked).unwrap();
        let done = carry_out(&store).unwrap();
        assert_eq!(bodies(&store), expected);
        assert_eq!((plan.rows, done[0].rows), (6 - expected.len() as u64, plan.rows));
    };
    // 2026-11-21, the day of NOW.
    let (day, noon) = (NOW - 43_200_000_000_000, NOW);
    let of = |machine: &str, source: Option<&str>, from, to| DeleteScope {
        machine: Some(machine.to_owned()),
        source: source.map(str::to_owned),
        from,
        to,
    };
    check(
        of("m1", Some("*/1.log"), None, None),
        &["m1 s2 a", "m2 s3 a", "m2 s3 b"],
    );
    check(of("*", None, None, Some(day)), &["m1 s1 b", "m1 s1 c", "m2 s3 b"]);
    check(
        of("m?", None, Some(day), Some(noon)),
        &["m1 s1 a", "m1 s2 a", "m2 s3 a"],
    );
    // The moment of a row itself is in `from`, and not in `to`.
    let ten = day + 36_000_000_000_000;
    check(
        of("m1", None, Some(ten), Some(ten + 1)),
        &["m1 s1 a", "m1 s1 c", "m1 s2 a", "m2 s3 a", "m2 s3 b"],
    );
    check(
        of("m1", None, Some(ten + 1), Some(ten + 2)),
        &["m1 s1 a", "m1 s1 b", "m1 s1 c", "m1 s2 a", "m2 s3 a", "m2 s3 b"],
    );
    check(
        of("m3", None, None, None),
        &["m1 s1 a", "m1 s1 b", "m1 s1 c", "m1 s2 a", "m2 s3 a", "m2 s3 b"],
    );
}

#[test]
fn a_plan_says_whose_rows_would_go_and_changes_nothing() {
    let store = filled(&FaultDisk::new(1)).unwrap();
    let plan = |scope| block_on(store.plan_deletion(scope, Duration::from_secs(60)));
    let found = plan(request("m1").scope).unwrap();
    let part = |source: &str, rows| DeletePart {
        machine: "m1".to_owned(),
        source: source.to_owned(),
        rows,
    };
    assert_eq!((found.rows, found.files), (4, 2), "{found:?}");
    assert!(found.bytes > 0, "{found:?}");
    assert_eq!(
        found.parts,
        [part("/var/log/1.log", 3), part("/var/log/2.log", 1)]
    );
    let error = plan(DeleteScope::default()).unwrap_err();
    assert!(matches!(error, QueryError::Invalid(_)), "{error}");
    assert_eq!((bodies(&store).len(), store.all_deletions().len()), (6, 0));
}

#[test]
fn a_request_without_rows_reason_or_name_is_refused() {
    let store = filled(&FaultDisk::new(1)).unwrap();
    let bad = [
        DeleteRequest {
            scope: DeleteScope::default(),
            ..request("")
        },
        DeleteRequest {
            reason: " ".to_owned(),
            ..request("m1")
        },
        DeleteRequest {
            reason: "a\nb".to_owned(),
            ..request("m1")
        },
        DeleteRequest {
            who: String::new(),
            ..request("m1")
        },
    ];
    for request in bad {
        let error = store.accept_deletion(request).unwrap_err();
        assert!(matches!(error, DeleteError::Invalid(_)), "{error}");
    }
    for _ in 0..crate::RUNNING_MAX {
        store.accept_deletion(request("m1")).unwrap();
    }
    let error = store.accept_deletion(request("m1")).unwrap_err();
    assert!(matches!(error, DeleteError::Busy), "{error}");
    let done = carry_out(&store).unwrap();
    assert_eq!(done.len(), crate::RUNNING_MAX);
    assert_eq!(
        done.iter().map(|done| done.rows).sum::<u64>(),
        4,
        "each row counts once"
    );
}

#[test]
fn entries_are_applied_and_queries_answered_while_it_runs() {
    let disk = FaultDisk::new(1);
    let store = filled(&disk).unwrap();
    accept(&store, request("m1")).unwrap();
    let calls = Cell::new(0u64);
    let done = store.carry_out_deletion(&|| {
        let at = calls.replace(calls.get() + 1);
        let line = format!("2026-11-20T10:00:00Z m1 s7 {at:03}\n");
        let block = lines(stream_id(7), at * line.len() as u64, line.as_bytes());
        store
            .apply(store.cursor(), &blocks_entry("m1", &[block]))
            .unwrap();
        if at.is_multiple_of(2) {
            store.flush().unwrap();
        }
        let seen = bodies(&store);
        let new = seen.iter().filter(|body| body.contains("s7")).count() as u64;
        assert_eq!(new, at + 1, "what comes meanwhile is stored and stays");
        true
    });
    assert_eq!(done.unwrap().unwrap().rows, 4);
    assert!(calls.get() > 3);
    let left = bodies(&store);
    assert_eq!(left.len() as u64, calls.get() + 2, "{left:?}");
}

#[test]
fn a_deletion_that_is_accepted_while_another_runs_takes_what_that_one_wrote() {
    let disk = FaultDisk::new(1);
    let store = filled(&disk).unwrap();
    accept(&store, of_source("/var/log/1.log")).unwrap();
    let calls = Cell::new(0);
    store
        .carry_out_deletion(&|| {
            calls.set(calls.get() + 1);
            // In the middle of every file.
            store
                .accept_deletion(of_source(&format!("/var/log/{}.log", 2 + calls.get() % 2)))
                .unwrap();
            true
        })
        .unwrap();
    let done = carry_out(&store).unwrap();
    assert_eq!(done.len(), calls.get());
    assert_eq!(bodies(&store), Vec::<String>::new());
    let rows: u64 = store.all_deletions().iter().map(|deletion| deletion.rows).sum();
    assert_eq!(rows, 6);
}

#[test]
fn a_stop_in_the_middle_keeps_what_is_done_and_the_rest_goes_on_after_a_restart() {
    for stop_at in 0..12 {
        let disk = FaultDisk::new(1);
        let store = filled(&disk).unwrap();
        accept(&store, request("m1")).unwrap();
        let calls = Cell::new(0);
        let go_on = || calls.replace(calls.get() + 1) < stop_at;
        let done = store.carry_out_deletion(&go_on).unwrap();
        let so_far = store.all_deletions()[0].rows;
        assert_eq!(bodies(&store).len() as u64, 6 - so_far);
        drop(store);
        disk.kill();
        disk.restart();
        let store = open(&disk).unwrap();
        assert_eq!(store.all_deletions()[0].rows, so_far, "counted once");
        assert_eq!(carry_out(&store).unwrap().len(), usize::from(done.is_none()));
        assert_eq!(store.all_deletions()[0].rows, 4);
        assert_eq!(bodies(&store), ["m2 s3 a", "m2 s3 b"]);
    }
}

#[test]
fn a_damaged_manifest_does_not_bring_rows_back() {
    for is_done in [false, true] {
        let disk = FaultDisk::new(1);
        let store = filled(&disk).unwrap();
        accept(&store, request("m1")).unwrap();
        if is_done {
            carry_out(&store).unwrap();
        }
        drop(store);
        disk.corrupt("/store/manifest".as_ref(), |bytes| {
            let last = bytes.len() - 2;
            bytes[last] ^= 1;
        });
        disk.restart();
        let store = filled(&disk).unwrap();
        store.flush().unwrap();
        carry_out(&store).unwrap();
        assert_eq!(bodies(&store), ["m2 s3 a", "m2 s3 b"]);
        assert_eq!(store.all_deletions()[0].rows, 4);
    }
}

#[test]
fn a_file_that_cannot_be_read_is_named_and_loses_its_rows_when_it_is_back() {
    let disk = FaultDisk::new(1);
    let store = filled(&disk).unwrap();
    let name = disk.list_files("/store/files".as_ref()).unwrap().remove(0);
    let path = Path::new("/store/files").join(&name);
    let bytes = disk.contents(&path).unwrap();
    disk.remove_file(&path).unwrap();
    accept(&store, request("m1")).unwrap();
    let done = carry_out(&store).unwrap();
    assert_eq!(
        (&done[0].unreadable[..], done[0].rows),
        (&[name][..], 2),
        "{done:?}"
    );
    drop(store);
    // Restored from a backup.
    edgelogger_common::disk::atomic_replace(&disk, &path, &bytes).unwrap();
    disk.restart();
    let store = open(&disk).unwrap();
    assert_eq!(bodies(&store).len(), 4);
    let done = carry_out(&store).unwrap();
    assert_eq!((done.len(), done[0].rows, done[0].unreadable.len()), (1, 4, 0));
    assert_eq!(bodies(&store), ["m2 s3 a", "m2 s3 b"]);
}

#[test]
fn what_is_deleted_of_a_folded_stream_is_known_by_day() {
    let disk = FaultDisk::new(1);
    let later = |days: i64| {
        EmbeddedStore::open(StoreOptions {
            clock: Arc::new(ManualClock::at(NOW + days * 86_400_000_000_000)),
            ..options(Arc::new(disk.clone()))
        })
        .unwrap()
    };
    let store = later(0);
    let id = stream_id(2);
    let end = v1::StreamEnd {
        stream_id: id.to_proto(),
        size: 7,
        exact: true,
        reason: v1::StreamEndReason::Deleted.into(),
        ..v1::StreamEnd::default()
    };
    let block = lines(id, 0, b"closed\n");
    store.apply(0, &blocks_entry("m1", &[block])).unwrap();
    let streams = vec![descriptor(id, "/var/log/2.log")];
    store
        .apply(1, &entry("m1", v1::log_entry::Body::StreamEnd(end), streams))
        .unwrap();
    store.flush().unwrap();
    drop(store);
    let store = later(9);
    store
        .apply(2, &blocks_entry("m2", &[lines(stream_id(4), 0, b"x\n")]))
        .unwrap();
    store.flush().unwrap();
    assert_eq!(store.folded_streams(), 1);
    accept(&store, request("m1")).unwrap();
    assert_eq!(carry_out(&store).unwrap()[0].rows, 1);
    drop(store);
    disk.restart();
    let store = later(9);
    let days: Vec<_> = store.summaries(0).map(Result::unwrap).collect();
    assert_eq!((days[0].1[0].expired, days[0].1[0].expired_rows), (7, 1));
}

#[test]
fn a_full_disk_stops_a_deletion_until_there_is_room() {
    let disk = FaultDisk::new(1);
    let store = filled(&disk).unwrap();
    disk.install(Fault::once(Operation::Write, 1, Effect::Error(Errno::NOSPC)));
    let error = store.accept_deletion(request("m1")).unwrap_err();
    assert!(matches!(error, DeleteError::Store(_)), "{error}");
    assert_eq!((store.all_deletions().len(), bodies(&store).len()), (0, 6));
    accept(&store, of_source("*1.log")).unwrap();
    disk.install(Fault::once(Operation::Write, 1, Effect::Error(Errno::NOSPC)));
    store.carry_out_deletion(&|| true).unwrap_err();
    let problems = block_on(store.status()).unwrap().problems;
    assert!(problems[0].contains("deletion 1 waits"), "{problems:?}");
    assert_eq!(carry_out(&store).unwrap()[0].rows, 3);
    assert!(block_on(store.status()).unwrap().problems.is_empty());
    assert_eq!(bodies(&store), ["m1 s2 a", "m2 s3 a", "m2 s3 b"]);
}

#[test]
fn a_query_that_began_before_reads_what_it_saw() {
    let disk = FaultDisk::new(1);
    let store = filled(&disk).unwrap();
    store.flush().unwrap();
    let before = store.snapshot();
    accept(&store, request("m1")).unwrap();
    carry_out(&store).unwrap();
    assert_eq!(
        before
            .files(crate::Table::Logs)
            .map(|file| file.entry.rows)
            .sum::<u64>(),
        6
    );
    for file in before.files(crate::Table::Logs) {
        assert!(disk.exists(file.path()).unwrap(), "it stays for its readers");
    }
    drop(before);
    let names = disk.list_files("/store/files".as_ref()).unwrap();
    assert_eq!(names.len(), 2, "then its bytes are gone: {names:?}");
    assert_eq!(
        block_on(store.logs(LogQuery::default())).unwrap().rows.num_rows(),
        2
    );
}

const FIRST: i64 = NOW - 1000 * SECOND;

/// A sample every ten seconds, from `position` on.
fn samples(stream: u8, position: u64, count: i64) -> Block {
    let mut builder = MetricBlockBuilder::new(stream_id(stream), position);
    for number in 0..count {
        builder.push(MetricRow {
            observed_time: FIRST + (position.cast_signed() + number) * 10 * SECOND,
            name: "temperature".to_owned(),
            value: Some(1.0),
            source_len: 1,
            ..MetricRow::default()
        });
    }
    builder.finish().unwrap()
}

#[test]
fn samples_go_too_and_the_newest_are_those_that_are_left() {
    let store = open(&FaultDisk::new(1)).unwrap();
    store.apply(0, &blocks_entry("m1", &[samples(1, 0, 10)])).unwrap();
    store.apply(1, &blocks_entry("m2", &[samples(2, 0, 10)])).unwrap();
    let newest = |store: &EmbeddedStore| {
        let page = store.latest(&SeriesFilter::default(), 0, 10).unwrap().answer;
        let told = page.samples.into_iter();
        told.map(|sample| (sample.series.machine, (sample.time_ns - FIRST) / SECOND))
            .collect::<Vec<_>>()
    };
    let both = |m1: i64, m2: i64| vec![("m1".to_owned(), m1), ("m2".to_owned(), m2)];
    assert_eq!(newest(&store), both(90, 90));
    let mut late = request("m1");
    late.scope.from = Some(FIRST + 50 * SECOND);
    accept(&store, late).unwrap();
    assert_eq!(carry_out(&store).unwrap()[0].rows, 5);
    assert_eq!(newest(&store), both(40, 90));
    assert_eq!(deleted(&store, "m1", 1), (vec![5..10], 5));
    accept(&store, request("m?")).unwrap();
    assert_eq!(carry_out(&store).unwrap()[0].rows, 15);
    assert_eq!(newest(&store), []);
    store.apply(2, &blocks_entry("m1", &[samples(1, 10, 1)])).unwrap();
    assert_eq!(newest(&store), [("m1".to_owned(), 100)]);
}

/// The whole of it, from wherever a crash left it.
fn run(disk: &FaultDisk) -> Result<Arc<EmbeddedStore>, StoreError> {
    let store = filled(disk)?;
    if store.all_deletions().is_empty() {
        accept(&store, of_source("/var/log/1.log"))?;
    }
    if store.all_deletions().len() == 1 {
        accept(&store, request("m2"))?;
    }
    carry_out(&store)?;
    Ok(store)
}

fn check_gone(store: &EmbeddedStore, what: &str) {
    assert_eq!(bodies(store), ["m1 s2 a"], "{what}");
    assert_eq!(deleted(store, "m1", 1), (vec![0..87], 3), "{what}");
    assert_eq!(deleted(store, "m1", 2), (vec![], 0), "{what}");
    assert_eq!(deleted(store, "m2", 3), (vec![0..58], 2), "{what}");
    let all = store.all_deletions();
    let told: Vec<_> = all.iter().map(|deletion| (deletion.id, deletion.rows)).collect();
    assert_eq!(told, [(1, 3), (2, 2)], "{what}");
    assert!(
        all.iter().all(|deletion| deletion.finished_ns.is_some()),
        "{what}"
    );
}

fn check_every_change(effect: Effect) {
    let changes = {
        let disk = FaultDisk::new(1);
        run(&disk).unwrap();
        disk.changes()
    };
    for nth in 1..=changes {
        let disk = FaultDisk::new(nth);
        disk.install(Fault::once(Operation::AnyChange, nth, effect));
        drop(run(&disk));
        disk.clear_faults();
        disk.restart();
        let store = run(&disk).unwrap_or_else(|error| panic!("change {nth}: {error}"));
        check_gone(&store, &format!("change {nth}"));
        drop(store);
        disk.restart();
        let store = open(&disk).unwrap();
        check_gone(&store, &format!("reopened after change {nth}"));
        // What only the manifest before names goes with the next look.
        store.merge_idle(&|| true).unwrap();
        drop(store);
        verified(&disk);
    }
}

#[test]
fn after_a_crash_at_any_change_of_the_disk_a_deletion_goes_on_and_counts_right() {
    check_every_change(Effect::Kill);
    for survivors in [Survivors::Nothing, Survivors::Some] {
        check_every_change(Effect::PowerCut(survivors));
    }
}

#[test]
fn after_an_error_at_any_change_of_the_disk_a_deletion_goes_on_and_counts_right() {
    check_every_change(Effect::Error(Errno::NOSPC));
    check_every_change(Effect::PartThenError(Errno::IO));
}
