//! Announces the receivers of this process to others.
//!
//! Each caller with news waits for its turn and then sends all pending news, so when many vibrators join at once most
//! find theirs already sent. The messages are made during that turn, so no old announcement follows a newer one.

use std::collections::HashSet;
use std::sync::{Arc, Weak};

use super::Presence;
use super::announcement::{self, ANNOUNCEMENTS, Announcement};
use super::local_receivers::LocalReceiver;
use crate::channel::Channel;
use crate::wave::{ContentType, Wave};

/// The news being sent. If dropped before completion, they become news again.
struct PendingNews<'a> {
    floors: &'a Arc<Presence>,
    announcements: Vec<Announcement>,
    of: HashSet<u64>,
    farewells: Vec<Announcement>,
}

impl<'a> PendingNews<'a> {
    fn begin(floors: &'a Arc<Presence>) -> Self {
        let mut local = floors.local.lock();
        if local.have_left {
            // `leave` sends the farewells.
            drop(local);
            return Self { floors, announcements: Vec::new(), of: HashSet::new(), farewells: Vec::new() };
        }
        let (of, farewells) = (std::mem::take(&mut local.news), std::mem::take(&mut local.farewells));
        let receivers = of.iter().filter_map(|instance| local.receivers.get(instance));
        let mut announcements: Vec<_> = receivers.map(LocalReceiver::short_announcement).collect();
        announcements.extend(farewells.iter().cloned());
        drop(local);
        Self { floors, announcements, of, farewells }
    }

    fn finish(mut self) {
        self.of.clear();
        self.farewells.clear();
    }
}

impl Drop for PendingNews<'_> {
    fn drop(&mut self) {
        if self.of.is_empty() && self.farewells.is_empty() {
            return;
        }
        let mut local = self.floors.local.lock();
        local.farewells.append(&mut self.farewells);
        for instance in self.of.drain() {
            if local.receivers.contains_key(&instance) {
                local.news.insert(instance);
            }
        }
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
            local.news.clear();
            let gone = std::mem::take(&mut local.farewells);
            let tuned = local.receivers.values().filter(|receiver| receiver.is_tuned());
            tuned.map(LocalReceiver::farewell).chain(gone).collect()
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
                _ = network.notify(notices) => {}
                () = self.background.ended() => {}
            }
        }
    }

    pub(super) fn notice(&self, channel: &str, payload: Vec<u8>) -> Option<Wave> {
        let channel = Channel::with_reserved(channel).ok()?;
        Some(Wave::plain(channel, payload.into(), ContentType::Json).noticed(&self.sequencer))
    }
}
