//! How the receivers of this process tell others what they hear.
//!
//! Whoever has news waits for its turn and then tells all the news there are: of many who join at once most find that
//! they have been told of. What is told is put together in that turn, so no older word follows a newer one.

use std::collections::HashSet;
use std::sync::{Arc, Weak};

use super::Presence;
use super::announcement::{self, ANNOUNCEMENTS, Announcement};
use super::local_receivers::LocalReceiver;
use crate::channel::Channel;
use crate::wave::{ContentType, Wave};

/// What is being told. Dropped before it is, it is news again.
struct Announcing<'a> {
    floors: &'a Arc<Presence>,
    announcements: Vec<Announcement>,
    of: HashSet<u64>,
    farewells: Vec<Announcement>,
}

impl<'a> Announcing<'a> {
    fn begin(floors: &'a Arc<Presence>) -> Self {
        let mut local = floors.local.lock();
        let (of, farewells) = (std::mem::take(&mut local.news), std::mem::take(&mut local.farewells));
        let receivers = of.iter().filter_map(|instance| local.receivers.get(instance));
        let mut announcements: Vec<_> = receivers.map(LocalReceiver::short_announcement).collect();
        announcements.extend(farewells.iter().cloned());
        if local.are_gone {
            announcements.clear();
        }
        drop(local);
        Self { floors, announcements, of, farewells }
    }

    fn finish(mut self) {
        self.of.clear();
        self.farewells.clear();
    }
}

impl Drop for Announcing<'_> {
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
    /// Returns when the news of one receiver were told, or all news. Cancelled, they are told by the task.
    pub(super) async fn announce(self: &Arc<Self>, of: Option<u64>) {
        let _turn = self.announcing.lock().await;
        if of.is_some_and(|instance| !self.local.lock().news.contains(&instance)) {
            return;
        }
        let telling = Announcing::begin(self);
        self.tell(&telling.announcements).await;
        telling.finish();
    }

    /// Says goodbye for all receivers of this process. Nothing is announced afterwards.
    pub(crate) async fn leave(&self) {
        let farewells: Vec<_> = {
            let mut local = self.local.lock();
            local.are_gone = true;
            local.news.clear();
            let gone = std::mem::take(&mut local.farewells);
            let tuned = local.receivers.values().filter(|receiver| receiver.is_tuned());
            tuned.map(LocalReceiver::farewell).chain(gone).collect()
        };
        self.tell(&farewells).await;
    }

    async fn tell(&self, announcements: &[Announcement]) {
        let payloads = announcement::write_all(announcements).into_iter();
        self.send(payloads.filter_map(|payload| self.notice(ANNOUNCEMENTS, payload)).collect()).await;
    }

    /// Sends notices, if there is a network, and for as long as there is the `Aether`.
    pub(super) async fn send(&self, notices: Vec<Wave>) {
        if let Some(network) = self.network.get().and_then(Weak::upgrade)
            && !notices.is_empty()
        {
            tokio::select! {
                _ = network.tell(notices) => {}
                () = self.background.ended() => {}
            }
        }
    }

    pub(super) fn notice(&self, channel: &str, payload: Vec<u8>) -> Option<Wave> {
        let channel = Channel::with_reserved(channel).ok()?;
        Some(Wave::plain(channel, payload.into(), ContentType::Json).noticed(&self.sequencer))
    }
}
