//! Standing waves: periodic streams, found without configuration. Ordinary terms: heartbeats, cron jobs.
//!
//! [`StandingWaves::observe`] takes waves in, and [`StandingWaves::tick`] returns [`Finding`]s: a source emits
//! regularly on a channel, or its next beat is missing. A stream as regular as a timer is found after twelve
//! beats, one with missing or additional beats after 128. [`StandingWaves::next_change`] gives the time of the next
//! tick without a wave. Times are those of emission, computed from the age of the wave, so that delays on the way do
//! not blur them. Silences count from arrival.
//!
//! ```
//! use aether_core::physics::{Finding, StandingOptions, StandingWaves};
//! use aether_core::{Channel, Source};
//! use std::time::{Duration, Instant};
//!
//! let mut streams = StandingWaves::new(StandingOptions::default())?;
//! let (channel, source) = (Channel::new("stock.alive")?, Source::new("stock")?);
//! let mut now = Instant::now();
//! for _ in 0..12 {
//!     now += Duration::from_secs(5);
//!     streams.beat(&channel, &source, Duration::ZERO, now);
//! }
//! let Some(Finding::Standing(found)) = streams.tick(now) else { panic!("a timer is found in twelve beats") };
//! assert_eq!(found.period, Duration::from_secs(5));
//! assert_eq!(streams.tick(now), None);
//!
//! let due = streams.next_change().expect("the next beat is awaited");
//! assert!(due - now <= found.period * 5 / 2);
//! assert!(matches!(streams.tick(due), Some(Finding::MissingBeat { phi: 8.0.., .. })));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod patience;
mod period;
mod series;
mod stream;

use std::collections::BTreeSet;
use std::time::Duration;

use super::bounds::{BoundsError, check};
use super::finding::{Finding, StandingWave};
use super::recent::Recent;
use super::timeline::{Moment, Timeline};
use crate::channel::Channel;
use crate::clock::Instant;
use crate::source::Source;
use crate::wave::{Kind, Wave};
use period::Finder;
use series::{Lapses, Series};
use stream::{Noted, PeriodicStream};

/// The upper bound of [`StandingOptions::max_streams`].
const MOST_STREAMS: usize = 1 << 16;

/// Options of [`StandingWaves`].
#[derive(Debug, Clone)]
#[must_use = "no detector is made before StandingWaves::new()"]
pub struct StandingOptions {
    max_streams: usize,
}

impl Default for StandingOptions {
    fn default() -> Self {
        Self { max_streams: 1024 }
    }
}

impl StandingOptions {
    /// The maximum number of observed streams, each of one source on one channel. Beyond it, the one that was silent
    /// longest is forgotten. Default: 1024. Cost: up to 1.5 KiB per stream.
    pub fn max_streams(mut self, most: usize) -> Self {
        self.max_streams = most;
        self
    }
}

/// The waves and streams that a detector of standing waves has counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct StandingCounts {
    /// Waves that count as beats.
    pub beats: u64,
    /// Waves that arrived a second time, or in the same nanosecond.
    pub repeated: u64,
    /// Waves older than the latest 128 of their stream.
    pub too_old: u64,
    /// Waves without a source.
    pub sourceless: u64,
    /// Streams that were forgotten because there were too many.
    pub streams_evicted: u64,
    /// Forgotten streams that were periodic. Their silence is not reported.
    pub standing_evicted: u64,
    /// The number of times that the caller's clock went back.
    pub clock_jumps: u64,
}

/// The detector of periodic streams and of their silence.
#[derive(Debug)]
pub struct StandingWaves {
    timeline: Timeline,
    streams: Recent<StreamKey, StreamState>,
    /// Streams to examine. At most as many as there are streams.
    due: Vec<u32>,
    /// When the silence of each stream becomes too long. A beat in between is noticed at that time.
    deadlines: BTreeSet<(Moment, u32)>,
    finder: Finder,
    /// Scratch memory for the moments of one stream.
    series: Series,
    lapses: Lapses,
    counts: StandingCounts,
}

#[derive(Debug)]
struct StreamKey {
    channel: Channel,
    source: Source,
}

#[derive(Debug, Default)]
struct StreamState {
    stream: PeriodicStream,
    deadline: Option<Moment>,
    due: bool,
}

impl StandingWaves {
    /// A detector that has seen nothing.
    ///
    /// # Errors
    /// [`BoundsError`] names the option, its value and what is allowed.
    pub fn new(options: StandingOptions) -> Result<Self, BoundsError> {
        let StandingOptions { max_streams } = options;
        let streams_allowed = (1..=MOST_STREAMS).contains(&max_streams);
        check(streams_allowed, "standing.max_streams", max_streams, format!("1 to {MOST_STREAMS}"))?;
        Ok(Self {
            streams: Recent::new(max_streams),
            timeline: Timeline::default(),
            due: Vec::new(),
            deadlines: BTreeSet::new(),
            finder: Finder::default(),
            series: Series::default(),
            lapses: Lapses::default(),
            counts: StandingCounts::default(),
        })
    }

    /// Takes in a wave. An answer is not a beat.
    pub fn observe(&mut self, wave: &Wave, now: Instant) {
        if wave.kind() != Kind::Response {
            self.beat(wave.channel(), wave.source(), wave.age_when(now), now);
        }
    }

    /// Takes in a beat of this age without a wave, such as one of a recording.
    pub fn beat(&mut self, channel: &Channel, source: &Source, age: Duration, now: Instant) {
        let now = self.timeline.advance(now);
        if source.instance() == 0 {
            self.counts.sourceless += 1;
            return;
        }
        let slot = self.slot(channel, source);
        let state = self.streams.value_mut(slot);
        match state.stream.note(now.minus(age), now, self.lapses.watched_since()) {
            Noted::Yes => self.counts.beats += 1,
            Noted::Repeated => self.counts.repeated += 1,
            Noted::TooOld => self.counts.too_old += 1,
        }
        if state.stream.due() && !std::mem::replace(&mut state.due, true) {
            self.due.push(slot);
        }
    }

    /// Records that beats between two moments may have been missed. Gaps that overlap that period do not count, and
    /// silences restart at its end.
    pub fn not_seen(&mut self, from: Instant, now: Instant) {
        let away = now.saturating_duration_since(from);
        let now = self.timeline.advance(now);
        self.lapses.add(now.minus(away), now);
    }

    /// The next finding. Call it until it returns `None`. One call searches at most one full stream for a period, so that
    /// no call takes long. While there are more, [`StandingWaves::next_change`] is now.
    pub fn tick(&mut self, now: Instant) -> Option<Finding> {
        let now = self.timeline.advance(now);
        while let Some(&(deadline, slot)) = self.deadlines.first()
            && deadline <= now
        {
            if let Some(finding) = self.listen(slot, now) {
                return Some(finding);
            }
        }
        let mut searched = false;
        while let Some(&slot) = self.due.last() {
            let state = self.streams.value_mut(slot);
            if state.stream.due() {
                if state.stream.folds() && std::mem::replace(&mut searched, true) {
                    return None;
                }
                let found = state.stream.search(&mut self.finder, &mut self.series, &self.lapses, now);
                self.arm(slot);
                if found {
                    return self.standing_wave(slot).map(Finding::Standing);
                }
            }
            self.streams.value_mut(slot).due = false;
            self.due.pop();
        }
        None
    }

    /// When to tick again if no wave arrives before; `None` if nothing is expected.
    #[must_use]
    pub fn next_change(&self) -> Option<Instant> {
        let due = self.deadlines.first().map(|deadline| deadline.0);
        self.timeline.instant(if self.due.is_empty() { due? } else { self.timeline.latest() })
    }

    /// The periodic streams, including those that have fallen silent.
    pub fn standing(&self) -> impl Iterator<Item = StandingWave> {
        self.streams.iter().filter_map(|(key, state)| key.standing_wave(&state.stream))
    }

    /// The stream of a source on a channel, if it is periodic.
    #[must_use]
    pub fn stream(&self, channel: &Channel, source: &Source) -> Option<StandingWave> {
        let slot =
            self.streams.find(self.streams.hash_of((channel, source)), |key| key.is(channel, source))?;
        self.standing_wave(slot)
    }

    /// The number of streams that are observed, at most [`StandingOptions::max_streams`].
    #[must_use]
    pub fn streams(&self) -> usize {
        self.streams.len()
    }

    /// The counts so far.
    #[must_use]
    pub fn counts(&self) -> StandingCounts {
        StandingCounts {
            streams_evicted: self.streams.evicted(),
            clock_jumps: self.timeline.jumps_back(),
            ..self.counts
        }
    }

    fn slot(&mut self, channel: &Channel, source: &Source) -> u32 {
        let hash = self.streams.hash_of((channel, source));
        if let Some(slot) = self.streams.touch(hash, |key| key.is(channel, source)) {
            return slot;
        }
        let Self { streams, counts, deadlines, .. } = self;
        let mut freed = None;
        let make =
            || (StreamKey { channel: channel.clone(), source: source.clone() }, StreamState::default());
        let slot = streams.insert(hash, make, |key, state| {
            counts.standing_evicted += u64::from(state.stream.standing.is_some());
            key.channel.clone_from(channel);
            key.source.clone_from(source);
            freed = state.deadline.take();
            state.stream.clear();
            // If it was due for a check, it stays in the list: the slot is the same.
        });
        if let Some(deadline) = freed {
            deadlines.remove(&(deadline, slot));
        }
        slot
    }

    /// Checks whether the silence of a stream at its deadline is too long.
    fn listen(&mut self, slot: u32, now: Moment) -> Option<Finding> {
        let watched = self.lapses.watched_since();
        let standing = self.streams.value_mut(slot).stream.standing.as_mut();
        let silent = standing.filter(|standing| standing.missing_at(watched).is_some_and(|due| due <= now));
        let silence = silent.map(|standing| {
            standing.missed = true;
            now.since(standing.silent_since(watched))
        });
        self.arm(slot);
        let silence = silence?;
        let phi =
            self.streams.value(slot).stream.standing.map(|s| s.habit.phi(silence.as_secs_f64() / s.period));
        Some(Finding::MissingBeat { stream: self.standing_wave(slot)?, silence, phi: phi? })
    }

    /// Updates the deadline of a stream.
    fn arm(&mut self, slot: u32) {
        let watched = self.lapses.watched_since();
        let state = self.streams.value_mut(slot);
        let due = state.stream.standing.and_then(|standing| standing.missing_at(watched));
        if due != state.deadline {
            if let Some(deadline) = state.deadline {
                self.deadlines.remove(&(deadline, slot));
            }
            self.deadlines.extend(due.map(|due| (due, slot)));
            state.deadline = due;
        }
    }

    fn standing_wave(&self, slot: u32) -> Option<StandingWave> {
        self.streams.key(slot).standing_wave(&self.streams.value(slot).stream)
    }
}

impl StreamKey {
    fn is(&self, channel: &Channel, source: &Source) -> bool {
        self.source == *source && self.channel == *channel
    }

    fn standing_wave(&self, stream: &PeriodicStream) -> Option<StandingWave> {
        let standing = stream.standing?;
        Some(StandingWave {
            channel: self.channel.clone(),
            source: self.source.clone(),
            period: Duration::try_from_secs_f64(standing.period).ok()?,
            phase: stream.phase(standing.period),
            regularity: standing.order as f32,
            jitter: standing.habit.jitter as f32,
            missing: standing.habit.missing_part() as f32,
            beats: stream.beats,
        })
    }
}

#[cfg(test)]
mod tests;
