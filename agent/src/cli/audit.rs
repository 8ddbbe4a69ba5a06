//! `audit`.

use std::fmt::Write as _;

use super::arguments::AuditArguments;
use super::{FAILED, Failure, WRONG_USE};
use crate::audit::{AuditError, FileAudit, Ledger, Part, Verdict, audit as audit_file};
use crate::status::harmless;

/// A token has some 400 bytes; what is longer is another file.
const TOKEN_BYTES_MAX: usize = 8 << 10;

#[expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "what the command is for"
)]
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
    let (mut all_explained, mut all_read) = (true, true);
    for path in &arguments.files {
        let audit = match audit_file(path, &ledger) {
            Ok(audit) => audit,
            Err(AuditError::Ledger(error)) => return Err(Failure::new(FAILED, &error)),
            // The others can be compared all the same.
            Err(error) => {
                eprintln!("error: {}", harmless(&error.to_string()));
                all_read = false;
                continue;
            }
        };
        all_explained &= audit.explained;
        if arguments.json {
            let json = serde_json::to_string(&audit).map_err(|error| Failure::new(FAILED, &error))?;
            println!("{json}");
        } else {
            print!("{}", screen(&audit));
        }
    }
    Ok(match (all_read, all_explained) {
        (true, true) => 0,
        (true, false) => FAILED,
        (false, _) => WRONG_USE,
    })
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
    let of = match audit.compressed {
        Some(format) => format!(" of content ({format})"),
        None => String::new(),
    };
    let _ = writeln!(out, "{path}: {verdict}, {} bytes{of}", audit.size);
    if let Some(damage) = &audit.damage {
        let _ = writeln!(
            out,
            "  DAMAGED at byte {} of the file, its content ends at {}: {}",
            damage.file_offset,
            damage.content_offset,
            harmless(&damage.problem)
        );
    }
    if let Some(stream) = &audit.stream {
        let _ = writeln!(
            out,
            "  stream {} of {}, {}, collected as {}",
            stream.stream_id,
            harmless(&stream.machine),
            match (stream.generation, &stream.day) {
                (Some(generation), _) => format!("generation {generation}"),
                (None, day) => format!("complete since {}", day.as_deref().unwrap_or("long ago")),
            },
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
        Verdict::Cut => "stored, but NOT ALL of what was checksummed together is in the file",
        Verdict::Told(state) => state,
    };
    match &part.reason {
        Some(reason) => format!("{}: {}", harmless(words), harmless(reason)),
        None => harmless(words),
    }
}
