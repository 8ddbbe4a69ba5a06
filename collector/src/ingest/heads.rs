//! What agents last said of the heads of their streams. Kept when they disconnect, so that the ledger can say what was
//! pending when a machine fell silent.

use std::collections::HashMap;
use std::sync::Arc;

use edgelogger_common::stream::StreamId;
use edgelogger_proto::v1::StreamHead;
use parking_lot::Mutex;

use super::known::KNOWN_STREAMS_MAX;

/// The head of one stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Head {
    /// Every position below was read.
    pub read: u64,
    /// The end of the source as the agent last saw it.
    pub size: u64,
    /// When the agent said so, by the collector's clock, ns UTC.
    pub told_ns: i64,
}

/// Of all streams. Those that were told least recently are forgotten.
#[derive(Debug, Default)]
pub struct Heads(Mutex<HashMap<(Arc<str>, StreamId), Head>>);

impl Heads {
    /// An agent said it.
    pub fn told(&self, agent: &Arc<str>, heads: &[StreamHead], now_ns: i64) {
        let mut table = self.0.lock();
        for head in heads {
            let Ok(stream_id) = StreamId::try_from(head.stream_id.as_ref()) else {
                continue;
            };
            let told = Head {
                read: head.read,
                size: head.size,
                told_ns: now_ns,
            };
            table.insert((Arc::clone(agent), stream_id), told);
        }
        if table.len() > KNOWN_STREAMS_MAX {
            let mut times: Vec<i64> = table.values().map(|head| head.told_ns).collect();
            times.sort_unstable();
            let oldest = times[times.len() / 4];
            table.retain(|_, head| head.told_ns > oldest);
        }
    }

    /// The last word on a stream.
    #[must_use]
    pub fn of(&self, agent: &Arc<str>, stream_id: StreamId) -> Option<Head> {
        self.0.lock().get(&(Arc::clone(agent), stream_id)).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(number: usize, size: u64) -> StreamHead {
        let mut id = [0; 16];
        id[..8].copy_from_slice(&number.to_be_bytes());
        StreamHead {
            stream_id: StreamId::from_bytes(id).to_proto(),
            size,
            ..StreamHead::default()
        }
    }

    #[test]
    fn the_last_word_counts_and_the_oldest_are_forgotten() {
        let heads = Heads::default();
        let agent: Arc<str> = "a".into();
        heads.told(&agent, &[head(1, 10)], 1);
        heads.told(&agent, &[head(1, 20), head(2, 5)], 2);
        let of = |number: usize| {
            heads.of(
                &agent,
                StreamId::try_from(&head(number, 0).stream_id[..]).unwrap(),
            )
        };
        assert_eq!(
            of(1),
            Some(Head {
                read: 0,
                size: 20,
                told_ns: 2
            })
        );
        for number in 3..=KNOWN_STREAMS_MAX + 3 {
            heads.told(&agent, &[head(number, 1)], i64::try_from(number).unwrap());
        }
        assert_eq!(of(1), None);
        assert!(of(KNOWN_STREAMS_MAX + 3).is_some());
    }
}
