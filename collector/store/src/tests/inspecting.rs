//! The files of a closed store: listed, verified, exported.

use std::path::Path;
use std::sync::Arc;

use arrow::record_batch::RecordBatch;
use edgelogger_common::disk::{Disk, FaultDisk};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;

use super::common::{NOW, SECOND, blocks_entry, lines, options, stream_id, texts};
use crate::{EmbeddedStore, RowsQuery, StoreError, StoreFiles, Table};

/// Two files; the machines' lines have times of their own.
fn closed(disk: &FaultDisk) {
    let store = EmbeddedStore::open(options(Arc::new(disk.clone()))).unwrap();
    let old = lines(
        stream_id(1),
        0,
        b"2026-11-19T10:00:00Z a\n2026-11-19T11:00:00Z b\n",
    );
    let new = lines(stream_id(2), 0, b"2026-11-21T11:00:00Z c\n");
    store.apply(0, &blocks_entry("m1", &[old])).unwrap();
    store.flush().unwrap();
    store.apply(1, &blocks_entry("m2", &[new])).unwrap();
    store.flush().unwrap();
}

fn open(disk: &FaultDisk) -> StoreFiles {
    StoreFiles::open(Arc::new(disk.clone()), Path::new("/store")).unwrap()
}

fn bodies(batches: &[RecordBatch]) -> Vec<String> {
    let body = |batch: &RecordBatch| {
        let index = batch.schema().index_of("body").unwrap();
        texts(&[batch.project(&[index]).unwrap()])
    };
    batches.iter().flat_map(body).collect()
}

#[test]
fn rows_are_found_by_time_and_machine_and_come_as_parquet_too() {
    let disk = FaultDisk::new(1);
    closed(&disk);
    let files = open(&disk);
    let check = |from: Option<i64>, to: Option<i64>, machine: Option<&str>, expected: &[&str]| {
        let query = RowsQuery {
            table: Table::Logs,
            from,
            to,
            machine: machine.map(str::to_owned),
        };
        let mut batches = Vec::new();
        let count = files
            .rows::<StoreError>(&query, |batch| {
                batches.push(batch.clone());
                Ok(())
            })
            .unwrap();
        let found: Vec<String> = bodies(&batches)
            .iter()
            .map(|body| body.chars().last().unwrap().to_string())
            .collect();
        assert_eq!(
            (found, count),
            (
                expected.iter().map(ToString::to_string).collect(),
                expected.len() as u64
            )
        );
        let mut parquet = Vec::new();
        assert_eq!(files.write_parquet(&query, &mut parquet).unwrap(), count);
        let reader = ParquetRecordBatchReaderBuilder::try_new(bytes::Bytes::from(parquet)).unwrap();
        let read: Vec<RecordBatch> = reader.build().unwrap().map(Result::unwrap).collect();
        assert_eq!(bodies(&read), bodies(&batches));
    };
    let two_days_ago = NOW - 2 * 86_400 * SECOND;
    check(None, None, None, &["a", "b", "c"]);
    check(None, None, Some("m2"), &["c"]);
    check(None, None, Some("m"), &[]);
    check(None, Some(two_days_ago), None, &["a", "b"]);
    check(Some(two_days_ago - 3600 * SECOND), None, None, &["b", "c"]);
    check(Some(two_days_ago), Some(two_days_ago + SECOND), None, &[]);
    let metrics = RowsQuery {
        table: Table::Metrics,
        from: None,
        to: None,
        machine: None,
    };
    assert_eq!(files.rows::<StoreError>(&metrics, |_| Ok(())).unwrap(), 0);
}

#[test]
fn every_changed_byte_of_a_file_is_found_and_a_whole_store_is_whole() {
    let disk = FaultDisk::new(1);
    closed(&disk);
    let name = {
        let files = open(&disk);
        let listed = files.list();
        assert_eq!(listed.iter().map(|file| file.rows).collect::<Vec<_>>(), [2, 1]);
        assert_eq!(listed[0].machines, ["m1"]);
        assert_eq!((files.cursor(), files.unnamed().unwrap().len()), (2, 0));
        for file in &listed {
            assert_eq!(files.verify(&file.name), [""; 0]);
        }
        listed[0].name.clone()
    };
    let path = Path::new("/store/files").join(&name);
    let len = disk.contents(&path).unwrap().len();
    for at in (0..len).step_by(7) {
        disk.corrupt(&path, |bytes| bytes[at] ^= 1);
        assert_eq!(open(&disk).verify(&name).len(), 1, "byte {at}");
        disk.corrupt(&path, |bytes| bytes[at] ^= 1);
    }
    disk.remove_file(&path).unwrap();
    assert_eq!(open(&disk).verify(&name).len(), 1);
}

#[test]
fn a_store_that_is_open_or_absent_is_refused_and_left_as_it_is() {
    let disk = FaultDisk::new(1);
    let absent = StoreFiles::open(Arc::new(disk.clone()), Path::new("/store")).unwrap_err();
    assert!(absent.to_string().contains("/store/files"), "{absent}");
    assert!(!disk.exists("/store/lock".as_ref()).unwrap());
    closed(&disk);
    let _open = EmbeddedStore::open(options(Arc::new(disk.clone()))).unwrap();
    let error = StoreFiles::open(Arc::new(disk.clone()), Path::new("/store")).unwrap_err();
    assert!(error.to_string().contains("another process"), "{error}");
}
