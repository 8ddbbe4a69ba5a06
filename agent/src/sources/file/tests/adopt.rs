//! The state directory is emptied; the collector still has what was sent.

use edgelogger_proto::v1::{RangeCheck, StoredStream};

use super::*;
use crate::adoption::{Adoption, WAIT_MAX};
use crate::checkpoint::MachineMark;

impl World {
    /// The state is lost; what the collector is asked is answered later.
    fn wipe(&mut self) -> Adoption {
        self.source = None;
        self.checkpoints = None;
        self.state = tempfile::tempdir().unwrap();
        let adoption = Adoption::of(MachineMark::of("this one").unwrap());
        self.prepare();
        self.source.as_mut().unwrap().adopt_with(adoption.clone());
        adoption
    }

    /// What a collector says that has the stream up to here, when this was read of it.
    fn stored(&self, index: usize, content: &str, upto: usize) -> StoredStream {
        let checks = content.as_bytes()[..upto]
            .chunks(1000)
            .enumerate()
            .map(|(index, part)| {
                let start = index as u64 * 1000;
                RangeCheck {
                    start,
                    end: start + part.len() as u64,
                    crc32c: crc32c::crc32c(part),
                }
            });
        let descriptor = &self.stream(index).descriptor;
        StoredStream {
            stream_id: descriptor.stream_id.clone(),
            name: descriptor.name.clone(),
            start: 0,
            stored_upto: upto as u64,
            checks: checks.collect(),
            opened_time_ns: descriptor.opened_time_ns,
        }
    }
}

fn text(from: usize, upto: usize) -> String {
    (from..upto)
        .map(|line| format!("this is line {line}\n"))
        .collect()
}

fn count(world: &World) -> Vec<usize> {
    world.lines().iter().map(Vec::len).collect()
}

#[test]
fn streams_go_on_where_the_collector_has_them() {
    let mut world = World::new();
    world.write("a.log", text(0, 1000));
    world.start();
    let adoption = world.wipe();
    world.append("a.log", text(1000, 1100));
    world.settle();
    assert_eq!(count(&world), [1000], "nothing is read before there is an answer");
    let waits = |world: &World| world.status().totals().adoption;
    assert!(
        matches!(waits(&world), Some(AdoptionWait::Answer(_))),
        "and that is shown"
    );
    let stored = world.stored(0, &text(0, 1000), text(0, 1000).len());
    adoption.answered(vec![stored]);
    world.settle();
    assert_eq!(count(&world), [1100]);
    assert_eq!(waits(&world), None);
    // From now on it is a stream like others.
    world.stop();
    world.append("a.log", text(1100, 1200));
    world.start();
    assert_eq!(count(&world), [1200]);
}

#[test]
fn a_stream_goes_on_in_the_file_that_was_rotated_meanwhile_and_what_came_between_is_read() {
    let mut world = World::new();
    world.write("a.log", text(0, 1000));
    world.start();
    let adoption = world.wipe();
    world.append("a.log", text(1000, 1100));
    world.rename("a.log", "a.log.2");
    world.write_younger("a.log.1", &text(1100, 1200), world.birth_ns("a.log.2"));
    world.write("a.log", text(1200, 1300));
    adoption.answered(vec![world.stored(0, &text(0, 1000), text(0, 1000).len())]);
    world.settle();
    let mut counts = count(&world);
    assert_eq!(counts.remove(0), 1100);
    counts.sort_unstable();
    assert_eq!(counts, [100, 100]);
}

#[test]
fn a_file_that_holds_something_else_is_a_new_stream() {
    let mut world = World::new();
    let content = text(0, 1000);
    world.write("a.log", &content);
    world.write("b.log", &content);
    world.write("c.log", &content);
    world.start();
    let upto = content.len();
    let stored: Vec<StoredStream> = (0..3).map(|index| world.stored(index, &content, upto)).collect();
    let adoption = world.wipe();
    // One byte in the middle; another file; a file that ends before.
    world.write("a.log", content.replace("line 500\n", "LINE 500\n"));
    world.write("b.log", text(5000, 6000));
    world.write("c.log", &content[..upto - 100]);
    adoption.answered(stored);
    world.settle();
    assert_eq!(world.streams.len(), 6);
    assert_eq!(&count(&world)[..3], [1000, 1000, 1000]);
}

#[test]
fn files_that_are_alike_are_given_to_their_own_streams() {
    let mut world = World::new();
    let same = text(0, 500);
    let content = |file: usize| format!("{same}{}", text(file * 100, file * 100 + 10));
    for file in 0..20 {
        world.write(&format!("{file}.log"), content(file));
    }
    world.start();
    let stored: Vec<StoredStream> = (0..20)
        .map(|index| {
            let name = PathBuf::from(&world.stream(index).descriptor.name);
            let content = fs::read_to_string(&name).unwrap();
            world.stored(index, &content, content.len())
        })
        .collect();
    let adoption = world.wipe();
    for file in 0..20 {
        world.append(&format!("{file}.log"), "more\n");
    }
    adoption.answered(stored);
    world.settle();
    assert_eq!(count(&world), vec![511; 20]);
}

#[test]
fn what_is_stored_only_in_part_is_sent_from_there() {
    let mut world = World::new();
    let content = text(0, 1000);
    world.write("a.log", &content);
    world.start();
    let upto = text(0, 400).len();
    let stored = world.stored(0, &content, upto);
    let adoption = world.wipe();
    // The collector has not seen the rest.
    let arrived = world.arrived.get_mut(&world.streams[0]).unwrap();
    arrived.rows.truncate(400);
    arrived.end = upto as u64;
    arrived.ranges = RangeSet::new();
    arrived.ranges.insert(0..upto as u64).unwrap();
    arrived.starts = BTreeMap::from([(0, 0)]);
    adoption.answered(vec![stored]);
    world.settle();
    assert_eq!(count(&world), [1000]);
}

#[test]
fn an_answer_that_does_not_come_or_knows_nothing_makes_new_streams() {
    for answers in [true, false] {
        let mut world = World::new();
        world.write("a.log", text(0, 10));
        world.start();
        let adoption = world.wipe();
        world.pass(Duration::from_secs(60));
        assert_eq!(world.streams.len(), 1);
        if answers {
            adoption.answered(Vec::new());
        } else {
            world.clock.advance(WAIT_MAX);
        }
        world.settle();
        assert_eq!(count(&world), [10, 10]);
    }
}

#[test]
fn files_deleted_while_the_collector_is_asked_are_read_when_it_answered() {
    let mut world = World::new();
    world.write("a.log", text(0, 10));
    let adoption = world.wipe();
    world.settle();
    world.remove("a.log");
    world.write("a.log", text(10, 20));
    world.settle();
    adoption.answered(Vec::new());
    world.settle();
    let mut found = world.lines().concat();
    found.sort();
    assert_eq!(found.len(), 20);
}
