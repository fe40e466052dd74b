//! What happens to one wave: drawn from the seed and the identity of the wave, so that it does not depend on the order in
//! which tasks run.

use std::collections::HashMap;
use std::time::Duration;

use aether_core::{Source, Wave};

use super::counts::FaultCounts;
use super::fault::{Effect, Fault, FaultId};
use crate::seed::{mixed, number_of, share_of};

/// The maximum number of distinguished sources; further ones of a name draw alike.
const MAX_SOURCES: usize = 4096;

/// A wave that is lost, and what lost it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Loss {
    Lost,
    Partitioned,
}

/// What happens to one wave.
#[derive(Debug, Default)]
pub(super) struct Fate {
    pub(super) loss: Option<Loss>,
    /// Random bits that choose the bit to flip.
    corrupt: Option<u64>,
    pub(super) is_duplicated: bool,
    /// How long it is held back in its order.
    delay: Duration,
    is_delayed: bool,
    is_throttled: bool,
    /// How long it is held back so that others overtake it.
    overtaken: Option<Duration>,
    /// The stall that holds it.
    pub(super) stall: Option<FaultId>,
}

impl Fate {
    /// Whether the wave passes at once, unchanged.
    pub(super) fn is_immediate(&self) -> bool {
        self.delay.is_zero() && self.overtaken.is_none() && self.stall.is_none() && self.corrupt.is_none()
    }

    /// How long the wave is held back.
    pub(super) fn delay(&self) -> Duration {
        self.delay + self.overtaken.unwrap_or_default()
    }

    /// Whether the wave keeps its place in its stream.
    pub(super) fn keeps_order(&self) -> bool {
        self.overtaken.is_none()
    }

    /// Flips the bit that was drawn, if any, and counts what happens to the wave.
    pub(super) fn applied(&self, wave: Wave, counts: &mut FaultCounts) -> Wave {
        counts.delayed += u64::from(self.is_delayed);
        counts.throttled += u64::from(self.is_throttled);
        counts.reordered += u64::from(self.overtaken.is_some());
        counts.stalled += u64::from(self.stall.is_some());
        match self.corrupt.and_then(|bits| flipped(wave.payload(), bits)) {
            Some(payload) => {
                counts.corrupted += 1;
                wave.with_payload(payload)
            }
            None => wave,
        }
    }
}

/// The payload with one bit flipped; `None` if it is empty.
fn flipped(payload: &[u8], bits: u64) -> Option<Vec<u8>> {
    let at = usize::try_from((bits >> 3) % u64::try_from(payload.len()).ok()?.max(1)).ok()?;
    let mut payload = payload.to_vec();
    *payload.get_mut(at)? ^= 1 << (bits & 7);
    Some(payload)
}

/// The faults that are in force, and what they remember.
#[derive(Debug)]
pub(super) struct Active {
    seed: u64,
    faults: Vec<ActiveFault>,
    last_id: u64,
    /// The instances of each name are numbered as they appear, because their own numbers are random.
    sources: HashMap<Source, u64>,
}

#[derive(Debug)]
struct ActiveFault {
    id: FaultId,
    fault: Fault,
    /// When a throttle lets the next wave pass.
    next_free: Duration,
}

impl Active {
    pub(super) fn new(seed: u64) -> Self {
        Self { seed, faults: Vec::new(), last_id: 0, sources: HashMap::new() }
    }

    pub(super) fn add(&mut self, fault: Fault) -> FaultId {
        self.last_id += 1;
        let id = FaultId(self.last_id);
        self.faults.push(ActiveFault { id, fault, next_free: Duration::ZERO });
        id
    }

    pub(super) fn heal(&mut self, id: FaultId) {
        self.faults.retain(|active| active.id != id);
    }

    pub(super) fn heal_all(&mut self) {
        self.faults.clear();
    }

    /// Whether a fault was ever added.
    pub(super) fn was_used(&self) -> bool {
        self.last_id > 0
    }

    /// Whether this stall still holds waves.
    pub(super) fn holds(&self, id: FaultId, now: Duration) -> bool {
        self.faults.iter().any(|active| active.id == id && active.fault.is_active(now))
    }

    /// When this stall ends by itself.
    pub(super) fn end_of(&self, id: FaultId) -> Option<Duration> {
        self.faults.iter().find(|active| active.id == id)?.fault.end()
    }

    /// Whether everything is cut off.
    pub(super) fn cuts_all(&self, now: Duration) -> bool {
        self.faults.iter().any(|active| active.fault.is_active(now) && active.fault.cuts_all())
    }

    /// What happens to a wave. All faults that hit it add up.
    pub(super) fn fate(&mut self, wave: &Wave, now: Duration) -> Fate {
        let mut fate = Fate::default();
        if self.faults.is_empty() {
            return fate;
        }
        let instance = self.number_of_source(wave.source());
        let Self { seed, faults, .. } = self;
        for ActiveFault { id, fault, next_free } in
            faults.iter_mut().filter(|active| active.fault.is_active(now))
        {
            let identity = [
                *seed,
                id.0,
                number_of(wave.source().name()),
                instance,
                wave.sequence(),
                number_of(wave.channel().as_str()),
            ];
            let bits = mixed(identity);
            if !fault.hits(wave, share_of(bits)) {
                continue;
            }
            // The bits of a hit are below the share, so later faults draw from new ones.
            let bits = mixed([bits, 1]);
            match &fault.effect {
                Effect::Lose => fate.loss = fate.loss.or(Some(Loss::Lost)),
                Effect::Partition => fate.loss = Some(Loss::Partitioned),
                Effect::Corrupt => fate.corrupt = Some(bits),
                Effect::Duplicate => fate.is_duplicated = true,
                Effect::Delay { least, most } => {
                    fate.delay += *least + (*most - *least).mul_f64(share_of(bits));
                    fate.is_delayed = true;
                }
                Effect::Reorder { by } => fate.overtaken = Some(fate.overtaken.unwrap_or_default() + *by),
                Effect::Throttle { pause } => {
                    let free = (*next_free).max(now);
                    *next_free = free + *pause;
                    fate.delay += free - now;
                    fate.is_throttled |= free > now;
                }
                Effect::Stall => fate.stall = Some(*id),
            }
        }
        fate
    }

    fn number_of_source(&mut self, source: &Source) -> u64 {
        if let Some(number) = self.sources.get(source) {
            return *number;
        }
        let number = self.sources.keys().filter(|other| other.name() == source.name()).count() as u64;
        if self.sources.len() < MAX_SOURCES {
            self.sources.insert(source.clone(), number);
        }
        number
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_bit_is_flipped_and_an_empty_payload_has_none() {
        for bits in [0, 7, 8, u64::MAX] {
            let flipped = flipped(&[0, 0, 0], bits).unwrap();
            assert_eq!(flipped.iter().map(|byte| byte.count_ones()).sum::<u32>(), 1, "{bits}");
        }
        assert!(flipped(&[], 3).is_none());
    }

    #[test]
    fn a_throttle_spaces_waves_evenly() {
        let mut active = Active::new(1);
        active.add(Fault::throttle(4, Duration::from_secs(1)));
        let wave = Wave::builder("a").build().unwrap();
        let delays: Vec<_> = (0..3).map(|_| active.fate(&wave, Duration::ZERO).delay()).collect();
        assert_eq!(delays, [0, 250, 500].map(Duration::from_millis));
    }
}
