//! Finds what was acknowledged and never came to the store, and says so.
//!
//! An agent does not send again what was acknowledged. So whatever it knows to be acknowledged, and the store does not
//! have once it has applied everything that the log held when the agent said so, is gone: damaged in the log, skipped,
//! put aside, or acknowledged by another log than this one. Nobody else would ever notice: where the log is damaged it
//! can't say whose positions were there.
//!
//! ```text
//! heads, durable ranges ──claims──> the log's end now ──> the store is there ──> claim - applied = write-off
//! ```

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use edgelogger_common::segment::LogView;
use edgelogger_common::stream::StreamId;
use edgelogger_proto::v1;
use edgelogger_store::{EmbeddedStore, LogGap, LogGapKind, StreamState, WriteOffReason};
use tokio_util::sync::CancellationToken;

use super::close::{descriptor, entry, submit};
use crate::flow::Claim;
use crate::ingest::IngestContext;

/// How often it is looked whether agents have told something new.
const INTERVAL: Duration = Duration::from_secs(2);
/// What is claimed of streams that the store has never heard of is looked at again after so many intervals: they may be
/// opened later, and nothing else would tell.
const LOOK_AGAIN_AFTER: u32 = 5;
/// Streams of one entry of the log.
const STREAMS_PER_ENTRY: usize = 256;

/// The work.
pub struct Settler {
    store: Arc<EmbeddedStore>,
    ingest: Arc<IngestContext>,
    log: LogView,
}

/// Claims that can be looked at once the store has come so far.
struct Round {
    claims: Vec<Claim>,
    log_end: u64,
}

/// Of the streams that something was claimed of.
#[derive(Clone, Copy)]
enum Known {
    /// The store has heard of all.
    All,
    /// Not yet of all.
    Some,
}

impl std::fmt::Debug for Settler {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Settler").finish_non_exhaustive()
    }
}

impl Settler {
    /// Of this store, and of what these sessions hear.
    #[must_use]
    pub const fn new(store: Arc<EmbeddedStore>, ingest: Arc<IngestContext>, log: LogView) -> Self {
        Self { store, ingest, log }
    }

    /// Looks from time to time, until told to stop.
    pub async fn run(self, stop: CancellationToken) {
        let mut seen = None;
        let mut round = None;
        let mut look_again_in: u32 = 0;
        let mut ticks = tokio::time::interval(INTERVAL);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                _ = ticks.tick() => {}
            }
            if look_again_in == 1 {
                seen = None;
            }
            look_again_in = look_again_in.saturating_sub(1);
            if round.is_none() {
                let news = (self.ingest.heads.version(), self.store.log_gaps().len());
                if seen != Some(news) {
                    round = Some(self.round());
                    seen = Some(news);
                }
            }
            if round
                .as_ref()
                .is_some_and(|round| self.store.cursor() < round.log_end)
            {
                continue;
            }
            let Some(done) = round.take() else { continue };
            match self.settle(&done.claims).await {
                Ok(Known::All) => {}
                Ok(Known::Some) => look_again_in = LOOK_AGAIN_AFTER,
                Err(problem) => {
                    tracing::debug!("what is missing can't be declared now: {problem}");
                    seen = None;
                }
            }
        }
    }

    /// Claims first, then the log's end: everything that is claimed lies below it.
    fn round(&self) -> Round {
        let mut claims = self.ingest.heads.claims();
        // What this process itself made durable is asked for only where entries are known to be gone: an agent that
        // died at once could not tell of it.
        if !self.store.log_gaps().is_empty() {
            claims.extend(self.ingest.known.claims());
        }
        Round {
            claims,
            log_end: self.log.durable_end(),
        }
    }

    async fn settle(&self, claims: &[Claim]) -> Result<Known, String> {
        let asked: Vec<(Arc<str>, StreamId)> = claims
            .iter()
            .map(|claim| (Arc::clone(&claim.agent), claim.stream_id))
            .collect();
        let states = self.store.streams_of(&asked);
        let known = if states.iter().all(Option::is_some) {
            Known::All
        } else {
            Known::Some
        };
        let mut missing: Vec<Missing<'_>> = claims
            .iter()
            .zip(states)
            .filter_map(|(claim, state)| {
                let state = state?;
                let ranges = unaccounted(claim, &state);
                (!ranges.is_empty()).then_some(Missing { claim, state, ranges })
            })
            .collect();
        if missing.is_empty() {
            return Ok(known);
        }
        self.except_of_other_names(&mut missing);
        let gaps = self.store.log_gaps();
        let now_ns = self.ingest.clock.wall_ns();
        for entry in declare(&missing, &gaps, now_ns) {
            tracing::warn!(
                machine = entry.machine_id,
                streams = entry.streams.len(),
                "positions were acknowledged and are not in the log; the ledger shows them as lost"
            );
            submit(&self.ingest, entry).await?;
        }
        Ok(known)
    }

    /// An agent that got another name goes on with the streams it had: what is stored under the old name is not missing.
    fn except_of_other_names(&self, missing: &mut Vec<Missing<'_>>) {
        let all = self.store.streams();
        for part in missing.iter_mut() {
            let is_other = |id, other: &StreamState| {
                id == part.claim.stream_id && other.machine_id != part.state.machine_id
            };
            for (_, other) in all.iter().filter(|(id, other)| is_other(*id, other)) {
                let left = part.ranges.iter().flat_map(|range| other.unaccounted(range));
                part.ranges = left.collect();
            }
        }
        missing.retain(|part| !part.ranges.is_empty());
    }
}

/// What somebody knows to be acknowledged, and is not in the store.
struct Missing<'a> {
    claim: &'a Claim,
    state: Arc<StreamState>,
    ranges: Vec<Range<u64>>,
}

/// What of a claim the store has nothing of.
fn unaccounted(claim: &Claim, state: &StreamState) -> Vec<Range<u64>> {
    let within = |range: &Range<u64>| range.start.max(state.start)..range.end;
    let ranges = claim.ranges.iter().map(within).filter(|range| !range.is_empty());
    ranges.flat_map(|range| state.unaccounted(&range)).collect()
}

/// Ranges of one stream, to be said in an entry.
type Part<'a> = (StreamId, &'a StreamState, Vec<v1::Range>);

/// The entries that say it: by machine and reason, each of a bounded size.
fn declare(missing: &[Missing<'_>], gaps: &[LogGap], now_ns: i64) -> Vec<v1::LogEntry> {
    let mut by_reason: BTreeMap<(&str, WriteOffReason), Vec<Part<'_>>> = BTreeMap::new();
    for part in missing {
        for (reason, ranges) in split(part.claim, &part.ranges, reason_of(gaps)) {
            let key = (part.state.machine_id.as_str(), reason);
            let said = (part.claim.stream_id, &*part.state, ranges);
            by_reason.entry(key).or_default().push(said);
        }
    }
    let mut entries = Vec::new();
    for ((machine, reason), streams) in by_reason {
        for streams in streams.chunks(STREAMS_PER_ENTRY) {
            let off = |(id, _, ranges): &Part<'_>| v1::StreamWriteOff {
                stream_id: id.to_proto(),
                ranges: ranges.clone(),
                closes: false,
                size: 0,
            };
            let write_off = v1::WriteOff {
                reason: reason.to_proto().into(),
                why: why(reason, gaps),
                declared_time_ns: now_ns,
                streams: streams.iter().map(off).collect(),
            };
            let described = streams
                .iter()
                .map(|(id, state, _)| descriptor(*id, state))
                .collect();
            entries.push(entry(machine, write_off, described));
        }
    }
    entries
}

/// What another log acknowledged, and the rest, which this one lost.
fn split(
    claim: &Claim,
    ranges: &[Range<u64>],
    here: WriteOffReason,
) -> impl Iterator<Item = (WriteOffReason, Vec<v1::Range>)> {
    let part = |least: u64, most: u64| -> Vec<v1::Range> {
        let cut = |range: &Range<u64>| v1::Range {
            start: range.start.max(least),
            end: range.end.min(most),
        };
        ranges
            .iter()
            .map(cut)
            .filter(|range| range.start < range.end)
            .collect()
    };
    let upto = claim.other_log_upto;
    let parts = [
        (WriteOffReason::OtherLog, part(0, upto)),
        (here, part(upto, u64::MAX)),
    ];
    parts.into_iter().filter(|(_, ranges)| !ranges.is_empty())
}

/// The worst of what is known to have happened to the log. Without a known gap it lost its tail, which leaves no trace.
fn reason_of(gaps: &[LogGap]) -> WriteOffReason {
    match gaps.iter().map(|gap| gap.kind).min() {
        None | Some(LogGapKind::Damaged) => WriteOffReason::LogDamaged,
        Some(LogGapKind::Skipped) => WriteOffReason::Skipped,
        Some(LogGapKind::DeadLettered) => WriteOffReason::DeadLettered,
    }
}

fn why(reason: WriteOffReason, gaps: &[LogGap]) -> String {
    match (reason, gaps.last()) {
        (WriteOffReason::OtherLog, _) => "its agent does not send it again by itself".to_owned(),
        (WriteOffReason::DeadLettered, _) => edgelogger_common::error_code::MALFORMED_BLOCK.code.to_owned(),
        (_, None) => "acknowledged, and not in the log any more: it lost its tail".to_owned(),
        (_, Some(gap)) => {
            let mut what = gap.what.clone();
            what.truncate(what.floor_char_boundary(200));
            what
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gap(kind: LogGapKind) -> LogGap {
        LogGap {
            entries: 4..5,
            kind,
            noted_ms: 0,
            what: "entry 4".to_owned(),
            records: 0,
        }
    }

    fn state() -> Arc<StreamState> {
        let descriptor = v1::StreamDescriptor {
            name: "/a".to_owned(),
            start: 10,
            ..v1::StreamDescriptor::default()
        };
        Arc::new(StreamState::new("m", &descriptor))
    }

    fn claim(end: u64, other_log_upto: u64) -> Claim {
        Claim {
            agent: "m".into(),
            stream_id: StreamId::from_bytes([7; 16]),
            ranges: std::iter::once(0..end).collect(),
            other_log_upto,
        }
    }

    #[test]
    fn a_claim_begins_where_its_stream_begins() {
        let missing: u64 = unaccounted(&claim(30, 0), &state())
            .into_iter()
            .map(|range| range.end - range.start)
            .sum();
        assert_eq!(missing, 20);
        assert_eq!(unaccounted(&claim(10, 0), &state()), []);
    }

    #[test]
    fn what_another_log_acknowledged_is_told_apart() {
        let claim = claim(30, 20);
        let missing = [Missing {
            claim: &claim,
            state: state(),
            ranges: std::iter::once(10..30).collect(),
        }];
        let said: Vec<_> = declare(&missing, &[gap(LogGapKind::Damaged)], 5)
            .into_iter()
            .map(|entry| match entry.body {
                Some(v1::log_entry::Body::WriteOff(off)) => {
                    let range = &off.streams[0].ranges[0];
                    (off.reason(), range.start..range.end, off.why)
                }
                other => panic!("{other:?}"),
            })
            .collect();
        assert_eq!(said.len(), 2);
        assert_eq!(
            (said[0].0, said[0].1.clone()),
            (v1::WriteOffReason::LogDamaged, 20..30)
        );
        assert_eq!(said[0].2, "entry 4");
        assert_eq!(
            (said[1].0, said[1].1.clone()),
            (v1::WriteOffReason::OtherLog, 10..20)
        );
    }

    #[test]
    fn damage_stands_before_what_was_chosen() {
        let of = |kinds: &[LogGapKind]| reason_of(&kinds.iter().map(|kind| gap(*kind)).collect::<Vec<_>>());
        assert_eq!(of(&[]), WriteOffReason::LogDamaged);
        assert_eq!(of(&[LogGapKind::Skipped]), WriteOffReason::Skipped);
        assert_eq!(
            of(&[LogGapKind::Skipped, LogGapKind::Damaged]),
            WriteOffReason::LogDamaged
        );
        assert_eq!(of(&[LogGapKind::DeadLettered]), WriteOffReason::DeadLettered);
    }
}
