//! Which heads of streams a heartbeat tells: those that changed, a bounded number at a time.

use std::collections::HashMap;

use bytes::Bytes;
use edgelogger_proto::v1::StreamHead;

/// Heads in one heartbeat: 40 KiB. The others follow with the next.
const HEADS_MAX: usize = 1024;

/// What the collector was told in this session.
#[derive(Debug, Default)]
pub(super) struct Heads {
    told: HashMap<Bytes, Told>,
    /// Counts.
    heartbeat: u64,
}

#[derive(Debug)]
struct Told {
    values: (u64, u64, u64),
    heartbeat: u64,
}

const fn values(head: &StreamHead) -> (u64, u64, u64) {
    (head.acked, head.read, head.size)
}

impl Heads {
    /// A new session: it was told nothing.
    pub fn clear(&mut self) {
        self.told.clear();
    }

    /// The heads to tell now.
    pub fn changed(&mut self, heads: Vec<StreamHead>) -> Vec<StreamHead> {
        if self.told.len() > heads.len() {
            let open: std::collections::HashSet<&Bytes> = heads.iter().map(|head| &head.stream_id).collect();
            self.told.retain(|id, _| open.contains(id));
        }
        let mut changed: Vec<StreamHead> = heads
            .into_iter()
            .filter(|head| self.told(head).is_none_or(|told| told.values != values(head)))
            .collect();
        // Those that waited longest come first.
        changed.sort_by_key(|head| self.told(head).map(|told| told.heartbeat));
        changed.truncate(HEADS_MAX);
        self.heartbeat += 1;
        for head in &changed {
            let told = Told {
                values: values(head),
                heartbeat: self.heartbeat,
            };
            self.told.insert(head.stream_id.clone(), told);
        }
        changed
    }

    fn told(&self, head: &StreamHead) -> Option<&Told> {
        self.told.get(&head.stream_id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(number: u32, acked: u64) -> StreamHead {
        StreamHead {
            stream_id: number.to_le_bytes().repeat(4).into(),
            acked,
            read: 5,
            size: 9,
            ..StreamHead::default()
        }
    }

    #[test]
    fn a_heartbeat_tells_only_what_changed() {
        let mut heads = Heads::default();
        assert_eq!(heads.changed(vec![head(1, 0), head(2, 0)]).len(), 2);
        assert_eq!(heads.changed(vec![head(1, 0), head(2, 3)]), [head(2, 3)]);
        assert_eq!(heads.changed(vec![head(2, 3)]), []);
        assert_eq!(heads.changed(vec![head(1, 0), head(2, 3)]), [head(1, 0)]);
        heads.clear();
        assert_eq!(heads.changed(vec![head(2, 3)]).len(), 1);
    }

    #[test]
    fn many_streams_are_told_in_several_heartbeats() {
        let mut heads = Heads::default();
        let all: Vec<StreamHead> = (0..3000).map(|number| head(number, 0)).collect();
        let told: Vec<usize> = (0..4).map(|_| heads.changed(all.clone()).len()).collect();
        assert_eq!(told, [1024, 1024, 952, 0]);
    }

    #[test]
    fn streams_that_always_change_do_not_keep_others_from_being_told() {
        let mut heads = Heads::default();
        let mut told = std::collections::HashSet::new();
        for round in 1..=3 {
            let all: Vec<StreamHead> = (0..3000).map(|number| head(number, round)).collect();
            told.extend(heads.changed(all).into_iter().map(|head| head.stream_id));
        }
        assert_eq!(told.len(), 3000);
    }
}
