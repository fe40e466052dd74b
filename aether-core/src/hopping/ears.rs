//! What a receiver is subscribed to at the moment: lanes of slots, each shown as the channel it belongs to.
//!
//! The follower says which places are to be heard; this joins those that are new and leaves those that are over.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use futures_util::future::join_all;
use parking_lot::Mutex;

use crate::aether::Aether;
use crate::channel::{Channel, Pattern};
use crate::inbox::Inbox;
use crate::medium::JoinError;
use crate::router::{Listener, Subscription};
use crate::source::Sequencer;
use crate::wave::Wave;

/// So many senders are counted apart on a lane of a slot.
const COUNTED_APART: usize = 8;

/// One lane in one slot: which channel its waves belong to, and how many came from whom.
#[derive(Debug)]
pub(crate) struct Tuned {
    channel: Channel,
    /// Taken from the front, each by the first sender who finds it free.
    senders: [Sender; COUNTED_APART],
    others: AtomicU64,
}

#[derive(Debug, Default)]
struct Sender {
    /// 0 while it is free.
    instance: AtomicU64,
    waves: AtomicU64,
}

impl Tuned {
    pub(super) fn new(channel: Channel) -> Self {
        Self { channel, senders: Default::default(), others: AtomicU64::new(0) }
    }

    /// Counts a wave and shows it as one of the channel.
    pub(crate) fn show(&self, mut wave: Wave) -> Wave {
        self.count(wave.source().instance()).fetch_add(1, Ordering::Relaxed);
        wave.move_to(&self.channel);
        wave
    }

    #[inline]
    fn count(&self, instance: u64) -> &AtomicU64 {
        for sender in &self.senders {
            let known = sender.instance.load(Ordering::Relaxed);
            if known == instance {
                return &sender.waves;
            }
            if known == 0 {
                let taken =
                    sender.instance.compare_exchange(0, instance, Ordering::Relaxed, Ordering::Relaxed);
                if taken.is_ok() || taken == Err(instance) {
                    return &sender.waves;
                }
            }
        }
        &self.others
    }

    /// How many waves came from a sender.
    pub(super) fn heard_from(&self, instance: u64) -> u64 {
        let senders = self.senders.iter().filter(|s| s.instance.load(Ordering::Relaxed) == instance);
        senders.map(|sender| sender.waves.load(Ordering::Relaxed)).sum()
    }

    /// How many waves came at all.
    pub(super) fn heard(&self) -> u64 {
        let counted = self.senders.iter().map(|sender| sender.waves.load(Ordering::Relaxed)).sum::<u64>();
        counted + self.others.load(Ordering::Relaxed)
    }
}

/// One subscription; left when it is dropped.
#[derive(Debug)]
#[must_use = "dropping it leaves"]
pub(super) struct Ear {
    aether: Aether,
    subscription: Arc<Subscription>,
}

impl Ear {
    /// Hears a pattern from now on. Cancelled before completion, it is not heard.
    pub(super) async fn join(
        aether: &Aether,
        pattern: Pattern,
        inbox: Arc<Inbox>,
        listener: Listener,
    ) -> Result<Self, JoinError> {
        let subscription = aether.router().subscribe(pattern, None, inbox, listener);
        let ear = Self { aether: aether.clone(), subscription: Arc::clone(&subscription) };
        aether.medium().join(subscription).await?;
        Ok(ear)
    }
}

impl Drop for Ear {
    fn drop(&mut self) {
        self.aether.router().unsubscribe(&self.subscription);
        self.aether.medium().leave(&self.subscription);
    }
}

/// Who hears, and where to.
pub(super) struct Ears {
    pub(super) aether: Aether,
    pub(super) inbox: Arc<Inbox>,
    pub(super) sequencer: Arc<Sequencer>,
    pub(super) hears_own: bool,
    pub(super) observes: bool,
    /// What the waves belong to; nothing for the reports, which nobody but the follower sees.
    pub(super) shown_as: Option<Channel>,
    pub(super) open: Arc<Open>,
}

/// The subscriptions of the moment, which whoever ends the following can end at once.
#[derive(Debug, Default)]
pub(super) struct Open {
    state: Mutex<OpenState>,
}

#[derive(Debug, Default)]
struct OpenState {
    ears: HashMap<(u64, Channel), Ear>,
    is_over: bool,
}

impl Open {
    /// Leaves everything, for good.
    pub(super) fn close(&self) {
        let mut state = self.state.lock();
        state.is_over = true;
        let ears = std::mem::take(&mut state.ears);
        drop(state);
        drop(ears);
    }
}

impl Ears {
    /// Hears these places, each a slot and a lane's channel, and no others. Returns those that are new, and whether
    /// any is not heard after all: what could be joined is, and counts, whatever became of the others.
    ///
    /// Cancelled before completion, what is new is not heard.
    pub(super) async fn tune(
        &self,
        wanted: &[(u64, Channel)],
    ) -> (Vec<(u64, Arc<Tuned>)>, Result<(), JoinError>) {
        let mut gone = Vec::new();
        let new: Vec<_> = {
            let mut open = self.open.state.lock();
            gone.extend(open.ears.extract_if(|place, _| !wanted.contains(place)));
            wanted.iter().filter(|place| !open.ears.contains_key(place)).cloned().collect()
        };
        drop(gone);
        let joins = new.into_iter().map(|place| {
            let tuned = self.shown_as.clone().map(|channel| Arc::new(Tuned::new(channel)));
            let listener = Listener {
                sequencer: Arc::clone(&self.sequencer),
                hears_own: self.hears_own,
                observes: self.observes,
                tuned: tuned.clone(),
            };
            let join = Ear::join(&self.aether, Pattern::from(&place.1), Arc::clone(&self.inbox), listener);
            async { join.await.map(|ear| (place, ear, tuned)) }
        });
        let mut opened = Vec::new();
        let mut all = Ok(());
        for joined in join_all(joins).await {
            match joined {
                Ok((place, ear, tuned)) => {
                    opened.extend(tuned.map(|tuned| (place.0, tuned)));
                    let mut open = self.open.state.lock();
                    let late = if open.is_over { Some(ear) } else { open.ears.insert(place, ear) };
                    drop(open);
                    drop(late);
                }
                Err(error) => all = Err(error),
            }
        }
        (opened, all)
    }
}
