//! What is in a compressed file? Compared with what was read of every stream that began alike.

use std::io;

use edgelogger_common::disk::parent;
use edgelogger_common::stream::StreamId;
use rustix::fd::OwnedFd;

use super::archive::{Archive, Damage, Format};
use super::archives::{ARCHIVES_OPEN_MAX, COMPLETE_AFTER, PIECE_BYTES, Packed};
use super::content::read_at;
use super::displaced::Leaving;
use super::files::FileId;
use super::identity::{FINGERPRINT_BYTES_MAX, Known, enough_to_tell};
use super::skip::SkipReason;
use super::source::FileSource;
use super::stat::stat_open;
use crate::flow::ContentCheck;

/// One compressed file being compared.
#[derive(Debug)]
pub(super) struct Inspection {
    pub id: FileId,
    format: Format,
    archive: Box<Archive>,
    head: Vec<u8>,
    /// By position, the lowest last.
    questions: Vec<Question>,
    /// What has it been read as?
    read_as: Option<Question>,
    /// It may be what a stream was read from, but is not long enough (yet).
    is_short: bool,
}

#[derive(Debug, Clone, Copy)]
struct Question {
    whose: Whose,
    offset: u64,
    check: ContentCheck,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Whose {
    Lost(StreamId),
    Followed(FileId),
    Finished(StreamId),
}

enum Verdict {
    /// A lost stream goes on in it.
    GoesOn(StreamId),
    /// No lost stream does; `read_as` says whether it was read.
    Asked,
}

impl FileSource {
    /// Compares a piece of one compressed file. `true`: there is more to do.
    pub(super) fn inspect(&mut self) -> bool {
        if self.archives_open() < ARCHIVES_OPEN_MAX {
            if let Some(id) = self.archives.parked.pop_front() {
                self.enqueue(id);
            }
            // What is gone may be what was compressed, and is asked about once it has a stream.
            if self.archives.inspection.is_none() && !self.is_gone_unread() {
                self.begin_inspection();
            }
        }
        let Some(mut inspection) = self.archives.inspection.take() else {
            return false;
        };
        if self
            .files
            .get(inspection.id)
            .is_none_or(|file| file.place.is_some())
        {
            return true;
        }
        match self.compare_piece(&mut inspection) {
            Ok(None) => self.archives.inspection = Some(inspection),
            Ok(Some(Verdict::GoesOn(stream_id))) => self.go_on_in_archive(inspection, stream_id),
            Ok(Some(Verdict::Asked)) => self.judge_archive(inspection),
            Err(error) => {
                let id = inspection.id;
                self.failed(id, "read", error);
                self.reject(id);
            }
        }
        true
    }

    pub(super) fn archives_open(&self) -> usize {
        self.files.archives_open() + usize::from(self.archives.inspection.is_some())
    }

    fn begin_inspection(&mut self) {
        let Some(id) = self.archives.waiting.pop_front() else {
            return;
        };
        if !self.open(id) {
            return self.reject(id);
        }
        match self.look_into(id) {
            Ok(inspection) => self.archives.inspection = inspection,
            Err(error) => {
                self.failed(id, "read", error);
                self.reject(id);
            }
        }
    }

    /// What could this file be, by its beginning?
    fn look_into(&self, id: FileId) -> io::Result<Option<Inspection>> {
        let Some((file, packed)) = self
            .files
            .get(id)
            .and_then(|file| Some((file, file.packed.as_ref()?)))
        else {
            return Ok(None);
        };
        let Some(descriptor) = &file.file else {
            return Ok(None);
        };
        let mut archive = self.open_archive(descriptor, packed)?;
        archive.approach(FINGERPRINT_BYTES_MAX as u64, PIECE_BYTES)?;
        let head = archive.decoded(0, FINGERPRINT_BYTES_MAX as u64).to_vec();
        let begins = |known: &ContentCheck| {
            head.get(..known.len as usize)
                .is_some_and(|head| crc32c::crc32c(head) == known.crc32c)
        };
        let lost = self.archives.lost.values();
        let lost = lost.filter(|lost| lost.candidates.contains(&id) && begins(&lost.known.fingerprint()));
        let lost = lost.map(|lost| (Whose::Lost(lost.stream_id), lost.known.offset, lost.known.check));
        let followed = self.files.placed().filter(|(other, _)| *other != id);
        let followed = followed.filter_map(|(other, file)| Some((other, file.known()?)));
        let followed = followed
            .filter(|(_, known)| begins(&known.fingerprint()) && enough_to_tell(known))
            .map(|(other, known)| (Whose::Followed(other), known.offset, known.check));
        let finished = self.checkpoints.finished().into_iter();
        let finished = finished.chain(self.archives.ended_files());
        let finished = finished
            .filter(|finished| begins(&finished.fingerprint) && enough_to_tell(&Known::of_finished(finished)))
            .map(|finished| (Whose::Finished(finished.stream_id), finished.size, finished.check));
        let mut questions: Vec<Question> = lost
            .chain(followed)
            .chain(finished)
            .map(|(whose, offset, check)| Question { whose, offset, check })
            .collect();
        questions.sort_by_key(|question| std::cmp::Reverse(question.offset));
        Ok(Some(Inspection {
            id,
            format: packed.format,
            archive,
            head,
            questions,
            read_as: None,
            is_short: false,
        }))
    }

    pub(super) fn open_archive(&self, descriptor: &OwnedFd, packed: &Packed) -> io::Result<Box<Archive>> {
        let copy = descriptor.try_clone()?;
        let archive = Archive::open(copy, packed.format, packed.disk_size, self.reader.read_bytes())?;
        Ok(Box::new(archive))
    }

    /// `None`: go on with the next piece.
    fn compare_piece(&self, inspection: &mut Inspection) -> io::Result<Option<Verdict>> {
        let archive = &mut inspection.archive;
        let before = archive.position();
        while let Some(question) = inspection.questions.last().copied() {
            if !archive.approach(question.offset, PIECE_BYTES)? {
                return Ok(None);
            }
            inspection.questions.pop();
            let is_it = match question.whose {
                _ if archive.position() >= question.offset => {
                    let window = u64::from(question.check.len).min(question.offset);
                    let window = archive.decoded(question.offset - window, question.offset);
                    crc32c::crc32c(window) == question.check.crc32c
                }
                // A copy of its beginning, or not written to its end yet.
                Whose::Followed(other) if self.begins_with(other, archive)? => true,
                _ => {
                    inspection.is_short = true;
                    false
                }
            };
            match question.whose {
                Whose::Lost(stream_id) if is_it && self.archives.lost.contains_key(&stream_id) => {
                    return Ok(Some(Verdict::GoesOn(stream_id)));
                }
                Whose::Lost(_) => {}
                // A followed one will read on by itself.
                _ if is_it
                    && !matches!(
                        inspection.read_as,
                        Some(Question {
                            whose: Whose::Followed(_),
                            ..
                        })
                    ) =>
                {
                    inspection.read_as = Some(question);
                }
                _ => {}
            }
            if archive.position() - before > PIECE_BYTES as u64 {
                return Ok(None);
            }
        }
        if let Some(Question { offset, .. }) = inspection.read_as {
            // Is there more than was read?
            archive.approach(offset + 1, PIECE_BYTES)?;
        }
        Ok(Some(Verdict::Asked))
    }

    /// Does a followed file begin with all that an archive holds? `false` also where that can't be said.
    fn begins_with(&self, other: FileId, archive: &Archive) -> io::Result<bool> {
        let Some(file) = self.files.get(other) else {
            return Ok(false);
        };
        let end = archive.position();
        let start = end.saturating_sub(FINGERPRINT_BYTES_MAX as u64);
        let last = archive.decoded(start, end);
        if last.is_empty() {
            return Ok(false);
        }
        let Ok(descriptor) = file.borrowed() else {
            return Ok(false);
        };
        Ok(read_at(&descriptor, start, last.len())? == last)
    }

    /// A stream that was lost goes on in a compressed file, at the same position.
    fn go_on_in_archive(&mut self, inspection: Inspection, stream_id: StreamId) {
        let Inspection {
            id, format, archive, ..
        } = inspection;
        let Some(lost) = self.archives.lost.remove(&stream_id) else {
            return;
        };
        let found = self
            .files
            .get(id)
            .and_then(|file| stat_open(file.file.as_ref()?).ok());
        let (Some(file), Some(found)) = (self.files.get_mut(id), found) else {
            self.archives.lost.insert(stream_id, lost);
            return self.reject(id);
        };
        let offset = lost.known.offset;
        tracing::info!(
            file = %lost.name.display(), archive = %file.path.display(), offset,
            "a log was compressed before it was read to its end; it is read on in the compressed file"
        );
        file.on_trial = false;
        file.fingerprint = Some(lost.known.fingerprint());
        file.place = Some(lost.place);
        file.backlog = lost.backlog;
        if let Some(packed) = &mut file.packed {
            packed.archive = Some(archive);
        }
        let dir = parent(&file.path).to_owned();
        let modified_ns = file.modified_ns;
        self.files.set_name(id, &lost.name);
        // Logs that were compressed after this one were at its path after it.
        self.leaving.push(Leaving {
            name: lost.name,
            dir,
            birth_ns: None,
            modified_ns,
            known: None,
            stream_id: None,
        });
        if let Some(file) = self.files.get(id) {
            self.status.update(id, file);
        }
        let descriptor = self.note_move(&stream_id, &found, Some(format));
        self.outbox.open(descriptor.unwrap_or(lost.descriptor));
        self.enqueue(id);
        self.forget_candidate(id);
    }

    /// All that could be asked was asked.
    fn judge_archive(&mut self, inspection: Inspection) {
        let Inspection {
            id,
            archive,
            head,
            read_as,
            is_short,
            ..
        } = inspection;
        let Some(file) = self.files.get(id) else { return };
        // A beginning that is not there yet can't be compared either.
        let is_short = is_short || head.len() < FINGERPRINT_BYTES_MAX;
        let is_cut_off = archive.damage() == Some(&Damage::Incomplete);
        if read_as.is_none()
            && is_short
            && is_cut_off
            && self.written_within(file.modified_ns, COMPLETE_AFTER)
        {
            return self.look_again(id);
        }
        match read_as {
            Some(Question {
                whose: Whose::Finished(stream_id),
                offset,
                check,
            }) if archive.position() > offset => {
                if file.on_trial {
                    return self.reject(id);
                }
                // Its stream ended before this content was known.
                self.take_in_archive(id, &archive, &head, Some((stream_id, offset, check)));
            }
            Some(_) => {
                self.forget_candidate(id);
                self.skip_file(id, SkipReason::AlreadyRead);
            }
            None if file.on_trial => self.reject(id),
            None => self.take_in_archive(id, &archive, &head, None),
        }
        if let Some(packed) = self.files.get_mut(id).and_then(|file| file.packed.as_mut())
            && archive.reaches(0)
        {
            packed.archive = Some(archive);
        }
        self.forget_candidate(id);
    }

    /// It is no stream's, or can't be read: who looked for his in it looks elsewhere.
    fn reject(&mut self, id: FileId) {
        if self.files.get(id).is_some_and(|file| file.on_trial) {
            self.drop_file(id);
        } else {
            self.forget_candidate(id);
        }
    }
}
