//! Sleeping in a way that can be cut short: what a source waits on, and what wakes it when the agent stops.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::time::Duration;

use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};
use rustix::fd::OwnedFd;
use rustix::io::Errno;

/// Wakes whoever waits on it. Cheap to clone; all clones are one alarm.
#[derive(Debug, Clone)]
pub struct Alarm(Arc<OwnedFd>);

impl Alarm {
    /// A silent alarm.
    ///
    /// # Errors
    /// No descriptor is left.
    pub fn new() -> io::Result<Self> {
        Ok(Self(Arc::new(eventfd(
            0,
            EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK,
        )?)))
    }

    /// Makes every wait from now on return at once: it is for stopping.
    pub fn ring(&self) {
        // It fails only when the counter is full, and then it is ringing already.
        let _ = rustix::io::write(&*self.0, &1u64.to_ne_bytes());
    }

    /// Waits for `timeout`; `true` if the alarm rang.
    #[must_use]
    pub fn wait(&self, timeout: Duration) -> bool {
        self.wait_for::<0>([], Some(timeout)).is_none()
    }

    /// Waits until one of `sources` can be read (or is closed), or for `timeout` (`None`: for ever). `None` if the
    /// alarm rang; otherwise which of them can be read.
    #[must_use]
    pub fn wait_for<const N: usize>(
        &self,
        sources: [BorrowedFd<'_>; N],
        timeout: Option<Duration>,
    ) -> Option<[bool; N]> {
        let mut polled: Vec<PollFd<'_>> = sources
            .iter()
            .map(|source| PollFd::from_borrowed_fd(*source, PollFlags::IN))
            .chain([PollFd::new(&*self.0, PollFlags::IN)])
            .collect();
        let timeout = timeout.and_then(|timeout| Timespec::try_from(timeout).ok());
        match poll(&mut polled, timeout.as_ref()) {
            Ok(_) | Err(Errno::INTR) => {}
            // Nothing can be waited for (memory): better a pause than a loop at full speed.
            Err(_) => std::thread::sleep(Duration::from_millis(100)),
        }
        if !polled[N].revents().is_empty() {
            return None;
        }
        Some(std::array::from_fn(|at| !polled[at].revents().is_empty()))
    }
}

impl AsFd for Alarm {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_alarm_cuts_every_wait_short() {
        let alarm = Alarm::new().unwrap();
        assert!(!alarm.wait(Duration::from_millis(1)));
        alarm.clone().ring();
        assert!(alarm.wait(Duration::from_secs(60)));
        assert!(alarm.wait(Duration::from_secs(60)));
    }

    #[test]
    fn what_can_be_read_ends_the_wait() {
        let alarm = Alarm::new().unwrap();
        let (reader, mut writer) = io::pipe().unwrap();
        assert_eq!(
            alarm.wait_for([reader.as_fd()], Some(Duration::ZERO)),
            Some([false])
        );
        io::Write::write_all(&mut writer, b"x").unwrap();
        assert_eq!(alarm.wait_for([reader.as_fd()], None), Some([true]));
    }
}
