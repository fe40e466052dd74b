//! The subscriptions of a receiver at the moment: lanes of slots.
//!
//! The task of the receiver says which places it needs. This joins the new ones and leaves those that are over.

use std::collections::HashMap;
use std::sync::Arc;

use futures_util::future::join_all;
use parking_lot::Mutex;

use super::slot_counts::LaneCounts;
use crate::bus::{Bus, SubscriptionGuard};
use crate::channel::{Channel, Pattern};
use crate::inbox::Inbox;
use crate::medium::JoinError;
use crate::router::Listener;
use crate::router::subscription::Relabel;
use crate::source::Sequencer;

/// A slot, and the channel of one lane in it.
pub(super) type SlotLane = (u64, Channel);

/// Who subscribes, and the inbox.
pub(super) struct SlotSubscriptions {
    pub(super) bus: Bus,
    pub(super) inbox: Arc<Inbox>,
    pub(super) sequencer: Arc<Sequencer>,
    pub(super) hears_own: bool,
    pub(super) observes: bool,
    /// The channel that the waves belong to; `None` for control messages, which only this module sees.
    pub(super) shown_as: Option<Channel>,
    pub(super) open: Arc<OpenSlots>,
}

/// The open subscriptions, which another task can end at once.
#[derive(Debug, Default)]
pub(super) struct OpenSlots {
    state: Mutex<OpenState>,
}

#[derive(Debug, Default)]
struct OpenState {
    guards: HashMap<SlotLane, SubscriptionGuard>,
    is_over: bool,
}

impl OpenSlots {
    /// Ends all subscriptions for good.
    pub(super) fn close(&self) {
        let mut state = self.state.lock();
        state.is_over = true;
        let guards = std::mem::take(&mut state.guards);
        drop(state);
        drop(guards);
    }
}

impl SlotSubscriptions {
    /// Subscribes to these places and to no others. Returns the counts of the new ones, and whether all were joined.
    /// One that fails does not undo the others.
    ///
    /// Cancelled before completion, the new ones are not joined.
    pub(super) async fn tune(
        &self,
        wanted: &[SlotLane],
    ) -> (Vec<(u64, Arc<LaneCounts>)>, Result<(), JoinError>) {
        let mut gone = Vec::new();
        let new: Vec<_> = {
            let mut open = self.open.state.lock();
            gone.extend(open.guards.extract_if(|place, _| !wanted.contains(place)));
            wanted.iter().filter(|place| !open.guards.contains_key(place)).cloned().collect()
        };
        drop(gone);
        let joins = new.into_iter().map(|place| {
            let counts = self.shown_as.clone().map(|channel| Arc::new(LaneCounts::new(channel)));
            let listener = Listener {
                sequencer: Arc::clone(&self.sequencer),
                hears_own: self.hears_own,
                observes: self.observes,
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
