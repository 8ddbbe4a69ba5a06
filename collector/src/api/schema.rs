//! `GET /api/v1/schema`: what can be asked in SQL.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use edgelogger_store::query::{ColumnInfo, TableInfo};
use serde::Serialize;

use super::ApiContext;
use super::described::described;
use super::operation::{Answer, Operation};

described! {
    /// Tables.
    #[derive(Debug, Serialize)]
    pub struct SchemaAnswer {
        /// All that a statement can read.
        tables: Vec<TableReport>,
    }

    /// One table.
    #[derive(Debug, Serialize)]
    pub struct TableReport {
        /// Its name.
        name: &'static str,
        /// What a row is.
        description: &'static str,
        /// In the order of `SELECT *`.
        columns: Vec<ColumnReport>,
    }

    /// One column.
    #[derive(Debug, Serialize)]
    pub struct ColumnReport {
        /// Its name.
        name: String,
        /// text, timestamp, integer, float, boolean, map, list or bytes.
        #[serde(rename = "type")]
        kind: &'static str,
        /// Its type as Arrow writes it.
        arrow_type: String,
        /// May a row lack it?
        nullable: bool,
        /// What it says.
        description: String,
    }
}

/// `GET /api/v1/schema`.
pub fn operation() -> Operation {
    Operation::get("/api/v1/schema", schema)
        .about("sql", "Tables and columns", "What `POST /api/v1/sql` can read.")
        .answers([Answer::json::<SchemaAnswer>("The tables.")])
}

async fn schema(State(context): State<Arc<ApiContext>>) -> Json<SchemaAnswer> {
    let column = |column: ColumnInfo| ColumnReport {
        kind: column.type_word(),
        arrow_type: column.data_type.to_string(),
        nullable: column.is_nullable,
        name: column.name,
        description: column.description,
    };
    let table = |table: TableInfo| TableReport {
        name: table.name,
        description: table.description,
        columns: table.columns.into_iter().map(column).collect(),
    };
    Json(SchemaAnswer {
        tables: context.store.tables().into_iter().map(table).collect(),
    })
}
