//! What agents last said of the heads of their streams, through a restart: without it nobody could tell what a machine
//! had that fell silent before. Written at most every 30 s, and when the collector stops; only heads of streams of which
//! something is missing. It is a hint: one that can't be read is left behind, and agents tell it again.
//!
//! ```text
//! edgelogger-heads 1 crc32c=89abcdef bytes=123\n
//! {"machine-17":[["<stream id>",read,size,acked,other_log_upto,oldest_unacked_ns,told_ns],…],…}
//! ```

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use edgelogger_common::disk::{Disk, DiskError, atomic_replace, create_dir_all_durable, parent, read_file};
use edgelogger_common::error_code;
use edgelogger_common::stamped::{stamp, unstamp};
use edgelogger_common::stream::StreamId;
use edgelogger_store::EmbeddedStore;
use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;

use crate::health::Health;
use crate::ingest::{Head, IngestContext};

const MAGIC: &str = "edgelogger-heads";
const VERSION: u64 = 1;
/// 100,000 heads of 120 bytes, five times.
const BYTES_MAX: u64 = 64 << 20;
/// How often it is written at most.
const INTERVAL: Duration = Duration::from_secs(30);
/// Heads of streams that the store does not know are kept for a day: it may be behind.
const UNKNOWN_KEPT_NS: i64 = 86_400 * 1_000_000_000;
const SUBJECT: &str = "heads of streams";

type Row = (String, u64, u64, u64, u64, i64, i64);
type Kept = (Arc<str>, StreamId, Head);

/// Keeps the file.
pub struct HeadsFile {
    disk: Arc<dyn Disk>,
    path: PathBuf,
    store: Arc<EmbeddedStore>,
    ingest: Arc<IngestContext>,
    health: Arc<Health>,
    /// The version of the heads that was written last.
    written: Mutex<u64>,
}

impl std::fmt::Debug for HeadsFile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("HeadsFile")
            .field("path", &self.path)
            .finish_non_exhaustive()
    }
}

impl HeadsFile {
    /// Takes in what the file says. Blocks.
    #[must_use]
    pub fn open(
        disk: Arc<dyn Disk>,
        path: PathBuf,
        store: Arc<EmbeddedStore>,
        ingest: Arc<IngestContext>,
        health: Arc<Health>,
    ) -> Arc<Self> {
        match read_file(&*disk, &path, BYTES_MAX) {
            Ok(bytes) => match parse(&bytes) {
                Ok(kept) => ingest.heads.restore(kept),
                Err(problem) => tracing::warn!(
                    path = %path.display(),
                    "what agents said of their streams can't be used ({problem}); they will tell it again"
                ),
            },
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => tracing::warn!("{error}; agents will tell again where their streams end"),
        }
        let written = Mutex::new(ingest.heads.version());
        Arc::new(Self {
            disk,
            path,
            store,
            ingest,
            health,
            written,
        })
    }

    /// Writes from time to time, until told to stop.
    pub async fn run(self: Arc<Self>, stop: CancellationToken) {
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(INTERVAL) => {}
            }
            let file = Arc::clone(&self);
            if tokio::task::spawn_blocking(move || file.save()).await.is_err() {
                tracing::error!("keeping the heads of streams ended with a panic");
            }
        }
    }

    /// Writes, if something was told since it was written last. Blocks.
    pub fn save(&self) {
        let mut written = self.written.lock();
        let version = self.ingest.heads.version();
        if *written == version {
            return;
        }
        match self.write() {
            Ok(()) => {
                *written = version;
                self.health.clear(SUBJECT);
            }
            Err(error) => self.health.raise(SUBJECT, error_code::LOG_IO, error.to_string()),
        }
    }

    fn write(&self) -> Result<(), DiskError> {
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
        let bytes = encode(missing.map(|(kept, _)| kept));
        create_dir_all_durable(&*self.disk, parent(&self.path))?;
        atomic_replace(&*self.disk, &self.path, &bytes)
    }
}

fn encode(heads: impl Iterator<Item = Kept>) -> Vec<u8> {
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
    let body = serde_json::to_vec(&machines).unwrap_or_default();
    stamp(MAGIC, VERSION, &body)
}

fn parse(bytes: &[u8]) -> Result<Vec<Kept>, String> {
    let (_, body) = unstamp(MAGIC, VERSION, bytes).map_err(|error| error.to_string())?;
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
    use proptest::prelude::*;

    use super::*;

    fn kept(machine: &str, number: u8, size: u64) -> Kept {
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
            let heads: Vec<Kept> = rows.iter().map(|((machine, number), size)| kept(machine, *number, *size)).collect();
            let mut read = parse(&encode(heads.clone().into_iter())).unwrap();
            read.sort_by_key(|(agent, id, _)| (agent.to_string(), *id));
            prop_assert_eq!(read, heads);
        }
    }

    #[test]
    fn the_bytes_of_version_1_stay() {
        let golden = "edgelogger-heads 1 crc32c=db6b5f2f bytes=78\n\
            {\"m1\":[[\"01010101010101010101010101010101\",10,20,7,3,-5,1795262400000000000]]}";
        let bytes = encode(std::iter::once(kept("m1", 1, 20)));
        assert_eq!(String::from_utf8(bytes).unwrap(), golden);
    }

    #[test]
    fn damage_is_noticed() {
        let good = encode(std::iter::once(kept("m1", 1, 20)));
        for at in 0..good.len() {
            let mut bad = good.clone();
            bad[at] ^= 1;
            assert!(parse(&bad).is_err(), "byte {at}");
        }
    }
}
