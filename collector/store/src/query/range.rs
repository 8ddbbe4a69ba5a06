//! A metric over time: which samples, put together how, one point for each step.
//!
//! The engine reads what can be in question (files, pages and rows are skipped by machine, name and time); which series
//! a row belongs to, and what its points are, is found here, in one pass. Conditions are expressions, never SQL text.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use arrow::record_batch::RecordBatch;
use datafusion::execution::SendableRecordBatchStream;
use datafusion::execution::memory_pool::{MemoryConsumer, MemoryReservation};
use datafusion::logical_expr::utils::conjunction;
use datafusion::prelude::{Expr, SessionContext, col, lit};
use edgelogger_common::block::{MetricKind, Quality};
use futures_util::StreamExt;

use super::Question;
use super::buckets::{Buckets, Grid};
use super::engine::RunError;
use super::filter::{matching, time};
use super::rate::{Sample, rates};
use super::session::Template;
use crate::columns::{Bytes, Counts, Floats, Maps, Times, Words};
use crate::error::QueryError;
use crate::schema::{Table, column};
use crate::series::{KeyBytes, SeriesFilter};
use crate::snapshot::Snapshot;

/// Points of one series, at most: a year by the hour.
pub const POINTS_MAX: usize = 11_000;
/// Series of an answer, at most.
pub const SERIES_MAX: usize = 1000;
/// Points of an answer, at most.
pub const POINTS_TOTAL_MAX: usize = 1_000_000;
/// Points that a step is chosen for where none is asked for.
pub const POINTS_WANTED: i64 = 300;
/// Before the range, samples are looked for this long: a rate needs the one before.
const LOOK_BACK_NS: i64 = 300 * SECOND_NS;
const SECOND_NS: i64 = 1_000_000_000;
/// The shortest step that is chosen: metrics are rarely taken more often.
const STEPS_S: [i64; 14] = [
    10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 10_800, 21_600, 43_200, 86_400,
];

/// How samples become a point.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Aggregate {
    /// Mean.
    Avg,
    /// Least.
    Min,
    /// Greatest.
    Max,
    /// Sum of all samples.
    Sum,
    /// Their number.
    Count,
    /// The newest.
    Last,
    /// How fast a counter grows, per second; of a group, the sum of the rates of its series.
    Rate,
    /// The quantile, 0 to 1, between the two nearest samples.
    Quantile(f64),
}

/// Which number of a sample.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum SampleField {
    /// The value; histograms and summaries have none.
    #[default]
    Value,
    /// Observations of a histogram or summary.
    Count,
    /// Their sum.
    Sum,
}

/// What the series of a group have in common.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum GroupKey {
    /// The machine.
    Machine,
    /// The source.
    Source,
    /// The value of this label: of the samples, else of the agent, else nothing.
    Label(String),
}

/// A question about a metric over time.
#[derive(Debug, Clone, PartialEq)]
pub struct RangeQuery {
    /// The metric; a name, not a pattern.
    pub name: String,
    /// Which of its series.
    pub filter: SeriesFilter,
    /// First time, ns; points begin at multiples of the step.
    pub from: i64,
    /// Before this time, ns.
    pub to: i64,
    /// Length of what becomes one point, ns; chosen from the range where it is absent.
    pub step: Option<i64>,
    /// How samples become a point.
    pub aggregate: Aggregate,
    /// Which number of them.
    pub field: SampleField,
    /// One line for each group; `None` is one for each series.
    pub group_by: Option<Vec<GroupKey>>,
    /// Series or groups, at most; not more than [`SERIES_MAX`].
    pub series_max: usize,
    /// From the call to the answer.
    pub time_max: Duration,
}

/// The answer.
#[derive(Debug, Clone, PartialEq)]
pub struct RangeResult {
    /// Unit of the metric, as its sources say; empty without samples. A rate is this per second.
    pub unit: String,
    /// Its kind; empty without samples.
    pub kind: String,
    /// Where the first point begins, ns.
    pub from: i64,
    /// How far points are apart, ns.
    pub step: i64,
    /// Points of each series.
    pub count: usize,
    /// Samples that went into them.
    pub samples: u64,
    /// By what they are known by.
    pub series: Vec<RangeSeries>,
}

/// One line.
#[derive(Debug, Clone, PartialEq)]
pub struct RangeSeries {
    /// Where it is of one machine.
    pub machine: Option<String>,
    /// Where it is of one source.
    pub source: Option<String>,
    /// Labels of the series, or those grouped by.
    pub labels: BTreeMap<String, String>,
    /// One for each step; none where there was no sample.
    pub points: Vec<Option<f64>>,
}

/// The step for a range: some [`POINTS_WANTED`] points.
#[must_use]
pub fn step_for(from: i64, to: i64) -> i64 {
    let least = to.saturating_sub(from).max(0) / POINTS_WANTED;
    let chosen = STEPS_S.map(|step| step * SECOND_NS);
    let day = STEPS_S[STEPS_S.len() - 1] * SECOND_NS;
    chosen
        .into_iter()
        .find(|step| *step >= least)
        .unwrap_or_else(|| (least / day).saturating_add(1).saturating_mul(day))
}

impl RangeQuery {
    fn grid(&self) -> Result<Grid, QueryError> {
        self.filter.check()?;
        if self.from >= self.to {
            return invalid("the range ends before it begins: `from` must lie before `to`");
        }
        let step = self.step.unwrap_or_else(|| step_for(self.from, self.to));
        if step <= 0 {
            return invalid("a step must be longer than nothing");
        }
        if let Aggregate::Quantile(share) = self.aggregate
            && !(0.0..=1.0).contains(&share)
        {
            return invalid(format!("a quantile lies between 0 and 1, {share} does not"));
        }
        let grid = Grid::over(self.from, self.to, step);
        if grid.count > POINTS_MAX {
            let points = grid.count;
            return invalid(format!(
                "the range has {points} steps, allowed are {POINTS_MAX}: take a longer step or a shorter range"
            ));
        }
        Ok(grid)
    }

    fn conditions(&self, grid: &Grid) -> Result<Vec<Expr>, QueryError> {
        let back = if self.aggregate == Aggregate::Rate {
            LOOK_BACK_NS.max(grid.step)
        } else {
            0
        };
        let mut all = vec![
            col(column::NAME).eq(lit(self.name.as_str())),
            col(column::TIME).gt_eq(time(grid.from.saturating_sub(back))),
            col(column::TIME).lt(time(grid.end())),
        ];
        for (name, pattern) in [
            (column::MACHINE_ID, &self.filter.machine),
            (column::SOURCE, &self.filter.source),
        ] {
            if let Some(pattern) = pattern {
                all.push(matching(name, pattern)?);
            }
        }
        Ok(all)
    }

    /// What must be known of a row.
    fn needs(&self) -> Needs {
        let is_grouped_by = |wanted: fn(&GroupKey) -> bool| match &self.group_by {
            Some(keys) => keys.iter().any(wanted),
            None => true,
        };
        let each = self.group_by.is_none() || self.aggregate == Aggregate::Rate;
        let by_label = is_grouped_by(|key| matches!(key, GroupKey::Label(_)));
        Needs {
            machine: each || is_grouped_by(|key| *key == GroupKey::Machine),
            source: each || is_grouped_by(|key| *key == GroupKey::Source),
            labels: each || by_label || !self.filter.labels.is_empty(),
            agent_labels: (self.group_by.is_some() && by_label) || !self.filter.labels.is_empty(),
        }
    }

    fn columns(&self, needs: Needs) -> Vec<&'static str> {
        let rate = self.aggregate == Aggregate::Rate;
        let field = match self.field {
            SampleField::Value => column::VALUE,
            SampleField::Count => column::COUNT,
            SampleField::Sum => column::SUM,
        };
        let wanted = [
            (column::TIME, true),
            (column::UNIT, true),
            (column::KIND, true),
            (column::QUALITY, true),
            (field, true),
            (column::MACHINE_ID, needs.machine),
            (column::SOURCE, needs.source),
            (column::LABELS, needs.labels),
            (column::AGENT_LABELS, needs.agent_labels),
            (column::TEMPORALITY, rate),
            (column::START_TIME, rate),
        ];
        let wanted = wanted.into_iter().filter(|(_, is_wanted)| *is_wanted);
        wanted.map(|(name, _)| name).collect()
    }
}

fn invalid<T>(what: impl Into<String>) -> Result<T, QueryError> {
    Err(QueryError::Invalid(what.into()))
}

#[derive(Debug, Clone, Copy)]
struct Needs {
    machine: bool,
    source: bool,
    labels: bool,
    agent_labels: bool,
}

impl Question for RangeQuery {
    type Answer = RangeResult;

    fn time_max(&self) -> Duration {
        self.time_max
    }

    async fn run(self, template: &Template, snapshot: &Snapshot) -> Result<RangeResult, RunError> {
        range(template, snapshot, &self).await
    }
}

/// Answers one question.
async fn range(
    template: &Template,
    snapshot: &Snapshot,
    query: &RangeQuery,
) -> Result<RangeResult, RunError> {
    let grid = query.grid()?;
    let state = template.session(snapshot).map_err(RunError::Planning)?;
    let memory = MemoryConsumer::new("range").register(&state.runtime_env().memory_pool);
    let context = SessionContext::new_with_state(state);
    let needs = query.needs();
    let scan = Scan {
        conditions: query.conditions(&grid)?,
        columns: &query.columns(needs),
        label_values: query.filter.label_values(),
    };
    let mut rows = scan.start(&context, template, snapshot).await?;
    let mut gathering = Gathering::new(query, grid, memory);
    while let Some(batch) = rows.next().await {
        gathering.take(&batch.map_err(RunError::Running)?)?;
    }
    gathering.finish()
}

/// Rows of `metrics` that are read.
pub(super) struct Scan<'a> {
    pub conditions: Vec<Expr>,
    pub columns: &'a [&'static str],
    /// Values that every row which is asked for has as labels.
    pub label_values: Vec<String>,
}

impl Scan<'_> {
    pub async fn start(
        self,
        context: &SessionContext,
        template: &Template,
        snapshot: &Snapshot,
    ) -> Result<SendableRecordBatchStream, RunError> {
        let table = template
            .table(Table::Metrics, snapshot)
            .with_label_values(self.label_values);
        let table = Arc::new(table);
        let mut frame = context.read_table(table).map_err(RunError::Running)?;
        if let Some(condition) = conjunction(self.conditions) {
            frame = frame.filter(condition).map_err(RunError::Running)?;
        }
        let frame = frame.select_columns(self.columns).map_err(RunError::Running)?;
        frame.execute_stream().await.map_err(RunError::Running)
    }
}

/// Samples as they come in.
struct Gathering<'a> {
    query: &'a RangeQuery,
    grid: Grid,
    memory: MemoryReservation,
    key: KeyBytes,
    /// Of each series that was met: none where the filter leaves it out.
    members: HashMap<Box<[u8]>, Option<Member>>,
    groups: Vec<Group>,
    /// Places of the groups, by their keys.
    places: HashMap<Box<[u8]>, usize>,
    unit: String,
    kind: String,
    samples: u64,
}

struct Group {
    machine: Option<String>,
    source: Option<String>,
    labels: BTreeMap<String, String>,
    buckets: Buckets,
}

struct Member {
    group: usize,
    is_delta: bool,
    /// For rates: they need them in order.
    samples: Vec<Sample>,
}

struct Columns<'a> {
    time: Times<'a>,
    unit: Words<'a>,
    kind: Words<'a>,
    quality: Bytes<'a>,
    value: Value<'a>,
    machine: Option<Words<'a>>,
    source: Option<Words<'a>>,
    labels: Option<Maps<'a>>,
    agent_labels: Option<Maps<'a>>,
    temporality: Option<Words<'a>>,
    start: Option<Times<'a>>,
}

enum Value<'a> {
    Float(Floats<'a>),
    Count(Counts<'a>),
}

impl Value<'_> {
    fn get(&self, row: usize) -> Option<f64> {
        let value = match self {
            Self::Float(floats) => floats.get(row),
            Self::Count(counts) => counts.get(row).map(|count| count as f64),
        };
        value.filter(|value| !value.is_nan())
    }
}

impl<'a> Columns<'a> {
    fn of(batch: &'a RecordBatch, field: SampleField) -> Option<Self> {
        Some(Self {
            time: Times::of(batch, column::TIME)?,
            unit: Words::of(batch, column::UNIT)?,
            kind: Words::of(batch, column::KIND)?,
            quality: Bytes::of(batch, column::QUALITY)?,
            value: match field {
                SampleField::Value => Value::Float(Floats::of(batch, column::VALUE)?),
                SampleField::Sum => Value::Float(Floats::of(batch, column::SUM)?),
                SampleField::Count => Value::Count(Counts::of(batch, column::COUNT)?),
            },
            machine: Words::of(batch, column::MACHINE_ID),
            source: Words::of(batch, column::SOURCE),
            labels: Maps::of(batch, column::LABELS),
            agent_labels: Maps::of(batch, column::AGENT_LABELS),
            temporality: Words::of(batch, column::TEMPORALITY),
            start: Times::of(batch, column::START_TIME),
        })
    }

    fn key(&self, row: usize, key: &mut KeyBytes) {
        key.clear();
        for words in [&self.machine, &self.source].into_iter().flatten() {
            key.put(words.get(row));
        }
        for maps in [&self.labels, &self.agent_labels].into_iter().flatten() {
            for (label, value) in maps.pairs(row) {
                key.put(label);
                key.put(value);
            }
            key.put("");
        }
    }

    fn label(&self, row: usize, label: &str) -> Option<&'a str> {
        let of = |maps: &Option<Maps<'a>>| maps.as_ref().and_then(|maps| maps.get(row, label));
        of(&self.labels).or_else(|| of(&self.agent_labels))
    }
}

impl<'a> Gathering<'a> {
    fn new(query: &'a RangeQuery, grid: Grid, memory: MemoryReservation) -> Self {
        Self {
            query,
            grid,
            memory,
            key: KeyBytes::default(),
            members: HashMap::new(),
            groups: Vec::new(),
            places: HashMap::new(),
            unit: String::new(),
            kind: String::new(),
            samples: 0,
        }
    }

    fn take(&mut self, batch: &RecordBatch) -> Result<(), RunError> {
        let columns = Columns::of(batch, self.query.field)
            .ok_or_else(|| QueryError::Failed("a column of metrics is not as it should be".to_owned()))?;
        if matches!(self.query.aggregate, Aggregate::Rate | Aggregate::Quantile(_)) {
            let each = size_of::<Sample>().max(size_of::<(u32, f64)>());
            // Vectors grow to twice what is in them.
            let bytes = batch.num_rows() * each * 2;
            self.memory.try_grow(bytes).map_err(RunError::Running)?;
        }
        for row in 0..batch.num_rows() {
            let value = columns.value.get(row);
            let is_bad = columns.quality.get(row) == Some(Quality::Bad as u8);
            if let (Some(time), Some(value), false) = (columns.time.get(row), value, is_bad) {
                self.sample(&columns, row, time, value)?;
            } else if self.kind.is_empty() {
                columns.kind.get(row).clone_into(&mut self.kind);
            }
        }
        Ok(())
    }

    fn sample(&mut self, columns: &Columns<'_>, row: usize, time: i64, value: f64) -> Result<(), RunError> {
        columns.key(row, &mut self.key);
        if !self.members.contains_key(self.key.as_slice()) {
            let member = self.member(columns, row)?;
            self.members.insert(self.key.as_slice().into(), member);
        }
        let Some(Some(member)) = self.members.get_mut(self.key.as_slice()) else {
            return Ok(());
        };
        if self.query.aggregate == Aggregate::Rate {
            let start = columns.start.as_ref().and_then(|starts| starts.get(row));
            member.samples.push(Sample { time, start, value });
            self.samples += 1;
        } else if let Some(index) = self.grid.index(time) {
            self.groups[member.group].buckets.add(index, time, value);
            self.samples += 1;
        }
        Ok(())
    }

    /// A series that was not met before.
    fn member(&mut self, columns: &Columns<'_>, row: usize) -> Result<Option<Member>, RunError> {
        let bytes = self.key.as_slice().len() + size_of::<Member>() + 64;
        self.memory.try_grow(bytes).map_err(RunError::Running)?;
        let word = |words: &Option<Words<'_>>| words.as_ref().map_or("", |words| words.get(row)).to_owned();
        let labels_only = SeriesFilter {
            labels: self.query.filter.labels.clone(),
            ..SeriesFilter::default()
        };
        if !labels_only.matches(["", "", ""], |label| columns.label(row, label)) {
            return Ok(None);
        }
        self.check_unit_and_kind(columns.unit.get(row), columns.kind.get(row))?;
        let (mut machine, mut source, mut labels) = (None, None, BTreeMap::new());
        match &self.query.group_by {
            None => {
                (machine, source) = (Some(word(&columns.machine)), Some(word(&columns.source)));
                let pairs = columns.labels.iter().flat_map(|maps| maps.pairs(row));
                labels.extend(pairs.map(|(key, value)| (key.to_owned(), value.to_owned())));
            }
            Some(keys) => {
                for key in keys {
                    match key {
                        GroupKey::Machine => machine = Some(word(&columns.machine)),
                        GroupKey::Source => source = Some(word(&columns.source)),
                        GroupKey::Label(label) => {
                            let value = columns.label(row, label).unwrap_or_default();
                            labels.insert(label.clone(), value.to_owned());
                        }
                    }
                }
            }
        }
        let group = self.group(machine, source, labels)?;
        Ok(Some(Member {
            group,
            is_delta: word(&columns.temporality) == "delta",
            samples: Vec::new(),
        }))
    }

    fn check_unit_and_kind(&mut self, unit: &str, kind: &str) -> Result<(), QueryError> {
        let name = &self.query.name;
        if self.query.aggregate == Aggregate::Rate && kind == MetricKind::Gauge.word() {
            return invalid(format!(
                "{name} is a gauge, and only what counts has a rate; take `avg`"
            ));
        }
        if self.groups.is_empty() {
            unit.clone_into(&mut self.unit);
            kind.clone_into(&mut self.kind);
        } else if self.unit != unit {
            return invalid(format!(
                "series of {name} have different units ({:?} and {unit:?}): narrow by machine, source or a label",
                self.unit
            ));
        }
        Ok(())
    }

    fn group(
        &mut self,
        machine: Option<String>,
        source: Option<String>,
        labels: BTreeMap<String, String>,
    ) -> Result<usize, RunError> {
        let mut key = KeyBytes::default();
        let texts = machine.iter().chain(&source);
        let labels_texts = labels.iter().flat_map(|(key, value)| [key, value]);
        texts.chain(labels_texts).for_each(|text| key.put(text));
        if let Some(place) = self.places.get(key.as_slice()) {
            return Ok(*place);
        }
        let (place, count) = (self.groups.len(), self.grid.count);
        let allowed = self.query.series_max.clamp(1, SERIES_MAX);
        let what = if self.query.group_by.is_some() {
            "groups"
        } else {
            "series"
        };
        if place >= allowed {
            let how = "narrow by machine, source or label, or group them";
            let name = &self.query.name;
            return Ok(invalid(format!(
                "more than {allowed} {what} of {name} match: {how}"
            ))?);
        }
        if (place + 1) * count > POINTS_TOTAL_MAX {
            return Ok(invalid(format!(
                "more than {place} {what} of {count} points each match, and an answer has at most {POINTS_TOTAL_MAX} \
                 points: take a longer step, or narrow by machine, source or label"
            ))?);
        }
        let bytes = Buckets::fixed_bytes(self.query.aggregate, &self.grid) + key.as_slice().len() * 3 + 128;
        self.memory.try_grow(bytes).map_err(RunError::Running)?;
        self.groups.push(Group {
            machine,
            source,
            labels,
            buckets: Buckets::new(self.query.aggregate, &self.grid),
        });
        self.places.insert(key.as_slice().into(), place);
        Ok(place)
    }

    fn finish(mut self) -> Result<RangeResult, RunError> {
        if self.groups.is_empty() && self.query.field == SampleField::Value && has_no_value(&self.kind) {
            return Ok(invalid(format!(
                "samples of {} are each a {}, which has no value: ask for `field=count` or `field=sum`",
                self.query.name, self.kind
            ))?);
        }
        for member in self.members.values_mut().flatten() {
            if !member.samples.is_empty() {
                let rates = rates(&mut member.samples, member.is_delta, &self.grid);
                self.groups[member.group].buckets.add_rates(&rates);
            }
        }
        let (aggregate, grid) = (self.query.aggregate, self.grid);
        let mut series: Vec<RangeSeries> = self
            .groups
            .into_iter()
            .map(|group| RangeSeries {
                machine: group.machine,
                source: group.source,
                labels: group.labels,
                points: group.buckets.finish(aggregate, &grid),
            })
            .collect();
        // A series whose samples all lie before the range was only looked back at.
        series.retain(|series| series.points.iter().any(Option::is_some));
        series.sort_by(|left, right| {
            let key = |series: &RangeSeries| {
                (
                    series.machine.clone(),
                    series.source.clone(),
                    series.labels.clone(),
                )
            };
            key(left).cmp(&key(right))
        });
        Ok(RangeResult {
            unit: self.unit,
            kind: self.kind,
            from: grid.from,
            step: grid.step,
            count: grid.count,
            samples: self.samples,
            series,
        })
    }
}

fn has_no_value(kind: &str) -> bool {
    kind == MetricKind::Histogram.word() || kind == MetricKind::Summary.word()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_is_chosen_so_that_some_300_points_come_out() {
        for (seconds, step) in [
            (1, 10),
            (3000, 10),
            (3600, 15),
            (86_400, 300),
            (86_400 * 30, 10_800),
            (86_400 * 365 * 3, 345_600),
        ] {
            assert_eq!(step_for(0, seconds * SECOND_NS), step * SECOND_NS, "{seconds}");
        }
        assert!(step_for(i64::MIN, i64::MAX) > 0);
        assert!(step_for(5, 0) > 0);
    }
}
