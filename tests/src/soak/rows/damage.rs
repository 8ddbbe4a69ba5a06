//! Rows 6 and 7: torn writes and flipped bits in the real files of log and checkpoint, by the code that recovers them,
//! on a disk in memory: some thousands a second. (The spool is such a log, too.)
//!
//! What must hold: it always opens; what the damage did not touch is read as it was written; the rest is named as lost,
//! and nothing is invented; what is written behind it is there after the next start.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use edgelogger_agent::checkpoint::{Checkpoints, Durability, FILE_NAME, MachineMark};
use edgelogger_agent::flow::{ContentCheck, Resume, SentBlock};
use edgelogger_common::clock::ManualClock;
use edgelogger_common::disk::{Disk, FaultDisk};
use edgelogger_common::segment::{
    FRAME_HEADER_BYTES, ReadItem, SEGMENT_HEADER_BYTES, SegmentLog, SegmentOptions,
};
use edgelogger_common::stream::StreamId;
use edgelogger_proto::v1::StreamDescriptor;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use crate::soak::row::{Outcome, Row, Stop, Turn, ensure};

/// Row 6.
pub const TORN: Row = Row {
    number: 6,
    fault: "torn write: tail cut at any byte, sectors missing or zeroed",
    quick: 2_000,
    test: 200,
    turn: 1_000,
    worlds: 1,
    run: |turn| each(turn, torn),
};

/// Row 7.
pub const FLIPPED: Row = Row {
    number: 7,
    fault: "bit flip in log, checkpoint",
    quick: 10_000,
    test: 1_000,
    turn: 5_000,
    worlds: 1,
    run: |turn| each(turn, flipped),
};

const LOG_DIR: &str = "/log";
const STATE_DIR: &str = "/state";
const SECTOR_BYTES: usize = 512;

/// Bytes of a file that are not what was written.
type Damage = std::ops::Range<usize>;
/// Does the damage, and says what it touched.
type Damager = fn(&mut StdRng, &mut Vec<u8>) -> Damage;

/// Each run has a seed of its own below the turn's; one in four is a checkpoint.
fn each(turn: &mut Turn, damage: Damager) -> Outcome {
    while turn.done < turn.runs {
        let seed = turn.seed.wrapping_mul(1 << 20).wrapping_add(u64::from(turn.done));
        let mut random = StdRng::seed_from_u64(seed);
        let outcome = if random.random_ratio(1, 4) {
            checkpoint(&mut random, damage)
        } else {
            log(&mut random, seed, damage)
        };
        turn.done += 1;
        if let Err(Stop::Failed(why)) = outcome {
            turn.unexplained += 1;
            return Err(Stop::Failed(format!("run {}: {why}", turn.done)));
        }
    }
    Ok(())
}

fn torn(random: &mut StdRng, bytes: &mut Vec<u8>) -> Damage {
    let len = bytes.len();
    let at = random.random_range(0..len);
    let sector = at / SECTOR_BYTES * SECTOR_BYTES;
    match random.random_range(0..4) {
        0 => {
            bytes.truncate(at);
            at..len
        }
        1 => {
            bytes.truncate(sector);
            sector..len
        }
        2 => {
            let end = (sector + SECTOR_BYTES).min(len);
            bytes[sector..end].fill(0);
            sector..end
        }
        // The length was written, the last sectors were not.
        _ => {
            bytes[sector..].fill(0);
            sector..len
        }
    }
}

#[expect(clippy::ptr_arg, reason = "one of two damagers; the other shortens")]
fn flipped(random: &mut StdRng, bytes: &mut Vec<u8>) -> Damage {
    let bit = random.random_range(0..bytes.len() * 8);
    bytes[bit / 8] ^= 1 << (bit % 8);
    bit / 8..bit / 8 + 1
}

fn payload(seed: u64, sequence: u64) -> Vec<u8> {
    let mut random = StdRng::seed_from_u64(seed ^ sequence.rotate_left(32));
    let len = random.random_range(0..700);
    (0..len).map(|_| random.random()).collect()
}

fn log(random: &mut StdRng, seed: u64, damage: Damager) -> Outcome {
    let disk = FaultDisk::new(seed);
    let options = SegmentOptions {
        segment_bytes_max: random.random_range(300..8_000),
        frame_bytes_max: 4096,
        write_buffer_bytes: 100,
        read_chunk_bytes: 4096,
        clock: Arc::new(ManualClock::at(1_700_000_000_000_000_000)),
        ..SegmentOptions::default()
    };
    let open = || SegmentLog::open(Arc::new(disk.clone()), Path::new(LOG_DIR), options.clone());
    let count = random.random_range(1..30u64);
    {
        let (mut log, _) = open()?;
        for sequence in 1..=count {
            log.append(&[&payload(seed, sequence)])?;
        }
        log.sync()?;
    }
    let segments = segments(&disk)?;
    let (path, first) = &segments[random.random_range(0..segments.len())];
    let mut touched = 0..0;
    disk.corrupt(path, |bytes| touched = damage(random, bytes));
    let whole = untouched(seed, &segments, (path, *first), count, &touched);
    disk.restart();
    let (mut log, report) = open()?;
    let start = log.first_sequence();
    let next = log.next_sequence();
    ensure(next <= count + 1, || {
        format!("{next} frames where {count} were written\n{report}")
    })?;
    let seen = read(&log, seed, start)?;
    let missing = whole.iter().find(|sequence| !seen.contains(sequence));
    ensure(missing.is_none(), || {
        format!(
            "frame {missing:?} of {count} is gone, {touched:?} of {} was damaged\n{report}",
            path.display()
        )
    })?;
    for sequence in next..next + 3 {
        log.append(&[&payload(seed, sequence)])?;
    }
    log.sync()?;
    drop(log);
    disk.restart();
    let (log, _) = open()?;
    let again = read(&log, seed, log.first_sequence())?;
    ensure(again.len() == seen.len() + 3, || {
        format!(
            "{} frames were there, now with three more it is {}",
            seen.len(),
            again.len()
        )
    })
}

/// Every segment and its first sequence.
fn segments(disk: &FaultDisk) -> Result<Vec<(PathBuf, u64)>, Stop> {
    let names = disk.list_files(Path::new(LOG_DIR))?;
    let mut segments = Vec::new();
    for name in names.iter().filter(|name| name.ends_with(".seg")) {
        segments.push((
            Path::new(LOG_DIR).join(name),
            name.trim_end_matches(".seg").parse()?,
        ));
    }
    Ok(segments)
}

/// The frames that the damage did not touch. A tail that is gone takes nothing before it; frames behind damage in the
/// middle are found again.
fn untouched(
    seed: u64,
    segments: &[(PathBuf, u64)],
    damaged: (&PathBuf, u64),
    count: u64,
    touched: &Damage,
) -> Vec<u64> {
    let behind = segments
        .iter()
        .map(|(_, first)| *first)
        .find(|first| *first > damaged.1);
    let inside = damaged.1..behind.unwrap_or(count + 1);
    let mut at = SEGMENT_HEADER_BYTES;
    let mut whole: Vec<u64> = (1..=count)
        .filter(|sequence| !inside.contains(sequence))
        .collect();
    for sequence in inside {
        let end = at + FRAME_HEADER_BYTES + payload(seed, sequence).len();
        if end <= touched.start || at >= touched.end {
            whole.push(sequence);
        }
        at = end;
    }
    whole
}

/// Every frame that is read, each with its own content; what is not there is named, without a gap.
fn read(log: &SegmentLog, seed: u64, start: u64) -> Result<Vec<u64>, Stop> {
    let mut reader = log.reader(start)?;
    let (mut next, mut seen) = (start, Vec::new());
    while let Some(item) = reader.next()? {
        match item {
            ReadItem::Frame(frame) => {
                ensure(
                    frame.sequence == next && frame.payload == payload(seed, next),
                    || format!("frame {} is not what was written as {next}", frame.sequence),
                )?;
                seen.push(next);
                next += 1;
            }
            ReadItem::Damaged {
                from_sequence,
                to_sequence,
                ..
            }
            | ReadItem::Dropped {
                from_sequence,
                to_sequence,
            } => {
                ensure(from_sequence == next && to_sequence > next, || {
                    format!("{from_sequence} to {to_sequence} are named as lost, at {next}")
                })?;
                next = to_sequence;
            }
        }
    }
    ensure(next == log.next_sequence(), || {
        format!("nothing is said of {next} and on")
    })?;
    Ok(seen)
}

fn id(number: u8) -> StreamId {
    StreamId::from_bytes([number; 16])
}

/// What the source held before a position, as the checkpoint remembers it.
fn resume(stream: u8, end: u64) -> Resume {
    Resume::Content(ContentCheck {
        len: 16,
        crc32c: crc32c::crc32c(format!("{stream} {end}").as_bytes()),
    })
}

fn checkpoint(random: &mut StdRng, damage: Damager) -> Outcome {
    let disk = FaultDisk::new(random.random());
    let clock = Arc::new(ManualClock::at(1_700_000_000_000_000_000));
    let open = || {
        let clock: Arc<dyn edgelogger_common::clock::Clock> = Arc::<ManualClock>::clone(&clock);
        Checkpoints::open_on(
            Arc::new(disk.clone()),
            Path::new(STATE_DIR),
            clock,
            MachineMark::of("a machine"),
        )
    };
    let mut acked: BTreeMap<u8, u64> = BTreeMap::new();
    let instance = {
        let checkpoints = open()?;
        for step in 0..random.random_range(1..40u8) {
            let stream = random.random_range(1..6u8);
            let known = acked.contains_key(&stream);
            let start = *acked.entry(stream).or_default();
            if !known {
                let descriptor = StreamDescriptor {
                    stream_id: id(stream).to_proto(),
                    name: format!("/var/log/{stream}"),
                    replayable: true,
                    ..StreamDescriptor::default()
                };
                checkpoints.create(&[descriptor])?;
            }
            let end = start + random.random_range(1..500);
            checkpoints.acked(&SentBlock {
                stream_id: id(stream),
                start,
                end,
                record_count: 1,
                resume: resume(stream, end),
            });
            acked.insert(stream, end);
            if step % 4 == 0 {
                checkpoints.flush(Durability::Synced)?;
            }
        }
        checkpoints.flush(Durability::Synced)?;
        checkpoints.instance_id()
    };
    let path = Path::new(STATE_DIR).join(FILE_NAME);
    let (mut touched, mut len) = (0..0, 0);
    disk.corrupt(&path, |bytes| {
        len = bytes.len();
        touched = damage(random, bytes);
    });
    disk.restart();
    // What the first start repaired and reported, the second finds as it left it.
    for is_first in [true, false] {
        let checkpoints = open()?;
        let found = checkpoints.streams();
        for state in &found {
            let stream = state.descriptor.stream_id[0];
            let truth = acked.get(&stream).copied().unwrap_or(0);
            // Behind the truth costs a repeat; before it would lose something.
            ensure(
                state.acked_upto <= truth && state.acked.end().unwrap_or(0) <= truth,
                || {
                    format!(
                        "stream {stream} is acked up to {}, says a file damaged at {touched:?}; it was {truth}",
                        state.acked_upto
                    )
                },
            )?;
            ensure(
                state.acked_upto == 0 || state.resume == resume(stream, state.acked_upto),
                || {
                    format!(
                        "stream {stream} resumes at {} with another position's content",
                        state.acked_upto
                    )
                },
            )?;
        }
        let recovery = checkpoints.recovery();
        // That a tail is gone can't be seen: nothing says where it would have ended.
        let same = found.len() == acked.len() && checkpoints.instance_id() == instance;
        ensure(
            same || !is_first || !recovery.damage.is_empty() || recovery.fresh || touched.end == len,
            || {
                format!(
                    "{} of {} streams, and nothing is said: {recovery:?}",
                    found.len(),
                    acked.len()
                )
            },
        )?;
    }
    Ok(())
}
