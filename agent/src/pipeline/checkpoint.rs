//! The thread that writes and syncs checkpoints, so that nothing else waits for a disk.

use std::io;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use crate::alarm::Alarm;
use crate::checkpoint::Checkpoints;

/// Bounds of the sleep between two looks: the interval of writes is 5 s, and an idle machine should stay idle.
const LOOK_EVERY_MIN: Duration = Duration::from_millis(500);
const LOOK_EVERY_MAX: Duration = Duration::from_secs(5);

pub(super) struct CheckpointThread {
    alarm: Alarm,
    thread: JoinHandle<()>,
}

impl CheckpointThread {
    pub fn start(checkpoints: Arc<Checkpoints>) -> io::Result<Self> {
        let alarm = Alarm::new()?;
        let thread = super::spawn("checkpoint", {
            let alarm = alarm.clone();
            move || run(&checkpoints, &alarm)
        })?;
        Ok(Self { alarm, thread })
    }

    /// Waits for its end: a write that is under way.
    pub fn stop(self) {
        self.alarm.ring();
        if self.thread.join().is_err() {
            tracing::error!("the checkpoint thread ended in a panic; please report what it printed");
        }
    }
}

fn run(checkpoints: &Checkpoints, alarm: &Alarm) {
    loop {
        let due = checkpoints
            .due_in()
            .unwrap_or(LOOK_EVERY_MAX)
            .clamp(LOOK_EVERY_MIN, LOOK_EVERY_MAX);
        if alarm.wait(due) {
            return;
        }
        if let Err(error) = checkpoints.tick() {
            tracing::error!(%error, "checkpoints could not be written; data that was acknowledged since may be sent twice after a crash");
        }
    }
}
