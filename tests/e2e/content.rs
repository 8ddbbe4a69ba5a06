//! What files do: rotate, shrink, grow back, end without a line feed.

use std::fs;

use edgelogger_tests::oracle::{expect_exactly, line, write_lines};
use edgelogger_tests::stack::Stack;
use edgelogger_tests::wait_for;

fn rows(stack: &Stack, query: &str) -> Result<i64, String> {
    let rows = stack.sql(query)?;
    rows[0][0].as_i64().ok_or_else(|| format!("{rows:?}"))
}

fn wait_for_count(stack: &Stack, condition: &str, expected: i64) {
    wait_for(condition, || {
        match rows(stack, &format!("SELECT count(*) FROM logs WHERE {condition}"))? {
            count if count == expected => Ok(()),
            count => Err(format!("{count} of {expected}\n{}", stack.said())),
        }
    });
}

#[test]
fn a_file_that_shrank_and_grew_back_with_other_content_loses_nothing() {
    let mut stack = Stack::new(&[], &[]);
    stack.start();
    let path = stack.log_file("app.log");
    write_lines(&path, "old", 0, 2_000, |_| ());
    expect_exactly(&stack, "old", 2_000);
    let size = fs::metadata(&path).unwrap().len();
    // Truncated and grown past the old size before anybody can look: the agent sees one larger file.
    let text: String = (0..4_000).map(|seq| line("new", seq) + "\n").collect();
    assert!(text.len() as u64 > size);
    fs::write(&path, text).unwrap();
    expect_exactly(&stack, "new", 4_000);
    expect_exactly(&stack, "old", 2_000);
}

#[test]
fn a_file_that_changed_while_the_agent_was_stopped_is_read_from_its_beginning() {
    let mut stack = Stack::new(&[], &[]);
    stack.start();
    let path = stack.log_file("app.log");
    write_lines(&path, "old", 0, 2_000, |_| ());
    expect_exactly(&stack, "old", 2_000);
    stack.stop_agent();
    let text: String = (0..4_000).map(|seq| line("new", seq) + "\n").collect();
    fs::write(&path, text).unwrap();
    stack.start_agent();
    expect_exactly(&stack, "new", 4_000);
    expect_exactly(&stack, "old", 2_000);
}

#[test]
fn a_file_that_is_rotated_while_it_is_written_is_read_to_its_end() {
    let mut stack = Stack::new(&[], &[]);
    stack.start();
    let path = stack.log_file("app.log");
    // A log that came and went before anybody looked can't be known; this one is followed when it begins to rotate.
    write_lines(&path, "first", 0, 1, |_| ());
    expect_exactly(&stack, "first", 1);
    for round in 0..5u64 {
        write_lines(&path, "run", round * 10_000, (round + 1) * 10_000, |_| ());
        fs::rename(&path, stack.log_file(&format!("app.log.{round}"))).unwrap();
    }
    expect_exactly(&stack, "run", 50_000);
}

#[test]
fn odd_bytes_are_kept_without_loss() {
    let mut stack = Stack::new(&[], &[]);
    stack.start();
    let path = stack.log_file("odd.log");
    let first = "first line is text\n".repeat(60);
    let odd: &[u8] =
        b"odd \xff\xfe bytes\nodd nul \0 here\r\nodd \x1b[31mred\x1b[0m\nodd without a line feed";
    fs::write(&path, [first.as_bytes(), odd].concat()).unwrap();
    wait_for_count(&stack, "body LIKE 'odd %'", 4);
    // The bytes themselves are kept beside the text, and shown in hexadecimal digits.
    let raw = stack
        .sql("SELECT body_bytes FROM logs WHERE body_bytes IS NOT NULL")
        .unwrap();
    assert_eq!(raw, [["6f646420fffe206279746573"]]);
    let sum = rows(&stack, "SELECT sum(source_len) FROM logs").unwrap();
    assert_eq!(usize::try_from(sum), Ok(first.len() + odd.len()));
}

#[test]
fn a_line_of_100_mb_is_cut_and_accounted_for_and_its_neighbours_are_whole() {
    let mut stack = Stack::new(&[], &[]);
    stack.start();
    let path = stack.log_file("long.log");
    let mut text = b"before\n".to_vec();
    text.resize(text.len() + 100_000_000, b'y');
    text.extend_from_slice(b"\nafter\n");
    fs::write(&path, text).unwrap();
    wait_for_count(&stack, "body = 'after'", 1);
    wait_for_count(&stack, "source_len = 100000001 AND flags = 1", 1);
    wait_for_count(&stack, "body = 'before'", 1);
    let peak = stack.agent.as_ref().unwrap().memory_bytes("VmHWM:").unwrap();
    assert!(peak < 64 << 20, "the agent took {peak} bytes");
}

#[test]
fn what_is_no_regular_file_disturbs_nothing() {
    let mut stack = Stack::new(&[], &[]);
    fs::create_dir(stack.log_file("folder.log")).unwrap();
    let fifo = std::process::Command::new("mkfifo")
        .arg(stack.log_file("fifo.log"))
        .status()
        .unwrap();
    assert!(fifo.success());
    std::os::unix::fs::symlink("/dev/zero", stack.log_file("device.log")).unwrap();
    std::os::unix::fs::symlink("/nowhere", stack.log_file("dangling.log")).unwrap();
    fs::write(stack.log_file("binary.log"), [0u8, 1, 2, 3].repeat(1000)).unwrap();
    stack.start();
    write_lines(&stack.log_file("app.log"), "run", 0, 1_000, |_| ());
    expect_exactly(&stack, "run", 1_000);
    assert_eq!(
        rows(&stack, "SELECT count(DISTINCT source) FROM logs").unwrap(),
        1
    );
}
