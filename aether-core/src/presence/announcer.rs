//! The task that sends and receives announcements. It starts with the first overload in process, or with the first
//! subscription over a network, and ends with its `Aether`. It sleeps while idle: in process a timer runs only while a
//! floor is up; over a network another one runs for the joint heartbeat of all vibrators.
//!
//! It announces the receivers of this process: each caller with news waits for its turn and then sends all pending
//! news, so when many vibrators join at once most find theirs already sent. The messages are made during that turn, so
//! no old announcement follows a newer one.

use std::collections::BTreeSet;
use std::pin::pin;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};
use std::time::Duration;

use tokio::time::MissedTickBehavior;

use super::announcement::{self, ANNOUNCEMENTS, Announcement};
use super::local_receivers::{LocalReceiver, LocalReceivers};
use super::{CALLS, Presence};
use crate::amplitude::Floor;
use crate::background::Claim;
use crate::channel::Channel;
use crate::clock::{self, Instant};
use crate::sync::MutexGuard;
use crate::wave::{ContentType, Wave};

/// The shortest time between two advertisements of a receiver.
pub(super) const ADVERT_EVERY: Duration = Duration::from_millis(250);
/// How often a raised floor is repeated: half of the time for which it holds.
const REPEAT: Duration = Duration::from_secs(1);
/// The interval of the joint heartbeat of all vibrators of a process, give or take a quarter. The first one comes after
/// a random part of it, so that processes started together do not send together.
const HEARTBEAT: Duration = Duration::from_secs(10);
/// The shortest time between two answers to roll calls. One answer serves all callers.
const ANSWER_EVERY: Duration = Duration::from_secs(1);

/// The next action of the task.
enum Step {
    Look,
    Beat,
    Answer,
    TakeIn(Wave),
}

/// The running task. When it is dropped, even with its runtime, the next overload starts another.
struct Attending(Arc<Presence>);

impl Drop for Attending {
    fn drop(&mut self) {
        let mut local = self.0.local.lock();
        self.0.background.release();
        local.mark_unattended();
    }
}

impl Presence {
    /// Wakes or starts the task.
    pub(super) fn attend(self: &Arc<Self>, mut local: MutexGuard<'_, LocalReceivers>) {
        match self.background.claim() {
            Claim::Running => self.work.notify_one(),
            Claim::Start(runtime) => {
                drop(local);
                let attending = Attending(Arc::clone(self));
                runtime.spawn(async move { attending.0.run().await });
            }
            Claim::NoRuntime => local.mark_unattended(),
        }
    }

    async fn run(self: &Arc<Self>) {
        let mut ended = pin!(self.background.ended());
        let mut turns = tokio::time::interval(ADVERT_EVERY);
        turns.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let crosses = self.crosses_processes();
        let mut heartbeat = pin!(tokio::time::sleep(HEARTBEAT.mul_f64(fastrand::f64())));
        let mut answer = pin!(tokio::time::sleep(Duration::ZERO));
        let mut is_called = false;
        loop {
            let is_raised = self.advertise(clock::now());
            if self.has_news() {
                self.announce(None).await;
            }
            let turn = tokio::select! {
                biased;
                () = &mut ended => return,
                () = &mut heartbeat, if crosses => Step::Beat,
                () = &mut answer, if is_called => Step::Answer,
                _ = turns.tick(), if is_raised => Step::Look,
                message = self.message() => match message {
                    Some(message) => Step::TakeIn(message),
                    None => return,
                },
                // Messages do not starve it, because each turn begins with a look.
                () = self.work.notified() => Step::Look,
            };
            match turn {
                Step::Look => {}
                Step::Beat => {
                    let next = HEARTBEAT.mul_f64(0.75 + fastrand::f64() / 2.0);
                    heartbeat.as_mut().reset(tokio::time::Instant::now() + next);
                    self.beat().await;
                }
                Step::Answer => {
                    is_called = false;
                    answer.as_mut().reset(tokio::time::Instant::now() + ANSWER_EVERY);
                    self.mark_all_as_news();
                }
                Step::TakeIn(message) if message.channel().as_str() == CALLS => is_called = true,
                Step::TakeIn(message) => self.take_in(&message).await,
            }
        }
    }

    /// The next announcement or roll call of another process; pending forever without a network.
    async fn message(&self) -> Option<Wave> {
        match self.notices.get() {
            Some(notices) => std::future::poll_fn(|cx| notices.poll_receive(cx)).await,
            None => std::future::pending().await,
        }
    }

    fn has_news(&self) -> bool {
        let local = self.local.lock();
        let has_some = !local.news.is_empty() || !local.farewells.is_empty();
        has_some && !local.have_left
    }

    /// Marks all receivers as changed, so that they are announced again.
    fn mark_all_as_news(&self) {
        let mut local = self.local.lock();
        let LocalReceivers { receivers, news, .. } = &mut *local;
        news.extend(
            receivers.iter().filter(|(_, receiver)| receiver.is_tuned()).map(|(instance, _)| *instance),
        );
    }

    /// Updates the floors due for advertising, and returns whether any floor is up.
    pub(super) fn advertise(&self, now: Instant) -> bool {
        let mut local = self.local.lock();
        if local.have_left {
            return false;
        }
        let crosses = self.crosses_processes();
        let LocalReceivers { receivers, raised, news, .. } = &mut *local;
        raised.retain(|instance| {
            let Some(receiver) = receivers.get_mut(instance) else { return false };
            // Reset before the floor is read: a later eviction is reported again.
            receiver.is_raised.store(false, Ordering::Relaxed);
            let effective = receiver.inbox.effective_floor();
            // A configured floor is not a sign of overload.
            let floor = if effective > receiver.inbox.floor() { effective } else { Floor::OPEN };
            let age = receiver.since.map_or(Duration::MAX, |since| now.saturating_duration_since(since));
            let is_new = floor.level() != receiver.advertised.level();
            if age >= if is_new { ADVERT_EVERY } else { REPEAT } && (is_new || !floor.is_open()) {
                receiver.advertise(floor, &self.hearers, now);
                if crosses && receiver.is_tuned() {
                    news.insert(*instance);
                }
            }
            let is_up = !(floor.is_open() && receiver.advertised.is_open());
            receiver.is_raised.store(is_up, Ordering::Relaxed);
            is_up
        });
        !raised.is_empty()
    }

    /// The heartbeat, about every ten seconds.
    async fn beat(&self) {
        self.mark_all_as_news();
        let misses_some = {
            let mut advertised = self.advertised.lock();
            advertised.forget_absent(&self.hearers, clock::now());
            advertised.is_overfull()
        };
        if misses_some {
            self.call_roll().await;
        }
    }

    pub(super) async fn take_in(&self, message: &Wave) {
        let now = clock::now();
        let Some(announcements) = announcement::read(message.payload()) else {
            tracing::debug!(source = %message.source(), "unreadable announcements");
            return;
        };
        let of_others: Vec<_> = {
            let local = self.local.lock();
            let is_ours = |instance| local.receivers.contains_key(&instance);
            let of_others =
                announcements.into_iter().filter(|announced| !is_ours(announced.vibrator.instance()));
            of_others.filter(|announced| message.speaks_for(announced.vibrator.name())).collect()
        };
        let is_raised = of_others.iter().any(|announced| !announced.floor.is_open());
        let changes = {
            let mut advertised = self.advertised.lock();
            let missed = self.missed.load(Ordering::Relaxed);
            if missed > 0 {
                advertised.note_missed(missed);
            }
            let changes = advertised.take_in(message, of_others, &self.hearers, now);
            // Decremented afterwards, so that senders see the loss at every moment.
            self.missed.fetch_sub(missed, Ordering::Release);
            changes
        };
        if changes {
            self.note_change();
        }
        if is_raised {
            self.call_roll().await;
        }
    }
}

/// The news being sent. If dropped before completion, they become news again.
struct PendingNews<'a> {
    floors: &'a Arc<Presence>,
    /// The announcements of the receivers `of`, and farewells.
    announcements: Vec<Announcement>,
    of: BTreeSet<u64>,
}

impl<'a> PendingNews<'a> {
    fn begin(floors: &'a Arc<Presence>) -> Self {
        let mut local = floors.local.lock();
        if local.have_left {
            // `leave` sends the farewells.
            drop(local);
            return Self { floors, announcements: Vec::new(), of: BTreeSet::new() };
        }
        let (of, farewells) = (std::mem::take(&mut local.news), std::mem::take(&mut local.farewells));
        let receivers = of.iter().filter_map(|instance| local.receivers.get(instance));
        let announcements = receivers.map(LocalReceiver::short_announcement).chain(farewells).collect();
        drop(local);
        Self { floors, announcements, of }
    }

    fn finish(mut self) {
        self.of.clear();
        self.announcements.clear();
    }
}

impl Drop for PendingNews<'_> {
    fn drop(&mut self) {
        if self.announcements.is_empty() {
            return;
        }
        let mut local = self.floors.local.lock();
        let LocalReceivers { receivers, news, farewells, .. } = &mut *local;
        news.extend(self.of.iter().filter(|instance| receivers.contains_key(*instance)));
        // Of a receiver that was closed meanwhile, what it heard no longer before.
        let is_gone = |announced: &Announcement| {
            announced.heard.is_empty() && !receivers.contains_key(&announced.vibrator.instance())
        };
        farewells.extend(self.announcements.drain(..).filter(is_gone));
        self.floors.attend(local);
    }
}

impl Presence {
    /// Returns once the news of one receiver, or all news, were sent. If cancelled, the task sends them.
    pub(super) async fn announce(self: &Arc<Self>, of: Option<u64>) {
        let _turn = self.announcing.lock().await;
        if of.is_some_and(|instance| !self.local.lock().news.contains(&instance)) {
            return;
        }
        let pending = PendingNews::begin(self);
        self.send_announcements(&pending.announcements).await;
        pending.finish();
    }

    /// Returns when the announcement that is under way has been sent. No other one is made from now on.
    pub(crate) async fn fall_silent(&self) {
        self.local.lock().have_left = true;
        drop(self.announcing.lock().await);
    }

    /// Announces that all receivers of this process leave. An announcement that is still under way could arrive later, and
    /// take that back: [`fall_silent`](Self::fall_silent) first.
    pub(crate) async fn leave(&self) {
        let farewells: Vec<_> = {
            let mut local = self.local.lock();
            local.have_left = true;
            let (news, gone) = (std::mem::take(&mut local.news), std::mem::take(&mut local.farewells));
            let known = local.receivers.iter().filter(|(instance, receiver)| {
                // Others may know what it heard until now.
                receiver.is_tuned() || news.contains(*instance)
            });
            known.map(|(_, receiver)| receiver.farewell()).chain(gone).collect()
        };
        self.send_announcements(&farewells).await;
    }

    async fn send_announcements(&self, announcements: &[Announcement]) {
        let payloads = announcement::write_all(announcements).into_iter();
        self.send(payloads.filter_map(|payload| self.notice(ANNOUNCEMENTS, payload)).collect()).await;
    }

    /// Sends notices if there is a network, while the `Aether` lives.
    pub(super) async fn send(&self, notices: Vec<Wave>) {
        if let Some(network) = self.network.get().and_then(Weak::upgrade)
            && !notices.is_empty()
        {
            tokio::select! {
                biased;
                () = self.background.ended() => {}
                _ = network.notify(notices) => {}
            }
        }
    }

    pub(super) fn notice(&self, channel: &str, payload: Vec<u8>) -> Option<Wave> {
        let channel = Channel::with_reserved(channel).ok()?;
        Some(Wave::plain(channel, payload.into(), ContentType::Json).noticed(&self.sequencer))
    }
}
