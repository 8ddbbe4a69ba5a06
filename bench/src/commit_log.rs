//! The collector's commit log, written without its ingest: what a day of a fleet left there, in seconds.

use std::path::Path;
use std::sync::Arc;

use edgelogger_common::disk::OsDisk;
use edgelogger_common::segment::{SegmentLog, SegmentOptions};
use edgelogger_common::stream::StreamId;
use edgelogger_proto::v1::{self, log_entry::Body};
use prost::Message;

use crate::Outcome;

/// Appended between two syncs.
const SYNC_BYTES: usize = 64 << 20;

/// Appends to the log of a collector that has run once and does not run now.
#[derive(Debug)]
pub struct CommitLog {
    log: SegmentLog,
    unsynced: usize,
    /// Bytes of entries so far.
    pub bytes: u64,
}

impl CommitLog {
    /// In the collector's data folder.
    ///
    /// # Errors
    /// When it can't be opened.
    pub fn open(data_dir: &Path) -> Outcome<Self> {
        let (log, _) = SegmentLog::open(Arc::new(OsDisk), &data_dir.join("log"), SegmentOptions::default())?;
        Ok(Self {
            log,
            unsynced: 0,
            bytes: 0,
        })
    }

    /// Appends a batch of one stream of a machine, received at this time.
    ///
    /// # Errors
    /// When the disk takes nothing.
    pub fn append(
        &mut self,
        machine: &str,
        stream: v1::StreamDescriptor,
        received_time_ns: i64,
        batch: v1::Batch,
    ) -> Outcome<()> {
        let entry = v1::LogEntry {
            tenant: "default".to_owned(),
            agent_id: machine.to_owned(),
            machine_id: machine.to_owned(),
            agent_version: "0.1.0".to_owned(),
            labels: [("site".to_owned(), "bench".to_owned())].into(),
            received_time_ns,
            streams: vec![stream],
            body: Some(Body::Batch(batch)),
            ..v1::LogEntry::default()
        };
        let frame = entry.encode_to_vec();
        self.log.append(&[&frame])?;
        self.bytes += frame.len() as u64;
        self.unsynced += frame.len();
        if self.unsynced >= SYNC_BYTES {
            self.log.sync()?;
            self.unsynced = 0;
        }
        Ok(())
    }

    /// Everything is on the disk.
    ///
    /// # Errors
    /// When it is not.
    pub fn finish(mut self) -> Outcome<u64> {
        self.log.sync()?;
        Ok(self.bytes)
    }
}

/// A stream's descriptor.
#[must_use]
pub fn stream(
    id: StreamId,
    kind: v1::SourceKind,
    unit: v1::PositionUnit,
    name: &str,
) -> v1::StreamDescriptor {
    v1::StreamDescriptor {
        stream_id: id.to_proto(),
        kind: kind.into(),
        unit: unit.into(),
        name: name.to_owned(),
        replayable: kind == v1::SourceKind::File,
        ..v1::StreamDescriptor::default()
    }
}
