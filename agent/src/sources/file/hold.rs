//! Deleted files that are not read to their end: how long they may be held open. Pure.
//!
//! A deleted file takes up disk space until its last descriptor is closed. While the collector is away the agent
//! must not fill the machine's disk with the logs that somebody deleted to free it.

use std::time::Duration;

use super::files::FileId;
use super::stat::FileKey;

/// Upper bound of what is held, whatever the size of the file system.
const HOLD_BYTES_MAX: u64 = 1 << 30;
/// One part in this many of the file system: 5 %.
const HOLD_FRACTION: u64 = 20;

/// How long a deleted file must have been quiet after its end was read. Its writer may still have it open.
pub(super) const QUIET_FOR: Duration = Duration::from_secs(5);
/// The same for a file that was moved to where nobody looks: it takes no disk space, and a descriptor is cheap.
pub(super) const QUIET_FOR_MOVED: Duration = Duration::from_secs(60);
/// How often files that are held are looked at.
pub(super) const SWEEP_EVERY: Duration = Duration::from_secs(1);

/// What may be held.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct HoldLimits {
    /// `None`: derived from the file system.
    pub bytes_max: Option<u64>,
    pub age_max: Duration,
    pub files_max: usize,
}

/// One file that is held.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Held {
    pub file: FileId,
    pub key: FileKey,
    /// When it was found deleted.
    pub since: Duration,
    /// When it was last seen to grow, or read.
    pub active: Duration,
    /// It still has a name somewhere.
    pub moved: bool,
    /// Disk space that closing it would free.
    pub disk_bytes: u64,
    /// Size of its file system in bytes.
    pub file_system_bytes: u64,
    /// Is there something left to read?
    pub unread: bool,
}

/// What becomes of a file that is held.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fate {
    /// Read to its end and quiet: the stream ends, whole.
    Done(FileId),
    /// Over a limit: what was not read is lost.
    Expired(FileId),
}

/// Which of the held files are let go of now; oldest first where there are too many.
pub(super) fn sweep(held: &[Held], limits: &HoldLimits, now: Duration) -> Vec<Fate> {
    let mut fates = Vec::new();
    let mut kept: Vec<&Held> = Vec::new();
    for file in held {
        let quiet_for = if file.moved { QUIET_FOR_MOVED } else { QUIET_FOR };
        if !file.unread && now.saturating_sub(file.active) >= quiet_for {
            fates.push(Fate::Done(file.file));
        } else if now.saturating_sub(file.since) >= limits.age_max {
            fates.push(Fate::Expired(file.file));
        } else {
            kept.push(file);
        }
    }
    // Newest first: what does not fit any more is the oldest.
    kept.sort_by_key(|file| std::cmp::Reverse((file.since, file.file)));
    let mut bytes_by_device = std::collections::HashMap::new();
    for (index, file) in kept.into_iter().enumerate() {
        let bytes: &mut u64 = bytes_by_device.entry(file.key.device).or_default();
        *bytes = bytes.saturating_add(file.disk_bytes);
        let bytes_max = limits
            .bytes_max
            .unwrap_or_else(|| HOLD_BYTES_MAX.min(file.file_system_bytes / HOLD_FRACTION));
        if index >= limits.files_max || *bytes > bytes_max {
            fates.push(Fate::Expired(file.file));
        }
    }
    fates
}

#[cfg(test)]
mod tests {
    use super::*;

    const GIB: u64 = 1 << 30;

    fn held(file: FileId, since: u64, disk_bytes: u64, unread: bool) -> Held {
        let since = Duration::from_secs(since);
        let key = FileKey {
            device: 1,
            inode: file,
        };
        Held {
            file,
            key,
            since,
            active: since,
            moved: false,
            disk_bytes,
            file_system_bytes: 1000 * GIB,
            unread,
        }
    }

    fn check(held: &[Held], now: u64, expected: &[Fate]) {
        let limits = HoldLimits {
            bytes_max: None,
            age_max: Duration::from_secs(3600),
            files_max: 3,
        };
        assert_eq!(sweep(held, &limits, Duration::from_secs(now)), expected);
    }

    #[test]
    fn a_file_that_was_read_to_its_end_is_let_go_when_it_is_quiet() {
        check(&[held(1, 0, 5, false)], 4, &[]);
        check(&[held(1, 0, 5, false)], 5, &[Fate::Done(1)]);
        check(&[held(1, 0, 5, true)], 5, &[]);
    }

    #[test]
    fn an_old_file_expires() {
        check(
            &[held(1, 0, 5, true), held(2, 10, 5, true)],
            3600,
            &[Fate::Expired(1)],
        );
    }

    #[test]
    fn the_oldest_go_first_when_they_take_too_much_disk() {
        check(&[held(1, 0, GIB / 2, true), held(2, 1, GIB / 2, true)], 10, &[]);
        check(
            &[held(1, 0, GIB / 2, true), held(2, 1, GIB / 2 + 1, true)],
            10,
            &[Fate::Expired(1)],
        );
        check(&[held(1, 0, 2 * GIB, true)], 10, &[Fate::Expired(1)]);
    }

    #[test]
    fn a_small_file_system_is_given_a_twentieth() {
        let small = Held {
            file_system_bytes: 100,
            ..held(1, 0, 6, true)
        };
        check(&[small], 10, &[Fate::Expired(1)]);
        check(
            &[Held {
                disk_bytes: 5,
                ..small
            }],
            10,
            &[],
        );
    }

    #[test]
    fn too_many_files_expire_oldest_first() {
        let files: Vec<Held> = (0..5).map(|file| held(file, file, 1, true)).collect();
        check(&files, 10, &[Fate::Expired(1), Fate::Expired(0)]);
    }
}
