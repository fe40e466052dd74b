//! Resonance: the relations between services. Ordinary term: the service map, or dependency graph.
//!
//! [`Resonance`] takes waves in and reports a [`ResonanceMap`]. Timing alone is confounded by shared load, so evidence
//! has tiers: causes named by waves (L0, exact); timing between channels A and B if an emitter of B subscribes to A
//! (L1, and L1k among waves of one coherence key); and timing alone (L2, groups without direction).
//!
//! Taking a wave in costs a few lookups in bounded tables. All statistics are computed for a report. An edge by timing is
//! a guess: it enters the map when several windows of time agree, and leaves after a long absence. There is no clock, no
//! task and no I/O here: [`PhysicsEngine`](super::PhysicsEngine) and programs supply the waves and the time.
//!
//! ```
//! use aether_physics::{Resonance, Sighting, Tier};
//! use aether_core::{Channel, Kind, Source, WaveId};
//! use std::time::Duration;
//!
//! let (created, reserved) = (Channel::new("orders.created")?, Channel::new("stock.reserved")?);
//! let (shop, stock) = (Source::new("shop")?, Source::new("stock")?);
//! let mut resonance = Resonance::default();
//! for order in 1..=10 {
//!     let now = Duration::from_secs(order);
//!     let cause = WaveId { source: shop.clone(), sequence: order };
//!     let wave = |channel, source, cause, now| {
//!         let (kind, age) = (Kind::Event, Duration::ZERO);
//!         Sighting { channel, kind, source, sequence: order, cause, key: None, now, age }
//!     };
//!     resonance.sight(&wave(&created, &shop, None, now));
//!     resonance.sight(&wave(&reserved, &stock, Some(&cause), now + Duration::from_millis(3)));
//! }
//! let map = resonance.report();
//! let edge = map.edge("orders.created", "stock.reserved").expect("the waves say so");
//! assert_eq!((edge.tier, edge.waves, edge.effect), (Tier::Cause, 10, 1.0));
//! assert_eq!(edge.median_lag, Duration::from_millis(3));
//! assert_eq!((edge.confidence, edge.first_seen_ago), (1.0, Duration::from_secs(9)));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod causes;
mod excess;
mod explain;
mod groups;
mod guesses;
mod listeners;
mod map;
mod options;
mod report;
mod sighting;
mod spans;
mod table;
mod thinning;
mod track;

use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher};
use std::num::NonZeroUsize;
use std::time::Duration;

use lru::LruCache;

use super::bounds::{BoundsError, check};
use aether_core::clock::Instant;
use aether_core::{Channel, Kind, Pattern, Wave};
use causes::{Causes, Origin};
use guesses::Guesses;
use listeners::Listeners;
use spans::{Spans, WINDOW};
use table::{ENTRY, bounded};
use thinning::Thinning;
use track::{Track, TrackedWave};

pub use map::{Edge, Group, ResonanceCounts, ResonanceMap, Tier};
pub use options::ResonanceOptions;
pub use sighting::Sighting;

/// The detector of related services: edges from causes (L0), from timing (L1), and groups (L2), as
/// `docs/internals/physics.md` defines them.
#[derive(Debug)]
pub struct Resonance {
    options: ResonanceOptions,
    first: Option<Instant>,
    spans: Spans,
    causes: Causes,
    listeners: Listeners,
    thinning: Thinning,
    tracks: LruCache<Channel, Track>,
    guesses: Guesses,
    counts: ResonanceCounts,
}

impl ResonanceOptions {
    /// Makes the detector with these bounds.
    ///
    /// # Errors
    /// [`BoundsError`] names the option, its value and what is allowed.
    pub fn build(self) -> Result<Resonance, BoundsError> {
        Resonance::new(self)
    }
}

impl Default for Resonance {
    fn default() -> Self {
        ResonanceOptions::default().build().expect("the default bounds are allowed: a test makes them")
    }
}

impl Resonance {
    fn new(options: ResonanceOptions) -> Result<Self, BoundsError> {
        let whole = |option, given: usize, from: usize, to: usize| {
            check((from..=to).contains(&given), option, given, format!("{from} to {to}"))?;
            Ok(NonZeroUsize::new(given).unwrap_or(NonZeroUsize::MIN))
        };
        let part = |option, given: f64, to: f64| {
            check(given > 0.0 && given <= to, option, given, format!("a number above 0 and at most {to}"))
        };
        let channels = whole("resonance.channels", options.channels, 1, 4096)?;
        whole("resonance.moments", options.moments, 64, 65_536)?;
        let waves = whole("resonance.waves", options.waves, 16, 1 << 24)?;
        let edges = whole("resonance.edges", options.edges, 1, 65_536)?;
        let vibrators = whole("resonance.vibrators", options.vibrators, 1, 65_536)?;
        whole("resonance.keyed_a_second", options.keyed_a_second, 1, 1_000_000)?;
        part("resonance.least_effect", options.least_effect, 1.0)?;
        part("resonance.false_discovery_rate", options.false_discovery_rate, 0.5)?;
        Ok(Self {
            first: None,
            spans: Spans::default(),
            causes: Causes::new(waves, edges),
            listeners: Listeners::new(vibrators),
            thinning: Thinning::new(options.keyed_a_second),
            tracks: bounded(channels),
            guesses: Guesses::new(edges),
            counts: ResonanceCounts::default(),
            options,
        })
    }

    /// Takes in a wave that is received at `now`. Its age gives the time of its emission.
    pub fn observe(&mut self, wave: &Wave, now: Instant) {
        let since = self.clock(now);
        self.sight(&Sighting::of(wave, since, wave.age_when(now)));
    }

    /// The detector's clock. It starts a day before the first wave, so that earlier times exist.
    fn clock(&mut self, now: Instant) -> Duration {
        const DAY: Duration = Duration::from_secs(86_400);
        let first = *self.first.get_or_insert(now);
        match now.checked_duration_since(first) {
            Some(since) => DAY.saturating_add(since),
            None => DAY.saturating_sub(first.saturating_duration_since(now)),
        }
    }

    /// Takes in the sighting of a wave.
    pub fn sight(&mut self, sighting: &Sighting<'_>) {
        if sighting.channel.is_reserved() {
            self.counts.reserved += 1;
            return;
        }
        let now = self.spans.place(sighting.now);
        let age = i64::try_from(sighting.age.as_nanos()).unwrap_or(i64::MAX);
        let at = now.saturating_sub(age);
        let origin = self.causes.observe(sighting, at);
        if origin == Origin::Duplicate {
            self.counts.duplicates += 1;
            return;
        }
        self.counts.waves += 1;
        if sighting.kind == Kind::Response {
            // It returns to the asker and triggers nobody else.
            self.counts.answers += 1;
            return;
        }
        let key = sighting.key.map_or(0, hash);
        let most = self.options.moments;
        let late = age > WINDOW;
        self.counts.late += u64::from(late);
        let kept = match self.thinning.keeps(key, now) {
            thinning::Verdict::Kept => true,
            thinning::Verdict::LeftOut => false,
            thinning::Verdict::Changed(kept) => {
                self.spans.cut();
                kept
            }
        };
        let moment = TrackedWave { at, key, caused: origin == Origin::Known };
        let track = if let Some(track) = self.tracks.get_mut(sighting.channel) {
            track
        } else {
            // Reuses the memory of a forgotten channel.
            let full = self.tracks.len() == self.tracks.cap().get();
            let old = if full { self.tracks.pop_lru().map(|(_, track)| track) } else { None };
            self.counts.channels_forgotten += u64::from(full);
            self.tracks.put(sighting.channel.clone(), old.unwrap_or_default().anew(at));
            let Some(track) = self.tracks.get_mut(sighting.channel) else { return };
            track
        };
        track.heard += 1;
        self.counts.names_left_out += u64::from(!track.emitted_by(sighting.source.name()));
        self.counts.thinned += u64::from(!kept);
        if kept && !late {
            track.push(moment, most);
        }
    }

    /// Replaces the patterns of a vibrator, by its name. Several vibrators of one name count as one.
    pub fn tuned(&mut self, vibrator: &str, patterns: &[Pattern]) {
        let left_out = self.listeners.tuned(vibrator, patterns);
        self.counts.names_left_out += left_out as u64;
    }

    /// Whether a vibrator has announced patterns.
    pub(super) fn knows(&self, vibrator: &str) -> bool {
        self.listeners.knows(vibrator)
    }

    /// Whether a vibrator has announced that it hears a channel.
    pub(super) fn hears(&self, vibrator: &str, channel: &Channel) -> bool {
        self.listeners.hears(vibrator, channel)
    }

    /// Records that waves passed unobserved. No time window spans this moment, and the absence of an effect is not
    /// evidence against an edge.
    pub fn interrupted(&mut self) {
        self.spans.cut();
    }

    /// Records that waves passed unobserved since a moment, or were lost on their way here. No time window reaches into
    /// that time. Use it with [`Resonance::observe`].
    pub fn not_seen(&mut self, from: Instant) {
        if self.first.is_some() {
            let from = self.clock(from);
            self.spans.cut_since(from);
        }
    }

    /// The current map. It depends only on the waves and patterns taken in, and on the earlier reports: an edge by
    /// timing that was reported stays until it was not found for ten minutes in which it could have been.
    ///
    /// Cost: milliseconds for tens of channels, up to seconds for hundreds of busy ones. Call it outside of the task
    /// that receives.
    #[must_use]
    pub fn report(&mut self) -> ResonanceMap {
        report::report(self)
    }

    /// The counts so far.
    #[must_use]
    pub fn counts(&self) -> ResonanceCounts {
        ResonanceCounts {
            one_key_in: self.thinning.one_in(),
            unknown_causes: self.causes.unknown,
            edges_forgotten: self.causes.edges_forgotten() + self.guesses.forgotten,
            vibrators_forgotten: self.listeners.forgotten,
            jumps_back: self.spans.jumps_back,
            jumps_forth: self.spans.jumps_forth,
            ..self.counts
        }
    }

    /// An approximate upper bound on its memory, in bytes.
    #[must_use]
    pub fn max_weight(&self) -> usize {
        let options = &self.options;
        options.channels * Track::max_weight(options.moments)
            + Causes::max_weight(options.waves, options.edges)
            + Guesses::max_weight(options.edges)
            + options.vibrators * Listeners::max_weight()
    }

    /// The number of jumps of the clock, back or forward.
    pub(super) fn jumps(&self) -> u64 {
        self.spans.jumps_back + self.spans.jumps_forth
    }

    /// Its current memory, in bytes, approximately.
    #[must_use]
    pub fn weight(&self) -> usize {
        let tracks: usize = self
            .tracks
            .iter()
            .map(|(channel, track)| {
                size_of::<Channel>() + size_of::<Track>() + ENTRY + channel.as_str().len() + track.weight()
            })
            .sum();
        self.causes.weight() + self.guesses.weight() + self.listeners.weight() + tracks
    }
}

/// A hash of a coherence key that is never 0, and is the same in every process.
fn hash(key: &str) -> u32 {
    let hash = BuildHasherDefault::<DefaultHasher>::default().hash_one(key);
    ((hash >> 32) as u32).max(1)
}

#[cfg(test)]
mod tests;
