//! The socket: who connects gets one report in JSON.

use std::fs::Permissions;
use std::io::{self, Read};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::io::AsyncWriteExt;
use tokio::net::UnixListener;
use tokio::time::MissedTickBehavior;

use super::collect::Reporter;
use super::report::StatusReport;

/// Name of the socket in the state directory.
pub const SOCKET_NAME: &str = "agent.sock";
/// How long who asks may take to read.
const READER_PATIENCE: Duration = Duration::from_secs(5);
/// How often it is noted how far everything has come: ages and rates are no more exact than that.
const LOOK_EVERY: Duration = Duration::from_secs(5);
/// A report has some hundred bytes for each file.
const REPORT_BYTES_MAX: u64 = 4 << 20;

/// There is no report.
#[derive(Debug, thiserror::Error)]
pub enum StatusError {
    /// Nobody listens.
    #[error("no agent runs from the state directory {}", dir.display())]
    NotRunning {
        /// Where it was looked for.
        dir: PathBuf,
    },
    /// It listens, and something failed.
    #[error("the agent at {} can't be asked: {source}", path.display())]
    Io {
        /// The socket.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The answer is of another version.
    #[error("the agent at {} answered something that is not understood ({source}); is it of another version?", path.display())]
    Answer {
        /// The socket.
        path: PathBuf,
        /// Why.
        source: serde_json::Error,
    },
}

/// Hands out reports.
pub struct StatusSocket {
    /// `None`: it could not be made.
    listener: Option<(UnixListener, PathBuf)>,
    reporter: Reporter,
}

impl StatusSocket {
    /// Listens in the state directory, which this process must have locked. Where that fails, it is logged.
    #[must_use]
    pub fn bind(state_dir: &Path, reporter: Reporter) -> Self {
        let path = state_dir.join(SOCKET_NAME);
        let listener = listen(&path)
            .inspect_err(|error| {
                tracing::warn!(
                    "no status socket at {}: {error}; `status` will not work",
                    path.display()
                );
            })
            .ok();
        Self {
            listener: listener.map(|listener| (listener, path)),
            reporter,
        }
    }

    /// Serves until it is dropped.
    pub async fn serve(self) {
        let Some((listener, _)) = &self.listener else {
            return;
        };
        let mut looks = tokio::time::interval(LOOK_EVERY);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let accepted = tokio::select! {
                accepted = listener.accept() => accepted,
                _ = looks.tick() => {
                    self.reporter.look();
                    continue;
                }
            };
            let Ok((mut stream, _)) = accepted else {
                // No descriptor is left; others may give some back.
                tokio::time::sleep(Duration::from_secs(1)).await;
                continue;
            };
            let Ok(json) = serde_json::to_vec(&self.reporter.report()) else {
                continue;
            };
            // Who asks and goes away is not our concern.
            let _ = tokio::time::timeout(READER_PATIENCE, stream.write_all(&json)).await;
        }
    }
}

impl Drop for StatusSocket {
    fn drop(&mut self) {
        if let Some((_, path)) = &self.listener {
            let _ = std::fs::remove_file(path);
        }
    }
}

fn listen(path: &Path) -> io::Result<UnixListener> {
    // Left by a process that was killed; the directory's lock says that it is gone.
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = UnixListener::bind(path)?;
    std::fs::set_permissions(path, Permissions::from_mode(0o600))?;
    Ok(listener)
}

/// Asks the agent of this state directory; gives the JSON as it came, and what it means.
///
/// # Errors
/// No agent runs, or it can't be understood.
pub fn fetch(state_dir: &Path) -> Result<(String, StatusReport), StatusError> {
    let path = state_dir.join(SOCKET_NAME);
    let text = read(&path).map_err(|source| match source.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => StatusError::NotRunning {
            dir: state_dir.to_owned(),
        },
        _ => StatusError::Io {
            path: path.clone(),
            source,
        },
    })?;
    let report = serde_json::from_str(&text).map_err(|source| StatusError::Answer { path, source })?;
    Ok((text, report))
}

fn read(path: &Path) -> io::Result<String> {
    let stream = std::os::unix::net::UnixStream::connect(path)?;
    stream.set_read_timeout(Some(READER_PATIENCE))?;
    let mut text = String::new();
    stream.take(REPORT_BYTES_MAX).read_to_string(&mut text)?;
    Ok(text)
}
