//! Rows 34 and 35: what stands in lines. Endless ones, nested ones, and every byte that there is.

use std::fs;
use std::io::Write;
use std::process::Command;

use rand::Rng;
use rand::seq::IndexedRandom;
use serde_json::Value;

use crate::process::program;
use crate::soak::row::{Outcome, Row, Stop, Turn, ensure};
use crate::soak::tools::Mounted;
use crate::soak::world::World;
use crate::wait_for;
use crate::written::append;

/// Row 34.
pub const LONG: Row = Row {
    number: 34,
    fault: "a 1 GiB line; JSON of a million fields or depth",
    quick: 5,
    test: 0,
    turn: 5,
    worlds: 1,
    run: long,
};

/// Row 35.
pub const ODD: Row = Row {
    number: 35,
    fault: "invalid UTF-8, NUL, CRLF, control and ANSI sequences",
    quick: 10_000,
    test: 1_000,
    turn: 5_000,
    worlds: 1,
    run: odd,
};

/// The agent's default `line_bytes_max`.
const LINE_BYTES_MAX: usize = 256 << 10;

fn long(turn: &mut Turn) -> Outcome {
    let mut world = World::new(turn.seed);
    let logs = world.stack.log_file("x").with_file_name("");
    // In memory where that can be: a GiB is written in a moment there.
    let _in_memory = Mounted::tmpfs(&logs, "3g");
    world.stack.start();
    while turn.done < turn.runs {
        let run = turn.done;
        let name = format!("long{run}.log");
        let path = world.stack.log_file(&name);
        world.append(&name, 3);
        let json: Vec<u8> = match run % 5 {
            0 => giant(&mut world, &name)?,
            1 => fields(1_000_000),
            2 => fields(15_000),
            3 => nested(1_000_000),
            _ => nested(100_000),
        };
        if !json.is_empty() {
            append(&path, &json);
            append(&path, b"\n");
            world.append(&name, 3);
            is_kept(&world, &name, &json)?;
        }
        world.other_rows += 1;
        turn.done += 1;
    }
    let settled = world.settle(turn);
    world.stack.kill_agent();
    settled
}

/// A line of a GiB between two others.
fn giant(world: &mut World, name: &str) -> Result<Vec<u8>, Stop> {
    const PIECE: usize = 16 << 20;
    const LEN: usize = 1 << 30;
    let path = world.stack.log_file(name);
    let mut file = fs::File::options().append(true).open(&path)?;
    let piece = vec![b'y'; PIECE];
    for _ in 0..LEN / PIECE {
        file.write_all(&piece)?;
    }
    file.write_all(b"\n")?;
    world.append(name, 3);
    wait_for("the giant line is stored, cut and accounted for", || {
        let rows = world.stack.sql(&format!(
            "SELECT count(*) FROM logs WHERE source LIKE '%/{name}' AND source_len = {} AND flags % 2 = 1",
            LEN + 1
        ))?;
        if rows[0][0] == 1 {
            Ok(())
        } else {
            Err(world.stack.said())
        }
    });
    // Its pages are not needed any more, and the next one needs them.
    Ok(Vec::new())
}

fn fields(count: usize) -> Vec<u8> {
    let fields: Vec<String> = (0..count).map(|field| format!("\"f{field}\":{field}")).collect();
    format!("{{{}}}", fields.join(",")).into_bytes()
}

fn nested(depth: usize) -> Vec<u8> {
    let mut text = b"{\"level\":".to_vec();
    text.extend(std::iter::repeat_n(b'[', depth));
    text.extend(std::iter::repeat_n(b']', depth));
    text.push(b'}');
    text
}

/// The line is there as it was written, up to the limit of a line, and says when it was cut.
fn is_kept(world: &World, name: &str, line: &[u8]) -> Outcome {
    let query = format!(
        "SELECT body, source_len, flags FROM logs WHERE source LIKE '%/{name}' AND source_len > 10000"
    );
    let row = wait_for("the long line is stored", || {
        let rows = world.stack.sql(&query)?;
        rows.first().cloned().ok_or_else(|| world.stack.said())
    });
    let kept = &line[..line.len().min(LINE_BYTES_MAX)];
    let body = row[0].as_str().unwrap_or_default().as_bytes();
    let is_cut = row[2].as_u64().is_some_and(|flags| flags % 2 == 1);
    ensure(
        body == kept && row[1] == line.len() + 1 && is_cut == (line.len() > LINE_BYTES_MAX),
        || {
            let lens = (body.len(), kept.len(), line.len());
            format!(
                "{name}: bytes stored, kept, written: {lens:?}; {} {}",
                row[1], row[2]
            )
        },
    )
}

/// Pieces that do harm somewhere: to decoders, to terminals, to those who count lines.
const PIECES: &[&[u8]] = &[
    b"\xff\xfe",
    b"\xc3\x28",
    b"\xed\xa0\x80",
    b"\xf8\x88\x80\x80\x80",
    b"\xe2\x82",
    b"\0",
    b"\r",
    b"\x1b[2J\x1b[H",
    b"\x1b[31mred\x1b[0m",
    b"\x1b]0;title\x07",
    b"\x1bP$q\x1b\\",
    b"\x9b31m",
    b"\x08\x08\x08",
    b"\x0b\x0c",
    b"\x7f",
    b"\t",
    b"\xe2\x80\xae",
    b"\xe2\x80\xa8",
    b"\xef\xbb\xbf",
    "\u{1F600}".as_bytes(),
    "grün".as_bytes(),
    b"'; DROP TABLE logs; --",
    b"\"\\\"{}[]",
    b"%s%n",
];

fn odd(turn: &mut Turn) -> Outcome {
    let mut world = World::started(turn.seed);
    let path = world.stack.log_file("odd.log");
    // A file that begins as text is a log, whatever comes behind.
    world.append("odd.log", 100);
    let start = fs::metadata(&path)?.len();
    let mut lines = Vec::new();
    for number in 0..turn.runs {
        let mut line = format!("o{number:07} ").into_bytes();
        for _ in 0..world.random.random_range(1..6) {
            match world.random.random_range(0..4) {
                0 => line.push(world.random.random::<u8>()),
                1 => line.extend_from_slice(b"some text "),
                _ => line.extend_from_slice(PIECES.choose(&mut world.random).expect("there are pieces")),
            }
        }
        line.retain(|byte| *byte != b'\n');
        if world.random.random_ratio(1, 4) {
            line.push(b'\r');
        }
        lines.push(line);
    }
    let mut text = lines.join(&b'\n');
    text.push(b'\n');
    append(&path, &text);
    world.other_rows = lines.len() as u64;
    world.append("odd.log", 1);
    world.drained()?;
    let mut position = start;
    for page in lines.chunks(1_000) {
        position = same_bytes(&world, page, position)?;
        turn.done += u32::try_from(page.len())?;
    }
    shown_harmlessly(&world)?;
    world.settle(turn)
}

/// Row by row: the bytes that were written. Gives the position behind them.
fn same_bytes(world: &World, lines: &[Vec<u8>], start: u64) -> Result<u64, Stop> {
    let end = start + lines.iter().map(|line| line.len() as u64 + 1).sum::<u64>();
    let rows = world.stack.sql(&format!(
        "SELECT body, body_bytes, source_len FROM logs WHERE source LIKE '%/odd.log'
         AND position >= {start} AND position < {end} ORDER BY position"
    ))?;
    ensure(rows.len() == lines.len(), || {
        format!("{} rows of {}", rows.len(), lines.len())
    })?;
    for (line, row) in lines.iter().zip(&rows) {
        // The end of a line is LF or CRLF; `source_len` tells which it was.
        let body = line.strip_suffix(b"\r").unwrap_or(line);
        let kept = match &row[1] {
            Value::String(digits) => unhex(digits),
            _ => row[0].as_str().unwrap_or_default().as_bytes().to_vec(),
        };
        ensure(kept == body && row[2] == line.len() + 1, || {
            format!("written {:?}, stored {row:?}", String::from_utf8_lossy(line))
        })?;
    }
    Ok(end)
}

fn unhex(digits: &str) -> Vec<u8> {
    digits
        .as_bytes()
        .chunks(2)
        .filter_map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok())
        .collect()
}

/// What a person sees moves no cursor, clears no screen, and reverses no text.
fn shown_harmlessly(world: &World) -> Outcome {
    let output = Command::new(program("edgelogger-collector"))
        .args(["logs", "--url", &world.stack.api(""), "--since", "1h"])
        .output()?;
    let text = String::from_utf8_lossy(&output.stdout);
    ensure(output.status.success(), || {
        String::from_utf8_lossy(&output.stderr).into_owned()
    })?;
    let harmful = |character: &char| {
        (character.is_control() && !matches!(character, '\n' | '\t'))
            || ('\u{202a}'..='\u{202e}').contains(character)
    };
    let found: Vec<char> = text.chars().filter(harmful).take(5).collect();
    ensure(found.is_empty() && text.contains("o0000000 "), || {
        format!("`logs` shows {found:?} of {} bytes", text.len())
    })?;
    Ok(())
}
