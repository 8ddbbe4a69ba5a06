//! A disk in memory that fails when it is told to, for the tests of every crate.
//!
//! ```
//! use edgelogger_common::disk::{Disk, Effect, Fault, FaultDisk, Operation};
//! use rustix::io::Errno;
//!
//! let disk = FaultDisk::new(42);
//! disk.install(Fault::once(Operation::Sync, 1, Effect::Error(Errno::IO)));
//! let file = disk.create_new("/a".as_ref()).unwrap();
//! assert!(file.sync_data().is_err()); // the first sync fails
//! assert!(file.sync_data().is_err()); // and poisons the handle
//! disk.restart();
//! ```

use super::fault_world::{Dice, Node, Survivors, Tree};
use parking_lot::Mutex;
use rustix::io::Errno;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// What a program asks of a disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operation {
    /// Any operation that changes something: all of those below except `Open`, `Read` and `List`.
    AnyChange,
    /// `create_new`
    Create,
    /// `append`
    Write,
    /// `sync_data`
    Sync,
    /// `set_len`
    SetLen,
    /// `rename`
    Rename,
    /// `remove_file`
    Remove,
    /// `create_dir_all`
    CreateDir,
    /// `sync_dir`
    SyncDir,
    /// `open`
    Open,
    /// `read_at`
    Read,
    /// `list_files`
    List,
}

impl Operation {
    fn is_change(self) -> bool {
        !matches!(self, Self::Open | Self::Read | Self::List)
    }

    fn matches(self, asked: Self) -> bool {
        self == asked || (self == Self::AnyChange && asked.is_change())
    }
}

/// What happens instead of the operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effect {
    /// Nothing is done and this error is returned. A failed `Sync` loses a random part of what was pending,
    /// for ever, as Linux does.
    Error(Errno),
    /// A `Write` does a random part of its work, any other operation all of it; then this error is returned.
    PartThenError(Errno),
    /// As `kill -9` in the middle: a random part of the operation is done; everything fails until
    /// [`FaultDisk::restart`], and what was written before is still in the page cache.
    Kill,
    /// The power goes in the middle; everything fails until [`FaultDisk::restart`].
    PowerCut(Survivors),
    /// It does nothing and says that all is well: a disk that lies. For the control of a power-cut test,
    /// which must then fail.
    Lie,
    /// It takes this long, then succeeds.
    Slow(Duration),
}

/// A failure to come.
#[derive(Debug, Clone, Copy)]
pub struct Fault {
    /// Which operations are counted.
    pub operation: Operation,
    /// The first that fails, counted from 1 when the fault is installed.
    pub nth: u64,
    /// Does every later one fail too?
    pub lasting: bool,
    /// What happens.
    pub effect: Effect,
}

impl Fault {
    /// The `nth` operation of this kind, once.
    #[must_use]
    pub fn once(operation: Operation, nth: u64, effect: Effect) -> Self {
        Self {
            operation,
            nth,
            lasting: false,
            effect,
        }
    }

    /// The `nth` operation of this kind and all after it.
    #[must_use]
    pub fn from(operation: Operation, nth: u64, effect: Effect) -> Self {
        Self {
            operation,
            nth,
            lasting: true,
            effect,
        }
    }
}

/// A file system in memory whose medium, page cache and failures are under the control of a test. Clones share
/// it. The same seed and the same calls give the same outcome.
#[derive(Debug, Clone)]
pub struct FaultDisk(pub(super) Arc<Mutex<World>>);

#[derive(Debug)]
pub(super) struct World {
    pub(super) tree: Tree,
    pub(super) dice: Dice,
    faults: Vec<(Fault, u64)>,
    changes: u64,
    /// Handles of an earlier life are dead.
    pub(super) life: u64,
    pub(super) down: bool,
    pub(super) capacity_bytes: u64,
}

impl FaultDisk {
    /// An empty disk of 1 TiB; the directories `/` and `.` exist.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self(Arc::new(Mutex::new(World {
            tree: Tree::default(),
            dice: Dice::new(seed),
            faults: Vec::new(),
            changes: 0,
            life: 0,
            down: false,
            capacity_bytes: 1 << 40,
        })))
    }

    /// Adds a failure to come.
    pub fn install(&self, fault: Fault) {
        self.0.lock().faults.push((fault, 0));
    }

    /// Forgets all failures to come.
    pub fn clear_faults(&self) {
        self.0.lock().faults.clear();
    }

    /// Changing operations so far, failed ones included: the N of "fails at every N".
    #[must_use]
    pub fn changes(&self) -> u64 {
        self.0.lock().changes
    }

    /// The size of the medium: writes beyond it are cut short with `ENOSPC`.
    pub fn set_capacity(&self, bytes: u64) {
        self.0.lock().capacity_bytes = bytes;
    }

    /// Cuts the power now.
    pub fn cut_power(&self, survivors: Survivors) {
        self.0.lock().cut_power(survivors);
    }

    /// Ends the process that used the disk, as `kill -9` does: its handles and locks die, its writes stay.
    pub fn kill(&self) {
        self.0.lock().down = true;
    }

    /// Has the process ended or the power gone?
    #[must_use]
    pub fn is_down(&self) -> bool {
        self.0.lock().down
    }

    /// Starts again, with no failures to come. Handles and locks from before are dead.
    pub fn restart(&self) {
        let mut world = self.0.lock();
        world.down = false;
        world.life += 1;
        world.faults.clear();
        world.tree.locks.clear();
    }

    /// Changes the bytes of a file behind everyone's back, on the medium and in the page cache.
    ///
    /// # Panics
    /// If there is no such file.
    pub fn corrupt(&self, path: &Path, change: impl FnOnce(&mut Vec<u8>)) {
        let mut world = self.0.lock();
        #[expect(clippy::expect_used, reason = "a test that names no file is wrong")]
        let inode = world.tree.file(path).expect("the file to corrupt exists");
        if let Some(file) = world.tree.files.get_mut(&inode) {
            file.sync();
            change(&mut file.medium);
            file.cached.clone_from(&file.medium);
        }
    }

    /// What a reader would see.
    #[must_use]
    pub fn contents(&self, path: &Path) -> Option<Vec<u8>> {
        let world = self.0.lock();
        world
            .tree
            .files
            .get(&world.tree.file(path)?)
            .map(|file| file.cached.clone())
    }
}

impl World {
    pub(super) fn cut_power(&mut self, survivors: Survivors) {
        self.tree.cut_power(survivors, &mut self.dice);
        self.down = true;
    }

    /// The effect that is due for this operation, if any. The first installed fault that is due wins.
    pub(super) fn due(&mut self, operation: Operation) -> io::Result<Option<Effect>> {
        if self.down {
            return Err(down());
        }
        self.changes += u64::from(operation.is_change());
        let mut due = None;
        for (fault, seen) in &mut self.faults {
            if fault.operation.matches(operation) {
                *seen += 1;
                let hit = *seen == fault.nth || (fault.lasting && *seen > fault.nth);
                due = due.or(hit.then_some(fault.effect));
            }
        }
        Ok(due)
    }

    /// Runs a change that is done or not done, never in part.
    pub(super) fn change<T: Default>(
        &mut self,
        operation: Operation,
        work: impl FnOnce(&mut Self) -> io::Result<T>,
    ) -> io::Result<T> {
        match self.due(operation)? {
            None => work(self),
            Some(Effect::Slow(time)) => {
                std::thread::sleep(time);
                work(self)
            }
            Some(Effect::Lie) => Ok(T::default()),
            Some(Effect::Error(errno)) => Err(errno.into()),
            Some(Effect::PartThenError(errno)) => work(self).and(Err(errno.into())),
            Some(Effect::Kill) => self.die(work, None),
            Some(Effect::PowerCut(survivors)) => self.die(work, Some(survivors)),
        }
    }

    fn die<T>(
        &mut self,
        work: impl FnOnce(&mut Self) -> io::Result<T>,
        power_cut: Option<Survivors>,
    ) -> io::Result<T> {
        if self.dice.below(2) == 0 {
            let _ = work(self);
        }
        match power_cut {
            Some(survivors) => self.cut_power(survivors),
            None => self.down = true,
        }
        Err(down())
    }

    pub(super) fn check_parent(&self, path: &Path) -> io::Result<()> {
        if self.tree.is_dir(super::parent(path)) {
            Ok(())
        } else {
            Err(Errno::NOENT.into())
        }
    }

    pub(super) fn existing(&self, path: &Path) -> io::Result<Node> {
        self.tree
            .cached
            .get(path)
            .copied()
            .ok_or_else(|| Errno::NOENT.into())
    }

    /// How many of `wanted` more bytes fit.
    pub(super) fn room(&self, wanted: usize) -> usize {
        let free = self.capacity_bytes.saturating_sub(self.tree.used_bytes());
        usize::try_from(free).unwrap_or(usize::MAX).min(wanted)
    }
}

pub(super) fn down() -> io::Error {
    io::Error::other("the simulated machine is down until restart()")
}
