//! What recovery does and did, for people and for ledgers: it can be printed before it is done.

use super::LogId;
use super::format::file_name;
use super::walk::DamageReason;
use std::fmt;
use std::ops::Range;
use std::path::PathBuf;

/// One thing that recovery does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RecoveryStep {
    /// Copies damaged bytes of a segment to `quarantine/`.
    CopyDamage {
        /// Segment.
        name: String,
        /// Which bytes of it.
        bytes: Range<u64>,
        /// What is wrong with them.
        reason: DamageReason,
    },
    /// Leaves a note in `quarantine/` that these sequences are known to be lost.
    NoteLoss {
        /// Which.
        sequences: Range<u64>,
    },
    /// Moves a file to `quarantine/`.
    QuarantineFile {
        /// Which.
        name: String,
        /// Why.
        reason: &'static str,
    },
    /// Removes a file that holds nothing.
    Remove {
        /// Which.
        name: String,
        /// Why.
        reason: &'static str,
    },
    /// Cuts what follows the last good frame of the last segment.
    Truncate {
        /// Segment.
        name: String,
        /// Length that is left.
        bytes_kept: u64,
        /// How much is cut.
        bytes_cut: u64,
        /// What is wrong with it.
        reason: DamageReason,
    },
    /// Closes a segment with an end mark.
    Seal {
        /// Segment.
        name: String,
        /// First sequence of the next.
        next_sequence: u64,
    },
    /// Writes the `log_id` file.
    WriteLogId,
    /// Goes on in the last segment.
    Continue {
        /// Segment.
        name: String,
        /// Its length.
        bytes: u64,
    },
    /// Begins a segment.
    Start {
        /// Its first sequence.
        first_sequence: u64,
    },
}

/// Sequences that had been given to frames which are gone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LostRange {
    /// Which.
    pub sequences: Range<u64>,
    /// What was found in their place.
    pub reason: DamageReason,
    /// The segment that held them, or the one before the gap.
    pub segment: String,
    /// Was it reported by an earlier recovery?
    pub is_known: bool,
    /// Were they behind the last point that is known to have been durable? A power cut may keep a later frame and
    /// not an earlier one of the same sync; then nobody was told that these were safe, and they are sent again.
    /// Known are sealed segments, and everything below `sequence_min`.
    pub may_be_unacked: bool,
}

/// What recovery found and does about it. Print it to see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecoveryPlan {
    /// The log's directory.
    pub dir: PathBuf,
    /// Who it is.
    pub log_id: LogId,
    /// Was there no log before? (Or none of which anything is left: then the `log_id` is new too.)
    pub is_new: bool,
    /// In order.
    pub steps: Vec<RecoveryStep>,
    /// What is gone.
    pub lost: Vec<LostRange>,
    /// The oldest frame's sequence.
    pub first_sequence: u64,
    /// The next frame's sequence.
    pub next_sequence: u64,
}

impl RecoveryPlan {
    /// Nothing was damaged, cut or lost.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        let routine = |step: &RecoveryStep| {
            matches!(
                step,
                RecoveryStep::Continue { .. } | RecoveryStep::Start { .. } | RecoveryStep::WriteLogId
            )
        };
        self.lost.is_empty() && self.steps.iter().all(routine)
    }

    /// Losses that no earlier recovery reported.
    pub fn newly_lost(&self) -> impl Iterator<Item = &LostRange> {
        self.lost.iter().filter(|lost| !lost.is_known)
    }
}

/// What happened when a log was opened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecoveryReport {
    /// What was found and done.
    pub plan: RecoveryPlan,
    /// What could not be done, but did not keep the log from opening.
    pub warnings: Vec<String>,
}

impl fmt::Display for RecoveryReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.plan.fmt(f)?;
        self.warnings
            .iter()
            .try_for_each(|warning| writeln!(f, "  warning: {warning}"))
    }
}

impl fmt::Display for RecoveryPlan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let id = super::format::hex(&self.log_id);
        let new = if self.is_new { ", new" } else { "" };
        writeln!(f, "log {id} in {}{new}", self.dir.display())?;
        writeln!(
            f,
            "  holds sequences {} to {} (exclusive)",
            self.first_sequence, self.next_sequence
        )?;
        for lost in &self.lost {
            let known = if lost.is_known { ", known before" } else { "" };
            let unacked = if lost.may_be_unacked {
                ", perhaps never acknowledged"
            } else {
                ""
            };
            let Range { start, end } = lost.sequences;
            writeln!(
                f,
                "  lost: sequences {start} to {end} (exclusive) in {}: {}{unacked}{known}",
                lost.segment, lost.reason
            )?;
        }
        self.steps.iter().try_for_each(|step| writeln!(f, "  {step}"))
    }
}

impl fmt::Display for RecoveryStep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::CopyDamage { name, bytes, reason } => {
                write!(
                    f,
                    "copy bytes {} to {} of {name} to quarantine: {reason}",
                    bytes.start, bytes.end
                )
            }
            Self::NoteLoss { sequences } => {
                write!(
                    f,
                    "note the loss of sequences {} to {} (exclusive)",
                    sequences.start, sequences.end
                )
            }
            Self::QuarantineFile { name, reason } => write!(f, "move {name} to quarantine: {reason}"),
            Self::Remove { name, reason } => write!(f, "remove {name}: {reason}"),
            Self::Truncate {
                name,
                bytes_kept,
                bytes_cut,
                reason,
            } => {
                write!(f, "cut {bytes_cut} bytes off {name}, {bytes_kept} stay: {reason}")
            }
            Self::Seal { name, next_sequence } => {
                write!(f, "close {name}; sequence {next_sequence} follows it")
            }
            Self::WriteLogId => f.write_str("write the log_id file"),
            Self::Continue { name, bytes } => write!(f, "go on in {name} at byte {bytes}"),
            Self::Start { first_sequence } => write!(f, "begin {}", file_name(*first_sequence)),
        }
    }
}
