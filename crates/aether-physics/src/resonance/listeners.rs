//! The patterns that vibrators announced.
//!
//! Used by [`Resonance`](super::Resonance): a wave can only cause waves of vibrators that receive it.

use std::num::NonZeroUsize;

use lru::LruCache;
use smol_str::SmolStr;

use super::table::{ENTRY, bounded};
use aether_core::wave::{MAX_NAME_BYTES, MAX_SOURCE_BYTES};
use aether_core::{Channel, Pattern};

/// The maximum number of patterns kept for one vibrator.
const MAX_PATTERNS: usize = 64;

#[derive(Debug)]
pub(super) struct Listeners {
    patterns: LruCache<SmolStr, Box<[Pattern]>>,
    pub(super) forgotten: u64,
}

impl Listeners {
    pub(super) fn new(most: NonZeroUsize) -> Self {
        Self { patterns: bounded(most), forgotten: 0 }
    }

    /// Replaces the patterns of a vibrator. Returns the number of patterns that did not fit.
    pub(super) fn tuned(&mut self, vibrator: &str, patterns: &[Pattern]) -> usize {
        let kept = &patterns[..patterns.len().min(MAX_PATTERNS)];
        if self.patterns.get(vibrator).is_none_or(|known| **known != *kept) {
            let gone = self.patterns.push(vibrator.into(), kept.into());
            self.forgotten += u64::from(gone.is_some_and(|(name, _)| name != vibrator));
        }
        patterns.len() - kept.len()
    }

    pub(super) fn knows(&self, vibrator: &str) -> bool {
        self.patterns.contains(vibrator)
    }

    pub(super) fn hears(&self, vibrator: &str, channel: &Channel) -> bool {
        self.patterns
            .peek(vibrator)
            .is_some_and(|patterns| patterns.iter().any(|pattern| pattern.matches(channel)))
    }

    /// The maximum memory used by one vibrator, in bytes.
    pub(super) fn max_weight() -> usize {
        ENTRY
            + size_of::<SmolStr>()
            + MAX_SOURCE_BYTES
            + MAX_PATTERNS * (MAX_NAME_BYTES + size_of::<Pattern>())
    }

    /// Its current memory, in bytes, approximately.
    pub(super) fn weight(&self) -> usize {
        let of = |name: &SmolStr, patterns: &[Pattern]| {
            let texts: usize = patterns.iter().map(|pattern| pattern.as_str().len()).sum();
            ENTRY + size_of::<SmolStr>() + name.len() + texts + size_of_val(patterns)
        };
        self.patterns.iter().map(|(name, patterns)| of(name, patterns)).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_announcement_counts_and_the_table_is_bounded() {
        let mut listeners = Listeners::new(NonZeroUsize::new(2).unwrap());
        let patterns = |texts: &[&str]| texts.iter().map(|t| Pattern::new(t).unwrap()).collect::<Vec<_>>();
        let channel = Channel::new("orders.created").unwrap();
        assert_eq!(listeners.tuned("stock", &patterns(&["orders.*"])), 0);
        assert!(listeners.hears("stock", &channel) && !listeners.hears("shop", &channel));
        listeners.tuned("stock", &patterns(&["a", "b"]));
        assert!(!listeners.hears("stock", &channel));
        assert_eq!(listeners.tuned("shop", &patterns(&["x"; MAX_PATTERNS + 3])), 3);
        assert_eq!(listeners.forgotten, 0);
        listeners.tuned("mail", &patterns(&["orders.>"]));
        assert_eq!(listeners.forgotten, 1);
        assert!(listeners.hears("mail", &channel));
    }
}
