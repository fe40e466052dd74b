//! The border of a process: its rules, which can change, and what they refused.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arc_swap::ArcSwap;

use super::refusal::Refusal;
use super::set::{Rules, Side};
use crate::channel::Pattern;
use crate::wave::Wave;

/// Checks what passes into and out of a process. Clones share the rules and the counts, so keep one to change the rules.
#[derive(Debug, Clone)]
pub struct Border {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    rules: ArcSwap<Rules>,
    emitted: AtomicU64,
    arrived: AtomicU64,
    listened: AtomicU64,
}

/// What a border has refused.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct BorderCounts {
    /// Waves and questions of this process, which were handed back.
    pub emitted: u64,
    /// Waves and questions that arrived from other processes.
    pub arrived: u64,
    /// Subscriptions of this process.
    pub listened: u64,
}

impl Border {
    /// A border with these rules.
    #[must_use]
    pub fn new(rules: Rules) -> Self {
        let shared = Shared {
            rules: ArcSwap::from_pointee(rules),
            emitted: AtomicU64::new(0),
            arrived: AtomicU64::new(0),
            listened: AtomicU64::new(0),
        };
        Self { shared: Arc::new(shared) }
    }

    /// Uses other rules from now on. Subscriptions that exist stay.
    pub fn change(&self, rules: Rules) {
        self.shared.rules.store(Arc::new(rules));
    }

    /// The rules as they are now.
    #[must_use]
    pub fn rules(&self) -> Rules {
        Rules::clone(&self.shared.rules.load())
    }

    /// What was refused since the start.
    #[must_use]
    pub fn refused(&self) -> BorderCounts {
        let count = |count: &AtomicU64| count.load(Ordering::Relaxed);
        let Shared { emitted, arrived, listened, .. } = &*self.shared;
        BorderCounts { emitted: count(emitted), arrived: count(arrived), listened: count(listened) }
    }

    pub(crate) fn may_emit(&self, wave: &Wave) -> Result<(), Refusal> {
        self.shared.rules.load().admit(wave, Side::Emitter)
    }

    /// Takes back what `may_emit` counted against the rates for a wave that was not emitted after all.
    pub(crate) fn give_back(&self, wave: &Wave) {
        self.shared.rules.load().give_back(wave);
    }

    pub(crate) fn count_emitted(&self) {
        self.shared.emitted.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn may_listen(&self, identity: &str, pattern: &Pattern) -> Result<(), Refusal> {
        let allowed = self.shared.rules.load().may_listen(identity, pattern);
        if allowed.is_err() {
            self.shared.listened.fetch_add(1, Ordering::Relaxed);
        }
        allowed
    }

    /// Removes waves from a network that may not pass, and counts them.
    pub(crate) fn filter(&self, waves: &mut Vec<Wave>) {
        let rules = self.shared.rules.load();
        let before = waves.len();
        waves.retain(|wave| {
            // Those of the framework itself travel on reserved channels.
            if wave.channel().is_reserved() {
                return true;
            }
            let admitted = rules.admit(wave, Side::Receiver);
            if let Err(refusal) = &admitted {
                tracing::debug!(wave = %wave.id(), %refusal, "refused a wave at the border");
            }
            admitted.is_ok()
        });
        self.shared.arrived.fetch_add((before - waves.len()) as u64, Ordering::Relaxed);
    }
}
