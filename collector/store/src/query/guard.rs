//! One read-only statement, or an error that says what is wrong with the text.

use std::collections::HashMap;

use datafusion::sql::parser::{DFParserBuilder, Statement};
use datafusion::sql::sqlparser::ast::{Query, SetExpr, Statement as Sql};
use datafusion::sql::sqlparser::dialect::GenericDialect;
use datafusion::sql::sqlparser::tokenizer::{Token, Tokenizer};

use super::SQL_BYTES_MAX;
use crate::error::QueryError;

/// Words and signs of a statement. The planner walks an expression recursively, so this bounds its stack: a chain of
/// ANDs is as deep as it is long.
const TOKENS_MAX: usize = 4096;

/// Copies of WITH tables in a statement. Each definition that uses the one before it twice doubles the plan.
const WEIGHT_MAX: u64 = 1000;

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
    let weight = weight(tokens.iter().map(|token| &token.token));
    if weight > WEIGHT_MAX {
        let reason = format!(
            "the WITH tables of the statement refer to each other so often that planning it would not end \
             ({weight} copies, allowed are {WEIGHT_MAX})"
        );
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

/// How many tables the planner comes to see: each use of a WITH table is a copy of all that it is made of. Counted on the
/// words alone, wherever a WITH stands, and rather too much: a column of the same name counts, too.
fn weight<'a>(tokens: impl Iterator<Item = &'a Token>) -> u64 {
    let tokens: Vec<&Token> = tokens
        .filter(|token| !matches!(token, Token::Whitespace(_)))
        .collect();
    let name = |token: &Token| match token {
        Token::Word(word) => Some(word.value.to_ascii_lowercase()),
        _ => None,
    };
    let is_as = |token: &Token| name(token).as_deref() == Some("as");
    let mut weights: HashMap<String, u64> = HashMap::new();
    // Open parentheses: what is defined in each, if anything; the word before it; the weight inside so far.
    let mut open: Vec<Group> = vec![Group::default()];
    // Where the last group closed, and the word before it: the table of a list of columns.
    let mut closed: (usize, Option<String>) = (0, None);
    for (at, token) in tokens.iter().enumerate() {
        match token {
            Token::LParen => {
                let before = |back: usize| at.checked_sub(back).map(|index| tokens[index]);
                // NAME AS (, NAME AS MATERIALIZED (, NAME AS NOT MATERIALIZED (, NAME (COLUMNS) AS (
                let after_as = (1..=3).find(|back| before(*back).is_some_and(is_as));
                let defined = after_as.and_then(|back| match before(back + 1)? {
                    Token::RParen if closed.0 + back + 1 == at => closed.1.clone(),
                    token => name(token),
                });
                open.push(Group {
                    defined,
                    word_before: before(1).and_then(name),
                    weight: 0,
                });
            }
            Token::RParen if open.len() > 1 => {
                let Some(group) = open.pop() else { continue };
                closed = (at, group.word_before);
                match (group.defined, open.last_mut()) {
                    (Some(defined), _) => {
                        weights.insert(defined, group.weight.saturating_add(1));
                    }
                    (None, Some(around)) => around.weight = around.weight.saturating_add(group.weight),
                    (None, None) => {}
                }
            }
            token => {
                let used = name(token).and_then(|name| weights.get(&name)).copied();
                if let (Some(used), Some(around)) = (used, open.last_mut()) {
                    around.weight = around.weight.saturating_add(used);
                }
            }
        }
    }
    open.iter().map(|group| group.weight).fold(0, u64::saturating_add)
}

#[derive(Default)]
struct Group {
    defined: Option<String>,
    word_before: Option<String>,
    weight: u64,
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

#[cfg(test)]
mod tests {
    use super::*;

    fn doubling(tables: usize, columns: &str) -> String {
        let mut text = format!("WITH t0{columns} AS (SELECT 1 v)");
        for table in 1..tables {
            let before = table - 1;
            text += &format!(", t{table}{columns} AS (SELECT x.v FROM t{before} x, t{before} y)");
        }
        text + &format!(" SELECT * FROM t{}", tables - 1)
    }

    #[test]
    fn tables_that_double_each_other_are_refused() {
        assert!(parse(&doubling(5, "")).is_ok());
        for columns in ["", " (v)"] {
            let error = parse(&doubling(30, columns)).unwrap_err();
            assert!(error.to_string().contains("WITH"), "{error}");
        }
    }

    #[test]
    fn ordinary_statements_are_light() {
        let chain: String = (1..50)
            .map(|table| format!(", t{table} AS (SELECT v FROM t{})", table - 1))
            .collect();
        assert!(parse(&format!("WITH t0 AS (SELECT 1 v){chain} SELECT * FROM t49")).is_ok());
        assert!(parse("SELECT count(*) FROM logs WHERE body LIKE '%(%' AND (severity > 9)").is_ok());
    }
}
