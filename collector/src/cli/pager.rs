//! Long answers go through a pager, as with git and journalctl: on a terminal, unless somebody says no.

use std::io::{self, IsTerminal, StdoutLock, Write};
use std::process::{Child, ChildStdin, Command, Stdio};

use edgelogger_common::telemetry::no_color;

/// What `less` does where nothing else is asked of it: ends by itself where all fits on the screen, shows colours, cuts
/// long lines.
const LESS: &str = "FRSX";

/// Where an answer is written to.
pub(super) enum Out {
    Plain(StdoutLock<'static>),
    Paged { stdin: Option<ChildStdin>, child: Child },
}

impl Out {
    /// Stdout, or a pager that shows it. `$EDGELOGGER_PAGER`, `$PAGER`, `less`; empty or `cat`: none.
    pub(super) fn open(wants_pager: bool) -> Self {
        let plain = || Self::Plain(io::stdout().lock());
        if !wants_pager || !io::stdout().is_terminal() {
            return plain();
        }
        let named = ["EDGELOGGER_PAGER", "PAGER"]
            .iter()
            .find_map(|name| std::env::var(name).ok())
            .unwrap_or_else(|| "less".to_owned());
        let mut words = named.split_whitespace();
        let Some(program) = words.next().filter(|program| *program != "cat") else {
            return plain();
        };
        let mut command = Command::new(program);
        command.args(words).stdin(Stdio::piped());
        if std::env::var_os("LESS").is_none() {
            command.env("LESS", LESS);
        }
        match command.spawn() {
            Ok(mut child) => Self::Paged {
                stdin: child.stdin.take(),
                child,
            },
            Err(_) => plain(),
        }
    }
}

impl Write for Out {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Plain(stdout) => stdout.write(bytes),
            Self::Paged {
                stdin: Some(stdin), ..
            } => stdin.write(bytes),
            Self::Paged { stdin: None, .. } => Ok(bytes.len()),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Plain(stdout) => stdout.flush(),
            Self::Paged {
                stdin: Some(stdin), ..
            } => stdin.flush(),
            Self::Paged { stdin: None, .. } => Ok(()),
        }
    }
}

impl Drop for Out {
    /// The pager has the terminal until the reader leaves it.
    fn drop(&mut self) {
        if let Self::Paged { stdin, child } = self {
            drop(stdin.take());
            let _ = child.wait();
        }
    }
}

/// `auto`: on a terminal, unless `NO_COLOR` says no.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum Color {
    Auto,
    Always,
    Never,
}

impl Color {
    pub(super) fn is_on(self) -> bool {
        match self {
            Self::Auto => io::stdout().is_terminal() && !no_color(),
            Self::Always => true,
            Self::Never => false,
        }
    }
}
