//! `logs --follow`: what there is and what comes, each record once, also through the end of a collector.

use std::fs::File;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use edgelogger_tests::oracle::{expect_exactly, line, write_lines};
use edgelogger_tests::process::program;
use edgelogger_tests::stack::Stack;
use edgelogger_tests::wait_for;

/// `logs --follow` as a process. Killed when it is dropped.
struct Follower {
    child: Child,
    out: PathBuf,
    err: PathBuf,
}

impl Follower {
    fn start(stack: &Stack, name: &str, arguments: &[&str]) -> Self {
        let (out, err) = (
            stack.dir().join(format!("{name}.out")),
            stack.dir().join(format!("{name}.err")),
        );
        let child = Command::new(program("edgelogger-collector"))
            .args(["logs", "--follow", "--url", &stack.api("")])
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(File::create(&out).unwrap())
            .stderr(File::create(&err).unwrap())
            .spawn()
            .unwrap();
        Self { child, out, err }
    }

    fn shown(&self) -> Vec<String> {
        let text = std::fs::read(&self.out).unwrap();
        let whole = text
            .iter()
            .rposition(|byte| *byte == b'\n')
            .map_or(0, |end| end + 1);
        let text = String::from_utf8(text[..whole].to_vec()).unwrap();
        text.lines().map(str::to_owned).collect()
    }

    fn said(&self) -> String {
        std::fs::read_to_string(&self.err).unwrap()
    }

    /// Waits for lines `0..count` of a run. Each is there once and nothing else is.
    fn expect_exactly(&self, run: &str, count: u64) {
        let count_shown = usize::try_from(count).unwrap();
        wait_for("everything is shown", || {
            let shown = self.shown().len();
            (shown >= count_shown)
                .then_some(())
                .ok_or_else(|| format!("{shown} of {count}; {}", self.said()))
        });
        let mut shown = self.shown();
        shown.sort_unstable();
        let expected: Vec<String> = (0..count).map(|seq| line(run, seq)).collect();
        let first = shown
            .iter()
            .zip(&expected)
            .find(|(shown, expected)| shown != expected);
        assert!(first.is_none(), "{first:?}\n{}", self.said());
        assert_eq!(shown.len(), expected.len(), "{}", self.said());
    }

    fn wait_to_say(&self, words: &str) {
        wait_for(words, || {
            let said = self.said();
            said.contains(words).then_some(()).ok_or(said)
        });
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn what_there_is_and_what_comes_is_shown_once_also_when_the_collector_was_gone() {
    let mut stack = Stack::new(&[], &[]);
    stack.start();
    let path = stack.log_file("app.log");
    write_lines(&path, "run", 0, 3_000, |_| ());
    expect_exactly(&stack, "run", 3_000);
    // Both begin while lines come in: one with the newest records, one with pages of all.
    let writer = std::thread::spawn({
        let path = path.clone();
        move || {
            for part in 0..60 {
                write_lines(&path, "run", 3_000 + part * 50, 3_050 + part * 50, |_| ());
                std::thread::sleep(std::time::Duration::from_millis(20));
            }
        }
    });
    let newest = Follower::start(&stack, "newest", &["-o", "raw", "-n", "100000", "run"]);
    let pages = Follower::start(&stack, "pages", &["-o", "raw", "--since", "1h", "run"]);
    // Begins with nothing, and comes back without having had anything.
    let quiet = Follower::start(&stack, "quiet", &["-o", "raw", "-n", "0", "late"]);
    writer.join().unwrap();
    newest.expect_exactly("run", 6_000);
    pages.expect_exactly("run", 6_000);
    stack.kill_collector();
    for follower in [&newest, &pages, &quiet] {
        follower.wait_to_say("is gone");
    }
    write_lines(&path, "run", 6_000, 7_000, |_| ());
    write_lines(&stack.log_file("late.log"), "late", 0, 100, |_| ());
    stack.start_collector();
    for follower in [&newest, &pages, &quiet] {
        follower.wait_to_say("is back");
    }
    write_lines(&path, "run", 7_000, 8_000, |_| ());
    write_lines(&stack.log_file("late.log"), "late", 100, 200, |_| ());
    newest.expect_exactly("run", 8_000);
    pages.expect_exactly("run", 8_000);
    quiet.expect_exactly("late", 200);
    for follower in [&newest, &pages, &quiet] {
        assert!(!follower.said().contains("missed"), "{}", follower.said());
    }
}

#[test]
fn every_form_is_followed_and_a_question_that_is_wrong_ends_at_once() {
    let mut stack = Stack::new(&[], &[]);
    stack.start();
    let path = stack.log_file("app.log");
    write_lines(&path, "run", 0, 2, |_| ());
    expect_exactly(&stack, "run", 2);
    let forms = ["text", "json", "csv", "raw"];
    let followers = forms.map(|form| {
        let arguments = ["-o", form, "--color", "always", "--machine", "machine-*"];
        Follower::start(&stack, form, &arguments)
    });
    for follower in &followers {
        wait_for("the first two are shown", || {
            (follower.shown().len() >= 2)
                .then_some(())
                .ok_or_else(|| follower.said())
        });
    }
    write_lines(&path, "run", 2, 4, |_| ());
    for (follower, form) in followers.iter().zip(forms) {
        let count = if form == "csv" { 5 } else { 4 };
        wait_for("all are shown", || {
            (follower.shown().len() >= count)
                .then_some(())
                .ok_or_else(|| follower.said())
        });
        let shown = follower.shown();
        assert_eq!(shown.len(), count, "{form}: {shown:?}");
        assert!(shown[count - 1].contains("run 0000000003"), "{form}: {shown:?}");
        assert_eq!(
            shown[count - 1].contains("\x1b["),
            form == "text",
            "{form}: {shown:?}"
        );
        assert_eq!(
            shown.iter().filter(|line| line.starts_with("time,")).count(),
            usize::from(form == "csv")
        );
    }
    for (arguments, words) in [
        (&["-e", "("][..], "E0511"),
        (&["--until", "1h"][..], "cannot be used with"),
    ] {
        let mut wrong = Follower::start(&stack, "wrong", arguments);
        let status = wait_for("it ends", || {
            wrong
                .child
                .try_wait()
                .map_err(|error| error.to_string())?
                .ok_or_else(|| wrong.said())
        });
        assert!(
            !status.success() && wrong.said().contains(words),
            "{}",
            wrong.said()
        );
    }
}
