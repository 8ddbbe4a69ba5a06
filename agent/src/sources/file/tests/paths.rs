//! What paths name: links, pipes, directories, files that are no logs.

use std::os::unix::fs::symlink;

use rustix::fs::{CWD, FileType, Mode, mknodat};

use super::*;

#[test]
fn one_file_under_several_names_is_one_stream() {
    let mut world = World::new();
    world.write("a.log", "one\n");
    fs::hard_link(world.path("a.log"), world.path("b.log")).unwrap();
    symlink(world.path("a.log"), world.path("c.log")).unwrap();
    symlink(world.path("c.log"), world.path("d.log")).unwrap();
    world.start();
    world.append("b.log", "two\n");
    world.settle();
    assert_eq!(world.lines(), [lines(&["one", "two"])]);
    world.remove("a.log");
    world.append("b.log", "three\n");
    world.settle();
    assert_eq!(world.lines(), [lines(&["one", "two", "three"])]);
}

#[test]
fn a_link_is_followed_to_a_file_elsewhere_and_its_changes_are_noticed_there() {
    let mut world = World::new();
    let elsewhere = tempfile::tempdir().unwrap();
    let target = elsewhere.path().join("real");
    fs::write(&target, "one\n").unwrap();
    symlink(&target, world.path("a.log")).unwrap();
    world.start();
    OpenOptions::new()
        .append(true)
        .open(&target)
        .unwrap()
        .write_all(b"two\n")
        .unwrap();
    world.settle();
    assert_eq!(world.lines(), [lines(&["one", "two"])]);
}

#[test]
fn a_link_that_is_switched_leads_to_a_new_stream_and_the_old_file_is_read_to_its_end() {
    let mut world = World::new();
    let elsewhere = tempfile::tempdir().unwrap();
    let target = |name: &str| elsewhere.path().join(name);
    fs::write(target("1"), "one\n").unwrap();
    symlink(target("1"), world.path("a.log")).unwrap();
    world.start();
    fs::write(target("2"), "two\n").unwrap();
    OpenOptions::new()
        .append(true)
        .open(target("1"))
        .unwrap()
        .write_all(b"last of one\n")
        .unwrap();
    symlink(target("2"), world.path("new")).unwrap();
    world.rename("new", "a.log");
    world.settle();
    assert_eq!(world.lines(), [lines(&["one", "last of one"]), lines(&["two"])]);
    OpenOptions::new()
        .append(true)
        .open(target("2"))
        .unwrap()
        .write_all(b"more\n")
        .unwrap();
    world.settle();
    assert_eq!(world.stream(1).lines(), ["two", "more"]);
}

#[test]
fn what_is_no_regular_file_is_named_and_never_opened() {
    let mut world = World::new();
    let mode = Mode::from_raw_mode(0o600);
    mknodat(CWD, world.path("pipe.log"), FileType::Fifo, mode, 0).unwrap();
    let _socket = std::os::unix::net::UnixListener::bind(world.path("socket.log")).unwrap();
    fs::create_dir(world.path("dir.log")).unwrap();
    symlink("/dev/zero", world.path("device.log")).unwrap();
    symlink("nowhere", world.path("dangling.log")).unwrap();
    world.write("a.log", "one\n");
    world.start();
    assert_eq!(world.lines(), [lines(&["one"])]);
    assert_eq!(
        world.skip_reason("pipe.log"),
        Some(SkipReason::NotRegular(FileKind::Fifo))
    );
    assert_eq!(
        world.skip_reason("socket.log"),
        Some(SkipReason::NotRegular(FileKind::Socket))
    );
    assert_eq!(
        world.skip_reason("dir.log"),
        Some(SkipReason::NotRegular(FileKind::Directory))
    );
    assert_eq!(
        world.skip_reason("device.log"),
        Some(SkipReason::NotRegular(FileKind::Device))
    );
    assert_eq!(world.skip_reason("dangling.log"), Some(SkipReason::Dangling));
    assert_eq!(world.skip_reason("a.log"), None);
}

/// As root every file can be opened; a link that leads to itself can't be by anybody.
#[test]
fn a_path_that_can_not_be_looked_at_is_reported_and_tried_again() {
    let mut world = World::new();
    symlink(world.path("loop.log"), world.path("loop.log")).unwrap();
    world.write("a.log", "one\n");
    world.start();
    assert_eq!(world.lines(), [lines(&["one"])]);
    let Some(SkipReason::Unreadable(message)) = world.skip_reason("loop.log") else {
        panic!("{:?}", world.skip_reason("loop.log"));
    };
    assert!(
        message.starts_with("E0601") && message.contains("loop.log"),
        "{message}"
    );
    world.remove("loop.log");
    world.write("loop.log", "now\n");
    world.settle();
    assert_eq!(world.lines(), [lines(&["one"]), lines(&["now"])]);
    assert_eq!(world.skip_reason("loop.log"), None);
}

/// `sysfs` has files that nobody may read, root included. Where there is none, nothing is shown here.
#[test]
fn a_file_that_can_not_be_opened_is_reported_and_holds_up_no_other() {
    let forbidden = std::path::Path::new("/sys/bus/cpu/uevent");
    if File::open(forbidden).map_err(|error| error.kind()).err() != Some(std::io::ErrorKind::PermissionDenied)
    {
        println!("skipped: {} can be read, or is not there", forbidden.display());
        return;
    }
    let mut world = World::new();
    symlink(forbidden, world.path("a.log")).unwrap();
    world.write("b.log", "one\n");
    world.start();
    assert_eq!(world.lines(), [lines(&["one"])]);
    let error = world.status().files()[0].error.clone().unwrap();
    assert!(error.starts_with("E0601") && error.contains("a.log"), "{error}");
    world.pass(Duration::from_secs(10));
    world.remove("a.log");
    world.write("a.log", "now\n");
    world.settle();
    assert_eq!(world.lines(), [lines(&["one"]), lines(&["now"])]);
}

/// Each byte that is no text becomes three: the name of a stream must stay what a collector takes.
#[test]
fn the_name_of_a_deep_path_that_is_no_text_is_shortened() {
    use std::os::unix::ffi::OsStrExt;

    let mut world = World::new();
    let mut dir = world.dir.path().to_owned();
    for _ in 0..14 {
        dir.push(std::ffi::OsStr::from_bytes(&[0xff; 240]));
    }
    fs::create_dir_all(&dir).unwrap();
    world.config.include = vec![format!("{}/**/*.log", world.dir.path().display())];
    fs::write(dir.join("deep.log"), "one\n").unwrap();
    world.start();
    assert_eq!(world.lines(), [lines(&["one"])]);
    let descriptor = &world.stream(0).descriptor;
    assert!(descriptor.name.len() <= 4096, "{}", descriptor.name.len());
    assert_eq!(
        descriptor.file.as_ref().unwrap().path,
        dir.join("deep.log").as_os_str().as_bytes()
    );
}

#[test]
fn binary_and_compressed_files_are_left_alone() {
    let mut world = World::new();
    world.write("a.log", b"\xfd7zXZ\0 compressed");
    world.write("b.log", b"\x7fELF\0\0 binary");
    world.write("c.log", format!("{}\na\0b\n", "x".repeat(2000)));
    world.start();
    assert_eq!(world.skip_reason("a.log"), Some(SkipReason::Compressed("xz")));
    assert_eq!(world.skip_reason("b.log"), Some(SkipReason::Binary));
    assert_eq!(world.stream(0).lines()[1], "a\0b");
    world.append("b.log", "more");
    world.pass(Duration::from_secs(30));
    assert_eq!(world.streams.len(), 1);
    world.write("b.log", "text\n");
    world.pass(Duration::from_secs(10));
    assert_eq!(world.stream(1).lines(), ["text"]);
}

#[test]
fn the_agents_own_files_are_never_read() {
    let mut world = World::new();
    world
        .config
        .include
        .push(format!("{}/**", world.state.path().display()));
    fs::write(world.state.path().join("agent.log"), "mine\n").unwrap();
    world.start();
    assert!(world.streams.is_empty());
    let own = world.state.path().join("agent.log");
    assert!(
        world
            .status()
            .skipped(usize::MAX)
            .contains(&(own, SkipReason::Own))
    );
}

#[test]
fn excluded_files_and_directories_that_appear_later_are_understood() {
    let mut world = World::with(|config| {
        config.exclude = vec!["noise*".to_owned()];
    });
    world.config.include = vec![format!("{}/**/*.log", world.dir.path().display())];
    world.start();
    fs::create_dir_all(world.path("pods/one")).unwrap();
    world.write("pods/one/a.log", "one\n");
    world.write("pods/one/noise.log", "no\n");
    world.settle();
    world.append("pods/one/a.log", "two\n");
    world.settle();
    assert_eq!(world.lines(), [lines(&["one", "two"])]);
}

#[test]
fn more_files_than_allowed_are_reported() {
    let mut world = World::with(|config| config.files_max = 2);
    for name in ["a.log", "b.log", "c.log"] {
        world.write(name, "x\n");
    }
    world.start();
    assert_eq!(world.streams.len(), 2);
    assert_eq!(world.skip_reason("c.log"), Some(SkipReason::TooMany));
    world.remove("a.log");
    world.settle();
    world.pass(Duration::from_secs(6));
    world.pass(Duration::from_secs(10));
    assert_eq!(
        world.streams.len(),
        3,
        "the deleted one is let go of when it is quiet"
    );
}

#[test]
fn files_with_the_same_first_kib_are_different_streams() {
    let mut world = World::new();
    let banner = format!("{}\n", "=".repeat(1500));
    world.write("a.log", format!("{banner}a\n"));
    world.write("b.log", format!("{banner}b\n"));
    world.start();
    assert_eq!(world.streams.len(), 2);
    assert_eq!(
        (&world.stream(0).lines()[1], &world.stream(1).lines()[1]),
        (&"a".to_owned(), &"b".to_owned())
    );
}

#[test]
fn a_directory_that_is_replaced_is_watched_again() {
    let mut world = World::new();
    world.config.include = vec![format!("{}/d/*.log", world.dir.path().display())];
    fs::create_dir(world.path("d")).unwrap();
    world.start();
    world.rename("d", "old");
    fs::create_dir(world.path("d")).unwrap();
    world.settle();
    world.pass(Duration::from_secs(10));
    world.write("d/a.log", "one\n");
    world.settle();
    assert_eq!(world.lines(), [lines(&["one"])]);
}
