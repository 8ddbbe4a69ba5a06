//! Small files become large ones: the same rows, in the same order, each once, whatever the disk does meanwhile.

use std::sync::Arc;

use edgelogger_common::block::{MetricBlockBuilder, MetricRow};
use edgelogger_common::clock::ManualClock;
use edgelogger_common::disk::{Disk, Effect, Fault, FaultDisk, Operation, Survivors};
use edgelogger_proto::v1::LogEntry;
use proptest::prelude::*;
use rustix::io::Errno;

use super::common::{NOW, SECOND, block_on, blocks_entry, lines, options, sql_texts, stream_id};
use crate::manifest;
use crate::order::ORDER;
use crate::parquet_file::FileWriter;
use crate::parquet_read::FileReader;
use crate::{EmbeddedStore, Store, StoreOptions, StoreStatus};

const ALL: &str = "SELECT machine_id, stream_id, position, body, time FROM logs ORDER BY stream_id, position";
const DAY: i64 = 86_400 * SECOND;
/// Files before anything is merged.
const FILES: u64 = 9;

fn open(disk: &FaultDisk, now: i64) -> Arc<EmbeddedStore> {
    EmbeddedStore::open(StoreOptions {
        clock: Arc::new(ManualClock::at(now)),
        ..options(Arc::new(disk.clone()))
    })
    .unwrap()
}

/// Entries of three machines in turn, each with a time in its line.
fn log() -> Vec<LogEntry> {
    let mut starts = [0; 3];
    (0..FILES)
        .map(|number| {
            let machine = usize::try_from(number % 3).unwrap();
            let text = format!(
                "2026-11-21T11:{:02}:00Z entry {number}\nand no time\n",
                59 - number
            );
            let id = stream_id(u8::try_from(machine).unwrap());
            let block = lines(id, starts[machine], text.as_bytes());
            starts[machine] += text.len() as u64;
            blocks_entry(&format!("m{machine}"), &[block])
        })
        .collect()
}

/// A store with a file for each entry.
fn many_files(disk: &FaultDisk, now: i64) -> Arc<EmbeddedStore> {
    let store = open(disk, now);
    for (entry, sequence) in log().iter().zip(0u64..) {
        store.apply(sequence, entry).unwrap();
        store.flush().unwrap();
    }
    store
}

fn expected() -> Vec<String> {
    let store = open(&FaultDisk::new(9), NOW);
    for (entry, sequence) in log().iter().zip(0u64..) {
        store.apply(sequence, entry).unwrap();
    }
    sql_texts(&store, ALL)
}

fn status(store: &EmbeddedStore) -> StoreStatus {
    block_on(store.status()).unwrap()
}

fn names(disk: &FaultDisk) -> Vec<String> {
    disk.list_files("/store/files".as_ref()).unwrap()
}

#[test]
fn files_of_a_day_become_one_with_the_same_rows_in_order_and_the_old_ones_go() {
    let disk = FaultDisk::new(1);
    let store = many_files(&disk, NOW);
    let merged = store.merge_idle(&|| true).unwrap().unwrap();
    assert_eq!((merged.files, merged.rows), (FILES, 2 * FILES));
    assert_eq!(sql_texts(&store, ALL), expected());
    assert_eq!(
        names(&disk).len() as u64,
        FILES + 1,
        "the manifest before names them"
    );
    assert_eq!(store.merge_idle(&|| true).unwrap(), None);
    assert_eq!(names(&disk).len(), 1);
    assert_eq!(store.held_cursor(), store.durable_cursor());
    drop(store);
    let store = open(&disk, NOW);
    assert_eq!(sql_texts(&store, ALL), expected());
    let snapshot = store.snapshot();
    let file = snapshot.files(crate::Table::Logs).next().unwrap();
    assert_eq!(file.entry.machines, ["m0", "m1", "m2"]);
    assert_eq!(file.entry.rows, 2 * FILES);
    let mut rows = Vec::new();
    for batch in FileReader::open(&disk, file.path(), Some(&["machine_id", "time", "position"])).unwrap() {
        for row in super::common::texts(&[batch.unwrap()]) {
            let cells: Vec<&str> = row.split('|').collect();
            rows.push((
                cells[1].to_owned(),
                cells[0].to_owned(),
                cells[2].parse::<u64>().unwrap(),
            ));
        }
    }
    assert!(rows.is_sorted(), "{rows:?}");
}

#[test]
fn a_query_keeps_the_files_it_began_with() {
    let disk = FaultDisk::new(1);
    let store = many_files(&disk, NOW);
    let before = store.snapshot();
    store.merge_idle(&|| true).unwrap().unwrap();
    store.merge_idle(&|| true).unwrap();
    assert_eq!(names(&disk).len() as u64, FILES + 1);
    for file in before.files(crate::Table::Logs) {
        let rows = FileReader::open(&disk, file.path(), None).unwrap();
        assert_eq!(rows.map(|batch| batch.unwrap().num_rows()).sum::<usize>(), 2);
    }
    drop(before);
    assert_eq!(names(&disk).len(), 1);
}

#[test]
fn a_merge_that_is_told_to_stop_leaves_everything_as_it_was() {
    let disk = FaultDisk::new(1);
    let store = many_files(&disk, NOW + 2 * DAY);
    let before = names(&disk);
    assert_eq!(store.merge_idle(&|| false).unwrap(), None);
    assert_eq!(names(&disk), before);
    assert_eq!(sql_texts(&store, ALL), expected());
    store.merge_idle(&|| true).unwrap().unwrap();
}

#[test]
fn a_full_disk_leaves_everything_as_it_was_and_says_so() {
    let disk = FaultDisk::new(1);
    let store = many_files(&disk, NOW);
    let before = names(&disk);
    disk.install(Fault::from(Operation::Write, 1, Effect::Error(Errno::NOSPC)));
    store.merge_idle(&|| true).unwrap_err();
    assert_eq!(names(&disk), before);
    let problems = status(&store).problems;
    assert!(
        problems.len() == 1 && problems[0].contains("small files stay"),
        "{problems:?}"
    );
    disk.clear_faults();
    store.merge_idle(&|| true).unwrap().unwrap();
    assert!(status(&store).problems.is_empty());
    assert_eq!(sql_texts(&store, ALL), expected());
}

#[test]
fn a_damaged_file_is_not_merged() {
    let disk = FaultDisk::new(1);
    let store = many_files(&disk, NOW);
    let path = std::path::Path::new("/store/files").join(names(&disk).remove(3));
    disk.corrupt(&path, |bytes| bytes[50] ^= 1);
    let error = store.merge_idle(&|| true).unwrap_err();
    assert!(error.to_string().contains("CRC32C"), "{error}");
    assert_eq!(names(&disk).len() as u64, FILES - 1, "it is put aside");
    store.merge_idle(&|| true).unwrap().unwrap();
    let problems = status(&store).problems;
    assert!(
        problems.len() == 1 && problems[0].contains("quarantine"),
        "{problems:?}"
    );
    assert_eq!(sql_texts(&store, ALL).len() as u64, 2 * FILES - 2);
}

/// Merges until there is nothing to merge, with a flush between.
fn merge_and_flush(store: &EmbeddedStore) -> Result<(), crate::StoreError> {
    while store.merge_idle(&|| true)?.is_some() {}
    let next = lines(stream_id(7), 0, b"behind\n");
    store.apply(FILES, &blocks_entry("m7", &[next]))?;
    store.flush()?;
    while store.merge_idle(&|| true)?.is_some() {}
    Ok(())
}

fn changes_of_merging(now: i64) -> u64 {
    let disk = FaultDisk::new(3);
    let store = many_files(&disk, now);
    let before = disk.changes();
    merge_and_flush(&store).unwrap();
    disk.changes() - before
}

fn check_every_change(effect: Effect, is_crash: bool) {
    let now = NOW + 2 * DAY;
    let expected = expected();
    let changes = changes_of_merging(now);
    for nth in 1..=changes {
        let disk = FaultDisk::new(nth);
        let store = many_files(&disk, now);
        disk.install(Fault::once(Operation::AnyChange, nth, effect));
        let _ = merge_and_flush(&store);
        disk.clear_faults();
        let store = if is_crash {
            drop(store);
            disk.restart();
            open(&disk, now)
        } else {
            store
        };
        merge_and_flush(&store).unwrap_or_else(|error| panic!("change {nth}: {error}"));
        let added = sql_texts(&store, "SELECT body FROM logs WHERE machine_id = 'm7'");
        assert_eq!(added.len(), 1, "change {nth}");
        let rest = ALL.replace("logs", "logs WHERE machine_id <> 'm7'");
        assert_eq!(sql_texts(&store, &rest), expected, "change {nth}");
        // What was in doubt is gone with the manifest after the next.
        merge_and_flush(&store).unwrap();
        let live = status(&store).files;
        drop(store);
        disk.restart();
        let store = open(&disk, now);
        assert_eq!(sql_texts(&store, &rest), expected, "reopened after change {nth}");
        assert_eq!(status(&store).files, live, "change {nth}");
        assert!(
            names(&disk).len() as u64 <= live + FILES,
            "change {nth}: {:?}",
            names(&disk)
        );
        store
            .apply(FILES + 1, &blocks_entry("m8", &[lines(stream_id(8), 0, b"x\n")]))
            .unwrap();
        store.flush().unwrap();
        assert_eq!(names(&disk).len() as u64, status(&store).files, "change {nth}");
    }
}

#[test]
fn killed_at_every_change_of_the_disk_each_row_is_there_once() {
    check_every_change(Effect::Kill, true);
}

#[test]
fn power_cut_at_every_change_of_the_disk_each_row_is_there_once() {
    for survivors in [Survivors::Nothing, Survivors::Some] {
        check_every_change(Effect::PowerCut(survivors), true);
    }
}

#[test]
fn an_error_at_every_change_of_the_disk_each_row_is_there_once() {
    for effect in [Effect::Error(Errno::NOSPC), Effect::PartThenError(Errno::IO)] {
        for is_crash in [false, true] {
            check_every_change(effect, is_crash);
        }
    }
}

#[test]
fn samples_of_a_metric_lie_together_in_a_merged_file() {
    let disk = FaultDisk::new(1);
    let store = open(&disk, NOW + 2 * DAY);
    for sequence in 0..FILES {
        let mut builder = MetricBlockBuilder::new(stream_id(1), sequence * 2);
        for name in ["b", "a"] {
            builder.push(MetricRow {
                observed_time: NOW - i64::try_from(sequence).unwrap(),
                name: name.to_owned(),
                value: Some(1.0),
                source_len: 1,
                ..MetricRow::default()
            });
        }
        let entry = blocks_entry("m1", &[builder.finish().unwrap()]);
        store.apply(sequence, &entry).unwrap();
        store.flush().unwrap();
    }
    while store.merge_idle(&|| true).unwrap().is_some() {}
    let snapshot = store.snapshot();
    let files: Vec<_> = snapshot.files(crate::Table::Metrics).cloned().collect();
    assert_eq!(files.len(), 1);
    let keys: Vec<String> = FileReader::open(&**files[0].disk(), files[0].path(), None)
        .unwrap()
        .map(|batch| batch.unwrap().project(&[8, 0]).unwrap())
        .flat_map(|batch| super::common::texts(&[batch]))
        .collect();
    assert_eq!(keys.len() as u64, FILES * 2);
    assert!(keys.is_sorted(), "by name, then time: {keys:?}");
}

/// Files that were written before metrics were ordered by name are ordered by time.
#[test]
fn files_of_the_earlier_order_are_put_in_that_of_now_and_then_merged() {
    let disk = FaultDisk::new(1);
    let store = open(&disk, NOW);
    for sequence in 0..FILES {
        let mut builder = MetricBlockBuilder::new(stream_id(1), sequence * 20);
        for row in 0..20 {
            builder.push(MetricRow {
                observed_time: NOW - i64::try_from(sequence * 20 + row).unwrap(),
                name: ["b", "a"][usize::try_from(row % 2).unwrap()].to_owned(),
                value: Some(1.0),
                source_len: 1,
                ..MetricRow::default()
            });
        }
        let entry = blocks_entry("m1", &[builder.finish().unwrap()]);
        store.apply(sequence, &entry).unwrap();
        store.flush().unwrap();
    }
    let by_position = "SELECT name, time, position, value FROM metrics ORDER BY position";
    let expected = sql_texts(&store, by_position);
    drop(store);
    let before = order_by_time(&disk);
    let store = open(&disk, NOW + 2 * DAY);
    assert_eq!(store.merge_idle(&|| false).unwrap(), None);
    assert_eq!(
        names(&disk),
        before,
        "told to stop, it leaves everything as it was"
    );
    while store.merge_idle(&|| true).unwrap().is_some() {}
    assert_eq!(sql_texts(&store, by_position), expected);
    let snapshot = store.snapshot();
    let files: Vec<_> = snapshot.files(crate::Table::Metrics).cloned().collect();
    assert_eq!((files.len(), files[0].entry.order), (1, ORDER));
    let keys: Vec<String> = FileReader::open(&disk, files[0].path(), None)
        .unwrap()
        .map(|batch| batch.unwrap().project(&[8, 0]).unwrap())
        .flat_map(|batch| super::common::texts(&[batch]))
        .collect();
    assert!(keys.is_sorted(), "by name, then time: {keys:?}");
    drop((snapshot, files, store));
    let closed = crate::StoreFiles::open(Arc::new(disk.clone()), "/store".as_ref()).unwrap();
    let listed = closed.list();
    assert_eq!(closed.verify(&listed[0].name), [""; 0]);
}

/// Writes each file of metrics of a closed store as an earlier version did. Gives all names.
fn order_by_time(disk: &FaultDisk) -> Vec<String> {
    let dir = std::path::Path::new("/store");
    let (mut manifest, streams) = manifest::look(disk, dir).unwrap();
    let options = options(Arc::new(disk.clone()));
    for entry in &mut manifest.files {
        let path = dir.join("files").join(&entry.name);
        let batches: Vec<_> = FileReader::open(disk, &path, None)
            .unwrap()
            .map(Result::unwrap)
            .collect();
        let rows = arrow::compute::concat_batches(&entry.table.schema(), &batches).unwrap();
        let by_time = arrow::compute::sort_to_indices(&rows["time"], None, None).unwrap();
        disk.remove_file(&path).unwrap();
        let mut file = FileWriter::create(&options, &path, entry.table, 1).unwrap();
        file.write(&arrow::compute::take_record_batch(&rows, &by_time).unwrap())
            .unwrap();
        let written = file.finish().unwrap();
        (entry.bytes, entry.crc32c, entry.order) = (written.bytes, Some(written.crc32c), 0);
    }
    manifest.streams = streams.to_records();
    manifest::write(disk, dir, &manifest).unwrap();
    names(disk)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 16, ..ProptestConfig::default() })]
    /// Large enough for several batches and chunks of rows.
    #[test]
    fn any_rows_are_merged_in_the_order_of_a_flush(
        blocks in proptest::collection::vec((0u8..4, 0u8..3, 1usize..2500, 0u32..50_000), 2..12),
    ) {
        let disk = FaultDisk::new(1);
        let (store, whole) = (open(&disk, NOW + 2 * DAY), open(&FaultDisk::new(2), NOW + 2 * DAY));
        for ((stream, machine, count, second), sequence) in blocks.into_iter().zip(0u64..) {
            let text: String = (0..count)
                .map(|line| {
                    let second = (second as usize + line * 7) % 80_000;
                    format!("2026-11-21T{:02}:{:02}:{:02}Z {line}\n", second / 3600, second / 60 % 60, second % 60)
                })
                .collect();
            let block = lines(stream_id(stream), sequence << 32, text.as_bytes());
            let entry = blocks_entry(&format!("m{machine}"), &[block]);
            store.apply(sequence, &entry).unwrap();
            store.flush().unwrap();
            whole.apply(sequence, &entry).unwrap();
        }
        whole.flush().unwrap();
        while store.merge_idle(&|| true).unwrap().is_some() {}
        let rows = |store: &EmbeddedStore| {
            let snapshot = store.snapshot();
            let files: Vec<_> = snapshot.files(crate::Table::Logs).cloned().collect();
            assert_eq!(files.len(), 1);
            let batches: Vec<_> = FileReader::open(&**files[0].disk(), files[0].path(), None)
                .unwrap()
                .map(Result::unwrap)
                .collect();
            super::common::texts(&batches)
        };
        prop_assert!(rows(&store) == rows(&whole));
    }
}
