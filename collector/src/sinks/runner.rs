//! The thread of a sink.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use edgelogger_common::error_code;
use edgelogger_common::segment::{Frame, LogView, ReadItem, SegmentError, SegmentReader};
use edgelogger_proto::v1::{LogEntry, log_entry};
use edgelogger_store::{LogGapKind, Missed};
use prost::Message;
use tokio_util::sync::CancellationToken;

use super::{DeadLetters, Outcome, Remedy, Sink, SinkError};
use crate::flow::{DurableEnd, SinkCounts, SinkProgress};
use crate::health::{Health, PanicWatch};

/// How long a sink sleeps at most when nothing comes: how soon it notices a stop that nobody told it of.
const IDLE_WAIT: Duration = Duration::from_millis(500);
/// Pauses between attempts: doubled from the first to the last.
const RETRY_PAUSE_MIN: Duration = Duration::from_millis(200);
const RETRY_PAUSE_MAX: Duration = Duration::from_secs(10);
/// Between attempts of a sink that waits for a person.
const STOPPED_PAUSE: Duration = Duration::from_secs(30);
/// A page that the device can't read for this long is taken for damage.
const UNREADABLE_FOR: Duration = Duration::from_secs(120);
/// How long health shows a loss.
const LOSS_SHOWN_FOR: Duration = Duration::from_secs(24 * 3600);

/// What a sink's thread works with.
pub struct Runner {
    /// The sink.
    pub sink: Box<dyn Sink>,
    /// The log.
    pub view: LogView,
    /// News of the log.
    pub durable_end: Arc<DurableEnd>,
    /// Told to everyone else.
    pub progress: Arc<SinkProgress>,
    /// Problems.
    pub health: Arc<Health>,
    /// Where entries go that can't be applied.
    pub dead_letters: Arc<DeadLetters>,
    /// Apply nothing: the log keeps what comes.
    pub paused: bool,
}

/// A sink at work.
#[derive(Debug)]
pub struct RunningSink {
    stop: CancellationToken,
    durable_end: Arc<DurableEnd>,
    thread: JoinHandle<()>,
}

impl RunningSink {
    /// Lets the sink apply what is durable in the log, make it durable itself, and end. Blocks for as long.
    pub fn stop(self) {
        self.stop.cancel();
        self.durable_end.wake();
        if self.thread.join().is_err() {
            tracing::error!("a sink ended with a panic");
        }
    }
}

/// The sink was told to stop.
struct Stopped;

impl Runner {
    /// Begins.
    ///
    /// # Errors
    /// When the system gives no thread.
    pub fn start(self) -> std::io::Result<RunningSink> {
        let stop = CancellationToken::new();
        let durable_end = Arc::clone(&self.durable_end);
        let (stopped, name) = (stop.clone(), format!("sink-{}", self.sink.name()));
        let mut work = Work {
            subject: format!("sink {}", self.sink.name()),
            runner: self,
            stop: stopped,
        };
        let thread = std::thread::Builder::new().name(name).spawn(move || work.run())?;
        Ok(RunningSink {
            stop,
            durable_end,
            thread,
        })
    }
}

struct Work {
    runner: Runner,
    subject: String,
    stop: CancellationToken,
}

impl Work {
    fn run(&mut self) {
        let _watch = PanicWatch::new(&self.runner.health, &self.subject, error_code::SINK_STOPPED);
        if self.runner.paused {
            self.rest();
        } else if let Ok(mut reader) = self.reader() {
            while self.step(&mut reader).is_ok() {}
        }
        if let Err(error) = self.runner.sink.finish() {
            tracing::warn!(
                "{} did not finish: {error}; the log has what is missing",
                self.subject
            );
        }
        self.tell_progress();
    }

    /// Applies nothing until the collector stops, and says so.
    fn rest(&self) {
        let what = "paused by its configuration; what comes stays in the log, and is applied after a start without `paused`";
        self.runner
            .health
            .raise(&self.subject, error_code::SINK_STOPPED, what);
        while self.pause(STOPPED_PAUSE).is_ok() {}
    }

    /// A reader at the cursor; waits while the log can't give one.
    fn reader(&mut self) -> Result<SegmentReader, Stopped> {
        loop {
            let cursor = self.runner.sink.cursor();
            let first = self.runner.view.first_sequence();
            match self.runner.view.reader(cursor.max(first)) {
                Ok(reader) => {
                    self.goes_on();
                    // A sink that never read anything misses nothing of what was dropped before it.
                    if cursor > 1 && cursor < first {
                        let what = "they were dropped before this sink had read them";
                        self.lost(cursor, first, LogGapKind::Skipped, what);
                    } else if cursor < first {
                        self.runner.sink.skip(first - 1);
                    }
                    return Ok(reader);
                }
                Err(error) => {
                    self.on_read_error(&error);
                    self.pause(STOPPED_PAUSE)?;
                }
            }
        }
    }

    /// One item of the log, or a wait for more.
    fn step(&mut self, reader: &mut SegmentReader) -> Result<(), Stopped> {
        match self.read(reader)? {
            Some(ReadItem::Frame(frame)) => self.on_frame(&frame),
            Some(ReadItem::Damaged {
                from_sequence,
                to_sequence,
                reason,
            }) => {
                self.lost(
                    from_sequence,
                    to_sequence,
                    LogGapKind::Damaged,
                    &format!("they can't be read any more ({reason})"),
                );
                Ok(())
            }
            Some(ReadItem::Dropped {
                from_sequence,
                to_sequence,
            }) => {
                self.lost(
                    from_sequence,
                    to_sequence,
                    LogGapKind::Skipped,
                    "the log was full and could not wait for this sink",
                );
                Ok(())
            }
            None if self.stop.is_cancelled() => Err(Stopped),
            None => {
                self.tell_progress();
                self.runner
                    .durable_end
                    .wait_beyond(reader.next_sequence(), IDLE_WAIT);
                Ok(())
            }
        }
    }

    /// Reads on; a device that fails is asked again for a while, then stepped over.
    fn read(&mut self, reader: &mut SegmentReader) -> Result<Option<ReadItem>, Stopped> {
        let (since, mut pause) = (Instant::now(), RETRY_PAUSE_MIN);
        loop {
            match reader.next() {
                Ok(item) => {
                    if pause > RETRY_PAUSE_MIN {
                        // The next one that can't be read has its own time to heal.
                        reader.step_over_unreadable(false);
                        self.goes_on();
                    }
                    return Ok(item);
                }
                Err(error) => self.on_read_error(&error),
            }
            if since.elapsed() > UNREADABLE_FOR {
                reader.step_over_unreadable(true);
            }
            self.pause(pause)?;
            pause = (pause * 2).min(RETRY_PAUSE_MAX);
        }
    }

    fn on_read_error(&self, error: &SegmentError) {
        self.runner.progress.failing.store(true, Ordering::Relaxed);
        self.runner.health.raise(
            &self.subject,
            *error.code(),
            format!("cannot read the commit log: {error}"),
        );
    }

    fn on_frame(&mut self, frame: &Frame) -> Result<(), Stopped> {
        let sequence = frame.sequence;
        let entry = match LogEntry::decode(frame.payload.clone()) {
            Ok(entry) => entry,
            Err(error) => {
                let error = SinkError {
                    remedy: Remedy::DeadLetter,
                    code: error_code::MALFORMED_BLOCK,
                    message: format!("it is no log entry: {error}"),
                };
                return self.put_aside(frame, None, &error);
            }
        };
        if sequence < self.runner.sink.cursor() {
            return Ok(());
        }
        let records = records_of(&entry);
        let mut pause = RETRY_PAUSE_MIN;
        loop {
            let error = match self.runner.sink.apply(sequence, &entry) {
                Ok(outcome) => {
                    self.applied(records, outcome);
                    return Ok(());
                }
                Err(error) => error,
            };
            match error.remedy {
                Remedy::DeadLetter => {
                    return self.put_aside(frame, Some(&entry), &error);
                }
                Remedy::Retry => self.failing(&error, pause)?,
                Remedy::Stop => self.failing(&error, STOPPED_PAUSE)?,
            }
            pause = (pause * 2).min(RETRY_PAUSE_MAX);
        }
    }

    fn applied(&mut self, records: u64, outcome: Outcome) {
        let progress = &self.runner.progress;
        let Outcome { applied, duplicate } = outcome;
        progress.count(SinkCounts {
            read: records,
            applied,
            duplicate,
            dead_lettered: 0,
        });
        self.goes_on();
        self.tell_progress();
    }

    /// What failed works again.
    fn goes_on(&self) {
        if self.runner.progress.failing.swap(false, Ordering::Relaxed) {
            self.runner.health.clear(&self.subject);
            tracing::info!("{} goes on", self.subject);
        }
    }

    fn failing(&mut self, error: &SinkError, pause: Duration) -> Result<(), Stopped> {
        self.runner.progress.failing.store(true, Ordering::Relaxed);
        self.runner
            .health
            .raise(&self.subject, error.code, error.message.clone());
        self.pause(pause)
    }

    /// The sink waits until the entry is kept elsewhere: the log has the only copy.
    fn put_aside(
        &mut self,
        frame: &Frame,
        entry: Option<&LogEntry>,
        error: &SinkError,
    ) -> Result<(), Stopped> {
        let (sequence, why) = (frame.sequence, &error.message);
        let records = entry.map_or(0, records_of);
        let path = self.keep_aside(frame, why)?;
        self.goes_on();
        let what = format!(
            "log entry {sequence} with {records} records can't be applied: {why}; it is kept in {path}"
        );
        self.runner.progress.count(SinkCounts {
            read: records,
            dead_lettered: records,
            ..SinkCounts::default()
        });
        self.runner.sink.step_over(&Missed {
            entries: sequence..sequence + 1,
            kind: LogGapKind::DeadLettered,
            what: &what,
            dead_letter: entry.map(|entry| (entry, error.code.code)),
            records,
        });
        let subject = format!("{} dead letters", self.subject);
        self.runner
            .health
            .raise_for(LOSS_SHOWN_FOR, &subject, error_code::SINK_STOPPED, what);
        self.tell_progress();
        Ok(())
    }

    fn keep_aside(&mut self, frame: &Frame, why: &str) -> Result<String, Stopped> {
        let (sequence, name) = (frame.sequence, self.runner.sink.name());
        let mut pause = RETRY_PAUSE_MIN;
        loop {
            let problem = match self.runner.dead_letters.put(name, sequence, &frame.payload) {
                Ok(path) => return Ok(path),
                Err(problem) => problem,
            };
            let message = format!(
                "log entry {sequence} can't be applied ({why}), nor kept aside: {problem}; the sink waits"
            );
            let error = SinkError {
                remedy: Remedy::Retry,
                code: error_code::SINK_STOPPED,
                message,
            };
            self.failing(&error, pause)?;
            pause = (pause * 2).min(RETRY_PAUSE_MAX);
        }
    }

    fn lost(&mut self, from: u64, to: u64, kind: LogGapKind, why: &str) {
        let what = format!(
            "entries {from} to {} of the log never came to this sink: {why}",
            to.saturating_sub(1)
        );
        self.runner.sink.step_over(&Missed {
            entries: from..to,
            kind,
            what: &what,
            dead_letter: None,
            records: 0,
        });
        let subject = format!("{} losses", self.subject);
        self.runner
            .health
            .raise_for(LOSS_SHOWN_FOR, &subject, error_code::LOG_DAMAGED, what);
        self.tell_progress();
    }

    fn tell_progress(&self) {
        let sink = &self.runner.sink;
        let progress = &self.runner.progress;
        progress.set(sink.cursor(), sink.durable_cursor(), sink.held_cursor());
    }

    /// Sleeps, unless told to stop.
    fn pause(&self, time: Duration) -> Result<(), Stopped> {
        let deadline = Instant::now() + time;
        while Instant::now() < deadline {
            if self.stop.is_cancelled() {
                return Err(Stopped);
            }
            let left = deadline.saturating_duration_since(Instant::now());
            std::thread::sleep(left.min(Duration::from_millis(50)));
        }
        Ok(())
    }
}

fn records_of(entry: &LogEntry) -> u64 {
    match &entry.body {
        Some(log_entry::Body::Batch(batch)) => u64::from(batch.record_count),
        _ => 0,
    }
}
