//! The current subscriptions of a receiver: lanes of slots.
//!
//! The receiver's task passes the lanes it needs. The new ones are joined, and the ones no longer needed are left.

use std::collections::BTreeMap;
use std::sync::Arc;

use aether_core::bus::{Bus, SubscriptionGuard};
use aether_core::inbox::Inbox;
use aether_core::medium::{Listener, Relabel};
use aether_core::{Channel, JoinError, Pattern};
use futures_util::future::join_all;
use parking_lot::Mutex;

use crate::slot_counts::LaneCounts;

/// A slot and the channel of one of its lanes.
pub(crate) type SlotLane = (u64, Channel);

/// The subscriber, its inbox and its open subscriptions.
pub(crate) struct SlotSubscriptions {
    pub(crate) bus: Bus,
    pub(crate) inbox: Arc<Inbox>,
    /// Without `relabel`, which each lane has of its own.
    pub(crate) listener: Listener,
    /// The original channel of the waves, or `None` for control messages, which no user sees.
    pub(crate) shown_as: Option<Channel>,
    pub(crate) open: Arc<OpenSlots>,
}

/// The open subscriptions. Another task can end them at any time.
#[derive(Debug, Default)]
pub(crate) struct OpenSlots {
    state: Mutex<OpenState>,
}

#[derive(Debug, Default)]
struct OpenState {
    guards: BTreeMap<SlotLane, SubscriptionGuard>,
    is_over: bool,
}

impl OpenSlots {
    /// Ends all subscriptions. Later ones end at once.
    pub(crate) fn close(&self) {
        let mut state = self.state.lock();
        state.is_over = true;
        let guards = std::mem::take(&mut state.guards);
        drop(state);
        drop(guards);
    }
}

impl SlotSubscriptions {
    /// Subscribes to these lanes and to no others. Returns the counts of the new ones, and an error if any could not be
    /// joined. A failure does not undo the other subscriptions.
    ///
    /// If cancelled before completion, the new lanes are not joined.
    pub(crate) async fn tune(
        &self,
        wanted: &[SlotLane],
    ) -> (Vec<(u64, Arc<LaneCounts>)>, Result<(), JoinError>) {
        let mut gone = Vec::new();
        let new: Vec<_> = {
            let mut open = self.open.state.lock();
            gone.extend(open.guards.extract_if(.., |place, _| !wanted.contains(place)));
            wanted.iter().filter(|place| !open.guards.contains_key(place)).cloned().collect()
        };
        drop(gone);
        let joins = new.into_iter().map(|place| {
            let counts = self.shown_as.clone().map(|channel| Arc::new(LaneCounts::new(channel)));
            let listener = Listener {
                sequencer: Arc::clone(&self.listener.sequencer),
                hears_own: self.listener.hears_own,
                observes: self.listener.observes,
                relabel: counts.clone().map(|counts| counts as Arc<dyn Relabel>),
            };
            let join = self.bus.join(Pattern::from(&place.1), Arc::clone(&self.inbox), listener);
            async { join.await.map(|guard| (place, guard, counts)) }
        });
        let mut opened = Vec::new();
        let mut all = Ok(());
        for joined in join_all(joins).await {
            match joined {
                Ok((place, guard, counts)) => {
                    opened.extend(counts.map(|counts| (place.0, counts)));
                    let mut open = self.open.state.lock();
                    let late = if open.is_over { Some(guard) } else { open.guards.insert(place, guard) };
                    drop(open);
                    drop(late);
                }
                Err(error) => all = Err(error),
            }
        }
        (opened, all)
    }
}
