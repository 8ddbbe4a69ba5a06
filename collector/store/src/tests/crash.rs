//! A crash at every single change of the disk, and a disk that fails: exactly once all the same.

use std::sync::Arc;

use edgelogger_common::disk::{Disk, Effect, Fault, FaultDisk, Operation, Survivors};
use edgelogger_proto::v1::LogEntry;
use rustix::io::Errno;

use super::common::{blocks_entry, lines, options, sql_texts, stream_id};
use crate::{EmbeddedStore, Remedy, Store, StoreError};

const COUNT: &str = "SELECT count(*), count(DISTINCT position), sum(source_len) FROM logs";

fn log() -> Vec<LogEntry> {
    let mut start = 0;
    (0..6)
        .map(|number| {
            let text = format!("entry {number} a\nentry {number} b\n");
            let block = lines(stream_id(1), start, text.as_bytes());
            start += text.len() as u64;
            blocks_entry("m1", &[block])
        })
        .collect()
}

/// Applies the whole log from where the store is, with a flush behind every second entry.
fn run(disk: &FaultDisk, log: &[LogEntry]) -> Result<Arc<EmbeddedStore>, StoreError> {
    let store = EmbeddedStore::open(options(Arc::new(disk.clone())))?;
    for (entry, sequence) in log.iter().zip(0u64..) {
        if sequence < store.cursor() {
            continue;
        }
        store.apply(sequence, entry)?;
        if sequence % 2 == 1 {
            store.flush()?;
        }
    }
    store.flush()?;
    Ok(store)
}

fn changes_of_a_run() -> u64 {
    let disk = FaultDisk::new(3);
    run(&disk, &log()).unwrap();
    disk.changes()
}

fn check_every_change(effect: Effect) {
    for nth in 1..=changes_of_a_run() {
        let disk = FaultDisk::new(nth);
        disk.install(Fault::once(Operation::AnyChange, nth, effect));
        drop(run(&disk, &log()));
        disk.clear_faults();
        disk.restart();
        let store = run(&disk, &log()).unwrap_or_else(|error| panic!("change {nth}: {error}"));
        assert_eq!(sql_texts(&store, COUNT), ["12|12|120"], "change {nth}");
        drop(store);
        disk.restart();
        let store = EmbeddedStore::open(options(Arc::new(disk.clone()))).unwrap();
        assert_eq!(store.cursor(), 6, "change {nth}");
        assert_eq!(
            sql_texts(&store, COUNT),
            ["12|12|120"],
            "reopened after change {nth}"
        );
        let files = disk.list_files("/store/files".as_ref()).unwrap().len() as u64;
        assert_eq!(
            super::common::block_on(store.status()).unwrap().files,
            files,
            "no orphan stays, change {nth}"
        );
    }
}

#[test]
fn killed_at_every_change_of_the_disk_each_row_is_there_once() {
    check_every_change(Effect::Kill);
}

#[test]
fn power_cut_at_every_change_of_the_disk_each_row_is_there_once() {
    for survivors in [Survivors::Nothing, Survivors::Some] {
        check_every_change(Effect::PowerCut(survivors));
    }
}

#[test]
fn an_error_at_every_change_of_a_flush_keeps_the_rows_and_the_next_flush_writes_them_once() {
    let log = log();
    for nth in 1..40 {
        for effect in [Effect::Error(Errno::NOSPC), Effect::PartThenError(Errno::IO)] {
            let disk = FaultDisk::new(nth);
            let store = EmbeddedStore::open(options(Arc::new(disk.clone()))).unwrap();
            for (entry, sequence) in log.iter().zip(0u64..) {
                store.apply(sequence, entry).unwrap();
            }
            disk.install(Fault::once(Operation::AnyChange, nth, effect));
            if let Err(error) = store.flush() {
                assert_eq!(error.remedy(), Remedy::Retry, "{error}");
                assert_eq!(store.durable_cursor(), 0);
                assert_eq!(super::common::block_on(store.status()).unwrap().problems.len(), 1);
            }
            assert_eq!(sql_texts(&store, COUNT), ["12|12|120"], "change {nth}");
            disk.clear_faults();
            store.flush().unwrap();
            assert_eq!(store.durable_cursor(), 6);
            assert_eq!(sql_texts(&store, COUNT), ["12|12|120"], "change {nth}");
            drop(store);
            disk.restart();
            let store = EmbeddedStore::open(options(Arc::new(disk))).unwrap();
            assert_eq!(
                sql_texts(&store, COUNT),
                ["12|12|120"],
                "reopened after change {nth}"
            );
        }
    }
}

#[test]
fn a_full_memory_and_a_full_disk_make_apply_say_retry() {
    let disk = FaultDisk::new(1);
    let opened = options(Arc::new(disk.clone()));
    let store = EmbeddedStore::open(crate::StoreOptions {
        memory_bytes: 4096,
        ..opened
    })
    .unwrap();
    disk.install(Fault::from(Operation::Write, 1, Effect::Error(Errno::NOSPC)));
    let log = log();
    assert!(store.apply(0, &log[0]).unwrap().flush_due);
    let error = store.apply(1, &log[1]).unwrap_err();
    assert_eq!(error.remedy(), Remedy::Retry, "{error}");
    assert_eq!(store.cursor(), 1);
    assert!(store.flush_due(), "what could not be written is due");
    disk.clear_faults();
    store.apply(1, &log[1]).unwrap();
    assert_eq!(store.durable_cursor(), 1);
    assert_eq!(sql_texts(&store, "SELECT count(*) FROM logs"), ["4"]);
}

#[test]
fn a_file_that_is_gone_is_said_and_the_others_answer() {
    let disk = FaultDisk::new(1);
    drop(run(&disk, &log()).unwrap());
    let name = disk.list_files("/store/files".as_ref()).unwrap().remove(0);
    disk.remove_file(&std::path::Path::new("/store/files").join(name))
        .unwrap();
    disk.restart();
    let store = EmbeddedStore::open(options(Arc::new(disk))).unwrap();
    assert_eq!(sql_texts(&store, "SELECT count(*) FROM logs"), ["8"]);
    let problems = super::common::block_on(store.status()).unwrap().problems;
    assert!(
        problems.len() == 1 && problems[0].contains("4 rows"),
        "{problems:?}"
    );
}

#[test]
fn a_store_is_open_once() {
    let disk: Arc<dyn Disk> = Arc::new(FaultDisk::new(1));
    let _store = EmbeddedStore::open(options(Arc::clone(&disk))).unwrap();
    let error = EmbeddedStore::open(options(disk)).unwrap_err();
    assert!(error.to_string().contains("another process"), "{error}");
}

fn damage(disk: &FaultDisk, name: &str) {
    disk.corrupt(&std::path::Path::new("/store").join(name), |bytes| {
        let last = bytes.len() - 2;
        bytes[last] ^= 1;
    });
}

#[test]
fn a_damaged_manifest_costs_nothing_while_the_log_has_what_the_one_before_does_not() {
    let disk = FaultDisk::new(1);
    let store = run(&disk, &log()).unwrap();
    let held = store.held_cursor();
    assert!(held < store.durable_cursor(), "the log keeps one flush more");
    drop(store);
    damage(&disk, "manifest");
    disk.restart();
    let store = EmbeddedStore::open(options(Arc::new(disk.clone()))).unwrap();
    assert_eq!(store.cursor(), held, "what the log keeps is enough");
    let problems = super::common::block_on(store.status()).unwrap().problems;
    assert!(
        problems.len() == 1 && problems[0].contains("The manifest before it is in force"),
        "{problems:?}"
    );
    drop(store);
    // Of the log only what is kept.
    let store = EmbeddedStore::open(options(Arc::new(disk.clone()))).unwrap();
    for (entry, sequence) in log().iter().zip(0u64..).skip(usize::try_from(held).unwrap()) {
        store.apply(sequence, entry).unwrap();
    }
    store.flush().unwrap();
    assert_eq!(sql_texts(&store, COUNT), ["12|12|120"]);
    drop(store);
    disk.restart();
    let store = EmbeddedStore::open(options(Arc::new(disk.clone()))).unwrap();
    assert_eq!(sql_texts(&store, COUNT), ["12|12|120"]);
    let names = disk.list_files("/store/files".as_ref()).unwrap();
    assert_eq!(
        names.iter().filter(|name| name.ends_with(".orphan")).count(),
        1,
        "{names:?}"
    );
}

#[test]
fn without_any_manifest_the_store_stands_still_and_changes_nothing() {
    let disk = FaultDisk::new(1);
    drop(run(&disk, &log()).unwrap());
    let intact = disk.contents("/store/manifest".as_ref()).unwrap();
    damage(&disk, "manifest");
    damage(&disk, "manifest.previous");
    disk.restart();
    let before = disk.list_files("/store/files".as_ref()).unwrap();
    let store = EmbeddedStore::open(options(Arc::new(disk.clone()))).unwrap();
    assert!(store.is_stopped());
    assert_eq!(
        (store.cursor(), store.durable_cursor(), store.held_cursor()),
        (0, 0, 0)
    );
    let error = store.apply(0, &log()[0]).unwrap_err();
    assert_eq!(error.remedy(), Remedy::Stop, "{error}");
    store.skip(4);
    assert_eq!(store.cursor(), 0);
    assert!(!store.flush_due());
    assert_eq!(store.flush().unwrap_err().remedy(), Remedy::Stop);
    let problems = super::common::block_on(store.status()).unwrap().problems;
    assert!(problems[0].contains("backup"), "{problems:?}");
    assert_eq!(disk.list_files("/store/files".as_ref()).unwrap(), before);
    drop(store);
    // Restored from a backup.
    disk.corrupt("/store/manifest".as_ref(), |bytes| *bytes = intact);
    disk.restart();
    let store = EmbeddedStore::open(options(Arc::new(disk))).unwrap();
    assert_eq!(sql_texts(&store, COUNT), ["12|12|120"]);
}
