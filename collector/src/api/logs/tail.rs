//! `GET /api/v1/logs/tail`: records as server-sent events, as they are applied.

use std::collections::HashSet;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::Extension;
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use edgelogger_common::error_code;
use edgelogger_store::query::PAGE_ROWS_MAX;
use edgelogger_store::{ContextQuery, LogMatcher, LogQuery, QueryError};
use futures_util::stream;
use tokio::time::Instant;

use arrow::array::AsArray;
use arrow::datatypes::TimestampNanosecondType;

use super::filter::{ATTR, FIELDS, I, LABEL, MACHINE, Q, RE, SEVERITY, SOURCE, column_of, filter};
use super::tails::{Address, Begun, Came, Event, Place, Subscription, events};
use crate::api::ApiContext;
use crate::api::format::EVENTS_TYPE;
use crate::api::operation::{Answer, Operation};
use crate::api::parameters::{Asked, Kind, Parameter};
use crate::api::problem::Problem;

/// A comment after so long a silence, so that proxies keep the connection and a dead one is noticed.
const HEARTBEAT: Duration = Duration::from_secs(15);
/// Text sent at once.
const PIECE_BYTES: usize = 64 << 10;
/// How long a browser waits before it comes back.
const RETRY_MS: u64 = 2_000;
/// Where a tail comes back to a collector that does not remember its last event, what was received so long before that
/// event comes again: entries of several agents are not applied in the very order of their time.
const OVERLAP_NS: i64 = 2_000_000_000;
/// How long it is looked for a record that the store does not know, and how often.
const CATCH_UP_MAX: Duration = Duration::from_secs(5);
const CATCH_UP_PAUSE: Duration = Duration::from_millis(100);
/// How long records that were found in the store may come again from what is applied just now.
const REPLAY_SETTLES: Duration = Duration::from_secs(10);

static LAST_EVENT_ID: Parameter = Parameter::new(
    "last_event_id",
    "Go on behind this event: its `id`, stream and position of its record, or the moment (`@` and ms since 1970) \
            that a tail is given when it begins. The header `Last-Event-ID`, which browsers send by themselves, does the \
            same",
    Kind::Place,
);
static SECONDS: Parameter = Parameter::new(
    "seconds",
    "End after so many seconds; without it, never",
    Kind::integer(0, 86_400, None),
);
static LAST_EVENT_ID_HEADER: Parameter = Parameter::new(
    "Last-Event-ID",
    "As `last_event_id`, which goes before it",
    Kind::Place,
);
static PARAMETERS: &[&Parameter] = &[
    &MACHINE,
    &SOURCE,
    &SEVERITY,
    &Q,
    &RE,
    &I,
    &ATTR,
    &LABEL,
    &FIELDS,
    &LAST_EVENT_ID,
    &SECONDS,
];

static HEADERS: &[&Parameter] = &[&LAST_EVENT_ID_HEADER];

/// `GET /api/v1/logs/tail`.
pub fn operation() -> Operation {
    Operation::get("/api/v1/logs/tail", tail)
        .about(
            "logs",
            "Records as they come",
            "Server-sent events. Each record is one event: its `id` is the record's address (stream:position), its \
             `data` the record as JSON. What a tail shows can be queried. An event `missed` says how many records a slow \
             reader lost (`{\"count\": 12}`; null where nobody knows). After 15 s of silence a comment is sent. A tail \
             that comes back with its last event's id goes on behind it; where it was away for more than a minute, or \
             the collector was restarted, what was received in the two seconds before that event may come again. The \
             first thing sent is an id without a record, the moment at which the tail began: one that had no record yet \
             comes back with that.",
        )
        .parameters(PARAMETERS)
        .in_header(HEADERS)
        .answers([Answer::events("Events, without end.")])
        .problems(&[408, 422, 500, 503])
}

async fn tail(
    State(context): State<Arc<ApiContext>>,
    Extension(asked): Extension<Asked>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let query = LogQuery {
        time_max: context.query_timeout(),
        ..filter(&asked)?
    };
    let last = last_event(&asked, &headers)?;
    let fields = asked.words(&FIELDS).map(<[_]>::to_vec);
    let matcher = LogMatcher::new(&query)?;
    let begins_ms = context.time.now_ns().div_euclid(1_000_000);
    let begun = context.tails.begin(matcher, fields.clone(), last.as_ref())?;
    let Begun { subscription, replay } = begun.ok_or_else(|| {
        let detail = format!(
            "{} live tails are open, more are not allowed",
            context.tails.tails_max()
        );
        Problem::unavailable(error_code::API_BUSY, detail)
    })?;
    let mut stream = TailStream {
        subscription,
        out: Vec::new(),
        pending: Vec::new(),
        replayed: HashSet::new(),
        replayed_until: Instant::now() + REPLAY_SETTLES,
        ends: asked
            .integer(&SECONDS)
            .map(|seconds| Instant::now() + Duration::from_secs(seconds)),
        is_over: false,
    };
    let place = last.is_none().then(|| format!("id: @{begins_ms}\n"));
    let place = place.unwrap_or_default();
    stream
        .pending
        .push(Bytes::from(format!("{place}retry: {RETRY_MS}\n: live\n\n")));
    match (replay, last) {
        (Some(events), _) => stream.add(Came {
            events,
            ..Came::default()
        }),
        (None, Some(last)) => match stored_in_time(&context, &query, &fields, &last).await? {
            Some(found) => {
                if found.has_more {
                    stream.pending.push(missed(None));
                }
                let of = |event: &Event| Address::clone(&event.address);
                let events: Vec<Event> = found.events;
                stream.add(Came {
                    events: events.clone(),
                    ..Came::default()
                });
                stream.replayed = events.iter().map(of).collect();
            }
            None => stream.pending.push(missed(None)),
        },
        (None, None) => {}
    }
    stream.pending.reverse();
    let headers = [
        (header::CONTENT_TYPE, EVENTS_TYPE),
        (header::CACHE_CONTROL, "no-store"),
        // Else nginx collects events before it hands them on.
        (header::HeaderName::from_static("x-accel-buffering"), "no"),
    ];
    Ok((
        headers,
        Body::from_stream(stream::unfold(stream, TailStream::next)),
    )
        .into_response())
}

fn last_event(asked: &Asked, headers: &HeaderMap) -> Result<Option<Place>, Problem> {
    // An empty one says nothing.
    let header = headers.get("last-event-id").filter(|value| !value.is_empty());
    let parameter = asked.text(&LAST_EVENT_ID).filter(|text| !text.is_empty());
    let text = match (parameter, header) {
        (Some(text), _) => text.to_owned(),
        (None, Some(value)) => {
            let text = value.to_str().unwrap_or("not ASCII").to_owned();
            LAST_EVENT_ID_HEADER.check_text(&text)?;
            text
        }
        (None, None) => return Ok(None),
    };
    if let Some(moment) = text.strip_prefix('@') {
        let moment_ms: i64 = moment.parse().unwrap_or(i64::MAX);
        return Ok(Some(Place::Moment(moment_ms.saturating_mul(1_000_000))));
    }
    let address = text.split_once(':').and_then(|(stream_id, position)| {
        Some(Place::Record(Address {
            stream_id: stream_id.to_owned(),
            position: position.parse().ok()?,
        }))
    });
    Ok(address)
}

struct Found {
    events: Vec<Event>,
    /// There were more than come, or may have been: a file can't be used.
    has_more: bool,
}

/// As [`stored`]; a store that has just been opened is given the time to apply what the log has.
async fn stored_in_time(
    context: &ApiContext,
    query: &LogQuery,
    fields: &Option<Vec<&'static str>>,
    last: &Place,
) -> Result<Option<Found>, QueryError> {
    let until = Instant::now() + CATCH_UP_MAX;
    loop {
        let found = stored(context, query.clone(), fields, last).await?;
        if found.is_some() || Instant::now() >= until {
            return Ok(found);
        }
        tokio::time::sleep(CATCH_UP_PAUSE).await;
    }
}

/// What was received since an event, from the store; none where that does not know its record.
async fn stored(
    context: &ApiContext,
    query: LogQuery,
    fields: &Option<Vec<&'static str>>,
    last: &Place,
) -> Result<Option<Found>, QueryError> {
    let received_ns = match last {
        Place::Moment(ns) => Some(*ns),
        Place::Record(address) => received_ns(context, address).await?,
    };
    let Some(received_ns) = received_ns else {
        return Ok(None);
    };
    let query = LogQuery {
        received_from: Some(received_ns.saturating_sub(OVERLAP_NS)),
        limit: PAGE_ROWS_MAX,
        columns: None,
        ..query
    };
    let page = context.store.logs(query).await?;
    let mut found = events(&page.rows, fields)?;
    if let Place::Record(last) = last {
        found.retain(|event| *event.address != *last);
    }
    // Newest first is how they were asked for, so that the newest come where there are too many.
    found.reverse();
    Ok(Some(Found {
        events: found,
        has_more: page.next_cursor.is_some() || !page.incomplete.is_empty(),
    }))
}

/// When a record was received; none where the store does not know it.
async fn received_ns(context: &ApiContext, address: &Address) -> Result<Option<i64>, QueryError> {
    let place = ContextQuery {
        stream_id: address.stream_id.clone(),
        position: address.position,
        before: 0,
        after: 0,
        columns: Some(vec![column_of("received_time")]),
        time_max: context.query_timeout(),
    };
    let Some(place) = context.store.context(place).await?.answer else {
        return Ok(None);
    };
    let received = place.record.column_by_name("received_time");
    let received = received.and_then(|column| column.as_primitive_opt::<TimestampNanosecondType>());
    Ok(Some(received.map_or(0, |received| received.value(0))))
}

fn missed(count: Option<u64>) -> Bytes {
    Bytes::from(format!(
        "event: missed\ndata: {}\n\n",
        serde_json::json!({ "count": count })
    ))
}

/// The body of the answer.
struct TailStream {
    subscription: Subscription,
    /// What is being put together.
    out: Vec<u8>,
    /// Pieces to send, last first.
    pending: Vec<Bytes>,
    /// Records that were found in the store, and may come again.
    replayed: HashSet<Address>,
    replayed_until: Instant,
    /// When it ends by itself.
    ends: Option<Instant>,
    is_over: bool,
}

impl TailStream {
    async fn next(mut self) -> Option<(Result<Bytes, Infallible>, Self)> {
        loop {
            if let Some(piece) = self.pending.pop() {
                return Some((Ok(piece), self));
            }
            if self.is_over {
                return None;
            }
            let left = self
                .ends
                .map(|ends| ends.saturating_duration_since(Instant::now()));
            if left.is_some_and(|left| left.is_zero()) {
                return None;
            }
            let wait = left.map_or(HEARTBEAT, |left| left.min(HEARTBEAT));
            match tokio::time::timeout(wait, self.subscription.next()).await {
                Ok(came) => {
                    self.add(came);
                    self.pending.reverse();
                }
                Err(_) => self.pending.push(Bytes::from_static(b":\n\n")),
            }
        }
    }

    /// Puts what came into pieces, first one first.
    fn add(&mut self, came: Came) {
        if came.missed > 0 {
            self.pending.push(missed(Some(came.missed)));
        }
        if !self.replayed.is_empty() && Instant::now() > self.replayed_until {
            self.replayed = HashSet::new();
        }
        for event in came.events {
            if !self.replayed.is_empty() && self.replayed.contains(&*event.address) {
                continue;
            }
            self.out.extend_from_slice(&event.text);
            if self.out.len() >= PIECE_BYTES {
                self.pending.push(std::mem::take(&mut self.out).into());
            }
        }
        if !self.out.is_empty() {
            self.pending.push(std::mem::take(&mut self.out).into());
        }
        self.is_over = came.is_over;
    }
}
