//! Recovery, third part: carrying the plan out. Every step can be cut short anywhere; the next recovery then
//! finds what is left and plans again.

use super::LogId;
use super::format::{FrameCrc, encode_log_id};
use super::plan::{copy_name, note_name};
use super::report::{RecoveryPlan, RecoveryStep};
use super::scan::{LOG_ID_FILE, QUARANTINE_DIR};
use crate::disk::{Access, At, Disk, DiskError, atomic_replace, create_dir_all_durable};
use std::io::IoSlice;
use std::ops::Range;
use std::path::{Path, PathBuf};

/// Copies go through a buffer of this size.
const COPY_CHUNK_BYTES: usize = 1 << 20;

/// Does everything but starting and continuing, which is the log's own work. Gives warnings: evidence that could
/// not be kept does not keep the log from opening.
pub(super) fn apply(
    disk: &dyn Disk,
    plan: &RecoveryPlan,
    quarantine_bytes_left: u64,
) -> Result<Vec<String>, DiskError> {
    let mut apply = Apply {
        disk,
        dir: &plan.dir,
        log_id: &plan.log_id,
        quarantine_bytes_left,
        warnings: Vec::new(),
    };
    for step in &plan.steps {
        apply.step(step)?;
    }
    // A process that was killed may have created the last segment and not have come to this.
    disk.sync_dir(&plan.dir).at("sync directory", &plan.dir)?;
    Ok(apply.warnings)
}

struct Apply<'a> {
    disk: &'a dyn Disk,
    dir: &'a Path,
    log_id: &'a LogId,
    quarantine_bytes_left: u64,
    warnings: Vec<String>,
}

impl Apply<'_> {
    fn step(&mut self, step: &RecoveryStep) -> Result<(), DiskError> {
        match step {
            RecoveryStep::CopyDamage { name, bytes, .. } => {
                let copied = self.copy_damage(name, bytes);
                self.warn(copied);
                Ok(())
            }
            RecoveryStep::NoteLoss { sequences } => {
                let noted = self.note_loss(sequences);
                self.warn(noted);
                Ok(())
            }
            RecoveryStep::QuarantineFile { name, .. } => self.quarantine_file(name),
            RecoveryStep::Remove { name, .. } => {
                let path = self.dir.join(name);
                self.disk.remove_file(&path).at("remove", &path)
            }
            RecoveryStep::Truncate { name, bytes_kept, .. } => {
                let path = self.dir.join(name);
                let mut file = self.disk.open(&path, Access::ReadAppend).at("open", &path)?;
                file.set_len(*bytes_kept).at("truncate", &path)?;
                file.sync_data().at("sync", &path)
            }
            RecoveryStep::Seal { name, next_sequence } => {
                let path = self.dir.join(name);
                let mark = FrameCrc::new(self.log_id).end_mark(*next_sequence);
                let mut file = self.disk.open(&path, Access::ReadAppend).at("open", &path)?;
                file.append(&[IoSlice::new(&mark)]).at("write", &path)?;
                file.sync_data().at("sync", &path)
            }
            RecoveryStep::WriteLogId => atomic_replace(
                self.disk,
                &self.dir.join(LOG_ID_FILE),
                encode_log_id(self.log_id).as_bytes(),
            ),
            RecoveryStep::Continue { .. } | RecoveryStep::Start { .. } => Ok(()),
        }
    }

    fn warn(&mut self, done: Result<(), DiskError>) {
        if let Err(error) = done {
            self.warnings.push(error.to_string());
        }
    }

    fn quarantine(&self) -> Result<PathBuf, DiskError> {
        let dir = self.dir.join(QUARANTINE_DIR);
        create_dir_all_durable(self.disk, &dir)?;
        Ok(dir)
    }

    fn quarantine_file(&self, name: &str) -> Result<(), DiskError> {
        let quarantine = self.quarantine()?;
        let from = self.dir.join(name);
        // An earlier file of the same name in there is not worth less.
        let mut to = quarantine.join(name);
        for attempt in 1..100 {
            if !self.disk.exists(&to).at("look at", &to)? {
                break;
            }
            to = quarantine.join(format!("{name}.{attempt}"));
        }
        self.disk.rename(&from, &to).at("move", &from)?;
        self.disk
            .sync_dir(&quarantine)
            .at("sync directory", &quarantine)?;
        self.disk.sync_dir(self.dir).at("sync directory", self.dir)
    }

    fn note_loss(&self, sequences: &Range<u64>) -> Result<(), DiskError> {
        let path = self.quarantine()?.join(note_name(sequences));
        let text = format!(
            "sequences {} to {} (exclusive) are lost\n",
            sequences.start, sequences.end
        );
        atomic_replace(self.disk, &path, text.as_bytes())
    }

    fn copy_damage(&mut self, name: &str, bytes: &Range<u64>) -> Result<(), DiskError> {
        let len = bytes.end - bytes.start;
        if len > self.quarantine_bytes_left {
            self.warnings.push(format!(
                "{len} damaged bytes of {name} were not copied: quarantine is full"
            ));
            return Ok(());
        }
        self.quarantine_bytes_left -= len;
        let quarantine = self.quarantine()?;
        let (from, to) = (self.dir.join(name), quarantine.join(copy_name(name, bytes)));
        let source = self.disk.open(&from, Access::Read).at("open", &from)?;
        let mut copy = self.disk.create_new(&to).at("create", &to)?;
        let mut offset = bytes.start;
        let mut buffer = vec![0; COPY_CHUNK_BYTES];
        while offset < bytes.end {
            let wanted = usize::try_from(bytes.end - offset)
                .unwrap_or(usize::MAX)
                .min(buffer.len());
            match source.read_at(&mut buffer[..wanted], offset).at("read", &from)? {
                0 => break,
                read => {
                    copy.append(&[IoSlice::new(&buffer[..read])]).at("write", &to)?;
                    offset += read as u64;
                }
            }
        }
        copy.sync_data().at("sync", &to)?;
        self.disk.sync_dir(&quarantine).at("sync directory", &quarantine)
    }
}
