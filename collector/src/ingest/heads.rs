//! What agents last said of the heads of their streams. Kept when they disconnect, so that the ledger can say what was
//! pending when a machine fell silent.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use edgelogger_common::stream::StreamId;
use edgelogger_proto::v1::StreamHead;
use parking_lot::Mutex;

use super::known::KNOWN_STREAMS_MAX;
use crate::flow::Claim;

/// The head of one stream.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Head {
    /// Every position below was read.
    pub read: u64,
    /// The end of the source as the agent last saw it.
    pub size: u64,
    /// Every position below is acknowledged, as far as the agent knows.
    pub acked: u64,
    /// What of that another log than this one acknowledged.
    pub other_log_upto: u64,
    /// When the oldest position that is not acknowledged was first seen by the agent, by the collector's clock, ns UTC;
    /// 0 where there is none, or nobody knows.
    pub oldest_unacked_ns: i64,
    /// When the agent said so, by the collector's clock, ns UTC.
    pub told_ns: i64,
}

/// Of all streams. Those that were told least recently are forgotten.
#[derive(Debug, Default)]
pub struct Heads {
    table: Mutex<HashMap<(Arc<str>, StreamId), Head>>,
    version: AtomicU64,
}

impl Heads {
    /// An agent said it, in a heartbeat.
    pub fn told(&self, agent: &Arc<str>, heads: &[StreamHead], now_ns: i64) {
        self.put(agent, heads, false, now_ns);
    }

    /// An agent said it in its Hello; `of_other_log`: the last log it spoke to was another one.
    pub fn greeted(&self, agent: &Arc<str>, heads: &[StreamHead], of_other_log: bool, now_ns: i64) {
        self.put(agent, heads, of_other_log, now_ns);
    }

    fn put(&self, agent: &Arc<str>, heads: &[StreamHead], of_other_log: bool, now_ns: i64) {
        let mut table = self.table.lock();
        for head in heads {
            let Ok(stream_id) = StreamId::try_from(head.stream_id.as_ref()) else {
                continue;
            };
            let known = table.entry((Arc::clone(agent), stream_id)).or_default();
            if of_other_log {
                known.other_log_upto = head.acked;
            }
            (known.read, known.size, known.acked) = (head.read, head.size, head.acked);
            known.told_ns = now_ns;
            known.oldest_unacked_ns = first_seen_ns(head, now_ns);
        }
        self.version.fetch_add(1, Ordering::Relaxed);
        if table.len() > KNOWN_STREAMS_MAX {
            let mut times: Vec<i64> = table.values().map(|head| head.told_ns).collect();
            times.sort_unstable();
            let oldest = times[times.len() / 4];
            table.retain(|_, head| head.told_ns > oldest);
        }
    }

    /// All of them, to be kept.
    #[must_use]
    pub fn all(&self) -> Vec<(Arc<str>, StreamId, Head)> {
        let table = self.table.lock();
        let row = |((agent, id), head): (&(Arc<str>, StreamId), &Head)| (Arc::clone(agent), *id, *head);
        table.iter().map(row).collect()
    }

    /// What was kept of an earlier process. What agents have said since stands.
    pub fn restore(&self, kept: Vec<(Arc<str>, StreamId, Head)>) {
        let mut table = self.table.lock();
        for (agent, stream_id, head) in kept {
            table.entry((agent, stream_id)).or_insert(head);
        }
        self.version.fetch_add(1, Ordering::Relaxed);
    }

    /// The last word on a stream.
    #[must_use]
    pub fn of(&self, agent: &Arc<str>, stream_id: StreamId) -> Option<Head> {
        self.table.lock().get(&(Arc::clone(agent), stream_id)).copied()
    }

    /// Grows with every word.
    #[must_use]
    pub fn version(&self) -> u64 {
        self.version.load(Ordering::Relaxed)
    }

    /// What agents know to be acknowledged.
    #[must_use]
    pub fn claims(&self) -> Vec<Claim> {
        let table = self.table.lock();
        let acked = table.iter().filter(|(_, head)| head.acked > 0);
        let claim = |((agent, stream_id), head): (&(Arc<str>, StreamId), &Head)| Claim {
            agent: Arc::clone(agent),
            stream_id: *stream_id,
            ranges: std::iter::once(0..head.acked).collect(),
            other_log_upto: head.other_log_upto,
        };
        acked.map(claim).collect()
    }
}

/// An agent tells an age, because its clock may be wrong.
fn first_seen_ns(head: &StreamHead, now_ns: i64) -> i64 {
    match i64::try_from(head.oldest_unacked_age_ms) {
        Ok(0) | Err(_) => 0,
        Ok(age_ms) => now_ns.saturating_sub(age_ms.saturating_mul(1_000_000)),
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
    fn the_age_of_what_waits_counts_by_our_clock() {
        let heads = Heads::default();
        let agent: Arc<str> = "a".into();
        let waiting = |oldest_unacked_age_ms| StreamHead {
            oldest_unacked_age_ms,
            ..head(1, 9)
        };
        let since = || heads.all()[0].2.oldest_unacked_ns;
        heads.told(&agent, &[waiting(3)], 5_000_000);
        assert_eq!(since(), 2_000_000);
        heads.told(&agent, &[waiting(0)], 6_000_000);
        assert_eq!(since(), 0);
    }

    #[test]
    fn what_another_log_acknowledged_is_kept_in_mind() {
        let heads = Heads::default();
        let agent: Arc<str> = "a".into();
        let acked = |acked| StreamHead {
            acked,
            ..head(1, 100)
        };
        heads.greeted(&agent, &[acked(30)], true, 1);
        heads.told(&agent, &[acked(50), head(2, 100)], 2);
        heads.greeted(&agent, &[acked(60)], false, 3);
        let claims = heads.claims();
        assert_eq!(
            claims.len(),
            1,
            "a stream of which nothing is acknowledged claims nothing"
        );
        assert_eq!(
            (claims[0].ranges[0].clone(), claims[0].other_log_upto),
            (0..60, 30)
        );
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
                told_ns: 2,
                ..Head::default()
            })
        );
        for number in 3..=KNOWN_STREAMS_MAX + 3 {
            heads.told(&agent, &[head(number, 1)], i64::try_from(number).unwrap());
        }
        assert_eq!(of(1), None);
        assert!(of(KNOWN_STREAMS_MAX + 3).is_some());
    }
}
