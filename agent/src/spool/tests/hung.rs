//! A disk that does not answer.

use std::io;
use std::sync::{OnceLock, Weak};

use edgelogger_common::disk::{Access, DiskFile, DiskLock};

use super::*;

/// Fails a test in which it is asked what is free while the state is locked: a network file system may take for ever.
#[derive(Debug)]
struct Watched {
    disk: FaultDisk,
    shared: Arc<OnceLock<WeakShared>>,
}

struct WeakShared(Weak<Shared>);

impl std::fmt::Debug for WeakShared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("WeakShared")
    }
}

impl Disk for Watched {
    fn available_bytes(&self, path: &Path) -> io::Result<u64> {
        let shared = self.shared.get().and_then(|shared| shared.0.upgrade());
        assert!(shared.is_none_or(|shared| !shared.state.is_locked()));
        self.disk.available_bytes(path)
    }

    fn create_new(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        self.disk.create_new(path)
    }

    fn open(&self, path: &Path, access: Access) -> io::Result<Box<dyn DiskFile>> {
        self.disk.open(path, access)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.disk.rename(from, to)
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        self.disk.remove_file(path)
    }

    fn list_files(&self, dir: &Path) -> io::Result<Vec<String>> {
        self.disk.list_files(dir)
    }

    fn create_dir_all(&self, dir: &Path) -> io::Result<()> {
        self.disk.create_dir_all(dir)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        self.disk.sync_dir(dir)
    }

    fn file_len(&self, path: &Path) -> io::Result<u64> {
        self.disk.file_len(path)
    }

    fn exists(&self, path: &Path) -> io::Result<bool> {
        self.disk.exists(path)
    }

    fn total_bytes(&self, path: &Path) -> io::Result<u64> {
        self.disk.total_bytes(path)
    }

    fn lock(&self, path: &Path) -> io::Result<DiskLock> {
        self.disk.lock(path)
    }
}

#[test]
fn acks_do_not_wait_for_a_disk_that_does_not_say_what_is_free() {
    let world = World::new();
    let shared = Arc::new(OnceLock::new());
    let mut process = world.start_on(Arc::new(Watched {
        disk: world.disk.clone(),
        shared: Arc::clone(&shared),
    }));
    shared.set(WeakShared(Arc::downgrade(&process.spool.0))).unwrap();
    process.measure(&world);
    world.advance(&mut process, Duration::from_secs(3));
    process.measure(&world);
    let (_, block) = process.collected.pop_front().unwrap();
    let held = process.hold(block, Duration::ZERO, world.policy);
    process.spool.put(held);
    assert!(process.thread.next_work().is_some());
}
