use super::*;
use rustix::io::Errno;

fn path(text: &str) -> &Path {
    Path::new(text)
}

fn write(disk: &dyn Disk, name: &str, bytes: &[u8], sync: bool) {
    let mut file = disk.create_new(path(name)).unwrap();
    file.append(&[IoSlice::new(bytes)]).unwrap();
    if sync {
        file.sync_data().unwrap();
    }
}

/// Both implementations keep the same contract.
fn check_contract(disk: &dyn Disk, root: &Path) {
    let dir = root.join("a/b");
    create_dir_all_durable(disk, &dir).unwrap();
    create_dir_all_durable(disk, &dir).unwrap();
    let one = dir.join("one");
    let mut file = disk.create_new(&one).unwrap();
    assert_eq!(
        disk.create_new(&one).unwrap_err().kind(),
        io::ErrorKind::AlreadyExists
    );
    file.append(&[
        IoSlice::new(b""),
        IoSlice::new(b"ab"),
        IoSlice::new(b""),
        IoSlice::new(b"cde"),
    ])
    .unwrap();
    file.append(&[]).unwrap();
    file.append(&[IoSlice::new(b"fg")]).unwrap();
    file.sync_data().unwrap();
    file.drop_cache().unwrap();
    assert_eq!(file.end(), 7);
    let mut buffer = [0; 4];
    assert_eq!(file.read_at(&mut buffer, 5).unwrap(), 2);
    assert_eq!(&buffer[..2], b"fg");
    assert_eq!(file.read_at(&mut buffer, 70).unwrap(), 0);
    file.set_len(3).unwrap();
    file.append(&[IoSlice::new(b"X")]).unwrap();
    assert_eq!(read_file(disk, &one, 4).unwrap(), b"abcX");
    assert_eq!(
        read_file(disk, &one, 3).unwrap_err().kind(),
        io::ErrorKind::FileTooLarge
    );
    assert_eq!(disk.file_len(&one).unwrap(), 4);

    let mut reader = disk.open(&one, Access::Read).unwrap();
    assert!(reader.append(&[IoSlice::new(b"no")]).is_err());
    assert!(reader.is_poisoned());

    atomic_replace(disk, &dir.join("two"), b"2").unwrap();
    atomic_replace(disk, &dir.join("two"), b"22").unwrap();
    disk.rename(&one, &dir.join("three")).unwrap();
    assert_eq!(disk.list_files(&dir).unwrap(), ["three", "two"]);
    assert_eq!(read_file(disk, &dir.join("two"), 10).unwrap(), b"22");
    disk.remove_file(&dir.join("two")).unwrap();
    assert_eq!(
        disk.remove_file(&dir.join("two")).unwrap_err().kind(),
        io::ErrorKind::NotFound
    );
    assert_eq!(
        disk.open(&dir.join("two"), Access::Read).unwrap_err().kind(),
        io::ErrorKind::NotFound
    );
    assert!(disk.exists(&dir).unwrap() && !disk.exists(&one).unwrap());
    assert!(disk.available_bytes(&dir).unwrap() > 0);

    let lock = disk.lock(&dir.join("lock")).unwrap();
    assert_eq!(
        disk.lock(&dir.join("lock")).unwrap_err().kind(),
        io::ErrorKind::WouldBlock
    );
    drop(lock);
    disk.lock(&dir.join("lock")).unwrap();
}

#[test]
fn the_real_disk_keeps_the_contract() {
    let dir = tempfile::tempdir().unwrap();
    check_contract(&OsDisk, dir.path());
}

#[test]
fn the_failing_disk_keeps_the_contract() {
    check_contract(&FaultDisk::new(1), path("/"));
}

#[test]
fn a_power_cut_drops_unsynced_bytes_and_unsynced_names() {
    let disk = FaultDisk::new(1);
    write(&disk, "/synced", b"kept", true);
    disk.sync_dir(path("/")).unwrap();
    let mut file = disk.open(path("/synced"), Access::ReadAppend).unwrap();
    file.append(&[IoSlice::new(b"lost")]).unwrap();
    write(&disk, "/no-dir-sync", b"lost", true);
    disk.cut_power(Survivors::Nothing);
    assert!(file.sync_data().is_err());
    disk.restart();
    assert_eq!(disk.list_files(path("/")).unwrap(), ["synced"]);
    assert_eq!(disk.contents(path("/synced")).unwrap(), b"kept");
    assert!(file.append(&[IoSlice::new(b"dead handle")]).is_err());
}

#[test]
fn a_rename_that_was_not_synced_is_undone_by_a_power_cut() {
    let disk = FaultDisk::new(1);
    write(&disk, "/a", b"1", true);
    disk.sync_dir(path("/")).unwrap();
    disk.rename(path("/a"), path("/b")).unwrap();
    disk.cut_power(Survivors::Nothing);
    disk.restart();
    assert_eq!(disk.list_files(path("/")).unwrap(), ["a"]);
}

#[test]
fn a_failed_sync_poisons_the_handle_and_a_later_sync_of_another_handle_saves_nothing() {
    for seed in 0..20 {
        let disk = FaultDisk::new(seed);
        let mut file = disk.create_new(path("/a")).unwrap();
        disk.sync_dir(path("/")).unwrap();
        file.append(&[IoSlice::new(&[7; 4096])]).unwrap();
        disk.install(Fault::once(Operation::Sync, 1, Effect::Error(Errno::IO)));
        assert_eq!(
            file.sync_data().unwrap_err().raw_os_error(),
            Some(Errno::IO.raw_os_error())
        );
        assert!(file.is_poisoned());
        assert!(file.append(&[IoSlice::new(b"more")]).is_err());
        let again = disk.open(path("/a"), Access::ReadAppend).unwrap();
        again.sync_data().unwrap();
        assert_eq!(
            disk.contents(path("/a")).unwrap(),
            [7; 4096],
            "the cache still shows everything"
        );
        again.drop_cache().unwrap();
        let on_medium = disk.contents(path("/a")).unwrap();
        disk.cut_power(Survivors::Some);
        disk.restart();
        assert_eq!(
            disk.contents(path("/a")).unwrap(),
            on_medium,
            "what recovery saw is what stays"
        );
    }
}

#[test]
fn a_full_disk_takes_what_fits_and_says_so() {
    let disk = FaultDisk::new(1);
    disk.set_capacity(5);
    let mut file = disk.create_new(path("/a")).unwrap();
    assert_eq!(
        file.append(&[IoSlice::new(b"123456789")]).unwrap_err().kind(),
        io::ErrorKind::StorageFull
    );
    assert_eq!(disk.contents(path("/a")).unwrap(), b"12345");
    assert_eq!(disk.available_bytes(path("/")).unwrap(), 0);
}

#[test]
fn faults_count_their_own_operations_once_or_for_ever() {
    let disk = FaultDisk::new(1);
    disk.install(Fault::once(Operation::Create, 2, Effect::Error(Errno::MFILE)));
    disk.install(Fault::from(Operation::Remove, 2, Effect::Error(Errno::ROFS)));
    write(&disk, "/a", b"", false);
    assert!(disk.create_new(path("/b")).is_err());
    write(&disk, "/b", b"", false);
    disk.remove_file(path("/a")).unwrap();
    for _ in 0..3 {
        let error = disk.remove_file(path("/b")).at("remove", path("/b")).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ReadOnlyFilesystem);
        assert!(error.to_string().contains("cannot remove /b"), "{error}");
        assert!(error.to_string().contains("mount it writable"), "{error}");
    }
}

#[test]
fn a_kill_keeps_the_page_cache_and_frees_the_lock() {
    let disk = FaultDisk::new(1);
    let _lock = disk.lock(path("/lock")).unwrap();
    write(&disk, "/a", b"not synced", false);
    disk.install(Fault::once(Operation::AnyChange, 1, Effect::Kill));
    assert!(disk.sync_dir(path("/")).is_err());
    assert!(disk.is_down());
    disk.restart();
    assert_eq!(disk.contents(path("/a")).unwrap(), b"not synced");
    disk.lock(path("/lock")).unwrap();
}

#[test]
fn the_same_seed_gives_the_same_disk() {
    let run = |seed| {
        let disk = FaultDisk::new(seed);
        write(&disk, "/a", &[9; 10_000], false);
        write(&disk, "/b", &[8; 10_000], false);
        disk.sync_dir(path("/")).unwrap();
        disk.cut_power(Survivors::Some);
        disk.restart();
        (disk.contents(path("/a")), disk.contents(path("/b")))
    };
    assert_eq!(run(5), run(5));
    assert!((0..20).any(|seed| run(seed) != run(5)));
}

#[test]
fn a_replacement_is_old_or_new_whatever_fails_whenever() {
    let effects = [
        Effect::Kill,
        Effect::PowerCut(Survivors::Nothing),
        Effect::PowerCut(Survivors::Some),
    ];
    let broken = [Effect::Error(Errno::IO), Effect::PartThenError(Errno::NOSPC)];
    for effect in effects.into_iter().chain(broken) {
        for nth in 1.. {
            for seed in 0..10 {
                let disk = FaultDisk::new(seed);
                atomic_replace(&disk, path("/f"), b"old").unwrap();
                disk.install(Fault::once(Operation::AnyChange, nth, effect));
                let done = atomic_replace(&disk, path("/f"), b"new").is_ok();
                disk.cut_power(Survivors::Some);
                disk.restart();
                let found = disk.contents(path("/f")).unwrap();
                assert!(
                    found == b"new" || (!done && found == b"old"),
                    "{effect:?} {nth} {seed}: {found:?}"
                );
                atomic_replace(&disk, path("/f"), b"newer").unwrap();
                assert_eq!(disk.contents(path("/f")).unwrap(), b"newer");
            }
            if nth > 8 {
                break;
            }
        }
    }
}

#[test]
fn a_directory_made_durably_outlives_a_power_cut() {
    let disk = FaultDisk::new(1);
    create_dir_all_durable(&disk, path("/var/lib/log")).unwrap();
    disk.create_dir_all(path("/tmp/x")).unwrap();
    disk.cut_power(Survivors::Nothing);
    disk.restart();
    assert!(disk.exists(path("/var/lib/log")).unwrap());
    assert!(!disk.exists(path("/tmp")).unwrap());
}
