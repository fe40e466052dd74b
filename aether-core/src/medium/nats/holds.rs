//! The sender's side of pauses: determines which waves stay in the outbox for now.
//!
//! Belongs to the sending task; `emit` is not involved. State that comes from the network is bounded here, and is
//! removed when its lease ends.

use std::collections::HashMap;
use std::sync::atomic::Ordering;
use std::time::Duration;

use async_nats::{Message, Subscriber};
use futures_util::{FutureExt, StreamExt};
use tokio::task::coop;

use super::connection::NatsShared;
use super::flow::{self, FLOW, Pause};
use super::root::Root;
use super::sealing::SealingGuard;
use crate::channel::{Channel, Pattern};
use crate::clock::{self, Instant, moment_of};
use crate::wave::Wave;

/// The maximum number of pauses obeyed at the same time. Pauses beyond it are ignored, and their receivers shed.
const MAX_HOLDS: usize = 256;
/// The maximum number of channels for which the hold state is cached.
const MAX_CHANNELS: usize = 1024;
/// The maximum number of notices read between two batches.
const NOTICES: usize = 64;

struct Hold {
    pattern: Pattern,
    level: u8,
    until: Instant,
}

/// The pauses in force.
pub(super) struct Holds {
    notices: Option<Subscriber>,
    /// The start of the subject of the notices: prefix, root and dot.
    before_channel: String,
    guard: SealingGuard,
    /// The pauses, keyed by the requesting node and its number for the pause.
    holds: HashMap<(u64, u64), Hold>,
    /// The strongest level held on each channel.
    channels: HashMap<Channel, Option<u8>>,
    /// The time at which the next pause ends.
    next_end: Option<Instant>,
    /// How far the outbox has been searched for waves that are not held.
    seen: u64,
}

impl Holds {
    pub(super) fn new(shared: &NatsShared) -> Self {
        let (holds, channels) = (HashMap::new(), HashMap::new());
        let (before_channel, guard) = (shared.subject(Root::Questions, ""), shared.sealing.guard(false));
        Self { notices: None, before_channel, guard, holds, channels, next_end: None, seen: 0 }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.holds.is_empty()
    }

    /// Waves offered to the outbox before this mark are held.
    pub(super) const fn seen(&self) -> u64 {
        self.seen
    }

    /// Takes a batch of waves that are not held.
    pub(super) fn take_unheld(&mut self, shared: &NatsShared, most: (usize, usize), batch: &mut Vec<Wave>) {
        let Self { holds, channels, seen, .. } = self;
        let left = shared.outbox.take_unheld(most, seen, |wave| is_held(holds, channels, wave), batch);
        shared.flow.held.store(left as u64, Ordering::Relaxed);
    }

    /// Waits for a notice or for the end of a pause.
    ///
    /// Cancel safety: if cancelled, no notice is lost.
    pub(super) async fn changed(&mut self, shared: &NatsShared) {
        let end = self.next_end;
        let message = match &mut self.notices {
            None => std::future::pending().await,
            Some(notices) => tokio::select! {
                message = notices.next() => message,
                () = flow::sleep_until(end) => return,
            },
        };
        match message {
            Some(message) => self.obey(message, shared),
            // The client has ended.
            None => self.notices = None,
        }
    }

    /// Reads the notices that have arrived and removes the pauses that have ended. Called between batches.
    pub(super) async fn update(&mut self, shared: &NatsShared) {
        if shared.is_closed() {
            // Closing does not wait for receivers: they shed what they cannot accept, and count it.
            self.notices = None;
            self.forget(shared, |_| true);
            return;
        }
        let Some(notices) = &mut self.notices else {
            // Subscribes before the first wave is sent. A process that sends nothing does not need pause notices.
            let subject = shared.subject(Root::Questions, FLOW);
            self.notices = shared.client.subscribe(subject).await.ok();
            return;
        };
        let mut come = Vec::new();
        // Bypasses the task's budget, which may be used up: messages that have arrived must be seen.
        while come.len() < NOTICES
            && let Some(Some(message)) = coop::unconstrained(notices.next()).now_or_never()
        {
            come.push(message);
        }
        come.into_iter().for_each(|message| self.obey(message, shared));
        if self.next_end.is_some() {
            let now = clock::now();
            if self.next_end.is_some_and(|end| end <= now) {
                self.forget(shared, |hold| hold.until <= now);
            }
        }
    }

    fn obey(&mut self, message: Message, shared: &NatsShared) {
        shared.link.took_message();
        let Self { before_channel, guard, .. } = self;
        let arrived = shared.sealing.open(Root::Questions, before_channel, message, guard);
        let Some(arrived) = arrived else { return };
        let Some((node, pauses)) = flow::read(&arrived.message.payload) else { return };
        for pause in pauses {
            self.note((node, pause.id), pause, shared);
        }
        self.apply(shared);
    }

    fn note(&mut self, key: (u64, u64), pause: Pause, shared: &NatsShared) {
        let Pause { pattern, level, lease, .. } = pause;
        if lease == Duration::ZERO {
            self.holds.remove(&key);
            self.look_again();
            return;
        }
        let until = clock::now() + lease;
        let has_room = self.holds.len() < MAX_HOLDS;
        match self.holds.get_mut(&key) {
            Some(hold) if hold.pattern == pattern && hold.level == level => {
                hold.until = until;
                // Flushing tasks see that the receivers are making progress.
                shared.link.moved();
            }
            Some(hold) => {
                *hold = Hold { pattern, level, until };
                self.look_again();
            }
            None if has_room => {
                self.holds.insert(key, Hold { pattern, level, until });
                shared.flow.pauses.fetch_add(1, Ordering::Relaxed);
                self.look_again();
            }
            None => {}
        }
    }

    /// Resets the caches because the set of held waves has changed.
    fn look_again(&mut self) {
        self.channels.clear();
        self.seen = 0;
    }

    fn forget(&mut self, shared: &NatsShared, is_over: impl Fn(&Hold) -> bool) {
        if !self.holds.is_empty() {
            self.holds.retain(|_, hold| !is_over(hold));
            self.look_again();
            self.apply(shared);
        }
    }

    /// Updates the outbox.
    fn apply(&mut self, shared: &NatsShared) {
        self.next_end = self.holds.values().map(|hold| hold.until).min();
        let last = self.holds.values().map(|hold| hold.until).max();
        shared.outbox.hold_until(last.map(moment_of));
        if last.is_none() {
            shared.flow.held.store(0, Ordering::Relaxed);
            // Flushing tasks see that sending continues.
            shared.link.moved();
        }
    }
}

/// Whether a wave stays in the outbox.
fn is_held(
    holds: &HashMap<(u64, u64), Hold>,
    channels: &mut HashMap<Channel, Option<u8>>,
    wave: &Wave,
) -> bool {
    let level = match channels.get(wave.channel()) {
        Some(level) => *level,
        None => {
            let matching = holds.values().filter(|hold| hold.pattern.matches(wave.channel()));
            let level = matching.map(|hold| hold.level).min();
            if channels.len() >= MAX_CHANNELS {
                channels.clear();
            }
            channels.insert(wave.channel().clone(), level);
            level
        }
    };
    level.is_some_and(|level| wave.signal().level() >= level)
}
