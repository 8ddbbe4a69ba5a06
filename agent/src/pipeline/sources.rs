//! One thread for each source.

use std::collections::{HashMap, HashSet};
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread::JoinHandle;

use crate::adoption::Adoption;
use crate::alarm::Alarm;
use crate::checkpoint::Checkpoints;
use crate::config::AgentConfig;
use crate::flow::SpoolPolicy;
use crate::pipeline::{AgentError, Ground};
use crate::ring::{RESERVE_BYTES_DEFAULT, Ring};
use crate::sources::file::{FileSource, FileSourceStatus, Waker};
use crate::sources::host_metrics::{HostMetricsSource, HostMetricsStatus};
use crate::sources::journald::{JournaldSource, JournaldStatus};
use crate::spool::Spool;

/// Views of all sources.
#[derive(Debug, Clone, Default)]
pub struct SourceStatuses {
    /// One for each `[[source.file]]`.
    pub files: Vec<FileSourceStatus>,
    /// The globs of each.
    pub file_globs: Vec<String>,
    /// `[source.journald]`.
    pub journald: Option<JournaldStatus>,
    /// `[source.host_metrics]`.
    pub host_metrics: Option<HostMetricsStatus>,
}

type Run = Box<dyn FnOnce() + Send>;

/// Sources that were made and do not run yet.
pub(super) struct Prepared {
    runs: Vec<(String, Run)>,
    wakers: Vec<Waker>,
    alarm: Alarm,
    statuses: SourceStatuses,
    /// What happens to what can't be read again where it has no room on disk, by the number of its source.
    policies: HashMap<u32, SpoolPolicy>,
    /// Numbers of the sources whose files go to the spool when they are gone.
    files: HashSet<u32>,
}

/// Sources that run.
pub struct Sources {
    threads: Vec<JoinHandle<()>>,
    wakers: Vec<Waker>,
    alarm: Alarm,
}

pub(super) fn prepare(
    config: &AgentConfig,
    ring: &Ring,
    checkpoints: &Arc<Checkpoints>,
    ground: &Ground,
    adoption: Option<&Adoption>,
    spool: Option<&Spool>,
) -> Result<Prepared, AgentError> {
    let alarm = Alarm::new().map_err(AgentError::system("make a wake-up for the sources"))?;
    let mut prepared = Prepared {
        runs: Vec::new(),
        wakers: Vec::new(),
        alarm,
        statuses: SourceStatuses::default(),
        policies: HashMap::new(),
        files: HashSet::new(),
    };
    let own_paths = own_paths(config);
    for (index, file) in config.source.file.iter().enumerate() {
        let handle = ring.source(&format!("file {index}"), RESERVE_BYTES_DEFAULT);
        if file.spool_before_loss {
            prepared.files.insert(handle.number());
        }
        let clock = Arc::clone(&ground.clock);
        let mut source = FileSource::new(file.clone(), handle, Arc::clone(checkpoints), clock, &own_paths)?;
        if let Some(adoption) = adoption {
            source.adopt_with(adoption.clone());
        }
        if let Some(spool) = spool {
            source.keep_in(spool.clone());
        }
        prepared.wakers.push(source.waker());
        prepared.statuses.files.push(source.status());
        prepared.statuses.file_globs.push(file.include.join(", "));
        prepared.add(format!("files-{index}"), move || source.run());
    }
    if let Some(journald) = config.source.journald.clone() {
        let handle = ring.source("journald", RESERVE_BYTES_DEFAULT);
        let (clock, alarm) = (Arc::clone(&ground.clock), prepared.alarm.clone());
        let source = JournaldSource::new(journald, handle, Arc::clone(checkpoints), clock, alarm);
        prepared.statuses.journald = Some(source.status());
        prepared.add("journald".to_owned(), move || source.run());
    }
    if let Some(metrics) = config.source.host_metrics.clone() {
        let handle = ring.volatile_source("host_metrics", RESERVE_BYTES_DEFAULT);
        prepared.policies.insert(handle.number(), metrics.spool);
        let (clock, alarm) = (Arc::clone(&ground.clock), prepared.alarm.clone());
        let source = HostMetricsSource::new(metrics, handle, Arc::clone(checkpoints), clock, alarm)?;
        prepared.statuses.host_metrics = Some(source.status());
        prepared.add("host-metrics".to_owned(), move || source.run());
    }
    Ok(prepared)
}

/// What is never read as a log, whatever is included: our state, and our secret.
pub(crate) fn own_paths(config: &AgentConfig) -> Vec<PathBuf> {
    [Some(&config.state_dir), config.collector.token_file.as_ref()]
        .into_iter()
        .flatten()
        .cloned()
        .collect()
}

impl Prepared {
    fn add(&mut self, name: String, run: impl FnOnce() + Send + 'static) {
        self.runs.push((name, Box::new(run)));
    }

    pub fn statuses(&self) -> SourceStatuses {
        self.statuses.clone()
    }

    pub fn policies(&self) -> HashMap<u32, SpoolPolicy> {
        self.policies.clone()
    }

    pub fn files(&self) -> HashSet<u32> {
        self.files.clone()
    }

    pub fn start(self) -> io::Result<Sources> {
        let threads = self
            .runs
            .into_iter()
            .map(|(name, run)| super::spawn(&name, run))
            .collect::<io::Result<_>>()?;
        Ok(Sources {
            threads,
            wakers: self.wakers,
            alarm: self.alarm,
        })
    }
}

impl Sources {
    /// Makes each notice that the ring was stopped.
    pub fn wake(&self) {
        self.alarm.ring();
        self.wakers.iter().for_each(Waker::wake);
    }

    pub(super) fn into_threads(self) -> Vec<JoinHandle<()>> {
        self.threads
    }
}
