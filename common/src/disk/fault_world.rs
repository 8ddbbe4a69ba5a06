//! The model behind `FaultDisk`: what programs see (the page cache) and what the medium holds, kept apart.
//!
//! | event | page cache | medium |
//! | --- | --- | --- |
//! | write, truncate | changed | remembered as pending |
//! | sync | | pending changes applied, in order |
//! | failed sync | unchanged, now clean | each pending write lost or kept by the seed; never tried again |
//! | create, rename, remove | changed | pending until the directory is synced |
//! | drop cache | what the medium holds, if nothing is pending | |
//! | power cut | what the medium holds | pending changes lost, or a random part of them kept |
//!
//! Of a pending write a power cut may keep any subset of sectors; a length may survive without the bytes below
//! it (then they read as zeroes). Of pending directory changes it keeps a prefix, as a journal does.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// The unit in which a medium writes atomically.
const SECTOR_BYTES: usize = 512;

/// What a power cut leaves of changes that were not synced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Survivors {
    /// None of them.
    Nothing,
    /// A random part of them, drawn from the disk's seed.
    Some,
}

/// Deterministic randomness (SplitMix64, Steele and others 2014): a failing test is repeated by its seed.
#[derive(Debug)]
pub(super) struct Dice(u64);

impl Dice {
    pub(super) fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number in `0..bound`; 0 when the bound is 0.
    pub(super) fn below(&mut self, bound: usize) -> usize {
        match bound as u64 {
            0 => 0,
            bound => usize::try_from(self.next() % bound).unwrap_or(0),
        }
    }

    fn coin(&mut self) -> bool {
        self.next() & 1 == 1
    }
}

pub(super) type Inode = u64;

#[derive(Debug)]
enum PendingData {
    Write { offset: usize, bytes: Vec<u8> },
    SetLen(usize),
}

/// One file: what is read from it now, and what would be left after the power is cut.
#[derive(Debug, Default)]
pub(super) struct FileState {
    pub(super) cached: Vec<u8>,
    pub(super) medium: Vec<u8>,
    pending: Vec<PendingData>,
}

impl FileState {
    pub(super) fn write(&mut self, offset: usize, bytes: &[u8]) {
        overwrite(&mut self.cached, offset, bytes);
        self.pending.push(PendingData::Write {
            offset,
            bytes: bytes.to_vec(),
        });
    }

    pub(super) fn set_len(&mut self, len: usize) {
        self.cached.resize(len, 0);
        self.pending.push(PendingData::SetLen(len));
    }

    pub(super) fn sync(&mut self) {
        for change in std::mem::take(&mut self.pending) {
            match change {
                PendingData::Write { offset, bytes } => overwrite(&mut self.medium, offset, &bytes),
                PendingData::SetLen(len) => self.medium.resize(len, 0),
            }
        }
    }

    /// The kernel reports an error once, marks the pages clean, and forgets that they never arrived.
    pub(super) fn fail_sync(&mut self, dice: &mut Dice) {
        for change in std::mem::take(&mut self.pending) {
            match change {
                PendingData::Write { offset, bytes } => {
                    keep_some_sectors(&mut self.medium, offset, &bytes, dice);
                }
                PendingData::SetLen(len) => self.medium.resize(len, 0),
            }
        }
    }

    pub(super) fn drop_cache(&mut self) {
        if self.pending.is_empty() {
            self.cached.clone_from(&self.medium);
        }
    }

    fn cut_power(&mut self, survivors: Survivors, dice: &mut Dice) {
        let pending = std::mem::take(&mut self.pending);
        if survivors == Survivors::Some {
            for change in pending {
                match change {
                    PendingData::Write { offset, bytes } => {
                        keep_some_sectors(&mut self.medium, offset, &bytes, dice);
                    }
                    PendingData::SetLen(len) if dice.coin() => self.medium.resize(len, 0),
                    PendingData::SetLen(_) => {}
                }
            }
        }
        self.cached.clone_from(&self.medium);
    }
}

fn overwrite(target: &mut Vec<u8>, offset: usize, bytes: &[u8]) {
    let end = offset + bytes.len();
    if target.len() < end {
        target.resize(end, 0);
    }
    target[offset..end].copy_from_slice(bytes);
}

/// Applies a random subset of the sectors that a write touches; the file may grow over sectors that did not
/// arrive, which then read as zeroes.
fn keep_some_sectors(target: &mut Vec<u8>, offset: usize, bytes: &[u8], dice: &mut Dice) {
    let style = dice.below(4);
    let mut at = 0;
    while at < bytes.len() {
        let sector_end = ((offset + at) / SECTOR_BYTES + 1) * SECTOR_BYTES - offset;
        let end = sector_end.min(bytes.len());
        // Whole writes survive or vanish as often as parts of them do.
        let keep = match style {
            0 => false,
            1 => true,
            _ => dice.coin(),
        };
        if keep {
            overwrite(target, offset + at, &bytes[at..end]);
        }
        at = end;
    }
    if style != 0 && dice.below(4) == 0 && target.len() < offset + bytes.len() {
        target.resize(offset + bytes.len(), 0);
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Node {
    File(Inode),
    Dir,
}

#[derive(Debug, Clone)]
enum NameChange {
    Link { path: PathBuf, node: Node },
    Unlink { path: PathBuf },
    Rename { from: PathBuf, to: PathBuf, node: Node },
}

impl NameChange {
    fn touches(&self, dir: &Path) -> bool {
        let within = |path: &Path| super::parent(path) == dir;
        match self {
            Self::Link { path, .. } | Self::Unlink { path } => within(path),
            Self::Rename { from, to, .. } => within(from) || within(to),
        }
    }

    fn apply(self, names: &mut BTreeMap<PathBuf, Node>) {
        match self {
            Self::Link { path, node } => {
                names.insert(path, node);
            }
            Self::Unlink { path } => {
                names.remove(&path);
            }
            Self::Rename { from, to, node } => {
                names.remove(&from);
                names.insert(to, node);
            }
        }
    }
}

/// All names and files.
#[derive(Debug, Default)]
pub(super) struct Tree {
    pub(super) cached: BTreeMap<PathBuf, Node>,
    medium: BTreeMap<PathBuf, Node>,
    pending: Vec<NameChange>,
    pub(super) files: BTreeMap<Inode, FileState>,
    inode_next: Inode,
    pub(super) locks: BTreeSet<PathBuf>,
}

impl Tree {
    pub(super) fn is_dir(&self, path: &Path) -> bool {
        path == Path::new("/") || path == Path::new(".") || self.cached.get(path) == Some(&Node::Dir)
    }

    pub(super) fn file(&self, path: &Path) -> Option<Inode> {
        match self.cached.get(path) {
            Some(Node::File(inode)) => Some(*inode),
            _ => None,
        }
    }

    pub(super) fn create_file(&mut self, path: &Path) -> Inode {
        let inode = self.inode_next;
        self.inode_next += 1;
        self.files.insert(inode, FileState::default());
        self.change(NameChange::Link {
            path: path.to_path_buf(),
            node: Node::File(inode),
        });
        inode
    }

    pub(super) fn create_dir(&mut self, path: &Path) {
        self.change(NameChange::Link {
            path: path.to_path_buf(),
            node: Node::Dir,
        });
    }

    pub(super) fn remove(&mut self, path: &Path) {
        self.change(NameChange::Unlink {
            path: path.to_path_buf(),
        });
    }

    pub(super) fn rename(&mut self, from: &Path, to: &Path, node: Node) {
        self.change(NameChange::Rename {
            from: from.to_path_buf(),
            to: to.to_path_buf(),
            node,
        });
    }

    fn change(&mut self, change: NameChange) {
        change.clone().apply(&mut self.cached);
        self.pending.push(change);
    }

    pub(super) fn sync_dir(&mut self, dir: &Path) {
        let (now, later): (Vec<_>, Vec<_>) = std::mem::take(&mut self.pending)
            .into_iter()
            .partition(|c| c.touches(dir));
        self.pending = later;
        for change in now {
            change.apply(&mut self.medium);
        }
    }

    /// Bytes of every file that has a name.
    pub(super) fn used_bytes(&self) -> u64 {
        let named = self.cached.values().filter_map(|node| match node {
            Node::File(inode) => self.files.get(inode),
            Node::Dir => None,
        });
        named.map(|file| file.cached.len() as u64).sum()
    }

    pub(super) fn cut_power(&mut self, survivors: Survivors, dice: &mut Dice) {
        let mut pending = std::mem::take(&mut self.pending);
        match survivors {
            Survivors::Nothing => pending.clear(),
            Survivors::Some => pending.truncate(dice.below(pending.len() + 1)),
        }
        for change in pending {
            change.apply(&mut self.medium);
        }
        for file in self.files.values_mut() {
            file.cut_power(survivors, dice);
        }
        // An entry whose directory did not survive can't be reached.
        let dirs: BTreeSet<PathBuf> = self.dirs_on_medium();
        self.medium.retain(|path, _| dirs.contains(super::parent(path)));
        self.cached.clone_from(&self.medium);
        self.locks.clear();
    }

    fn dirs_on_medium(&self) -> BTreeSet<PathBuf> {
        let mut reachable = BTreeSet::from([PathBuf::from("/"), PathBuf::from(".")]);
        // Parents sort before their children.
        for (path, node) in &self.medium {
            if *node == Node::Dir && reachable.contains(super::parent(path)) {
                reachable.insert(path.clone());
            }
        }
        reachable
    }
}
