//! A program as a process of its own.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};

/// The built program of this name: in the profile's folder, as this test or program is, or where `EDGELOGGER_BIN_DIR`
/// says.
///
/// # Panics
/// When it is not there; `scripts/test` builds it first.
#[must_use]
pub fn program(name: &str) -> PathBuf {
    let dir = std::env::var_os("EDGELOGGER_BIN_DIR").map_or_else(profile_dir, PathBuf::from);
    let path = dir.join(name);
    assert!(
        path.exists(),
        "{} is not there; run `cargo build --workspace` first",
        path.display()
    );
    path
}

fn profile_dir() -> PathBuf {
    let own = std::env::current_exe().expect("a running program has a path");
    let dir = own.parent().expect("a program lies in a folder");
    match dir.parent() {
        Some(profile) if dir.ends_with("deps") => profile.to_owned(),
        _ => dir.to_owned(),
    }
}

/// A running program. Killed when it is dropped.
#[derive(Debug)]
pub struct Process {
    child: Child,
    words: PathBuf,
}

impl Process {
    /// Starts a program; what it says goes to `words`, behind what is there.
    ///
    /// # Panics
    /// When it can't be started.
    #[must_use]
    pub fn start(command: &mut Command, words: &Path) -> Self {
        let out = File::options()
            .create(true)
            .append(true)
            .open(words)
            .expect("a log file can be made");
        let err = out.try_clone().expect("a descriptor can be copied");
        let child = command.stdin(Stdio::null()).stdout(out).stderr(err).spawn();
        let child = child.unwrap_or_else(|error| panic!("{command:?}: {error}"));
        Self {
            child,
            words: words.to_owned(),
        }
    }

    /// Its process id.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// SIGKILL, and its end awaited.
    ///
    /// # Panics
    /// When the system refuses.
    pub fn kill(mut self) {
        self.child.kill().expect("an own child can be killed");
        self.child.wait().expect("an own child can be awaited");
    }

    /// Its end awaited, for as long as it takes within the harness's patience.
    ///
    /// # Panics
    /// When it does not end.
    pub fn ended(&mut self) -> ExitStatus {
        crate::wait_for("the program ends", || match self.child.try_wait() {
            Ok(Some(status)) => Ok(status),
            other => Err(format!("{other:?}; it said:\n{}", self.said())),
        })
    }

    /// SIGTERM, and its end awaited.
    ///
    /// # Panics
    /// When it does not end in time.
    pub fn stop(mut self) -> ExitStatus {
        self.signal("TERM");
        crate::wait_for("the program ends on SIGTERM", || match self.child.try_wait() {
            Ok(Some(status)) => Ok(status),
            other => Err(format!("{other:?}; it said:\n{}", self.said())),
        })
    }

    /// Sends a signal by name.
    ///
    /// # Panics
    /// When `kill` fails.
    pub fn signal(&self, name: &str) {
        let id = self.child.id().to_string();
        let status = Command::new("kill").args([&format!("-{name}"), &id]).status();
        assert!(status.is_ok_and(|status| status.success()), "kill -{name} {id}");
    }

    /// An error where the program has ended.
    ///
    /// # Errors
    /// Its status and last words.
    pub fn check_alive(&mut self) -> Result<(), String> {
        match self.child.try_wait() {
            Ok(None) => Ok(()),
            other => Err(format!("ended: {other:?}; it said:\n{}", self.said())),
        }
    }

    /// The end of what it said so far.
    #[must_use]
    pub fn said(&self) -> String {
        const LINES: usize = 40;
        let text = std::fs::read_to_string(&self.words).unwrap_or_default();
        let lines: Vec<_> = text.lines().collect();
        lines[lines.len().saturating_sub(LINES)..].join("\n")
    }

    /// A field of `/proc/PID/status` in bytes, such as `VmHWM`, the peak of resident memory.
    #[must_use]
    pub fn memory_bytes(&self, field: &str) -> Option<u64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).ok()?;
        let line = status.lines().find(|line| line.starts_with(field))?;
        let kib: u64 = line.split_whitespace().nth(1)?.parse().ok()?;
        Some(kib * 1024)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
