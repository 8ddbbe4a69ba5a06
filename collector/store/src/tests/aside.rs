//! A file that is damaged or removed under a running store: it is put aside and named, the rest answers.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use edgelogger_common::block::{MetricBlockBuilder, MetricRow};
use edgelogger_common::clock::ManualClock;
use edgelogger_common::disk::{Disk, Effect, Fault, FaultDisk, Operation, Survivors};
use edgelogger_common::stream::StreamId;

use super::common::{NOW, SECOND, block_on, blocks_entry, lines, options, sql, sql_texts, stream_id, texts};
use crate::query::{Aggregate, RangeQuery, SampleField};
use crate::{
    ContextQuery, EmbeddedStore, LogQuery, MissingFile, QueryError, Retention, SeriesFilter, SqlLimits,
    Store, StoreFiles, StoreOptions, TableRetention, VolumeQuery,
};

const COUNT: &str = "SELECT count(*), sum(source_len) FROM logs";
const HOUR: i64 = 3600 * SECOND;

fn open(disk: &FaultDisk) -> Arc<EmbeddedStore> {
    EmbeddedStore::open(options(Arc::new(disk.clone()))).unwrap()
}

/// A store with three files of one row each.
fn three_files(disk: &FaultDisk) -> Arc<EmbeddedStore> {
    let store = open(disk);
    for (sequence, start) in (0..3).zip([0, 7, 14]) {
        let block = lines(stream_id(1), start, format!("line {start:01}\n").as_bytes());
        store.apply(sequence, &blocks_entry("m1", &[block])).unwrap();
        store.flush().unwrap();
    }
    store
}

fn second(disk: &FaultDisk) -> String {
    disk.list_files("/store/files".as_ref()).unwrap().remove(1)
}

fn path(name: &str) -> PathBuf {
    Path::new("/store/files").join(name)
}

fn problems(store: &EmbeddedStore) -> Vec<String> {
    block_on(store.status()).unwrap().problems
}

fn names(missing: &[MissingFile]) -> Vec<&str> {
    missing.iter().map(|missing| missing.file.as_str()).collect()
}

fn put_back(disk: &FaultDisk, name: &str, bytes: &[u8]) {
    let mut file = disk.create_new(&path(name)).unwrap();
    file.append(&[std::io::IoSlice::new(bytes)]).unwrap();
    file.sync_data().unwrap();
    disk.sync_dir("/store/files".as_ref()).unwrap();
}

fn check_rest(store: &EmbeddedStore, name: &str) {
    for _ in 0..2 {
        let result = sql(store, COUNT);
        assert_eq!(texts(&result.batches)[0].split('|').next(), Some("2"));
        assert_eq!(names(&result.incomplete), [name]);
        let page = block_on(store.logs(LogQuery::default())).unwrap();
        assert_eq!((page.rows.num_rows(), names(&page.incomplete)), (2, vec![name]));
    }
    let early = LogQuery {
        to: Some(0),
        ..LogQuery::default()
    };
    let page = block_on(store.logs(early)).unwrap();
    assert!(page.incomplete.is_empty(), "it holds nothing of that time");
    assert!(sql(store, "SELECT count(*) FROM metrics").incomplete.is_empty());
    let problems = problems(store);
    assert!(problems.len() == 1 && problems[0].contains(name), "{problems:?}");
}

/// What may happen to the bytes of a file.
const DAMAGES: [fn(&mut Vec<u8>); 4] = [
    |bytes| bytes.iter_mut().for_each(|byte| *byte ^= 0x55),
    |bytes| bytes.truncate(40),
    |bytes| {
        let end = bytes.len() - 8;
        bytes[end..].fill(0xff);
    },
    // Its pages alone: the footer is whole.
    |bytes| {
        let end = bytes.len() - 8;
        let footer = u32::from_le_bytes(bytes[end..end + 4].try_into().unwrap());
        bytes[4..end - footer as usize].fill(0xff);
    },
];

#[test]
fn a_damaged_file_is_put_aside_and_never_deleted() {
    for damage in DAMAGES {
        let disk = FaultDisk::new(1);
        let store = three_files(&disk);
        let name = second(&disk);
        disk.corrupt(&path(&name), damage);
        let bytes = disk.contents(&path(&name)).unwrap();
        check_rest(&store, &name);
        let aside = Path::new("/store/quarantine").join(&name);
        assert_eq!(disk.contents(&aside), Some(bytes));
        // Work goes on, and a restart changes nothing.
        store
            .apply(3, &blocks_entry("m1", &[lines(stream_id(2), 0, b"new\n")]))
            .unwrap();
        store.flush().unwrap();
        drop(store);
        disk.restart();
        let store = open(&disk);
        assert_eq!(names(&sql(&store, COUNT).incomplete), [name.as_str()]);
        let said = problems(&store);
        assert!(said.len() == 1 && said[0].contains("quarantine"), "{said:?}");
    }
}

#[test]
fn a_file_that_is_gone_is_named_and_counts_again_when_it_is_back() {
    let disk = FaultDisk::new(1);
    let store = three_files(&disk);
    let name = second(&disk);
    let bytes = disk.contents(&path(&name)).unwrap();
    disk.remove_file(&path(&name)).unwrap();
    check_rest(&store, &name);
    // With this the manifest says so.
    store.account_aside(&|| true).unwrap();
    drop(store);
    // Not the right bytes: they are left alone.
    put_back(&disk, &name, &bytes[1..]);
    let store = open(&disk);
    check_rest(&store, &name);
    drop(store);
    disk.corrupt(&Path::new("/store/quarantine").join(&name), |found| {
        assert_eq!(found[..], bytes[1..]);
    });
    put_back(&disk, &name, &bytes);
    let store = open(&disk);
    assert!(problems(&store).is_empty());
    assert_eq!(sql_texts(&store, "SELECT count(*) FROM logs"), ["3"]);
    assert!(sql(&store, COUNT).incomplete.is_empty());
    assert_eq!(*store.aside(), crate::Aside::default());
}

/// Two files of logs and two of metrics, each with one row of a machine of its own.
fn of_both_tables(disk: &FaultDisk) -> Arc<EmbeddedStore> {
    let store = open(disk);
    for number in 0..2u8 {
        let machine = format!("m{number}");
        let line = lines(stream_id(number), 0, b"2026-11-21T11:59:00Z a line\n");
        let mut builder = MetricBlockBuilder::new(stream_id(number + 10), 0);
        builder.push(MetricRow {
            observed_time: NOW - 60 * SECOND,
            name: "heat".to_owned(),
            value: Some(f64::from(number)),
            source_len: 1,
            ..MetricRow::default()
        });
        let entry = blocks_entry(&machine, &[line, builder.finish().unwrap()]);
        store.apply(u64::from(number), &entry).unwrap();
        store.flush().unwrap();
    }
    store
}

type Ask = fn(&EmbeddedStore) -> Result<(u64, Vec<MissingFile>), QueryError>;

fn of_the_hour() -> LogQuery {
    LogQuery {
        from: Some(NOW - HOUR),
        to: Some(NOW),
        ..LogQuery::default()
    }
}

/// Every question that reads files, and how much of two rows it found.
const QUESTIONS: [(&str, &str, Ask); 8] = [
    ("sql", "logs", |store| {
        let answer = block_on(store.sql("SELECT body FROM logs", SqlLimits::default()))?;
        Ok((answer.row_count() as u64, answer.incomplete))
    }),
    ("sql of metrics", "metrics", |store| {
        let answer = block_on(store.sql("SELECT value FROM metrics", SqlLimits::default()))?;
        Ok((answer.row_count() as u64, answer.incomplete))
    }),
    ("logs", "logs", |store| {
        let answer = block_on(store.logs(of_the_hour()))?;
        Ok((answer.rows.num_rows() as u64, answer.incomplete))
    }),
    ("volume", "logs", |store| {
        let query = VolumeQuery {
            filter: of_the_hour(),
            bucket_ns: 60 * SECOND,
        };
        let answer = block_on(store.volume(query))?;
        Ok((answer.iter().map(|cell| cell.count).sum(), answer.incomplete))
    }),
    ("patterns", "logs", |store| {
        let answer = block_on(store.patterns(of_the_hour()))?;
        Ok((answer.records, answer.incomplete))
    }),
    ("context", "logs", |store| {
        // The damaged file may hold it, so it is read; the other one has it.
        let query = ContextQuery {
            stream_id: stream_id(1).to_string(),
            position: 0,
            before: 1,
            after: 1,
            columns: None,
            time_max: Duration::from_secs(30),
        };
        let answer = block_on(store.context(query))?;
        let found = answer.answer.as_ref().map_or(0, |found| found.record.num_rows());
        Ok((found as u64, answer.incomplete))
    }),
    ("range", "metrics", |store| {
        let query = RangeQuery {
            name: "heat".to_owned(),
            filter: SeriesFilter::default(),
            from: NOW - HOUR,
            to: NOW,
            step: Some(60 * SECOND),
            aggregate: Aggregate::Avg,
            field: SampleField::Value,
            group_by: None,
            series_max: 100,
            time_max: Duration::from_secs(30),
        };
        let answer = block_on(store.range(query))?;
        Ok((answer.samples, answer.incomplete))
    }),
    ("latest", "metrics", |store| {
        block_on(store.fill_latest())?;
        let answer = store.latest(&SeriesFilter::default(), i64::MIN, 10)?;
        assert_eq!(answer.is_complete, answer.incomplete.is_empty());
        let names = store.metric_names(&SeriesFilter::default(), i64::MIN)?;
        assert_eq!(names.incomplete, answer.incomplete);
        Ok((answer.samples.len() as u64, answer.incomplete))
    }),
];

#[test]
fn every_question_puts_a_damaged_file_aside_answers_without_it_and_says_so() {
    for damage in DAMAGES {
        for (question, table, ask) in QUESTIONS {
            let disk = FaultDisk::new(1);
            drop(of_both_tables(&disk));
            let files = disk.list_files("/store/files".as_ref()).unwrap();
            let damaged = files.iter().find(|name| name.starts_with(table)).unwrap();
            let store = open(&disk);
            disk.corrupt(&path(damaged), damage);
            let (found, incomplete) = ask(&store).unwrap_or_else(|error| panic!("{question}: {error}"));
            assert_eq!(
                (found, names(&incomplete)),
                (1, vec![damaged.as_str()]),
                "{question}"
            );
            assert!(!incomplete[0].reason.is_empty());
            // Those that come after need not find it out again.
            for (other, of_table, ask) in QUESTIONS {
                let (found, incomplete) = ask(&store).unwrap();
                let expected = if of_table == table { 1 } else { 2 };
                let whole = other == "context" && of_table != table;
                assert_eq!(
                    found,
                    if whole { 1 } else { expected },
                    "{question}, then {other}"
                );
                assert_eq!(
                    incomplete.len(),
                    usize::from(of_table == table),
                    "{question}, then {other}"
                );
            }
        }
    }
}

/// Positions and rows of a stream that are in files which are aside.
fn aside_of(store: &EmbeddedStore, machine: &str, id: StreamId) -> Option<(Vec<std::ops::Range<u64>>, u64)> {
    let aside = store.aside();
    aside
        .of(machine, id)
        .map(|gone| (gone.ranges.as_slice().to_vec(), gone.rows))
}

#[test]
#[allow(clippy::single_range_in_vec_init, reason = "one range is what is meant")]
fn what_was_in_a_file_that_is_aside_is_known_by_stream_also_after_a_restart() {
    let disk = FaultDisk::new(1);
    let store = three_files(&disk);
    let name = second(&disk);
    let other = lines(stream_id(2), 0, b"another stream\n");
    store.apply(3, &blocks_entry("m1", &[other])).unwrap();
    disk.corrupt(&path(&name), DAMAGES[0]);
    let bytes = disk.contents(&path(&name)).unwrap();
    sql(&store, COUNT);
    store.account_aside(&|| false).unwrap();
    assert!(!store.aside().is_accounted, "told to stop");
    store.account_aside(&|| true).unwrap();
    let check = |store: &EmbeddedStore| {
        assert!(store.aside().is_accounted);
        assert_eq!(aside_of(store, "m1", stream_id(1)), Some((vec![7..14], 1)));
        assert_eq!(aside_of(store, "m1", stream_id(2)), None, "its row is in memory");
        let status = block_on(store.status()).unwrap();
        assert_eq!((status.aside_files, status.aside_rows), (1, 1));
        assert_eq!(sql_texts(store, "SELECT count(*) FROM logs"), ["3"]);
    };
    check(&store);
    store.flush().unwrap();
    check(&store);
    drop(store);
    disk.cut_power(Survivors::Nothing);
    disk.restart();
    let store = open(&disk);
    check(&store);
    // Sent again, it is a duplicate: its positions stay applied.
    let again = blocks_entry("m1", &[lines(stream_id(1), 7, b"line 7\n")]);
    assert_eq!(store.apply(4, &again).unwrap().duplicates, 1);
    drop(store);
    let files = StoreFiles::open(Arc::new(disk.clone()), Path::new("/store")).unwrap();
    let aside = files.aside();
    assert_eq!((aside.len(), aside[0].file.name.as_str()), (1, name.as_str()));
    assert_eq!(files.list().len(), 3);
    assert!(files.list().iter().all(|file| file.name != name));
    let quarantined = Path::new("/store/quarantine").join(&name);
    assert_eq!(disk.contents(&quarantined), Some(bytes));
}

#[test]
fn a_store_that_opens_with_files_cut_short_or_gone_works_and_says_so() {
    let disk = FaultDisk::new(1);
    drop(three_files(&disk));
    let files = disk.list_files("/store/files".as_ref()).unwrap();
    disk.corrupt(&path(&files[0]), |bytes| bytes.truncate(100));
    disk.remove_file(&path(&files[1])).unwrap();
    let store = open(&disk);
    assert_eq!(sql_texts(&store, "SELECT count(*) FROM logs"), ["1"]);
    let result = sql(&store, COUNT);
    assert_eq!(names(&result.incomplete), [files[0].as_str(), files[1].as_str()]);
    assert!(result.incomplete[0].reason.contains("100 bytes"), "{result:?}");
    assert_eq!(result.incomplete[1].reason, "it is gone");
    assert_eq!(problems(&store).len(), 2);
    store.account_aside(&|| true).unwrap();
    #[allow(clippy::single_range_in_vec_init, reason = "one range is what is meant")]
    let expected = Some((vec![0..14], 2));
    assert_eq!(aside_of(&store, "m1", stream_id(1)), expected);
    // Merging and a flush go on with the rest.
    store
        .apply(3, &blocks_entry("m1", &[lines(stream_id(3), 0, b"new\n")]))
        .unwrap();
    store.flush().unwrap();
    while store.merge_idle(&|| true).unwrap().is_some() {}
    assert_eq!(sql_texts(&store, "SELECT count(*) FROM logs"), ["2"]);
}

#[test]
fn what_is_aside_and_too_old_expires() {
    let disk = FaultDisk::new(1);
    let store = three_files(&disk);
    let name = second(&disk);
    disk.corrupt(&path(&name), DAMAGES[0]);
    sql(&store, COUNT);
    store.account_aside(&|| true).unwrap();
    drop(store);
    let clock = ManualClock::at(NOW);
    clock.advance(Duration::from_secs(9 * 86_400));
    let retention = Retention {
        logs: TableRetention {
            age_max: Some(Duration::from_secs(86_400)),
            bytes_max: None,
        },
        ..Retention::default()
    };
    let store = EmbeddedStore::open(StoreOptions {
        clock: Arc::new(clock),
        retention,
        ..options(Arc::new(disk.clone()))
    })
    .unwrap();
    assert_eq!(problems(&store).len(), 1);
    store.expire(&|| true).unwrap();
    assert_eq!(*store.aside(), crate::Aside::default());
    assert!(problems(&store).is_empty());
    let (_, state) = store.streams().remove(0);
    assert_eq!((state.expired().len(), state.gone_rows()), (1, 3));
    assert_eq!(state.expired()[0], 0..22);
    assert_eq!(disk.list_files("/store/quarantine".as_ref()).unwrap(), [""; 0]);
    drop(store);
    let store = open(&disk);
    assert_eq!(sql_texts(&store, "SELECT count(*) FROM logs"), ["0"]);
    assert!(problems(&store).is_empty());
}

#[test]
fn after_a_crash_at_any_change_of_the_disk_a_damaged_file_is_still_said_to_be_aside() {
    let run = |fault: Option<Fault>| {
        let disk = FaultDisk::new(1);
        let store = three_files(&disk);
        let name = second(&disk);
        disk.corrupt(&path(&name), DAMAGES[1]);
        let before = disk.changes();
        if let Some(fault) = fault {
            disk.install(fault);
        }
        let _ = block_on(store.sql(COUNT, SqlLimits::default()));
        let _ = store.account_aside(&|| true);
        let changes = disk.changes() - before;
        drop(store);
        disk.clear_faults();
        disk.restart();
        let store = open(&disk);
        check_rest(&store, &name);
        store.account_aside(&|| true).unwrap();
        let (ranges, rows) = aside_of(&store, "m1", stream_id(1)).unwrap();
        assert_eq!((ranges[0].clone(), rows), (7..14, 1));
        changes
    };
    let changes = run(None);
    assert!(changes > 5, "{changes}");
    for nth in 1..=changes {
        for effect in [Effect::Kill, Effect::PowerCut(Survivors::Some)] {
            run(Some(Fault::once(Operation::AnyChange, nth, effect)));
        }
    }
}
