//! `run`: until a signal says to stop, or its terminal goes; SIGHUP reads the configuration again.
//!
//! A reload that changes more than the log's filter stops the stages in order and starts them again in this process, as
//! a restart of it would: what is on disk (checkpoints, spool) carries over, so nothing is lost or sent as new. A
//! configuration that can't be read changes nothing; one that can't be started is given up for the one before.

use std::io::{self, IsTerminal};

use edgelogger_common::config::Changes;
use edgelogger_common::error_code;
use edgelogger_common::telemetry;
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::arguments::RunArguments;
use super::{FAILED, Failure};
use crate::config::{AgentConfig, RELOADS};
use crate::pipeline::{self, AgentError, Ground, Outcome};
use crate::reload::ConfigurationNote;
use crate::sources::file::check_config;

pub(super) fn run(arguments: &RunArguments) -> Result<u8, Failure> {
    let config = arguments.config.load()?;
    config.check()?;
    telemetry::init(config.log.format, &config.log.filter)
        .map_err(|error| Failure::new(super::WRONG_USE, &error))?;
    // One thread for everything that waits for the network; sources and encoder have their own.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(2)
        .build()
        .map_err(|error| Failure::new(FAILED, &format!("cannot start: {error}")))?;
    tracing::info!(
        "edgelogger-agent {}, state in {}, collector {}",
        crate::VERSION,
        config.state_dir.display(),
        config.collector.url
    );
    let outcome = runtime.block_on(run_until_stopped(arguments, config))?;
    if outcome.drained {
        tracing::info!("stopped; everything that was read is acknowledged");
    } else {
        tracing::info!(
            "stopped; what was not acknowledged in time is sent, or read again, after the next start"
        );
    }
    // What still looks up a name must not hold the end up.
    runtime.shutdown_background();
    Ok(0)
}

/// What ends a run of the stages.
enum Next {
    Stop,
    /// They are started again with this.
    Reload(Box<AgentConfig>),
}

async fn run_until_stopped(arguments: &RunArguments, config: AgentConfig) -> Result<Outcome, AgentError> {
    let ground = Ground::default();
    let mut signals = Signals::listen().map_err(AgentError::system("listen for signals"))?;
    let mut reloader = Reloader {
        arguments,
        at_start: config.clone(),
        in_force: config,
        note: ground.configuration.clone(),
    };
    let mut previous: Option<AgentConfig> = None;
    loop {
        let config = reloader.in_force.clone();
        let (mut next, mut has_started) = (Next::Stop, false);
        let stopped = pipeline::run(config.clone(), ground.clone(), async {
            has_started = true;
            next = signals.next(&mut reloader).await;
        });
        let stopped = stopped.await;
        match (stopped, next) {
            (Ok(outcome), Next::Stop) => return Ok(outcome),
            (Ok(_), Next::Reload(new)) => {
                previous = Some(config);
                reloader.in_force = *new;
            }
            // They ran and are to run again: what was not written is read again.
            (Err(error), Next::Reload(new)) => {
                tracing::error!("stopping for the reload: {error}");
                previous = Some(config);
                reloader.in_force = *new;
            }
            (Err(error), Next::Stop) => match previous.take().filter(|_| !has_started) {
                Some(previous) => {
                    reloader.note.refuse(None, &error.to_string());
                    reloader.in_force = previous;
                }
                None => return Err(error),
            },
        }
    }
}

struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
    /// It was started in a terminal.
    has_terminal: bool,
}

impl Signals {
    fn listen() -> io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hangup: signal(SignalKind::hangup())?,
            has_terminal: io::stderr().is_terminal(),
        })
    }

    /// Waits for what ends a run.
    async fn next(&mut self, reloader: &mut Reloader<'_>) -> Next {
        loop {
            tokio::select! {
                _ = self.terminate.recv() => break,
                _ = self.interrupt.recv() => break,
                _ = self.hangup.recv() => {
                    // The terminal was closed, and with it who could stop this.
                    if self.has_terminal && !io::stderr().is_terminal() {
                        break;
                    }
                    if let Some(config) = reloader.read() {
                        tracing::info!("stopping the stages, to start them with the new configuration");
                        return Next::Reload(Box::new(config));
                    }
                }
            }
        }
        end_at_once_when_told_again();
        Next::Stop
    }
}

fn end_at_once_when_told_again() {
    let Ok(mut again) = Signals::listen() else { return };
    tokio::spawn(async move {
        tokio::select! {
            _ = again.terminate.recv() => {}
            _ = again.interrupt.recv() => {}
        }
        tracing::warn!("told to stop a second time: ending at once");
        std::process::exit(i32::from(FAILED));
    });
}

/// Reads the configuration again.
struct Reloader<'a> {
    arguments: &'a RunArguments,
    at_start: AgentConfig,
    in_force: AgentConfig,
    note: ConfigurationNote,
}

impl Reloader<'_> {
    /// What the stages are to be started with anew; none where they need not be.
    fn read(&mut self) -> Option<AgentConfig> {
        let read = self.arguments.config.load_again().and_then(|config| {
            let filter = telemetry::set_filter(&config.log.filter);
            filter.map_err(|error| (error.error_code().code, error.to_string()))?;
            for file in &config.source.file {
                let code = error_code::CONFIG_INVALID.code;
                check_config(file).map_err(|error| (code, error.to_string()))?;
            }
            Ok(config)
        });
        let mut config = read
            .inspect_err(|(code, why)| self.note.refuse(Some(code), why))
            .ok()?;
        let changes = |since: &AgentConfig| Changes::between(since, &config, RELOADS).unwrap_or_default();
        let (reloaded, waiting) = (
            changes(&self.in_force).reloaded,
            changes(&self.at_start).needs_restart,
        );
        say(&reloaded, &waiting);
        self.note.accept(waiting);
        config.state_dir.clone_from(&self.at_start.state_dir);
        config.log.format = self.at_start.log.format;
        self.in_force.log.filter.clone_from(&config.log.filter);
        (self.in_force != config).then_some(config)
    }
}

fn say(reloaded: &[String], waiting: &[String]) {
    if reloaded.is_empty() && waiting.is_empty() {
        tracing::info!("reloaded: the configuration is what it was");
    }
    if !reloaded.is_empty() {
        tracing::info!("reloaded: {}", reloaded.join(", "));
    }
    if !waiting.is_empty() {
        tracing::warn!("needs a restart to come into force: {}", waiting.join(", "));
    }
}
