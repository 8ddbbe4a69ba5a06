//! Rows 13 to 18: what happens to files, to many of them in one world; half of them while the agent is stopped.

use std::fs;
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use rand::Rng;

use crate::soak::row::{Outcome, Row, Stop, Turn, skip};
use crate::soak::world::World;
use crate::written::append;

/// How long a running agent may take to open a file that was written.
const OPEN_PATIENCE: Duration = Duration::from_secs(30);

/// Row 13.
pub const RENAMED: Row = Row {
    number: 13,
    fault: "rotation by rename, several in a second, agent running or stopped",
    quick: 50,
    test: 6,
    turn: 50,
    worlds: 1,
    run: |turn| each_file(turn, Waits::No, write_some, renamed),
};

/// Row 14.
pub const COPIED: Row = Row {
    number: 14,
    fault: "copytruncate, also regrown past the old offset",
    quick: 50,
    test: 6,
    turn: 50,
    worlds: 1,
    run: |turn| each_file(turn, Waits::No, write_some, copied),
};

/// Row 15.
pub const RECREATED: Row = Row {
    number: 15,
    fault: "delete and recreate, inode reuse",
    quick: 50,
    test: 6,
    turn: 50,
    worlds: 1,
    run: |turn| each_file(turn, Waits::WhenStopped, write_some, recreated),
};

/// Row 16.
pub const LINKED: Row = Row {
    number: 16,
    fault: "symlink switch, double symlink, hard link",
    quick: 20,
    test: 6,
    turn: 20,
    worlds: 1,
    run: |turn| each_file(turn, Waits::No, link, switched),
};

/// Row 17.
pub const COMPRESSED: Row = Row {
    number: 17,
    fault: "rotated and compressed to .gz; caught up after downtime",
    quick: 20,
    test: 4,
    turn: 20,
    worlds: 1,
    run: |turn| each_file(turn, Waits::No, write_some, compressed),
};

/// Row 18.
pub const ALIKE: Row = Row {
    number: 18,
    fault: "files with an identical first KiB; empty and one-byte files",
    quick: 20,
    test: 2,
    turn: 10,
    worlds: 1,
    run: alike,
};

/// Lines of the beginning that many files have in common: well over a KiB.
const HEAD_LINES: u64 = 20;

/// Must a file be read and acked before its fault, or may that take away what was not read yet?
#[derive(Clone, Copy, PartialEq, Eq)]
enum Waits {
    No,
    WhenStopped,
}

/// What a fault is told of its file.
struct Place {
    name: String,
    path: PathBuf,
    agent_runs: bool,
    /// Which of the ways of this fault.
    kind: usize,
}

/// A fault to each of many files, that all are followed: to every other one while the agent runs, then to the rest
/// while it is stopped. Each is written before its fault and after it.
fn each_file(
    turn: &mut Turn,
    waits: Waits,
    prepare: fn(&mut World, &Place) -> Outcome,
    fault: fn(&mut World, &mut Turn, &Place) -> Outcome,
) -> Outcome {
    let mut world = World::new(turn.seed);
    let mut places = Vec::new();
    for index in 0..turn.runs as usize {
        let name = format!("f{index}.log");
        places.push(Place {
            path: world.stack.log_file(&name),
            agent_runs: index % 2 == 0,
            kind: index / 2,
            name,
        });
    }
    world.stack.start();
    for place in &places {
        prepare(&mut world, place)?;
    }
    world.drained()?;
    for place in places.iter().filter(|place| place.agent_runs) {
        write_some(&mut world, place)?;
        fault(&mut world, turn, place)?;
        turn.done += 1;
    }
    if waits == Waits::WhenStopped {
        for place in places.iter().filter(|place| !place.agent_runs) {
            write_some(&mut world, place)?;
        }
        world.drained()?;
    }
    // A stop in order, or not.
    if world.random.random() {
        world.stack.stop_agent();
    } else {
        world.stack.kill_agent();
    }
    for place in places.iter().filter(|place| !place.agent_runs) {
        if waits == Waits::No {
            write_some(&mut world, place)?;
        }
        fault(&mut world, turn, place)?;
        turn.done += 1;
    }
    world.stack.start_agent();
    for place in &places {
        write_some(&mut world, place)?;
    }
    world.settle(turn)
}

fn write_some(world: &mut World, place: &Place) -> Outcome {
    let count = world.random.random_range(1..200);
    world.written.append(&place.path, &place.name, count);
    Ok(())
}

/// The path with something behind it.
fn beside(place: &Place, suffix: &str) -> PathBuf {
    place.path.with_file_name(format!("{}{suffix}", place.name))
}

/// `app.log.1` becomes `app.log.2` and so on, so that `.1` is free.
fn shift(place: &Place, ending: &str) -> Result<PathBuf, Stop> {
    for number in (1..20).rev() {
        let from = beside(place, &format!(".{number}{ending}"));
        if from.exists() {
            fs::rename(from, beside(place, &format!(".{}{ending}", number + 1)))?;
        }
    }
    Ok(beside(place, &format!(".1{ending}")))
}

/// Within a second, so that more than one may fall between two looks of the agent.
fn soon(world: &mut World) {
    world.sleep_below(Duration::from_millis(200));
}

fn renamed(world: &mut World, _: &mut Turn, place: &Place) -> Outcome {
    for round in 0..world.random.random_range(1..5) {
        write_some(world, place)?;
        let to = match place.kind % 2 {
            0 => shift(place, "")?,
            _ => beside(place, &format!("-2026-11-21.{round}")),
        };
        fs::rename(&place.path, to)?;
        // Some programs write on for a while to the file that they have open.
        write_some(world, place)?;
        soon(world);
    }
    Ok(())
}

fn copied(world: &mut World, _: &mut Turn, place: &Place) -> Outcome {
    for _ in 0..world.random.random_range(1..4) {
        write_some(world, place)?;
        let before = fs::metadata(&place.path)?.len();
        fs::copy(&place.path, shift(place, "")?)?;
        fs::File::create(&place.path)?;
        write_some(world, place)?;
        while place.kind.is_multiple_of(2) && fs::metadata(&place.path)?.len() <= before {
            write_some(world, place)?;
        }
        soon(world);
    }
    Ok(())
}

/// Waits until a running agent has the file open. Of what comes and goes before that, nobody can know.
fn until_open(world: &World, path: &Path) -> Outcome {
    let Some(agent) = &world.stack.agent else {
        return Ok(());
    };
    let wanted = fs::metadata(path)?;
    let is_open = || {
        let descriptors = fs::read_dir(format!("/proc/{}/fd", agent.id())).ok()?;
        descriptors.flatten().find_map(|descriptor| {
            let found = fs::metadata(descriptor.path()).ok()?;
            (found.dev() == wanted.dev() && found.ino() == wanted.ino()).then_some(())
        })
    };
    let deadline = Instant::now() + OPEN_PATIENCE;
    while is_open().is_none() {
        if Instant::now() > deadline {
            return Err(Stop::Failed(format!(
                "the agent does not open {}",
                path.display()
            )));
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    Ok(())
}

fn recreated(world: &mut World, turn: &mut Turn, place: &Place) -> Outcome {
    for _ in 0..if place.agent_runs { 3 } else { 1 } {
        until_open(world, &place.path)?;
        let before = fs::metadata(&place.path)?.ino();
        fs::remove_file(&place.path)?;
        if !place.agent_runs && uses_inode_again(place, before)? {
            turn.note("inodes were used again");
        }
        write_some(world, place)?;
        soon(world);
    }
    Ok(())
}

/// Makes an empty file until it has this inode; others on the file system take some, too.
fn uses_inode_again(place: &Place, inode: u64) -> Result<bool, Stop> {
    const ATTEMPTS: u32 = 20;
    for _ in 0..ATTEMPTS {
        fs::File::create(&place.path)?;
        if fs::metadata(&place.path)?.ino() == inode {
            return Ok(true);
        }
        fs::remove_file(&place.path)?;
    }
    Ok(false)
}

fn compressed(world: &mut World, _: &mut Turn, place: &Place) -> Outcome {
    let to = shift(place, ".gz")?.with_extension("");
    fs::rename(&place.path, &to)?;
    write_some(world, place)?;
    let gzip = Command::new("gzip").arg("-f").arg(&to).status();
    match gzip {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(Stop::Failed(format!("gzip: {status}"))),
        Err(error) => skip(format!("gzip: {error}")),
    }
}

/// A folder that no glob of the agent includes.
fn real_dir(world: &World) -> Result<PathBuf, Stop> {
    let dir = world.stack.dir().join("real");
    fs::create_dir_all(&dir)?;
    Ok(dir)
}

/// A file by a symlink, by a symlink to a symlink, or by two names.
fn link(world: &mut World, place: &Place) -> Outcome {
    let dir = real_dir(world)?;
    let real = dir.join(format!("{}-0", place.name));
    fs::write(&real, "")?;
    match place.kind % 3 {
        0 => symlink(&real, &place.path)?,
        1 => {
            let between = dir.join(format!("{}-link", place.name));
            symlink(&real, &between)?;
            symlink(&between, &place.path)?;
        }
        _ => {
            fs::hard_link(&real, &place.path)?;
            fs::hard_link(&real, place.path.with_extension("alias.log"))?;
        }
    }
    write_some(world, place)
}

/// The symlink points to a new file at once; of two names one goes.
fn switched(world: &mut World, _: &mut Turn, place: &Place) -> Outcome {
    if place.kind % 3 == 2 {
        soon(world);
        fs::remove_file(place.path.with_extension("alias.log"))?;
        return write_some(world, place);
    }
    let dir = real_dir(world)?;
    for round in 1..world.random.random_range(2..4) {
        let real = dir.join(format!("{}-{round}", place.name));
        fs::write(&real, "")?;
        let (aside, link) = match place.kind % 3 {
            0 => (dir.join("aside"), place.path.clone()),
            _ => (dir.join("aside"), dir.join(format!("{}-link", place.name))),
        };
        symlink(&real, &aside)?;
        fs::rename(&aside, &link)?;
        write_some(world, place)?;
        if place.agent_runs {
            // The old file has no other name that is looked at; give the agent a moment to look at the new one.
            world.drained()?;
        } else {
            break;
        }
    }
    Ok(())
}

/// Each run: many files that begin alike, empty ones that grow, and ones of a single byte that grow.
fn alike(turn: &mut Turn) -> Outcome {
    const FILES: u64 = 30;
    let mut world = World::started(turn.seed);
    while turn.done < turn.runs {
        let run = turn.done;
        let head = world
            .written
            .next_copied_lines(&format!("head{run}"), HEAD_LINES, FILES);
        let names: Vec<String> = (0..FILES).map(|file| format!("r{run}f{file}.log")).collect();
        for (index, name) in names.iter().enumerate() {
            let text = match index % 3 {
                0 => head.as_str(),
                1 => "",
                _ => &head[..1],
            };
            fs::write(world.stack.log_file(name), text)?;
        }
        soon(&mut world);
        let restart = world.random.random_ratio(1, 3);
        if restart {
            world.stack.kill_agent();
        }
        for (index, name) in names.iter().enumerate() {
            let path = world.stack.log_file(name);
            match index % 3 {
                0 => {}
                1 => append(&path, head.as_bytes()),
                _ => append(&path, &head.as_bytes()[1..]),
            }
            if index % 4 != 0 {
                world.append(name, 1 + index as u64);
            }
        }
        if restart {
            world.stack.start_agent();
        }
        turn.done += 1;
    }
    world.settle(turn)
}
