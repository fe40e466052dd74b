//! Who comes and goes: introductions, heartbeats, and the end of peers that are silent.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use parking_lot::Mutex;

use super::lane::Lane;
use super::message::Message;
use super::shared::{LanShared, MEASURES};
use crate::clock::{self, Instant};
use crate::medium::flow::sleep_until;
use crate::wire::micros_since_1970;

/// Each peer is pinged this often.
const BEAT: Duration = Duration::from_secs(1);
/// Introductions to unknown nodes between two beats. Tokens are not authenticated: anybody can show as many as they like.
const INTRODUCTIONS: usize = 256;

#[derive(Default)]
pub(super) struct Presence {
    introductions: AtomicUsize,
    /// The last ping to each peer that measures, and when it was said.
    pings: Mutex<HashMap<u64, (u64, Instant)>>,
}

impl Presence {
    fn may_introduce(&self) -> bool {
        self.introductions.fetch_add(1, Ordering::Relaxed) < INTRODUCTIONS
    }

    /// A token has come, or gone. A token is only a hint: it is not authenticated.
    pub(super) fn note_token(&self, shared: &LanShared, node: u64, is_there: bool) {
        if shared.peers.version_of(node).is_some() {
            // Whether it is still there shows with the next beats.
            return;
        }
        if is_there && self.may_introduce() {
            shared.introduce_to(node);
        }
    }

    /// Something authentic came from a node that is not known, such as one that was away for a while.
    pub(super) fn note_stranger(&self, shared: &LanShared, node: u64, message: &Message) {
        if !matches!(message, Message::Table { .. } | Message::Bye | Message::Ping { .. })
            && self.may_introduce()
        {
            shared.say_now(node, Lane::CONTROL, Message::Missing);
        }
    }

    /// The round trip of a ping that measures, and how far the clock of the peer is ahead in microseconds.
    pub(super) fn measured(&self, node: u64, number: u64, clock_micros: u64) -> Option<(Duration, i64)> {
        let mut pings = self.pings.lock();
        let (_, said) = pings.get(&node).copied().filter(|(expected, _)| *expected == number)?;
        pings.remove(&node);
        let round_trip = clock::now().saturating_duration_since(said);
        // The answer was written half a round trip ago.
        let half = i64::try_from(round_trip.as_micros() / 2).unwrap_or(i64::MAX);
        let ahead = clock_micros.cast_signed().wrapping_sub(micros_since_1970().cast_signed());
        Some((round_trip, ahead.saturating_add(half)))
    }

    /// Pings each peer.
    pub(super) fn ping_all(&self, shared: &LanShared) {
        let version = shared.peers.version();
        let nodes = shared.peers.nodes();
        self.pings.lock().retain(|node, _| nodes.contains(node));
        for node in nodes {
            let number = MEASURES | (shared.last_ping.fetch_add(1, Ordering::Relaxed) + 1);
            self.pings.lock().insert(node, (number, clock::now()));
            shared.say_now(node, Lane::CONTROL, Message::Ping { number, version });
        }
    }

    /// Beats until the medium ends.
    pub(super) async fn beat(self: Arc<Self>, shared: Arc<LanShared>) {
        let mut ending = shared.ending.subscribe();
        let mut beats = tokio::time::interval(BEAT);
        beats.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            let silent = shared.peers.first_silent();
            let is_beat = tokio::select! {
                biased;
                _ = ending.wait_for(|ending| *ending) => return,
                _ = beats.tick() => true,
                // Not with the next beat: nobody waits up to a second more for a peer that has gone.
                () = sleep_until(silent) => false,
            };
            let gone = shared.peers.forget_silent();
            for (node, name) in &gone {
                tracing::warn!(peer = format_args!("{node:016x}"), %name, "a peer has gone: it was silent for too long");
            }
            if !gone.is_empty() {
                shared.moved();
            }
            if !is_beat {
                continue;
            }
            self.introductions.store(0, Ordering::Relaxed);
            // What found no room, or was on a connection that broke.
            shared.peers.uninformed().into_iter().for_each(|node| shared.introduce_to(node));
            self.ping_all(&shared);
        }
    }
}
