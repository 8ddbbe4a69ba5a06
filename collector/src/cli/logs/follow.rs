//! `--follow`: the first records, and then what comes.
//!
//! The tail is opened before the first records are asked for, so whatever is applied meanwhile comes in one of both ways
//! or in both. What was shown is remembered by its address and is not shown again; the same holds when the tail was cut
//! off and comes back behind its last event. What a tail brings while pages are read is kept ([`HELD_BYTES_MAX`]); beyond
//! that it is not read, and the collector says how much was missed.

use std::io::Write;

use serde_json::Value;

use super::events::Event;
use super::pages::Pages;
use super::shown::{Shown, address_of};
use super::tail::{Tail, pause, random};
use super::{LogsArguments, Printer};
use crate::cli::CliError;
use crate::cli::client::ApiClient;
use crate::when::parse_when;

/// Records that wait until the pages before them are shown.
const HELD_BYTES_MAX: usize = 64 << 20;

/// Shows what there is and what comes, without end.
pub(super) async fn run(
    client: &ApiClient,
    arguments: &LogsArguments,
    printer: &mut Printer,
) -> Result<(), CliError> {
    let query = arguments.filter();
    let tail = Tail::open(client, &query, None)
        .await
        .map_err(|refused| refused.error)?;
    let mut follower = Follower {
        client,
        query,
        printer,
        tail: Some(tail),
        last_id: None,
        shown: Shown::default(),
        held: Held::default(),
    };
    follower.first(arguments).await?;
    follower.go_on().await
}

struct Follower<'a> {
    client: &'a ApiClient,
    query: Vec<(&'static str, String)>,
    printer: &'a mut Printer,
    /// None while there is no connection.
    tail: Option<Tail>,
    /// Behind which event a tail goes on.
    last_id: Option<String>,
    shown: Shown,
    held: Held,
}

/// What the tail brought while pages were read.
#[derive(Default)]
struct Held {
    rows: Vec<Value>,
    bytes: usize,
}

impl Follower<'_> {
    /// The records that are there.
    async fn first(&mut self, arguments: &LogsArguments) -> Result<(), CliError> {
        let mut pages = Pages::new(self.client, arguments);
        if let Some(count) = arguments.count() {
            let rows = self.meanwhile(pages.newest(count)).await?;
            self.show(rows)?;
        } else {
            while let Some(rows) = self.meanwhile(pages.next()).await? {
                if pages.has_more() {
                    self.held.keep_only_before(rows.last());
                }
                self.show(rows)?;
            }
        }
        let held = std::mem::take(&mut self.held).rows;
        self.show(held)
    }

    /// What comes.
    async fn go_on(&mut self) -> Result<(), CliError> {
        loop {
            match &mut self.tail {
                None => self.come_back().await?,
                Some(tail) => match tail.next().await {
                    Ok(events) => {
                        let rows = events.into_iter().filter_map(|event| self.take(event)).collect();
                        self.show(rows)?;
                    }
                    Err(why) => self.lose(&why),
                },
            }
        }
    }

    /// Waits for a page, and keeps what the tail brings.
    async fn meanwhile<T>(&mut self, page: impl Future<Output = T>) -> T {
        let mut page = std::pin::pin!(page);
        loop {
            let came = match &mut self.tail {
                Some(tail) if self.held.bytes < HELD_BYTES_MAX => {
                    tokio::select! {
                        done = &mut page => return done,
                        came = tail.next() => came,
                    }
                }
                _ => return page.await,
            };
            match came {
                Ok(events) => {
                    for event in events {
                        let bytes = event.data.as_ref().map_or(0, String::len);
                        if let Some(row) = self.take(event) {
                            self.held.bytes += bytes;
                            self.held.rows.push(row);
                        }
                    }
                }
                Err(why) => self.lose(&why),
            }
        }
    }

    /// The record of an event; what else it says is said on stderr.
    fn take(&mut self, event: Event) -> Option<Value> {
        if event.id.is_some() {
            self.last_id = event.id;
        }
        let data: Value = serde_json::from_str(&event.data?).ok()?;
        match event.name.as_deref() {
            None => Some(data),
            Some("missed") => {
                say(&missed(data["count"].as_u64()));
                None
            }
            Some(_) => None,
        }
    }

    /// Those that were not shown.
    fn show(&mut self, mut rows: Vec<Value>) -> Result<(), CliError> {
        rows.retain(|row| address_of(row).is_none_or(|address| self.shown.insert(address)));
        self.printer.print(&rows)
    }

    fn lose(&mut self, why: &str) {
        self.tail = None;
        say(&format!(
            "the collector at {} is gone: {why}; trying until it is back",
            self.client.url()
        ));
    }

    async fn come_back(&mut self) -> Result<(), CliError> {
        let mut attempt = 0;
        let tail = loop {
            tokio::time::sleep(pause(attempt, random())).await;
            match Tail::open(self.client, &self.query, self.last_id.as_deref()).await {
                Ok(tail) => break tail,
                Err(refused) if refused.may_pass => attempt += 1,
                Err(refused) => return Err(refused.error),
            }
        };
        self.tail = Some(tail);
        say("the collector is back; going on behind the last record");
        Ok(())
    }
}

impl Held {
    /// Behind this record pages go on, and they show what the tail has shown.
    fn keep_only_before(&mut self, last: Option<&Value>) {
        let Some(last) = last.and_then(order_of) else {
            return;
        };
        self.rows
            .retain(|row| order_of(row).is_none_or(|order| order <= last));
        self.bytes = self
            .rows
            .iter()
            .map(|row| row["body"].as_str().map_or(0, str::len))
            .sum();
    }
}

/// What pages are ordered by.
fn order_of(row: &Value) -> Option<(i64, u128, i64)> {
    let (stream, position) = address_of(row)?;
    Some((parse_when(row["time"].as_str()?, 0).ok()?, stream, position))
}

fn missed(count: Option<u64>) -> String {
    match count {
        Some(1) => "1 record was missed: it came faster than this could show it".to_owned(),
        Some(count) => format!("{count} records were missed: they came faster than this could show them"),
        None => "records may have been missed: the collector does not know what came since the last one"
            .to_owned(),
    }
}

/// To the person, beside the records.
fn say(what: &str) {
    let _ = writeln!(std::io::stderr(), "edgelogger-collector: {what}");
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn of_what_came_while_pages_were_read_only_what_no_page_will_show_is_kept() {
        let row = |time: &str, position: i64| json!({ "time": time, "stream_id": "0000000000000000000000000000000a", "position": position, "body": "abc" });
        let mut held = Held {
            rows: vec![
                row("2026-11-21T10:00:00.5Z", 1),
                row("2026-11-21T10:00:00Z", 9),
                row("2026-11-21T10:00:01Z", 2),
            ],
            bytes: 300,
        };
        held.keep_only_before(None);
        assert_eq!(held.rows.len(), 3);
        held.keep_only_before(Some(&row("2026-11-21T10:00:00.5Z", 4)));
        let positions: Vec<_> = held
            .rows
            .iter()
            .map(|row| row["position"].as_i64().unwrap())
            .collect();
        assert_eq!((positions, held.bytes), (vec![1, 9], 6));
    }

    #[test]
    fn what_was_missed_is_told() {
        assert_eq!(
            missed(Some(12)),
            "12 records were missed: they came faster than this could show them"
        );
        assert!(missed(None).contains("may have been missed"));
    }
}
