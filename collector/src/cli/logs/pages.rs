//! Records that are there, page by page.

use serde_json::Value;

use super::LogsArguments;
use super::groups::{Around, groups};
use crate::cli::CliError;
use crate::cli::client::ApiClient;

/// Records asked for at once.
const PAGE_ROWS: usize = 1_000;

pub(super) struct Pages<'a> {
    client: &'a ApiClient,
    query: Vec<(&'static str, String)>,
    /// Records that match, in one answer.
    page_matches: usize,
    cursor: Option<String>,
    is_over: bool,
}

impl<'a> Pages<'a> {
    pub(super) fn new(client: &'a ApiClient, arguments: &LogsArguments) -> Self {
        let mut query = arguments.filter();
        query.extend(arguments.range());
        let around = arguments.around();
        if let Some(around) = around {
            query.push(("before", around.before.to_string()));
            query.push(("after", around.after.to_string()));
        }
        Self {
            client,
            query,
            page_matches: around.map_or(PAGE_ROWS, Around::page_matches),
            cursor: None,
            is_over: false,
        }
    }

    /// The next page of everything that matches, oldest first; none behind the last one.
    pub(super) async fn next(&mut self) -> Result<Option<Vec<Value>>, CliError> {
        if self.is_over {
            return Ok(None);
        }
        self.ask("asc", self.page_matches).await.map(Some)
    }

    /// Does something come behind the last page?
    pub(super) const fn has_more(&self) -> bool {
        !self.is_over
    }

    /// The newest so many records, oldest of them first.
    pub(super) async fn newest(&mut self, count: usize) -> Result<Vec<Value>, CliError> {
        let mut rows: Vec<Value> = self.newest_pages(count).await?.into_iter().flatten().collect();
        rows.reverse();
        Ok(rows)
    }

    /// The same with what stands around them, in groups.
    pub(super) async fn newest_groups(&mut self, count: usize) -> Result<Vec<Vec<Value>>, CliError> {
        let pages = self.newest_pages(count).await?.into_iter();
        let mut groups: Vec<Vec<Value>> = pages.flat_map(groups).collect();
        groups.reverse();
        Ok(groups)
    }

    async fn newest_pages(&mut self, count: usize) -> Result<Vec<Vec<Value>>, CliError> {
        let (mut pages, mut left) = (Vec::new(), count);
        while left > 0 && !self.is_over {
            let limit = self.page_matches.min(left);
            pages.push(self.ask("desc", limit).await?);
            left -= limit;
        }
        Ok(pages)
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
