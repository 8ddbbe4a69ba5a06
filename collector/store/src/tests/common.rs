//! Log entries made by hand, and rows asked for.

use std::path::PathBuf;
use std::sync::Arc;

use arrow::record_batch::RecordBatch;
use bytes::Bytes;
use edgelogger_common::block::Block;
use edgelogger_common::block::batch::write_payload;
use edgelogger_common::clock::ManualClock;
use edgelogger_common::codec::{CodecSetting, Compressor, sha256};
use edgelogger_common::disk::{Disk, FaultDisk};
use edgelogger_common::stream::StreamId;
use edgelogger_proto::v1;

use crate::{Answered, EmbeddedStore, SqlLimits, SqlResult, Store, StoreOptions};

/// 2026-11-21T12:00:00Z.
pub const NOW: i64 = 1_795_262_400 * 1_000_000_000;
pub const SECOND: i64 = 1_000_000_000;

pub fn stream_id(number: u8) -> StreamId {
    StreamId::from_bytes([number; 16])
}

pub fn descriptor(id: StreamId, name: &str) -> v1::StreamDescriptor {
    v1::StreamDescriptor {
        stream_id: id.to_proto(),
        kind: v1::SourceKind::File.into(),
        unit: v1::PositionUnit::Byte.into(),
        name: name.to_owned(),
        replayable: true,
        ..v1::StreamDescriptor::default()
    }
}

pub fn lines(id: StreamId, start: u64, text: &[u8]) -> Block {
    let count = u32::try_from(memchr::memchr_iter(b'\n', text).count()).unwrap();
    let crc = crc32c::crc32c(text);
    Block::from_lines(id, start, Bytes::copy_from_slice(text), count, crc, NOW - SECOND)
}

pub fn batch(blocks: &[Block]) -> v1::Batch {
    batch_with("lz4", blocks)
}

pub fn batch_with(codec: &str, blocks: &[Block]) -> v1::Batch {
    let setting: CodecSetting = codec.parse().unwrap();
    let (mut plain, mut payload) = (Vec::new(), Vec::new());
    write_payload(blocks, &mut plain).unwrap();
    Compressor::new().compress(setting, &plain, &mut payload).unwrap();
    v1::Batch {
        sequence: 1,
        codec: v1::Codec::from(setting.codec()).into(),
        decompressed_len: u32::try_from(plain.len()).unwrap(),
        block_count: u32::try_from(blocks.len()).unwrap(),
        record_count: blocks.iter().map(|block| block.header.record_count).sum(),
        sha256: Bytes::copy_from_slice(&sha256(&payload)),
        payload: payload.into(),
        lane: 0,
    }
}

pub fn entry(machine: &str, body: v1::log_entry::Body, streams: Vec<v1::StreamDescriptor>) -> v1::LogEntry {
    v1::LogEntry {
        tenant: "default".to_owned(),
        agent_id: machine.to_owned(),
        machine_id: machine.to_owned(),
        agent_version: "0.1.0".to_owned(),
        labels: [("site".to_owned(), "plant-7".to_owned())].into(),
        received_time_ns: NOW,
        streams,
        body: Some(body),
        ..v1::LogEntry::default()
    }
}

/// An entry with these blocks; the source of a stream is called after its first byte.
pub fn blocks_entry(machine: &str, blocks: &[Block]) -> v1::LogEntry {
    let mut ids: Vec<_> = blocks.iter().map(|block| block.header.stream_id).collect();
    ids.dedup();
    let streams = ids
        .iter()
        .map(|id| descriptor(*id, &format!("/var/log/{}.log", id.as_bytes()[0])))
        .collect();
    entry(machine, v1::log_entry::Body::Batch(batch(blocks)), streams)
}

pub fn options(disk: Arc<dyn Disk>) -> StoreOptions {
    StoreOptions {
        disk,
        clock: Arc::new(ManualClock::at(NOW)),
        query_threads: 1,
        ..StoreOptions::new(PathBuf::from("/store"))
    }
}

pub fn store() -> Arc<EmbeddedStore> {
    EmbeddedStore::open(options(Arc::new(FaultDisk::new(1)))).unwrap()
}

pub fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .unwrap()
        .block_on(future)
}

pub fn sql(store: &EmbeddedStore, text: &str) -> Answered<SqlResult> {
    let limits = SqlLimits {
        rows_max: 1_000_000,
        ..SqlLimits::default()
    };
    block_on(store.sql(text, limits)).unwrap_or_else(|error| panic!("{text}: {error}"))
}

/// Rows as lines of text, columns separated by `|`, NULL as nothing.
pub fn texts(batches: &[RecordBatch]) -> Vec<String> {
    let options = arrow::util::display::FormatOptions::default();
    let mut rows = Vec::new();
    for batch in batches {
        let columns: Vec<_> = batch
            .columns()
            .iter()
            .map(|column| arrow::util::display::ArrayFormatter::try_new(column, &options).unwrap())
            .collect();
        for row in 0..batch.num_rows() {
            let cells: Vec<_> = columns
                .iter()
                .map(|column| column.value(row).to_string())
                .collect();
            rows.push(cells.join("|"));
        }
    }
    rows
}

pub fn sql_texts(store: &EmbeddedStore, text: &str) -> Vec<String> {
    texts(&sql(store, text).batches)
}
