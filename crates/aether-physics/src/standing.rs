//! Standing waves: periodic streams, found without configuration. Ordinary terms: heartbeats, cron jobs, polling.
//!
//! [`StandingWaves::observe`] takes waves in, and [`StandingWaves::tick`] returns [`Finding`]s: a source emits
//! regularly on a channel, it has fallen silent, or it beats again. A stream as regular as a timer is found
//! after twelve beats, one with missing or additional beats after 128, and both have to stand for ten seconds. The beat of
//! a stream in bursts is the beginning of a burst. [`StandingWaves::next_change`] gives the time of the next tick without
//! a wave. Times are times of emission, computed from the age of the wave, so that delays on the way do not blur them.
//! Silences count from arrival.
//!
//! A stream that is regular because another one is, as its waves' causes or a fixed lag show, is an echo. An echo is not
//! reported as periodic. Its silence is reported only if its whole source fell silent while the other stream goes on.
//! Streams that fall silent together are one finding.
//!
//! ```
//! use aether_physics::{Finding, StandingOptions, StandingWaves};
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
//! assert!(due - now <= found.period * 7 / 2);
//! assert!(matches!(streams.tick(due), Some(Finding::MissingBeat { phi: 5.0.., .. })));
//!
//! streams.beat(&channel, &source, Duration::ZERO, now + Duration::from_secs(60));
//! assert!(matches!(streams.tick(now + Duration::from_secs(60)), Some(Finding::Resumed { .. })));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod bursts;
mod echo;
mod history;
mod options;
mod outage;
mod patience;
mod period;
mod rhythm;
mod series;
mod silence;
mod stream;

use std::collections::{BTreeSet, VecDeque};
use std::time::Duration;

use super::bounds::BoundsError;
use super::finding::{Finding, StandingWave};
use super::recent::Recent;
use super::timeline::{Moment, Timeline};
use aether_core::clock::Instant;
use aether_core::{Channel, Kind, Source, Wave};
use echo::{LatestBeats, Origin};
use outage::Outages;
use period::{Finder, MOST};
use rhythm::Role;
use series::{Lapses, Series};
use stream::{Noted, PeriodicStream};

pub use options::{StandingCounts, StandingOptions};

/// The detector of periodic streams and of their silence.
#[derive(Debug)]
pub struct StandingWaves {
    options: StandingOptions,
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
    latest: LatestBeats,
    outages: Outages,
    /// Ended outages to report. Each stream is in at most one outage, so there are at most as many as streams in a call.
    resumed: VecDeque<Finding>,
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
    origin: Origin,
    deadline: Option<Moment>,
    /// A silence is not judged before, because the silence of another stream is judged first.
    not_before: Moment,
    due: bool,
    /// When the stream began.
    born: Moment,
    /// Whether it has replaced the stream of another instance.
    replaces: bool,
    /// The slot of the stream that is named for the outage that this one is in.
    outage: Option<u32>,
}

impl StandingWaves {
    /// A detector that has seen nothing.
    ///
    /// # Errors
    /// [`BoundsError`] names the option, its value and what is allowed.
    pub fn new(options: StandingOptions) -> Result<Self, BoundsError> {
        options.check()?;
        Ok(Self {
            streams: Recent::new(options.max_streams),
            options,
            timeline: Timeline::default(),
            due: Vec::new(),
            deadlines: BTreeSet::new(),
            finder: Finder::default(),
            series: Series::default(),
            lapses: Lapses::default(),
            latest: LatestBeats::default(),
            outages: Outages::default(),
            resumed: VecDeque::new(),
            counts: StandingCounts::default(),
        })
    }

    /// Takes in a wave. An answer is not a beat.
    pub fn observe(&mut self, wave: &Wave, now: Instant) {
        if wave.kind() != Kind::Response {
            let cause = wave.cause().map(|cause| &cause.source);
            self.take(wave.channel(), wave.source(), cause, wave.age_when(now), now);
        }
    }

    /// Takes in a beat of this age without a wave, such as one of a recording. It has no cause.
    pub fn beat(&mut self, channel: &Channel, source: &Source, age: Duration, now: Instant) {
        self.take(channel, source, None, age, now);
    }

    /// Takes in a beat that was caused by a wave of another source.
    pub fn caused_beat(
        &mut self,
        channel: &Channel,
        source: &Source,
        cause: &Source,
        age: Duration,
        now: Instant,
    ) {
        self.take(channel, source, Some(cause), age, now);
    }

    fn take(
        &mut self,
        channel: &Channel,
        source: &Source,
        cause: Option<&Source>,
        age: Duration,
        now: Instant,
    ) {
        let now = self.timeline.advance(now);
        if source.instance() == 0 {
            self.counts.sourceless += 1;
            return;
        }
        let (slot, is_new) = self.slot(channel, source, now);
        let state = self.streams.value_mut(slot);
        let noted = state.stream.note(now.minus(age), now, self.lapses.watched_since());
        match noted {
            Noted::Yes | Noted::Returned(_) => self.counts.beats += 1,
            Noted::Inside => self.counts.inside_bursts += 1,
            Noted::Repeated => self.counts.repeated += 1,
            Noted::TooOld => self.counts.too_old += 1,
        }
        if matches!(noted, Noted::Yes | Noted::Returned(_)) {
            state.origin.note(cause);
            if state.stream.standing.is_some() {
                self.latest.note(slot);
            }
            if state.stream.due() && !std::mem::replace(&mut state.due, true) {
                self.due.push(slot);
            }
        }
        if let Noted::Returned(periods) = noted {
            self.returned(slot, slot, periods, now);
            self.arm(slot);
        }
        if is_new && !self.outages.is_empty() {
            self.replace_silent(slot, now);
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
        if let Some(resumed) = self.resumed.pop_front() {
            return Some(resumed);
        }
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
                state.stream.search(&mut self.finder, &mut self.series, &self.lapses, now);
                self.arm(slot);
                if self.becomes_a_beat(slot) {
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
        let is_idle = self.due.is_empty() && self.resumed.is_empty();
        self.timeline.instant(if is_idle { due? } else { self.timeline.latest() })
    }

    /// The streams that are periodic by themselves, including those that have fallen silent.
    pub fn standing(&self) -> impl Iterator<Item = StandingWave> {
        let beats = self.streams.iter().filter(|(_, state)| state.is(Role::Beat));
        beats.filter_map(|(key, state)| key.standing_wave(&state.stream))
    }

    /// The stream of a source on a channel, if it is periodic by itself.
    #[must_use]
    pub fn stream(&self, channel: &Channel, source: &Source) -> Option<StandingWave> {
        let slot =
            self.streams.find(self.streams.hash_of((channel, source)), |key| key.is(channel, source))?;
        if self.streams.value(slot).is(Role::Beat) { self.standing_wave(slot) } else { None }
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

    /// The slot of a stream, and whether it is new.
    fn slot(&mut self, channel: &Channel, source: &Source, now: Moment) -> (u32, bool) {
        let hash = self.streams.hash_of((channel, source));
        if let Some(slot) = self.streams.touch(hash, |key| key.is(channel, source)) {
            return (slot, false);
        }
        let Self { streams, counts, deadlines, .. } = self;
        let mut freed = None;
        let make = || {
            let state = StreamState { born: now, ..StreamState::default() };
            (StreamKey { channel: channel.clone(), source: source.clone() }, state)
        };
        let slot = streams.insert(hash, make, |key, state| {
            counts.standing_evicted += u64::from(state.is(Role::Beat));
            key.channel.clone_from(channel);
            key.source.clone_from(source);
            freed = state.deadline.take();
            state.stream.clear();
            // If it was due for a check, it stays in the list: the slot is the same.
            (state.origin, state.outage, state.replaces) = (Origin::default(), None, false);
            (state.born, state.not_before) = (now, Moment::default());
        });
        if let Some(deadline) = freed {
            deadlines.remove(&(deadline, slot));
        }
        if let Some(outage) = self.outages.remove(&slot) {
            self.release(slot, outage, now);
        }
        (slot, true)
    }

    /// Whether a stream has now been regular for long enough, and is so by itself.
    fn becomes_a_beat(&mut self, slot: u32) -> bool {
        let state = self.streams.value(slot);
        let Some(standing) = state.stream.standing.filter(|s| s.is_beat(state.stream.way_jitter())) else {
            return false;
        };
        // Other streams are compared seldom.
        if standing.role != Role::Candidate && !state.stream.beats.is_multiple_of(MOST as u64) {
            return false;
        }
        let moments = state.stream.moments();
        let follows = self.latest.others(slot).find(|&other| {
            let stream = &self.streams.value(other).stream;
            let is_regular = stream.standing.is_some_and(|other| other.has_period_of(&standing));
            is_regular && echo::follows(moments, stream.moments(), standing.period)
        });
        self.streams.value_mut(slot).origin.follows = follows;
        let is_caused = self.streams.value(slot).origin.is_caused();
        let role = if is_caused || self.leader(slot).is_some() { Role::Echo } else { Role::Beat };
        let Some(standing) = &mut self.streams.value_mut(slot).stream.standing else { return false };
        std::mem::replace(&mut standing.role, role) != Role::Beat && role == Role::Beat
    }

    /// When the silence of a stream becomes too long.
    fn deadline_of(&self, slot: u32) -> Option<Moment> {
        let state = self.streams.value(slot);
        let due = state.stream.missing_at(self.lapses.watched_since(), self.options.shortest_silence);
        due.map(|due| due.max(state.not_before))
    }

    /// Updates the deadline of a stream.
    fn arm(&mut self, slot: u32) {
        let due = self.deadline_of(slot);
        let state = self.streams.value_mut(slot);
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

    /// Whether another instance of the same name emits on the same channel.
    fn is_of_another_instance(&self, other: &Self) -> bool {
        self.channel == other.channel
            && self.source.name() == other.source.name()
            && self.source.instance() != other.source.instance()
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
            silent: standing.silent,
        })
    }
}

impl StreamState {
    fn is(&self, role: Role) -> bool {
        self.stream.standing.is_some_and(|standing| standing.role == role)
    }
}

#[cfg(test)]
mod scenarios;
#[cfg(test)]
mod tests;
