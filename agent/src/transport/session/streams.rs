//! The streams that the transport speaks of.

use std::collections::HashMap;
use std::sync::Arc;

use edgelogger_common::stream::StreamId;
use edgelogger_proto::v1::{PositionUnit, StreamDescriptor};

#[derive(Debug)]
struct Stream {
    descriptor: Arc<StreamDescriptor>,
    /// The collector's log has it.
    is_announced: bool,
    /// Its StreamOpen is in the queue, or was sent in this session.
    is_open: bool,
    /// Blocks that are not acked.
    blocks: usize,
    /// The collector's log has its end.
    has_ended: bool,
}

#[derive(Debug, Default)]
pub(super) struct Streams(HashMap<StreamId, Stream>);

impl Streams {
    pub fn knows(&self, id: &StreamId) -> bool {
        self.0.contains_key(id)
    }

    /// A stream, or a new descriptor of one. It is to be announced.
    pub fn insert(&mut self, id: StreamId, descriptor: StreamDescriptor) {
        let descriptor = Arc::new(descriptor);
        match self.0.get_mut(&id) {
            Some(stream) => {
                (stream.descriptor, stream.is_announced, stream.is_open) = (descriptor, false, false);
            }
            None => {
                let (is_announced, is_open, has_ended) = (false, false, false);
                self.0.insert(
                    id,
                    Stream {
                        descriptor,
                        is_announced,
                        is_open,
                        blocks: 0,
                        has_ended,
                    },
                );
            }
        }
    }

    pub fn descriptor(&self, id: &StreamId) -> Option<Arc<StreamDescriptor>> {
        self.0.get(id).map(|stream| Arc::clone(&stream.descriptor))
    }

    pub fn counts_records(&self, id: &StreamId) -> bool {
        self.0
            .get(id)
            .is_some_and(|stream| stream.descriptor.unit() == PositionUnit::Record)
    }

    /// Must it be opened before it is spoken of? It counts as opened from now on.
    pub fn open_now(&mut self, id: &StreamId) -> bool {
        self.0
            .get_mut(id)
            .is_some_and(|stream| !std::mem::replace(&mut stream.is_open, true))
    }

    pub fn announced(&mut self, id: &StreamId) {
        if let Some(stream) = self.0.get_mut(id) {
            stream.is_announced = true;
        }
    }

    /// A new session begins. A new log: it knows none of our streams.
    pub fn restart(&mut self, is_new_log: bool) {
        for stream in self.0.values_mut() {
            stream.is_open = false;
            stream.is_announced &= !is_new_log;
        }
    }

    /// By id, so that a session says the same things in the same order each time it is simulated.
    pub fn unannounced(&self) -> Vec<StreamId> {
        let missing = self
            .0
            .iter()
            .filter(|(_, stream)| !stream.is_announced && !stream.is_open);
        let mut missing: Vec<StreamId> = missing.map(|(id, _)| *id).collect();
        missing.sort_unstable();
        missing
    }

    pub fn block_queued(&mut self, id: &StreamId) {
        if let Some(stream) = self.0.get_mut(id) {
            stream.blocks += 1;
        }
    }

    /// A block is done; is with it the whole stream?
    pub fn block_done(&mut self, id: &StreamId) -> bool {
        let Some(stream) = self.0.get_mut(id) else {
            return false;
        };
        stream.blocks = stream.blocks.saturating_sub(1);
        self.forget_if_done(id)
    }

    /// The end is acked; is with it the whole stream? A rejected block may come behind it.
    pub fn end_done(&mut self, id: &StreamId) -> bool {
        let Some(stream) = self.0.get_mut(id) else {
            return false;
        };
        stream.has_ended = true;
        self.forget_if_done(id)
    }

    fn forget_if_done(&mut self, id: &StreamId) -> bool {
        let is_done = self
            .0
            .get(id)
            .is_some_and(|stream| stream.has_ended && stream.blocks == 0);
        is_done && self.0.remove(id).is_some()
    }
}
