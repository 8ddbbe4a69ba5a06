//! `audit`.

use std::fmt::Write as _;

use super::arguments::AuditArguments;
use super::{FAILED, Failure, WRONG_USE};
use crate::audit::{FileAudit, Ledger, Part, Verdict, audit as audit_file};
use crate::status::harmless;

/// A token has some 400 bytes; what is longer is another file.
const TOKEN_BYTES_MAX: usize = 8 << 10;

#[expect(clippy::print_stdout, reason = "what the command is for")]
pub(super) fn audit(arguments: &AuditArguments) -> Result<u8, Failure> {
    let ledger = match &arguments.ledger {
        Some(path) => Ledger::from_file(path),
        None => {
            let token = arguments.token_file.as_deref().map(read_token).transpose()?;
            Ledger::ask(
                &arguments.url,
                token.as_deref(),
                arguments.machine.as_deref(),
                arguments.source.as_deref(),
            )
        }
    };
    let ledger = ledger.map_err(|error| Failure::new(FAILED, &error))?;
    let mut all_explained = true;
    for path in &arguments.files {
        let audit = audit_file(path, &ledger)
            .map_err(|error| Failure::new(WRONG_USE, &format!("cannot read {}: {error}", path.display())))?;
        all_explained &= audit.explained;
        if arguments.json {
            let json = serde_json::to_string(&audit).map_err(|error| Failure::new(FAILED, &error))?;
            println!("{json}");
        } else {
            print!("{}", screen(&audit));
        }
    }
    Ok(if all_explained { 0 } else { FAILED })
}

pub(super) fn read_token(path: &std::path::Path) -> Result<String, Failure> {
    let text = std::fs::read_to_string(path)
        .map_err(|error| Failure::new(WRONG_USE, &format!("cannot read {}: {error}", path.display())))?;
    if text.len() > TOKEN_BYTES_MAX {
        let message = format!("{} is too long for a token", path.display());
        return Err(Failure::new(WRONG_USE, &message));
    }
    Ok(text.trim().to_owned())
}

fn screen(audit: &FileAudit) -> String {
    let mut out = String::new();
    let verdict = if audit.explained { "ok" } else { "NOT EXPLAINED" };
    let path = harmless(&audit.path.display().to_string());
    let _ = writeln!(out, "{path}: {verdict}, {} bytes", audit.size);
    if let Some(stream) = &audit.stream {
        let _ = writeln!(
            out,
            "  stream {} of {}, generation {}, collected as {}",
            stream.stream_id,
            harmless(&stream.machine),
            stream.generation,
            harmless(&stream.source)
        );
    }
    for part in &audit.parts {
        let _ = writeln!(
            out,
            "  [{}, {})  {} bytes  {}",
            part.start,
            part.end,
            part.end - part.start,
            words(part)
        );
    }
    out
}

fn words(part: &Part) -> String {
    let words = match &part.verdict {
        Verdict::Same => "stored, and the same",
        Verdict::Differs => "stored, but OTHER BYTES are in the file",
        Verdict::Unchecked => "stored, not checked",
        Verdict::Unread => "not told of yet",
        Verdict::Missing => "stored, but NOT IN THE FILE any more",
        Verdict::Told(state) => state,
    };
    match &part.reason {
        Some(reason) => format!("{}: {}", harmless(words), harmless(reason)),
        None => harmless(words),
    }
}
