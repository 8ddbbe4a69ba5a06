//! An operator closes the streams of a dead machine: what of them has not arrived is not waited for any more. Said through
//! the commit log, so that it is applied once and survives; what arrives after all is stored.

use crate::api::described::{Components, Described, Member, described, object};
use bytes::Bytes;
use edgelogger_common::stream::StreamId;
use edgelogger_proto::v1::{self, LogEntry, log_entry};
use edgelogger_store::{StreamState, WHY_BYTES_MAX};
use serde::Serialize;

use super::report::{Span, State};
use super::{Ledger, stream};
use crate::flow::{EncodedEntry, Verdict};
use crate::health::rfc3339;
use crate::text::matches_wildcard;

/// Streams of one entry of the log: with 1,024 ranges each still well below its largest entry.
const STREAMS_PER_ENTRY: usize = 256;

/// What is to be closed, and why.
#[derive(Debug, Clone)]
pub struct CloseRequest {
    /// The machine, by its whole name.
    pub machine: String,
    /// Only this stream.
    pub stream: Option<StreamId>,
    /// Only of these sources; `*` and `?` stand for any characters and any one.
    pub source: Option<String>,
    /// Why, for whoever reads the ledger.
    pub reason: String,
    /// Also though the machine is connected.
    pub force: bool,
}

/// Why nothing is closed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CloseError {
    /// It speaks for itself.
    #[error(
        "machine {0:?} is connected and may still send what is missing; close its streams only with force, or when it \
         is gone"
    )]
    Connected(String),
    /// Nothing is known of it.
    #[error(
        "no such stream of a machine {0:?} is known here; its whole name is needed, see `edgelogger-collector ledger`"
    )]
    Unknown(String),
    /// A reason is what the ledger shows for ever.
    #[error(
        "a reason of 1 to {WHY_BYTES_MAX} bytes without control characters is needed: what became of the machine?"
    )]
    Reason,
    /// The log takes nothing now.
    #[error("the commit log does not take it now: {0}; nothing was closed")]
    Log(String),
}

described! {
    /// One stream that is closed.
    #[derive(Debug, Clone, PartialEq, Eq, Serialize)]
    pub struct ClosedStream {
        /// Its source.
        pub source: String,
        /// Its id.
        pub stream_id: String,
        /// Where it ends now.
        pub size: u64,
        /// What its positions count.
        pub unit: &'static str,
        /// Positions that have not arrived.
        pub lost: u64,
    }
}

/// What is closed.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ClosePlan {
    /// Whose streams.
    pub machine: String,
    /// Which.
    pub streams: Vec<ClosedStream>,
    /// Positions of all of them that have not arrived.
    pub lost: u64,
    /// Nothing was done, only looked at.
    pub dry_run: bool,
    /// When, RFC 3339.
    pub declared: String,
    #[serde(skip)]
    entries: Vec<LogEntry>,
}

impl Described for ClosePlan {
    fn schema(components: &mut Components) -> serde_json::Value {
        components.named("ClosePlan", |components| {
            let mut member = |name, about: &str, schema: fn(&mut Components) -> serde_json::Value| Member {
                name,
                about: about.to_owned(),
                is_optional: false,
                schema: schema(components),
            };
            let members = vec![
                member("machine", "Whose streams.", String::schema),
                member("streams", "Which.", Vec::<ClosedStream>::schema),
                member(
                    "lost",
                    "Positions of all of them that have not arrived.",
                    u64::schema,
                ),
                member("dry_run", "Nothing was done, only looked at.", bool::schema),
                member("declared", "When, RFC 3339.", String::schema),
            ];
            object("What is closed.", members)
        })
    }
}

impl Ledger {
    /// What would be closed. Streams that are closed already, with nothing more to come, are not closed again.
    ///
    /// # Errors
    /// The machine is connected or unknown, or there is no reason.
    pub fn plan_close(&self, request: &CloseRequest) -> Result<ClosePlan, CloseError> {
        let reason = request.reason.trim();
        if reason.is_empty() || reason.len() > WHY_BYTES_MAX || reason.chars().any(char::is_control) {
            return Err(CloseError::Reason);
        }
        let machine = &request.machine;
        if !request.force && self.ingest.registry.is_connected(machine) {
            return Err(CloseError::Connected(machine.clone()));
        }
        let mut streams = self.store.streams();
        streams.retain(|(id, state)| request.wants(*id, state));
        if streams.is_empty() {
            return Err(CloseError::Unknown(machine.clone()));
        }
        streams.sort_unstable_by(|(left_id, left), (right_id, right)| {
            (&left.source, left.opened_ns, left_id).cmp(&(&right.source, right.opened_ns, right_id))
        });
        let now_ns = self.ingest.clock.wall_ns();
        let mut plan = ClosePlan {
            machine: machine.clone(),
            streams: Vec::new(),
            lost: 0,
            dry_run: true,
            declared: rfc3339(now_ns),
            entries: Vec::new(),
        };
        for (id, state) in &streams {
            self.seen(*id, state, |seen| plan.add(*id, seen, reason, now_ns));
        }
        Ok(plan)
    }

    /// Closes what was planned: when this returns it is durable, and the store applies it in its turn.
    ///
    /// # Errors
    /// The log takes nothing now. What it took before stays closed; doing it again closes the rest.
    pub async fn close(&self, plan: &mut ClosePlan, who: &str, why: &str) -> Result<(), CloseError> {
        for entry in plan.entries.drain(..) {
            submit(&self.ingest, entry).await.map_err(CloseError::Log)?;
        }
        plan.dry_run = false;
        tracing::warn!(
            machine = plan.machine,
            streams = plan.streams.len(),
            lost = plan.lost,
            by = who,
            reason = why,
            "streams were closed by an operator"
        );
        for stream in &plan.streams {
            tracing::info!(
                machine = plan.machine,
                source = stream.source,
                stream = stream.stream_id,
                size = stream.size,
                lost = stream.lost,
                "closed by an operator"
            );
        }
        Ok(())
    }
}

/// Makes an entry of our own durable.
pub(super) async fn submit(ingest: &crate::ingest::IngestContext, entry: LogEntry) -> Result<(), String> {
    let answer = ingest.log.submit(EncodedEntry::new(entry)).await;
    match answer.await {
        Ok(Verdict::Durable) => Ok(()),
        Ok(Verdict::Later { message, .. } | Verdict::Never { message, .. }) => Err(message),
        Err(_) => Err("it is stopping".to_owned()),
    }
}

/// An entry that writes off positions of a machine's streams.
pub(super) fn entry(machine: &str, write_off: v1::WriteOff, streams: Vec<v1::StreamDescriptor>) -> LogEntry {
    LogEntry {
        tenant: "default".to_owned(),
        agent_id: machine.to_owned(),
        machine_id: machine.to_owned(),
        received_time_ns: write_off.declared_time_ns,
        streams,
        body: Some(log_entry::Body::WriteOff(write_off)),
        ..LogEntry::default()
    }
}

/// An entry stands alone: it says of the stream what the store knows of it.
pub(super) fn descriptor(id: StreamId, state: &StreamState) -> v1::StreamDescriptor {
    let unit = if state.counts_records {
        v1::PositionUnit::Record
    } else {
        v1::PositionUnit::Byte
    };
    v1::StreamDescriptor {
        stream_id: Bytes::copy_from_slice(id.as_bytes()),
        kind: state.kind,
        unit: unit.into(),
        name: state.source.clone(),
        start: state.start,
        opened_time_ns: state.opened_ns,
        ..v1::StreamDescriptor::default()
    }
}

impl CloseRequest {
    fn wants(&self, id: StreamId, state: &StreamState) -> bool {
        let source = self.source.as_ref();
        state.machine_id == self.machine
            && self.stream.is_none_or(|wanted| wanted == id)
            && source.is_none_or(|pattern| matches_wildcard(pattern, &state.source))
    }
}

impl ClosePlan {
    fn add(&mut self, id: StreamId, seen: &stream::Seen<'_>, reason: &str, now_ns: i64) {
        let state = seen.state;
        let spans = seen.spans();
        // What is in the log will be stored; what is written off stays so.
        let open = |span: &&Span| matches!(span.state, State::Pending | State::Unknown);
        let ranges: Vec<v1::Range> = spans
            .iter()
            .filter(open)
            .map(|span| v1::Range {
                start: span.start,
                end: span.end,
            })
            .collect();
        if ranges.is_empty() && state.end.is_some() {
            return;
        }
        let lost = ranges.iter().map(|range| range.end - range.start).sum();
        let size = seen.size();
        self.lost += lost;
        self.streams.push(ClosedStream {
            source: state.source.clone(),
            stream_id: id.to_string(),
            size,
            unit: if state.counts_records { "records" } else { "bytes" },
            lost,
        });
        let off = v1::StreamWriteOff {
            stream_id: id.to_proto(),
            ranges,
            closes: true,
            size,
        };
        self.push(off, descriptor(id, state), reason, now_ns);
    }

    fn push(&mut self, off: v1::StreamWriteOff, descriptor: v1::StreamDescriptor, reason: &str, now_ns: i64) {
        let has_room = |entry: &&mut LogEntry| entry.streams.len() < STREAMS_PER_ENTRY;
        if self.entries.last_mut().filter(has_room).is_none() {
            let write_off = v1::WriteOff {
                reason: v1::WriteOffReason::Operator.into(),
                why: reason.to_owned(),
                declared_time_ns: now_ns,
                streams: Vec::new(),
            };
            self.entries.push(entry(&self.machine, write_off, Vec::new()));
        }
        if let Some(entry) = self.entries.last_mut()
            && let Some(log_entry::Body::WriteOff(write_off)) = &mut entry.body
        {
            entry.streams.push(descriptor);
            write_off.streams.push(off);
        }
    }
}
