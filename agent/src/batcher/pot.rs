//! Blocks that may share a batch, queued by source and stream, and taken fairly.
//!
//! Fairness is deficit round robin in two levels: each source in turn gives up to [`SOURCE_QUANTUM_BYTES`], each
//! of its streams in turn up to [`STREAM_QUANTUM_BYTES`]. So the one line of a quiet file is in the next batch, however
//! many megabytes of a busy one came first, and ten thousand files are one source beside journald. Within a stream
//! blocks keep their order.

use std::collections::{HashMap, HashSet, VecDeque};
use std::time::Duration;

use edgelogger_common::stream::StreamId;

use super::BatchSize;
use crate::flow::SourceBlock;

/// What a source gives before it is the next one's turn: 16 of them share a batch of the default size.
const SOURCE_QUANTUM_BYTES: usize = 64 << 10;
/// What a stream gives before it is the next one's turn within its source.
const STREAM_QUANTUM_BYTES: usize = 16 << 10;

#[derive(Debug, Default)]
pub(super) struct Pot {
    sources: VecDeque<Source>,
    bytes: usize,
    blocks: usize,
    records: u64,
    oldest_at: Option<Duration>,
}

/// The streams of one source that have blocks here, in turn.
#[derive(Debug)]
struct Source {
    number: u32,
    /// Each block with when it came.
    streams: HashMap<StreamId, VecDeque<(Duration, SourceBlock)>>,
    turn: VecDeque<StreamId>,
}

impl Pot {
    pub(super) fn push(&mut self, block: SourceBlock, now: Duration) {
        self.bytes += block.block.encoded_len();
        self.blocks += 1;
        self.records += u64::from(block.block.header.record_count);
        self.oldest_at.get_or_insert(now);
        let number = block.credit.source_number();
        let at = self.sources.iter().position(|source| source.number == number);
        let at = at.unwrap_or_else(|| {
            self.sources.push_back(Source {
                number,
                streams: HashMap::new(),
                turn: VecDeque::new(),
            });
            self.sources.len() - 1
        });
        self.sources[at].push(block, now);
    }

    pub(super) const fn blocks(&self) -> usize {
        self.blocks
    }

    pub(super) const fn bytes(&self) -> usize {
        self.bytes
    }

    /// When the block came that waits longest.
    pub(super) const fn oldest_at(&self) -> Option<Duration> {
        self.oldest_at
    }

    pub(super) fn holds(&self, stream_id: &StreamId) -> bool {
        self.sources
            .iter()
            .any(|source| source.streams.contains_key(stream_id))
    }

    pub(super) const fn fills(&self, size: &BatchSize) -> bool {
        self.bytes >= size.bytes_max || self.blocks >= size.blocks_max || self.records >= size.records_max
    }

    /// Takes what came at `until` or before, each stream's blocks in order.
    pub(super) fn take_old(&mut self, until: Duration) -> Vec<(Duration, SourceBlock)> {
        let mut old = Vec::new();
        for source in &mut self.sources {
            source.give_old(until, &mut old);
        }
        self.was_taken(&old);
        old
    }

    /// Takes what came of these streams at `until` or before, about `bytes_max` of it; each stream's blocks in order.
    pub(super) fn take_of(
        &mut self,
        streams: &HashSet<StreamId>,
        until: Duration,
        bytes_max: usize,
    ) -> Vec<(Duration, SourceBlock)> {
        let (mut taken, mut bytes) = (Vec::new(), 0);
        for source in &mut self.sources {
            source.give_of(
                streams,
                until,
                |len| {
                    let has_room = bytes < bytes_max;
                    bytes += len;
                    has_room
                },
                &mut taken,
            );
        }
        self.was_taken(&taken);
        taken
    }

    fn was_taken(&mut self, taken: &[(Duration, SourceBlock)]) {
        self.sources.retain(|source| !source.turn.is_empty());
        for (_, block) in taken {
            self.bytes -= block.block.encoded_len();
            self.blocks -= 1;
            self.records -= u64::from(block.block.header.record_count);
        }
        self.look_for_oldest();
    }

    fn look_for_oldest(&mut self) {
        let streams = self.sources.iter().flat_map(|source| source.streams.values());
        let fronts = streams.filter_map(|queue| queue.front());
        self.oldest_at = fronts.map(|(since, _)| *since).min();
    }

    /// Takes one batch: each stream's blocks next to each other. Empty only where the pot is.
    pub(super) fn take(&mut self, size: &BatchSize) -> Vec<SourceBlock> {
        let mut batch = Batch::new(size);
        while let Some(mut source) = self.sources.pop_front() {
            let full = source.give(&mut batch);
            if !source.turn.is_empty() {
                self.sources.push_back(source);
            }
            if full {
                break;
            }
        }
        self.bytes -= batch.bytes;
        self.blocks -= batch.count;
        self.records -= batch.records;
        self.look_for_oldest();
        batch.in_order()
    }
}

impl Source {
    fn give_old(&mut self, until: Duration, old: &mut Vec<(Duration, SourceBlock)>) {
        for stream_id in &self.turn {
            if let Some(queue) = self.streams.get_mut(stream_id) {
                let younger = queue.partition_point(|(since, _)| *since <= until);
                old.extend(queue.drain(..younger));
            }
        }
        self.forget_empty();
    }

    fn give_of(
        &mut self,
        streams: &HashSet<StreamId>,
        until: Duration,
        mut has_room: impl FnMut(usize) -> bool,
        taken: &mut Vec<(Duration, SourceBlock)>,
    ) {
        for stream_id in self.turn.iter().filter(|stream_id| streams.contains(stream_id)) {
            let Some(queue) = self.streams.get_mut(stream_id) else {
                continue;
            };
            while let Some((since, block)) = queue.front()
                && *since <= until
                && has_room(block.block.encoded_len())
            {
                taken.extend(queue.pop_front());
            }
        }
        self.forget_empty();
    }

    fn forget_empty(&mut self) {
        self.streams.retain(|_, queue| !queue.is_empty());
        self.turn.retain(|stream_id| self.streams.contains_key(stream_id));
    }

    fn push(&mut self, block: SourceBlock, now: Duration) {
        let stream_id = block.block.header.stream_id;
        let queue = self.streams.entry(stream_id).or_default();
        if queue.is_empty() {
            self.turn.push_back(stream_id);
        }
        queue.push_back((now, block));
    }

    /// Gives its quantum; `true` when the batch is full.
    fn give(&mut self, batch: &mut Batch<'_>) -> bool {
        let mut given = 0;
        while given < SOURCE_QUANTUM_BYTES
            && let Some(stream_id) = self.turn.pop_front()
        {
            let Some(queue) = self.streams.get_mut(&stream_id) else {
                continue;
            };
            let mut from_stream = 0;
            let mut full = false;
            while from_stream < STREAM_QUANTUM_BYTES
                && let Some((_, block)) = queue.front()
            {
                let len = block.block.encoded_len();
                full = !batch.has_room_for(block, len);
                if full {
                    break;
                }
                from_stream += len;
                if let Some((_, block)) = queue.pop_front() {
                    batch.push(block, len);
                }
            }
            given += from_stream;
            if queue.is_empty() {
                self.streams.remove(&stream_id);
            } else if full {
                // It was not served to the end: it is first next time.
                self.turn.push_front(stream_id);
            } else {
                self.turn.push_back(stream_id);
            }
            if full {
                return true;
            }
        }
        false
    }
}

/// A batch in the making.
struct Batch<'a> {
    size: &'a BatchSize,
    /// By stream, in the order in which streams first gave something.
    streams: Vec<Vec<SourceBlock>>,
    index: HashMap<StreamId, usize>,
    bytes: usize,
    count: usize,
    records: u64,
}

impl<'a> Batch<'a> {
    fn new(size: &'a BatchSize) -> Self {
        Self {
            size,
            streams: Vec::new(),
            index: HashMap::new(),
            bytes: 0,
            count: 0,
            records: 0,
        }
    }

    /// The first block always has room: one that is larger than a batch goes alone.
    fn has_room_for(&self, block: &SourceBlock, len: usize) -> bool {
        self.count == 0
            || self.bytes + len <= self.size.bytes_max
                && self.count < self.size.blocks_max
                && self.records + u64::from(block.block.header.record_count) <= self.size.records_max
    }

    fn push(&mut self, block: SourceBlock, len: usize) {
        self.bytes += len;
        self.count += 1;
        self.records += u64::from(block.block.header.record_count);
        let at = *self.index.entry(block.block.header.stream_id).or_insert_with(|| {
            self.streams.push(Vec::new());
            self.streams.len() - 1
        });
        self.streams[at].push(block);
    }

    fn in_order(self) -> Vec<SourceBlock> {
        let mut blocks = Vec::with_capacity(self.count);
        self.streams.into_iter().for_each(|stream| blocks.extend(stream));
        blocks
    }
}
