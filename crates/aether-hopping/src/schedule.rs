//! The times at which slots are sent in, heard and joined. Pure arithmetic on nanoseconds since 1970.
//!
//! A sender is in one slot at a time. A receiver hears a slot, by its own clock, from one guard before the slot begins
//! until one guard after it ends. Sender and receiver therefore meet for every clock error up to the guard. The
//! receiver joins earlier than it must hear, because subscribing takes time.

use std::ops::RangeInclusive;

/// The number of past slots that each control message covers, so that later messages make up for lost ones.
pub(crate) const HISTORY: u64 = 8;

/// The slots and their edges.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Schedule {
    /// The length of a slot, in nanoseconds.
    slot: u64,
    guard: u64,
}

impl Schedule {
    /// `guard` must be less than half a slot, so that at most two slots are heard at a time.
    pub(crate) const fn new(slot: u64, guard: u64) -> Self {
        Self { slot, guard }
    }

    pub(crate) const fn slot_len(self) -> u64 {
        self.slot
    }

    pub(crate) const fn guard(self) -> u64 {
        self.guard
    }

    /// The slot that a sender is in at a time.
    pub(crate) const fn slot_at(self, now: u64) -> u64 {
        now / self.slot
    }

    /// The beginning of a slot.
    pub(crate) const fn begin(self, slot: u64) -> u64 {
        slot.saturating_mul(self.slot)
    }

    /// The middle of a slot. Control messages are sent then, as far from the edges as possible.
    pub(crate) const fn middle(self, slot: u64) -> u64 {
        self.begin(slot).saturating_add(self.slot / 2)
    }

    /// The slots that a receiver must hear at a time.
    pub(crate) const fn heard(self, now: u64) -> RangeInclusive<u64> {
        now.saturating_sub(self.guard) / self.slot..=now.saturating_add(self.guard) / self.slot
    }

    /// The time between joining a slot and its beginning: two guards, of which one covers the time that subscribing
    /// takes. At most half a slot, so that there are never three slots at a time.
    const fn ahead(self) -> u64 {
        let (twice, half) = (2 * self.guard, self.slot / 2);
        if twice < half { twice } else { half }
    }

    /// The slots that a receiver is subscribed to: those it must hear, and the next one ahead of time.
    pub(crate) const fn joined(self, now: u64) -> RangeInclusive<u64> {
        now.saturating_sub(self.guard) / self.slot..=now.saturating_add(self.ahead()) / self.slot
    }

    /// The next time at which [`Schedule::joined`] changes.
    pub(crate) const fn next_change(self, now: u64) -> u64 {
        let joined = self.joined(now);
        let joins = self.begin(*joined.end() + 1).saturating_sub(self.ahead());
        let leaves = self.begin(*joined.start() + 1).saturating_add(self.guard);
        if joins < leaves { joins } else { leaves }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const MS: u64 = 1_000_000;

    prop_compose! {
        /// A schedule and a time somewhere in this century.
        fn a_schedule()(slot in 10 * MS..5_000 * MS, part in 0..1_000_000_u64, now in 1 << 60..1_u64 << 62)
            -> (Schedule, u64) {
            (Schedule::new(slot, (slot / 2 - 1) / 1_000_000 * part), now)
        }
    }

    proptest! {
        #[test]
        fn sender_and_receiver_meet_for_every_clock_error_up_to_the_guard(
            (schedule, now) in a_schedule(), part in -1.0..=1.0_f64,
        ) {
            let error = (schedule.guard as f64 * part) as i64;
            for error in [error, schedule.guard as i64, -(schedule.guard as i64), 0] {
                let theirs = now.saturating_add_signed(error);
                prop_assert!(schedule.heard(theirs).contains(&schedule.slot_at(now)), "{error}");
                prop_assert!(schedule.joined(theirs).contains(&schedule.slot_at(now)), "{error}");
            }
        }

        #[test]
        fn at_most_two_slots_are_joined_and_they_change_only_at_the_next_change(
            (schedule, now) in a_schedule(), part in 0.0..1.0_f64,
        ) {
            let joined = schedule.joined(now);
            prop_assert!(joined.end() - joined.start() <= 1);
            prop_assert!(joined.start() <= schedule.heard(now).start() && joined.end() >= schedule.heard(now).end());
            let change = schedule.next_change(now);
            prop_assert!(change > now && change - now <= schedule.slot);
            let between = now + ((change - 1 - now) as f64 * part) as u64;
            prop_assert_eq!(schedule.joined(between), joined.clone());
            prop_assert_ne!(schedule.joined(change), joined);
        }

        #[test]
        fn a_slot_is_joined_two_guards_ahead_but_at_most_half_a_slot(
            (schedule, now) in a_schedule(),
        ) {
            let slot = schedule.slot_at(now);
            let joined = schedule.begin(slot) - (2 * schedule.guard).min(schedule.slot / 2);
            prop_assert!(schedule.joined(joined).contains(&slot));
            prop_assert!(joined == 0 || !schedule.joined(joined - 1).contains(&slot));
        }
    }
}
