//! The share of the entries of a field that one holder of a token, or one address, may add.
//!
//! Marks of removals stay for days, so without it one client would fill the field for everybody.

use std::net::IpAddr;
use std::num::NonZeroUsize;

use aether_field::core::Limits;
use lru::LruCache;
use parking_lot::Mutex;
use sha2::{Digest as _, Sha256};
use tokio::time::Instant;

use crate::bucket::TokenBucket;

/// The number of holders that are remembered.
const REMEMBERED: NonZeroUsize = NonZeroUsize::new(10_000).expect("not zero");

/// The share of a holder is one entry in this number, within the horizon of the field.
const PART: usize = 4;

/// Whose entries count together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Holder {
    /// The beginning of the SHA-256 of a token.
    Token([u8; 8]),
    /// A source without a token.
    Source(IpAddr),
}

impl Holder {
    pub(super) fn of(token: Option<&str>, source: IpAddr) -> Self {
        let Some(token) = token else { return Self::Source(source) };
        let mut first = [0; 8];
        first.copy_from_slice(&Sha256::digest(token)[..8]);
        Self::Token(first)
    }
}

/// What is left of the shares.
#[derive(Debug)]
pub(super) struct Shares {
    share: u32,
    per_second: f64,
    left: Mutex<LruCache<Holder, TokenBucket>>,
}

impl Shares {
    pub(super) fn new(limits: &Limits) -> Self {
        let share = u32::try_from(limits.max_entries / PART).unwrap_or(u32::MAX);
        let per_second = f64::from(share) / limits.horizon.as_secs_f64().max(1.0);
        Self { share, per_second, left: Mutex::new(LruCache::new(REMEMBERED)) }
    }

    /// Whether a holder may still add entries.
    pub(super) fn has_room(&self, holder: Holder) -> bool {
        let now = Instant::now();
        self.left.lock().get_mut(&holder).is_none_or(|bucket| bucket.has_any(now))
    }

    /// A holder has added entries.
    pub(super) fn charge(&self, holder: Holder, created: u64) {
        if created > 0 {
            let new = || TokenBucket::new(self.share, self.per_second, Instant::now());
            self.left.lock().get_or_insert_mut(holder, new).charge(created);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_holder_has_its_share_and_gets_it_back_within_the_horizon() {
        let mut limits = Limits::default();
        (limits.max_entries, limits.horizon) = (40, std::time::Duration::from_secs(100));
        let shares = Shares::new(&limits);
        let source = IpAddr::from([192, 0, 2, 1]);
        let (one, other) = (Holder::of(Some("a"), source), Holder::of(None, source));
        for _ in 0..10 {
            assert!(shares.has_room(one));
            shares.charge(one, 1);
        }
        assert!(!shares.has_room(one) && shares.has_room(other));
        tokio::time::advance(std::time::Duration::from_secs(10)).await;
        assert!(shares.has_room(one));
    }
}
