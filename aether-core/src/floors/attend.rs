//! The task that makes and takes adverts. Started with the first overload in process, with the first subscription over
//! a network; ends with its `Aether`. It sleeps while there is nothing to say: a timer runs only while a floor is up.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::time::MissedTickBehavior;

use super::{Advert, CALLS, Floors, Ours, advert};
use crate::amplitude::Floor;
use crate::clock::Instant;
use crate::wave::Wave;

/// A receiver advertises so often at most.
pub(super) const ADVERT_EVERY: Duration = Duration::from_millis(250);
/// A floor that is up is advertised again after so long, half the time for which it holds.
const REPEAT: Duration = Duration::from_secs(1);

impl Floors {
    /// Wakes the task, or starts it.
    pub(super) fn attend(self: &Arc<Self>, ours: &mut Ours) {
        if ours.is_attended {
            self.work.notify_one();
        } else if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            ours.is_attended = true;
            runtime.spawn(Arc::clone(self).run());
        } else {
            // Outside of any runtime: the next eviction tries again.
            for instance in ours.raised.drain() {
                if let Some(receiver) = ours.receivers.get(&instance) {
                    receiver.is_raised.store(false, Ordering::Relaxed);
                }
            }
        }
    }

    async fn run(self: Arc<Self>) {
        let mut ended = self.ended.subscribe();
        let mut turns = tokio::time::interval(ADVERT_EVERY);
        turns.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let (due, is_raised) = self.due(Instant::now());
            if !due.is_empty() {
                self.tell(&due).await;
            }
            let message = tokio::select! {
                _ = ended.wait_for(|ended| *ended) => return,
                _ = turns.tick(), if is_raised => continue,
                () = self.work.notified() => continue,
                message = self.message() => message,
            };
            let Some(message) = message else { return };
            self.take_in(&message).await;
        }
    }

    /// The next advert or call of another process; never where there is no network.
    async fn message(&self) -> Option<Wave> {
        match self.ear.get() {
            Some(ear) => std::future::poll_fn(|cx| ear.poll_receive(cx)).await,
            None => std::future::pending().await,
        }
    }

    /// What is to be advertised now, and whether any floor is up. Enters it into our own book as well.
    pub(super) fn due(&self, now: Instant) -> (Vec<Advert>, bool) {
        let mut ours = self.ours.lock();
        let Ours { receivers, raised, news, .. } = &mut *ours;
        let mut due: Vec<_> = news.drain().map(|(_, advert)| advert).collect();
        raised.retain(|instance| {
            let Some(receiver) = receivers.get_mut(instance) else { return false };
            // Before the look at the floor: an eviction after it reports anew.
            receiver.is_raised.store(false, Ordering::Relaxed);
            let effective = receiver.inbox.effective_floor();
            // What its owner set is no sign of overload.
            let floor = if effective > receiver.inbox.floor() { effective } else { Floor::OPEN };
            let age = receiver.since.map_or(Duration::MAX, |since| now.saturating_duration_since(since));
            let is_new = floor.level() != receiver.advertised.level();
            if age >= if is_new { ADVERT_EVERY } else { REPEAT } && (is_new || !floor.is_open()) {
                receiver.advertised = floor;
                receiver.since = Some(now);
                let advert = receiver.advert();
                if !advert.patterns.is_empty() {
                    self.enter(&advert, true);
                    due.push(advert);
                }
            }
            let is_up = !(floor.is_open() && receiver.advertised.is_open());
            receiver.is_raised.store(is_up, Ordering::Relaxed);
            is_up
        });
        (due, !raised.is_empty())
    }

    async fn take_in(&self, message: &Wave) {
        if message.channel().as_str() == CALLS {
            let adverts: Vec<_> = {
                let ours = self.ours.lock();
                let tuned = ours.receivers.values().filter(|receiver| !receiver.patterns.is_empty());
                tuned.map(super::Receiver::advert).collect()
            };
            self.tell(&adverts).await;
            return;
        }
        let Some(adverts) = advert::read(message.payload()) else {
            tracing::debug!(source = %message.source(), "adverts of floors that cannot be read");
            return;
        };
        let mut is_raised = false;
        for advert in adverts {
            if !self.ours.lock().receivers.contains_key(&advert.receiver.instance()) {
                is_raised |= !advert.floor.is_open();
                self.enter(&advert, false);
            }
        }
        if is_raised {
            self.call_roll().await;
        }
    }
}
