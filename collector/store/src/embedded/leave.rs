//! Rows that go, with or without the rest of their files: their positions stay applied, and it is known why they are no
//! rows any more. For retention and deletion.

use std::sync::Arc;

use super::leaving::Leaving;
use super::maintain::may_be_in_place;
use super::{EmbeddedStore, Flushing};
use crate::deletion::Progress;
use crate::error::StoreError;
use crate::flush::{Told, write_new_manifest};
use crate::fold;
use crate::gone::{GoneRows, GoneWhy};
use crate::live_file::LiveFile;
use crate::manifest::FileEntry;

/// What goes, in one manifest.
pub(super) struct Departure<'a> {
    /// Files, all of one day.
    pub old: &'a [Arc<LiveFile>],
    /// A file with what stays of them.
    pub new: Option<FileEntry>,
    /// What does not.
    pub gone: &'a GoneRows,
    /// Why.
    pub why: GoneWhy,
    /// What deletions took with it.
    pub steps: &'a [Progress],
}

impl EmbeddedStore {
    /// One manifest without these rows, that says which they were. False where it can't be now; the new file is gone then.
    pub(super) fn let_rows_go(&self, departure: Departure<'_>) -> Result<bool, StoreError> {
        let Departure {
            old,
            new,
            gone,
            why,
            steps,
        } = departure;
        let mut flushing = self.flushing.lock();
        let new = new.map(|entry| Arc::new(self.live(entry)));
        // Streams that are on their way into files of their own would not learn of it. An hour later they have.
        if flushing
            .frozen
            .as_ref()
            .is_some_and(|frozen| !frozen.folding.is_empty())
        {
            new.iter().for_each(|new| new.leave());
            return Ok(false);
        }
        let mut named = self.visible.lock().named();
        named.remove(old);
        named.files.extend(new.iter().map(|file| file.entry.clone()));
        let mut streams = flushing.in_force.streams.clone();
        let folded_gone = streams.expire(gone, why);
        let day = old.first().map_or(0, |file| file.entry.day);
        let written = self
            .expire_folded(&mut flushing, (day, &folded_gone))
            .and_then(|folded| {
                let mut deletions = flushing.in_force.deletions.clone();
                add_steps(&mut deletions, steps);
                let told = Told {
                    cursor: flushing.in_force.cursor,
                    streams: &streams,
                    log_gaps: &flushing.in_force.log_gaps,
                    folded: folded
                        .as_ref()
                        .map_or(&flushing.in_force.folded, |(folded, _)| folded),
                    deletions: &deletions,
                };
                write_new_manifest(&self.options, named, told, flushing.next_file)?;
                Ok((folded, deletions))
            });
        let (folded, deletions) = match written {
            Ok(written) => written,
            Err(error) => {
                match new {
                    Some(new) if may_be_in_place(&error) => flushing.leaving.doubt(Leaving::Live(new)),
                    Some(new) => new.leave(),
                    None => {}
                }
                return Err(error);
            }
        };
        let mut leaving: Vec<_> = old.iter().map(|file| Leaving::Live(Arc::clone(file))).collect();
        flushing.in_force.streams = streams;
        flushing.in_force.deletions = deletions;
        if let Some((folded, superseded)) = folded {
            let dir = self.options.dir.join(fold::FOLDED_DIR);
            leaving.extend(superseded.iter().map(|name| Leaving::Path(dir.join(name))));
            flushing.in_force.folded = folded;
        }
        if let Some(frozen) = &mut flushing.frozen {
            frozen.streams.expire(gone, why);
        }
        self.writer.lock().streams.expire(gone, why);
        flushing.leaving.manifest_written(&*self.options.disk, leaving);
        self.visible.lock().exchange(old, new.as_slice());
        self.held_cursor_is_durable();
        Ok(true)
    }

    /// Files of folded streams in which these are expired, and those that they replace. What a failure leaves of them is
    /// removed when the store opens.
    fn expire_folded(
        &self,
        flushing: &mut Flushing,
        (day, gone): (i64, &[fold::FoldedGone]),
    ) -> Result<Option<(fold::Folded, Vec<String>)>, StoreError> {
        if gone.is_empty() {
            return Ok(None);
        }
        let dir = self.options.dir.join(fold::FOLDED_DIR);
        let Flushing {
            in_force, next_file, ..
        } = flushing;
        let written = fold::expire(
            &*self.options.disk,
            &dir,
            &in_force.folded,
            (day, gone),
            next_file,
        )?;
        Ok(Some(written))
    }
}

fn add_steps(deletions: &mut Vec<Progress>, steps: &[Progress]) {
    for step in steps {
        match deletions.iter_mut().find(|known| known.id == step.id) {
            Some(known) => known.add(step),
            None => deletions.push(*step),
        }
    }
}
