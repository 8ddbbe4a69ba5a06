//! docs/tutorial.md: its commands are typed, in their order, and show what the page says.

use std::fs::File;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use edgelogger_tests::process::program;
use edgelogger_tests::wait_for;

/// A block of commands.
#[derive(Debug)]
struct Block {
    /// What stands behind `sh`: nothing, `running` (in a terminal of its own), `fails`, `build`.
    kind: String,
    text: String,
    /// What is to be seen, where the page says so.
    shows: Option<String>,
}

fn blocks() -> Vec<Block> {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/tutorial.md");
    let page = std::fs::read_to_string(page).unwrap();
    let mut blocks: Vec<Block> = Vec::new();
    let mut lines = page.lines();
    while let Some(line) = lines.next() {
        if let Some(kind) = line.strip_prefix("```") {
            let kind = kind
                .strip_prefix("sh")
                .unwrap_or_else(|| panic!("{kind} is no command"));
            let text: Vec<&str> = lines.by_ref().take_while(|line| *line != "```").collect();
            blocks.push(Block {
                kind: kind.trim().to_owned(),
                text: text.join("\n"),
                shows: None,
            });
        } else if let Some(shows) = line.strip_prefix("<!-- shows: ") {
            let shows = shows.strip_suffix(" -->").unwrap();
            blocks.last_mut().unwrap().shows = Some(shows.to_owned());
        }
    }
    blocks
}

/// A folder in which things are typed, with the built programs and two ports of its own.
struct Desk {
    dir: tempfile::TempDir,
    ports: [u16; 2],
    terminals: Vec<(Child, PathBuf, Block)>,
}

impl Drop for Desk {
    fn drop(&mut self) {
        for (child, ..) in self.terminals.iter_mut().rev() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

impl Desk {
    fn new() -> Self {
        let port = |listener: &TcpListener| listener.local_addr().unwrap().port();
        let listeners = [0, 0].map(|port| TcpListener::bind(("127.0.0.1", port)).unwrap());
        Self {
            dir: tempfile::tempdir().unwrap(),
            ports: [port(&listeners[0]), port(&listeners[1])],
            terminals: Vec::new(),
        }
    }

    /// The page's ports may be taken on this machine.
    fn shell(&self, text: &str) -> Command {
        let [ingest, api] = self.ports;
        let text = text
            .replace(":7443", &format!(":{ingest}"))
            .replace(":7480", &format!(":{api}"));
        // Ended by a signal, a shell would leave the program that it has started.
        let text = text.replace(
            "edgelogger-collector run",
            &format!("exec edgelogger-collector run --api-listen 127.0.0.1:{api}"),
        );
        let text = text.replace("edgelogger-agent run", "exec edgelogger-agent run");
        let text = text.replace(
            "edgelogger-collector logs --follow",
            "exec edgelogger-collector logs --follow",
        );
        let programs = program("edgelogger-collector");
        let path = std::env::var("PATH").unwrap_or_default();
        let mut command = Command::new("bash");
        command
            .args(["-euo", "pipefail", "-c", &text])
            .current_dir(self.dir.path())
            .env("PATH", format!("{}:{path}", programs.parent().unwrap().display()))
            .env("EDGELOGGER_COLLECTOR_URL", format!("http://127.0.0.1:{api}"))
            .stdin(Stdio::null());
        command
    }

    fn open_terminal(&mut self, block: Block) {
        let said = self.dir.path().join(format!("terminal-{}", self.terminals.len()));
        let file = File::create(&said).unwrap();
        let mut command = self.shell(&block.text);
        command.stdout(file.try_clone().unwrap()).stderr(file);
        self.terminals.push((command.spawn().unwrap(), said, block));
    }

    fn said(&self) -> String {
        let said = |(_, said, _): &(Child, PathBuf, Block)| std::fs::read_to_string(said).unwrap_or_default();
        self.terminals.iter().map(said).collect::<Vec<_>>().join("\n")
    }

    /// What was typed takes a moment to arrive; a reader is slower than that. So it is typed until it shows what it should,
    /// where it only asks.
    fn type_in(&self, block: &Block) {
        let fails = block.kind == "fails";
        let is_question = block.shows.is_some() || fails;
        wait_for(&block.text, || {
            let output = self.shell(&block.text).output().unwrap();
            let text = String::from_utf8_lossy(&output.stdout).into_owned();
            let shows = block
                .shows
                .as_ref()
                .is_none_or(|shows| text.contains(shows.as_str()));
            if output.status.success() != fails && shows {
                return Ok(());
            }
            let seen = format!("{output:?}\n{}", self.said());
            assert!(is_question, "{seen}");
            Err(seen)
        });
    }
}

#[test]
fn every_command_of_the_tutorial_works_and_shows_what_it_says() {
    let mut desk = Desk::new();
    let mut count = 0;
    for block in blocks() {
        count += 1;
        match block.kind.as_str() {
            "build" => {}
            "running" => desk.open_terminal(block),
            "" | "fails" => desk.type_in(&block),
            other => panic!("{other}"),
        }
    }
    assert!(count > 15, "{count}");
    for (_, said, block) in &desk.terminals {
        let Some(shows) = &block.shows else { continue };
        wait_for(&block.text, || {
            let said = std::fs::read_to_string(said).unwrap();
            said.contains(shows.as_str()).then_some(()).ok_or(said)
        });
    }
}
