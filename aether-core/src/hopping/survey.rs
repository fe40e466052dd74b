//! How much a sender loses on each lane, and which lanes it had better leave out.
//!
//! Pure data, fed with what receivers report. A lane is left out above 30 % loss and taken back below 10 %. Whatever is
//! lost, a quarter of the lanes stays in use: those on which least is lost. A lane that is left out is probed by the
//! announcements, which go on hopping over all of them.

use super::lanes::LaneSet;

/// More than this share lost, and a lane is left out. Source: Bluetooth's adaptive hopping leaves the measure open;
/// 0.3 is what simulations of it use.
const TOO_MUCH: f32 = 0.3;
/// Less than this, and it is taken back.
const LITTLE: f32 = 0.1;
/// The weight of a slot in which enough was sent to tell chance from loss.
const WEIGHT: f32 = 0.3;
/// The weight of a slot in which less was: two of them lost in a row are chance at 1 % loss once in 10,000.
const LIGHT_WEIGHT: f32 = 0.2;
/// So many waves are enough, in a slot or at all.
const ENOUGH: u64 = 4;

/// What is known of one lane.
#[derive(Debug, Clone, Copy, Default)]
struct Mark {
    loss: f32,
    slots: u32,
    waves: u64,
}

/// The loss on each lane.
#[derive(Debug)]
pub(super) struct Survey {
    marks: Vec<Mark>,
}

impl Survey {
    pub(super) fn new(lanes: u8) -> Self {
        Self { marks: vec![Mark::default(); usize::from(lanes)] }
    }

    /// One receiver heard so many of what was sent on a lane in a slot.
    pub(super) fn note(&mut self, lane: u8, sent: u64, heard: u64) {
        let Some(mark) = self.marks.get_mut(usize::from(lane)).filter(|_| sent > 0) else { return };
        let lost = sent.saturating_sub(heard) as f32 / sent as f32;
        mark.slots = mark.slots.saturating_add(1);
        mark.waves = mark.waves.saturating_add(sent);
        // The first slots count alike, or the value that is begun with would count for something.
        let weight = if sent >= ENOUGH { WEIGHT } else { LIGHT_WEIGHT };
        mark.loss += weight.max(1.0 / mark.slots as f32) * (lost - mark.loss);
    }

    /// What share is lost on a lane, as far as known.
    pub(super) fn loss(&self, lane: u8) -> f32 {
        self.marks.get(usize::from(lane)).map_or(0.0, |mark| mark.loss)
    }

    /// The lanes that had better be in use, given those that are.
    pub(super) fn proposal(&self, used: LaneSet) -> LaneSet {
        let mut proposal = used;
        for (lane, mark) in (0..).zip(&self.marks) {
            if mark.loss > TOO_MUCH && mark.waves >= ENOUGH {
                proposal = proposal.without(lane);
            } else if mark.loss < LITTLE {
                proposal = proposal.with(lane);
            }
        }
        let fewest = (self.marks.len() / 4).max(1);
        let mut left_out: Vec<u8> =
            (0..self.marks.len() as u8).filter(|lane| !proposal.holds(*lane)).collect();
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
    fn a_jammed_lane_is_left_out_after_its_first_slots_and_taken_back_when_it_is_free() {
        let (mut survey, all) = (Survey::new(16), LaneSet::all(16));
        for lane in 0..16 {
            survey.note(lane, 20, 20);
        }
        assert_eq!(survey.proposal(all), all);
        survey.note(3, 20, 1);
        let left_out = survey.proposal(all);
        assert_eq!(left_out, all.without(3));
        // Announcements that do not come through keep it out, those that do bring it back.
        survey.note(3, 1, 0);
        assert_eq!(survey.proposal(left_out), left_out);
        let probes = (0..100).take_while(|_| {
            survey.note(3, 1, 1);
            survey.proposal(left_out) == left_out
        });
        assert!(probes.count() < 16);
        assert_eq!(survey.proposal(left_out), all);
    }

    #[test]
    fn chance_and_too_few_waves_leave_nothing_out() {
        let (mut survey, all) = (Survey::new(16), LaneSet::all(16));
        survey.note(0, 1, 0);
        survey.note(1, 3, 0);
        survey.note(99, 100, 0);
        survey.note(2, 0, 0);
        assert_eq!(survey.proposal(all), all);
    }

    proptest! {
        #[test]
        fn a_quarter_of_the_lanes_stays_and_it_is_the_best(
            lanes in 4..=64_u8,
            losses in prop::collection::vec(0..=100_u64, 64),
            used in any::<u64>(),
        ) {
            let mut survey = Survey::new(lanes);
            for lane in 0..lanes {
                survey.note(lane, 100, 100 - losses[usize::from(lane)]);
            }
            let proposal = survey.proposal(LaneSet(used & LaneSet::all(lanes).0));
            prop_assert!(proposal.len() as usize >= usize::from(lanes / 4));
            prop_assert_eq!(proposal.0 & !LaneSet::all(lanes).0, 0);
            for lane in 0..lanes {
                let loss = losses[usize::from(lane)];
                prop_assert!(loss >= 10 || proposal.holds(lane));
                if loss > 30 && proposal.holds(lane) {
                    // Only as one of the last, and no better one is left out for it.
                    prop_assert_eq!(proposal.len() as usize, usize::from(lanes / 4).max(1));
                    prop_assert!((0..lanes).all(|other| proposal.holds(other) || losses[usize::from(other)] >= loss));
                }
            }
        }
    }
}
