//! The program's own log: lines on stderr, where systemd, Docker and Kubernetes pick them up.
//!
//! Times are RFC 3339 in UTC. What is logged is chosen by a filter (`info`, `warn,edgelogger_agent=debug`);
//! the variable [`FILTER_VARIABLE`] overrides the configured one, for a closer look without editing a file.
//! Control characters in logged text are escaped by the formatter, so that a log line cannot steer a terminal.

use std::io::{self, IsTerminal};
use std::sync::OnceLock;
use std::time::Duration;

use parking_lot::Mutex;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tracing::Subscriber;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::fmt::time::SystemTime;

use crate::error_code::{self, ErrorCode};

/// Overrides the configured filter.
pub const FILTER_VARIABLE: &str = "EDGELOGGER_LOG";

/// The filter where none is given.
pub const DEFAULT_FILTER: &str = "info";

/// How a line looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// For people: time, level, module, message, fields. Coloured on a terminal unless `NO_COLOR` is set.
    #[default]
    Text,
    /// For machines: one JSON object per line.
    Json,
}

/// Does the user want no colours? (no-color.org: the variable `NO_COLOR` is there, and not empty)
#[must_use]
pub fn no_color() -> bool {
    std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty())
}

/// Why logging did not start.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TelemetryError {
    /// The filter is not understood.
    #[error(
        "the log filter {filter:?} is not understood ({reason}); write for example \"info\" or \"warn,edgelogger_agent=debug\""
    )]
    BadFilter {
        /// As given.
        filter: String,
        /// What the parser says.
        reason: String,
    },
    /// Something else of this process logs already.
    #[error("logging was started twice in this process")]
    AlreadyStarted,
}

impl TelemetryError {
    /// The stable code.
    #[must_use]
    pub const fn error_code(&self) -> ErrorCode {
        error_code::CONFIG_INVALID
    }
}

/// Puts another filter in force.
type SetFilter = Box<dyn Fn(EnvFilter) + Send + Sync>;

static SET_FILTER: OnceLock<SetFilter> = OnceLock::new();

/// Starts logging to stderr, once per process. An empty filter means [`DEFAULT_FILTER`].
pub fn init(format: LogFormat, filter: &str) -> Result<(), TelemetryError> {
    let color = io::stderr().is_terminal() && !no_color();
    let (subscriber, set_filter) = subscriber(format, in_force(filter)?, color, io::stderr);
    tracing::subscriber::set_global_default(subscriber).map_err(|_| TelemetryError::AlreadyStarted)?;
    let _ = SET_FILTER.set(set_filter);
    Ok(())
}

/// Logs by another filter from now on. What [`FILTER_VARIABLE`] says still comes first.
///
/// # Errors
/// A filter that is not understood; the one before stays.
pub fn set_filter(filter: &str) -> Result<(), TelemetryError> {
    let filter = in_force(filter)?;
    if let Some(set_filter) = SET_FILTER.get() {
        set_filter(filter);
    }
    Ok(())
}

/// Whether [`init`] would take it.
///
/// # Errors
/// A filter that is not understood.
pub fn check_filter(filter: &str) -> Result<(), TelemetryError> {
    in_force(filter).map(drop)
}

fn in_force(configured: &str) -> Result<EnvFilter, TelemetryError> {
    let overriding = std::env::var(FILTER_VARIABLE).unwrap_or_default();
    let filter = [overriding.as_str(), configured, DEFAULT_FILTER]
        .into_iter()
        .find(|filter| !filter.trim().is_empty())
        .unwrap_or(DEFAULT_FILTER);
    parse(filter)
}

fn parse(filter: &str) -> Result<EnvFilter, TelemetryError> {
    let bad = |reason| TelemetryError::BadFilter {
        filter: filter.to_owned(),
        reason,
    };
    if let Some(word) = filter.split(',').map(str::trim).find(|word| is_mistyped(word)) {
        return Err(bad(format!(
            "{word:?} is no level: trace, debug, info, warn, error, off"
        )));
    }
    EnvFilter::builder()
        .parse(filter)
        .map_err(|error| bad(error.to_string()))
}

/// A word alone is a level, or the name of a module; one that is neither would silence everything.
fn is_mistyped(word: &str) -> bool {
    let is_module = word.contains("::") || word.starts_with("edgelogger");
    let is_word = !word.is_empty() && !word.contains(['=', '[']);
    is_word && !is_module && word.parse::<tracing::level_filters::LevelFilter>().is_err()
}

fn subscriber<W>(
    format: LogFormat,
    filter: EnvFilter,
    color: bool,
    writer: W,
) -> (Box<dyn Subscriber + Send + Sync>, SetFilter)
where
    W: for<'w> MakeWriter<'w> + Send + Sync + 'static,
{
    let common = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_timer(SystemTime)
        .with_writer(writer);
    // It fails only when the subscriber is gone, which lives as long as the process.
    match format {
        LogFormat::Text => {
            let builder = common.with_ansi(color).with_filter_reloading();
            let handle = builder.reload_handle();
            let set = move |filter: EnvFilter| drop(handle.reload(filter));
            (Box::new(builder.finish()), Box::new(set))
        }
        LogFormat::Json => {
            let builder = common.json().flatten_event(true).with_current_span(false);
            let builder = builder.with_filter_reloading();
            let handle = builder.reload_handle();
            let set = move |filter: EnvFilter| drop(handle.reload(filter));
            (Box::new(builder.finish()), Box::new(set))
        }
    }
}

/// Lets an event through once per interval and counts the ones between, so that a fault that repeats a
/// thousand times a second costs one line with its count. One per call site, usually a `static`.
///
/// ```
/// use std::time::Duration;
/// use edgelogger_common::telemetry::{RateLimited, once_per};
///
/// static REFUSED: RateLimited = once_per(Duration::from_secs(60));
/// # let monotonic = Duration::ZERO;
/// if let Some(suppressed) = REFUSED.admit(monotonic) {
///     tracing::warn!(suppressed, "connection refused");
/// }
/// ```
#[derive(Debug)]
pub struct RateLimited {
    interval: Duration,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    /// When an event may pass again; before the first one at once.
    open_at: Duration,
    suppressed: u64,
}

/// At most one event per interval.
#[must_use]
pub const fn once_per(interval: Duration) -> RateLimited {
    let state = State {
        open_at: Duration::ZERO,
        suppressed: 0,
    };
    RateLimited {
        interval,
        state: parking_lot::const_mutex(state),
    }
}

impl RateLimited {
    /// Whether an event at this monotonic time ([`crate::clock::Clock::monotonic`]) is to be logged: if so, with
    /// the number of those left out since the last one.
    pub fn admit(&self, monotonic: Duration) -> Option<u64> {
        let mut state = self.state.lock();
        if monotonic < state.open_at {
            state.suppressed = state.suppressed.saturating_add(1);
            return None;
        }
        state.open_at = monotonic.saturating_add(self.interval);
        Some(std::mem::take(&mut state.suppressed))
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::sync::Arc;

    use super::*;

    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().extend_from_slice(bytes);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn logged(format: LogFormat, filter: &str, log: impl FnOnce()) -> String {
        let lines = Lines::default();
        let writer = lines.clone();
        let (subscriber, _) = subscriber(format, parse(filter).unwrap(), false, move || writer.clone());
        tracing::subscriber::with_default(subscriber, log);
        let bytes = lines.0.lock().clone();
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn a_word_that_is_no_level_is_refused() {
        for filter in ["infoo", "wran", "info,dbug", "x=yy"] {
            assert!(parse(filter).is_err(), "{filter}");
        }
        for filter in [
            "info",
            "WARN",
            "off",
            "",
            "edgelogger_agent",
            "warn,edgelogger_agent::spool=debug",
            "hyper=info",
        ] {
            assert!(parse(filter).is_ok(), "{filter}");
        }
    }

    #[test]
    fn text_lines_begin_with_the_time_in_rfc_3339() {
        let line = logged(LogFormat::Text, "info", || {
            tracing::warn!(agent = "machine-17", "refused");
        });
        let (time, rest) = line.split_once(' ').unwrap();
        assert!(
            time.parse::<jiff::Timestamp>().is_ok() && time.ends_with('Z'),
            "{line}"
        );
        assert!(
            rest.contains("WARN") && rest.contains("refused agent=\"machine-17\""),
            "{line}"
        );
    }

    #[test]
    fn json_lines_are_flat_objects() {
        let line = logged(LogFormat::Json, "info", || {
            tracing::warn!(agent = "machine-17", "refused");
        });
        let object: serde_json::Value = serde_json::from_str(&line).unwrap();
        assert_eq!(
            (&object["level"], &object["message"], &object["agent"]),
            (&"WARN".into(), &"refused".into(), &"machine-17".into())
        );
        assert!(
            object["timestamp"]
                .as_str()
                .unwrap()
                .parse::<jiff::Timestamp>()
                .is_ok()
        );
    }

    #[test]
    fn the_filter_decides_what_is_logged() {
        let log = || {
            tracing::debug!("fine");
            tracing::error!("bad");
        };
        assert_eq!(logged(LogFormat::Text, "error", log).lines().count(), 1);
        assert_eq!(logged(LogFormat::Text, "off", log).lines().count(), 0);
        assert_eq!(
            logged(LogFormat::Text, "warn,edgelogger_common=debug", log)
                .lines()
                .count(),
            2
        );
    }

    #[test]
    fn another_filter_is_in_force_from_then_on() {
        for format in [LogFormat::Text, LogFormat::Json] {
            let lines = Lines::default();
            let writer = lines.clone();
            let (subscriber, set_filter) =
                subscriber(format, parse("error").unwrap(), false, move || writer.clone());
            tracing::subscriber::with_default(subscriber, || {
                let log = || tracing::info!("said");
                log();
                set_filter(parse("info").unwrap());
                log();
                set_filter(parse("off").unwrap());
                log();
            });
            assert_eq!(
                String::from_utf8(lines.0.lock().clone()).unwrap().lines().count(),
                1
            );
        }
    }

    #[test]
    fn a_filter_that_is_not_understood_is_refused_with_an_example() {
        let error = parse("edgelogger=loud").err().unwrap().to_string();
        assert!(
            error.starts_with("the log filter \"edgelogger=loud\" is not understood ("),
            "{error}"
        );
    }

    #[test]
    fn control_characters_in_logged_text_are_escaped() {
        let line = logged(LogFormat::Text, "info", || tracing::info!("{}", "a\u{1b}[31mred"));
        assert!(!line.contains('\u{1b}'), "{line:?}");
    }

    #[test]
    fn a_repeated_event_passes_once_per_interval_with_a_count() {
        let limited = once_per(Duration::from_secs(10));
        let at = |seconds| limited.admit(Duration::from_secs(seconds));
        assert_eq!(at(0), Some(0));
        assert_eq!((at(1), at(9)), (None, None));
        assert_eq!(at(10), Some(2));
        assert_eq!(at(30), Some(0));
    }
}
