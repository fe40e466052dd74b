//! Which channels are durable, and how much.

use std::hash::{Hash, Hasher};
use std::sync::atomic::{AtomicU64, Ordering};

use aether_core::{Channel, Durability, Pattern};

/// The number of channels whose level is remembered.
const REMEMBERED: usize = 1024;

/// Patterns with their levels.
#[derive(Debug)]
pub(crate) struct Channels {
    patterns: Vec<(Pattern, Durability)>,
    /// The hash of a channel with its level in the two lowest bits. Those bits of the hash mark reserved channels, which
    /// are never durable and never looked up here.
    recent: Box<[AtomicU64]>,
}

/// Takes the hash that a channel already has.
#[derive(Default)]
struct Taken(u64);

impl Hasher for Taken {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        // A channel writes its hash as one number. Anything else still gives a hash, if a poor one.
        bytes.iter().for_each(|byte| self.0 = self.0.rotate_left(8) ^ u64::from(*byte));
    }

    fn write_u64(&mut self, hash: u64) {
        self.0 = hash;
    }
}

const LEVELS: [Durability; 3] = [Durability::None, Durability::Stored, Durability::Synced];

impl Channels {
    pub(crate) fn new(patterns: Vec<(Pattern, Durability)>) -> Self {
        // 3 is the code of no level, so an unused slot matches nothing.
        let recent = (0..REMEMBERED).map(|_| AtomicU64::new(3)).collect();
        Self { patterns, recent }
    }

    /// The highest level of the patterns that match a channel. For a channel that was used recently this is one load and
    /// one comparison.
    #[inline]
    pub(crate) fn durability(&self, channel: &Channel) -> Durability {
        let mut hasher = Taken::default();
        channel.hash(&mut hasher);
        let hash = hasher.0;
        let Some(slot) = self.recent.get((hash >> 2) as usize % REMEMBERED) else { return Durability::None };
        let known = slot.load(Ordering::Relaxed);
        match LEVELS.get((known & 3) as usize) {
            Some(level) if (known ^ hash) >> 2 == 0 => *level,
            _ => self.look_up(channel, hash, slot),
        }
    }

    #[cold]
    fn look_up(&self, channel: &Channel, hash: u64, slot: &AtomicU64) -> Durability {
        if channel.is_reserved() {
            return Durability::None;
        }
        let matching = self.patterns.iter().filter(|(pattern, _)| pattern.matches(channel));
        let level = matching.map(|(_, level)| *level).max().unwrap_or_default();
        let code = LEVELS.iter().position(|other| *other == level).unwrap_or(0);
        slot.store(hash & !3 | code as u64, Ordering::Relaxed);
        level
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_highest_level_of_all_patterns_counts_also_when_it_is_remembered() {
        let pattern = |text| Pattern::new(text).unwrap();
        let channels = Channels::new(vec![
            (pattern("orders.>"), Durability::Stored),
            (pattern("orders.paid"), Durability::Synced),
        ]);
        for _ in 0..2 {
            let level = |name: &str| channels.durability(&Channel::with_reserved(name).unwrap());
            assert_eq!(level("orders.created"), Durability::Stored);
            assert_eq!(level("orders.paid"), Durability::Synced);
            assert_eq!(level("orders"), Durability::None);
            assert_eq!(level("_aether.orders"), Durability::None);
            for number in 0..5000 {
                assert_eq!(level(&format!("orders.{number}")), Durability::Stored);
                assert_eq!(level(&format!("other.{number}")), Durability::None);
            }
        }
    }
}
