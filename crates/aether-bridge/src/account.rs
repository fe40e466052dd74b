//! The account of a bridge: what it heard, and the fate of each wave.

use std::sync::atomic::{AtomicU64, Ordering};

use aether_core::Ledger;

/// The counts of waves of both ways of a bridge.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct BridgeAccount {
    /// From the first medium to the second.
    pub there: WayAccount,
    /// From the second medium to the first, if the bridge relays both ways.
    pub back: Option<WayAccount>,
}

impl BridgeAccount {
    /// Whether both ways add up.
    #[must_use]
    pub fn adds_up(&self) -> bool {
        self.there.adds_up() && self.back.is_none_or(|back| back.adds_up())
    }
}

/// The counts of waves of one way: `inbox.delivered = relayed + answered + unanswered + waiting` and the
/// [`not_relayed`](Self::not_relayed). The fate of relayed waves is in the account of the other medium's outbox.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct WayAccount {
    /// The waves that were heard, and those that were lost before the bridge took them.
    pub inbox: Ledger,
    /// Waves that the other medium accepted.
    pub relayed: u64,
    /// Questions whose answer went back.
    pub answered: u64,
    /// Questions without an answer from the other side: nobody listens there or answered in time, the medium is away, or
    /// too many questions waited.
    pub unanswered: u64,
    /// Questions that wait for their answer now.
    pub waiting: u64,
    /// Waves that this bridge, or another one of its group, has relayed before: mostly what comes back to it from the medium
    /// that it relays to.
    pub looped: u64,
    /// Waves that came by another way already.
    pub repeated: u64,
    /// Waves that were relayed as often as this bridge allows.
    pub too_far: u64,
    /// Waves that the rules of the other side refuse.
    pub not_allowed: u64,
    /// Waves that are larger than the other medium takes.
    pub too_large: u64,
    /// Waves whose metadata has no room for the mark of the bridge.
    pub unmarked: u64,
    /// Waves that the other medium refused for another reason: it is closed, or a durable channel did not store them.
    pub refused: u64,
}

impl WayAccount {
    /// The waves that were heard and not relayed, by reason, as in logs and metrics.
    #[must_use]
    pub const fn not_relayed(&self) -> [(&'static str, u64); 7] {
        [
            ("looped", self.looped),
            ("repeated", self.repeated),
            ("too_far", self.too_far),
            ("not_allowed", self.not_allowed),
            ("too_large", self.too_large),
            ("unmarked", self.unmarked),
            ("refused", self.refused),
        ]
    }

    /// Whether every wave is accounted for. While the bridge runs, the wave that it handles at the moment may be missing.
    #[must_use]
    pub fn adds_up(&self) -> bool {
        let not_relayed: u64 = self.not_relayed().iter().map(|(_, waves)| waves).sum();
        let Self { inbox, relayed, answered, unanswered, waiting, .. } = self;
        inbox.adds_up() && inbox.delivered == relayed + answered + unanswered + waiting + not_relayed
    }
}

/// The counts of one way, shared with the tasks of its questions.
#[derive(Debug, Default)]
pub(super) struct Counts {
    pub(super) relayed: AtomicU64,
    pub(super) answered: AtomicU64,
    pub(super) unanswered: AtomicU64,
    pub(super) waiting: AtomicU64,
    pub(super) looped: AtomicU64,
    pub(super) repeated: AtomicU64,
    pub(super) too_far: AtomicU64,
    pub(super) not_allowed: AtomicU64,
    pub(super) too_large: AtomicU64,
    pub(super) unmarked: AtomicU64,
    pub(super) refused: AtomicU64,
}

/// One more.
pub(super) fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

impl Counts {
    pub(super) fn account(&self, inbox: Ledger) -> WayAccount {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        WayAccount {
            inbox,
            relayed: read(&self.relayed),
            answered: read(&self.answered),
            unanswered: read(&self.unanswered),
            waiting: read(&self.waiting),
            looped: read(&self.looped),
            repeated: read(&self.repeated),
            too_far: read(&self.too_far),
            not_allowed: read(&self.not_allowed),
            too_large: read(&self.too_large),
            unmarked: read(&self.unmarked),
            refused: read(&self.refused),
        }
    }
}
