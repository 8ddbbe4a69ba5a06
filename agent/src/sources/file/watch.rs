//! Waiting: for changes in directories (inotify), for somebody who calls, or for a time.
//!
//! inotify is used directly rather than through a library with a thread of its own: events are then taken when
//! this source is idle, and until then the kernel merges equal ones. A program that writes 100,000 lines a second
//! costs one event per read, not per line.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::mem::MaybeUninit;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};
use rustix::fd::OwnedFd;
use rustix::fs::inotify::{self, CreateFlags, ReadFlags, Reader, WatchFlags};
use rustix::io::Errno;

use super::discover::DIRECTORIES_MAX;

/// Room for some hundred events; more come with the next read.
const EVENT_BYTES: usize = 16 << 10;

/// What happened to a name in a directory.
#[derive(Debug, Clone, Copy)]
pub(super) struct Change<'a> {
    /// The directory, by each path under which it is watched.
    pub dirs: &'a [PathBuf],
    /// The name in it; `None`: the directory itself.
    pub name: Option<&'a OsStr>,
    flags: ReadFlags,
    /// Joins the two halves of a rename.
    pub cookie: u32,
}

impl Change<'_> {
    /// Content was written, and nothing else.
    pub fn is_write(&self) -> bool {
        self.flags == ReadFlags::MODIFY
    }

    /// Owner, mode, times or links changed; a file may have become readable.
    pub fn is_attribute(&self) -> bool {
        self.flags.contains(ReadFlags::ATTRIB)
    }

    pub fn is_directory(&self) -> bool {
        self.flags.contains(ReadFlags::ISDIR)
    }

    pub fn is_moved_from(&self) -> bool {
        self.flags.contains(ReadFlags::MOVED_FROM)
    }

    pub fn is_moved_to(&self) -> bool {
        self.flags.contains(ReadFlags::MOVED_TO)
    }
}

/// Wakes a source that waits. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Waker(Arc<OwnedFd>);

impl Waker {
    /// Makes the wait that is under way, or the next one, return at once.
    pub fn wake(&self) {
        // It fails only when the counter is full, and then the source wakes anyway.
        let _ = rustix::io::write(&*self.0, &1u64.to_ne_bytes());
    }
}

/// The watched directories.
pub(super) struct Watcher {
    /// `None` where the system has no instance left; then rescans are all there is.
    inotify: Option<OwnedFd>,
    wake: Waker,
    by_watch: HashMap<i32, Vec<PathBuf>>,
    by_dir: HashMap<PathBuf, i32>,
    /// Directories that could not be watched since this was last set to 0.
    pub refused: usize,
    refusal_told: bool,
    buffer: Box<[MaybeUninit<u8>]>,
}

impl Watcher {
    /// # Errors
    /// No descriptor left for being woken.
    pub fn new() -> std::io::Result<Self> {
        let wake = eventfd(0, EventfdFlags::NONBLOCK | EventfdFlags::CLOEXEC)?;
        let inotify = match inotify::init(CreateFlags::NONBLOCK | CreateFlags::CLOEXEC) {
            Ok(inotify) => Some(inotify),
            Err(error) => {
                tracing::warn!(
                    %error,
                    "inotify can't be used, so changes of files are noticed at rescans only; \
                     raise fs.inotify.max_user_instances"
                );
                None
            }
        };
        Ok(Self {
            inotify,
            wake: Waker(Arc::new(wake)),
            by_watch: HashMap::new(),
            by_dir: HashMap::new(),
            refused: 0,
            refusal_told: false,
            buffer: vec![MaybeUninit::uninit(); EVENT_BYTES].into_boxed_slice(),
        })
    }

    pub fn waker(&self) -> Waker {
        self.wake.clone()
    }

    /// Watches a directory. To be called again at every rescan: another directory may have the name by now.
    pub fn watch(&mut self, dir: &Path) {
        let Some(inotify) = &self.inotify else { return };
        if self.by_dir.len() >= DIRECTORIES_MAX && !self.by_dir.contains_key(dir) {
            return;
        }
        let flags = WatchFlags::MODIFY
            | WatchFlags::ATTRIB
            | WatchFlags::CREATE
            | WatchFlags::DELETE
            | WatchFlags::MOVED_FROM
            | WatchFlags::MOVED_TO
            | WatchFlags::MOVE_SELF
            | WatchFlags::ONLYDIR;
        let watch = match inotify::add_watch(inotify, dir, flags) {
            Ok(watch) => watch,
            Err(error) => return self.refuse(dir, error),
        };
        match self.by_dir.insert(dir.to_owned(), watch) {
            Some(known) if known == watch => return,
            Some(stale) => self.forget(stale, dir),
            None => {}
        }
        self.by_watch.entry(watch).or_default().push(dir.to_owned());
    }

    /// The directory that was watched under this name is another one now.
    fn forget(&mut self, watch: i32, dir: &Path) {
        let Some(dirs) = self.by_watch.get_mut(&watch) else {
            return;
        };
        dirs.retain(|known| known != dir);
        if dirs.is_empty() {
            self.by_watch.remove(&watch);
            if let Some(inotify) = &self.inotify {
                // It fails only where the watch is gone already.
                let _ = inotify::remove_watch(inotify, watch);
            }
        }
    }

    fn refuse(&mut self, dir: &Path, error: Errno) {
        if !std::mem::replace(&mut self.refusal_told, true) {
            tracing::warn!(
                dir = %dir.display(), %error,
                "a directory can't be watched, so changes in it are noticed at rescans only; \
                 raise fs.inotify.max_user_watches"
            );
        }
        self.refused += 1;
    }

    /// Takes all changes that are there. `false`: some were lost, and everything must be looked at.
    pub fn drain(&mut self, mut take: impl FnMut(Change<'_>)) -> bool {
        let Some(inotify) = &self.inotify else { return true };
        let mut complete = true;
        let mut gone = Vec::new();
        let mut reader = Reader::new(inotify, &mut self.buffer);
        loop {
            let event = match reader.next() {
                Ok(event) => event,
                Err(Errno::INTR) => continue,
                Err(Errno::WOULDBLOCK) => break,
                Err(error) => {
                    tracing::warn!(%error, "changes of files can't be read; looking at all of them instead");
                    complete = false;
                    break;
                }
            };
            let flags = event.events();
            complete &= !flags.intersects(ReadFlags::QUEUE_OVERFLOW | ReadFlags::MOVE_SELF);
            if flags.contains(ReadFlags::IGNORED) {
                gone.push(event.wd());
            } else if let Some(dirs) = self.by_watch.get(&event.wd()) {
                let name = event.file_name().map(|name| OsStr::from_bytes(name.to_bytes()));
                take(Change {
                    dirs,
                    name,
                    flags,
                    cookie: event.cookie(),
                });
            }
        }
        for watch in gone {
            for dir in self.by_watch.remove(&watch).unwrap_or_default() {
                self.by_dir.remove(&dir);
            }
        }
        complete
    }

    /// Waits for a change (unless `deaf`), a call of the waker, or the time.
    pub fn wait(&self, timeout: Duration, deaf: bool) {
        let timeout = Timespec {
            tv_sec: i64::try_from(timeout.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: timeout.subsec_nanos().into(),
        };
        let inotify = self.inotify.as_ref().filter(|_| !deaf).unwrap_or(&*self.wake.0);
        let mut both = [
            PollFd::new(&*self.wake.0, PollFlags::IN),
            PollFd::new(inotify, PollFlags::IN),
        ];
        // An interrupted wait is an early one, and every caller looks at the time again.
        let _ = poll(&mut both, Some(&timeout));
        if both[0].revents().contains(PollFlags::IN) {
            let _ = rustix::io::read(&*self.wake.0, &mut [0u8; 8]);
        }
    }

    /// Directories that are watched.
    pub fn watched(&self) -> usize {
        self.by_dir.len()
    }
}
