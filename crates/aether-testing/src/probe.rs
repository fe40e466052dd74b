//! A probe: sees the waves of a pattern, waits for them, counts them, and fails the test with what came instead.

use std::collections::VecDeque;
use std::fmt::Write as _;
use std::panic::Location;
use std::sync::Arc;
use std::time::Duration;

use aether_core::{InboxOptions, ServeOrder, Vibrator, Wave};
use aether_service::error_chain;
use tokio::time::{Instant, timeout_at};

use crate::matcher::Matcher;
use crate::recording::Recording;
use crate::situation::Situation;
use crate::wave_line;

/// The time limit of a wait, unless [`Probe::within`] sets another.
const LIMIT: Duration = Duration::from_secs(5);
/// The most waves that a probe remembers; it forgets the oldest.
const MAX_SEEN: usize = 100_000;
/// The most waves that a failure message prints: the last ones.
const MAX_PRINTED: usize = 20;

/// Sees all waves of a pattern, questions and answers included, without taking part: it is an observer, so services
/// never wait for it, and it does not count as a receiver.
///
/// Each wave is taken once: [`wave`](Self::wave) and [`waves`](Self::waves) return the oldest ones that match and were
/// not taken, and leave the others for later calls. [`count`](Self::count) and [`recording`](Self::recording) include
/// taken ones.
#[derive(Debug)]
pub struct Probe {
    vibrator: Vibrator,
    situation: Arc<Situation>,
    limit: Duration,
    seen: VecDeque<Seen>,
    forgotten: u64,
}

#[derive(Debug)]
struct Seen {
    wave: Wave,
    /// When it was emitted, counted from the start of the bus.
    at: Duration,
    is_taken: bool,
}

impl Seen {
    fn take(&mut self) -> Wave {
        self.is_taken = true;
        self.wave.clone()
    }
}

impl Probe {
    pub(crate) async fn create(situation: Arc<Situation>, pattern: &str, at: &Location<'_>) -> Self {
        let inbox = InboxOptions::default().order(ServeOrder::Arrival).max_waves(1 << 20).max_bytes(1 << 30);
        let vibrator = match Vibrator::builder("probe").inbox(inbox).observe().create(&situation.aether).await
        {
            Ok(vibrator) => vibrator,
            Err(error) => panic!("cannot create a probe ({at}): {}", error_chain(&error)),
        };
        if let Err(error) = vibrator.resonate_on(pattern).await {
            panic!("cannot probe {pattern:?} ({at}): {}", error_chain(&error));
        }
        Self { vibrator, situation, limit: LIMIT, seen: VecDeque::new(), forgotten: 0 }
    }

    /// Sets the time limit of each wait. Default: 5 s, of virtual time if the clock is paused.
    #[must_use]
    pub fn within(mut self, limit: Duration) -> Self {
        self.limit = limit;
        self
    }

    /// Waits for the oldest wave that matches and was not taken, and takes it.
    ///
    /// # Panics
    /// If none arrives within the time limit. The message lists what came instead, near misses and accounts.
    ///
    /// # Cancel safety
    /// Cancelled before completion, no wave was taken.
    #[track_caller]
    pub fn wave(&mut self, wanted: impl Into<Matcher>) -> impl Future<Output = Wave> {
        let (at, wanted) = (Location::caller(), wanted.into());
        async move {
            match self.take(&wanted, 1).await.pop() {
                Some(wave) => wave,
                None => self.fail(at, &wanted, &format!("no wave came within {:?}", self.limit)),
            }
        }
    }

    /// Waits for this many waves that match and were not taken, and takes them, the oldest first.
    ///
    /// # Panics
    /// If fewer arrive within the time limit, counted for all of them together.
    ///
    /// # Cancel safety
    /// Cancelled before completion, no wave was taken.
    #[track_caller]
    pub fn waves(&mut self, count: usize, wanted: impl Into<Matcher>) -> impl Future<Output = Vec<Wave>> {
        let (at, wanted) = (Location::caller(), wanted.into());
        async move {
            let waves = self.take(&wanted, count).await;
            if waves.len() < count {
                let came = self.untaken(&wanted).count();
                self.fail(at, &wanted, &format!("{came} of the {count} waves came within {:?}", self.limit));
            }
            waves
        }
    }

    /// Lets this time pass, and asserts that no wave matches that was not taken, neither before nor meanwhile.
    ///
    /// # Panics
    /// As soon as one has arrived. The message shows it.
    ///
    /// # Cancel safety
    /// Cancelled before completion, no wave was taken.
    #[track_caller]
    pub fn none(&mut self, during: Duration, wanted: impl Into<Matcher>) -> impl Future<Output = ()> {
        let (at, wanted) = (Location::caller(), wanted.into());
        async move {
            self.wait(&wanted, 1, Instant::now() + during).await;
            let came = self.untaken(&wanted).next().map(|seen| wave_line::short_id(&seen.wave.id()));
            if let Some(came) = came {
                self.fail(at, &wanted, &format!("the wave {came} came, and none should"));
            }
        }
    }

    /// How many waves have matched so far, taken ones included. It does not wait.
    pub fn count(&mut self, wanted: impl Into<Matcher>) -> usize {
        let wanted = wanted.into();
        self.look();
        self.seen.iter().filter(|seen| wanted.matches(&seen.wave)).count()
    }

    /// Takes all waves that have arrived and were not taken, the oldest first. It does not wait.
    pub fn rest(&mut self) -> Vec<Wave> {
        self.look();
        let rest = self.seen.iter_mut().filter(|seen| !seen.is_taken);
        rest.map(Seen::take).collect()
    }

    /// Everything seen so far as stable text, taken waves included. It does not wait.
    pub fn recording(&mut self) -> Recording {
        self.look();
        Recording::new(self.seen.iter().map(|seen| (seen.wave.clone(), seen.at)).collect())
    }

    /// Takes this many, or none if they do not arrive within the limit.
    async fn take(&mut self, wanted: &Matcher, count: usize) -> Vec<Wave> {
        let deadline = Instant::now() + self.limit;
        if !self.wait(wanted, count, deadline).await {
            return Vec::new();
        }
        let found = self.seen.iter_mut().filter(|seen| !seen.is_taken && wanted.matches(&seen.wave));
        found.take(count).map(Seen::take).collect()
    }

    /// Waits until this many waves match and are not taken. False if that is not so by the deadline.
    async fn wait(&mut self, wanted: &Matcher, count: usize, deadline: Instant) -> bool {
        self.look();
        let mut found = self.untaken(wanted).count();
        while found < count {
            let Ok(Some(wave)) = timeout_at(deadline, self.vibrator.receive()).await else { return false };
            found += usize::from(wanted.matches(&wave));
            self.note(wave);
        }
        true
    }

    fn untaken(&self, wanted: &Matcher) -> impl Iterator<Item = &Seen> {
        self.seen.iter().filter(|seen| !seen.is_taken && wanted.matches(&seen.wave))
    }

    /// Takes over what has arrived.
    fn look(&mut self) {
        while let Ok(wave) = self.vibrator.try_receive() {
            self.note(wave);
        }
    }

    fn note(&mut self, wave: Wave) {
        if self.seen.len() == MAX_SEEN {
            self.seen.pop_front();
            self.forgotten += 1;
        }
        let at = self.situation.started.elapsed().saturating_sub(wave.age());
        self.seen.push_back(Seen { wave, at, is_taken: false });
    }

    /// Fails the test with what is known.
    fn fail(&mut self, at: &Location<'_>, wanted: &Matcher, what: &str) -> ! {
        self.look();
        panic!("{what} ({at})\n  pattern: {wanted}\n{}{}", self.came(wanted), self.situation.described());
    }

    /// Near misses, and the last waves seen.
    fn came(&self, wanted: &Matcher) -> String {
        let mut text = String::new();
        // Writing to a String cannot fail.
        let misses: Vec<_> = self
            .seen
            .iter()
            .rev()
            .filter(|seen| !seen.is_taken)
            .filter_map(|seen| Some((seen, wanted.near_miss(&seen.wave)?)))
            .take(MAX_PRINTED)
            .collect();
        if !misses.is_empty() {
            let _ = writeln!(text, "  near misses, the last first:");
            for (seen, miss) in misses {
                let _ = writeln!(text, "    {}: {miss}", wave_line::short_id(&seen.wave.id()));
            }
        }
        let skipped = self.seen.len().saturating_sub(MAX_PRINTED);
        let _ = match (self.seen.len(), skipped) {
            (0, _) => writeln!(text, "  this probe saw no waves"),
            (1, _) => writeln!(text, "  this probe saw 1 wave:"),
            (seen, 0) => writeln!(text, "  this probe saw {seen} waves:"),
            (seen, _) => writeln!(text, "  this probe saw {seen} waves, of which the last {MAX_PRINTED}:"),
        };
        for seen in self.seen.iter().skip(skipped) {
            let taken = if seen.is_taken { "  (taken)" } else { "" };
            let _ = writeln!(text, "    {}{taken}", wave_line::seen_line(&seen.wave, seen.at));
        }
        let lost = self.vibrator.ledger().lost();
        if self.forgotten + lost > 0 {
            let _ = writeln!(text, "  this probe forgot {} waves and lost {lost}", self.forgotten);
        }
        text
    }
}
