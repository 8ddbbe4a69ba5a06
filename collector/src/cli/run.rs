//! `run` and `check`.

use std::io::{self, IsTerminal, Write};
use std::process::ExitCode;

use edgelogger_common::config::Changes;
use edgelogger_common::size::ByteSize;
use edgelogger_common::telemetry;
use serde_json::Value;
use tokio::signal::unix::{SignalKind, signal};

use super::{CliError, RunArguments};
use crate::config::{Config, RELOADS};
use crate::reload::{self, Reload};
use crate::wiring::{Collector, RunningCollector};

/// Stacks of the threads that serve agents: sessions live on the heap, and there may be many cores.
const WORKER_STACK_BYTES: usize = 1 << 20;

pub(super) fn run(arguments: &RunArguments) -> Result<ExitCode, CliError> {
    let (config, shown) = arguments.load_and_show()?;
    telemetry::init(config.telemetry.format, &config.telemetry.filter)
        .map_err(|error| CliError::coded(error.error_code(), error.to_string()))?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .thread_name("collector")
        .thread_stack_size(WORKER_STACK_BYTES)
        .build()
        .map_err(|error| CliError::Plain(format!("cannot start threads: {error}; raise `ulimit -u`")))?;
    runtime.block_on(serve(arguments, config, shown))
}

async fn serve(arguments: &RunArguments, config: Config, shown: Value) -> Result<ExitCode, CliError> {
    let failed = |error: io::Error| CliError::Plain(format!("cannot listen for signals: {error}"));
    let mut terminate = signal(SignalKind::terminate()).map_err(failed)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(failed)?;
    let mut hangup = signal(SignalKind::hangup()).map_err(failed)?;
    let data_dir = config.data_dir.clone();
    let running = Collector::start(config)
        .await
        .map_err(|error| CliError::coded(error.code(), error.to_string()))?;
    // Whoever started us may have closed stdout; that is no reason to end.
    let _ = io::stdout().write_all(greeting(&running, &data_dir).as_bytes());
    tracing::info!(ingest = %running.ingest_addr, api = %running.api_addr, "ready");
    let has_terminal = io::stderr().is_terminal();
    let mut known = Known {
        latest: shown.clone(),
        at_start: shown,
    };
    loop {
        tokio::select! {
            _ = terminate.recv() => break,
            _ = interrupt.recv() => break,
            _ = hangup.recv() => {
                // The terminal was closed, and with it who could stop this.
                if has_terminal && !io::stderr().is_terminal() {
                    break;
                }
                known.reload(arguments, running.reload());
            }
        }
    }
    tracing::info!("stopping");
    running.shutdown().await;
    tracing::info!("stopped");
    Ok(ExitCode::SUCCESS)
}

/// Configurations as they were written.
struct Known {
    /// What needs a restart is told against this one,
    at_start: Value,
    /// and what has changed against this one.
    latest: Value,
}

impl Known {
    /// Reads the file again. One that can't be used changes nothing.
    fn reload(&mut self, arguments: &RunArguments, reload: &Reload) {
        let (config, shown) = match arguments.load_and_show() {
            Ok(loaded) => loaded,
            Err(error) => return reload.refuse(error.error_code(), &format!("{error:#}")),
        };
        let changes = |since: &Value| Changes::between(since, &shown, RELOADS).unwrap_or_default();
        let waiting = changes(&self.at_start).needs_restart;
        if reload.apply(&config, waiting.clone()).is_err() {
            return;
        }
        reload::log(&Changes {
            reloaded: changes(&self.latest).reloaded,
            needs_restart: waiting,
        });
        self.latest = shown;
    }
}

/// What to do next, in commands that can be copied.
fn greeting(running: &RunningCollector, data_dir: &std::path::Path) -> String {
    let port = running.ingest_addr.port();
    let (token, agent) = &running.local_token;
    let other = running
        .names
        .iter()
        .find(|name| !is_local(name))
        .map_or("THIS-MACHINE", String::as_str);
    let other = if other.contains(':') {
        format!("[{other}]")
    } else {
        other.to_owned()
    };
    let (data, ca) = (data_dir.display(), running.ca_path.display());
    let elsewhere = if running.ingest_addr.ip().is_loopback() {
        "Other machines can't reach it; --ingest-listen 0.0.0.0:7443 lets them.\n".to_owned()
    } else {
        format!(
            "On another machine, with {ca} and a token of its own:
  edgelogger-collector token create --agent NAME --data-dir {data} > NAME.token
  edgelogger-agent run --collector wss://{other}:{port} --ca ca.pem --token-file NAME.token --journald --host-metrics
"
        )
    };
    format!(
        "EdgeLogger collector {version}
  data    {data}
  agents  {ingest} (TLS)
  API     http://{api}

Start an agent on this machine (as {agent}):
  edgelogger-agent run --collector wss://localhost:{port} --ca {ca} --token-file {token} --journald --host-metrics

{elsewhere}
Ask:
  edgelogger-collector logs --url http://{api} --since 10m
  edgelogger-collector status --url http://{api}
",
        version = env!("CARGO_PKG_VERSION"),
        ingest = running.ingest_addr,
        api = running.api_addr,
        token = token.display(),
    )
}

/// Only this machine can use it.
fn is_local(name: &str) -> bool {
    name == "localhost"
        || name
            .parse::<std::net::IpAddr>()
            .is_ok_and(|address| address.is_loopback())
}

pub(super) fn check(arguments: &RunArguments) -> Result<ExitCode, CliError> {
    let config = arguments.load()?;
    let what = arguments
        .config
        .as_ref()
        .map_or_else(|| "the defaults".to_owned(), |path| path.display().to_string());
    let bytes = ByteSize::bytes;
    let settings = &config.ingest.settings;
    let store = &config.store;
    writeln!(
        io::stdout(),
        "{what}: valid
  data      everything below {data}
  ingest    agents connect to {listen} over TLS 1.3; at most {sessions}, with {memory} for their batches
  log       at most {log}, {free} of the file system are left free
  store     files every {rows} rows or {age:?}; {store_memory} in memory; when the log is full: {full:?}
  queries   {queries} at once, {query_memory} together, {timeout:?} each
  console   {console}
  API       http://{api}, {token}",
        data = config.data_dir.display(),
        listen = config.ingest.listen,
        sessions = settings.sessions_max,
        memory = bytes(config.ingest.memory_bytes),
        log = bytes(config.log.bytes_max),
        free = bytes(config.log.keep_free_bytes),
        rows = store.flush_rows,
        age = store.flush_age,
        store_memory = bytes(store.memory_bytes),
        full = store.on_log_full,
        queries = store.queries_max,
        query_memory = bytes(store.query_memory_bytes),
        timeout = store.query_timeout,
        console = if config.console.enabled {
            "every record on stdout"
        } else {
            "nothing on stdout"
        },
        api = config.api.listen,
        token = if config.api.needs_token {
            "only with a token for people"
        } else {
            "for this machine, without a token"
        },
    )?;
    Ok(ExitCode::SUCCESS)
}
