//! The claims about one key, one of each source, and their sum.
//!
//! Sums are the same to the bit in any order of arrival: evidence is a fixed-point number, which adds up in any order,
//! and each window that passes is a shift. An assertion and a retraction of the same moment cancel exactly.

use std::cmp::Ordering;

use super::claim::Claim;
use super::credit::{CREDIBLE, Credits, FULL};
use super::fringe::{FringeClaim, Resultant};
use super::window::Window;
use crate::timeline::Moment;
use aether_core::{Amplitude, Phase, Source, WaveId};

/// The number of windows for which the source of a claim counts. An eighth of the claim is left then.
const WINDOWS_COUNTED: u32 = 3;
/// The loss used for amplitude 1.0, in steps: half a step, since the next lower amplitude is one step. Full amplitude
/// would be infinite evidence, which could never be retracted.
const LOSS_OF_FULL: f64 = 0.5;
/// The scale of evidence in fixed point. At most 64 claims of less than 2^45 steps each fit into 64 bits.
const STEPS: f64 = (1u64 << 40) as f64;
/// The largest amplitude that several claims can reach together.
const MOST: f32 = 1.0 - f32::EPSILON / 2.0;

/// The evidence of an amplitude: 0.69 for 0.5, 2.3 for 0.9, at most 8.7.
pub(super) fn of(amplitude: Amplitude) -> f64 {
    let octaves =
        f64::from(amplitude.loss()).max(LOSS_OF_FULL) / f64::from(aether_core::wave::STEPS_PER_OCTAVE);
    -(-(-octaves).exp2()).ln_1p()
}

/// The amplitude of a sum of evidence, from 0 to below 1. A negative sum has none.
pub(super) fn amplitude(net: f64) -> f32 {
    (-(-net.max(0.0)).exp_m1() as f32).min(MOST)
}

/// The claims about one key.
#[derive(Debug, Default)]
pub(super) struct Evidence {
    held: Vec<HeldClaim>,
}

#[derive(Debug)]
struct HeldClaim {
    source: Source,
    /// The place of the source among the credits.
    place: u32,
    sequence: u64,
    at: Moment,
    contribution: Contribution,
    /// Boxed, because most claims have neither cause nor root.
    origin: Option<Box<ClaimOrigin>>,
}

/// The wave that a claim follows from.
#[derive(Debug)]
struct ClaimOrigin {
    cause: Option<WaveId>,
    root: Option<WaveId>,
}

impl ClaimOrigin {
    fn boxed(heard: &Heard<'_>) -> Option<Box<Self>> {
        let is_some = heard.cause.is_some() || heard.root.is_some();
        is_some.then(|| Box::new(Self { cause: heard.cause.cloned(), root: heard.root.cloned() }))
    }
}

/// The contribution of a claim, independent of the current time.
#[derive(Debug, Clone, Copy)]
struct Contribution {
    /// The number of whole windows between the detector's first moment and the claim.
    windows: i64,
    /// The evidence in steps, in terms of the beginning of that window; the same weakened by the phase; and its sign.
    weight: u64,
    net: u64,
    retracts: bool,
}

/// The result of adding a claim.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum ClaimOutcome {
    /// It counts from now on; `displaced` if another one was dropped. `since` is the moment of the assertion that it
    /// replaces.
    Counts { displaced: bool, place: u32, asserts: bool, since: Option<Moment> },
    /// It was known already.
    Repeated,
    /// Its source has made a later one.
    Superseded,
    /// All places are taken by more recent ones.
    Crowded,
}

/// The claims about one key, added up.
#[derive(Debug, Clone, Copy)]
pub(super) struct Sum {
    /// The signed evidence; negative where retractions prevail.
    pub(super) net: f64,
    /// The evidence without signs.
    pub(super) gross: f64,
    /// The number of credible sources that assert.
    pub(super) sources: usize,
}

/// A claim with what its sum needs.
#[derive(Debug)]
pub(super) struct Heard<'a> {
    pub(super) source: &'a Source,
    pub(super) at: Moment,
    pub(super) now: Moment,
    pub(super) claim: Claim,
    pub(super) cause: Option<&'a WaveId>,
    /// The root, if it is neither the cause nor the wave itself.
    pub(super) root: Option<&'a WaveId>,
    /// The evidence of its amplitude.
    pub(super) weight: f64,
}

impl Sum {
    pub(super) fn resultant(self) -> Resultant {
        let coherence = if self.gross > 0.0 { (self.net.abs() / self.gross).min(1.0) as f32 } else { 0.0 };
        Resultant { amplitude: amplitude(self.net), coherence, sources: self.sources }
    }
}

impl Evidence {
    /// The number of sources with a claim.
    pub(super) fn len(&self) -> usize {
        self.held.len()
    }

    pub(super) fn clear(&mut self) {
        self.held.clear();
    }

    /// Adds a claim made at a moment. Of one source the latest counts, by time and then by number. With more than `max`
    /// sources, those with the latest claims are kept. Both orders depend on the claims only, not on their arrival.
    pub(super) fn hear(
        &mut self,
        heard: &Heard<'_>,
        window: Window,
        max: usize,
        credits: &mut Credits,
    ) -> ClaimOutcome {
        let Heard { source, at, now, claim, weight, .. } = *heard;
        if let Some(held) = self.held.iter_mut().find(|held| held.source == *source) {
            return match (at, claim.sequence).cmp(&(held.at, held.sequence)) {
                Ordering::Greater => {
                    let since = held.asserts().then_some(held.at);
                    held.contribution = Contribution::new(at, claim, weight, window);
                    (held.at, held.sequence) = (at, claim.sequence);
                    let origin = held.origin.as_deref();
                    let (cause, root) =
                        origin.map_or((None, None), |it| (it.cause.as_ref(), it.root.as_ref()));
                    if (cause, root) != (heard.cause, heard.root) {
                        held.origin = ClaimOrigin::boxed(heard);
                    }
                    held.place = credits.place(source, Some(held.place), now);
                    let (place, asserts) = (held.place, held.asserts());
                    ClaimOutcome::Counts { displaced: false, place, asserts, since }
                }
                _ if claim.sequence == held.sequence => ClaimOutcome::Repeated,
                _ => ClaimOutcome::Superseded,
            };
        }
        let displaced = self.held.len() >= max;
        if displaced {
            let rank = |held: &HeldClaim| (held.at, held.sequence);
            let oldest = |a: &usize, b: &usize| {
                let (a, b) = (&self.held[*a], &self.held[*b]);
                rank(a).cmp(&rank(b)).then_with(|| by_source(&a.source, &b.source))
            };
            let Some(oldest) = (0..self.held.len()).min_by(oldest) else { return ClaimOutcome::Crowded };
            let held = &self.held[oldest];
            let newer = (at, claim.sequence).cmp(&rank(held)).then_with(|| by_source(source, &held.source));
            if newer.is_lt() {
                return ClaimOutcome::Crowded;
            }
            self.held.swap_remove(oldest);
        }
        let contribution = Contribution::new(at, claim, weight, window);
        let place = credits.place(source, None, now);
        let (source, sequence, origin) = (source.clone(), claim.sequence, ClaimOrigin::boxed(heard));
        let held = HeldClaim { source, place, sequence, at, contribution, origin };
        let asserts = held.asserts();
        self.held.push(held);
        ClaimOutcome::Counts { displaced, place, asserts, since: None }
    }

    /// The sum of the claims at a moment, which must not be before any of them.
    pub(super) fn sum(&self, now: Moment, window: Window, credits: &Credits) -> Sum {
        let (windows, part) = window.split(now);
        let counted = now.minus(window.times(WINDOWS_COUNTED));
        let (mut net, mut gross, mut sources) = (0i64, 0u64, 0);
        for held in &self.held {
            let shift = (windows - held.contribution.windows).clamp(0, 63);
            let part = held.contribution.net >> shift;
            gross += held.contribution.weight >> shift;
            if held.contribution.retracts {
                net -= part as i64;
                continue;
            }
            // Fits: less than 2^45 steps, and 2^8.
            let credit = credits.of(held.place, &held.source);
            net += (part * credit / FULL) as i64;
            sources += usize::from(held.contribution.net > 0 && credit >= CREDIBLE && held.at > counted);
        }
        let scale = (-part).exp2() / STEPS;
        Sum { net: net as f64 * scale, gross: gross as f64 * scale, sources }
    }

    /// The claims, oldest first. The order depends on the claims only, not on their arrival.
    pub(super) fn claims(&self) -> Vec<FringeClaim> {
        let mut held: Vec<_> = self.held.iter().collect();
        held.sort_unstable_by(|a, b| {
            (a.at, a.sequence).cmp(&(b.at, b.sequence)).then_with(|| by_source(&a.source, &b.source))
        });
        held.into_iter().map(HeldClaim::as_claim).collect()
    }

    /// The places of the sources that assert.
    pub(super) fn asserting(&self) -> impl Iterator<Item = u32> {
        self.held.iter().filter(|held| held.asserts()).map(|held| held.place)
    }

    /// When fewer than `sources` credible sources will assert, if no claim arrives before; `None` if there are fewer
    /// already.
    pub(super) fn lonely_at(
        &self,
        now: Moment,
        sources: usize,
        window: Window,
        credits: &Credits,
    ) -> Option<Moment> {
        let counted = window.times(WINDOWS_COUNTED);
        let counts = |held: &&HeldClaim| held.asserts() && credits.of(held.place, &held.source) >= CREDIBLE;
        let mut ends: Vec<Moment> =
            self.held.iter().filter(counts).map(|held| held.at.plus(counted)).collect();
        ends.sort_unstable();
        let first = ends.len().checked_sub(sources)?;
        ends.get(first).copied().filter(|end| *end > now)
    }
}

impl HeldClaim {
    fn as_claim(&self) -> FringeClaim {
        let wave = WaveId { source: self.source.clone(), sequence: self.sequence };
        let origin = self.origin.as_deref();
        let (cause, root) = origin.map_or((None, None), |it| (it.cause.clone(), it.root.clone()));
        FringeClaim { wave, cause, root, asserts: self.asserts() }
    }

    fn asserts(&self) -> bool {
        !self.contribution.retracts && self.contribution.net > 0
    }
}

impl Contribution {
    fn new(at: Moment, claim: Claim, weight: f64, window: Window) -> Self {
        let (windows, part) = window.split(at);
        let weight = weight * part.exp2() * STEPS;
        // The cosine in single precision is exactly -1 where the phase is pi in single precision.
        let cosine = if claim.phase == Phase::ASSERT { 1.0 } else { f64::from(claim.phase.radians().cos()) };
        let steps = |evidence: f64| evidence.round() as u64;
        Self { windows, weight: steps(weight), net: steps(weight * cosine.abs()), retracts: cosine < 0.0 }
    }
}

fn by_source(a: &Source, b: &Source) -> Ordering {
    a.instance().cmp(&b.instance()).then_with(|| a.name().cmp(b.name()))
}
