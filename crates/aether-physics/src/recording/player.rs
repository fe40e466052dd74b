//! Plays a recording to a physics engine, in virtual time.

use std::collections::VecDeque;
use std::io::Read;
use std::time::{Duration, SystemTime};

use super::entry::{Fault, RecordedEntry};
use super::{RecordingError, RecordingReader};
use crate::engine::{PhysicsEngine, PhysicsReport};
use crate::finding::Finding;
use crate::incidents::Incident;
use aether_core::clock::Instant;

/// The time between two reports, in which edges of the map become findings.
const REPORT_EVERY: Duration = Duration::from_secs(5);

/// Plays a recording to a [`PhysicsEngine`], in virtual time: an iterator over the results and their times since the
/// beginning. It does what an observer of the running bus does: it ticks at each
/// [`PhysicsEngine::next_change`], reports every five seconds, and announces losses and pauses. It sleeps for none of
/// that, so an hour is played in seconds.
#[derive(Debug)]
pub struct RecordingPlayer<R: Read> {
    reader: RecordingReader<R>,
    engine: PhysicsEngine,
    start: Instant,
    next: Option<(Duration, RecordedEntry)>,
    report_at: Duration,
    waiting: VecDeque<(Duration, Played)>,
    waves: u64,
    /// The time of the last entry.
    length: Duration,
    is_done: bool,
}

/// A result of playing a recording.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum Played {
    /// A detector found something.
    Finding(Finding),
    /// An incident began or ended.
    Incident(Incident),
    /// The recording notes that a fault begins or ends.
    Fault {
        /// The fault.
        fault: Fault,
        /// Whether it begins here; otherwise it ends here.
        begins: bool,
    },
}

impl<R: Read> RecordingPlayer<R> {
    /// Plays a recording to an engine that has seen nothing.
    #[must_use]
    pub fn new(reader: RecordingReader<R>, engine: PhysicsEngine) -> Self {
        Self {
            reader,
            engine,
            // Any instant does. Detectors look back from it by the ages of waves.
            start: aether_core::clock::now(),
            next: None,
            report_at: REPORT_EVERY,
            waiting: VecDeque::new(),
            waves: 0,
            length: Duration::ZERO,
            is_done: false,
        }
    }

    /// The time of the wall clock at the beginning of the recording.
    #[must_use]
    pub fn started_at(&self) -> SystemTime {
        self.reader.started_at()
    }

    /// The number of waves played so far.
    #[must_use]
    pub fn waves(&self) -> u64 {
        self.waves
    }

    /// The time of the latest entry, since the beginning.
    #[must_use]
    pub fn length(&self) -> Duration {
        self.length
    }

    /// The state of the engine at the present moment of the recording.
    pub fn report(&mut self) -> PhysicsReport {
        self.engine.report()
    }

    /// Advances to the time of an entry, as an observer that runs in between.
    fn advance(&mut self, to: Duration) {
        loop {
            let change = self.engine.next_change().map(|at| at.saturating_duration_since(self.start));
            match change.filter(|at| *at <= to) {
                Some(change) if change <= self.report_at => {
                    let before = self.engine.next_change();
                    self.tick(change);
                    // A change that stays where it is comes with the next wave.
                    if self.engine.next_change() == before {
                        break;
                    }
                }
                _ if self.report_at <= to => self.report_then_tick(),
                _ => break,
            }
        }
        while self.report_at <= to {
            self.report_then_tick();
        }
    }

    fn report_then_tick(&mut self) {
        let at = self.report_at;
        self.engine.report();
        self.tick(at);
        self.report_at = at + REPORT_EVERY;
    }

    fn tick(&mut self, at: Duration) {
        while let Some(finding) = self.engine.tick(self.start + at) {
            self.waiting.push_back((at, Played::Finding(finding)));
        }
        while let Some(incident) = self.engine.incident() {
            self.waiting.push_back((at, Played::Incident(incident)));
        }
    }

    fn take(&mut self, at: Duration, entry: RecordedEntry) {
        let now = self.start + at;
        match entry {
            RecordedEntry::Wave(wave) => {
                self.waves += 1;
                self.engine.observe(&wave, now);
            }
            RecordedEntry::Lost { waves, within } => {
                self.engine.lost(waves, self.start + at.saturating_sub(within), now);
            }
            RecordedEntry::Paused { lasted } => {
                self.engine.not_seen(self.start + at.saturating_sub(lasted), now);
            }
            RecordedEntry::Link { connected: true } => self.engine.connected(now),
            RecordedEntry::Link { connected: false } => self.engine.disconnected(now),
            RecordedEntry::Tuned { vibrator, patterns } => self.engine.tuned(&vibrator, &patterns),
            RecordedEntry::Fault { fault, begins } => {
                self.waiting.push_back((at, Played::Fault { fault, begins }));
            }
        }
        self.tick(at);
    }
}

impl<R: Read> Iterator for RecordingPlayer<R> {
    type Item = Result<(Duration, Played), RecordingError>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Some(played) = self.waiting.pop_front() {
                return Some(Ok(played));
            }
            if let Some((at, entry)) = self.next.take() {
                self.take(at, entry);
                continue;
            }
            if self.is_done {
                return None;
            }
            match self.reader.next() {
                Some(Ok((at, entry))) => {
                    // While the observer did not run, it did not tick either.
                    let ran_until = match &entry {
                        RecordedEntry::Paused { lasted } => at.saturating_sub(*lasted),
                        _ => at,
                    };
                    self.advance(ran_until);
                    self.length = at;
                    self.next = Some((at, entry));
                }
                Some(Err(error)) => {
                    self.is_done = true;
                    return Some(Err(error));
                }
                None => {
                    self.is_done = true;
                    self.report_at = self.length;
                    self.report_then_tick();
                }
            }
        }
    }
}
