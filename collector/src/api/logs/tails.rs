//! What feeds all live tails. Records come from the store when it has applied them, so that whatever a tail shows can be
//! queried. They are taken together for a moment ([`ROUND_PAUSE`]), put into one batch, and each tail's condition is
//! evaluated over that; a record is made into text once for all tails that want the same fields of it.
//!
//! While nobody tails nothing is done at all. A tail that does not read loses its oldest records and is told how many.
//! What was sent in the last moments is kept ([`HISTORY_BYTES_MAX`], for [`LINGER`] after the last tail left), so that one
//! that comes back goes on exactly where it was.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use arrow::array::{AsArray, BooleanArray, RecordBatch};
use arrow::compute::{concat_batches, filter_record_batch, kernels::boolean::or};
use arrow::datatypes::Int64Type;
use bytes::Bytes;
use edgelogger_store::{Arrivals, LogMatcher, QueryError, Words};
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::Instant;

use super::page::chosen;
use crate::api::rows;

/// Records come together for so long: with many small batches a second each is looked at once with its neighbours.
const ROUND_PAUSE: Duration = Duration::from_millis(50);
/// Rows from which on a batch is looked at alone.
const ROUND_ROWS: usize = 8_192;
/// Text that waits for a tail's reader while more comes. What comes together is not cut by this: a reader that keeps up
/// gets a batch of any size.
const BUFFER_BYTES_MAX: usize = 512 << 10;
/// Batches kept for tails that come back.
const HISTORY_BYTES_MAX: usize = 8 << 20;
/// How long that goes on after the last tail left.
const LINGER: Duration = Duration::from_secs(60);

/// The columns that a tail wants.
pub type Fields = Option<Vec<&'static str>>;

/// The place of a record: stream and position.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Address {
    /// 32 hexadecimal digits.
    pub stream_id: String,
    /// There.
    pub position: i64,
}

impl std::fmt::Display for Address {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}", self.stream_id, self.position)
    }
}

/// Where a tail was when it went.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// Behind this record.
    Record(Address),
    /// It had shown nothing; it began at this time, ns.
    Moment(i64),
}

/// One event, as it is sent.
#[derive(Debug, Clone)]
pub struct Event {
    /// Of its record.
    pub address: Arc<Address>,
    /// `id: …`, `data: …` and an empty line.
    pub text: Bytes,
}

/// All live tails.
#[derive(Debug)]
pub struct Tails {
    arrivals: Arc<Arrivals>,
    tails_max: AtomicUsize,
    hub: Mutex<Hub>,
}

#[derive(Debug, Default)]
struct Hub {
    tails: Vec<Arc<Tail>>,
    /// Is there a task that feeds them?
    is_fed: bool,
    is_closed: bool,
    history: VecDeque<RecordBatch>,
    history_bytes: usize,
}

/// What one tail wants, and what waits for it.
#[derive(Debug)]
struct Tail {
    matcher: LogMatcher,
    fields: Fields,
    waiting: Mutex<Waiting>,
    fresh: Notify,
}

#[derive(Debug, Default)]
struct Waiting {
    events: VecDeque<Event>,
    bytes: usize,
    missed: u64,
    is_over: bool,
}

/// What came for a tail.
#[derive(Debug, Default)]
pub struct Came {
    /// Records that were lost before these, because they were not read in time.
    pub missed: u64,
    /// Oldest first.
    pub events: Vec<Event>,
    /// Nothing more comes.
    pub is_over: bool,
}

/// A tail at work; it ends when this is dropped.
#[derive(Debug)]
pub struct Subscription {
    tails: Arc<Tails>,
    tail: Arc<Tail>,
}

/// A tail that begins, and what it missed while it was away.
#[derive(Debug)]
pub struct Begun {
    /// The tail.
    pub subscription: Subscription,
    /// What came behind the last event; none where that is not known here any more.
    pub replay: Option<Vec<Event>>,
}

impl Tails {
    /// None yet.
    #[must_use]
    pub fn new(arrivals: Arc<Arrivals>, tails_max: usize) -> Self {
        Self {
            arrivals,
            tails_max: AtomicUsize::new(tails_max),
            hub: Mutex::default(),
        }
    }

    /// Begins a tail, behind an event where one is given. None when there are as many as may be.
    ///
    /// # Errors
    /// An error in this program.
    pub fn begin(
        self: &Arc<Self>,
        matcher: LogMatcher,
        fields: Fields,
        last: Option<&Place>,
    ) -> Result<Option<Begun>, QueryError> {
        let tail = Arc::new(Tail {
            matcher,
            fields,
            waiting: Mutex::default(),
            fresh: Notify::new(),
        });
        let mut hub = self.hub.lock();
        if hub.tails.len() >= self.tails_max() || hub.is_closed {
            return Ok(None);
        }
        hub.tails.push(Arc::clone(&tail));
        if !hub.is_fed {
            hub.is_fed = true;
            self.arrivals.watch(true);
            tokio::spawn(Arc::clone(self).feed());
        }
        // What is in the history now does not come to this tail in another way, and what comes later does.
        let history: Vec<RecordBatch> = if matches!(last, Some(Place::Record(_))) {
            hub.history.iter().cloned().collect()
        } else {
            Vec::new()
        };
        drop(hub);
        let subscription = Subscription {
            tails: Arc::clone(self),
            tail,
        };
        let replay = match last {
            Some(Place::Record(last)) => subscription.tail.behind(&history, last)?,
            Some(Place::Moment(_)) => None,
            None => Some(Vec::new()),
        };
        Ok(Some(Begun { subscription, replay }))
    }

    /// How many may be at once.
    #[must_use]
    pub fn tails_max(&self) -> usize {
        self.tails_max.load(Ordering::Relaxed)
    }

    /// So many from now on; those that are open stay.
    pub fn set_tails_max(&self, tails_max: usize) {
        self.tails_max.store(tails_max, Ordering::Relaxed);
    }

    /// Ends all of them, and lets none begin.
    pub fn close(&self) {
        let mut hub = self.hub.lock();
        hub.is_closed = true;
        for tail in hub.tails.drain(..) {
            tail.waiting.lock().is_over = true;
            tail.fresh.notify_one();
        }
    }

    /// Feeds tails until there have been none for a while.
    async fn feed(self: Arc<Self>) {
        let mut idle_since: Option<Instant> = None;
        loop {
            let arrived = tokio::time::timeout(Duration::from_secs(1), self.arrivals.next()).await;
            {
                let mut hub = self.hub.lock();
                let since = if hub.tails.is_empty() {
                    *idle_since.get_or_insert_with(Instant::now)
                } else {
                    idle_since = None;
                    Instant::now()
                };
                if hub.is_closed || since.elapsed() >= LINGER {
                    self.arrivals.watch(false);
                    hub.is_fed = false;
                    hub.history.clear();
                    hub.history_bytes = 0;
                    return;
                }
            }
            let Ok(arrived) = arrived else { continue };
            let tails = Arc::clone(&self);
            let round = tokio::task::spawn_blocking(move || tails.round(arrived.missed, &arrived.batches));
            match round.await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => tracing::error!("live tails missed records: {error}"),
                Err(error) => tracing::error!("live tails missed records: {error}"),
            }
            tokio::time::sleep(ROUND_PAUSE).await;
        }
    }

    fn round(&self, missed: u64, batches: &[RecordBatch]) -> Result<(), QueryError> {
        if missed > 0 {
            for tail in self.hub.lock().tails.clone() {
                tail.waiting.lock().missed += missed;
                tail.fresh.notify_one();
            }
        }
        for batch in gathered(batches)? {
            let tails = {
                let mut hub = self.hub.lock();
                hub.remember(&batch);
                hub.tails.clone()
            };
            feed_batch(&batch, &tails)?;
        }
        Ok(())
    }
}

impl Hub {
    fn remember(&mut self, batch: &RecordBatch) {
        self.history_bytes += batch.get_array_memory_size();
        self.history.push_back(batch.clone());
        while self.history_bytes > HISTORY_BYTES_MAX {
            let Some(oldest) = self.history.pop_front() else {
                break;
            };
            self.history_bytes = self.history_bytes.saturating_sub(oldest.get_array_memory_size());
        }
    }
}

fn failed(error: impl std::fmt::Display) -> QueryError {
    QueryError::Failed(error.to_string())
}

/// Batches put together to [`ROUND_ROWS`] rows or somewhat more, in their order.
fn gathered(batches: &[RecordBatch]) -> Result<Vec<RecordBatch>, QueryError> {
    let (mut out, mut group, mut rows) = (Vec::new(), Vec::new(), 0);
    for (index, batch) in batches.iter().enumerate() {
        group.push(batch);
        rows += batch.num_rows();
        if rows >= ROUND_ROWS || index + 1 == batches.len() {
            out.push(match &group[..] {
                [alone] => (*alone).clone(),
                several => concat_batches(&batch.schema(), several.iter().copied()).map_err(failed)?,
            });
            group.clear();
            rows = 0;
        }
    }
    Ok(out)
}

/// Gives each tail what it wants of a batch.
fn feed_batch(batch: &RecordBatch, tails: &[Arc<Tail>]) -> Result<(), QueryError> {
    // Tails that want the same fields share the text of a record.
    let mut groups: HashMap<&Fields, Vec<(&Arc<Tail>, BooleanArray)>> = HashMap::new();
    for tail in tails {
        let matches = tail.matcher.matches(batch)?;
        if matches.true_count() > 0 {
            groups.entry(&tail.fields).or_default().push((tail, matches));
        }
    }
    for (fields, wanting) in groups {
        let mut any = wanting[0].1.clone();
        for (_, matches) in &wanting[1..] {
            any = or(&any, matches).map_err(failed)?;
        }
        let events = events(&filter_record_batch(batch, &any).map_err(failed)?, fields)?;
        for (tail, matches) in &wanting {
            let mut event = events.iter();
            let mut wanted = Vec::with_capacity(matches.true_count());
            for row in 0..batch.num_rows() {
                if is_true(&any, row)
                    && let Some(event) = event.next()
                    && is_true(matches, row)
                {
                    wanted.push(event.clone());
                }
            }
            tail.push(wanted);
        }
    }
    Ok(())
}

fn is_true(values: &BooleanArray, row: usize) -> bool {
    use arrow::array::Array;
    values.is_valid(row) && values.value(row)
}

/// The records of a batch as events.
pub fn events(batch: &RecordBatch, fields: &Fields) -> Result<Vec<Event>, QueryError> {
    let rows = chosen(batch, fields.as_deref()).map_err(failed)?;
    let lines = rows::object_lines(&rows).map_err(failed)?;
    let addresses = addresses(batch).ok_or_else(|| failed("rows without an address"))?;
    let lines = lines.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
    let event = |(address, line): (Address, &[u8])| {
        let mut text = format!("id: {address}\ndata: ").into_bytes();
        text.extend_from_slice(line);
        text.extend_from_slice(b"\n\n");
        Event {
            address: Arc::new(address),
            text: text.into(),
        }
    };
    Ok(addresses.into_iter().zip(lines).map(event).collect())
}

fn addresses(batch: &RecordBatch) -> Option<Vec<Address>> {
    let streams = Words::of(batch, "stream_id")?;
    let positions = batch
        .column_by_name("position")?
        .as_primitive_opt::<Int64Type>()?;
    let address = |(stream_id, position): (&str, &i64)| Address {
        stream_id: stream_id.to_owned(),
        position: *position,
    };
    Some(
        streams
            .iter()
            .zip(positions.values().iter())
            .map(address)
            .collect(),
    )
}

impl Tail {
    fn push(&self, events: Vec<Event>) {
        let mut waiting = self.waiting.lock();
        while waiting.bytes > BUFFER_BYTES_MAX
            && let Some(oldest) = waiting.events.pop_front()
        {
            waiting.bytes -= oldest.text.len();
            waiting.missed += 1;
        }
        for event in events {
            waiting.bytes += event.text.len();
            waiting.events.push_back(event);
        }
        drop(waiting);
        self.fresh.notify_one();
    }

    /// What it wants of what came behind a record; none where that is not among them.
    fn behind(&self, history: &[RecordBatch], last: &Address) -> Result<Option<Vec<Event>>, QueryError> {
        let mut found = None;
        for (index, batch) in history.iter().enumerate().rev() {
            let addresses = addresses(batch).unwrap_or_default();
            if let Some(row) = addresses.iter().rposition(|address| address == last) {
                found = Some((index, row));
                break;
            }
        }
        let Some((index, row)) = found else {
            return Ok(None);
        };
        let mut replay = Vec::new();
        for (at, batch) in history[index..].iter().enumerate() {
            let skipped = if at == 0 { row + 1 } else { 0 };
            let batch = batch.slice(skipped, batch.num_rows() - skipped);
            let wanted = filter_record_batch(&batch, &self.matcher.matches(&batch)?).map_err(failed)?;
            replay.extend(events(&wanted, &self.fields)?);
        }
        Ok(Some(replay))
    }
}

impl Subscription {
    /// Waits until something is there. Safe to cancel.
    pub async fn next(&self) -> Came {
        loop {
            {
                let mut waiting = self.tail.waiting.lock();
                if !waiting.events.is_empty() || waiting.missed > 0 || waiting.is_over {
                    waiting.bytes = 0;
                    return Came {
                        missed: std::mem::take(&mut waiting.missed),
                        events: std::mem::take(&mut waiting.events).into(),
                        is_over: waiting.is_over,
                    };
                }
            }
            self.tail.fresh.notified().await;
        }
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        let mut hub = self.tails.hub.lock();
        hub.tails.retain(|tail| !Arc::ptr_eq(tail, &self.tail));
    }
}
