//! `GET /api/v1/logs`: a page of log records.

use std::sync::Arc;

use axum::extract::State;
use axum::{Extension, Json};
use edgelogger_store::query::PAGE_ROWS_MAX;
use edgelogger_store::{LogQuery, Order};
use serde::Serialize;
use serde_json::Value;

use super::described::described;
use super::operation::{Answer, Operation, QUERY_PROBLEMS};
use super::parameters::{Asked, Kind, Parameter};
use super::problem::Problem;
use super::{ApiContext, rows};

/// Records on a page where nothing is said.
const LIMIT_DEFAULT: u64 = 100;

const PATTERN: Kind = Kind::Text { chars_max: 1024 };

/// First time.
pub static FROM: Parameter = Parameter {
    name: "from",
    about: "At or after this time",
    kind: Kind::Time,
};
/// Last time.
pub static TO: Parameter = Parameter {
    name: "to",
    about: "Before this time",
    kind: Kind::Time,
};
/// Machines.
pub static MACHINE: Parameter = Parameter {
    name: "machine",
    about: "Only this machine; `*` stands for any text, `?` for one character",
    kind: PATTERN,
};
/// Sources.
pub static SOURCE: Parameter = Parameter {
    name: "source",
    about: "Only this source: a path, `journald`; `*` and `?` as above",
    kind: PATTERN,
};
static SEVERITY: Parameter = Parameter {
    name: "severity",
    about: "This severity or a higher one, by name or by OpenTelemetry's number; records without one are left out",
    kind: Kind::Choice {
        words: &SEVERITY_WORDS,
        default: None,
    },
};
static Q: Parameter = Parameter {
    name: "q",
    about: "Only records with this text in their body",
    kind: PATTERN,
};
static I: Parameter = Parameter {
    name: "i",
    about: "Whatever the case of the text",
    kind: Kind::Flag,
};
static LIMIT: Parameter = Parameter {
    name: "limit",
    about: "Records on the page",
    kind: Kind::Integer {
        min: 1,
        max: PAGE_ROWS_MAX as u64,
        default: Some(LIMIT_DEFAULT),
    },
};
static ORDER: Parameter = Parameter {
    name: "order",
    about: "By time: `desc` newest first, `asc` oldest first",
    kind: Kind::Choice {
        words: &["desc", "asc"],
        default: Some("desc"),
    },
};
static CURSOR: Parameter = Parameter {
    name: "cursor",
    about: "Where the page before ended: its `next_cursor`",
    kind: Kind::Hex { min: 66, max: 66 },
};

/// Names stand for the first number of their range.
const SEVERITY_NUMBERS: [(&str, u8); 14] = [
    ("trace", 1),
    ("debug", 5),
    ("info", 9),
    ("notice", 9),
    ("warn", 13),
    ("warning", 13),
    ("error", 17),
    ("err", 17),
    ("fatal", 21),
    ("critical", 21),
    ("crit", 21),
    ("alert", 21),
    ("emerg", 21),
    ("panic", 21),
];
static SEVERITY_WORDS: [&str; 38] = severity_words();

const fn severity_words() -> [&'static str; 38] {
    const NUMBERS: [&str; 24] = [
        "1", "2", "3", "4", "5", "6", "7", "8", "9", "10", "11", "12", "13", "14", "15", "16", "17", "18",
        "19", "20", "21", "22", "23", "24",
    ];
    let mut words = [""; 38];
    let mut index = 0;
    while index < 14 {
        words[index] = SEVERITY_NUMBERS[index].0;
        index += 1;
    }
    while index < 38 {
        words[index] = NUMBERS[index - 14];
        index += 1;
    }
    words
}

described! {
    /// A page of records.
    #[derive(Debug, Serialize)]
    pub struct LogAnswer {
        /// The records; what is null is left out.
        rows: Vec<Value>,
        /// Where the next page begins; null when this was the last.
        next_cursor: Option<String>,
        /// Files of the store that can't be used and may hold records that were asked for.
        #[serde(skip_serializing_if = "Vec::is_empty")]
        incomplete: Vec<String>,
    }
}

static PARAMETERS: &[&Parameter] = &[
    &FROM, &TO, &MACHINE, &SOURCE, &SEVERITY, &Q, &I, &LIMIT, &ORDER, &CURSOR,
];

/// `GET /api/v1/logs`.
pub fn operation() -> Operation {
    Operation::get("/api/v1/logs", logs)
        .about(
            "logs",
            "Log records, page by page",
            "In the order of (time, stream, position).",
        )
        .parameters(PARAMETERS)
        .answers([Answer::json::<LogAnswer>("A page.")])
        .problems(QUERY_PROBLEMS)
}

async fn logs(
    State(context): State<Arc<ApiContext>>,
    Extension(asked): Extension<Asked>,
) -> Result<(Option<Incomplete>, Json<LogAnswer>), Problem> {
    let query = LogQuery {
        time_max: context.query_timeout,
        ..check(&asked)?
    };
    let page = context.store.logs(query).await?;
    let rows = rows::objects(std::slice::from_ref(&page.rows)).map_err(sql_failed)?;
    let header = incomplete(&page.incomplete);
    let answer = LogAnswer {
        rows,
        next_cursor: page.next_cursor,
        incomplete: page.incomplete,
    };
    Ok((header, Json(answer)))
}

/// The header of an answer from which rows are missing: the number of files that can't be used.
pub(super) type Incomplete = [(&'static str, String); 1];

/// For these files.
pub(super) fn incomplete(files: &[String]) -> Option<Incomplete> {
    (!files.is_empty()).then(|| [("x-edgelogger-incomplete", files.len().to_string())])
}

pub(super) fn sql_failed(error: impl std::fmt::Display) -> Problem {
    Problem::from(edgelogger_store::QueryError::Failed(error.to_string()))
}

fn check(asked: &Asked) -> Result<LogQuery, Problem> {
    let owned = |parameter| asked.text(parameter).map(str::to_owned);
    let (from, to) = asked.range(&FROM, &TO)?;
    Ok(LogQuery {
        from,
        to,
        machine: owned(&MACHINE),
        source: owned(&SOURCE),
        severity_min: asked.word(&SEVERITY).map(severity),
        substring: owned(&Q),
        case_insensitive: asked.flag(&I),
        limit: asked.count(&LIMIT),
        cursor: owned(&CURSOR),
        order: match asked.word(&ORDER) {
            Some("asc") => Order::OldestFirst,
            _ => Order::NewestFirst,
        },
        ..LogQuery::default()
    })
}

/// One of [`SEVERITY_WORDS`] as a number.
fn severity(word: &str) -> u8 {
    let named = SEVERITY_NUMBERS.iter().find(|(name, _)| *name == word);
    named.map_or_else(|| word.parse().unwrap_or(1), |(_, number)| *number)
}
