//! The loss rate of each lane of a sender, and the lanes to leave out.
//!
//! Pure data, fed with reports from receivers. A lane is left out above 30 % loss and used again below 10 %. The
//! quarter of the lanes with the least loss always stays in use. Control messages use all lanes, so they probe those
//! that are left out.

use crate::lanes::LaneSet;

/// Lanes with a higher loss rate are left out. Source: Bluetooth's adaptive hopping does not specify the threshold;
/// simulations of it use 0.3.
const TOO_MUCH: f32 = 0.3;
/// Lanes with a lower loss rate are used again.
const LITTLE: f32 = 0.1;
/// The weight of a slot with enough waves to distinguish loss from chance.
const WEIGHT: f32 = 0.3;
/// The weight of a slot with fewer waves. At 1 % loss, two single waves in a row are lost once in 10,000 cases.
const LIGHT_WEIGHT: f32 = 0.2;
/// The number of waves needed for a judgement, in one slot or in total.
const ENOUGH: u64 = 4;

/// The estimate for one lane.
#[derive(Debug, Clone, Copy, Default)]
struct LossEstimate {
    loss: f32,
    slots: u32,
    waves: u64,
}

/// The loss on each lane.
#[derive(Debug)]
pub(crate) struct LaneLoss {
    estimates: Vec<LossEstimate>,
}

impl LaneLoss {
    pub(crate) fn new(lanes: u8) -> Self {
        Self { estimates: vec![LossEstimate::default(); usize::from(lanes)] }
    }

    /// Records how many waves were sent on a lane in one slot, and how many of them one receiver received.
    pub(crate) fn note(&mut self, lane: u8, sent: u64, heard: u64) {
        let Some(estimate) = self.estimates.get_mut(usize::from(lane)).filter(|_| sent > 0) else { return };
        let lost = sent.saturating_sub(heard) as f32 / sent as f32;
        estimate.slots = estimate.slots.saturating_add(1);
        estimate.waves = estimate.waves.saturating_add(sent);
        // The first slots are averaged evenly, so that the initial value has no weight.
        let weight = if sent >= ENOUGH { WEIGHT } else { LIGHT_WEIGHT };
        estimate.loss += weight.max(1.0 / estimate.slots as f32) * (lost - estimate.loss);
    }

    /// The estimated loss rate of a lane, from 0 to 1.
    pub(crate) fn loss(&self, lane: u8) -> f32 {
        self.estimates.get(usize::from(lane)).map_or(0.0, |estimate| estimate.loss)
    }

    /// Proposes the lanes to use, given those in use.
    pub(crate) fn proposal(&self, used: LaneSet) -> LaneSet {
        let mut proposal = used;
        for (lane, estimate) in (0..).zip(&self.estimates) {
            if estimate.loss > TOO_MUCH && estimate.waves >= ENOUGH {
                proposal = proposal.without(lane);
            } else if estimate.loss < LITTLE {
                proposal = proposal.with(lane);
            }
        }
        let fewest = (self.estimates.len() / 4).max(1);
        let mut left_out: Vec<u8> =
            (0..self.estimates.len() as u8).filter(|lane| !proposal.holds(*lane)).collect();
        left_out.sort_by(|a, b| self.loss(*b).total_cmp(&self.loss(*a)));
        while (proposal.len() as usize) < fewest {
            let Some(best) = left_out.pop() else { break };
            proposal = proposal.with(best);
        }
        proposal
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_jammed_lane_is_left_out_after_its_first_slots_and_used_again_when_it_is_free() {
        let (mut lane_loss, all) = (LaneLoss::new(16), LaneSet::all(16));
        for lane in 0..16 {
            lane_loss.note(lane, 20, 20);
        }
        assert_eq!(lane_loss.proposal(all), all);
        lane_loss.note(3, 20, 1);
        let left_out = lane_loss.proposal(all);
        assert_eq!(left_out, all.without(3));
        // Lost control messages keep it out, and arriving ones bring it back.
        lane_loss.note(3, 1, 0);
        assert_eq!(lane_loss.proposal(left_out), left_out);
        let probes = (0..100).take_while(|_| {
            lane_loss.note(3, 1, 1);
            lane_loss.proposal(left_out) == left_out
        });
        assert!(probes.count() < 16);
        assert_eq!(lane_loss.proposal(left_out), all);
    }

    #[test]
    fn chance_losses_and_too_few_waves_leave_no_lane_out() {
        let (mut lane_loss, all) = (LaneLoss::new(16), LaneSet::all(16));
        lane_loss.note(0, 1, 0);
        lane_loss.note(1, 3, 0);
        lane_loss.note(99, 100, 0);
        lane_loss.note(2, 0, 0);
        assert_eq!(lane_loss.proposal(all), all);
    }

    proptest! {
        #[test]
        fn the_best_quarter_of_the_lanes_always_stays_in_use(
            lanes in 4..=64_u8,
            losses in prop::collection::vec(0..=100_u64, 64),
            used in any::<u64>(),
        ) {
            let mut lane_loss = LaneLoss::new(lanes);
            for lane in 0..lanes {
                lane_loss.note(lane, 100, 100 - losses[usize::from(lane)]);
            }
            let proposal = lane_loss.proposal(LaneSet(used & LaneSet::all(lanes).0));
            prop_assert!(proposal.len() as usize >= usize::from(lanes / 4));
            prop_assert_eq!(proposal.0 & !LaneSet::all(lanes).0, 0);
            for lane in 0..lanes {
                let loss = losses[usize::from(lane)];
                prop_assert!(loss >= 10 || proposal.holds(lane));
                if loss > 30 && proposal.holds(lane) {
                    // Only if no more lanes may be left out, and no better lane is left out in its place.
                    prop_assert_eq!(proposal.len() as usize, usize::from(lanes / 4).max(1));
                    prop_assert!((0..lanes).all(|other| proposal.holds(other) || losses[usize::from(other)] >= loss));
                }
            }
        }
    }
}
