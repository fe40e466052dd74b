//! The processes that hear a channel, and which member of a group gets a wave.
//!
//! The sender chooses the member, by rendezvous hashing: each member has a score for each wave, and the highest one gets
//! it. So all senders that know the same members share the work alike, and a member that comes or goes moves no waves
//! between the others.

use std::collections::BTreeMap;
use std::sync::Arc;

use smallvec::SmallVec;

use super::message::Addressees;
use super::table::Hearer;
use aether_core::{Channel, Wave};

/// A member of a group: its process and its id there.
pub(super) type Member = (u64, u64);

/// The processes that hear a channel.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Route {
    /// Processes with subscriptions outside of groups: they get all waves.
    pub(super) lone: Vec<u64>,
    /// The ones among them where somebody can answer.
    answering: Vec<u64>,
    /// Those with observers.
    pub(super) observing: Vec<u64>,
    /// The members of each group.
    pub(super) groups: Vec<(Arc<str>, Vec<Member>)>,
}

impl Route {
    /// Whether it leads to others than this node.
    pub(super) fn leaves(&self, node: u64) -> bool {
        let members = self.groups.iter().flat_map(|(_, members)| members.iter().map(|(of, _)| of));
        self.lone.iter().chain(members).any(|other| *other != node)
    }

    /// The route of a channel through the tables of all processes.
    pub(super) fn new<'a>(channel: &Channel, tables: impl Iterator<Item = (u64, &'a [Hearer])>) -> Self {
        let mut route = Self::default();
        let mut groups = BTreeMap::<Arc<str>, Vec<Member>>::new();
        for (node, hearers) in tables {
            let (mut answers, mut observes) = (false, false);
            for hearer in hearers.iter().filter(|hearer| hearer.pattern.matches(channel)) {
                match &hearer.group {
                    Some(group) => groups.entry(Arc::clone(group)).or_default().push((node, hearer.id)),
                    None if hearer.observes => observes = true,
                    None => answers = true,
                }
            }
            if answers || observes {
                route.lone.push(node);
            }
            route.answering.extend(answers.then_some(node));
            route.observing.extend(observes.then_some(node));
        }
        route.groups = groups.into_iter().collect();
        route
    }

    /// Whether anybody but observers hears the channel.
    pub(super) fn is_heard(&self) -> bool {
        !self.answering.is_empty() || !self.groups.is_empty()
    }

    /// Those who get a question or a notice: all lone receivers, and one member of each group.
    pub(super) fn addressees(&self, question: &Wave) -> BTreeMap<u64, Addressees> {
        let mut nodes = BTreeMap::<u64, Addressees>::new();
        for node in &self.answering {
            nodes.entry(*node).or_default().lone = true;
        }
        let key = key_of(question);
        for (node, member) in self.groups.iter().filter_map(|(_, members)| choose(members, key)) {
            nodes.entry(node).or_default().members.push(member);
        }
        nodes
    }

    /// The member of a group that gets a wave in place of one that has left.
    pub(super) fn instead_of(&self, group: &str, gone: Member, wave: &Wave) -> Option<Member> {
        let (_, members) = self.groups.iter().find(|(name, _)| **name == *group)?;
        let others: SmallVec<[Member; 8]> =
            members.iter().copied().filter(|member| *member != gone).collect();
        choose(&others, key_of(wave))
    }
}

/// The key of the choice of a member, besides the members: the wave.
pub(super) fn key_of(wave: &Wave) -> u64 {
    mixed(wave.source().instance() ^ mixed(wave.sequence()))
}

/// The member with the highest score.
pub(super) fn choose(members: &[Member], key: u64) -> Option<Member> {
    members.iter().copied().max_by_key(|(node, id)| (mixed(key ^ mixed(*node ^ mixed(*id))), *node, *id))
}

/// The finalizer of SplitMix64 (Steele, Lea and Flood, 2014): each bit of the input changes half the bits of the output.
const fn mixed(number: u64) -> u64 {
    let number = number.wrapping_add(0x9E37_79B9_7F4A_7C15);
    let number = (number ^ (number >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let number = (number ^ (number >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    number ^ (number >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;
    use aether_core::Pattern;

    #[test]
    fn a_member_that_goes_moves_only_its_own_waves() {
        let members: Vec<Member> = (0..5).map(|id| (id % 3, id)).collect();
        let mut shares = [0; 5];
        for key in 0..10_000 {
            let chosen = choose(&members, mixed(key)).unwrap();
            shares[chosen.1 as usize] += 1;
            let without: Vec<Member> =
                members.iter().copied().filter(|member| *member != members[2]).collect();
            if chosen != members[2] {
                assert_eq!(choose(&without, mixed(key)), Some(chosen));
            }
        }
        // The fair share is 2000, with a standard deviation of 40.
        assert!(shares.iter().all(|share| (1800..2200).contains(share)), "{shares:?}");
        assert_eq!(choose(&[], 1), None);
    }

    #[test]
    fn observers_hear_waves_and_count_as_no_receivers() {
        let hearer = |id, pattern: &str, observes| Hearer {
            id,
            pattern: Pattern::new(pattern).unwrap(),
            group: None,
            observes,
        };
        let (one, two) = ([hearer(1, ">", true)], [hearer(1, "a.*", false)]);
        let tables = || [(1, &one[..]), (2, &two[..])].into_iter();
        let heard = Route::new(&Channel::new("a.b").unwrap(), tables());
        assert_eq!((&*heard.lone, &*heard.observing, heard.is_heard()), (&[1, 2][..], &[1][..], true));
        let unheard = Route::new(&Channel::new("b").unwrap(), tables());
        assert_eq!((&*unheard.lone, unheard.is_heard()), (&[1][..], false));
    }
}
