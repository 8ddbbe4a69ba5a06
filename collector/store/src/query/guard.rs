//! One read-only statement, or an error that says what is wrong with the text.

use datafusion::sql::parser::{DFParserBuilder, Statement};
use datafusion::sql::sqlparser::ast::{Query, SetExpr, Statement as Sql};
use datafusion::sql::sqlparser::dialect::GenericDialect;
use datafusion::sql::sqlparser::tokenizer::{Token, Tokenizer};

use super::SQL_BYTES_MAX;
use crate::error::QueryError;

/// Words and signs of a statement. The planner walks an expression recursively, so this bounds its stack: a chain of
/// ANDs is as deep as it is long.
const TOKENS_MAX: usize = 4096;

/// The statement of a text.
pub fn parse(text: &str) -> Result<Statement, QueryError> {
    if text.len() > SQL_BYTES_MAX {
        let reason = format!(
            "the SQL text has {} bytes, allowed are {SQL_BYTES_MAX}",
            text.len()
        );
        return Err(QueryError::Invalid(reason));
    }
    let dialect = GenericDialect {};
    let tokens = Tokenizer::new(&dialect, text)
        .tokenize_with_location()
        .map_err(|error| QueryError::Invalid(error.to_string()))?;
    let count = tokens
        .iter()
        .filter(|token| !matches!(token.token, Token::Whitespace(_)))
        .count();
    if count > TOKENS_MAX {
        let reason = format!("the SQL text has {count} words and signs, allowed are {TOKENS_MAX}");
        return Err(QueryError::Invalid(reason));
    }
    let statements = DFParserBuilder::new(tokens)
        .with_dialect(&dialect)
        .build()
        .and_then(|mut parser| parser.parse_statements())
        .map_err(|error| QueryError::Invalid(error.to_string()))?;
    let mut statements = statements.into_iter();
    match (statements.next(), statements.next()) {
        (Some(statement), None) => check(&statement).map(|()| statement),
        (None, _) => Err(QueryError::Invalid("the SQL text holds no statement".to_owned())),
        (Some(_), Some(_)) => Err(QueryError::NotReadOnly(
            "the SQL text holds several statements".to_owned(),
        )),
    }
}

fn check(statement: &Statement) -> Result<(), QueryError> {
    match statement {
        Statement::Explain(explain) => check(&explain.statement),
        Statement::Statement(sql) => check_sql(sql),
        Statement::CreateExternalTable(_) => refuse("CREATE EXTERNAL TABLE is not allowed"),
        Statement::CopyTo(_) => refuse("COPY is not allowed"),
        Statement::Reset(_) => refuse("RESET is not allowed"),
    }
}

fn check_sql(sql: &Sql) -> Result<(), QueryError> {
    match sql {
        Sql::Query(query) => check_query(query),
        Sql::Explain { statement, .. } => check_sql(statement),
        Sql::ShowTables { .. } | Sql::ShowColumns { .. } | Sql::ExplainTable { .. } => Ok(()),
        other => {
            let text = other.to_string();
            let word = text.split_whitespace().next().unwrap_or("this");
            refuse(&format!("{word} is not allowed"))
        }
    }
}

/// The grammar allows INSERT and UPDATE where a query stands.
fn check_query(query: &Query) -> Result<(), QueryError> {
    let with = query.with.iter().flat_map(|with| &with.cte_tables);
    with.map(|table| &*table.query).try_for_each(check_query)?;
    check_body(&query.body)
}

fn check_body(body: &SetExpr) -> Result<(), QueryError> {
    match body {
        SetExpr::Select(select) if select.into.is_some() => refuse("SELECT INTO is not allowed"),
        SetExpr::Select(_) | SetExpr::Values(_) | SetExpr::Table(_) => Ok(()),
        SetExpr::Query(query) => check_query(query),
        SetExpr::SetOperation { left, right, .. } => check_body(left).and_then(|()| check_body(right)),
        _ => refuse("changing rows is not allowed"),
    }
}

fn refuse(reason: &str) -> Result<(), QueryError> {
    Err(QueryError::NotReadOnly(reason.to_owned()))
}
