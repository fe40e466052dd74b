//! Peers that come and go: introductions, heartbeats, and the end of peers that are silent.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::oneshot;
use tokio::time::timeout;

use super::lane::Lane;
use super::message::{Message, Sent};
use super::shared::{LanShared, MEASURES};
use aether_core::clock::micros_since_1970;
use aether_core::clock::{self, Instant, sleep_until};

/// A process that has not looked at what arrives for this long is stuck, and sends nothing more, so that others do not
/// wait for it.
const STUCK: Duration = Duration::from_secs(1);
/// Introductions to unknown nodes between two beats; others are made at the next ones. Without a secret anybody can
/// show as many tokens as they like.
const INTRODUCTIONS: usize = 256;
/// The pings of tools that wait for an answer at most.
const MAX_ASKED: usize = 4096;

/// A measured way to a peer and back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct LanPong {
    /// From the message to its answer, the way through both processes included.
    pub round_trip: Duration,
    /// How far the clock of the peer is ahead of ours, in microseconds, to within half of the round trip.
    pub clock_ahead_micros: i64,
}

/// Why a ping has no result.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LanPingError {
    /// There is no such peer, or it has left.
    #[error("there is no such peer, or it has left")]
    NotThere,
    /// The peer did not answer in time.
    #[error("no answer within {within:?}")]
    Lost {
        /// The time.
        within: Duration,
    },
    /// Too many pings wait for an answer.
    #[error("{most} pings wait for an answer already")]
    TooMany {
        /// As many as may wait.
        most: usize,
    },
    /// The medium has not connected, or has ended.
    #[error("this process is not connected to the network")]
    NotConnected,
}

/// A ping of a tool, which waits for its answer.
struct AskedPing {
    node: u64,
    said: Instant,
    asker: oneshot::Sender<LanPong>,
}

/// Removes a ping from the table.
struct Asked<'a> {
    presence: &'a Presence,
    number: u64,
}

impl Drop for Asked<'_> {
    fn drop(&mut self) {
        self.presence.asked.lock().remove(&self.number);
    }
}

#[derive(Default)]
pub(super) struct Presence {
    introductions: AtomicUsize,
    /// The last ping to each peer that measures, and when it was said.
    pings: Mutex<HashMap<u64, (u64, Instant)>>,
    /// The pings of tools, by number.
    asked: Mutex<HashMap<u64, AskedPing>>,
}

fn next_number(shared: &LanShared) -> u64 {
    MEASURES | (shared.last_ping.fetch_add(1, Ordering::Relaxed) + 1)
}

fn pong(said: Instant, clock_micros: u64) -> LanPong {
    // In this order a thread that is held up in between lengthens the round trip, by whose half the result may be off.
    let own_micros = micros_since_1970();
    let round_trip = clock::now().saturating_duration_since(said);
    // The answer was written half a round trip ago.
    let half = i64::try_from(round_trip.as_micros() / 2).unwrap_or(i64::MAX);
    let ahead = clock_micros.cast_signed().wrapping_sub(own_micros.cast_signed());
    LanPong { round_trip, clock_ahead_micros: ahead.saturating_add(half) }
}

impl Presence {
    fn may_introduce(&self) -> bool {
        self.introductions.fetch_add(1, Ordering::Relaxed) < INTRODUCTIONS
    }

    /// A token has come, or gone. A token is only a hint: whoever has seen it can show it again.
    pub(super) fn note_token(&self, shared: &LanShared, node: u64, is_there: bool) {
        if !is_there {
            // Whether a peer is still there shows with the next beats.
            shared.peers.note_unseen(node);
            shared.moved();
        } else if shared.peers.note_shown(node) && self.may_introduce() {
            shared.introduce_to(node);
        }
    }

    /// Something authentic came from a node that is not known, such as one that was away for a while.
    pub(super) fn note_stranger(&self, shared: &LanShared, node: u64, message: &Message) {
        if !matches!(message, Message::Table { .. } | Message::Bye { .. } | Message::Ping { .. })
            && self.may_introduce()
        {
            shared.say_now(node, Lane::CONTROL, Message::Missing);
        }
    }

    /// The entries of the tables of pings.
    pub(super) fn tables(&self) -> [(&'static str, usize); 2] {
        [("pings", self.pings.lock().len()), ("pings of tools", self.asked.lock().len())]
    }

    /// The result of a ping that measures, if its answer is expected here and not by a tool.
    pub(super) fn measured(&self, node: u64, number: u64, clock_micros: u64) -> Option<LanPong> {
        if self.asked.lock().get(&number).is_some_and(|ping| ping.node == node) {
            let AskedPing { said, asker, .. } = self.asked.lock().remove(&number)?;
            // Nobody waits any more if the ping was cancelled. The waiting task keeps the result.
            let _ = asker.send(pong(said, clock_micros));
            return None;
        }
        let mut pings = self.pings.lock();
        let (_, said) = pings.get(&node).copied().filter(|(expected, _)| *expected == number)?;
        pings.remove(&node);
        Some(pong(said, clock_micros))
    }

    /// Pings a peer for a tool, and waits for the answer.
    pub(super) async fn ping(
        &self,
        shared: &LanShared,
        node: u64,
        within: Duration,
    ) -> Result<LanPong, LanPingError> {
        match shared.peers.version_of(node) {
            Some(_) => self.ping_anybody(shared, node, within).await,
            None => Err(LanPingError::NotThere),
        }
    }

    /// The same, also for a node that has not introduced itself.
    pub(super) async fn ping_anybody(
        &self,
        shared: &LanShared,
        node: u64,
        within: Duration,
    ) -> Result<LanPong, LanPingError> {
        let number = next_number(shared);
        let (asker, answer) = oneshot::channel();
        {
            let mut asked = self.asked.lock();
            if asked.len() >= MAX_ASKED {
                return Err(LanPingError::TooMany { most: MAX_ASKED });
            }
            asked.insert(number, AskedPing { node, said: clock::now(), asker });
        }
        let _asked = Asked { presence: self, number };
        let answered = async {
            let ping = Message::Ping { number, version: shared.peers.version(), sent: Sent::default() };
            if !shared.say(node, Lane::CONTROL, ping).await {
                return Err(LanPingError::NotConnected);
            }
            tokio::select! {
                biased;
                answer = answer => answer.map_err(|_| LanPingError::NotConnected),
                () = shared.ending.cancelled() => Err(LanPingError::NotConnected),
            }
        };
        let pong = timeout(within, answered).await.unwrap_or(Err(LanPingError::Lost { within }))?;
        // The timer may be a millisecond late.
        if pong.round_trip > within {
            return Err(LanPingError::Lost { within });
        }
        shared.peers.measured(node, pong.round_trip, pong.clock_ahead_micros);
        shared.measured();
        Ok(pong)
    }

    /// Pings each peer.
    pub(super) fn ping_all(&self, shared: &LanShared) {
        let version = shared.peers.version();
        let nodes = shared.peers.nodes();
        self.pings.lock().retain(|node, _| nodes.contains(node));
        for node in nodes {
            let number = next_number(shared);
            self.pings.lock().insert(node, (number, clock::now()));
            let ping = Message::Ping { number, version, sent: Sent::default() };
            shared.say_now(node, Lane::CONTROL, ping);
        }
    }

    /// Beats until the medium ends.
    pub(super) async fn beat(self: Arc<Self>, shared: Arc<LanShared>) {
        let mut beats = tokio::time::interval(shared.peers.beat());
        beats.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            let now = clock::now();
            // A peer may have said something that was not looked at yet. Then the next beat looks again.
            let silent = shared.peers.first_silent().filter(|_| shared.arrivals.looked_at_until() >= now);
            let is_beat = tokio::select! {
                biased;
                () = shared.ending.cancelled() => return,
                _ = beats.tick() => true,
                // Not with the next beat: nobody waits up to a second more for a peer that has gone.
                () = sleep_until(silent) => false,
            };
            let looked_at_until = shared.arrivals.looked_at_until();
            let gone = shared.peers.forget_silent(looked_at_until);
            for (node, name) in &gone {
                tracing::warn!(peer = format_args!("{node:016x}"), %name, "a peer has gone: it was silent for too long");
            }
            if !gone.is_empty() {
                shared.note_company();
                shared.moved();
            }
            if !is_beat {
                continue;
            }
            if clock::now().saturating_duration_since(looked_at_until) >= STUCK {
                continue;
            }
            let strangers = shared.peers.strangers_due(INTRODUCTIONS);
            self.introductions.store(strangers.len(), Ordering::Relaxed);
            strangers.into_iter().for_each(|node| shared.introduce_to(node));
            // Tables that found no room, or were on a connection that broke.
            shared.peers.uninformed().into_iter().for_each(|node| shared.introduce_to(node));
            self.ping_all(&shared);
        }
    }
}
