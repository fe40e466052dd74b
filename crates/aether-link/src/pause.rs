//! Pauses: full receivers ask senders to keep waves back for now.
//!
//! A *pause* names a pattern and a level. Senders keep waves that match the pattern, and that are at this level or
//! weaker, in their outbox. A pause is valid for a short lease and is renewed while it is needed. Lost notices, broken
//! connections and dead receivers therefore need no special handling. Media over a network send the notices of a
//! [`PauseRequest`] when an inbox has no room. The sending task of a medium owns a [`PauseTable`] and obeys them; `emit` is
//! not involved. Entries from the network are bounded there, and are removed when their lease ends. This module sends
//! nothing itself.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::outbox::OutboxReader;
use crate::wire;
use aether_core::clock::{self, Instant};
use aether_core::medium::{NodeId, Sequencer, ShareSizes};
use aether_core::wave::ContentType;
use aether_core::{Channel, Pattern, Source, Wave};

/// The channel on which receivers ask senders to pause.
pub const FLOW: &str = "_aether.flow";

/// How long a pause is valid without renewal. Two of three notices may be lost or late.
const LEASE: Duration = Duration::from_millis(250);
/// The interval at which a pause is renewed.
const RENEW_EVERY: Duration = Duration::from_millis(80);

/// The maximum lease. Longer leases are shortened to this one, whichever receiver asks for them.
const MAX_LEASE: Duration = Duration::from_secs(1);

/// The maximum number of pauses obeyed at the same time. Beyond it the principal with most of them gives way; its own
/// further pauses are ignored, and their receivers shed.
const MAX_HOLDS: usize = 256;
/// The maximum number of channels for which the hold state is cached.
const MAX_CHANNELS: usize = 1024;

/// The counters of both sides.
pub struct Flow {
    sequencer: Sequencer,
    last_id: AtomicU64,
    /// The number of pauses that this process has obeyed, not counting renewals.
    pub pauses: AtomicU64,
    /// The number of waves held in the outbox, as of the last check.
    pub held: AtomicU64,
}

/// A pause, or the end of one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pause {
    /// Identifies the pause among all pauses of the same node.
    pub id: u64,
    /// The channels whose waves are held.
    pub pattern: Pattern,
    /// Waves at this level or weaker are held.
    pub level: u8,
    /// How long the pause is valid unless it is renewed. Zero ends it.
    pub lease: Duration,
}

#[derive(Serialize, Deserialize)]
struct PauseRecord {
    id: u64,
    pattern: String,
    level: u8,
    lease_ms: u64,
}

impl Default for Flow {
    fn default() -> Self {
        Self::new()
    }
}

impl Flow {
    /// Counters of a medium that is connecting.
    #[must_use]
    pub fn new() -> Self {
        Self {
            sequencer: Sequencer::new(Source::framework()),
            last_id: AtomicU64::new(0),
            pauses: AtomicU64::new(0),
            held: AtomicU64::new(0),
        }
    }

    /// Returns a new id for a sender of pauses.
    pub fn next_id(&self) -> u64 {
        self.last_id.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// Encodes a pause as a control message.
    pub fn wave(&self, pause: &Pause) -> Option<Wave> {
        let record = PauseRecord {
            id: pause.id,
            pattern: pause.pattern.as_str().to_owned(),
            level: pause.level,
            lease_ms: u64::try_from(pause.lease.as_millis()).unwrap_or(u64::MAX),
        };
        let payload = serde_json::to_vec(&record).ok()?;
        let channel = Channel::with_reserved(FLOW).ok()?;
        Some(Wave::plain(channel, payload.into(), ContentType::Json).noticed(&self.sequencer))
    }
}

/// The node that sent a message and the pauses in it, or `None` if the message is malformed.
pub fn read_pauses(message: &Bytes) -> Option<(u64, Vec<Pause>)> {
    let channel = Channel::with_reserved(FLOW).ok()?;
    let frame = wire::decode(message, Some(&channel), clock::now(), |_| Duration::ZERO).ok()?;
    let pauses = frame.waves.iter().map(|wave| {
        let PauseRecord { id, pattern, level, lease_ms } = serde_json::from_slice(wave.payload()).ok()?;
        let lease = Duration::from_millis(lease_ms).min(MAX_LEASE);
        Some(Pause { id, pattern: Pattern::new(&pattern).ok()?, level, lease })
    });
    Some((frame.sender.node, pauses.collect::<Option<_>>()?))
}

/// The request of one receiver. It sends nothing: the notices that it returns are to be sent.
pub struct PauseRequest {
    id: u64,
    pattern: Pattern,
    /// The level from which senders are asked to pause, and when the request is renewed.
    asked: Option<(u8, Instant)>,
}

impl PauseRequest {
    /// A pause that nobody was asked for yet.
    #[must_use]
    pub const fn new(id: u64, pattern: Pattern) -> Self {
        Self { id, pattern, asked: None }
    }

    /// Its number among the requests of the receiver.
    #[must_use]
    pub const fn id(&self) -> u64 {
        self.id
    }

    /// Asks senders to pause from this level on, unless they are asked for as much already.
    pub fn ask(&mut self, level: u8) -> Option<Pause> {
        let is_more = self.asked.is_none_or(|(asked, _)| level < asked);
        is_more.then(|| self.asked_now(level))
    }

    /// When the request has to be renewed.
    pub fn renewal(&self) -> Option<Instant> {
        self.asked.map(|(_, again)| again)
    }

    /// The renewed request, if it is time.
    pub fn renewed(&mut self, now: Instant) -> Option<Pause> {
        let (level, again) = self.asked?;
        (again <= now).then(|| self.asked_now(level))
    }

    /// The end of the pause, if senders were asked for one.
    pub fn end(&mut self) -> Option<Pause> {
        let (level, _) = self.asked.take()?;
        Some(self.notice(level, Duration::ZERO))
    }

    fn asked_now(&mut self, level: u8) -> Pause {
        self.asked = Some((level, clock::now() + RENEW_EVERY));
        self.notice(level, LEASE)
    }

    fn notice(&self, level: u8, lease: Duration) -> Pause {
        Pause { id: self.id, pattern: self.pattern.clone(), level, lease }
    }
}

struct Hold {
    pattern: Pattern,
    level: u8,
    until: Instant,
}

/// The change that a notice made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Noted {
    /// A pause goes on: its receiver makes progress.
    Renewed,
    /// Other waves are held than before, or too many pauses are in force already.
    Other,
}

/// The pauses in force.
#[derive(Default)]
pub struct PauseTable {
    /// The pauses, keyed by the requesting node and its number for the pause.
    holds: HashMap<(NodeId, u64), Hold>,
    shares: ShareSizes,
    /// The strongest level held on each channel.
    channels: HashMap<Channel, Option<u8>>,
    /// The time at which the next pause ends.
    next_end: Option<Instant>,
    /// How far the outbox has been searched for waves that are not held.
    seen: u64,
}

impl PauseTable {
    /// Whether nothing is held.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.holds.is_empty()
    }

    /// Waves offered to the outbox before this mark are held.
    pub const fn seen(&self) -> u64 {
        self.seen
    }

    /// The time at which the next pause ends, as of the last call of [`apply`](Self::apply).
    pub const fn next_end(&self) -> Option<Instant> {
        self.next_end
    }

    /// Takes a batch of waves that are not held.
    pub fn take_unheld(
        &mut self,
        outbox: &OutboxReader,
        flow: &Flow,
        most: (usize, usize),
        batch: &mut Vec<Wave>,
    ) {
        let Self { holds, channels, seen, .. } = self;
        let left = outbox.take_unheld(most, seen, |wave| is_held(holds, channels, wave), batch);
        flow.held.store(left as u64, Ordering::Relaxed);
    }

    /// Notes a pause of a node. Call [`apply`](Self::apply) after the last of several.
    pub fn note(&mut self, node: NodeId, pause: Pause, flow: &Flow) -> Noted {
        let Pause { id, pattern, level, lease } = pause;
        let key = (node, id);
        if lease == Duration::ZERO {
            self.remove(key);
            self.look_again();
            return Noted::Other;
        }
        let until = clock::now() + lease;
        if self.holds.len() >= MAX_HOLDS && !self.holds.contains_key(&key) {
            self.make_room(node.principal);
        }
        let has_room = self.holds.len() < MAX_HOLDS;
        match self.holds.get_mut(&key) {
            Some(hold) if hold.pattern == pattern && hold.level == level => {
                hold.until = until;
                return Noted::Renewed;
            }
            Some(hold) => {
                *hold = Hold { pattern, level, until };
                self.look_again();
            }
            None if has_room => {
                self.holds.insert(key, Hold { pattern, level, until });
                self.shares.add(node.principal, 1);
                flow.pauses.fetch_add(1, Ordering::Relaxed);
                self.look_again();
            }
            None => {}
        }
        Noted::Other
    }

    fn remove(&mut self, key: (NodeId, u64)) {
        if self.holds.remove(&key).is_some() {
            self.shares.subtract(key.0.principal, 1);
        }
    }

    /// Ends the pause of another principal that ends first, if one has more of them.
    fn make_room(&mut self, principal: u64) {
        let holder = self.shares.gives_way_to(principal);
        if holder == principal {
            return;
        }
        let held = self.holds.iter().filter(|((node, _), _)| node.principal == holder);
        if let Some(key) =
            held.min_by_key(|((node, id), hold)| (hold.until, node.number, *id)).map(|(key, _)| *key)
        {
            self.remove(key);
        }
    }

    /// Resets the caches because the set of held waves has changed.
    fn look_again(&mut self) {
        self.channels.clear();
        self.seen = 0;
    }

    /// Forgets all pauses. Returns whether there were any, in which case [`apply`](Self::apply) is to be called.
    pub fn forget_all(&mut self) -> bool {
        self.forget(|_| true)
    }

    /// Forgets the pauses that have ended. Returns whether there were any pauses, in which case [`apply`](Self::apply) is
    /// to be called.
    pub fn forget_ended(&mut self) -> bool {
        let Some(end) = self.next_end else { return false };
        let now = clock::now();
        end <= now && self.forget(|hold| hold.until <= now)
    }

    fn forget(&mut self, is_over: impl Fn(&Hold) -> bool) -> bool {
        let had_any = !self.holds.is_empty();
        if had_any {
            let shares = &mut self.shares;
            self.holds.retain(|(node, _), hold| {
                let is_kept = !is_over(hold);
                shares.subtract(node.principal, usize::from(!is_kept));
                is_kept
            });
            self.look_again();
        }
        had_any
    }

    /// Updates the outbox. Returns whether nothing is held any more.
    pub fn apply(&mut self, outbox: &OutboxReader, flow: &Flow) -> bool {
        self.next_end = self.holds.values().map(|hold| hold.until).min();
        let last = self.holds.values().map(|hold| hold.until).max();
        outbox.hold_until(last);
        if last.is_none() {
            flow.held.store(0, Ordering::Relaxed);
        }
        last.is_none()
    }
}

/// Whether a wave stays in the outbox.
fn is_held(
    holds: &HashMap<(NodeId, u64), Hold>,
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

/// Reads a message as pauses, which are written as they were read.
#[cfg(fuzzing)]
pub fn fuzz_pauses(message: &Bytes) {
    let Some((_, pauses)) = read_pauses(message) else { return };
    let flow = Flow::new();
    for pause in pauses {
        assert!(pause.lease <= MAX_LEASE);
        let wave = flow.wave(&pause).expect("what was read is written");
        let sender = wire::Sender { node: 1, sent_micros: 0 };
        let frame = wire::encode(sender, None, std::slice::from_ref(&wave), clock::now()).expect("a frame");
        assert_eq!(read_pauses(&frame), Some((1, vec![pause])));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_principal_with_pauses_without_end_takes_none_from_another() {
        let (mut table, flow) = (PauseTable::default(), Flow::new());
        let mut note = |principal, id| {
            let pattern = Pattern::new(format!("orders.{principal}")).unwrap();
            let pause = Pause { id, pattern, level: 3, lease: Duration::from_secs(1) };
            table.note(NodeId { principal, number: id }, pause, &flow)
        };
        note(1, 0);
        (0..1000).for_each(|id| {
            note(2, id);
        });
        assert_eq!((note(1, 0), note(2, 999)), (Noted::Renewed, Noted::Other), "the others are ignored");
        (1..20).for_each(|id| {
            note(1, id);
        });
        assert_eq!((note(1, 0), note(1, 19)), (Noted::Renewed, Noted::Renewed));
        assert_eq!((table.holds.len(), table.shares.of(1)), (MAX_HOLDS, 20));
        assert!(table.forget_all() && table.shares.of(1) == 0 && table.shares.of(2) == 0);
    }
}
