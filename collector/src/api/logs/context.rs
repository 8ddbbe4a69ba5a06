//! `GET /api/v1/logs/context`: what stood around a record, given its address.

use std::sync::Arc;

use axum::Extension;
use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use edgelogger_store::{Answered, ContextQuery};
use serde_json::{Value, json};

use super::filter::{FIELDS, LogRow, column_of};
use super::page::chosen;
use super::sql_failed;
use crate::api::described::{Components, Described, Member, object};
use crate::api::format::JSON_TYPE;
use crate::api::operation::{Answer, Operation};
use crate::api::parameters::{Asked, Kind, Parameter};
use crate::api::problem::Problem;
use crate::api::{ApiContext, incomplete, rows};

const NEIGHBOURS_DEFAULT: u64 = 10;
const NEIGHBOURS_MAX: u64 = 1_000;

static STREAM_ID: Parameter = Parameter::new(
    "stream_id",
    "The record's stream; needed",
    Kind::Hex { min: 32, max: 32 },
);
static POSITION: Parameter = Parameter::new(
    "position",
    "Its position there; needed",
    Kind::integer(0, i64::MAX.unsigned_abs(), None),
);
static BEFORE: Parameter = Parameter::new("before", "Records before it", NEIGHBOURS);
static AFTER: Parameter = Parameter::new("after", "Records behind it", NEIGHBOURS);
const NEIGHBOURS: Kind = Kind::integer(0, NEIGHBOURS_MAX, Some(NEIGHBOURS_DEFAULT));
static PARAMETERS: &[&Parameter] = &[&STREAM_ID, &POSITION, &BEFORE, &AFTER, &FIELDS];

/// The answer.
struct ContextAnswer;

impl Described for ContextAnswer {
    fn schema(components: &mut Components) -> Value {
        components.named("ContextAnswer", |components| {
            let row = LogRow::schema(components);
            let member = |name, about: &str, schema| Member {
                name,
                about: about.to_owned(),
                is_optional: false,
                schema,
            };
            let list = json!({ "type": "array", "items": row });
            let members = vec![
                member(
                    "before",
                    "Those before it, in the order of positions.",
                    list.clone(),
                ),
                member("record", "The record itself.", row),
                member("after", "Those behind it.", list),
                incomplete::member(components),
            ];
            object("A record and its neighbours.", members)
        })
    }
}

/// `GET /api/v1/logs/context`.
pub fn operation() -> Operation {
    Operation::get("/api/v1/logs/context", context)
        .about(
            "logs",
            "What stood around a record",
            "The records of its stream before and behind it, in the order in which they were written.",
        )
        .parameters(PARAMETERS)
        .required(&["stream_id", "position"])
        .answers([Answer::json::<ContextAnswer>("The record and its neighbours.")])
        .reads_store()
        .problems(&[404, 408, 422, 500])
}

async fn context(
    State(context): State<Arc<ApiContext>>,
    Extension(asked): Extension<Asked>,
) -> Result<Response, Problem> {
    let (Some(stream_id), Some(position)) = (asked.text(&STREAM_ID), asked.integer(&POSITION)) else {
        return Err(Problem::bad_request(
            "`stream_id` and `position` are needed: the address of a record, as it stands in every record",
        ));
    };
    let fields = asked.words(&FIELDS);
    let query = ContextQuery {
        stream_id: stream_id.to_owned(),
        position: position.cast_signed(),
        before: asked.count(&BEFORE),
        after: asked.count(&AFTER),
        columns: fields.map(|fields| fields.iter().map(|field| column_of(field)).collect()),
        time_max: context.query_timeout(),
    };
    let Answered {
        answer,
        incomplete: missing,
    } = context.store.context(query).await?;
    let found = answer.ok_or_else(|| {
        let of_missing = match &missing[..] {
            [] => String::new(),
            [file, ..] => format!(
                ", unless it is in {}, which can't be used: {}",
                file.file, file.reason
            ),
        };
        Problem::not_found_because(format!(
            "there is no record at position {position} of stream {stream_id}{of_missing}"
        ))
    })?;
    let list = |batch| chosen(batch, fields).and_then(|batch| rows::array(&batch));
    let text = || {
        let mut text = b"{\"before\":".to_vec();
        text.extend(list(&found.before)?);
        text.extend(b",\"record\":");
        let record = list(&found.record)?;
        text.extend(&record[1..record.len() - 1]);
        text.extend(b",\"after\":");
        text.extend(list(&found.after)?);
        incomplete::write_member(&mut text, &missing);
        text.push(b'}');
        Ok(text)
    };
    let text: Result<Vec<u8>, arrow::error::ArrowError> = text();
    let text = text.map_err(sql_failed)?;
    let kind = [(header::CONTENT_TYPE, JSON_TYPE)];
    Ok((incomplete::header(&missing), kind, text).into_response())
}
