//! Interference: adds up the claims of several sources about one thing. Ordinary term: corroboration, alert correlation.
//!
//! [`Vibrator::interfere`](aether_core::Vibrator::interfere) runs it on a bus. [`Interference::observe`] takes claims
//! in, and [`Interference::tick`] returns [`Fringe`]s, the changes so far. A fringe can also fall by decay between two
//! waves, so [`Interference::next_change`] gives the time of the next tick. The payload is never read: the channel and
//! the coherence key of a wave identify the subject.
//!
//! A claim of amplitude `a` is evidence `e = -ln(1 - a)`, so that evidence adds up where probabilities multiply. Each
//! claim of a key decays by half every window `W` and is signed by its phase. Their sum is
//!
//! ```text
//! Z = sum of e(a_i) * 2^(-(t - t_i) / W) * cos(phase_i)       amplitude = 1 - exp(-max(Z, 0))
//! ```
//!
//! A source holds one claim per key, its latest. Order and repetition therefore do not matter: the result of
//! [`Interference::resultant`] is the same to the bit, as long as its sources have full credit. A source that asserts a
//! large share of all keys for long has less, and its assertions count for less.
//!
//! Keys that rise at once by the same sources are one alert with one [`FringeKind::Rise`].
//!
//! ```
//! use aether_physics::{Claim, FringeKind, Interfere};
//! use aether_core::{Amplitude, Channel, Phase, Source};
//! use std::time::{Duration, Instant};
//!
//! let mut alerts = Interfere::by_key().sources(2).rise(0.7).build()?;
//! let (channel, now) = (Channel::new("probes.down")?, Instant::now());
//! for probe in ["frankfurt", "oslo"] {
//!     let source = Source::new(probe)?;
//!     let claim = Claim { amplitude: Amplitude::NORMAL, phase: Phase::ASSERT, sequence: 1, age: Duration::ZERO };
//!     alerts.claim(&channel, "db-7", &source, claim, now);
//! }
//! let fringe = alerts.tick(now).expect("two sources of 0.5 make 0.75");
//! assert_eq!((fringe.kind, fringe.sources, &*fringe.key), (FringeKind::Rise, 2, "db-7"));
//! assert!((fringe.amplitude - 0.75).abs() < 1e-3);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod alert;
mod claim;
mod credit;
mod evidence;
mod fringe;
mod held;
mod key;
mod options;
mod window;

pub use claim::Claim;
pub use fringe::{Fringe, FringeClaim, FringeKind, Resultant};
pub use options::Interfere;

use std::collections::{BTreeSet, VecDeque};
use std::time::Duration;

use super::bounds::{BoundsError, check};
use super::recent::Recent;
use super::timeline::{Moment, Timeline};
use aether_core::clock::Instant;
use aether_core::{Amplitude, Channel, Source, Wave, WaveId};
use alert::Alerts;
use credit::Credits;
use evidence::{ClaimOutcome, Heard};
use held::HeldTime;
use key::{ClaimKey, KeyState};
use window::{Window, time_to};

/// The amplitude of the claims of two waves together, from 0 to below 1, as if both were emitted at this moment: waves
/// in phase reinforce each other, waves out of phase weaken each other. Keys, sources and ages are not read;
/// [`Interference`] adds up with them.
///
/// ```
/// use aether_core::{Phase, Wave};
/// use aether_physics::interference;
///
/// let asserts = Wave::builder("probes.down").amplitude(0.5).build()?;
/// let retracts = Wave::builder("probes.down").amplitude(0.5).phase(Phase::RETRACT).build()?;
/// assert!((interference(&asserts, &asserts) - 0.75).abs() < 1e-3);
/// assert!(interference(&asserts, &retracts).abs() < 1e-6);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[must_use]
pub fn interference(a: &Wave, b: &Wave) -> f32 {
    let signed = |wave: &Wave| evidence::of(wave.amplitude()) * f64::from(wave.phase().radians().cos());
    evidence::amplitude(signed(a) + signed(b))
}

/// The claims and keys that an interference detector has counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct InterferenceCounts {
    /// Claims that count, or did before.
    pub claims: u64,
    /// Waves that arrived a second time.
    pub repeated: u64,
    /// Claims older than the current one of their source.
    pub superseded: u64,
    /// Waves without a coherence key, which claim nothing.
    pub keyless: u64,
    /// Waves without a source, which corroborate nothing.
    pub sourceless: u64,
    /// Keys that were forgotten because there were too many. Their fringes were reported as [`FringeKind::Forgotten`].
    pub keys_evicted: u64,
    /// Claims that were dropped because more recent ones fill the key.
    pub claims_evicted: u64,
    /// The number of times that the caller's clock went back.
    pub clock_jumps: u64,
}

/// The shortest and the longest window.
const WINDOWS: std::ops::RangeInclusive<Duration> = Duration::from_millis(1)..=Duration::from_hours(24 * 365);
/// The longest time to settle.
const LONGEST_SETTLE: Duration = Duration::from_hours(24 * 365);
/// The upper bound of the number of keys.
const MOST_KEYS: usize = 1 << 20;
const MOST_SOURCES: usize = 64;
/// The number of sources whose credit is known, if there are as many keys.
const MOST_CREDITS: usize = 1024;

/// Adds up claims by channel and coherence key. Made by [`Interfere::build`].
#[derive(Debug)]
pub struct Interference {
    options: Interfere,
    rise: f64,
    fall: f64,
    window: Window,
    /// The evidence of the last amplitude, cached because many waves have the same and logarithms are slow.
    weight: (Amplitude, f64),
    timeline: Timeline,
    keys: Recent<ClaimKey, KeyState>,
    /// Keys whose claims have changed since the last tick. At most as many as there are keys.
    dirty: Vec<u32>,
    /// The times at which keys change without a wave.
    deadlines: BTreeSet<(Moment, u32)>,
    /// Keys that rise in this tick. At most as many as there are keys.
    rising: Vec<u32>,
    alerts: Alerts,
    credits: Credits,
    held: HeldTime,
    /// Fringes whose key was forgotten since the last tick. At most as many as there are keys, because only a tick
    /// lights more.
    forgotten: VecDeque<Fringe>,
    counts: InterferenceCounts,
}

impl Interfere {
    /// Makes the detector with these options.
    ///
    /// # Errors
    /// [`BoundsError`] names the option, its value and what is allowed.
    pub fn build(self) -> Result<Interference, BoundsError> {
        let Self { window, settle, sources, max_keys, max_sources, .. } = self;
        let given = format!("{window:?}");
        check(WINDOWS.contains(&window), "interference.window", given, "1 ms to 365 days")?;
        let given = format!("{settle:?}");
        check(settle <= LONGEST_SETTLE, "interference.settle", given, "at most 365 days")?;
        let keys_allowed = (1..=MOST_KEYS).contains(&max_keys);
        check(keys_allowed, "interference.max_keys", max_keys, format!("1 to {MOST_KEYS}"))?;
        let kept_allowed = (1..=MOST_SOURCES).contains(&max_sources);
        check(kept_allowed, "interference.max_sources", max_sources, format!("1 to {MOST_SOURCES}"))?;
        let sources_allowed = (1..=max_sources).contains(&sources);
        let allowed = format!("1 to max_sources, which is {max_sources}");
        check(sources_allowed, "interference.sources", sources, allowed)?;
        let fall = threshold("interference.fall", self.fall)?;
        let rise = threshold("interference.rise", self.rise)?;
        let rise_allowed = fall < rise && rise < Amplitude::FULL;
        check(
            rise_allowed,
            "interference.rise",
            rise,
            format!("a number above fall, which is {fall}, and below 1"),
        )?;
        Ok(Interference::new(self, rise, fall))
    }
}

fn threshold(option: &'static str, given: f32) -> Result<Amplitude, BoundsError> {
    let amplitude = Amplitude::new(given);
    check(amplitude.is_ok(), option, given, "an amplitude, from 0 to 1")?;
    Ok(amplitude.unwrap_or(Amplitude::NORMAL))
}

impl Interference {
    pub(super) fn new(options: Interfere, rise: Amplitude, fall: Amplitude) -> Self {
        Self {
            rise: evidence::of(rise),
            fall: evidence::of(fall),
            window: Window::new(options.window),
            weight: (Amplitude::NORMAL, evidence::of(Amplitude::NORMAL)),
            timeline: Timeline::default(),
            keys: Recent::new(options.max_keys),
            dirty: Vec::new(),
            deadlines: BTreeSet::new(),
            rising: Vec::new(),
            alerts: Alerts::default(),
            credits: Credits::new(options.max_keys.clamp(64, MOST_CREDITS), Window::new(options.window)),
            held: HeldTime::default(),
            forgotten: VecDeque::new(),
            counts: InterferenceCounts::default(),
            options,
        }
    }

    /// Takes in the claim of a wave. A wave without a coherence key makes no claim; one that was never emitted has no
    /// source. Both are counted.
    pub fn observe(&mut self, wave: &Wave, now: Instant) {
        self.observe_at(wave, wave.age_when(now), now);
    }

    /// Like [`Interference::observe`], for a caller with a time of its own; the age of the wave is an argument.
    pub(super) fn observe_at(&mut self, wave: &Wave, age: Duration, now: Instant) {
        let Some(key) = wave.key() else {
            self.counts.keyless += 1;
            return;
        };
        let claim =
            Claim { amplitude: wave.amplitude(), phase: wave.phase(), sequence: wave.sequence(), age };
        self.take(wave.channel(), key, wave.source(), claim, (wave.cause(), wave.stored_root()), now);
    }

    /// Takes in a claim without a wave.
    pub fn claim(&mut self, channel: &Channel, key: &str, source: &Source, claim: Claim, now: Instant) {
        self.take(channel, key, source, claim, (None, None), now);
    }

    fn take(
        &mut self,
        channel: &Channel,
        key: &str,
        source: &Source,
        claim: Claim,
        (cause, root): (Option<&WaveId>, Option<&WaveId>),
        now: Instant,
    ) {
        let now = self.timeline.advance(self.held.present(now));
        if source.instance() == 0 {
            self.counts.sourceless += 1;
            return;
        }
        if self.weight.0 != claim.amplitude {
            self.weight = (claim.amplitude, evidence::of(claim.amplitude));
        }
        let slot = self.slot(channel, key, now);
        let Self { keys, credits, options, window, counts, dirty, weight, .. } = self;
        let pattern = keys.value_mut(slot);
        let at = now.minus(claim.age);
        let heard = Heard { source, at, now, claim, cause, root, weight: weight.1 };
        match pattern.evidence.hear(&heard, *window, options.max_sources, credits) {
            ClaimOutcome::Repeated => counts.repeated += 1,
            ClaimOutcome::Superseded => counts.superseded += 1,
            ClaimOutcome::Crowded => counts.claims_evicted += 1,
            ClaimOutcome::Counts { displaced, place, asserts, since } => {
                counts.claims += 1;
                counts.claims_evicted += u64::from(displaced);
                credits.count_key(&mut pattern.span, now);
                credits.note(place, slot, at, asserts, since, now);
                if !std::mem::replace(&mut pattern.dirty, true) {
                    dirty.push(slot);
                }
            }
        }
    }

    /// Records that claims between two moments may have been missed. The claims do not fade for as long.
    pub fn not_seen(&mut self, from: Instant, now: Instant) {
        let latest = self.timeline.instant(self.timeline.latest()).unwrap_or(from);
        self.held.hold(from, now, latest);
    }

    /// The next change so far. Call it until it returns `None`.
    pub fn tick(&mut self, now: Instant) -> Option<Fringe> {
        let now = self.timeline.advance(self.held.present(now));
        if let Some(fringe) = self.forgotten.pop_front() {
            return Some(fringe);
        }
        while let Some(slot) = self.dirty.pop() {
            self.keys.value_mut(slot).dirty = false;
            if let Some(fringe) = self.look(slot, now) {
                return Some(fringe);
            }
        }
        while let Some(&(deadline, slot)) = self.deadlines.first()
            && deadline <= now
        {
            if let Some(fringe) = self.look(slot, now) {
                return Some(fringe);
            }
        }
        if self.rising.len() > 1 {
            // In the order of their names, so that the same claims make the same alerts.
            let Self { keys, rising, .. } = self;
            rising.sort_unstable_by(|a, b| keys.key(*b).name().cmp(&keys.key(*a).name()));
        }
        while let Some(slot) = self.rising.pop() {
            if let Some(fringe) = self.rise(slot, now) {
                return Some(fringe);
            }
        }
        while let Some(number) = self.alerts.take_changed(now) {
            let Some(alert) = self.alerts.get(number) else { continue };
            let Some(last) = alert.last() else { continue };
            let evidence = &self.keys.value(last).evidence;
            let sum = evidence.sum(now, self.window, &self.credits).resultant();
            return Some(alert.fringe(FringeKind::Changed, sum, evidence.claims(), &self.keys));
        }
        None
    }

    /// When to tick again if no wave arrives before; `None` if time alone changes nothing.
    #[must_use]
    pub fn next_change(&self) -> Option<Instant> {
        let at_once = !self.dirty.is_empty() || !self.forgotten.is_empty() || !self.rising.is_empty();
        let due = self.deadlines.first().map(|deadline| deadline.0);
        let due = due.into_iter().chain(self.alerts.due()).min();
        self.held.instant(self.timeline.instant(if at_once { self.timeline.latest() } else { due? })?)
    }

    /// The sum of a key's claims at a moment, whether or not it was reported; `None` for an unknown key.
    #[must_use]
    pub fn resultant(&self, channel: &Channel, key: &str, now: Instant) -> Option<Resultant> {
        let slot = self.keys.find(self.keys.hash_of((channel, key)), |held| held.is(channel, key))?;
        let now = self.timeline.peek(self.held.present(now));
        Some(self.keys.value(slot).evidence.sum(now, self.window, &self.credits).resultant())
    }

    /// The number of keys held; at most [`Interfere::max_keys`].
    #[must_use]
    pub fn keys(&self) -> usize {
        self.keys.len()
    }

    /// The counts so far.
    #[must_use]
    pub fn counts(&self) -> InterferenceCounts {
        InterferenceCounts {
            keys_evicted: self.keys.evicted(),
            clock_jumps: self.timeline.jumps_back(),
            ..self.counts
        }
    }

    /// The slot of a key, which becomes the most recently used.
    fn slot(&mut self, channel: &Channel, key: &str, now: Moment) -> u32 {
        let hash = self.keys.hash_of((channel, key));
        if let Some(slot) = self.keys.touch(hash, |held| held.is(channel, key)) {
            return slot;
        }
        let Self { keys, forgotten, deadlines, alerts, credits, window, .. } = self;
        let (mut freed, mut gone) = (None, None);
        let make = || (ClaimKey { channel: channel.clone(), key: key.to_owned() }, KeyState::default());
        let slot = keys.insert(hash, make, |held, pattern| {
            if let Some(number) = pattern.lit.take() {
                let sum = pattern.evidence.sum(now, *window, credits).resultant();
                gone = Some((number, sum, pattern.evidence.claims(), std::mem::take(&mut held.key)));
            }
            freed = pattern.deadline.take();
            held.channel.clone_from(channel);
            key.clone_into(&mut held.key);
            // If it was due for a check, it stays in the list: the slot is the same.
            pattern.evidence.clear();
            (pattern.pending, pattern.rises, pattern.span) = (None, false, 0);
        });
        if let Some(deadline) = freed {
            deadlines.remove(&(deadline, slot));
        }
        if let Some((number, sum, claims, key)) = gone
            && let Some(alert) = alerts.fall(number, slot, *window, now)
        {
            let fringe = alert.fringe(FringeKind::Forgotten, sum, claims, keys);
            forgotten.push_back(Fringe { keys: vec![key], ..fringe });
        }
        slot
    }

    /// Checks whether a key has risen or fallen, and when to check again.
    fn look(&mut self, slot: u32, now: Moment) -> Option<Fringe> {
        let Self { options, keys, deadlines, alerts, credits, window, .. } = self;
        let window = *window;
        let pattern = keys.value_mut(slot);
        if pattern.lit.is_none() && pattern.deadline.is_none() && pattern.evidence.len() < options.sources {
            return None;
        }
        let sum = pattern.evidence.sum(now, window, credits);
        let ought_to_change = match pattern.lit {
            Some(_) => sum.net < self.fall,
            None => sum.net >= self.rise && sum.sources >= options.sources,
        };
        let mut changes = false;
        if ought_to_change {
            let since = *pattern.pending.get_or_insert(now);
            changes = now.since(since) >= options.settle;
        }
        if changes || !ought_to_change {
            pattern.pending = None;
        }
        if !changes
            && pattern.lit.is_some()
            && pattern.pending.is_none()
            && sum.net >= pattern.armed
            && pattern.deadline.is_some_and(|deadline| deadline > now)
        {
            return None;
        }
        let settled = pattern.pending.map(|since| since.plus(options.settle));
        pattern.armed = if settled.is_none() { sum.net } else { f64::INFINITY };
        let due = match (pattern.lit.is_some() != changes, settled) {
            // Falls by decay, unless waves come.
            (true, None) => Some(now.plus(time_to(sum.net, self.fall, window))),
            // Will have risen, unless it becomes too weak or too lonely before.
            (false, Some(settled)) => {
                let weak = now.plus(time_to(sum.net, self.rise, window));
                let lonely = pattern.evidence.lonely_at(now, options.sources, window, credits);
                Some(settled.min(weak).min(lonely.unwrap_or(settled)))
            }
            (true, Some(settled)) => Some(settled),
            (false, None) => None,
        };
        if due != pattern.deadline {
            if let Some(deadline) = pattern.deadline {
                deadlines.remove(&(deadline, slot));
            }
            deadlines.extend(due.map(|due| (due, slot)));
            pattern.deadline = due;
        }
        if !changes {
            return None;
        }
        if let Some(number) = pattern.lit.take() {
            let claims = pattern.evidence.claims();
            let alert = alerts.fall(number, slot, window, now)?;
            let fringe = alert.fringe(FringeKind::Fall, sum.resultant(), claims, keys);
            return Some(Fringe { keys: vec![keys.key(slot).key.clone()], ..fringe });
        }
        if !std::mem::replace(&mut pattern.rises, true) {
            self.rising.push(slot);
        }
        None
    }

    /// Lights a key. Returns the fringe, if that opens an alert.
    fn rise(&mut self, slot: u32, now: Moment) -> Option<Fringe> {
        let Self { keys, alerts, credits, window, .. } = self;
        if !std::mem::take(&mut keys.value_mut(slot).rises) {
            // It was forgotten meanwhile.
            return None;
        }
        let evidence = &keys.value(slot).evidence;
        let (sum, claims) = (evidence.sum(now, *window, credits).resultant(), evidence.claims());
        let (number, is_new) = alerts.rise(slot, &claims, keys, credits, *window, now);
        keys.value_mut(slot).lit = Some(number);
        let alert = alerts.get(number).filter(|_| is_new)?;
        Some(alert.fringe(FringeKind::Rise, sum, claims, keys))
    }
}

#[cfg(test)]
mod tests;
