//! `run`.

use std::io;

use tokio::signal::unix::{SignalKind, signal};

use super::arguments::RunArguments;
use super::{FAILED, Failure};
use crate::pipeline::{self, AgentError, Ground};

pub(super) fn run(arguments: &RunArguments) -> Result<u8, Failure> {
    let config = arguments.config.load()?;
    config.check()?;
    edgelogger_common::telemetry::init(config.log.format, &config.log.filter)
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
    let outcome = runtime.block_on(async {
        let shutdown = shutdown().map_err(AgentError::system("listen for signals"))?;
        pipeline::run(config, Ground::default(), shutdown).await
    })?;
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

/// Ready at SIGTERM or SIGINT. A second one ends the process at once.
fn shutdown() -> io::Result<impl Future<Output = ()>> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        tokio::spawn(async move {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
            tracing::warn!("told to stop a second time: ending at once");
            std::process::exit(i32::from(FAILED));
        });
    })
}
