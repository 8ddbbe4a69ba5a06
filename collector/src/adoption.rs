//! What an agent whose state is lost may go on with: the open files of its machine, and what is stored of each.
//!
//! The agent compares all of it with the files before it believes anything. What is told here must only be true of the
//! machine that asks: a clone with the same token has another mark and is told nothing.

use edgelogger_common::stream::StreamId;
use edgelogger_proto::v1::{RangeCheck, SourceKind, StoredStream};
use edgelogger_store::{EmbeddedStore, StreamState};
use prost::Message as _;

/// Streams in an answer, the youngest first: more files than this are open on no machine that is not in trouble.
const STREAMS_MAX: usize = 8192;
/// Length of an answer in bytes; beyond, the oldest are left out and collected again. Agents take 16 MiB.
const ANSWER_BYTES_MAX: usize = 4 << 20;

/// The answer to a Hello with `adopt_machine_mark`.
#[must_use]
pub fn stored_streams(store: &EmbeddedStore, agent: &str, mark: &[u8]) -> Vec<StoredStream> {
    let mut streams: Vec<_> = store
        .streams()
        .into_iter()
        .filter(|(_, state)| state.machine_id == agent && state.is_of_machine(mark) && is_open_file(state))
        .collect();
    streams.sort_by_key(|(_, state)| std::cmp::Reverse(state.opened_ns));
    let mut bytes = 0;
    streams
        .into_iter()
        .take(STREAMS_MAX)
        .map(|(id, state)| stored(id, &state))
        .take_while(|stored| {
            bytes += stored.encoded_len();
            bytes <= ANSWER_BYTES_MAX
        })
        .collect()
}

fn is_open_file(state: &StreamState) -> bool {
    state.kind == i32::from(SourceKind::File)
        && !state.counts_records
        && state.end.is_none()
        && state.applied_upto() > state.start
}

fn stored(id: StreamId, state: &StreamState) -> StoredStream {
    let upto = state.applied_upto();
    let checks = state.checks.iter().filter(|check| check.range.end <= upto);
    StoredStream {
        stream_id: id.to_proto(),
        name: state.source.clone(),
        start: state.start,
        stored_upto: upto,
        checks: checks
            .map(|check| RangeCheck {
                start: check.range.start,
                end: check.range.end,
                crc32c: check.crc32c,
            })
            .collect(),
        opened_time_ns: state.opened_ns,
    }
}
