//! What agents last said of the heads of their streams, through a restart: without it nobody could tell what a machine
//! had that fell silent before. Written at most every 30 s, and when the collector stops; only heads of streams of which
//! something is missing.
//!
//! ```text
//! edgelogger-heads 1 crc32c=89abcdef bytes=123\n
//! {"machine-17":[["<stream id>",read,size,acked,other_log_upto,oldest_unacked_ns,told_ns],…],…}
//! ```

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use edgelogger_common::stream::StreamId;
use edgelogger_store::EmbeddedStore;

use crate::ingest::{Head, IngestContext};
use crate::kept_file::{Kept, KeptFile};

/// Heads of streams that the store does not know are kept for a day: it may be behind.
const UNKNOWN_KEPT_NS: i64 = 86_400 * 1_000_000_000;

type Row = (String, u64, u64, u64, u64, i64, i64);
type KeptHead = (Arc<str>, StreamId, Head);

/// Keeps the file.
pub type HeadsFile = KeptFile<KeptHeads>;

/// The heads of streams of which something is missing.
pub struct KeptHeads {
    /// What is stored.
    pub store: Arc<EmbeddedStore>,
    /// What agents said.
    pub ingest: Arc<IngestContext>,
}

impl Kept for KeptHeads {
    const MAGIC: &'static str = "edgelogger-heads";
    const VERSION: u64 = 1;
    /// 100,000 heads of 120 bytes, five times.
    const BYTES_MAX: u64 = 64 << 20;
    const INTERVAL: Duration = Duration::from_secs(30);
    const SUBJECT: &'static str = "heads of streams";

    fn version(&self) -> u64 {
        self.ingest.heads.version()
    }

    fn body(&self) -> Vec<u8> {
        let all = self.ingest.heads.all();
        let asked: Vec<_> = all
            .iter()
            .map(|(agent, id, _)| (Arc::clone(agent), *id))
            .collect();
        let states = self.store.streams_of(&asked);
        let lately_ns = self.ingest.clock.wall_ns().saturating_sub(UNKNOWN_KEPT_NS);
        let missing = all
            .into_iter()
            .zip(states)
            .filter(|((_, _, head), state)| match state {
                Some(state) => head.size.max(head.read) > state.applied_upto(),
                // The store does not know it yet, or does not know it any more.
                None => head.told_ns > lately_ns,
            });
        encode(missing.map(|(kept, _)| kept))
    }

    fn restore(&self, body: &[u8]) -> Result<(), String> {
        self.ingest.heads.restore(parse(body)?);
        Ok(())
    }
}

fn encode(heads: impl Iterator<Item = KeptHead>) -> Vec<u8> {
    let mut machines: BTreeMap<String, Vec<Row>> = BTreeMap::new();
    for (agent, id, head) in heads {
        machines.entry(agent.to_string()).or_default().push((
            id.to_string(),
            head.read,
            head.size,
            head.acked,
            head.other_log_upto,
            head.oldest_unacked_ns,
            head.told_ns,
        ));
    }
    // Maps of numbers and text always have a form.
    serde_json::to_vec(&machines).unwrap_or_default()
}

fn parse(body: &[u8]) -> Result<Vec<KeptHead>, String> {
    let machines: BTreeMap<String, Vec<Row>> =
        serde_json::from_slice(body).map_err(|error| error.to_string())?;
    let mut kept = Vec::new();
    for (machine, rows) in machines {
        let agent: Arc<str> = machine.into();
        for (id, read, size, acked, other_log_upto, oldest_unacked_ns, told_ns) in rows {
            let stream_id = id.parse().map_err(|error| format!("{error}"))?;
            let head = Head {
                read,
                size,
                acked,
                other_log_upto,
                oldest_unacked_ns,
                told_ns,
            };
            kept.push((Arc::clone(&agent), stream_id, head));
        }
    }
    Ok(kept)
}

#[cfg(test)]
mod tests {
    use edgelogger_common::stamped::stamp;
    use proptest::prelude::*;

    use super::*;

    fn kept(machine: &str, number: u8, size: u64) -> KeptHead {
        let head = Head {
            read: size / 2,
            size,
            acked: 7,
            other_log_upto: 3,
            oldest_unacked_ns: -5,
            told_ns: 1_795_262_400_000_000_000,
        };
        (machine.into(), StreamId::from_bytes([number; 16]), head)
    }

    proptest! {
        #[test]
        fn heads_read_back(rows in proptest::collection::btree_map(("[a-c\u{1b}\"]{1,3}", any::<u8>()), any::<u64>(), 0..20)) {
            let heads: Vec<KeptHead> = rows.iter().map(|((machine, number), size)| kept(machine, *number, *size)).collect();
            let mut read = parse(&encode(heads.clone().into_iter())).unwrap();
            read.sort_by_key(|(agent, id, _)| (agent.to_string(), *id));
            prop_assert_eq!(read, heads);
        }
    }

    #[test]
    fn the_bytes_of_version_1_stay() {
        let golden = "edgelogger-heads 1 crc32c=db6b5f2f bytes=78\n\
            {\"m1\":[[\"01010101010101010101010101010101\",10,20,7,3,-5,1795262400000000000]]}";
        let body = encode(std::iter::once(kept("m1", 1, 20)));
        let bytes = stamp(KeptHeads::MAGIC, KeptHeads::VERSION, &body);
        assert_eq!(String::from_utf8(bytes).unwrap(), golden);
    }
}
