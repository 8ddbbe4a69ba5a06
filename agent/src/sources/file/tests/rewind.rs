//! The collector lost what it had acknowledged; files are read again.

use std::fmt::Write as _;

use proptest::prelude::*;

use super::super::archive::Format;
use super::property::cases;
use super::*;

impl World {
    /// A collector that knows nothing: whatever comes is new to it.
    fn forget_arrived(&mut self) {
        for arrived in self.arrived.values_mut() {
            arrived.rows.clear();
            arrived.receipts.clear();
            arrived.starts.clear();
            arrived.ranges = RangeSet::new();
            arrived.end = 0;
        }
    }

    /// Rewinds a stream while the agent is stopped.
    fn rewind(&mut self, index: usize, to: u64) -> Result<u64, RewindError> {
        let id = self.streams[index];
        let checkpoints =
            Checkpoints::open(Arc::new(OsDisk), self.state.path(), self.clock.clone() as Arc<_>).unwrap();
        let state = checkpoints.stream(&id).unwrap();
        let point = rewind_point(&state, to)?;
        checkpoints.rewind(&id, point.to, point.resume);
        checkpoints.flush(Durability::Synced).unwrap();
        Ok(point.to)
    }
}

fn text(lines: usize) -> String {
    (0..lines).fold(String::new(), |mut text, line| {
        let _ = writeln!(text, "line {line} {}", "x".repeat(line * 7 % 90));
        text
    })
}

#[test]
fn a_file_is_read_again_in_its_stream_wherever_it_is_now() {
    let mut world = World::new();
    world.write("a.log", text(500));
    world.start();
    world.rename("a.log", "a.log.1");
    world.write("a.log", text(3));
    world.settle();
    world.stop();
    assert_eq!(world.rewind(0, 0).unwrap(), 0);
    assert_eq!(world.rewind(1, 0).unwrap(), 0);
    world.forget_arrived();
    world.start();
    assert_eq!(world.streams.len(), 2);
    assert_eq!(world.lines().iter().map(Vec::len).collect::<Vec<_>>(), [500, 3]);
}

#[test]
fn a_file_that_holds_something_else_or_is_gone_is_not_read_again() {
    let mut world = World::new();
    world.write("a.log", text(50));
    world.write("b.log", text(50));
    world.start();
    world.stop();
    world.write("a.log", text(50).replace("line 0 ", "LINE 0 "));
    world.remove("b.log");
    assert!(matches!(world.rewind(0, 0), Err(RewindError::Differs)));
    assert!(matches!(world.rewind(1, 0), Err(RewindError::Gone)));
    assert!(matches!(world.rewind(0, 1 << 40), Err(RewindError::NothingToDo)));
}

#[test]
fn what_was_skipped_stays_skipped() {
    let mut world = World::with(|config| config.start = Start::End);
    world.write("a.log", text(100));
    world.start();
    world.append("a.log", "new\n");
    world.settle();
    world.stop();
    world.rewind(0, 0).unwrap();
    world.forget_arrived();
    world.start();
    assert_eq!(world.lines(), [lines(&["new"])]);
    let skipped = text(100).len() as u64;
    assert_eq!(world.stream(0).receipts, [(0, skipped, ReceiptReason::TooOld)]);
}

#[test]
fn a_compressed_file_is_read_again() {
    for format in [Format::Gzip, Format::Zstd] {
        let mut world = World::with(|config| config.include[0].push('*'));
        world.write("old.log", text(9000));
        world.compress("old.log", format, ".packed");
        world.start();
        for _ in 0..8 {
            world.pass(Duration::from_secs(10));
        }
        assert_eq!(world.stream(0).rows.len(), 9000);
        world.stop();
        let to = world.rewind(0, 200_000).unwrap();
        assert!(to > 199_000 && to <= 200_000, "{to}");
        world.forget_arrived();
        world.start();
        for _ in 0..8 {
            world.pass(Duration::from_secs(10));
        }
        let before = text(9000)[..usize::try_from(to).unwrap()].lines().count();
        assert_eq!(world.stream(0).rows.len(), 9000 - before, "{format:?}");
    }
}

proptest! {
    #![proptest_config(cases(32))]

    #[test]
    fn any_position_leads_to_the_beginning_of_its_line(to in 0u64..20_000) {
        let content = text(300);
        let mut world = World::new();
        world.write("a.log", &content);
        world.start();
        world.stop();
        let size = content.len() as u64;
        match world.rewind(0, to) {
            Err(RewindError::NothingToDo) => prop_assert!(to >= size),
            found => {
                let at = usize::try_from(to).unwrap();
                let expected = content[..at].rfind('\n').map_or(0, |feed| feed + 1);
                prop_assert_eq!(found.unwrap(), expected as u64);
                world.forget_arrived();
                world.start();
                prop_assert_eq!(world.stream(0).rows.len(), content[expected..].lines().count());
            }
        }
    }
}
