//! The pauses that a sender obeys: which waves stay in the outbox for now.
//!
//! The sending task of a medium owns the table; `emit` is not involved. Entries from the network are bounded here, and
//! are removed when their lease ends.

use std::collections::HashMap;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::{Flow, Pause};
use crate::outlet::Outlet;
use aether_core::clock::{self, Instant};
use aether_core::medium::{NodeId, ShareSizes};
use aether_core::{Channel, Pattern, Wave};

/// The maximum number of pauses obeyed at the same time. Beyond it the principal with most of them gives way; its own
/// further pauses are ignored, and their receivers shed.
const MAX_HOLDS: usize = 256;
/// The maximum number of channels for which the hold state is cached.
const MAX_CHANNELS: usize = 1024;

struct Hold {
    pattern: Pattern,
    level: u8,
    until: Instant,
}

/// The change that a notice made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Noted {
    /// A pause goes on: its receiver makes progress.
    Renewed,
    /// Other waves are held than before, or too many pauses are in force already.
    Other,
}

/// The pauses in force.
#[derive(Default)]
pub struct HoldTable {
    /// The pauses, keyed by the requesting node and its number for the pause.
    holds: HashMap<(NodeId, u64), Hold>,
    shares: ShareSizes,
    /// The strongest level held on each channel.
    channels: HashMap<Channel, Option<u8>>,
    /// The time at which the next pause ends.
    next_end: Option<Instant>,
    /// How far the outbox has been searched for waves that are not held.
    seen: u64,
}

impl HoldTable {
    /// Whether nothing is held.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.holds.is_empty()
    }

    /// Waves offered to the outbox before this mark are held.
    pub const fn seen(&self) -> u64 {
        self.seen
    }

    /// The time at which the next pause ends, as of the last call of [`apply`](Self::apply).
    pub const fn next_end(&self) -> Option<Instant> {
        self.next_end
    }

    /// Takes a batch of waves that are not held.
    pub fn take_unheld(&mut self, outbox: &Outlet, flow: &Flow, most: (usize, usize), batch: &mut Vec<Wave>) {
        let Self { holds, channels, seen, .. } = self;
        let left = outbox.take_unheld(most, seen, |wave| is_held(holds, channels, wave), batch);
        flow.held.store(left as u64, Ordering::Relaxed);
    }

    /// Notes a pause of a node. Call [`apply`](Self::apply) after the last of several.
    pub fn note(&mut self, node: NodeId, pause: Pause, flow: &Flow) -> Noted {
        let Pause { id, pattern, level, lease } = pause;
        let key = (node, id);
        if lease == Duration::ZERO {
            self.remove(key);
            self.look_again();
            return Noted::Other;
        }
        let until = clock::now() + lease;
        if self.holds.len() >= MAX_HOLDS && !self.holds.contains_key(&key) {
            self.make_room(node.principal);
        }
        let has_room = self.holds.len() < MAX_HOLDS;
        match self.holds.get_mut(&key) {
            Some(hold) if hold.pattern == pattern && hold.level == level => {
                hold.until = until;
                return Noted::Renewed;
            }
            Some(hold) => {
                *hold = Hold { pattern, level, until };
                self.look_again();
            }
            None if has_room => {
                self.holds.insert(key, Hold { pattern, level, until });
                self.shares.add(node.principal, 1);
                flow.pauses.fetch_add(1, Ordering::Relaxed);
                self.look_again();
            }
            None => {}
        }
        Noted::Other
    }

    fn remove(&mut self, key: (NodeId, u64)) {
        if self.holds.remove(&key).is_some() {
            self.shares.subtract(key.0.principal, 1);
        }
    }

    /// Ends the pause of another principal that ends first, if one has more of them.
    fn make_room(&mut self, principal: u64) {
        let holder = self.shares.gives_way_to(principal);
        if holder == principal {
            return;
        }
        let held = self.holds.iter().filter(|((node, _), _)| node.principal == holder);
        if let Some(key) = held.min_by_key(|(_, hold)| hold.until).map(|(key, _)| *key) {
            self.remove(key);
        }
    }

    /// Resets the caches because the set of held waves has changed.
    fn look_again(&mut self) {
        self.channels.clear();
        self.seen = 0;
    }

    /// Forgets all pauses. Returns whether there were any, in which case [`apply`](Self::apply) is to be called.
    pub fn forget_all(&mut self) -> bool {
        self.forget(|_| true)
    }

    /// Forgets the pauses that have ended. Returns whether there were any pauses, in which case [`apply`](Self::apply) is
    /// to be called.
    pub fn forget_ended(&mut self) -> bool {
        let Some(end) = self.next_end else { return false };
        let now = clock::now();
        end <= now && self.forget(|hold| hold.until <= now)
    }

    fn forget(&mut self, is_over: impl Fn(&Hold) -> bool) -> bool {
        let had_any = !self.holds.is_empty();
        if had_any {
            let shares = &mut self.shares;
            self.holds.retain(|(node, _), hold| {
                let is_kept = !is_over(hold);
                shares.subtract(node.principal, usize::from(!is_kept));
                is_kept
            });
            self.look_again();
        }
        had_any
    }

    /// Updates the outbox. Returns whether nothing is held any more.
    pub fn apply(&mut self, outbox: &Outlet, flow: &Flow) -> bool {
        self.next_end = self.holds.values().map(|hold| hold.until).min();
        let last = self.holds.values().map(|hold| hold.until).max();
        outbox.hold_until(last);
        if last.is_none() {
            flow.held.store(0, Ordering::Relaxed);
        }
        last.is_none()
    }
}

/// Whether a wave stays in the outbox.
fn is_held(
    holds: &HashMap<(NodeId, u64), Hold>,
    channels: &mut HashMap<Channel, Option<u8>>,
    wave: &Wave,
) -> bool {
    let level = match channels.get(wave.channel()) {
        Some(level) => *level,
        None => {
            let matching = holds.values().filter(|hold| hold.pattern.matches(wave.channel()));
            let level = matching.map(|hold| hold.level).min();
            if channels.len() >= MAX_CHANNELS {
                channels.clear();
            }
            channels.insert(wave.channel().clone(), level);
            level
        }
    };
    level.is_some_and(|level| wave.signal().level() >= level)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_principal_with_pauses_without_end_takes_none_from_another() {
        let (mut table, flow) = (HoldTable::default(), Flow::new());
        let mut note = |principal, id| {
            let pattern = Pattern::new(format!("orders.{principal}")).unwrap();
            let pause = Pause { id, pattern, level: 3, lease: Duration::from_secs(1) };
            table.note(NodeId { principal, number: id }, pause, &flow)
        };
        note(1, 0);
        (0..1000).for_each(|id| {
            note(2, id);
        });
        assert_eq!((note(1, 0), note(2, 999)), (Noted::Renewed, Noted::Other), "the others are ignored");
        (1..20).for_each(|id| {
            note(1, id);
        });
        assert_eq!((note(1, 0), note(1, 19)), (Noted::Renewed, Noted::Renewed));
        assert_eq!((table.holds.len(), table.shares.of(1)), (MAX_HOLDS, 20));
        assert!(table.forget_all() && table.shares.of(1) == 0 && table.shares.of(2) == 0);
    }
}
