//! Exact edges: a wave names the wave that was being handled when it was emitted (tier L0).
//!
//! Used by [`Resonance`](super::Resonance). Keeps the latest waves by id, to look up causes. Also keeps the latest
//! causes that were not seen yet, because a wave may overtake its cause on the way to the observer.

use std::num::NonZeroUsize;

use lru::LruCache;
use smallvec::SmallVec;
use smol_str::SmolStr;

use super::sighting::Sighting;
use super::table::{ENTRY, bounded};
use aether_core::{Channel, Kind, Source, WaveId};

/// The maximum number of vibrators named on either side of an edge.
const MAX_NAMES: usize = 8;
/// The number of latest effects used for the median lag and the rate.
const LATEST: usize = 64;
/// The maximum number of waves waiting for the same cause to be seen.
const MAX_WAITING_FOR_ONE: usize = 16;

/// The identity of a wave: the instance number of its source and its sequence number.
type Id = (u64, u64);

#[derive(Debug)]
pub(super) struct Causes {
    recent: LruCache<Id, Emission>,
    waiting: LruCache<Id, SmallVec<[Emission; 1]>>,
    edges: Edges,
    /// Causes that were never seen, or were forgotten.
    pub(super) unknown: u64,
}

/// The edges by their channels.
#[derive(Debug)]
struct Edges {
    links: LruCache<(Channel, Channel), CauseLink>,
    forgotten: u64,
}

#[derive(Debug, Clone)]
struct Emission {
    channel: Channel,
    source: Source,
    at: i64,
    /// Whether it answers a question.
    answer: bool,
}

/// One edge.
#[derive(Debug, Default)]
pub(super) struct CauseLink {
    pub(super) waves: u64,
    /// The names of the emitters of the cause, and of its handlers, which emitted the effect.
    pub(super) emitters: SmallVec<[SmolStr; 2]>,
    pub(super) handlers: SmallVec<[SmolStr; 2]>,
    /// The time of the first effect.
    pub(super) first: i64,
    /// The time of the latest effect.
    pub(super) last: i64,
    /// A ring.
    latest: Vec<Effect>,
}

/// The lag and the time of an effect, in nanoseconds.
#[derive(Debug, Clone, Copy)]
struct Effect {
    lag: i64,
    at: i64,
}

/// The result of looking up the cause of a wave.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Origin {
    /// It names no cause, or an unknown one.
    Unknown,
    /// Its cause is known.
    Known,
    /// The wave itself was seen before.
    Duplicate,
}

impl Causes {
    pub(super) fn new(waves: NonZeroUsize, edges: NonZeroUsize) -> Self {
        // Few waves wait: those that overtook their cause, and those whose cause is on an unobserved channel.
        let waiting = NonZeroUsize::new(waves.get() / 16).unwrap_or(NonZeroUsize::MIN);
        Self {
            recent: bounded(waves),
            waiting: bounded(waiting),
            edges: Edges { links: bounded(edges), forgotten: 0 },
            unknown: 0,
        }
    }

    /// Takes in a wave at its place in the [`Spans`](super::spans::Spans).
    pub(super) fn observe(&mut self, sighting: &Sighting<'_>, at: i64) -> Origin {
        let id = (sighting.source.instance(), sighting.sequence);
        let answer = sighting.kind == Kind::Response;
        let emission =
            Emission { channel: sighting.channel.clone(), source: sighting.source.clone(), at, answer };
        if id.1 != 0 {
            match self.recent.push(id, emission.clone()) {
                Some((known, first)) if known == id => {
                    self.recent.put(id, first);
                    return Origin::Duplicate;
                }
                _ => {}
            }
            for effect in self.waiting.pop(&id).into_iter().flatten() {
                self.edges.join(&emission, &effect);
            }
        }
        let Some(cause) = sighting.cause.map(id_of) else { return Origin::Unknown };
        if let Some(known) = self.recent.peek(&cause) {
            self.edges.join(known, &emission);
            return Origin::Known;
        }
        if let Some(others) = self.waiting.get_mut(&cause) {
            if others.len() < MAX_WAITING_FOR_ONE {
                others.push(emission);
            } else {
                self.unknown += 1;
            }
        } else if let Some((_, given_up)) = self.waiting.push(cause, SmallVec::from_elem(emission, 1)) {
            self.unknown += given_up.len() as u64;
        }
        Origin::Unknown
    }

    /// Edges that were forgotten because there were too many.
    pub(super) fn edges_forgotten(&self) -> u64 {
        self.edges.forgotten
    }

    pub(super) fn edges(&self) -> impl Iterator<Item = (&Channel, &Channel, &CauseLink)> {
        self.edges.links.iter().map(|((from, to), link)| (from, to, link))
    }

    /// Its current memory, in bytes, approximately.
    pub(super) fn weight(&self) -> usize {
        let spilled = self.waiting.iter().filter(|(_, waves)| waves.spilled()).count();
        self.recent.len() * EMISSION
            + self.waiting.len() * WAITING
            + spilled * MAX_WAITING_FOR_ONE * EMISSION
            + self.edges.links.len() * EDGE
    }

    /// The maximum memory for this many waves and edges, in bytes.
    pub(super) fn max_weight(waves: usize, edges: usize) -> usize {
        waves * EMISSION + (waves / 16).max(1) * (WAITING + MAX_WAITING_FOR_ONE * EMISSION) + edges * EDGE
    }
}

const EMISSION: usize = size_of::<(Id, Emission)>() + ENTRY;
const WAITING: usize = size_of::<(Id, SmallVec<[Emission; 1]>)>() + ENTRY;
const EDGE: usize = size_of::<(Channel, Channel, CauseLink)>() + ENTRY + LATEST * size_of::<Effect>();

impl Edges {
    fn join(&mut self, cause: &Emission, effect: &Emission) {
        // An answer has the channel of its question.
        if effect.answer || (cause.answer && cause.channel == effect.channel) {
            return;
        }
        let edge = (cause.channel.clone(), effect.channel.clone());
        let lag = (effect.at - cause.at).max(0);
        if let Some(link) = self.links.get_mut(&edge) {
            link.add(&cause.source, &effect.source, Effect { lag, at: effect.at });
            return;
        }
        // Reuses the memory of a forgotten edge, so that a flood of edges allocates nothing.
        let full = self.links.len() == self.links.cap().get();
        let mut link =
            if full { self.links.pop_lru().map(|(_, link)| link) } else { None }.unwrap_or_default();
        self.forgotten += u64::from(full);
        link.clear();
        link.add(&cause.source, &effect.source, Effect { lag, at: effect.at });
        self.links.put(edge, link);
    }
}

impl CauseLink {
    fn clear(&mut self) {
        self.waves = 0;
        self.emitters.clear();
        self.handlers.clear();
        self.latest.clear();
    }

    fn add(&mut self, emitter: &Source, handler: &Source, effect: Effect) {
        for (names, source) in [(&mut self.emitters, emitter), (&mut self.handlers, handler)] {
            if names.len() < MAX_NAMES && !names.iter().any(|name| name == source.name()) {
                names.push(SmolStr::new(source.name()));
            }
        }
        if self.waves == 0 {
            (self.first, self.last) = (effect.at, effect.at);
        }
        self.last = self.last.max(effect.at);
        if self.latest.len() < LATEST {
            self.latest.push(effect);
        } else {
            self.latest[self.waves as usize % LATEST] = effect;
        }
        self.waves += 1;
    }

    /// The median of the latest lags, in nanoseconds.
    pub(super) fn median_lag(&self) -> i64 {
        let mut lags: Vec<i64> = self.latest.iter().map(|effect| effect.lag).collect();
        let middle = lags.len() / 2;
        *lags.select_nth_unstable(middle).1
    }

    /// The latest effects: their number, and the time of the first of them.
    pub(super) fn lately(&self) -> (usize, i64) {
        (self.latest.len(), self.latest.iter().map(|effect| effect.at).min().unwrap_or(self.last))
    }
}

fn id_of(id: &WaveId) -> Id {
    (id.source.instance(), id.sequence)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn causes() -> Causes {
        Causes::new(NonZeroUsize::new(64).unwrap(), NonZeroUsize::new(2).unwrap())
    }

    fn seen(causes: &mut Causes, name: &str, number: u64, cause: Option<(&str, u64)>, at: i64) -> Origin {
        let source = |name: &str| Source::with_instance(name, u64::from(name.as_bytes()[0])).unwrap();
        let cause = cause.map(|(name, sequence)| WaveId { source: source(name), sequence });
        let channel = Channel::new(format!("of.{name}")).unwrap();
        let sighting = Sighting {
            channel: &channel,
            kind: Kind::Event,
            source: &source(name),
            sequence: number,
            cause: cause.as_ref(),
            key: None,
            now: std::time::Duration::ZERO,
            age: std::time::Duration::ZERO,
        };
        causes.observe(&sighting, at)
    }

    #[test]
    fn an_effect_may_overtake_its_cause() {
        let mut causes = causes();
        assert_eq!(seen(&mut causes, "a", 1, None, 0), Origin::Unknown);
        assert_eq!(seen(&mut causes, "b", 1, Some(("a", 1)), 5), Origin::Known);
        assert_eq!(seen(&mut causes, "b", 2, Some(("a", 2)), 6), Origin::Unknown);
        assert_eq!(seen(&mut causes, "a", 2, None, 4), Origin::Unknown);
        let edges: Vec<_> = causes.edges().map(|(_, _, link)| (link.waves, link.median_lag())).collect();
        assert_eq!(edges, [(2, 5)]);
        assert_eq!(causes.unknown, 0);
    }

    #[test]
    fn a_repeated_wave_counts_once() {
        let mut causes = causes();
        seen(&mut causes, "a", 1, None, 0);
        assert_eq!(seen(&mut causes, "b", 1, Some(("a", 1)), 5), Origin::Known);
        assert_eq!(seen(&mut causes, "b", 1, Some(("a", 1)), 5), Origin::Duplicate);
        assert_eq!(causes.edges().next().unwrap().2.waves, 1);
    }

    #[test]
    fn causes_that_never_arrive_are_bounded_and_counted() {
        let mut causes = causes();
        for number in 1..=1000 {
            seen(&mut causes, "b", number, Some(("x", number)), 0);
        }
        assert_eq!(causes.unknown as usize + causes.waiting.len(), 1000);
        assert_eq!((causes.waiting.len(), causes.recent.len()), (4, 64));
        for number in 1001..=1100 {
            seen(&mut causes, "b", number, Some(("x", 5000)), 0);
        }
        assert_eq!(causes.unknown as usize, 1000 - 3 + 100 - MAX_WAITING_FOR_ONE);
    }

    #[test]
    fn edges_are_bounded_and_counted() {
        let mut causes = causes();
        seen(&mut causes, "a", 1, None, 0);
        for name in ["b", "c", "d"] {
            seen(&mut causes, name, 1, Some(("a", 1)), 1);
        }
        assert_eq!((causes.edges().count(), causes.edges_forgotten()), (2, 1));
    }
}
