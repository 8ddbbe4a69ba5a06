//! Recovery, second part: from what is there to what will be done. Pure.

use super::format::{HeaderFault, file_name};
use super::report::{LostRange, RecoveryPlan, RecoveryStep};
use super::scan::{Contents, DirScan, SegmentScan, Walked};
use super::view::SegmentSpan;
use super::walk::{DamageReason, Region};
use super::{LogId, SegmentError, SegmentOptions};
use std::ops::Range;

/// Files in `quarantine/`; damage beyond is reported, but neither copied nor noted.
const QUARANTINE_FILES_MAX: usize = 1_000;

/// Where writing goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ActivePlan {
    Continue {
        first_sequence: u64,
        bytes: u64,
        frames: u64,
    },
    Start {
        first_sequence: u64,
    },
}

/// A plan, and what the log will consist of when it is carried out.
#[derive(Debug)]
pub(super) struct Decision {
    pub(super) plan: RecoveryPlan,
    /// Without a segment that is to be started.
    pub(super) spans: Vec<SegmentSpan>,
    pub(super) active: ActivePlan,
}

/// Decides. The only outside thing it may need is randomness, for the id of a new log.
pub(super) fn decide(scan: &DirScan, options: &SegmentOptions) -> Result<Decision, SegmentError> {
    let mut planner = Planner {
        steps: Vec::new(),
        lost: Vec::new(),
        spans: Vec::new(),
        quarantine_files: scan.quarantined.len(),
        durable_end: u64::MAX,
        scan,
    };
    let sequence_min = options.sequence_min.max(1);
    for name in &scan.leftovers {
        planner.steps.push(RecoveryStep::Remove {
            name: name.clone(),
            reason: "left by an interrupted write",
        });
    }
    for (name, reason) in &scan.strangers {
        planner.steps.push(RecoveryStep::QuarantineFile {
            name: name.clone(),
            reason,
        });
    }
    let active = match scan.segments.split_last() {
        None => ActivePlan::Start {
            first_sequence: sequence_min,
        },
        Some((last, sealed)) => {
            for (index, segment) in sealed.iter().enumerate() {
                planner.sealed(segment, scan.segments[index + 1].first_sequence);
            }
            planner.durable_end = sequence_min;
            planner.last(last, sequence_min)
        }
    };
    // An id without a single segment means that the log was lost: what comes now is another log, and says so.
    let known_id = scan.log_id.filter(|_| !scan.segments.is_empty());
    let log_id = match known_id.or(options.log_id) {
        Some(log_id) => log_id,
        None => random_log_id()?,
    };
    if known_id.is_none() || !scan.log_id_file_is_good {
        planner.steps.push(RecoveryStep::WriteLogId);
    }
    let next_sequence = match active {
        ActivePlan::Start { first_sequence } => {
            planner.steps.push(RecoveryStep::Start { first_sequence });
            first_sequence
        }
        ActivePlan::Continue {
            first_sequence,
            bytes,
            ..
        } => {
            planner.steps.push(RecoveryStep::Continue {
                name: file_name(first_sequence),
                bytes,
            });
            planner
                .spans
                .last()
                .map_or(first_sequence, |span| span.end_sequence)
        }
    };
    let Planner {
        steps, lost, spans, ..
    } = planner;
    let first_sequence = spans.first().map_or(next_sequence, |span| span.first_sequence);
    let is_new = known_id.is_none();
    let plan = RecoveryPlan {
        dir: scan.dir.clone(),
        log_id,
        is_new,
        steps,
        lost,
        first_sequence,
        next_sequence,
    };
    Ok(Decision { plan, spans, active })
}

fn random_log_id() -> Result<LogId, SegmentError> {
    let mut log_id = [0; 16];
    getrandom::fill(&mut log_id).map_err(|e| SegmentError::Random(e.to_string()))?;
    Ok(log_id)
}

struct Planner<'a> {
    scan: &'a DirScan,
    steps: Vec<RecoveryStep>,
    lost: Vec<LostRange>,
    spans: Vec<SegmentSpan>,
    quarantine_files: usize,
    /// Below, everything is known to have been durable.
    durable_end: u64,
}

impl Planner<'_> {
    /// Any segment but the last; `following` is the first sequence of the one behind it. It is never changed.
    fn sealed(&mut self, segment: &SegmentScan, following: u64) {
        let name = file_name(segment.first_sequence);
        match &segment.contents {
            Contents::Sealed { next_sequence } => {
                self.lose(*next_sequence..following, DamageReason::MissingSegment, &name);
            }
            Contents::Walked(walked) if is_nothing(segment, walked) => {
                self.give_up(&name, walked);
                self.lose(segment.first_sequence..following, DamageReason::Header, &name);
                return;
            }
            Contents::Walked(walked) => {
                self.damage(&name, segment, walked);
                if let Some(tail) = &walked.tail {
                    self.copy(&name, tail);
                }
                let reason = match (&walked.tail, walked.sealed) {
                    (Some(tail), _) => tail.reason,
                    (None, Some(_)) => DamageReason::MissingSegment,
                    (None, None) => DamageReason::CutShort,
                };
                self.lose(
                    walked.sealed.unwrap_or(walked.next_sequence)..following,
                    reason,
                    &name,
                );
            }
        }
        self.span(segment, segment.file_bytes, following);
    }

    fn last(&mut self, segment: &SegmentScan, sequence_min: u64) -> ActivePlan {
        let name = file_name(segment.first_sequence);
        let walked = match &segment.contents {
            Contents::Walked(walked) => walked,
            Contents::Sealed { next_sequence } => {
                let next = self.jump(*next_sequence, sequence_min, None, &name);
                self.span(segment, segment.file_bytes, *next_sequence);
                return ActivePlan::Start { first_sequence: next };
            }
        };
        if is_nothing(segment, walked) {
            self.give_up(&name, walked);
            let first_sequence = self.jump(segment.first_sequence, sequence_min, None, &name);
            return ActivePlan::Start { first_sequence };
        }
        self.damage(&name, segment, walked);
        if let Some(next_sequence) = walked.sealed {
            return self.last_sealed(segment, next_sequence, sequence_min);
        }
        let tail = walked.tail.as_ref();
        let next = self.jump(walked.next_sequence, sequence_min, tail, &name);
        let mut bytes = segment.file_bytes;
        if let Some(tail) = tail.filter(|_| !walked.met_unreadable) {
            bytes = walked.frames_end;
            let bytes_cut = segment.file_bytes - bytes;
            self.steps.push(RecoveryStep::Truncate {
                name: name.clone(),
                bytes_kept: bytes,
                bytes_cut,
                reason: tail.reason,
            });
        }
        let is_whole = walked.regions.is_empty() && segment.header.is_ok() && !walked.met_unreadable;
        if is_whole && next == walked.next_sequence {
            self.span(segment, bytes, next);
            let first_sequence = segment.first_sequence;
            return ActivePlan::Continue {
                first_sequence,
                bytes,
                frames: walked.frames,
            };
        }
        if is_whole && walked.frames == 0 {
            self.steps.push(RecoveryStep::Remove {
                name,
                reason: "empty, and a later sequence comes next",
            });
        } else {
            self.steps.push(RecoveryStep::Seal {
                name,
                next_sequence: next,
            });
            self.span(segment, bytes + super::END_MARK_BYTES as u64, next);
        }
        ActivePlan::Start { first_sequence: next }
    }

    fn last_sealed(&mut self, segment: &SegmentScan, next_sequence: u64, sequence_min: u64) -> ActivePlan {
        let name = file_name(segment.first_sequence);
        let next = self.jump(next_sequence, sequence_min, None, &name);
        if next_sequence == segment.first_sequence {
            self.steps.push(RecoveryStep::Remove {
                name,
                reason: "it was closed without a frame",
            });
        } else {
            self.span(segment, segment.file_bytes, next_sequence);
        }
        ActivePlan::Start { first_sequence: next }
    }

    /// The sequence that comes next when `sequence_min` was promised elsewhere; what lies between is lost.
    fn jump(&mut self, found: u64, sequence_min: u64, tail: Option<&Region>, name: &str) -> u64 {
        if sequence_min > found {
            if let Some(tail) = tail {
                self.copy(name, tail);
            }
            let reason = tail.map_or(DamageReason::CutShort, |tail| tail.reason);
            self.lose(found..sequence_min, reason, name);
        }
        found.max(sequence_min)
    }

    fn damage(&mut self, name: &str, segment: &SegmentScan, walked: &Walked) {
        if segment.header.is_err() {
            let bytes = 0..super::SEGMENT_HEADER_BYTES as u64;
            self.copy(
                name,
                &Region {
                    bytes,
                    lost: 0..0,
                    reason: DamageReason::Header,
                },
            );
        }
        for region in &walked.regions {
            self.copy(name, region);
            self.lose(region.lost.clone(), region.reason, name);
        }
    }

    /// A file of which nothing is of use.
    fn give_up(&mut self, name: &str, walked: &Walked) {
        let name = name.to_owned();
        self.steps.push(if walked.is_blank {
            RecoveryStep::Remove {
                name,
                reason: "empty, without a header",
            }
        } else {
            RecoveryStep::QuarantineFile {
                name,
                reason: "neither its header nor any frame is good",
            }
        });
    }

    fn copy(&mut self, name: &str, region: &Region) {
        if !self.scan.quarantined.contains(&copy_name(name, &region.bytes)) && self.has_room() {
            let (name, bytes) = (name.to_owned(), region.bytes.clone());
            self.steps.push(RecoveryStep::CopyDamage {
                name,
                bytes,
                reason: region.reason,
            });
        }
    }

    fn lose(&mut self, sequences: Range<u64>, reason: DamageReason, segment: &str) {
        if sequences.is_empty() {
            return;
        }
        let is_known = self.scan.quarantined.contains(&note_name(&sequences));
        if !is_known && self.has_room() {
            self.steps.push(RecoveryStep::NoteLoss {
                sequences: sequences.clone(),
            });
        }
        let may_be_unacked = sequences.start >= self.durable_end;
        self.lost.push(LostRange {
            sequences,
            reason,
            segment: segment.to_owned(),
            is_known,
            may_be_unacked,
        });
    }

    fn has_room(&mut self) -> bool {
        self.quarantine_files += 1;
        self.quarantine_files <= QUARANTINE_FILES_MAX
    }

    fn span(&mut self, segment: &SegmentScan, bytes: u64, end_sequence: u64) {
        self.spans.push(SegmentSpan {
            first_sequence: segment.first_sequence,
            end_sequence,
            bytes,
        });
    }
}

/// Without header and without a frame there is nothing to keep.
fn is_nothing(segment: &SegmentScan, walked: &Walked) -> bool {
    let no_header = matches!(segment.header, Err(HeaderFault::Short | HeaderFault::Damaged));
    no_header && walked.frames == 0 && !walked.met_unreadable
}

/// In `quarantine/`, the name of a copy of damaged bytes.
pub(super) fn copy_name(segment: &str, bytes: &Range<u64>) -> String {
    format!("{segment}.{}-{}.bad", bytes.start, bytes.end)
}

/// In `quarantine/`, the name of the note that these sequences are lost.
pub(super) fn note_name(sequences: &Range<u64>) -> String {
    format!("{:020}-{:020}.lost", sequences.start, sequences.end)
}
