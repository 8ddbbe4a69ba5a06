//! A collector and an agent that know each other, in one temporary folder.

use std::cell::Cell;
use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use crate::process::{Process, program};
use crate::wait_for;

/// The agent's name in all tests.
pub const AGENT: &str = "machine-17";

/// A folder, two ports, a collector and an agent.
pub struct Stack {
    dir: tempfile::TempDir,
    ingest_port: u16,
    api_port: u16,
    /// Added to `run` of the collector.
    pub collector_arguments: Vec<String>,
    /// Added to `run` of the agent.
    pub agent_arguments: Vec<String>,
    /// How the collector is started.
    pub collector_launch: Launch,
    /// How the agent is started.
    pub agent_launch: Launch,
    /// Where the agent connects to, where that is not the collector's own port on the loopback interface.
    pub agent_connects_to: Option<String>,
    /// Where the collector takes connections of agents, where that is not the loopback interface.
    pub ingest_address: Option<Ipv4Addr>,
    agent_peak_bytes: Cell<u64>,
    /// The collector, while it runs.
    pub collector: Option<Process>,
    /// The agent, while it runs.
    pub agent: Option<Process>,
    http: reqwest::Client,
    runtime: tokio::runtime::Runtime,
}

/// What stands before a program and around it: a tracer, a limit, a preloaded library.
#[derive(Debug, Clone, Default)]
pub struct Launch {
    /// A command that starts the program that is given to it, such as `prlimit --nofile=64`.
    pub prefix: Vec<String>,
    /// Environment variables.
    pub environment: Vec<(String, String)>,
}

impl Launch {
    /// The command of a program started in this way.
    fn command(&self, name: &str) -> Command {
        let program = program(name);
        let mut command = match self.prefix.split_first() {
            Some((first, rest)) => {
                let mut command = Command::new(first);
                command.args(rest).arg(program);
                command
            }
            None => Command::new(program),
        };
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        command
    }
}

/// A port that was free a moment ago.
fn free_port() -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
    listener
        .local_addr()
        .expect("a bound socket has an address")
        .port()
}

impl Stack {
    /// Neither program runs yet. The arguments are added to `run` of each.
    ///
    /// # Panics
    /// When the machine has no free port or no room for a folder.
    #[must_use]
    pub fn new(collector_arguments: &[&str], agent_arguments: &[&str]) -> Self {
        // Only plain HTTP is spoken here, but the client wants to know how it would speak TLS.
        let _ = rustls_provider();
        let dir = tempfile::Builder::new()
            .prefix("edgelogger-test-")
            .tempdir()
            .expect("a temporary folder");
        std::fs::create_dir(dir.path().join("logs")).expect("a folder for logs");
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .expect("a runtime");
        let owned = |arguments: &[&str]| arguments.iter().map(|text| (*text).to_owned()).collect();
        Self {
            dir,
            ingest_port: free_port(),
            api_port: free_port(),
            collector_arguments: owned(collector_arguments),
            agent_arguments: owned(agent_arguments),
            collector_launch: Launch::default(),
            agent_launch: Launch::default(),
            agent_connects_to: None,
            ingest_address: None,
            agent_peak_bytes: Cell::new(0),
            collector: None,
            agent: None,
            http: reqwest::Client::new(),
            runtime,
        }
    }

    /// The folder of everything.
    #[must_use]
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// A file in the folder that the agent watches (`logs/*.log`).
    #[must_use]
    pub fn log_file(&self, name: &str) -> PathBuf {
        self.dir.path().join("logs").join(name)
    }

    /// The collector's data folder.
    #[must_use]
    pub fn data_dir(&self) -> PathBuf {
        self.dir.path().join("collector")
    }

    /// The agent's state folder.
    #[must_use]
    pub fn state_dir(&self) -> PathBuf {
        self.dir.path().join("agent")
    }

    /// The port of the ingest listener.
    #[must_use]
    pub const fn ingest_port(&self) -> u16 {
        self.ingest_port
    }

    /// The URL of the API.
    #[must_use]
    pub fn api(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}{path}", self.api_port)
    }

    /// Starts the collector and waits until it is ready.
    pub fn start_collector(&mut self) {
        self.launch_collector();
        wait_for("the collector is ready", || {
            if let Some(collector) = &mut self.collector
                && let Err(why) = collector.check_alive()
            {
                panic!("the collector {why}");
            }
            self.get("/readyz").map(|_| ())
        });
    }

    /// Starts the collector without waiting for it.
    pub fn launch_collector(&mut self) {
        let mut command = self.collector_launch.command("edgelogger-collector");
        command.arg("run").arg("--data-dir").arg(self.data_dir());
        let ingest = self.ingest_address.unwrap_or(Ipv4Addr::LOCALHOST);
        command.args(["--ingest-listen", &format!("{ingest}:{}", self.ingest_port)]);
        command.args(["--api-listen", &format!("127.0.0.1:{}", self.api_port)]);
        command.args(&self.collector_arguments);
        self.collector = Some(Process::start(
            &mut command,
            &self.dir.path().join("collector.out"),
        ));
    }

    /// Starts the agent on `logs/*.log`. The collector must have run once, so that there is a token.
    pub fn start_agent(&mut self) {
        let token = self.token_file();
        let mut command = self.agent_launch.command("edgelogger-agent");
        let own = format!("localhost:{}", self.ingest_port);
        let collector = self.agent_connects_to.as_ref().unwrap_or(&own);
        command.args(["run", "--collector", &format!("wss://{collector}")]);
        command
            .arg("--ca")
            .arg(self.data_dir().join("tls/ca.pem"))
            .arg("--token-file")
            .arg(token);
        command.arg("--state-dir").arg(self.state_dir());
        command.arg("--file").arg(self.dir.path().join("logs/*.log"));
        command.args(&self.agent_arguments);
        self.agent = Some(Process::start(&mut command, &self.dir.path().join("agent.out")));
    }

    /// The agent's token, made with the collector's own command the first time.
    ///
    /// # Panics
    /// When the command fails.
    #[must_use]
    pub fn token_file(&self) -> PathBuf {
        let path = self.dir.path().join("token");
        if !path.exists() {
            let output = Command::new(program("edgelogger-collector"))
                .args(["token", "create", "--agent", AGENT, "--data-dir"])
                .arg(self.data_dir())
                .output()
                .expect("the collector's program starts");
            assert!(
                output.status.success(),
                "{}",
                String::from_utf8_lossy(&output.stderr)
            );
            std::fs::write(&path, output.stdout).expect("a token file can be written");
        }
        path
    }

    /// Both, the collector first.
    pub fn start(&mut self) {
        self.start_collector();
        self.start_agent();
    }

    /// SIGKILL to the collector.
    pub fn kill_collector(&mut self) {
        self.collector.take().into_iter().for_each(Process::kill);
    }

    /// SIGKILL to the agent.
    pub fn kill_agent(&mut self) {
        self.agent_peak_bytes();
        self.agent.take().into_iter().for_each(Process::kill);
    }

    /// The most resident memory that an agent of this stack had, as far as anybody looked: here, and before each stop.
    pub fn agent_peak_bytes(&self) -> u64 {
        let now = self.agent.as_ref().and_then(|agent| agent.memory_bytes("VmHWM:"));
        let peak = self.agent_peak_bytes.get().max(now.unwrap_or(0));
        self.agent_peak_bytes.set(peak);
        peak
    }

    /// What the running agent says of itself.
    ///
    /// # Errors
    /// It does not answer.
    pub fn agent_status(&self) -> Result<Value, String> {
        let mut command = Command::new(program("edgelogger-agent"));
        command
            .args(["status", "--json", "--state-dir"])
            .arg(self.state_dir());
        let output = command.output().map_err(|error| error.to_string())?;
        serde_json::from_slice(&output.stdout)
            .map_err(|_| String::from_utf8_lossy(&output.stderr).into_owned())
    }

    /// SIGTERM to the agent; its end awaited.
    pub fn stop_agent(&mut self) {
        self.agent_peak_bytes();
        if let Some(agent) = self.agent.take() {
            agent.stop();
        }
    }

    /// SIGTERM to the collector; its end awaited.
    pub fn stop_collector(&mut self) {
        if let Some(collector) = self.collector.take() {
            collector.stop();
        }
    }

    /// What both programs said last.
    #[must_use]
    pub fn said(&self) -> String {
        let words = |process: &Option<Process>| process.as_ref().map_or_else(String::new, Process::said);
        format!(
            "agent:\n{}\ncollector:\n{}",
            words(&self.agent),
            words(&self.collector)
        )
    }

    /// GET: the body as JSON (as a string where it is none).
    ///
    /// # Errors
    /// No answer, or a status that is not 2xx.
    pub fn get(&self, path: &str) -> Result<Value, String> {
        self.ask(self.http.get(self.api(path)))
    }

    /// A query: its rows.
    ///
    /// # Errors
    /// What the collector answers.
    pub fn sql(&self, query: &str) -> Result<Vec<Vec<Value>>, String> {
        let body = serde_json::json!({ "query": query });
        let answer = self.ask(self.http.post(self.api("/api/v1/sql")).json(&body))?;
        let rows = answer["rows"]
            .as_array()
            .ok_or_else(|| format!("no rows in {answer}"))?;
        let row = |row: &Value| row.as_array().cloned().ok_or_else(|| format!("a row is {row}"));
        rows.iter().map(row).collect()
    }

    fn ask(&self, request: reqwest::RequestBuilder) -> Result<Value, String> {
        self.runtime.block_on(async {
            let answer = request.send().await.map_err(|error| format!("{error:?}"))?;
            let status = answer.status();
            let text = answer.text().await.map_err(|error| format!("{error:?}"))?;
            if !status.is_success() {
                return Err(format!("{status}: {text}"));
            }
            Ok(serde_json::from_str(&text).unwrap_or(Value::String(text)))
        })
    }
}

fn rustls_provider() -> Result<(), std::sync::Arc<rustls::crypto::CryptoProvider>> {
    rustls::crypto::aws_lc_rs::default_provider().install_default()
}
