//! Records that are there, page by page.

use serde_json::Value;

use super::LogsArguments;
use crate::cli::CliError;
use crate::cli::client::ApiClient;

/// Records asked for at once.
const PAGE_ROWS: usize = 1_000;

pub(super) struct Pages<'a> {
    client: &'a ApiClient,
    query: Vec<(&'static str, String)>,
    cursor: Option<String>,
    is_over: bool,
}

impl<'a> Pages<'a> {
    pub(super) fn new(client: &'a ApiClient, arguments: &LogsArguments) -> Self {
        let mut query = arguments.filter();
        query.extend(arguments.range());
        Self {
            client,
            query,
            cursor: None,
            is_over: false,
        }
    }

    /// The next page of everything that matches, oldest first; none behind the last one.
    pub(super) async fn next(&mut self) -> Result<Option<Vec<Value>>, CliError> {
        if self.is_over {
            return Ok(None);
        }
        self.ask("asc", PAGE_ROWS).await.map(Some)
    }

    /// Does something come behind the last page?
    pub(super) const fn has_more(&self) -> bool {
        !self.is_over
    }

    /// The newest so many records, oldest of them first.
    pub(super) async fn newest(&mut self, count: usize) -> Result<Vec<Value>, CliError> {
        let mut rows = Vec::new();
        while rows.len() < count && !self.is_over {
            rows.extend(self.ask("desc", PAGE_ROWS.min(count - rows.len())).await?);
        }
        rows.reverse();
        Ok(rows)
    }

    async fn ask(&mut self, order: &str, limit: usize) -> Result<Vec<Value>, CliError> {
        let mut query = self.query.clone();
        query.push(("order", order.to_owned()));
        query.push(("limit", limit.to_string()));
        query.extend(self.cursor.take().map(|cursor| ("cursor", cursor)));
        let mut answer = self.client.get("/api/v1/logs", &query).await?;
        self.cursor = answer["next_cursor"].as_str().map(str::to_owned);
        self.is_over = self.cursor.is_none();
        match answer["rows"].take() {
            Value::Array(rows) => Ok(rows),
            _ => Err(CliError::Plain("the answer has no rows".to_owned())),
        }
    }
}
