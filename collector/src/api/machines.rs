//! `GET /api/v1/machines`: who there is, and how they are.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Int64Type, TimestampNanosecondType};
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use axum::{Extension, Json};
use edgelogger_store::query::{SqlParameters, SqlQuery, SqlValue};
use edgelogger_store::{Answered, SqlLimits};
use serde::Serialize;

use super::ApiContext;
use super::described::described;
use super::incomplete::FromStore;
use super::logs::{MACHINE, sql_failed};
use super::operation::{Answer, Operation};
use super::parameters::{Asked, Kind, Parameter};
use super::problem::Problem;
use super::series::{OF_MACHINE, in_path};
use crate::health::rfc3339;
use crate::ledger::StreamReport;
use crate::machines::MachineReport;
use crate::text::matches_wildcard;

const DAY_NS: i64 = 86_400 * 1_000_000_000;
/// Streams shown of one machine; the ledger shows the others.
const STREAMS_MAX: usize = 1000;
/// Days and sources of one machine, at most.
const VOLUME_ROWS_MAX: usize = 200_000;

static CONNECTED: Parameter = Parameter::new(
    "connected",
    "`yes`: only those that are connected; `no`: only those that are not",
    Kind::choice(&["yes", "no"], None),
);
static LIMIT: Parameter = Parameter::new(
    "limit",
    "Machines of the answer",
    Kind::integer(1, 10_000, Some(1000)),
);
static DAYS: Parameter = Parameter::new(
    "days",
    "Days of which the volume is told, today included",
    Kind::integer(0, 31, Some(7)),
);

described! {
    /// Machines.
    #[derive(Debug, Serialize)]
    pub struct MachinesAnswer {
        /// By name.
        machines: Vec<MachineReport>,
        /// All that match, also those beyond the limit.
        count: usize,
    }

    /// One machine.
    #[derive(Debug, Serialize)]
    pub struct MachineAnswer {
        /// As in the list.
        machine: MachineReport,
        /// Its streams, by source and age, at most 1,000; `/api/v1/ledger` has the others.
        streams: Vec<StreamReport>,
        /// What came in each day, oldest first; days without anything are left out.
        days: Vec<DayReport>,
    }

    /// What came in on one day.
    #[derive(Debug, Default, Clone, PartialEq, Eq, Serialize)]
    pub struct DayReport {
        /// The day that it was received, UTC.
        day: String,
        /// Log records.
        logs: i64,
        /// What they took in their files, bytes. Sources that count records, such as journald, are left out.
        log_bytes: i64,
        /// Metric samples.
        metrics: i64,
    }
}

static PARAMETERS: &[&Parameter] = &[&MACHINE, &CONNECTED, &LIMIT];
static ONE_PARAMETERS: &[&Parameter] = &[&DAYS];
static IN_PATH: &[&Parameter] = &[&OF_MACHINE];

/// `GET /api/v1/machines`.
pub fn operation() -> Operation {
    Operation::get("/api/v1/machines", machines)
        .about(
            "machines",
            "Machines",
            "Those whose agent has connected once, and those of which something is stored.",
        )
        .parameters(PARAMETERS)
        .answers([Answer::json::<MachinesAnswer>("The machines.")])
        .problems(&[500])
}

/// `GET /api/v1/machines/{machine}`.
pub fn one_operation() -> Operation {
    Operation::get("/api/v1/machines/{machine}", one)
        .about(
            "machines",
            "One machine",
            "With its streams, and what came in by day.",
        )
        .in_path(IN_PATH)
        .parameters(ONE_PARAMETERS)
        .answers([Answer::json::<FromStore<MachineAnswer>>("The machine.")])
        .reads_store()
        .problems(&[404, 408, 422, 500])
}

async fn machines(
    State(context): State<Arc<ApiContext>>,
    Extension(asked): Extension<Asked>,
) -> Result<Json<MachinesAnswer>, Problem> {
    let pattern = asked.text(&MACHINE).map(str::to_owned);
    let wants = move |machine: &str| {
        pattern
            .as_ref()
            .is_none_or(|pattern| matches_wildcard(pattern, machine))
    };
    let report = tokio::task::spawn_blocking(move || context.machines.report(wants)).await;
    let mut machines = report.map_err(sql_failed)?;
    if let Some(word) = asked.word(&CONNECTED) {
        machines.retain(|machine| machine.connected == (word == "yes"));
    }
    let count = machines.len();
    machines.truncate(asked.count(&LIMIT));
    Ok(Json(MachinesAnswer { machines, count }))
}

async fn one(
    State(context): State<Arc<ApiContext>>,
    Extension(asked): Extension<Asked>,
    path: Result<Path<String>, PathRejection>,
) -> Result<FromStore<MachineAnswer>, Problem> {
    let name = in_path(path)?;
    let (from, wanted) = (Arc::clone(&context), name.clone());
    let looked = tokio::task::spawn_blocking(move || {
        let machine = from.machines.report(|machine| machine == wanted).pop();
        let streams: Vec<_> = from.ledger.stream_reports(|machine| machine == wanted).collect();
        (machine, streams)
    });
    let (machine, mut streams) = looked.await.map_err(sql_failed)?;
    let Some(machine) = machine else {
        return Err(Problem::not_found("this address").with_detail(format!(
            "no machine {name:?} is known; /api/v1/machines says which there are"
        )));
    };
    let days = match asked.count(&DAYS) {
        0 => Answered::default(),
        days => volume(&context, &name, days, &streams).await?,
    };
    streams.truncate(STREAMS_MAX);
    Ok(FromStore(days.map(|days| MachineAnswer {
        machine,
        streams,
        days,
    })))
}

/// Names are parameters: nothing of a request is SQL text.
const LOGS_BY_DAY: &str = "SELECT date_trunc('day', received_time) AS day, source, count(*) AS records, \
     sum(source_len) AS positions FROM logs WHERE machine_id = $1 AND received_time >= $2 GROUP BY 1, 2";
const METRICS_BY_DAY: &str = "SELECT date_trunc('day', received_time) AS day, source, count(*) AS records, \
     0 AS positions FROM metrics WHERE machine_id = $1 AND received_time >= $2 GROUP BY 1, 2";

async fn volume(
    context: &ApiContext,
    machine: &str,
    days: usize,
    streams: &[StreamReport],
) -> Result<Answered<Vec<DayReport>>, Problem> {
    let today = context.time.now_ns().div_euclid(DAY_NS);
    let since = (today + 1 - i64::try_from(days).unwrap_or(i64::MAX)).saturating_mul(DAY_NS);
    let ask = |text: &str| {
        context.store.query(SqlQuery {
            text: text.to_owned(),
            parameters: SqlParameters::List(vec![
                SqlValue::Text(machine.to_owned()),
                SqlValue::Text(rfc3339(since)),
            ]),
            limits: SqlLimits {
                rows_max: VOLUME_ROWS_MAX,
                time_max: context.query_timeout(),
                ..SqlLimits::default()
            },
        })
    };
    let (logs, metrics) = (ask(LOGS_BY_DAY).await?, ask(METRICS_BY_DAY).await?);
    if logs.truncated || metrics.truncated {
        return Err(Problem::unprocessable(format!(
            "this machine has more than {VOLUME_ROWS_MAX} sources and days: ask for fewer `days`"
        )));
    }
    let of_bytes = |source: &str| {
        let mut streams = streams.iter().filter(|stream| stream.source == source);
        streams.all(|stream| stream.unit == "bytes")
    };
    let mut by_day: BTreeMap<i64, DayReport> = BTreeMap::new();
    for row in logs.batches.iter().flat_map(rows) {
        let day = by_day.entry(row.day).or_default();
        day.logs += row.records;
        if of_bytes(&row.source) {
            day.log_bytes = day.log_bytes.saturating_add(row.positions);
        }
    }
    for row in metrics.batches.iter().flat_map(rows) {
        by_day.entry(row.day).or_default().metrics += row.records;
    }
    let named = |(day, report): (i64, DayReport)| DayReport {
        day: rfc3339(day).chars().take_while(|char| *char != 'T').collect(),
        ..report
    };
    Ok(Answered {
        answer: by_day.into_iter().map(named).collect(),
        incomplete: [logs.incomplete, metrics.incomplete].concat(),
    })
}

struct VolumeRow {
    day: i64,
    source: String,
    records: i64,
    positions: i64,
}

fn rows(batch: &RecordBatch) -> Vec<VolumeRow> {
    let source = cast(batch.column(1), &DataType::Utf8).ok();
    let columns = (
        batch.column(0).as_primitive_opt::<TimestampNanosecondType>(),
        source.as_ref().and_then(|source| source.as_string_opt::<i32>()),
        batch.column(2).as_primitive_opt::<Int64Type>(),
        batch.column(3).as_primitive_opt::<Int64Type>(),
    );
    let (Some(day), Some(source), Some(records), Some(positions)) = columns else {
        return Vec::new();
    };
    let row = |row| VolumeRow {
        day: day.value(row),
        source: source.value(row).to_owned(),
        records: records.value(row),
        positions: if positions.is_valid(row) {
            positions.value(row)
        } else {
            0
        },
    };
    (0..batch.num_rows()).map(row).collect()
}
