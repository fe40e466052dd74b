//! The credit of a source: how much its assertions count, by how rarely it makes them.
//!
//! A source that asserts everything all the time means nothing for a single key. The information of an assertion is
//! `-ln p`, where `p` is the share of all keys and of the time that the source asserts: each assertion lasts for a
//! window, unless its source retracts it before. Below [`RARE`] an assertion counts fully, at 1 not at all, and in
//! between in proportion to its information. Time before the detector began, and some keys that nobody claims, count as
//! silence, so that a few faults at the beginning do not discredit the sources that report them. Only what a source asserts
//! beyond a third of the sources counts against it: what this many see, such as a network that fell apart, is not a habit.

use super::window::Window;
use crate::recent::Recent;
use crate::timeline::Moment;
use aether_core::Source;

/// A source that asserts no more than this share of the keys is believed fully.
const RARE: f64 = 0.05;
/// Full credit.
pub(super) const FULL: u64 = 256;
/// A source with less credit does not count as one of the sources that corroborate a key: it asserts about a fifth of all
/// keys, or more.
pub(super) const CREDIBLE: u64 = FULL / 2;
/// The half-life of what is known about a source, in windows: so long does a partition keep its sources credible.
const MEMORY: f64 = 60.0;
/// The windows of silence with which a detector begins.
const SILENT_WINDOWS: f64 = 8.0;
/// The number of keys that nobody asserts, in addition to those that are claimed.
const SILENT_KEYS: f64 = 20.0;
/// The level of all sources is computed again after this part of a window.
const PART: i64 = 8;
/// The credit of a source is computed again after this many windows, or when it has asserted an eighth more keys
/// for a window than before.
const AGAIN: i64 = 8;
const MORE: (f64, f64) = (4.0, 0.125);
/// The share of the sources that may assert more than the level.
const ABOVE_LEVEL: f64 = 1.0 / 3.0;
/// The number of keys remembered that a source has begun to assert.
pub(super) const BEGUN: usize = 8;

/// The credit of each source.
#[derive(Debug)]
pub(super) struct Credits {
    /// By instance.
    sources: Recent<u64, Voice>,
    /// The instance and the credit of each source, by place: what every sum reads.
    credits: Vec<(u64, u64)>,
    /// The source that claimed last, and its place: claims often come in a row.
    last: (u64, u32),
    window: Window,
    /// A nanosecond as a part of the window.
    of_window: f64,
    /// The number of keys that were claimed in the current span of time, and in the one before; and the end of the span.
    span: u32,
    keys: [u32; 2],
    span_ends: Moment,
    /// The share of the keys that most sources assert no more than, and when it was computed.
    level: f64,
    level_at: Option<Moment>,
    /// Scratch memory for it.
    shares: Vec<f64>,
}

/// One source.
#[derive(Debug, Clone, Copy)]
struct Voice {
    /// The windows for which it asserted a key, added up over all keys, with weights that decay; and those since then.
    asserted: f64,
    lately: f64,
    computed: Moment,
    /// The share of the keys and the time that it asserts, and its credit.
    share: f64,
    /// The keys that it has begun to assert last, as slots.
    begun: [(u32, Moment); BEGUN],
    next: u8,
}

impl Credits {
    pub(super) fn new(most: usize, window: Window) -> Self {
        let sources = Recent::new(most);
        let (span, keys, span_ends) = (0, [0; 2], Moment::default());
        let of_window = 1.0 / window.nanos() as f64;
        Self {
            sources,
            credits: Vec::new(),
            last: (0, 0),
            window,
            of_window,
            span,
            keys,
            span_ends,
            level: 0.0,
            level_at: None,
            shares: Vec::new(),
        }
    }

    /// The place of a source. `known` is the place it had the last time.
    pub(super) fn place(&mut self, source: &Source, known: Option<u32>, now: Moment) -> u32 {
        let instance = source.instance();
        let is_known = |place: &u32| self.credits.get(*place as usize).is_some_and(|held| held.0 == instance);
        let last = (self.last.0 == instance).then_some(self.last.1);
        if let Some(place) = known.or(last).filter(is_known) {
            return place;
        }
        let hash = self.sources.hash_of(instance);
        let place = self.sources.touch(hash, |held| *held == instance).unwrap_or_else(|| {
            let voice = Voice {
                asserted: 0.0,
                lately: 0.0,
                computed: now,
                share: 0.0,
                begun: [(u32::MAX, Moment::default()); BEGUN],
                next: 0,
            };
            let make = || (instance, voice);
            let place = self.sources.insert(hash, make, |held, old| (*held, *old) = (instance, voice));
            if self.credits.len() <= place as usize {
                self.credits.resize(place as usize + 1, (0, FULL));
            }
            self.credits[place as usize] = (instance, FULL);
            place
        });
        self.last = (instance, place);
        place
    }

    /// The credit of a source at its place; full if it was forgotten.
    #[inline]
    pub(super) fn of(&self, place: u32, source: &Source) -> u64 {
        match self.credits.get(place as usize) {
            Some((instance, credit)) if *instance == source.instance() => *credit,
            _ => FULL,
        }
    }

    /// Notes that a source asserts a key (or retracts it), which it asserted before at `since`.
    pub(super) fn note(
        &mut self,
        place: u32,
        slot: u32,
        at: Moment,
        asserts: bool,
        since: Option<Moment>,
        now: Moment,
    ) {
        let window = self.window.nanos();
        let passed = since.map(|since| at.nanos().saturating_sub(since.nanos()).clamp(0, window));
        let voice = self.sources.value_mut(place);
        let part = |nanos: i64| nanos as f64 * self.of_window;
        voice.lately += match (asserts, passed) {
            (true, Some(passed)) => part(passed),
            (true, None) => {
                voice.begun[usize::from(voice.next) % BEGUN] = (slot, now);
                voice.next = voice.next.wrapping_add(1);
                1.0
            }
            // It had been counted for the whole window.
            (false, Some(passed)) => part(passed) - 1.0,
            (false, None) => 0.0,
        };
        let is_old = now.nanos().saturating_sub(voice.computed.nanos()) >= window.saturating_mul(AGAIN);
        if is_old || voice.lately > MORE.0 + MORE.1 * voice.asserted {
            self.compute(place, now);
        }
    }

    fn compute(&mut self, place: u32, now: Moment) {
        self.sources.touch_slot(place);
        self.find_level(now);
        let windows = |nanos: i64| nanos as f64 / self.window.nanos() as f64;
        // The time since the beginning, with weights that decay.
        let left = (-windows(now.nanos()).max(0.0) / MEMORY).exp2();
        let time = MEMORY / std::f64::consts::LN_2 * (1.0 - left) + SILENT_WINDOWS;
        let all = (f64::from(self.keys[0].max(self.keys[1])) + SILENT_KEYS) * time;
        let voice = self.sources.value_mut(place);
        let kept = (-windows(now.nanos() - voice.computed.nanos()) / MEMORY).exp2();
        voice.asserted = (voice.asserted * kept + voice.lately).max(0.0);
        (voice.lately, voice.computed) = (0.0, now);
        voice.share = (voice.asserted / all).min(1.0);
        let more = voice.share - self.level;
        self.credits[place as usize].1 =
            if more <= RARE { FULL } else { (FULL as f64 * more.ln() / RARE.ln()).round() as u64 };
    }

    /// Computes the level again if that was long ago.
    fn find_level(&mut self, now: Moment) {
        if self.level_at.is_some_and(|at| now.nanos() - at.nanos() < self.window.nanos() / PART) {
            return;
        }
        self.level_at = Some(now);
        self.shares.clear();
        self.shares.extend(self.sources.iter().map(|(_, voice)| voice.share));
        let above = (self.shares.len() as f64 * ABOVE_LEVEL).ceil() as usize;
        if let Some(place) = self.shares.len().checked_sub(above + 1) {
            self.level = *self.shares.select_nth_unstable_by(place, f64::total_cmp).1;
        }
    }

    /// Counts a key that is claimed now, if `seen` is not the current span of time already.
    #[inline]
    pub(super) fn count_key(&mut self, seen: &mut u32, now: Moment) {
        if now >= self.span_ends {
            self.begin_span(now);
        }
        if std::mem::replace(seen, self.span) != self.span {
            self.keys[0] += 1;
        }
    }

    #[cold]
    fn begin_span(&mut self, now: Moment) {
        let length = self.window.times(MEMORY as u32 / 2);
        let is_next = now < self.span_ends.plus(length);
        self.keys = [0, if is_next { self.keys[0] } else { 0 }];
        self.span += 1;
        self.span_ends = now.plus(length);
    }

    /// The keys that a source has begun to assert since a moment, as slots.
    pub(super) fn begun(&self, place: u32, since: Moment) -> impl Iterator<Item = u32> {
        let begun = self.sources.value(place).begun;
        begun.into_iter().filter(move |(slot, at)| *slot != u32::MAX && *at >= since).map(|(slot, _)| slot)
    }
}
