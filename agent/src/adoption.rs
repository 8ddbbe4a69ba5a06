//! An agent whose state is lost goes on where it was: it asks the collector what is stored of the files of this machine.
//!
//! ```text
//! state is blank ──> Hello asks ──> Welcome answers ──> sources compare content ──> streams go on
//! ```
//!
//! Until there is an answer, sources make no new streams, for at most [`WAIT_MAX`]: what is collected meanwhile could
//! go nowhere anyway. A collector that does not know the question answers with nothing.

use std::sync::Arc;
use std::time::Duration;

use edgelogger_proto::v1::{SourceKind, StoredStream};
use parking_lot::Mutex;

use crate::checkpoint::{Checkpoints, MachineMark};
use crate::sources::file::Waker;

/// How long sources wait for an answer. Files that are deleted meanwhile are held open; only what beyond their number
/// comes and goes within this time would be missed.
pub const WAIT_MAX: Duration = Duration::from_secs(600);

/// The question and its answer. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Adoption(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    machine: MachineMark,
    answer: Mutex<Option<Arc<[StoredStream]>>>,
    wakers: Mutex<Vec<Waker>>,
}

impl Adoption {
    /// Where nothing is known of an earlier time: no collector ever answered, and no file has a stream. `None` too on a
    /// machine that can't be told from others.
    #[must_use]
    pub fn needed(checkpoints: &Checkpoints) -> Option<Self> {
        let file = i32::from(SourceKind::File);
        let is_blank = checkpoints.log_id().is_none()
            && !checkpoints
                .streams()
                .iter()
                .any(|state| state.descriptor.kind == file);
        let machine = checkpoints.machine_mark().filter(|_| is_blank)?;
        Some(Self::of(machine))
    }

    /// On this machine.
    #[must_use]
    pub fn of(machine: MachineMark) -> Self {
        let answer = Mutex::new(None);
        let wakers = Mutex::default();
        Self(Arc::new(Shared {
            machine,
            answer,
            wakers,
        }))
    }

    /// What to ask with; `None` once there is an answer.
    #[must_use]
    pub fn question(&self) -> Option<MachineMark> {
        self.0.answer.lock().is_none().then_some(self.0.machine)
    }

    /// The first answer counts.
    pub fn answered(&self, stored: Vec<StoredStream>) {
        self.0.answer.lock().get_or_insert_with(|| stored.into());
        self.0.wakers.lock().drain(..).for_each(|waker| waker.wake());
    }

    /// Who waits for the answer, and is woken by it. One that comes later has it already.
    pub fn wake_when_answered(&self, waker: Waker) {
        self.0.wakers.lock().push(waker);
    }

    /// The answer, once there is one.
    #[must_use]
    pub fn answer(&self) -> Option<Arc<[StoredStream]>> {
        self.0.answer.lock().clone()
    }
}
