//! Cancellation: claims that are asserted and retracted again and again. Ordinary term: flapping.
//!
//! [`Cancellations::observe`] takes waves in, and [`Cancellations::tick`] returns [`Finding::Cancellation`]s. The detector
//! counts how often one source turns between asserting and retracting one coherence key within a window. It ignores
//! contradictions between sources: [`Interference`](super::Interference) adds those up.

use std::collections::VecDeque;
use std::time::Duration;

use super::bounds::{BoundsError, check};
use super::finding::Finding;
use super::recent::Recent;
use super::timeline::{Moment, Timeline};
use aether_core::clock::Instant;
use aether_core::{Channel, Phase, Source, Wave};

const WINDOWS: std::ops::RangeInclusive<Duration> = Duration::from_millis(1)..=Duration::from_hours(24 * 365);
const MOST_CLAIMS: usize = 1 << 20;
const MOST_TURNS: u32 = 64;

/// Options of [`Cancellations`]: when a claim counts as flapping.
#[derive(Debug, Clone)]
#[must_use = "no detector is made before Cancellations::new()"]
pub struct CancellationOptions {
    turns: u32,
    window: Duration,
    max_claims: usize,
}

impl Default for CancellationOptions {
    fn default() -> Self {
        Self { turns: 6, window: Duration::from_secs(300), max_claims: 4096 }
    }
}

impl CancellationOptions {
    /// The number of turns within the window that make a finding. Default: 6, which is three retracted assertions.
    pub fn turns(mut self, turns: u32) -> Self {
        self.turns = turns;
        self
    }

    /// The time within which turns count together. Default: 5 minutes.
    pub fn window(mut self, window: Duration) -> Self {
        self.window = window;
        self
    }

    /// The maximum number of observed claims, each of one source about one key. Beyond it, the least recently updated
    /// is forgotten. Default: 4096. Cost: about 200 bytes per claim, plus the key itself.
    pub fn max_claims(mut self, most: usize) -> Self {
        self.max_claims = most;
        self
    }
}

/// The detector of flapping claims.
#[derive(Debug)]
pub struct Cancellations {
    options: CancellationOptions,
    timeline: Timeline,
    claims: Recent<SourceClaim, Turns>,
    /// Claims with something to report. At most as many as there are claims.
    found: Vec<u32>,
    late: u64,
}

#[derive(Debug)]
struct SourceClaim {
    channel: Channel,
    key: String,
    source: Source,
}

#[derive(Debug, Default)]
struct Turns {
    asserts: bool,
    /// The latest wave: the time of its emission, and its number.
    latest: Option<(Moment, u64)>,
    /// The times of its turns within the window; at most as many as make a finding.
    turns: VecDeque<Moment>,
    /// Whether it was reported and has not been quiet for a window since.
    flapping: bool,
    found: bool,
}

impl Cancellations {
    /// A detector that has seen nothing.
    ///
    /// # Errors
    /// [`BoundsError`] names the option, its value and what is allowed.
    pub fn new(options: CancellationOptions) -> Result<Self, BoundsError> {
        let CancellationOptions { turns, window, max_claims } = options;
        let turns_allowed = (2..=MOST_TURNS).contains(&turns);
        check(turns_allowed, "cancellation.turns", turns, format!("2 to {MOST_TURNS}"))?;
        let given = format!("{window:?}");
        check(WINDOWS.contains(&window), "cancellation.window", given, "1 ms to 365 days")?;
        let claims_allowed = (1..=MOST_CLAIMS).contains(&max_claims);
        check(claims_allowed, "cancellation.max_claims", max_claims, format!("1 to {MOST_CLAIMS}"))?;
        let claims = Recent::new(max_claims);
        Ok(Self { options, timeline: Timeline::default(), claims, found: Vec::new(), late: 0 })
    }

    /// Takes in a wave. A wave without a coherence key or a source claims nothing. A wave that is not later than the last
    /// of its claim is skipped, so a repeated one changes nothing.
    pub fn observe(&mut self, wave: &Wave, now: Instant) {
        if let Some(key) = wave.key()
            && wave.source().instance() != 0
        {
            let (channel, source, age) = (wave.channel(), wave.source(), wave.age_when(now));
            self.claim(channel, key, source, wave.phase(), wave.sequence(), age, now);
        }
    }

    #[expect(clippy::too_many_arguments, reason = "the parts of a wave, for observe and its tests")]
    fn claim(
        &mut self,
        channel: &Channel,
        key: &str,
        source: &Source,
        phase: Phase,
        sequence: u64,
        age: Duration,
        now: Instant,
    ) {
        let now = self.timeline.advance(now);
        let slot = self.slot(channel, key, source);
        let claim = self.claims.value_mut(slot);
        let (at, asserts) = (now.minus(age), phase.radians().cos() > 0.0);
        if claim.latest.is_some_and(|latest| (at, sequence) <= latest) {
            self.late += 1;
            return;
        }
        let turned = claim.latest.is_some() && claim.asserts != asserts;
        claim.latest = Some((at, sequence));
        claim.asserts = asserts;
        if turned && claim.turn(at, &self.options) && !std::mem::replace(&mut claim.found, true) {
            self.found.push(slot);
        }
    }

    /// The next flapping claim. Call it until it returns `None`. Only a wave changes the result, so there is nothing to
    /// wait for.
    pub fn tick(&mut self) -> Option<Finding> {
        while let Some(slot) = self.found.pop() {
            let claim = self.claims.value_mut(slot);
            // The slot may belong to another claim by now.
            if std::mem::take(&mut claim.found) && claim.flapping {
                let within = match (claim.turns.front(), claim.turns.back()) {
                    (Some(first), Some(last)) => last.since(*first),
                    _ => Duration::ZERO,
                };
                let (turns, key) = (claim.turns.len() as u32, self.claims.key(slot));
                return Some(Finding::Cancellation {
                    channel: key.channel.clone(),
                    key: key.key.as_str().into(),
                    source: key.source.clone(),
                    turns,
                    within,
                });
            }
        }
        None
    }

    /// The number of waves skipped because they were late or repeated.
    #[must_use]
    pub fn late(&self) -> u64 {
        self.late
    }

    /// The number of claims forgotten because there were too many.
    #[must_use]
    pub fn claims_evicted(&self) -> u64 {
        self.claims.evicted()
    }

    /// The number of times that the caller's clock went back.
    #[must_use]
    pub fn clock_jumps(&self) -> u64 {
        self.timeline.jumps_back()
    }

    fn slot(&mut self, channel: &Channel, key: &str, source: &Source) -> u32 {
        let hash = self.claims.hash_of((channel, key, source));
        let is_it =
            |held: &SourceClaim| held.key == key && held.source == *source && held.channel == *channel;
        if let Some(slot) = self.claims.touch(hash, is_it) {
            return slot;
        }
        let make = || {
            (
                SourceClaim { channel: channel.clone(), key: key.to_owned(), source: source.clone() },
                Turns::default(),
            )
        };
        self.claims.insert(hash, make, |held, claim| {
            held.channel.clone_from(channel);
            held.source.clone_from(source);
            key.clone_into(&mut held.key);
            let mut turns = std::mem::take(&mut claim.turns);
            turns.clear();
            // If it is due for a report, its slot is still in the list.
            *claim = Turns { turns, found: claim.found, ..Turns::default() };
        })
    }
}

impl Turns {
    /// Records a turn; true if that makes it a new finding.
    fn turn(&mut self, at: Moment, options: &CancellationOptions) -> bool {
        while self.turns.front().is_some_and(|turn| at.since(*turn) > options.window) {
            self.turns.pop_front();
        }
        if self.turns.is_empty() {
            self.flapping = false;
        }
        let enough = options.turns as usize;
        if self.turns.len() == enough {
            self.turns.pop_front();
        }
        if self.turns.capacity() == 0 {
            self.turns.reserve_exact(enough);
        }
        self.turns.push_back(at);
        self.turns.len() == enough && !std::mem::replace(&mut self.flapping, true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    struct FlappingStage {
        detector: Cancellations,
        start: Instant,
        sequence: u64,
    }

    impl FlappingStage {
        fn new(options: CancellationOptions) -> Self {
            Self {
                detector: Cancellations::new(options).unwrap(),
                start: aether_core::clock::test_now(),
                sequence: 0,
            }
        }

        fn says(&mut self, key: &str, phase: Phase, second: u32) {
            self.sequence += 1;
            let (channel, source) =
                (Channel::new("probes.down").unwrap(), Source::with_instance("probe", 1).unwrap());
            let now = self.start + second * SECOND;
            // Each wave arrives twice.
            for _ in 0..2 {
                self.detector.claim(&channel, key, &source, phase, self.sequence, Duration::ZERO, now);
            }
        }

        fn found(&mut self) -> Vec<Finding> {
            std::iter::from_fn(|| self.detector.tick()).collect()
        }
    }

    #[test]
    fn a_flapping_claim_is_reported_once_until_it_has_been_quiet() {
        let mut stage = FlappingStage::new(CancellationOptions::default().turns(4).window(60 * SECOND));
        for (episode, found) in [(0, 1), (1000, 1)] {
            for cycle in 0..5 {
                stage.says("db", Phase::ASSERT, episode + 10 * cycle);
                stage.says("db", Phase::ASSERT, episode + 10 * cycle + 2);
                stage.says("db", Phase::RETRACT, episode + 10 * cycle + 5);
            }
            let findings = stage.found();
            assert_eq!(findings.len(), found);
            let Finding::Cancellation { key, turns, within, .. } = &findings[0] else {
                panic!("{findings:?}")
            };
            assert_eq!((&**key, *turns), ("db", 4));
            assert!(*within <= 60 * SECOND);
        }
        assert_eq!(stage.detector.late(), 30, "the repeated waves");
    }

    #[test]
    fn long_or_rarely_changing_claims_are_not_cancellations() {
        let mut stage = FlappingStage::new(CancellationOptions::default().turns(4).window(60 * SECOND));
        for second in 0..100 {
            stage.says("steady", Phase::ASSERT, second);
            stage.says("slow", if second / 25 % 2 == 0 { Phase::ASSERT } else { Phase::RETRACT }, second);
        }
        assert_eq!(stage.found(), []);
    }

    #[test]
    fn a_flood_of_keys_is_bounded_and_drops_evicted_reports() {
        let mut stage = FlappingStage::new(CancellationOptions::default().turns(2).max_claims(8));
        for n in 0..5000 {
            for phase in [Phase::ASSERT, Phase::RETRACT, Phase::ASSERT] {
                stage.says(&format!("key{n}"), phase, 3 * n + stage.sequence as u32 % 3);
            }
            assert!(stage.detector.found.len() <= 8);
        }
        assert_eq!((stage.detector.claims.len(), stage.detector.claims_evicted()), (8, 5000 - 8));
        assert_eq!(stage.found().len(), 8);
    }

    #[test]
    fn impossible_options_are_refused() {
        let options = CancellationOptions::default;
        let refused = |options| Cancellations::new(options).unwrap_err().to_string();
        assert_eq!(refused(options().turns(1)), "cancellation.turns = 1 is not allowed: use 2 to 64");
        assert!(refused(options().window(Duration::ZERO)).starts_with("cancellation.window = 0ns"));
        assert!(refused(options().max_claims(0)).starts_with("cancellation.max_claims = 0"));
    }
}
