//! A log as it lies there, for people: nothing is locked, repaired or changed, so it may be in use meanwhile.

use super::format::{file_name, hex};
use super::plan::decide;
use super::scan::{Contents, LOCK_FILE, Purpose, scan};
use super::view::Shared;
use super::{
    Frame, LogView, ReadItem, RecoveryPlan, RecoveryReport, ScanDepth, SegmentError, SegmentOptions,
};
use crate::disk::Disk;
use serde::Serialize;
use std::fmt;
use std::io;
use std::path::Path;
use std::sync::Arc;

/// Ranges and entries that are named one by one; beyond, they are counted.
const NAMED_MAX: usize = 1_000;

/// One file of a log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SegmentInfo {
    /// Its name.
    pub name: String,
    /// Sequence of its first frame.
    pub first_sequence: u64,
    /// One behind its last.
    pub end_sequence: u64,
    /// Its length.
    pub bytes: u64,
    /// When it was begun, ns UTC; `None`: its header is damaged.
    pub created_ns: Option<i64>,
    /// Closed by an end mark.
    pub is_sealed: bool,
}

/// A log that was looked at.
#[derive(Debug)]
pub struct Survey {
    /// What recovery would do.
    pub plan: RecoveryPlan,
    /// Its files, oldest first.
    pub segments: Vec<SegmentInfo>,
    /// Does a running program have it? Its newest frames may then look torn, and be whole a moment later.
    pub is_in_use: bool,
    view: LogView,
}

impl Survey {
    /// Looks at the log in `dir`. `None`: there is none.
    ///
    /// # Errors
    /// When the directory can't be read, or was written by a later version.
    pub fn of(
        disk: &Arc<dyn Disk>,
        dir: &Path,
        options: &SegmentOptions,
    ) -> Result<Option<Self>, SegmentError> {
        let is_there = |path: &Path| disk.exists(path).unwrap_or(true);
        if !is_there(dir) {
            return Ok(None);
        }
        let lock = dir.join(LOCK_FILE);
        let is_locked =
            || matches!(disk.lock(&lock), Err(error) if error.kind() == io::ErrorKind::WouldBlock);
        let is_in_use = is_there(&lock) && is_locked();
        let scan = scan(disk.as_ref(), dir, options, Purpose::Inspect(ScanDepth::Fast))?;
        let decision = decide(&scan, options)?;
        let segments = scan.segments.iter().map(|segment| SegmentInfo {
            name: file_name(segment.first_sequence),
            first_sequence: segment.first_sequence,
            end_sequence: match &segment.contents {
                Contents::Sealed { next_sequence } => *next_sequence,
                Contents::Walked(walked) => walked.sealed.unwrap_or(walked.next_sequence),
            },
            bytes: segment.file_bytes,
            created_ns: segment.header.as_ref().ok().map(|header| header.created_ns),
            is_sealed: match &segment.contents {
                Contents::Sealed { .. } => true,
                Contents::Walked(walked) => walked.sealed.is_some(),
            },
        });
        let segments = segments.collect();
        let shared = Shared::new(
            Arc::clone(disk),
            dir.to_path_buf(),
            decision.plan.log_id,
            options.frame_bytes_max,
            options.read_chunk_bytes,
        );
        shared.replace(decision.spans, decision.plan.next_sequence);
        Ok(Some(Self {
            plan: decision.plan,
            segments,
            is_in_use,
            view: LogView(Arc::new(shared)),
        }))
    }

    /// Reads every frame. `each` says what is wrong with what a frame holds.
    ///
    /// # Errors
    /// When a file can't be read.
    pub fn verify(
        &self,
        mut each: impl FnMut(&Frame) -> Result<(), String>,
    ) -> Result<Verification, SegmentError> {
        let mut found = Verification::of(self);
        let mut reader = self.view.reader(self.view.first_sequence())?;
        reader.step_over_unreadable(true);
        while let Some(item) = reader.next()? {
            match item {
                ReadItem::Frame(frame) => {
                    found.frames += 1;
                    found.payload_bytes += frame.payload.len() as u64;
                    if let Err(problem) = each(&frame) {
                        found.wrong(frame.sequence, problem);
                    }
                }
                ReadItem::Damaged {
                    from_sequence,
                    to_sequence,
                    reason,
                } => found.damaged(from_sequence, to_sequence, reason.to_string()),
                ReadItem::Dropped { .. } => {}
            }
        }
        Ok(found)
    }
}

/// Frames that can't be read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct DamagedFrames {
    /// The first sequence.
    pub from_sequence: u64,
    /// One behind the last.
    pub to_sequence: u64,
    /// What was found in their place.
    pub reason: String,
}

/// A good frame that holds something wrong.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct WrongEntry {
    /// Its sequence.
    pub sequence: u64,
    /// What is wrong.
    pub problem: String,
}

/// What reading everything found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Verification {
    /// The log's directory.
    pub dir: String,
    /// Who it is.
    pub log_id: String,
    /// Does a running program have it?
    pub is_in_use: bool,
    /// Frames whose checksum fits.
    pub frames: u64,
    /// What they hold.
    pub payload_bytes: u64,
    /// Frames that can't be read.
    pub frames_damaged: u64,
    /// The first of them.
    pub damaged: Vec<DamagedFrames>,
    /// Good frames that hold something wrong.
    pub entries_wrong: u64,
    /// The first of them.
    pub wrong: Vec<WrongEntry>,
    /// What the next start, or `repair`, will do.
    pub repairs: Vec<String>,
}

impl Verification {
    fn of(survey: &Survey) -> Self {
        let plan = &survey.plan;
        let repairs = if plan.is_clean() { &[][..] } else { &plan.steps[..] };
        Self {
            dir: plan.dir.display().to_string(),
            log_id: hex(&plan.log_id),
            is_in_use: survey.is_in_use,
            frames: 0,
            payload_bytes: 0,
            frames_damaged: 0,
            damaged: Vec::new(),
            entries_wrong: 0,
            wrong: Vec::new(),
            repairs: repairs.iter().map(ToString::to_string).collect(),
        }
    }

    fn damaged(&mut self, from_sequence: u64, to_sequence: u64, reason: String) {
        self.frames_damaged += to_sequence - from_sequence;
        if self.damaged.len() < NAMED_MAX {
            self.damaged.push(DamagedFrames {
                from_sequence,
                to_sequence,
                reason,
            });
        }
    }

    fn wrong(&mut self, sequence: u64, problem: String) {
        self.entries_wrong += 1;
        if self.wrong.len() < NAMED_MAX {
            self.wrong.push(WrongEntry { sequence, problem });
        }
    }

    /// Is everything as it was written, and nothing to be repaired?
    #[must_use]
    pub fn is_good(&self) -> bool {
        self.frames_damaged == 0 && self.entries_wrong == 0 && self.repairs.is_empty()
    }
}

impl fmt::Display for Verification {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let verdict = if self.is_good() { "ok" } else { "NOT OK" };
        writeln!(
            f,
            "{}: {verdict}, {} good frames, {} damaged, {} hold something wrong",
            self.dir, self.frames, self.frames_damaged, self.entries_wrong
        )?;
        for one in &self.damaged {
            let (from, to) = (one.from_sequence, one.to_sequence - 1);
            writeln!(f, "  frames {from} to {to} can't be read: {}", one.reason)?;
        }
        for one in &self.wrong {
            writeln!(f, "  frame {}: {}", one.sequence, one.problem)?;
        }
        for step in &self.repairs {
            writeln!(f, "  to be repaired: {step}")?;
        }
        if self.is_in_use {
            writeln!(
                f,
                "  (a running program has it: what it is writing just now may look torn)"
            )?;
        }
        Ok(())
    }
}

/// What a repair does, or did.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Repairs {
    /// The log's directory.
    pub dir: String,
    /// Nothing was done.
    pub is_dry_run: bool,
    /// Frames that are gone and were not known to be.
    pub lost: Vec<String>,
    /// Steps, in order.
    pub steps: Vec<String>,
    /// What could not be done.
    pub warnings: Vec<String>,
}

impl Repairs {
    /// What would be done.
    #[must_use]
    pub fn planned(plan: &RecoveryPlan) -> Self {
        Self::of(plan, true)
    }

    /// What was done.
    #[must_use]
    pub fn done(report: &RecoveryReport) -> Self {
        Self {
            warnings: report.warnings.clone(),
            ..Self::of(&report.plan, false)
        }
    }

    fn of(plan: &RecoveryPlan, is_dry_run: bool) -> Self {
        let steps = if plan.is_clean() { &[][..] } else { &plan.steps[..] };
        let lost = plan.newly_lost().map(|lost| {
            let (from, to) = (lost.sequences.start, lost.sequences.end - 1);
            format!("frames {from} to {to} in {}: {}", lost.segment, lost.reason)
        });
        Self {
            dir: plan.dir.display().to_string(),
            is_dry_run,
            lost: lost.collect(),
            steps: steps.iter().map(ToString::to_string).collect(),
            warnings: Vec::new(),
        }
    }
}

impl fmt::Display for Repairs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = match (self.steps.is_empty(), self.is_dry_run) {
            (true, _) => "nothing to repair",
            (false, true) => "would be repaired",
            (false, false) => "repaired",
        };
        writeln!(f, "{}: {what}", self.dir)?;
        let lost = self.lost.iter().map(|lost| format!("lost: {lost}"));
        let warnings = self.warnings.iter().map(|warning| format!("warning: {warning}"));
        let mut lines = lost.chain(self.steps.iter().cloned()).chain(warnings);
        lines.try_for_each(|line| writeln!(f, "  {line}"))
    }
}

/// The files of a log, a line each.
///
/// # Errors
/// As `out` gives them.
pub fn write_segments(out: &mut impl fmt::Write, segments: &[SegmentInfo]) -> fmt::Result {
    for segment in segments {
        let state = if segment.is_sealed { "closed" } else { "open" };
        let (from, to) = (segment.first_sequence, segment.end_sequence);
        writeln!(
            out,
            "  {}  {:>8} frames, {from} to {to} (exclusive)  {:>10} bytes  {state}",
            segment.name,
            to - from,
            segment.bytes
        )?;
    }
    Ok(())
}
