//! The real programs, as they are shipped, each in a process of its own.

use std::fs::File;
use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::{Outcome, http, process};

/// How long anything may take before the scenario fails.
const PATIENCE: Duration = Duration::from_secs(300);

/// The store looks for small files every few seconds when it is idle.
const SETTLED_AFTER: Duration = Duration::from_secs(15);

/// A program that runs; killed when dropped.
#[derive(Debug)]
pub struct Program {
    child: Child,
    words: PathBuf,
}

impl Program {
    /// Starts one of our programs from beside this one; what it says goes to a file.
    ///
    /// # Errors
    /// When it isn't there.
    pub fn start(name: &str, arguments: &[&str], words: PathBuf) -> Outcome<Self> {
        let path = beside_this(name)?;
        let out = File::create(&words)?;
        let child = Command::new(&path)
            .args(arguments)
            .stdin(Stdio::null())
            .stderr(out.try_clone()?)
            .stdout(out)
            .spawn()
            .map_err(|error| format!("{}: {error}; scripts/bench builds it", path.display()))?;
        Ok(Self { child, words })
    }

    /// Its process id.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Resident memory now, bytes.
    #[must_use]
    pub fn rss(&self) -> u64 {
        process::memory_bytes(self.id(), "VmRSS").unwrap_or(0)
    }

    /// The most it ever had, bytes.
    #[must_use]
    pub fn peak_rss(&self) -> u64 {
        process::memory_bytes(self.id(), "VmHWM").unwrap_or(0)
    }

    /// Seconds of processor time so far.
    #[must_use]
    pub fn cpu_seconds(&self) -> f64 {
        process::cpu_seconds_exact(self.id()).unwrap_or(0.0)
    }

    /// Bytes that it had written to disks so far.
    #[must_use]
    pub fn disk_bytes_written(&self) -> u64 {
        process::disk_bytes_written(self.id()).unwrap_or(0)
    }

    /// An error with its last words when it has ended.
    ///
    /// # Errors
    /// When it has.
    pub fn check_alive(&mut self) -> Outcome<()> {
        match self.child.try_wait()? {
            None => Ok(()),
            Some(status) => Err(format!("ended with {status}:\n{}", self.said()).into()),
        }
    }

    /// The end of what it said.
    #[must_use]
    pub fn said(&self) -> String {
        let text = std::fs::read_to_string(&self.words).unwrap_or_default();
        let lines: Vec<_> = text.lines().collect();
        lines[lines.len().saturating_sub(20)..].join("\n")
    }

    /// SIGTERM, and its end awaited.
    ///
    /// # Errors
    /// When it does not end in time.
    pub fn stop(mut self) -> Outcome<()> {
        self.end()
    }

    fn end(&mut self) -> Outcome<()> {
        if self.child.try_wait()?.is_some() {
            return Ok(());
        }
        Command::new("kill").arg(self.id().to_string()).status()?;
        let deadline = Instant::now() + PATIENCE;
        while self.child.try_wait()?.is_none() {
            if Instant::now() > deadline {
                return Err(format!("does not end on SIGTERM:\n{}", self.said()).into());
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        Ok(())
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A collector, and what an agent needs to reach it.
#[derive(Debug)]
pub struct Collector {
    /// The program.
    pub program: Program,
    /// Folder of everything of this scenario.
    pub dir: PathBuf,
    /// Where agents connect.
    pub ingest_port: u16,
    /// Where questions are asked.
    pub api_port: u16,
    arguments: Vec<String>,
}

impl Collector {
    /// Starts one in an empty folder, with this configuration, and makes a token for an agent.
    ///
    /// # Errors
    /// When it does not become ready.
    pub fn start(dir: &Path, config: &str) -> Outcome<Self> {
        // Paths in configurations count from their file.
        let dir = &dir.canonicalize()?;
        let (ingest_port, api_port) = (free_port()?, free_port()?);
        let config_path = dir.join("collector.toml");
        std::fs::write(&config_path, config)?;
        let data = dir.join("collector");
        let (config_path, data_text) = (config_path.display().to_string(), data.display().to_string());
        let (ingest, api) = (
            format!("127.0.0.1:{ingest_port}"),
            format!("127.0.0.1:{api_port}"),
        );
        let arguments = [
            "run",
            "--config",
            &config_path,
            "--data-dir",
            &data_text,
            "--ingest-listen",
            &ingest,
            "--api-listen",
            &api,
        ]
        .map(ToOwned::to_owned)
        .to_vec();
        let mut collector = Self {
            program: start_collector(dir, &arguments)?,
            dir: dir.to_owned(),
            ingest_port,
            api_port,
            arguments,
        };
        collector.wait_until_ready()?;
        Ok(collector)
    }

    fn wait_until_ready(&mut self) -> Outcome<()> {
        self.wait_until("the collector is ready", Duration::from_millis(5), |collector| {
            Ok(http::get(collector.api_port, "/readyz").is_ok().then_some(()))
        })
    }

    /// Stops it; [`Collector::restart`] starts it again.
    ///
    /// # Errors
    /// When it does not end.
    pub fn halt(&mut self) -> Outcome<()> {
        self.program.end()
    }

    /// Stops it, if it runs, and starts it again; seconds from the start until it is ready.
    ///
    /// # Errors
    /// When it does not end, or does not become ready.
    pub fn restart(&mut self) -> Outcome<f64> {
        self.halt()?;
        let start = Instant::now();
        self.program = start_collector(&self.dir, &self.arguments)?;
        self.wait_until_ready()?;
        Ok(start.elapsed().as_secs_f64())
    }

    /// Starts an agent with this configuration (a file's tables; connection and state are added) that reaches the
    /// collector at `port`: its own, or a proxy's.
    ///
    /// # Errors
    /// When it can't be started.
    pub fn agent(&self, port: u16, config: &str) -> Outcome<Program> {
        self.agent_of("bench", port, config)
    }

    /// A new token for a machine; where it lies.
    ///
    /// # Errors
    /// When it can't be made.
    pub fn token(&self, machine: &str, dir: &Path) -> Outcome<PathBuf> {
        let data = self.dir.join("collector").display().to_string();
        let output = Command::new(beside_this("edgelogger-collector")?)
            .args(["token", "create", "--agent", machine, "--data-dir", &data])
            .output()?;
        if !output.status.success() {
            return Err(String::from_utf8_lossy(&output.stderr).into_owned().into());
        }
        let path = dir.join("token");
        std::fs::write(&path, output.stdout)?;
        Ok(path)
    }

    /// The same, of another machine.
    ///
    /// # Errors
    /// When it can't be started.
    pub fn agent_of(&self, machine: &str, port: u16, config: &str) -> Outcome<Program> {
        let dir = match machine {
            "bench" => self.dir.clone(),
            machine => self.dir.join(machine),
        };
        std::fs::create_dir_all(&dir)?;
        let token = self.token(machine, &dir)?.display().to_string();
        let path = |name: &str| dir.join(name).display().to_string();
        let connection = format!(
            "state_dir = \"{}\"\n[collector]\nurl = \"wss://localhost:{port}\"\nca = \"{}\"\ntoken_file = \"{token}\"\n",
            path("agent"),
            self.ca().display(),
        );
        std::fs::write(path("agent.toml"), connection + config)?;
        Program::start(
            "edgelogger-agent",
            &["run", "--config", &path("agent.toml")],
            dir.join("agent.out"),
        )
    }

    /// What agents trust.
    #[must_use]
    pub fn ca(&self) -> PathBuf {
        self.dir.join("collector/tls/ca.pem")
    }

    /// The answer to `GET`, as JSON.
    ///
    /// # Errors
    /// When it does not answer, or refuses.
    pub fn get(&self, path: &str) -> Outcome<Value> {
        http::get(self.api_port, path)
    }

    /// The whole health report.
    ///
    /// # Errors
    /// When it does not answer.
    pub fn health(&self) -> Outcome<Value> {
        http::get(self.api_port, "/health")
    }

    /// Records that are durable.
    ///
    /// # Errors
    /// When it does not answer.
    pub fn durable_records(&self) -> Outcome<u64> {
        Ok(self.health()?["ingest"]["records"]
            .as_u64()
            .ok_or("health has no ingest.records")?)
    }

    /// Rows that the store has applied since it started.
    ///
    /// # Errors
    /// When it does not answer.
    pub fn applied(&self) -> Outcome<u64> {
        let health = self.health()?;
        let sinks = health["sinks"].as_array().ok_or("health has no sinks")?;
        let store = sinks.iter().find(|sink| sink["name"] == "store");
        Ok(store
            .and_then(|store| store["applied"].as_u64())
            .ok_or("health has no store with `applied`")?)
    }

    /// Waits until small files are merged: no file came or went for a while.
    ///
    /// # Errors
    /// They never rest.
    pub fn wait_until_settled(&mut self) -> Outcome<()> {
        let files = self.dir.join("collector/store/files");
        let (mut last, mut since) = (Vec::new(), Instant::now());
        self.wait_until("small files are merged", Duration::from_millis(200), |_| {
            let mut now = Vec::new();
            for entry in std::fs::read_dir(&files)? {
                let entry = entry?;
                // One that goes at this moment has gone.
                now.push((entry.file_name(), entry.metadata().map_or(0, |found| found.len())));
            }
            now.sort_unstable();
            if now != last {
                (last, since) = (now, Instant::now());
            }
            Ok((since.elapsed() > SETTLED_AFTER).then_some(()))
        })
    }

    /// The first value of the first row of a query.
    ///
    /// # Errors
    /// When the collector refuses it.
    pub fn sql_number(&self, query: &str) -> Outcome<u64> {
        let answer = http::post(self.api_port, "/api/v1/sql", &json!({ "query": query }))?;
        let value = &answer["rows"][0][0];
        let number = value
            .as_u64()
            .or_else(|| value.as_str().and_then(|text| text.parse().ok()));
        Ok(number.ok_or_else(|| format!("no number in {answer}"))?)
    }

    /// Asks every `interval` until there is an answer.
    ///
    /// # Errors
    /// When there is none in time, or the collector has ended.
    pub fn wait_until<T>(
        &mut self,
        what: &str,
        interval: Duration,
        mut ask: impl FnMut(&Self) -> Outcome<Option<T>>,
    ) -> Outcome<T> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(answer) = ask(self)? {
                return Ok(answer);
            }
            self.program
                .check_alive()
                .map_err(|error| format!("{what}: the collector {error}"))?;
            if Instant::now() > deadline {
                return Err(format!(
                    "{what}: not within {PATIENCE:?}; the collector said:\n{}",
                    self.program.said()
                )
                .into());
            }
            std::thread::sleep(interval);
        }
    }
}

fn start_collector(dir: &Path, arguments: &[String]) -> Outcome<Program> {
    let arguments: Vec<_> = arguments.iter().map(String::as_str).collect();
    Program::start("edgelogger-collector", &arguments, dir.join("collector.out"))
}

fn free_port() -> Outcome<u16> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port())
}

fn beside_this(name: &str) -> Outcome<PathBuf> {
    let this = std::env::current_exe()?;
    let folder = this.parent().ok_or("a program lies in a folder")?;
    Ok(folder.join(name))
}
