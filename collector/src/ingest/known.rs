//! What is durable of which stream, as far as it is remembered: a hint that lets an agent whose checkpoint is behind
//! skip what it need not send again. Sinks are the authority; here forgetting is always allowed, inventing never.
//!
//! A stream enters when it is opened while this process runs, and its ranges once they are durable, so "every position
//! below is durable" holds from the stream's first position on. Streams that were used least recently are forgotten.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;

use edgelogger_common::range_set::RangeSet;
use edgelogger_common::stream::StreamId;
use edgelogger_proto::v1::{self, StreamDescriptor, StreamHead, StreamKnown};
use parking_lot::Mutex;

use crate::flow::Claim;

/// Streams remembered: about 400 bytes each.
pub const KNOWN_STREAMS_MAX: usize = 100_000;

#[derive(Debug)]
struct Known {
    descriptor: Arc<StreamDescriptor>,
    ranges: RangeSet,
    used: u64,
}

/// All streams.
#[derive(Debug, Default)]
pub struct KnownStreams {
    table: Mutex<Table>,
}

#[derive(Debug, Default)]
struct Table {
    streams: HashMap<(Arc<str>, StreamId), Known>,
    clock: u64,
}

impl KnownStreams {
    /// A stream of an agent was opened, or opened again. It is not durable yet.
    pub fn opened(&self, agent: &Arc<str>, descriptor: Arc<StreamDescriptor>) {
        let Ok(stream_id) = StreamId::try_from(descriptor.stream_id.as_ref()) else {
            return;
        };
        let mut table = self.table.lock();
        table.clock += 1;
        let used = table.clock;
        let fresh = Known {
            descriptor: Arc::clone(&descriptor),
            ranges: RangeSet::default(),
            used,
        };
        let known = table
            .streams
            .entry((Arc::clone(agent), stream_id))
            .or_insert(fresh);
        (known.descriptor, known.used) = (descriptor, used);
        if table.streams.len() > KNOWN_STREAMS_MAX {
            table.forget_a_quarter();
        }
    }

    /// Positions of a stream became durable.
    pub fn durable(&self, agent: &Arc<str>, stream_id: StreamId, range: Range<u64>) {
        let mut table = self.table.lock();
        if let Some(known) = table.streams.get_mut(&(Arc::clone(agent), stream_id)) {
            // A set that is full forgets: the range is sent again, and sinks recognise it.
            let _ = known.ranges.insert(range);
        }
    }

    /// What is durable of a stream, as far as it is remembered.
    #[must_use]
    pub fn durable_ranges(&self, agent: &Arc<str>, stream_id: StreamId) -> Vec<Range<u64>> {
        let table = self.table.lock();
        let known = table.streams.get(&(Arc::clone(agent), stream_id));
        known.map_or_else(Vec::new, |known| known.ranges.iter().collect())
    }

    /// What this process made durable, as far as it is remembered.
    #[must_use]
    pub fn claims(&self) -> Vec<Claim> {
        let table = self.table.lock();
        let claim = |((agent, stream_id), known): (&(Arc<str>, StreamId), &Known)| Claim {
            agent: Arc::clone(agent),
            stream_id: *stream_id,
            ranges: known.ranges.iter().collect(),
            other_log_upto: 0,
        };
        table.streams.iter().map(claim).collect()
    }

    /// What Welcome says of the streams of a Hello, in its order, and the descriptors of those that are known.
    #[must_use]
    pub fn answer(
        &self,
        agent: &Arc<str>,
        heads: &[StreamHead],
    ) -> (Vec<StreamKnown>, Vec<Arc<StreamDescriptor>>) {
        let table = self.table.lock();
        let mut descriptors = Vec::new();
        let mut answer = |head: &StreamHead| {
            let stream_id = StreamId::try_from(head.stream_id.as_ref()).ok();
            let known = stream_id.and_then(|id| table.streams.get(&(Arc::clone(agent), id)));
            let Some(known) = known else {
                return StreamKnown {
                    stream_id: head.stream_id.clone(),
                    ..Default::default()
                };
            };
            descriptors.push(Arc::clone(&known.descriptor));
            let durable = known.ranges.contiguous_from(known.descriptor.start);
            let above = known.ranges.iter().filter(|range| range.start > durable);
            let above = above
                .map(|range| v1::Range {
                    start: range.start,
                    end: range.end,
                })
                .collect();
            StreamKnown {
                stream_id: head.stream_id.clone(),
                known: true,
                durable,
                above,
            }
        };
        let answers = heads.iter().map(&mut answer).collect();
        (answers, descriptors)
    }
}

impl Table {
    fn forget_a_quarter(&mut self) {
        let mut used: Vec<u64> = self.streams.values().map(|known| known.used).collect();
        used.sort_unstable();
        let oldest = used.get(used.len() / 4).copied().unwrap_or(0);
        self.streams.retain(|_, known| known.used > oldest);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const STREAM: StreamId = StreamId::from_bytes([3; 16]);

    fn opened(start: u64) -> (KnownStreams, Arc<str>) {
        let (known, agent) = (KnownStreams::default(), Arc::from("a"));
        let descriptor = StreamDescriptor {
            stream_id: STREAM.to_proto(),
            start,
            ..Default::default()
        };
        known.opened(&agent, Arc::new(descriptor));
        (known, agent)
    }

    fn ask(known: &KnownStreams, agent: &str) -> StreamKnown {
        let head = StreamHead {
            stream_id: STREAM.to_proto(),
            ..Default::default()
        };
        known.answer(&Arc::from(agent), &[head]).0.remove(0)
    }

    #[test]
    fn a_stream_is_known_to_its_own_agent_only() {
        let (known, _) = opened(0);
        assert!(ask(&known, "a").known);
        assert!(!ask(&known, "b").known);
    }

    #[test]
    fn ranges_join_when_the_gap_closes() {
        let (known, agent) = opened(10);
        known.durable(&agent, STREAM, 20..30);
        known.durable(&agent, STREAM, 40..50);
        assert_eq!(ask(&known, "a").durable, 10);
        assert_eq!(ask(&known, "a").above.len(), 2);
        known.durable(&agent, STREAM, 10..20);
        assert_eq!(ask(&known, "a").durable, 30);
        known.durable(&agent, STREAM, 30..40);
        assert_eq!((ask(&known, "a").durable, ask(&known, "a").above.len()), (50, 0));
    }

    proptest! {
        #[test]
        fn what_is_said_to_be_durable_was_made_so(ranges in proptest::collection::vec((0u64..200, 1u64..20), 0..60)) {
            let (known, agent) = opened(0);
            let mut model = [false; 256];
            for (start, len) in ranges {
                known.durable(&agent, STREAM, start..start + len);
                model[usize::try_from(start).unwrap()..usize::try_from(start + len).unwrap()].fill(true);
            }
            let said = ask(&known, "a");
            let is_said = |at: u64| at < said.durable || said.above.iter().any(|r| (r.start..r.end).contains(&at));
            for (at, is_durable) in (0u64..).zip(model) {
                prop_assert_eq!(is_said(at), is_durable, "{}", at);
            }
        }
    }
}
