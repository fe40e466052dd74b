//! The task that makes and takes announcements. Started with the first overload in process, with the first subscription
//! over a network; ends with its `Aether`. It sleeps while there is nothing to say: in process a timer runs only while a
//! floor is up, over a network one also runs for the heartbeat of all vibrators together.

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use parking_lot::MutexGuard;
use tokio::runtime::Handle;
use tokio::time::MissedTickBehavior;

use super::announcement::{self, Announcement};
use super::{CALLS, Floors, Ours, Receiver};
use crate::amplitude::Floor;
use crate::clock::Instant;
use crate::wave::Wave;

/// A receiver advertises so often at most.
pub(super) const ADVERT_EVERY: Duration = Duration::from_millis(250);
/// A floor that is up is advertised again after so long, half the time for which it holds.
const REPEAT: Duration = Duration::from_secs(1);
/// All vibrators of a process announce themselves together so often, give or take a quarter, and for the first time
/// after a random part of it: processes that start together do not speak together.
const HEARTBEAT: Duration = Duration::from_secs(10);

/// What the task does next.
enum Turn {
    Look,
    Beat,
    TakeIn(Wave),
}

/// The task. Dropped, also with the runtime that it was in, it lets the next overload start another.
struct Attending(Arc<Floors>);

impl Drop for Attending {
    fn drop(&mut self) {
        let mut ours = self.0.ours.lock();
        ours.is_attended = false;
        ours.are_not_attended();
    }
}

impl Ours {
    /// Lets those whose floor may be up say so again.
    fn are_not_attended(&mut self) {
        for instance in self.raised.drain() {
            if let Some(receiver) = self.receivers.get(&instance) {
                receiver.is_raised.store(false, Ordering::Relaxed);
            }
        }
    }
}

impl Floors {
    /// Wakes the task, or starts it.
    pub(super) fn attend(self: &Arc<Self>, mut ours: MutexGuard<'_, Ours>) {
        let home = self.runtime.get().cloned();
        if ours.is_attended {
            self.work.notify_one();
        } else if let Some(runtime) = home.or_else(|| Handle::try_current().ok()) {
            ours.is_attended = true;
            // A runtime that has ended drops the task at once, and that takes the lock.
            drop(ours);
            let attending = Attending(Arc::clone(self));
            runtime.spawn(async move { attending.0.run().await });
        } else {
            // Outside of any runtime: the next eviction tries again.
            ours.are_not_attended();
        }
    }

    async fn run(&self) {
        let mut ended = self.ended.subscribe();
        let mut turns = tokio::time::interval(ADVERT_EVERY);
        turns.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let crosses = self.network.get().is_some();
        let mut heartbeat = pin!(tokio::time::sleep(HEARTBEAT.mul_f64(fastrand::f64())));
        loop {
            let (due, is_raised) = self.due(Instant::now());
            if !due.is_empty() {
                self.tell(&due).await;
            }
            let turn = tokio::select! {
                _ = ended.wait_for(|ended| *ended) => return,
                _ = turns.tick(), if is_raised => Turn::Look,
                () = self.work.notified() => Turn::Look,
                () = &mut heartbeat, if crosses => Turn::Beat,
                message = self.message() => match message {
                    Some(message) => Turn::TakeIn(message),
                    None => return,
                },
            };
            match turn {
                Turn::Look => {}
                Turn::Beat => {
                    let next = HEARTBEAT.mul_f64(0.75 + fastrand::f64() / 2.0);
                    heartbeat.as_mut().reset(tokio::time::Instant::now() + next);
                    self.tell(&self.tuned(|receiver| receiver.is_listed)).await;
                }
                Turn::TakeIn(message) => self.take_in(&message).await,
            }
        }
    }

    /// The next announcement or call of another process; never where there is no network.
    async fn message(&self) -> Option<Wave> {
        match self.ear.get() {
            Some(ear) => std::future::poll_fn(|cx| ear.poll_receive(cx)).await,
            None => std::future::pending().await,
        }
    }

    /// What is to be advertised now, and whether any floor is up. Enters it into our own book as well.
    pub(super) fn due(&self, now: Instant) -> (Vec<Announcement>, bool) {
        let mut ours = self.ours.lock();
        if ours.are_gone {
            return (Vec::new(), false);
        }
        let Ours { receivers, raised, news, .. } = &mut *ours;
        let mut due: Vec<_> = news.drain().map(|(_, announcement)| announcement).collect();
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
                let announcement = receiver.announcement();
                if !announcement.heard.is_empty() {
                    self.enter(announcement.clone(), true);
                    due.push(announcement);
                }
            }
            let is_up = !(floor.is_open() && receiver.advertised.is_open());
            receiver.is_raised.store(is_up, Ordering::Relaxed);
            is_up
        });
        (due, !raised.is_empty())
    }

    /// What those of our receivers say that hear anything.
    pub(super) fn tuned(&self, which: impl Fn(&Receiver) -> bool) -> Vec<Announcement> {
        let ours = self.ours.lock();
        if ours.are_gone {
            return Vec::new();
        }
        let tuned = ours.receivers.values().filter(|receiver| !receiver.heard.is_empty() && which(receiver));
        tuned.map(Receiver::announcement).collect()
    }

    async fn take_in(&self, message: &Wave) {
        if message.channel().as_str() == CALLS {
            self.tell(&self.tuned(|_| true)).await;
            return;
        }
        let Some(announcements) = announcement::read(message.payload()) else {
            tracing::debug!(source = %message.source(), "announcements of vibrators that cannot be read");
            return;
        };
        let mut is_raised = false;
        for announcement in announcements {
            if !self.ours.lock().receivers.contains_key(&announcement.vibrator.instance()) {
                is_raised |= !announcement.floor.is_open();
                self.enter(announcement, false);
            }
        }
        if is_raised {
            self.call_roll().await;
        }
    }
}
