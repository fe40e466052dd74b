//! A bounded queue of echoes: the first are kept separately, the rest are merged by reason. Pure data.
//!
//! Used at the senders of echoes and at the source. Merging loses the identities of the merged waves, but no count.

use std::collections::VecDeque;

use super::{Echo, EchoReason};

/// Echoes in the order of their first failure, each with data of its owner.
#[derive(Debug)]
pub(super) struct CoalescingQueue<T> {
    entries: VecDeque<(Echo, T)>,
    /// The number kept separately; beyond it there is at most one more for each reason.
    apart: usize,
}

impl<T> CoalescingQueue<T> {
    pub(super) const fn new(apart: usize) -> Self {
        Self { entries: VecDeque::new(), apart }
    }

    /// Adds failures. Either `make` or `merge` is called. Returns whether they were merged.
    pub(super) fn add(
        &mut self,
        reason: EchoReason,
        count: u64,
        make: impl FnOnce() -> (Echo, T),
        merge: impl FnOnce(&mut T),
    ) -> bool {
        if self.entries.len() >= self.apart {
            // Searched from the back: failures are merged into the latest echo.
            if let Some((echo, data)) = self.entries.iter_mut().rev().find(|(echo, _)| echo.reason == reason)
            {
                echo.count = echo.count.saturating_add(count);
                merge(data);
                return true;
            }
        }
        self.entries.push_back(make());
        false
    }

    /// Takes the oldest echo.
    pub(super) fn take_first(&mut self) -> Option<(Echo, T)> {
        self.entries.pop_front()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &(Echo, T)> {
        self.entries.iter()
    }

    pub(super) fn into_entries(self) -> VecDeque<(Echo, T)> {
        self.entries
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wave::Wave;
    use proptest::prelude::*;

    const REASONS: [EchoReason; 6] = [
        EchoReason::NoResonator,
        EchoReason::Rejected,
        EchoReason::HandlerFailed,
        EchoReason::Expired,
        EchoReason::Shed,
        EchoReason::TooFar,
    ];

    proptest! {
        #[test]
        fn a_queue_is_bounded_and_loses_no_count(
            steps in prop::collection::vec((0..7_usize, 1..5_u64), 0..300),
            apart in 0..20_usize,
        ) {
            let wave = Wave::from_bytes("a", "x").unwrap();
            let mut queue = CoalescingQueue::new(apart);
            let (mut added, mut taken) = ([0_u64; 6], [0_u64; 6]);
            let place = |reason| REASONS.iter().position(|other| *other == reason).unwrap();
            for (step, count) in steps {
                if let Some(reason) = REASONS.get(step) {
                    added[step] += count;
                    queue.add(*reason, count, || (Echo { count, ..Echo::new(&wave, *reason, "", "") }, ()), |()| ());
                } else if let Some((echo, ())) = queue.take_first() {
                    taken[place(echo.reason)] += echo.count;
                }
                prop_assert!(queue.iter().count() <= apart + REASONS.len());
            }
            for (echo, ()) in queue.into_entries() {
                taken[place(echo.reason)] += echo.count;
            }
            prop_assert_eq!(added, taken);
        }
    }

    #[test]
    fn echoes_are_kept_separately_and_the_rest_are_merged_into_the_latest() {
        let mut queue = CoalescingQueue::new(2);
        for sequence in 1..=5 {
            let mut echo = Echo::new(&Wave::from_bytes("a", "x").unwrap(), EchoReason::Shed, "", "");
            echo.of.sequence = sequence;
            assert_eq!(queue.add(EchoReason::Shed, 1, || (echo, ()), |()| ()), sequence > 2);
        }
        let seen: Vec<_> = queue.iter().map(|(echo, ())| (echo.of.sequence, echo.count)).collect();
        assert_eq!(seen, [(1, 1), (2, 4)]);
    }
}
