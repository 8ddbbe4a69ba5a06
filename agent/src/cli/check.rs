//! `check`: what would be collected.

use std::fmt::Write;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use edgelogger_common::clock::SystemClock;
use edgelogger_common::disk::{Disk, FaultDisk, OsDisk};

use super::arguments::CheckArguments;
use super::{FAILED, Failure};
use crate::checkpoint::Checkpoints;
use crate::config::AgentConfig;
use crate::pipeline::own_paths;
use crate::ring::{Ring, RingLimits};
use crate::sources::file::{FileSource, FileSourceConfig, FileSourceError, SkipReason};
use crate::sources::host_metrics::HostMetricsConfig;
use crate::sources::journald::JournaldConfig;
use crate::spool::{SPOOL_DIR, files_bytes_max};
use crate::status::{harmless, size};

/// Files that are listed; the rest is counted.
const FILES_SHOWN: usize = 100;
/// Steps of a file source after which everything was found: it announces streams in portions of its ring.
const STEPS_MAX: usize = 1000;

/// What was found out, line by line, and whether all of it can be used.
#[derive(Debug, Default)]
struct Findings {
    text: String,
    problems: usize,
}

impl Findings {
    fn line(&mut self, line: &str) {
        self.text.push_str(line);
        self.text.push('\n');
    }

    fn problem(&mut self, line: &str) {
        self.problems += 1;
        let _ = writeln!(self.text, "  PROBLEM    {line}");
    }
}

#[expect(clippy::print_stdout, reason = "what the command is for")]
pub(super) fn check(arguments: &CheckArguments) -> Result<u8, Failure> {
    let flags = arguments.config.overrides();
    let config = match arguments.config.load() {
        // Which files would be read can be asked without a collector.
        Err(failure) if !arguments.connect && flags.collector.is_none() && !flags.files.is_empty() => {
            tracing::debug!("{}", failure.message);
            let mut config = AgentConfig::new(crate::transport::CollectorConfig::new("", ""));
            config.apply(&flags);
            config
        }
        loaded => {
            let config = loaded?;
            config.check()?;
            config
        }
    };
    let findings = look(&config, arguments.connect)?;
    print!("{}", findings.text);
    Ok(if findings.problems == 0 { 0 } else { FAILED })
}

fn look(config: &AgentConfig, connect: bool) -> Result<Findings, Failure> {
    let mut findings = Findings::default();
    findings.line(&format!("state       {}", config.state_dir.display()));
    if !config.labels.is_empty() {
        let labels: Vec<_> = config
            .labels
            .iter()
            .map(|(name, value)| format!("{name}={value}"))
            .collect();
        findings.line(&format!("labels      {}", harmless(&labels.join(", "))));
    }
    for file in &config.source.file {
        files(&mut findings, file, config)?;
    }
    if let Some(journald) = &config.source.journald {
        check_journald(&mut findings, journald);
    }
    if let Some(metrics) = &config.source.host_metrics {
        host_metrics(&mut findings, metrics);
    }
    if !config.collector.url.is_empty() {
        collector(&mut findings, config, connect);
    }
    Ok(findings)
}

/// Runs a real source that gets no credit: it finds everything and reads nothing. Its state is in memory.
fn files(findings: &mut Findings, file: &FileSourceConfig, config: &AgentConfig) -> Result<(), Failure> {
    let failed = |error: &dyn std::fmt::Display| Failure::new(FAILED, &error.to_string());
    let clock = Arc::new(SystemClock::new());
    let state = Path::new("/check");
    let checkpoints = Checkpoints::open(Arc::new(FaultDisk::new(0)), state, clock.clone())
        .map_err(|error| failed(&error))?;
    let ring = Ring::new(RingLimits {
        slots: 1 << 16,
        bytes: 1,
    });
    let everything = ring.source("nobody reads", 0);
    let held = everything.acquire(1);
    let handle = ring.source("check", 0);
    let mut source = FileSource::new(file.clone(), handle, checkpoints, clock, &own_paths(config))
        .map_err(|error: FileSourceError| Failure::new(super::WRONG_USE, &error))?;
    for _ in 0..STEPS_MAX {
        let Ok(wait) = source.step() else { break };
        let events = std::iter::from_fn(|| ring.try_pop()).count();
        if events == 0 && wait > Duration::ZERO {
            break;
        }
    }
    drop(held);
    show_files(findings, file, &source);
    if file.spool_before_loss {
        findings.line(&spool_of_files(config));
    }
    Ok(())
}

/// What becomes of a file that is deleted while the collector is away.
fn spool_of_files(config: &AgentConfig) -> String {
    // The state directory may not be there yet.
    let mut dirs = config.state_dir.ancestors();
    let total = dirs.find_map(|dir| OsDisk.total_bytes(dir).ok()).unwrap_or(0);
    let limits = config.spool.limits(total);
    format!(
        "  spool      what is gone with a file and not acknowledged is kept in {}, at most {}",
        config.state_dir.join(SPOOL_DIR).display(),
        size(files_bytes_max(&limits))
    )
}

fn show_files(findings: &mut Findings, file: &FileSourceConfig, source: &FileSource) {
    let status = source.status();
    let (files, skipped) = (status.files(), status.skipped(usize::MAX));
    let bytes = files.iter().map(|file| file.size).sum();
    findings.line(&format!(
        "files       {}: {} would be read ({}), {} would be skipped",
        harmless(&file.include.join(", ")),
        files.len(),
        size(bytes),
        skipped.len()
    ));
    for file in files.iter().take(FILES_SHOWN) {
        findings.line(&format!(
            "  read       {:>9}  {}",
            size(file.size),
            harmless(&file.name.display().to_string())
        ));
        if let Some(error) = &file.error {
            findings.problem(&harmless(error));
        }
    }
    for (path, reason) in skipped.iter().take(FILES_SHOWN) {
        let line = format!("{}: {reason}", path.display());
        match reason {
            SkipReason::Unreadable(_) | SkipReason::TooMany => findings.problem(&harmless(&line)),
            _ => findings.line(&format!("  skip       {}", harmless(&line))),
        }
    }
    let hidden = files.len().saturating_sub(FILES_SHOWN) + skipped.len().saturating_sub(FILES_SHOWN);
    if hidden > 0 {
        findings.line(&format!("  and {hidden} more"));
    }
    if files.is_empty() && skipped.is_empty() {
        findings.line("  nothing matches now; a file that appears later will be read");
    }
    if let Some(trouble) = status.totals().trouble {
        findings.problem(&trouble);
    }
}

fn check_journald(findings: &mut Findings, config: &JournaldConfig) {
    findings.line(&format!("journald    stream {}", harmless(&config.stream_name())));
    let program = config.journalctl.clone().unwrap_or_else(|| "journalctl".into());
    let mut command = std::process::Command::new(&program);
    command.args(["--lines=1", "--quiet", "--no-pager", "--output=short-iso"]);
    if let Some(directory) = &config.directory {
        command.arg("--directory").arg(directory);
    } else if let Some(namespace) = &config.namespace {
        command.arg(format!("--namespace={namespace}"));
    }
    match command.output() {
        Err(error) => findings.problem(&format!("{} can't be run: {error}", program.display())),
        Ok(output) if !output.status.success() => {
            let complaint = String::from_utf8_lossy(&output.stderr).trim().to_owned();
            findings.problem(&format!("journalctl failed: {}", harmless(&complaint)));
        }
        Ok(output) => {
            let last = String::from_utf8_lossy(&output.stdout).trim().to_owned();
            let shown: String = harmless(&last).chars().take(100).collect();
            let last = if shown.is_empty() {
                "no entry can be seen (no journal, or no permission)"
            } else {
                &shown
            };
            findings.line(&format!("  last       {last}"));
        }
    }
}

fn host_metrics(findings: &mut Findings, config: &HostMetricsConfig) {
    let groups = [
        ("cpu", config.cpu),
        ("load", config.load),
        ("memory", config.memory),
        ("file systems", config.file_systems),
        ("disks", config.disks),
        ("network", config.network),
        ("temperatures", config.temperatures),
    ];
    let on: Vec<_> = groups
        .iter()
        .filter(|(_, on)| *on)
        .map(|(name, _)| *name)
        .collect();
    match config.samples_now() {
        Ok(samples) => {
            let on = on.join(", ");
            findings.line(&format!(
                "metrics     every {}: {on} ({samples} samples)",
                config.interval
            ));
        }
        Err(error) => findings.problem(&format!("host metrics: {error}")),
    }
}

fn collector(findings: &mut Findings, config: &AgentConfig, connect: bool) {
    findings.line(&format!("collector   {}", harmless(&config.collector.url)));
    if !connect {
        findings.line("  not tried  (--connect tries it)");
        return;
    }
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return findings.problem(&format!("can't connect: {error}")),
    };
    let target = match config.collector.target() {
        Ok(target) => target,
        Err(error) => return findings.problem(&error.to_string()),
    };
    match runtime.block_on(crate::transport::probe(&config.collector, &target)) {
        Ok(agent_id) => {
            findings.line(&format!(
                "  connected  TLS and token are accepted; this machine is {}",
                harmless(&agent_id)
            ));
        }
        Err(error) => findings.problem(&format!("{} {}", error.code(), harmless(&error.to_string()))),
    }
}
