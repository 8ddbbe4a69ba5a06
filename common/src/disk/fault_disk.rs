//! The failing disk as programs use it: names, handles, locks.

use super::fault::{Effect, FaultDisk, Operation, World, down};
use super::fault_world::{Inode, Node};
use super::{Access, Disk, DiskFile, DiskLock, LockGuard, Poison};
use rustix::io::Errno;
use std::io::{self, IoSlice};
use std::path::{Path, PathBuf};

impl Disk for FaultDisk {
    fn create_new(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        let mut world = self.0.lock();
        let inode = world.change(Operation::Create, |world| {
            world.check_parent(path)?;
            if world.tree.cached.contains_key(path) {
                return Err(Errno::EXIST.into());
            }
            Ok(Some(world.tree.create_file(path)))
        })?;
        // A lie leaves a handle to a file that has no name.
        let inode = inode.unwrap_or(Inode::MAX);
        Ok(self.handle(&world, path, inode, 0, Access::ReadAppend))
    }

    fn open(&self, path: &Path, access: Access) -> io::Result<Box<dyn DiskFile>> {
        let mut world = self.0.lock();
        world.change(Operation::Open, |_| Ok(()))?;
        let inode = world.tree.file(path).ok_or(Errno::NOENT)?;
        let end = world
            .tree
            .files
            .get(&inode)
            .map_or(0, |file| file.cached.len() as u64);
        Ok(self.handle(&world, path, inode, end, access))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.0.lock().change(Operation::Rename, |world| {
            let node = world.existing(from)?;
            world.check_parent(to)?;
            world.tree.rename(from, to, node);
            Ok(())
        })
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        self.0
            .lock()
            .change(Operation::Remove, |world| match world.existing(path)? {
                Node::Dir => Err(Errno::ISDIR.into()),
                Node::File(_) => {
                    world.tree.remove(path);
                    Ok(())
                }
            })
    }

    fn list_files(&self, dir: &Path) -> io::Result<Vec<String>> {
        let mut world = self.0.lock();
        world.change(Operation::List, |_| Ok(()))?;
        if !world.tree.is_dir(dir) {
            return Err(Errno::NOENT.into());
        }
        let within = world
            .tree
            .cached
            .iter()
            .filter(|(path, node)| matches!(node, Node::File(_)) && super::parent(path) == dir);
        Ok(within
            .filter_map(|(path, _)| Some(path.file_name()?.to_str()?.to_owned()))
            .collect())
    }

    fn create_dir_all(&self, dir: &Path) -> io::Result<()> {
        self.0.lock().change(Operation::CreateDir, |world| {
            let mut above: Vec<&Path> = dir.ancestors().filter(|at| !at.as_os_str().is_empty()).collect();
            above.reverse();
            for at in above {
                if !world.tree.is_dir(at) {
                    world.tree.create_dir(at);
                }
            }
            Ok(())
        })
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        self.0.lock().change(Operation::SyncDir, |world| {
            if !world.tree.is_dir(dir) {
                return Err(Errno::NOENT.into());
            }
            world.tree.sync_dir(dir);
            Ok(())
        })
    }

    fn file_len(&self, path: &Path) -> io::Result<u64> {
        self.contents(path)
            .map(|bytes| bytes.len() as u64)
            .ok_or_else(|| Errno::NOENT.into())
    }

    fn exists(&self, path: &Path) -> io::Result<bool> {
        let world = self.0.lock();
        Ok(world.tree.is_dir(path) || world.tree.cached.contains_key(path))
    }

    fn available_bytes(&self, _path: &Path) -> io::Result<u64> {
        let world = self.0.lock();
        Ok(world.capacity_bytes.saturating_sub(world.tree.used_bytes()))
    }

    fn total_bytes(&self, _path: &Path) -> io::Result<u64> {
        Ok(self.0.lock().capacity_bytes)
    }

    fn lock(&self, path: &Path) -> io::Result<DiskLock> {
        let mut world = self.0.lock();
        if world.down {
            return Err(down());
        }
        if !world.tree.locks.insert(path.to_path_buf()) {
            return Err(Errno::WOULDBLOCK.into());
        }
        Ok(DiskLock::new(FaultLock {
            disk: self.clone(),
            path: path.to_path_buf(),
            life: world.life,
        }))
    }
}

impl FaultDisk {
    fn handle(
        &self,
        world: &World,
        path: &Path,
        inode: Inode,
        end: u64,
        access: Access,
    ) -> Box<dyn DiskFile> {
        Box::new(FaultFile {
            disk: self.clone(),
            path: path.to_path_buf(),
            inode,
            end,
            life: world.life,
            writable: access == Access::ReadAppend,
            poison: Poison::default(),
        })
    }
}

#[derive(Debug)]
struct FaultLock {
    disk: FaultDisk,
    path: PathBuf,
    life: u64,
}

impl LockGuard for FaultLock {}

impl Drop for FaultLock {
    fn drop(&mut self) {
        let mut world = self.disk.0.lock();
        if world.life == self.life {
            world.tree.locks.remove(&self.path);
        }
    }
}

#[derive(Debug)]
#[expect(dead_code, reason = "the path is there for Debug")]
struct FaultFile {
    disk: FaultDisk,
    path: PathBuf,
    inode: Inode,
    end: u64,
    life: u64,
    writable: bool,
    poison: Poison,
}

impl FaultFile {
    fn world(&self) -> io::Result<parking_lot::MutexGuard<'_, World>> {
        let world = self.disk.0.lock();
        if world.life == self.life && !world.down {
            Ok(world)
        } else {
            Err(down())
        }
    }

    fn writable_world(&self) -> io::Result<parking_lot::MutexGuard<'_, World>> {
        if self.writable {
            self.world()
        } else {
            Err(Errno::BADF.into())
        }
    }

    fn append_now(&self, bytes: &[u8]) -> io::Result<()> {
        let mut world = self.writable_world()?;
        let part = world.dice.below(bytes.len() + 1);
        let effect = world.due(Operation::Write)?;
        let (take, outcome) = match effect {
            None | Some(Effect::Slow(_)) => (bytes.len(), Ok(())),
            Some(Effect::Lie) => return Ok(()),
            Some(Effect::Error(errno)) => return Err(errno.into()),
            Some(Effect::PartThenError(errno)) => (part, Err(errno.into())),
            Some(Effect::Kill | Effect::PowerCut(_)) => (part, Err(down())),
        };
        if let Some(Effect::Slow(time)) = effect {
            std::thread::sleep(time);
        }
        let room = world.room(take);
        let offset = usize::try_from(self.end).map_err(|_| Errno::FBIG)?;
        if let Some(file) = world.tree.files.get_mut(&self.inode) {
            file.write(offset, &bytes[..room]);
        }
        match effect {
            Some(Effect::PowerCut(survivors)) => world.cut_power(survivors),
            Some(Effect::Kill) => world.down = true,
            _ => {}
        }
        if room < take {
            Err(Errno::NOSPC.into())
        } else {
            outcome
        }
    }

    fn sync_now(&self) -> io::Result<()> {
        let mut guard = self.writable_world()?;
        let world = &mut *guard;
        let result = world.change(Operation::Sync, |world| {
            if let Some(file) = world.tree.files.get_mut(&self.inode) {
                file.sync();
            }
            Ok(())
        });
        if result.is_err()
            && !world.down
            && let Some(file) = world.tree.files.get_mut(&self.inode)
        {
            file.fail_sync(&mut world.dice);
        }
        result
    }
}

impl DiskFile for FaultFile {
    fn end(&self) -> u64 {
        self.end
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let mut world = self.world()?;
        world.change(Operation::Read, |_| Ok(()))?;
        let Some(file) = world.tree.files.get(&self.inode) else {
            return Ok(0);
        };
        let from = usize::try_from(offset)
            .unwrap_or(usize::MAX)
            .min(file.cached.len());
        let taken = buffer.len().min(file.cached.len() - from);
        buffer[..taken].copy_from_slice(&file.cached[from..from + taken]);
        Ok(taken)
    }

    fn append(&mut self, parts: &[IoSlice<'_>]) -> io::Result<()> {
        let bytes: Vec<u8> = parts.iter().flat_map(|part| part.iter().copied()).collect();
        self.poison.guard(|| self.append_now(&bytes))?;
        self.end += bytes.len() as u64;
        Ok(())
    }

    fn set_len(&mut self, len: u64) -> io::Result<()> {
        self.poison.guard(|| {
            self.writable_world()?.change(Operation::SetLen, |world| {
                let len = usize::try_from(len).map_err(|_| Errno::FBIG)?;
                if let Some(file) = world.tree.files.get_mut(&self.inode) {
                    file.set_len(len);
                }
                Ok(())
            })
        })?;
        self.end = len;
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        self.poison.guard(|| self.sync_now())
    }

    fn drop_cache(&self) -> io::Result<()> {
        if let Some(file) = self.world()?.tree.files.get_mut(&self.inode) {
            file.drop_cache();
        }
        Ok(())
    }

    fn is_poisoned(&self) -> bool {
        self.poison.is_set()
    }
}
