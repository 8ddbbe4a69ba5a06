//! `logs -A`, `-B`, `-C` show what grep shows.

use std::fmt::Write;
use std::process::{Command, Output};

use edgelogger_tests::process::program;
use edgelogger_tests::stack::Stack;
use edgelogger_tests::wait_for;

fn logs(stack: &Stack, arguments: &[&str]) -> String {
    let output: Output = Command::new(program("edgelogger-collector"))
        .args(["logs", "--url", &stack.api("")])
        .args(arguments)
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn lines_around_matches_are_those_that_grep_shows() {
    let mut stack = Stack::new(&[], &[]);
    stack.start();
    let path = stack.log_file("app.log");
    let mut text = String::new();
    // Matches alone, close together, next to one another, at both ends; lines of very different lengths.
    for number in 0..6_000u32 {
        let word = if number.is_power_of_two() || number % 97 < 2 || number > 5_998 {
            "needle"
        } else {
            "straw"
        };
        let filler = "x".repeat((number as usize * 7919) % 300);
        let _ = writeln!(text, "{number} {word} {filler}");
    }
    std::fs::write(&path, &text).unwrap();
    wait_for("all lines are stored", || {
        let rows = stack.sql("SELECT count(*) FROM logs")?;
        (rows[0][0] == 6_000)
            .then_some(())
            .ok_or_else(|| format!("{rows:?}"))
    });
    let grep = |arguments: &[&str]| {
        let output = Command::new("grep")
            .args(arguments)
            .arg("needle")
            .arg(&path)
            .output()
            .unwrap();
        String::from_utf8(output.stdout).unwrap()
    };
    for around in [
        &["-C", "2"][..],
        &["-C", "0"][..],
        &["-A", "3"][..],
        &["-B", "50"][..],
        &["-A", "1", "-B", "4"][..],
        &["-C", "5", "-B", "1"][..],
        // Pages of nine matches.
        &["-C", "1000"][..],
    ] {
        let mut arguments = vec!["-o", "raw", "needle"];
        arguments.extend(around);
        let expected = grep(around);
        for range in [&["--since", "1h"][..], &["-n", "100000"][..]] {
            let shown = logs(&stack, &[&arguments[..], range].concat());
            let differs = shown
                .lines()
                .zip(expected.lines())
                .position(|(shown, expected)| shown != expected);
            assert!(
                shown == expected,
                "{around:?} {range:?}: {} lines instead of {}, the first that differs is {differs:?}",
                shown.lines().count(),
                expected.lines().count()
            );
        }
    }
    let shown = logs(&stack, &["-n", "1", "-C", "1", "needle"]);
    let lines: Vec<&str> = shown.lines().collect();
    assert!(
        lines[0].contains("app.log- 5998 straw") && lines[1].contains("app.log: 5999 needle"),
        "{shown}"
    );
}
