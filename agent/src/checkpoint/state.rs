//! The state in memory and how a record changes it. No disk, no clock.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::time::Duration;

use edgelogger_common::range_set::RangeSet;
use edgelogger_common::stream::StreamId;
use edgelogger_proto::v1::{SourceKind, StreamDescriptor};
use prost::Message;

use super::error::CheckpointError;
use super::finished::{FinishedFile, FinishedFiles};
use super::format::LogReplaced;
use super::format::{CURSOR_BYTES_MAX, DESCRIPTOR_BYTES_MAX, EPOCH_FRAME_LEN, FRAME_HEADER_LEN, Record};
use super::machine::MachineMark;
use super::progress::Progress;
use super::scan::Scan;
use super::{AckedHead, EPOCH_BLOCK, Recovery, STREAMS_MAX, StreamState};
use crate::flow::{Resume, SentBlock};

const NO_MACHINE: [u8; 16] = [0; 16];

#[derive(Debug)]
struct Stream {
    descriptor: StreamDescriptor,
    progress: Progress,
}

#[derive(Debug, Default)]
pub(super) struct State {
    instance_id: Option<[u8; 16]>,
    machine: [u8; 16],
    machine_is_new: bool,
    log_id: Option<[u8; 16]>,
    log_replaced: Option<LogReplaced>,
    /// Streams that need no decision because of that.
    settled: BTreeSet<StreamId>,
    /// Given out in this process, or reserved before it.
    epoch: u64,
    epoch_reserved: u64,
    /// In order, as the dirty ones: what is written is the same each time it is simulated.
    streams: BTreeMap<StreamId, Stream>,
    finished: FinishedFiles,
    ignored: u64,

    dirty_acks: BTreeSet<StreamId>,
    dirty_ends: BTreeSet<StreamId>,
    dirty_finished: Vec<FinishedFile>,
    dirty_log_id: bool,
    dirty_log_replaced: bool,
    dirty_settled: BTreeSet<StreamId>,
    dirty_since: Option<Duration>,
}

impl State {
    /// The state that a scanned file describes, on this machine.
    pub fn recover(scan: Scan, machine: Option<MachineMark>) -> (Self, Recovery) {
        let mut state = Self::default();
        scan.records.into_iter().for_each(|record| state.apply(record));
        let damaged: u64 = scan.damage.iter().map(|damage| damage.len).sum();
        if damaged > 0 {
            state.epoch_reserved += EPOCH_BLOCK * (damaged / EPOCH_FRAME_LEN + 1);
        }
        state.epoch = state.epoch_reserved;
        let cloned = state.settle_on(machine);
        if state.instance_id.is_none() {
            state.instance_id = Some(*StreamId::random().as_bytes());
        }
        let recovery = Recovery {
            fresh: !scan.exists,
            cloned,
            damage: scan.damage,
            ignored_records: scan.unknown + state.ignored,
        };
        (state, recovery)
    }

    /// Binds the state to the machine; was it another one's?
    fn settle_on(&mut self, machine: Option<MachineMark>) -> bool {
        let Some(MachineMark(mark)) = machine else {
            return false;
        };
        if self.machine == mark {
            return false;
        }
        let cloned = self.instance_id.is_some() && self.machine != NO_MACHINE;
        self.machine = mark;
        self.machine_is_new = true;
        if cloned {
            self.instance_id = None;
            self.rekey_streams();
        }
        cloned
    }

    /// The other machine goes on with its streams, so their ids are its own. Here each file continues, where it was,
    /// as a new stream; a source that can't be read again has nothing to continue.
    fn rekey_streams(&mut self) {
        let old = std::mem::take(&mut self.streams);
        for (old_id, stream) in old {
            if !stream.descriptor.replayable {
                continue;
            }
            let id = StreamId::random();
            let descriptor = StreamDescriptor {
                stream_id: id.to_proto(),
                predecessor: old_id.to_proto(),
                start: stream.progress.upto,
                ..stream.descriptor
            };
            let progress = Progress {
                resume: stream.progress.resume,
                ..Progress::new(stream.progress.upto)
            };
            self.streams.insert(id, Stream { descriptor, progress });
        }
        // What was acknowledged was the other machine's.
        self.settled = self.streams.keys().copied().collect();
    }

    pub fn apply(&mut self, record: Record) {
        match record {
            Record::Instance { id, machine } => (self.instance_id, self.machine) = (Some(id), machine),
            Record::Epoch(upto) => self.epoch_reserved = self.epoch_reserved.max(upto),
            Record::LogId(id) => self.log_id = Some(id),
            Record::Created(descriptor) => self.created(*descriptor),
            Record::Acked(id, progress) => match self.streams.get_mut(&id) {
                Some(stream) => stream.progress = progress,
                None => self.ignored += 1,
            },
            Record::Ended(id) => {
                self.streams.remove(&id);
                self.settled.remove(&id);
            }
            Record::Finished(file) => self.finished.add(file),
            Record::LogReplaced(replaced) => {
                self.log_replaced = replaced;
                self.settled.clear();
            }
            Record::Settled(id) => drop(self.settled.insert(id)),
        }
    }

    fn created(&mut self, descriptor: StreamDescriptor) {
        let Ok(id) = StreamId::try_from(&descriptor.stream_id[..]) else {
            self.ignored += 1;
            return;
        };
        match self.streams.get_mut(&id) {
            Some(known) => known.descriptor = descriptor,
            None => {
                let progress = Progress::new(descriptor.start);
                self.streams.insert(id, Stream { descriptor, progress });
                // Its first ack comes from the log of now.
                if self.log_replaced.is_some() {
                    self.settled.insert(id);
                }
            }
        }
    }

    /// The records that create these streams, if they may be.
    pub fn plan_create(&self, descriptors: &[StreamDescriptor]) -> Result<Vec<Record>, CheckpointError> {
        let mut new_ids = BTreeSet::new();
        for descriptor in descriptors {
            let id = check(descriptor)?;
            if !self.streams.contains_key(&id) {
                new_ids.insert(id);
            }
        }
        let wanted = self.streams.len() + new_ids.len();
        if wanted > STREAMS_MAX && !new_ids.is_empty() {
            return Err(CheckpointError::TooManyStreams {
                wanted,
                limit: STREAMS_MAX,
            });
        }
        Ok(descriptors
            .iter()
            .map(|descriptor| Record::Created(Box::new(descriptor.clone())))
            .collect())
    }

    pub fn acked(&mut self, block: &SentBlock, now: Duration) {
        // A block of a stream that has ended meanwhile: nothing to remember.
        let Some(stream) = self.streams.get_mut(&block.stream_id) else {
            return;
        };
        let resume = match &block.resume {
            Resume::Cursor(cursor) if cursor.len() > CURSOR_BYTES_MAX => &Resume::Nowhere,
            other => other,
        };
        if stream.progress.ack(block.start, block.end, resume) {
            self.dirty_acks.insert(block.stream_id);
            self.dirty_since.get_or_insert(now);
        }
    }

    pub fn ended(&mut self, id: StreamId, now: Duration) {
        if let Some(stream) = self.streams.remove(&id) {
            if let Some(file) = FinishedFile::of(id, &stream.descriptor, &stream.progress) {
                self.finished.add(file.clone());
                self.dirty_finished.push(file);
            }
            self.dirty_acks.remove(&id);
            self.dirty_settled.remove(&id);
            self.settled.remove(&id);
            self.dirty_ends.insert(id);
            self.dirty_since.get_or_insert(now);
        }
    }

    pub fn set_log_id(&mut self, id: [u8; 16], now: Duration) {
        if self.log_id != Some(id) {
            self.log_id = Some(id);
            self.dirty_log_id = true;
            self.dirty_since.get_or_insert(now);
        }
    }

    pub const fn log_replaced(&self) -> Option<LogReplaced> {
        self.log_replaced
    }

    pub fn set_log_replaced(&mut self, replaced: Option<LogReplaced>, now: Duration) {
        if self.log_replaced != replaced {
            self.log_replaced = replaced;
            self.dirty_log_replaced = true;
            // Of what was not acknowledged yet nothing can be missing.
            let untouched = |(id, stream): (&StreamId, &Stream)| {
                (stream.progress == Progress::new(stream.descriptor.start)).then_some(*id)
            };
            self.settled = match replaced {
                Some(_) => self.streams.iter().filter_map(untouched).collect(),
                None => BTreeSet::new(),
            };
            self.dirty_settled.clear();
            self.dirty_since.get_or_insert(now);
        }
    }

    pub fn unsettled(&self) -> Vec<StreamState> {
        if self.log_replaced.is_none() {
            return Vec::new();
        }
        let is_file = |stream: &Stream| stream.descriptor.kind == i32::from(SourceKind::File);
        let open = self.streams.iter();
        let left = open.filter(|(id, stream)| is_file(stream) && !self.settled.contains(id));
        let mut left: Vec<_> = left.map(|(_, stream)| stream.state()).collect();
        left.sort_by(|one, other| {
            let key = |state: &StreamState| (state.descriptor.name.clone(), state.descriptor.opened_time_ns);
            key(one).cmp(&key(other))
        });
        left
    }

    pub fn settle(&mut self, id: StreamId, now: Duration) {
        if self.log_replaced.is_some() && self.streams.contains_key(&id) && self.settled.insert(id) {
            self.dirty_settled.insert(id);
            self.dirty_since.get_or_insert(now);
        }
    }

    /// Forgets what is acknowledged from a position on.
    pub fn rewind(&mut self, id: &StreamId, upto: u64, resume: Resume, now: Duration) {
        if let Some(stream) = self.streams.get_mut(id) {
            stream.progress = Progress {
                resume,
                ..Progress::new(upto)
            };
            self.dirty_acks.insert(*id);
            self.dirty_since.get_or_insert(now);
        }
    }

    pub const fn dirty_since(&self) -> Option<Duration> {
        self.dirty_since
    }

    /// What must be written, which counts as written from now on.
    pub fn take_dirty(&mut self) -> Vec<Record> {
        self.dirty_since = None;
        let log_id = self
            .log_id
            .filter(|_| std::mem::take(&mut self.dirty_log_id))
            .map(Record::LogId);
        let ends = std::mem::take(&mut self.dirty_ends)
            .into_iter()
            .map(Record::Ended);
        let acks = std::mem::take(&mut self.dirty_acks);
        let acks = acks
            .into_iter()
            .filter_map(|id| Some(Record::Acked(id, self.streams.get(&id)?.progress.clone())));
        let finished = std::mem::take(&mut self.dirty_finished)
            .into_iter()
            .map(Record::Finished);
        let mut settled = std::mem::take(&mut self.dirty_settled);
        let replaced =
            std::mem::take(&mut self.dirty_log_replaced).then_some(Record::LogReplaced(self.log_replaced));
        // It unsettles everything that was told before it.
        if replaced.is_some() {
            settled.clone_from(&self.settled);
        }
        log_id
            .into_iter()
            .chain(replaced)
            .chain(settled.into_iter().map(Record::Settled))
            .chain(finished)
            .chain(ends)
            .chain(acks)
            .collect()
    }

    /// These could not be written after all.
    pub fn dirty_again(&mut self, records: &[Record], now: Duration) {
        for record in records {
            match record {
                Record::Acked(id, _) => drop(self.dirty_acks.insert(*id)),
                Record::Ended(id) => drop(self.dirty_ends.insert(*id)),
                Record::LogId(_) => self.dirty_log_id = true,
                Record::LogReplaced(_) => self.dirty_log_replaced = true,
                Record::Settled(id) if self.settled.contains(id) => drop(self.dirty_settled.insert(*id)),
                Record::Finished(file) => self.dirty_finished.push(file.clone()),
                // Whoever asked for these has been told that it failed.
                Record::Instance { .. } | Record::Epoch(_) | Record::Created(_) | Record::Settled(_) => {}
            }
        }
        self.dirty_since = Some(now);
    }

    /// Everything, as the content of a new file.
    pub fn live_records(&self) -> Vec<Record> {
        let mut records = vec![self.instance_record(), Record::Epoch(self.epoch_reserved)];
        records.extend(self.log_id.map(Record::LogId));
        for (id, stream) in &self.streams {
            records.push(Record::Created(Box::new(stream.descriptor.clone())));
            if stream.progress != Progress::new(stream.descriptor.start) {
                records.push(Record::Acked(*id, stream.progress.clone()));
            }
        }
        // Behind the streams: those that come behind it are settled by that.
        records.extend(
            self.log_replaced
                .map(|replaced| Record::LogReplaced(Some(replaced))),
        );
        records.extend(self.settled.iter().copied().map(Record::Settled));
        records.extend(self.finished.iter().cloned().map(Record::Finished));
        // Again at the other end: to lose it would look like a second installation.
        records.extend([Record::Epoch(self.epoch_reserved), self.instance_record()]);
        records
    }

    /// About as many bytes as [`State::live_records`] takes.
    pub fn live_bytes(&self) -> u64 {
        let frames = self.streams.values().map(|stream| {
            let above = stream.progress.above.len() * 32;
            2 * FRAME_HEADER_LEN + stream.descriptor.encoded_len() + 64 + above
        });
        let finished = self.finished.encoded_len() + self.finished.iter().len() * FRAME_HEADER_LEN;
        let settled = self.settled.len() * (FRAME_HEADER_LEN + 16);
        frames.map(|len| len as u64).sum::<u64>() + (finished + settled) as u64
    }

    pub fn instance_record(&self) -> Record {
        Record::Instance {
            id: self.instance_id(),
            machine: self.machine,
        }
    }

    pub const fn machine_is_new(&self) -> bool {
        self.machine_is_new
    }

    pub fn instance_id(&self) -> [u8; 16] {
        self.instance_id.expect("recover sets it before anybody can ask")
    }

    pub const fn log_id(&self) -> Option<[u8; 16]> {
        self.log_id
    }

    /// The next epoch, and up to which epochs must be reserved before it is used.
    pub fn next_epoch(&mut self, block: u64) -> (u64, Option<u64>) {
        self.epoch += 1;
        let reserve = (self.epoch > self.epoch_reserved).then_some(self.epoch + block - 1);
        (self.epoch, reserve)
    }

    pub fn epochs_reserved(&mut self, upto: u64) {
        self.epoch_reserved = self.epoch_reserved.max(upto);
    }

    pub fn streams(&self) -> impl Iterator<Item = StreamState> {
        self.streams.values().map(Stream::state)
    }

    pub fn stream(&self, id: &StreamId) -> Option<StreamState> {
        self.streams.get(id).map(Stream::state)
    }

    pub fn machine_mark(&self) -> Option<MachineMark> {
        (self.machine != NO_MACHINE).then_some(MachineMark(self.machine))
    }

    pub fn finished(&self) -> Vec<FinishedFile> {
        self.finished.iter().cloned().collect()
    }

    pub fn heads(&self) -> Vec<AckedHead> {
        let head = |(id, stream): (&StreamId, &Stream)| {
            let ranges = stream.progress.ranges(stream.descriptor.start);
            AckedHead {
                stream_id: *id,
                start: stream.descriptor.start,
                upto: stream.progress.upto,
                acked: ranges.map(|range| range.end - range.start).sum(),
            }
        };
        self.streams.iter().map(head).collect()
    }

    pub fn stream_count(&self) -> usize {
        self.streams.len()
    }

    pub fn acked_upto(&self, id: &StreamId) -> Option<u64> {
        self.streams.get(id).map(|stream| stream.progress.upto)
    }
}

impl StreamState {
    /// As if these ranges were acknowledged too.
    #[must_use]
    pub fn with(mut self, ranges: &[(Range<u64>, Resume)]) -> Self {
        let mut progress = Progress {
            upto: self.acked_upto,
            resume: self.resume,
            above: self
                .above
                .into_iter()
                .map(|(range, resume)| (range.start, (range.end, resume)))
                .collect(),
        };
        for (range, resume) in ranges {
            progress.ack(range.start, range.end, resume);
            // As in `Stream::state`.
            let _ = self.acked.insert(range.clone());
        }
        (self.acked_upto, self.above) = (progress.upto, progress.above().collect());
        self.resume = progress.resume;
        self
    }
}

impl Stream {
    fn state(&self) -> StreamState {
        let mut acked = RangeSet::new();
        for range in self.progress.ranges(self.descriptor.start) {
            // A set holds far more ranges than we keep above the contiguous end.
            let _ = acked.insert(range);
        }
        StreamState {
            descriptor: self.descriptor.clone(),
            acked,
            resume: self.progress.resume.clone(),
            acked_upto: self.progress.upto,
            above: self.progress.above().collect(),
        }
    }
}

fn check(descriptor: &StreamDescriptor) -> Result<StreamId, CheckpointError> {
    let refuse = |problem: String| CheckpointError::Descriptor {
        name: descriptor.name.chars().take(256).collect(),
        problem,
    };
    let id = StreamId::try_from(&descriptor.stream_id[..]).map_err(|error| refuse(error.to_string()))?;
    let len = descriptor.encoded_len();
    if len > DESCRIPTOR_BYTES_MAX {
        return Err(refuse(format!(
            "its description has {len} bytes, at most {DESCRIPTOR_BYTES_MAX} are kept"
        )));
    }
    Ok(id)
}
