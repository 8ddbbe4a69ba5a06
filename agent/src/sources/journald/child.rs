//! The `journalctl` process.

use std::ffi::OsString;
use std::io::{self, Read};
use std::os::fd::AsFd;
use std::process::{Child, ChildStderr, ChildStdout, Command, ExitStatus, Stdio};
use std::time::Duration;

use super::config::{JournaldConfig, JournaldStart};

/// How much of what it complains about is kept.
const COMPLAINT_BYTES_MAX: usize = 1024;
/// A process that closed its output ends within milliseconds; 0.2 s are patience enough.
const EXIT_CHECKS: u32 = 40;
const EXIT_CHECK_EVERY: Duration = Duration::from_millis(5);

/// Where reading begins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum From {
    /// A first run.
    Start(JournaldStart),
    /// At this entry, including it.
    Entry(String),
}

/// A running `journalctl`. Killed when dropped.
#[derive(Debug)]
pub(super) struct Journalctl {
    child: Child,
    stdout: ChildStdout,
    stderr: ChildStderr,
    complaint: Vec<u8>,
}

pub(super) fn arguments(config: &JournaldConfig, from: &From, fields: &str) -> Vec<OsString> {
    let mut arguments: Vec<OsString> = ["--output=export", "--follow", "--no-pager"]
        .iter()
        .map(OsString::from)
        .collect();
    arguments.push(format!("--output-fields={fields}").into());
    match from {
        From::Entry(cursor) => arguments.extend([format!("--cursor={cursor}").into(), "--no-tail".into()]),
        From::Start(JournaldStart::Beginning) => arguments.push("--no-tail".into()),
        From::Start(JournaldStart::Boot) => arguments.extend(["--boot".into(), "--no-tail".into()]),
        From::Start(JournaldStart::End) => arguments.push("--lines=0".into()),
    }
    if let Some(directory) = &config.directory {
        let mut argument = OsString::from("--directory=");
        argument.push(directory);
        arguments.push(argument);
    } else if let Some(namespace) = &config.namespace {
        arguments.push(format!("--namespace={namespace}").into());
    }
    arguments
}

impl Journalctl {
    pub fn start(config: &JournaldConfig, from: &From, fields: &str) -> io::Result<Self> {
        let program = config.journalctl.clone().unwrap_or_else(|| "journalctl".into());
        let mut child = Command::new(program)
            .args(arguments(config, from, fields))
            // Its messages are shown as they are, and its times are numbers.
            .env("LC_ALL", "C")
            .env("SYSTEMD_LOG_LEVEL", "warning")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()?;
        let missing = || io::Error::other("a pipe that was asked for is missing");
        let stdout = child.stdout.take().ok_or_else(missing)?;
        let stderr = child.stderr.take().ok_or_else(missing)?;
        rustix::io::ioctl_fionbio(&stderr, true)?;
        Ok(Self {
            child,
            stdout,
            stderr,
            complaint: Vec::new(),
        })
    }

    pub fn stdout(&self) -> impl AsFd {
        &self.stdout
    }

    pub fn stderr(&self) -> impl AsFd {
        &self.stderr
    }

    /// What it wrote; 0 at its end.
    pub fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.stdout.read(buffer)
    }

    /// Keeps what it complains about; `false` when it will never complain again.
    pub fn read_complaint(&mut self) -> bool {
        let mut buffer = [0; 512];
        match self.stderr.read(&mut buffer) {
            Ok(0) => false,
            Ok(len) => {
                self.complaint.extend_from_slice(&buffer[..len]);
                let surplus = self.complaint.len().saturating_sub(COMPLAINT_BYTES_MAX);
                self.complaint.drain(..surplus);
                true
            }
            Err(error) => matches!(
                error.kind(),
                io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted
            ),
        }
    }

    /// The last lines of what it complained about.
    pub fn complaint(&self) -> Option<String> {
        let text = String::from_utf8_lossy(&self.complaint);
        let text = text.trim();
        (!text.is_empty()).then(|| text.to_owned())
    }

    /// How it ended. Its output did already, so it is given a moment, and then no more.
    pub fn finish(&mut self) -> io::Result<ExitStatus> {
        for _ in 0..EXIT_CHECKS {
            if self.child.try_wait()?.is_some() {
                break;
            }
            std::thread::sleep(EXIT_CHECK_EVERY);
        }
        let _ = self.child.kill();
        let status = self.child.wait()?;
        // Two reads take more than is kept.
        let _ = self.read_complaint() && self.read_complaint();
        Ok(status)
    }
}

impl Drop for Journalctl {
    fn drop(&mut self) {
        // Both fail only when it is gone.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
