//! Replay protection: which frames of which senders have been seen.
//!
//! Each subscription has a [`ReplayGuard`]. It keeps a sliding window for each sender that it hears (RFC 6479: a ring of
//! bits, moved by clearing words). Memory is bounded for all guards of a process together, and given back: senders that
//! were silent for longer than [`FRESH`] make room for new ones. A sender without a window, new or evicted, is taken only
//! if its frame was sealed within [`FRESH`], and after the last frame of every sender that this guard has evicted. So no
//! frame is taken twice by one guard.
//!
//! Where signatures are checked, a window belongs to a sender and its signer: nobody can move the window of another. Nor can
//! anybody have it evicted, because the signer with most windows makes room; and what was evicted counts against frames of
//! its own signer only. The window is looked at before the signature, which costs more, and changed after it.
//!
//! Times are what senders say. A window that has seen a time ahead of [`FRESH`] is kept until that time has passed. If there
//! is no room for it, what it has seen counts as sealed at most [`FRESH`] ahead: otherwise one wrong clock would shut
//! out the new senders of its signer for as long as it was ahead.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use super::refusals::Refusal;
use aether_core::medium::UNPROVEN;
use aether_core::wave::SignerId;
use aether_link::Shares;

/// How far the time of sealing may be from the time of arrival for frames that the window cannot judge. It bounds how old
/// a replay to a new listener can be, and how far clocks may differ. Kerberos allows 5 minutes (RFC 4120); NTP keeps
/// clocks within 0.1 s; a server holds messages for a slow client for 10 s.
pub const FRESH: Duration = Duration::from_secs(60);
const FRESH_MICROS: u64 = FRESH.as_micros() as u64;

/// The words of a window, a power of two. All but one hold frames: 4032 of them. Numbers are given when frames are sealed,
/// and a thread may be preempted before its frame is sent, while others send theirs.
const WORDS: usize = 64;
const BITS: u64 = u64::BITS as u64;
const REMEMBERED: u64 = (WORDS as u64 - 1) * BITS;

/// The memory of a window with its entry in the table, rounded up.
const WINDOW_BYTES: usize = 640;
/// The memory of all windows of a process. While one guard has used up all of it, others still get their even share, so it
/// may be twice as much.
const MAX_BYTES: usize = 16 << 20;
const MAX_WINDOWS: usize = MAX_BYTES / WINDOW_BYTES;
/// Each guard may have this many windows, however many the others have. Subscriptions are made by this process only.
const OWN_WINDOWS: usize = 8;

/// The number of windows of all guards of a process.
#[derive(Debug, Default)]
pub(super) struct Budget(AtomicUsize);

/// The frames of one sender that were seen.
struct SenderWindow {
    highest: u64,
    /// The latest time of sealing.
    latest_micros: u64,
    /// The bit of frame `n` is bit `n % 64` of word `n / 64 % WORDS`.
    seen: Box<[u64; WORDS]>,
}

/// The sender of a sealed frame, and its time.
#[derive(Debug, Clone, Copy)]
pub(super) struct Stamp {
    /// The signer, if that is checked.
    pub(super) signer: Option<SignerId>,
    pub(super) sender: u64,
    pub(super) counter: u64,
    pub(super) sealed_micros: u64,
    /// The time of arrival in microseconds since 1970.
    pub(super) now_micros: u64,
}

impl Stamp {
    /// Whose share of the windows it takes.
    fn principal(&self) -> u64 {
        self.signer.map_or(UNPROVEN, |signer| signer.0)
    }

    /// How far the clock of the sender seems to be ahead, in microseconds.
    fn ahead_micros(&self) -> i64 {
        self.sealed_micros.cast_signed().saturating_sub(self.now_micros.cast_signed())
    }

    fn is_fresh(&self) -> bool {
        self.ahead_micros().unsigned_abs() <= FRESH_MICROS
    }

    fn stale(&self) -> Refusal {
        Refusal::Stale { ahead_micros: self.ahead_micros() }
    }
}

impl SenderWindow {
    /// The window after the first frame that is seen. Earlier frames have not been seen.
    fn new(stamp: Stamp) -> Self {
        let Stamp { counter, sealed_micros, .. } = stamp;
        let mut window = Self { highest: counter, latest_micros: sealed_micros, seen: Box::new([0; WORDS]) };
        window.mark(counter);
        window
    }

    fn place(counter: u64) -> (usize, u64) {
        ((counter / BITS) as usize % WORDS, 1 << (counter % BITS))
    }

    fn mark(&mut self, counter: u64) {
        let (word, bit) = Self::place(counter);
        self.seen[word] |= bit;
    }

    /// Whether a frame may be taken: it was not seen and is not older than the window. A frame that is later than all seen
    /// is taken whatever its time, because clocks can be set; an earlier one must be fresh.
    fn check(&self, stamp: Stamp, is_strict: bool) -> Result<(), Refusal> {
        let counter = stamp.counter;
        if counter <= self.highest {
            let (word, bit) = Self::place(counter);
            let is_recycled = self.highest - counter >= REMEMBERED;
            if is_recycled || self.seen[word] & bit != 0 {
                return Err(Refusal::Replayed);
            }
        }
        let must_be_fresh = is_strict || counter <= self.highest;
        if must_be_fresh && !stamp.is_fresh() { Err(stamp.stale()) } else { Ok(()) }
    }

    /// Takes a frame that was checked.
    fn take(&mut self, stamp: Stamp) {
        let Stamp { counter, sealed_micros, .. } = stamp;
        if counter > self.highest {
            let (from, to) = (self.highest / BITS, counter / BITS);
            for word in 1..=(to - from).min(WORDS as u64) {
                self.seen[(from + word) as usize % WORDS] = 0;
            }
            self.highest = counter;
        }
        self.mark(counter);
        self.latest_micros = self.latest_micros.max(sealed_micros);
    }
}

/// Refuses frames that one subscription has already taken.
pub struct ReplayGuard {
    /// The windows of each signer. Frames of its unknown senders must have been sealed after the time that is noted:
    /// the last one of those that were evicted.
    windows: Shares<u64, SenderWindow, u64>,
    /// Whether each frame must be fresh.
    is_strict: bool,
    budget: Arc<Budget>,
}

impl ReplayGuard {
    pub(super) fn new(budget: Arc<Budget>) -> Self {
        Self { windows: Shares::default(), is_strict: false, budget }
    }

    /// A guard of a subscription that gets only some of the frames of its subjects, such as the subscription of a group
    /// member. It cannot tell a frame that another member got from a new one, so it takes no frame that is not fresh.
    #[must_use]
    pub fn of_a_share(mut self) -> Self {
        self.is_strict = true;
        self
    }

    /// Whether a frame may be taken. Changes nothing.
    pub(super) fn check(&self, stamp: Stamp) -> Result<(), Refusal> {
        let share = self.windows.share(stamp.principal());
        match share.and_then(|share| share.entries.peek(&stamp.sender)) {
            Some(window) => window.check(stamp, self.is_strict),
            None => self.check_new(stamp),
        }
    }

    /// Whether the first frame of a sender may be taken.
    fn check_new(&self, stamp: Stamp) -> Result<(), Refusal> {
        let after_micros = self.windows.share(stamp.principal()).map_or(0, |share| share.note);
        let is_later = stamp.sealed_micros > after_micros;
        if stamp.is_fresh() && is_later { Ok(()) } else { Err(stamp.stale()) }
    }

    pub(super) fn take(&mut self, stamp: Stamp) -> Result<(), Refusal> {
        let (principal, now_micros) = (stamp.principal(), stamp.now_micros);
        if let Some(window) = self.windows.get_mut(principal, &stamp.sender) {
            window.check(stamp, self.is_strict)?;
            window.take(stamp);
            return Ok(());
        }
        self.check_new(stamp)?;
        self.evict_expired(principal, now_micros);
        self.budget.0.fetch_add(1, Ordering::Relaxed);
        // About one owner for each guard.
        let share = (MAX_WINDOWS / Arc::strong_count(&self.budget)).max(OWN_WINDOWS);
        for _ in 0..2 {
            if self.budget.0.load(Ordering::Relaxed) > MAX_WINDOWS && self.senders() >= share {
                self.evict(self.windows.gives_way_to(principal), now_micros);
            }
        }
        self.windows.push(principal, stamp.sender, SenderWindow::new(stamp));
        Ok(())
    }

    /// Gives up windows that refuse nothing any more, because everything that they have seen is no longer fresh. At most
    /// four for each new sender: so the table shrinks, and no call takes long. Otherwise the senders of the past, of which
    /// each connection makes one, would in time take the room of all guards.
    fn evict_expired(&mut self, principal: u64, now_micros: u64) {
        for principal in [principal, self.windows.gives_way_to(principal)] {
            for _ in 0..2 {
                let oldest = self.windows.oldest(principal);
                let Some((sender, latest)) = oldest.map(|(sender, window)| (*sender, window.latest_micros))
                else {
                    break;
                };
                if latest > now_micros.saturating_add(FRESH_MICROS) {
                    // It stays, and is not in the way of those behind it.
                    self.windows.get_mut(principal, &sender);
                } else if latest.saturating_add(FRESH_MICROS) < now_micros && self.senders() > OWN_WINDOWS {
                    self.evict(principal, now_micros);
                } else {
                    break;
                }
            }
        }
        if self.windows.oldest(principal).is_none() {
            self.windows.shrink(|after| after.saturating_add(FRESH_MICROS) >= now_micros);
        }
    }

    /// Gives up the window of a principal's sender that was silent for longest.
    fn evict(&mut self, principal: u64, now_micros: u64) {
        if let Some((window, after_micros)) = self.windows.pop(principal) {
            let latest = window.latest_micros.min(now_micros.saturating_add(FRESH_MICROS));
            *after_micros = (*after_micros).max(latest);
            self.budget.0.fetch_sub(1, Ordering::Relaxed);
        }
    }

    /// The number of senders with a window.
    #[must_use]
    pub const fn senders(&self) -> usize {
        self.windows.len()
    }
}

impl Drop for ReplayGuard {
    fn drop(&mut self) {
        self.budget.0.fetch_sub(self.senders(), Ordering::Relaxed);
    }
}

impl fmt::Debug for ReplayGuard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ReplayGuard").field("senders", &self.senders()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use proptest::prelude::*;

    use super::*;

    const NOW: u64 = 1_800_000_000_000_000;

    fn guard() -> ReplayGuard {
        ReplayGuard::new(Arc::default())
    }

    fn stamp(sender: u64, counter: u64, sealed_micros: u64) -> Stamp {
        Stamp { signer: None, sender, counter, sealed_micros, now_micros: NOW }
    }

    proptest! {
        /// Against a set of all numbers that were seen.
        #[test]
        fn no_frame_is_taken_twice_and_none_of_the_window_is_lost(
            steps in prop::collection::vec((0..200_u64, 0..3_u8), 1..400),
        ) {
            let (mut guard, mut seen, mut highest) = (guard(), HashSet::new(), 5000_u64);
            prop_assert!(guard.take(stamp(1, highest, NOW)).is_ok());
            seen.insert(highest);
            for (step, direction) in steps {
                let counter = match direction {
                    0 => highest + step,
                    1 => highest.saturating_sub(step * 25),
                    _ => highest + step * 40,
                };
                let is_in_window = counter > highest || highest - counter < REMEMBERED;
                let is_new = is_in_window && seen.insert(counter);
                prop_assert_eq!(guard.take(stamp(1, counter, NOW)).is_ok(), is_new, "{} of {}", counter, highest);
                highest = highest.max(counter);
            }
        }
    }

    #[test]
    fn an_unknown_sender_is_taken_only_if_its_frame_is_fresh() {
        let mut guard = guard();
        for off in [FRESH_MICROS + 1, 3_600_000_000] {
            for (sealed, ahead) in [(NOW - off, -1), (NOW + off, 1)] {
                let ahead_micros = off.cast_signed() * ahead;
                assert_eq!(guard.take(stamp(1, 1, sealed)), Err(Refusal::Stale { ahead_micros }));
            }
        }
        assert_eq!(guard.senders(), 0);
        assert!(guard.take(stamp(1, 1, NOW - FRESH_MICROS)).is_ok());
        // Its clock was set back by an hour: what follows is later by its number.
        assert!(guard.take(stamp(1, 2, NOW - 3_600_000_000)).is_ok());
        // An earlier one that this guard has not seen may be from before it listened.
        assert!(matches!(guard.take(stamp(1, 0, NOW - 3_600_000_000)), Err(Refusal::Stale { .. })));
        assert!(guard.take(stamp(1, 0, NOW)).is_ok());
        assert_eq!(guard.take(stamp(1, 0, NOW)), Err(Refusal::Replayed));
    }

    #[test]
    fn a_guard_of_a_share_takes_fresh_frames_only() {
        let mut guard = guard().of_a_share();
        assert!(guard.take(stamp(1, 1, NOW)).is_ok());
        // Another member may have got it an hour ago.
        assert!(matches!(guard.take(stamp(1, 2, NOW - 3_600_000_000)), Err(Refusal::Stale { .. })));
        assert!(guard.take(stamp(1, 2, NOW)).is_ok());
    }

    #[test]
    fn senders_without_end_are_bounded_and_an_evicted_one_repeats_nothing() {
        let budget = Arc::<Budget>::default();
        let mut guard = ReplayGuard::new(Arc::clone(&budget));
        let first = NOW - 1000;
        assert!(guard.take(stamp(0, 7, first)).is_ok());
        for sender in 1..=MAX_WINDOWS as u64 {
            assert!(guard.take(stamp(sender, 7, NOW)).is_ok());
        }
        assert_eq!((guard.senders(), budget.0.load(Ordering::Relaxed)), (MAX_WINDOWS, MAX_WINDOWS));
        // Sender 0 was evicted. Its frames from before are refused, later ones are taken.
        assert!(matches!(guard.take(stamp(0, 7, first)), Err(Refusal::Stale { .. })));
        assert!(guard.take(stamp(0, 8, first + 1)).is_ok());
        let mut other = ReplayGuard::new(Arc::clone(&budget));
        for sender in 0..100 {
            assert!(other.take(stamp(sender, 1, NOW + sender)).is_ok());
        }
        assert_eq!(other.senders(), 100, "a guard has a share of its own");
        for sender in MAX_WINDOWS as u64 + 1..=MAX_WINDOWS as u64 + 101 {
            assert!(guard.take(stamp(sender, 7, NOW + 1)).is_ok());
        }
        assert_eq!(budget.0.load(Ordering::Relaxed), MAX_WINDOWS, "the guard with more gives back");
        drop((guard, other));
        assert_eq!(budget.0.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn senders_that_fell_silent_make_room_for_new_ones_and_repeat_nothing() {
        let budget = Arc::<Budget>::default();
        let mut guard = ReplayGuard::new(Arc::clone(&budget));
        let later = NOW + FRESH_MICROS + 1;
        for sender in 0..100 {
            assert!(guard.take(stamp(sender, 1, NOW)).is_ok());
        }
        let at_last = |sender, counter, sealed_micros| {
            let signer = None;
            Stamp { signer, sender, counter, sealed_micros, now_micros: later }
        };
        // One goes on.
        assert!(guard.take(at_last(0, 2, later)).is_ok());
        for sender in 100..300 {
            assert!(guard.take(at_last(sender, 1, later)).is_ok());
        }
        assert_eq!((guard.senders(), budget.0.load(Ordering::Relaxed)), (201, 201));
        for sender in 0..100 {
            assert!(guard.take(at_last(sender, 1, NOW)).is_err());
        }
        // One that was evicted is heard again.
        assert!(guard.take(at_last(1, 2, later)).is_ok());
        assert_eq!(guard.take(at_last(1, 2, later)), Err(Refusal::Replayed));
    }

    #[test]
    fn a_signer_moves_no_window_but_its_own_and_a_check_moves_none() {
        let mut guard = guard();
        let signed = |signer, counter| Stamp { signer: Some(SignerId(signer)), ..stamp(7, counter, NOW) };
        assert!(guard.take(signed(1, 10)).is_ok());
        // Another one uses the number of the sender, far ahead.
        assert!(guard.check(signed(2, 1 << 40)).is_ok() && guard.senders() == 1);
        assert!(guard.take(signed(2, 1 << 40)).is_ok());
        assert_eq!(guard.check(signed(1, 10)), Err(Refusal::Replayed));
        assert!(guard.check(signed(1, 1 << 40)).is_ok(), "a check takes nothing");
        assert!(guard.check(signed(1, 11)).is_ok() && guard.take(signed(1, 11)).is_ok());
        assert_eq!(guard.take(signed(1, 11)), Err(Refusal::Replayed));
    }

    /// A signer chooses the times of its frames, and it makes as many senders as it likes.
    #[test]
    fn a_signer_with_senders_and_times_without_end_cuts_nobody_else_off() {
        let budget = Arc::<Budget>::default();
        let mut guard = ReplayGuard::new(Arc::clone(&budget));
        let signed = |signer, sender, counter, sealed_micros| Stamp {
            signer: Some(SignerId(signer)),
            ..stamp(sender, counter, sealed_micros)
        };
        assert!(guard.take(signed(1, 1, 7, NOW)).is_ok());
        for sender in 0..MAX_WINDOWS as u64 + 100 {
            // Once it has used up the table, its own frames are refused.
            if guard.take(signed(2, sender, 1, NOW)).is_ok() {
                assert!(guard.take(signed(2, sender, 2, 1 << 62)).is_ok());
            }
        }
        assert!(guard.senders() <= MAX_WINDOWS);
        // The window of the other signer is still there, and its new connections are heard.
        assert!(guard.take(signed(1, 1, 6, NOW)).is_ok());
        assert_eq!(guard.take(signed(1, 1, 7, NOW)), Err(Refusal::Replayed));
        assert!(guard.take(signed(1, 2, 1, NOW - 1)).is_ok());
        assert!(guard.take(signed(3, 3, 1, NOW)).is_ok());
    }

    #[test]
    fn a_window_that_has_seen_the_future_stays_and_is_not_in_the_way_of_others() {
        let mut guard = guard();
        let hour = 3_600_000_000;
        for sender in 0..100 {
            assert!(guard.take(stamp(sender, 1, NOW)).is_ok());
        }
        // The clock of the first was ahead for a moment.
        assert!(guard.take(stamp(0, 2, NOW + hour)).is_ok());
        let later = |sender, counter, now_micros| Stamp { now_micros, ..stamp(sender, counter, now_micros) };
        for sender in 100..200 {
            assert!(guard.take(later(sender, 1, NOW + 2 * FRESH_MICROS)).is_ok());
        }
        assert_eq!(guard.senders(), 101, "those that fell silent have made room");
        // Its frame is not taken a second time once it is fresh.
        let again = Stamp { now_micros: NOW + hour, ..stamp(0, 2, NOW + hour) };
        assert_eq!(guard.take(again), Err(Refusal::Replayed));
    }

    #[test]
    fn a_window_has_the_size_that_the_bound_assumes() {
        let entry = std::mem::size_of::<[u64; WORDS]>() + std::mem::size_of::<SenderWindow>() + 64;
        assert!(entry <= WINDOW_BYTES, "{entry}");
    }
}
