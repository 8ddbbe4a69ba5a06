//! Which agents are connected. One session for each agent: the newest of the same installation fences the older, a
//! second installation is refused while the first is there.
//!
//! Of sessions that ended nothing is remembered that decides anything; the book of machines is for people. An agent whose state was rolled back by a power cut comes with an
//! epoch that was used before, and has to be let in: nobody is there whom it could disturb.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use edgelogger_common::clock::Clock;
use edgelogger_common::error_code;
use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;

use super::hello::{AgentIdentity, Refusal};
use crate::health::{Health, SESSIONS_SHOWN_MAX, SessionReport, rfc3339};
use crate::machines::{Book, Entry};

/// A refused agent comes back after this: about the time in which a dead connection is noticed.
const COME_BACK: Duration = Duration::from_secs(30);
/// How long health shows a second installation after it was seen last.
const SHOWN_FOR: Duration = Duration::from_secs(600);

/// Of each connected agent.
#[derive(Debug)]
struct Live {
    identity: AgentIdentity,
    serial: u64,
    fence: CancellationToken,
    status: Arc<SessionStatus>,
}

/// What a session tells of itself.
#[derive(Debug)]
pub struct SessionStatus {
    peer: String,
    since_ns: i64,
    heard_ms: AtomicU64,
    clock_ahead_ns: AtomicI64,
    streams: AtomicU64,
    pending: AtomicU64,
    unread: AtomicU64,
}

impl SessionStatus {
    /// The agent was heard.
    pub fn heard(&self, now: Duration) {
        self.heard_ms.store(millis(now), Ordering::Relaxed);
    }

    /// The agent told its time.
    pub fn told_time(&self, agent_ns: i64, now_ns: i64) {
        self.clock_ahead_ns
            .store(agent_ns.saturating_sub(now_ns), Ordering::Relaxed);
    }

    /// The agent's backlog changed: open streams, positions read but not acknowledged, positions not read yet.
    pub fn backlog(&self, streams: u64, pending: u64, unread: u64) {
        self.streams.store(streams, Ordering::Relaxed);
        self.pending.store(pending, Ordering::Relaxed);
        self.unread.store(unread, Ordering::Relaxed);
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// All sessions.
pub struct Registry {
    clock: Arc<dyn Clock>,
    health: Arc<Health>,
    sessions_max: usize,
    live: Mutex<Sessions>,
    book: Arc<Book>,
}

#[derive(Default)]
struct Sessions {
    by_agent: HashMap<String, Live>,
    serial: u64,
}

impl std::fmt::Debug for Registry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Registry")
            .field("sessions", &self.count())
            .finish_non_exhaustive()
    }
}

/// The right to be the session of an agent; given back when dropped.
#[derive(Debug)]
pub struct Lease {
    registry: Arc<Registry>,
    agent_id: String,
    serial: u64,
    /// Cancelled when a newer session of the same installation takes over.
    pub fence: CancellationToken,
    /// What this session tells of itself.
    pub status: Arc<SessionStatus>,
}

impl Registry {
    /// Without sessions.
    #[must_use]
    pub fn new(clock: Arc<dyn Clock>, health: Arc<Health>, sessions_max: usize) -> Arc<Self> {
        Arc::new(Self {
            clock,
            health,
            sessions_max,
            live: Mutex::default(),
            book: Arc::default(),
        })
    }

    /// Sessions now.
    #[must_use]
    pub fn count(&self) -> usize {
        self.live.lock().by_agent.len()
    }

    /// Is this agent connected?
    #[must_use]
    pub fn is_connected(&self, agent_id: &str) -> bool {
        self.live.lock().by_agent.contains_key(agent_id)
    }

    /// Makes this the session of its agent.
    ///
    /// # Errors
    /// A second installation, an older session, or too many sessions.
    pub fn admit(self: &Arc<Self>, identity: &AgentIdentity, peer: &str) -> Result<Lease, Refusal> {
        let mut live = self.live.lock();
        if let Some(current) = live.by_agent.get(&identity.agent_id) {
            self.check_against(current, identity, peer)?;
            current.fence.cancel();
        } else if live.by_agent.len() >= self.sessions_max {
            let message = format!("{} agents are connected, which is the limit", self.sessions_max);
            self.health.raise_for(
                SHOWN_FOR,
                "ingest sessions",
                error_code::COLLECTOR_BUSY,
                message.clone(),
            );
            return Err(Refusal::passing(error_code::COLLECTOR_BUSY, message, COME_BACK));
        }
        live.serial += 1;
        let (serial, fence) = (live.serial, CancellationToken::new());
        let status = Arc::new(SessionStatus {
            peer: peer.to_owned(),
            since_ns: self.clock.wall_ns(),
            heard_ms: AtomicU64::new(millis(self.clock.monotonic())),
            clock_ahead_ns: AtomicI64::new(0),
            streams: AtomicU64::new(0),
            pending: AtomicU64::new(0),
            unread: AtomicU64::new(0),
        });
        let entry = Live {
            identity: identity.clone(),
            serial,
            fence: fence.clone(),
            status: Arc::clone(&status),
        };
        live.by_agent.insert(identity.agent_id.clone(), entry);
        self.book.greeted(&identity.agent_id, self.greeting(identity));
        Ok(Lease {
            registry: Arc::clone(self),
            agent_id: identity.agent_id.clone(),
            serial,
            fence,
            status,
        })
    }

    fn greeting(&self, identity: &AgentIdentity) -> Entry {
        let now_ns = self.clock.wall_ns();
        Entry {
            first_seen_ns: now_ns,
            last_seen_ns: now_ns,
            agent_version: identity.agent_version.clone(),
            hostname: identity.hostname.clone(),
            labels: identity.labels.clone(),
            clock_ahead_ns: 0,
        }
    }

    /// What agents said of themselves, those included that went.
    #[must_use]
    pub const fn book(&self) -> &Arc<Book> {
        &self.book
    }

    /// All sessions, by agent.
    #[must_use]
    pub fn sessions(&self) -> HashMap<String, SessionReport> {
        let now = millis(self.clock.monotonic());
        let live = self.live.lock();
        let sessions = live.by_agent.iter();
        sessions
            .map(|(agent, live)| (agent.clone(), live.report(now)))
            .collect()
    }

    fn check_against(&self, current: &Live, identity: &AgentIdentity, peer: &str) -> Result<(), Refusal> {
        let agent = &identity.agent_id;
        if current.identity.instance_id != identity.instance_id {
            let message = format!(
                "a second installation says it is {agent:?}: one is connected from {} (host {:?}), \
                 another tried from {peer} (host {:?})",
                current.status.peer, current.identity.hostname, identity.hostname
            );
            let subject = format!("agent {agent}");
            self.health
                .raise_for(SHOWN_FOR, &subject, error_code::WRONG_INSTANCE, message.clone());
            return Err(Refusal::passing(error_code::WRONG_INSTANCE, message, COME_BACK));
        }
        if current.identity.session_epoch >= identity.session_epoch {
            let message = format!(
                "session {} of {agent:?} is older than session {}, which is connected",
                identity.session_epoch, current.identity.session_epoch
            );
            return Err(Refusal::passing(error_code::STALE_EPOCH, message, COME_BACK));
        }
        Ok(())
    }

    /// The sessions, at most [`SESSIONS_SHOWN_MAX`], by name.
    #[must_use]
    pub fn report(&self) -> Vec<SessionReport> {
        let now = millis(self.clock.monotonic());
        let live = self.live.lock();
        let mut sessions: Vec<&Live> = live.by_agent.values().collect();
        sessions.sort_unstable_by(|a, b| a.identity.agent_id.cmp(&b.identity.agent_id));
        sessions
            .iter()
            .take(SESSIONS_SHOWN_MAX)
            .map(|live| live.report(now))
            .collect()
    }
}

impl Live {
    fn report(&self, now_ms: u64) -> SessionReport {
        let status = &self.status;
        SessionReport {
            agent: self.identity.agent_id.clone(),
            version: self.identity.agent_version.clone(),
            hostname: self.identity.hostname.clone(),
            peer: status.peer.clone(),
            since: rfc3339(status.since_ns),
            silent_ms: now_ms.saturating_sub(status.heard_ms.load(Ordering::Relaxed)),
            clock_ahead_ms: status.clock_ahead_ns.load(Ordering::Relaxed) / 1_000_000,
            streams: status.streams.load(Ordering::Relaxed),
            pending: status.pending.load(Ordering::Relaxed),
            unread: status.unread.load(Ordering::Relaxed),
        }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        let mut live = self.registry.live.lock();
        if live
            .by_agent
            .get(&self.agent_id)
            .is_some_and(|live| live.serial == self.serial)
        {
            live.by_agent.remove(&self.agent_id);
            let registry = &self.registry;
            let clock_ahead_ns = self.status.clock_ahead_ns.load(Ordering::Relaxed);
            let now_ns = registry.clock.wall_ns();
            registry.book.left(&self.agent_id, now_ns, clock_ahead_ns);
        }
    }
}

#[cfg(test)]
mod tests {
    use edgelogger_common::clock::ManualClock;

    use super::*;

    fn registry() -> Arc<Registry> {
        let clock = Arc::new(ManualClock::at(0));
        let health = Health::new(Arc::<ManualClock>::clone(&clock));
        Registry::new(clock, health, 2)
    }

    fn agent(name: &str, instance: u8, session_epoch: u64) -> AgentIdentity {
        AgentIdentity {
            tenant: "default".into(),
            agent_id: name.into(),
            instance_id: [instance; 16],
            session_epoch,
            agent_version: String::new(),
            labels: Default::default(),
            hostname: String::new(),
        }
    }

    #[test]
    fn the_newest_session_of_an_installation_fences_the_older() {
        let registry = registry();
        let old = registry.admit(&agent("a", 1, 5), "here").unwrap();
        let new = registry.admit(&agent("a", 1, 6), "here").unwrap();
        assert!(old.fence.is_cancelled() && !new.fence.is_cancelled());
        drop(old);
        assert_eq!(registry.count(), 1, "the end of the older leaves the newer alone");
        drop(new);
        assert_eq!(registry.count(), 0);
    }

    #[test]
    fn an_older_session_and_a_second_installation_are_refused() {
        let registry = registry();
        let _live = registry.admit(&agent("a", 1, 5), "here").unwrap();
        for epoch in [4, 5] {
            assert_eq!(
                registry
                    .admit(&agent("a", 1, epoch), "here")
                    .unwrap_err()
                    .code
                    .code,
                "E0204"
            );
        }
        assert!(registry.health.problems().is_empty());
        assert_eq!(
            registry.admit(&agent("a", 2, 9), "there").unwrap_err().code.code,
            "E0203"
        );
        assert_eq!(registry.health.problems()[0].subject, "agent a");
    }

    #[test]
    fn an_agent_that_is_alone_is_let_in_whatever_its_epoch() {
        let registry = registry();
        drop(registry.admit(&agent("a", 1, 5), "here").unwrap());
        registry.admit(&agent("a", 1, 1), "here").unwrap();
        registry.admit(&agent("a", 2, 1), "here").unwrap();
    }

    #[test]
    fn the_number_of_sessions_is_bounded() {
        let registry = registry();
        let _two = ["a", "b"].map(|name| registry.admit(&agent(name, 1, 1), "here").unwrap());
        let refusal = registry.admit(&agent("c", 1, 1), "here").unwrap_err();
        assert_eq!(
            (refusal.code.code, refusal.retry_after.is_some()),
            ("E0221", true)
        );
    }
}
