//! A file that is damaged or removed under a running store: it is put aside and named, the rest answers.

use std::path::Path;
use std::sync::Arc;

use edgelogger_common::disk::{Disk, FaultDisk};

use super::common::{block_on, blocks_entry, lines, options, sql, sql_texts, stream_id, texts};
use crate::{EmbeddedStore, LogQuery, Store};

const COUNT: &str = "SELECT count(*), sum(source_len) FROM logs";

/// A store with three files of one row each.
fn three_files(disk: &FaultDisk) -> Arc<EmbeddedStore> {
    let store = EmbeddedStore::open(options(Arc::new(disk.clone()))).unwrap();
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

fn path(name: &str) -> std::path::PathBuf {
    Path::new("/store/files").join(name)
}

fn problems(store: &EmbeddedStore) -> Vec<String> {
    block_on(store.status()).unwrap().problems
}

fn check_rest(store: &EmbeddedStore, name: &str) {
    for _ in 0..2 {
        let result = sql(store, COUNT);
        assert_eq!(texts(&result.batches)[0].split('|').next(), Some("2"));
        assert_eq!(result.incomplete, [name]);
        let page = block_on(store.logs(LogQuery::default())).unwrap();
        assert_eq!(
            (page.rows.num_rows(), &page.incomplete[..]),
            (2, &[name.to_owned()][..])
        );
    }
    let early = LogQuery {
        to: Some(0),
        ..LogQuery::default()
    };
    let page = block_on(store.logs(early)).unwrap();
    assert!(page.incomplete.is_empty(), "it holds nothing of that time");
    let problems = problems(store);
    assert!(problems.len() == 1 && problems[0].contains(name), "{problems:?}");
}

#[test]
fn a_damaged_file_is_put_aside_and_never_deleted() {
    let damages: [fn(&mut Vec<u8>); 3] = [
        |bytes| bytes.iter_mut().for_each(|byte| *byte ^= 0x55),
        |bytes| bytes.truncate(40),
        |bytes| {
            let end = bytes.len() - 8;
            bytes[end..].fill(0xff);
        },
    ];
    for damage in damages {
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
        let store = EmbeddedStore::open(options(Arc::new(disk.clone()))).unwrap();
        assert_eq!(sql(&store, COUNT).incomplete, [name.as_str()]);
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
    drop(store);
    let mut file = disk.create_new(&path(&name)).unwrap();
    file.append(&[std::io::IoSlice::new(&bytes)]).unwrap();
    file.sync_data().unwrap();
    let store = EmbeddedStore::open(options(Arc::new(disk.clone()))).unwrap();
    assert!(problems(&store).is_empty());
    assert_eq!(sql_texts(&store, "SELECT count(*) FROM logs"), ["3"]);
    assert!(sql(&store, COUNT).incomplete.is_empty());
}
