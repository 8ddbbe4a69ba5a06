//! The newest sample of every series, in memory: filled from the store when it opens and from what is applied.
//!
//! At most [`StoreOptions::latest_series_max`](crate::StoreOptions::latest_series_max) series, some 300 bytes each. At
//! the limit the quarter that was written least recently leaves, and answers say that they are not complete.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use arrow::record_batch::RecordBatch;
use edgelogger_common::block::MetricKind;
use parking_lot::Mutex;

use crate::columns::{Bytes, Counts, Floats, Maps, Times, Words};
use crate::schema::column;
use crate::series::{KeyBytes, Series, SeriesFilter, texts};
use crate::store::MissingFile;

/// The newest sample of one series.
#[derive(Debug, Clone, PartialEq)]
pub struct LatestSample {
    /// Which.
    pub series: Series,
    /// Labels of its agent.
    pub agent_labels: BTreeMap<String, String>,
    /// Unit, as its source said.
    pub unit: String,
    /// `gauge`, `counter`, `histogram` or `summary`.
    pub kind: &'static str,
    /// When it was taken, ns UTC.
    pub time_ns: i64,
    /// When the collector received it, ns UTC.
    pub received_ns: i64,
    /// Its value; histograms and summaries have none.
    pub value: Option<f64>,
    /// Of histograms and summaries: observations.
    pub count: Option<i64>,
    /// Of histograms and summaries: their sum.
    pub sum: Option<f64>,
    /// 0 good, 1 uncertain, 2 bad.
    pub quality: u8,
}

/// Newest samples of the series that were asked for.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct LatestPage {
    /// By machine, source, name, labels.
    pub samples: Vec<LatestSample>,
    /// Series that match, also those beyond the limit.
    pub count: usize,
    /// Every series that the store took a sample of lately is among them.
    pub is_complete: bool,
}

/// A metric by its name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MetricName {
    /// Its name.
    pub name: String,
    /// Its unit.
    pub unit: String,
    /// Its kind.
    pub kind: &'static str,
    /// Series.
    pub series: usize,
    /// Machines that have it.
    pub machines: usize,
    /// The newest sample, ns UTC.
    pub last_ns: i64,
}

/// The table.
#[derive(Debug)]
pub struct Latest {
    series_max: usize,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    series: HashMap<Box<[u8]>, Entry>,
    /// Grows with every sample.
    written: u64,
    has_evicted: bool,
    is_filled: bool,
    missing: Vec<MissingFile>,
}

#[derive(Debug)]
struct Entry {
    /// What the newest is found by: a clock that runs ahead must not keep a value for ever.
    order: i64,
    written: u64,
    time: i64,
    received: i64,
    value: Option<f64>,
    count: Option<i64>,
    sum: Option<f64>,
    quality: u8,
    kind: &'static str,
    unit: Box<str>,
    agent_labels: Arc<BTreeMap<String, String>>,
}

impl Latest {
    pub fn new(series_max: usize) -> Self {
        Self {
            series_max: series_max.max(1),
            state: Mutex::default(),
        }
    }

    /// Takes in samples: rows of `metrics`, in any order.
    pub fn note(&self, batch: &RecordBatch) {
        let Some(columns) = Columns::of(batch) else { return };
        let (mut key, mut agent_labels) = (KeyBytes::default(), Arc::default());
        let mut state = self.state.lock();
        for row in 0..batch.num_rows() {
            columns.key(row, &mut key);
            state.note(&columns, row, &key, &mut agent_labels);
            if state.series.len() > self.series_max {
                state.evict();
            }
        }
    }

    /// What the store has was noted, but for what these files hold.
    pub fn filled(&self, missing: Vec<MissingFile>) {
        let mut state = self.state.lock();
        (state.is_filled, state.missing) = (true, missing);
    }

    /// Files that could not be read when the store opened: series that they alone had are not known.
    pub fn missing(&self) -> Vec<MissingFile> {
        self.state.lock().missing.clone()
    }

    /// Forgets those whose newest sample is gone, as `is_gone` says of machine, source, time and time of receipt. Says
    /// whether there were any; then what the store has is to be noted again.
    pub fn forget(&self, is_gone: impl Fn(&str, &str, i64, i64) -> bool) -> bool {
        let mut state = self.state.lock();
        let before = state.series.len();
        state.series.retain(|key, entry| {
            let mut parts = texts(key);
            let (machine, source) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
            !is_gone(machine, source, entry.time, entry.received)
        });
        state.series.len() < before
    }

    /// The series that match, by name.
    pub fn page(&self, filter: &SeriesFilter, since_ns: i64, limit: usize) -> LatestPage {
        let state = self.state.lock();
        let mut found: Vec<(Series, &Entry)> = state.matching(filter, since_ns).collect();
        let count = found.len();
        found.sort_unstable_by(|left, right| left.0.cmp(&right.0));
        found.truncate(limit);
        LatestPage {
            samples: found
                .into_iter()
                .map(|(series, entry)| entry.sample(series))
                .collect(),
            count,
            is_complete: state.is_complete(),
        }
    }

    /// The names of the series that match, in order, and whether they are all.
    pub fn names(&self, filter: &SeriesFilter, since_ns: i64) -> (Vec<MetricName>, bool) {
        let state = self.state.lock();
        let mut names: BTreeMap<_, (usize, HashSet<String>, i64)> = BTreeMap::new();
        for (series, entry) in state.matching(filter, since_ns) {
            let of_name = names
                .entry((series.name, &*entry.unit, entry.kind))
                .or_insert_with(|| (0, HashSet::new(), i64::MIN));
            of_name.0 += 1;
            of_name.1.insert(series.machine);
            of_name.2 = of_name.2.max(entry.time);
        }
        let names = names
            .into_iter()
            .map(|((name, unit, kind), (series, machines, last_ns))| MetricName {
                name,
                unit: unit.to_owned(),
                kind: word(kind),
                series,
                machines: machines.len(),
                last_ns,
            })
            .collect();
        (names, state.is_complete())
    }
}

impl State {
    fn note(
        &mut self,
        columns: &Columns<'_>,
        row: usize,
        key: &KeyBytes,
        agent_labels: &mut Arc<BTreeMap<String, String>>,
    ) {
        self.written += 1;
        let (time, received) = (columns.time.get(row), columns.received.get(row));
        let (time, received) = (time.unwrap_or_default(), received.unwrap_or_default());
        let order = time.min(received);
        let known = self.series.get_mut(key.as_slice());
        if known.as_ref().is_some_and(|known| known.order > order) {
            return;
        }
        let known_labels = known.as_ref().map(|known| &known.agent_labels);
        let entry = Entry {
            order,
            written: self.written,
            time,
            received,
            value: columns.value.get(row),
            count: columns.count.get(row),
            sum: columns.sum.get(row),
            quality: columns.quality.get(row).unwrap_or_default(),
            kind: word(columns.kind.get(row)),
            unit: columns.unit.get(row).into(),
            agent_labels: columns.shared_agent_labels(row, known_labels, agent_labels),
        };
        match known {
            Some(known) => *known = entry,
            None => {
                self.series.insert(key.as_slice().into(), entry);
            }
        }
    }

    fn evict(&mut self) {
        let mut written: Vec<u64> = self.series.values().map(|entry| entry.written).collect();
        let quarter = written.len() / 4;
        let (_, oldest, _) = written.select_nth_unstable(quarter);
        let oldest = *oldest;
        self.series.retain(|_, entry| entry.written > oldest);
        self.series.shrink_to_fit();
        self.has_evicted = true;
    }

    const fn is_complete(&self) -> bool {
        self.is_filled && !self.has_evicted && self.missing.is_empty()
    }

    fn matching(&self, filter: &SeriesFilter, since_ns: i64) -> impl Iterator<Item = (Series, &Entry)> {
        let fits = move |key: &[u8], entry: &Entry| {
            let mut parts = texts(key);
            let mut next = || parts.next().unwrap_or_default();
            let [machine, source, name] = [next(), next(), next()];
            let labels: Vec<&str> = parts.collect();
            filter.matches([machine, source, name], |wanted| {
                let own = labels.chunks_exact(2).find(|pair| pair[0] == wanted);
                own.map(|pair| pair[1])
                    .or_else(|| entry.agent_labels.get(wanted).map(String::as_str))
            })
        };
        let recent = self
            .series
            .iter()
            .filter(move |(_, entry)| entry.time >= since_ns);
        recent
            .filter(move |(key, entry)| fits(key, entry))
            .map(|(key, entry)| (series(key), entry))
    }
}

impl Entry {
    fn sample(&self, series: Series) -> LatestSample {
        LatestSample {
            series,
            agent_labels: BTreeMap::clone(&self.agent_labels),
            unit: self.unit.to_string(),
            kind: self.kind,
            time_ns: self.time,
            received_ns: self.received,
            value: self.value,
            count: self.count,
            sum: self.sum,
            quality: self.quality,
        }
    }
}

fn series(key: &[u8]) -> Series {
    let mut parts = texts(key).map(str::to_owned);
    let mut next = || parts.next().unwrap_or_default();
    let [machine, source, name] = [next(), next(), next()];
    let mut labels = BTreeMap::new();
    while let (Some(key), Some(value)) = (parts.next(), parts.next()) {
        labels.insert(key, value);
    }
    Series {
        machine,
        source,
        name,
        labels,
    }
}

fn word(kind: &str) -> &'static str {
    let kinds = [
        MetricKind::Gauge,
        MetricKind::Counter,
        MetricKind::Histogram,
        MetricKind::Summary,
    ];
    kinds
        .map(MetricKind::word)
        .into_iter()
        .find(|word| *word == kind)
        .unwrap_or_default()
}

/// What is read of a row.
struct Columns<'a> {
    machine: Words<'a>,
    source: Words<'a>,
    name: Words<'a>,
    unit: Words<'a>,
    kind: Words<'a>,
    labels: Maps<'a>,
    agent_labels: Maps<'a>,
    time: Times<'a>,
    received: Times<'a>,
    value: Floats<'a>,
    count: Counts<'a>,
    sum: Floats<'a>,
    quality: Bytes<'a>,
}

/// The columns that are read of a row.
pub const COLUMNS: [&str; 13] = [
    column::MACHINE_ID,
    column::SOURCE,
    column::NAME,
    column::UNIT,
    column::KIND,
    column::LABELS,
    column::AGENT_LABELS,
    column::TIME,
    column::RECEIVED_TIME,
    column::VALUE,
    column::COUNT,
    column::SUM,
    column::QUALITY,
];

impl<'a> Columns<'a> {
    fn of(batch: &'a RecordBatch) -> Option<Self> {
        Some(Self {
            machine: Words::of(batch, column::MACHINE_ID)?,
            source: Words::of(batch, column::SOURCE)?,
            name: Words::of(batch, column::NAME)?,
            unit: Words::of(batch, column::UNIT)?,
            kind: Words::of(batch, column::KIND)?,
            labels: Maps::of(batch, column::LABELS)?,
            agent_labels: Maps::of(batch, column::AGENT_LABELS)?,
            time: Times::of(batch, column::TIME)?,
            received: Times::of(batch, column::RECEIVED_TIME)?,
            value: Floats::of(batch, column::VALUE)?,
            count: Counts::of(batch, column::COUNT)?,
            sum: Floats::of(batch, column::SUM)?,
            quality: Bytes::of(batch, column::QUALITY)?,
        })
    }

    fn key(&self, row: usize, key: &mut KeyBytes) {
        key.clear();
        for words in [&self.machine, &self.source, &self.name] {
            key.put(words.get(row));
        }
        for (label, value) in self.labels.pairs(row) {
            key.put(label);
            key.put(value);
        }
    }

    /// The labels of the row's agent, once for all series that have the same.
    fn shared_agent_labels(
        &self,
        row: usize,
        known: Option<&Arc<BTreeMap<String, String>>>,
        last: &mut Arc<BTreeMap<String, String>>,
    ) -> Arc<BTreeMap<String, String>> {
        let is_row = |labels: &BTreeMap<String, String>| {
            let labels = labels.iter().map(|(key, value)| (key.as_str(), value.as_str()));
            labels.eq(self.agent_labels.pairs(row))
        };
        if let Some(known) = known.filter(|known| is_row(known)) {
            return Arc::clone(known);
        }
        if !is_row(last) {
            let own = |(key, value): (&str, &str)| (key.to_owned(), value.to_owned());
            *last = Arc::new(self.agent_labels.pairs(row).map(own).collect());
        }
        Arc::clone(last)
    }
}
