//! The other replicas of a field.

use std::collections::BTreeMap;
use std::time::Duration;

use smol_str::SmolStr;
use tokio::sync::broadcast;
use tokio::time::Instant;

use super::clock::ClockOffset;
use super::peer::{KEPT, Peer, PeerEvent};
use super::wire::Beat;
use crate::core::{Digest, WriterId};

/// The maximum number of peers that are remembered. Beyond it the one that was silent for longest is forgotten.
const MAX_PEERS: usize = 1024;

/// How long a peer may be silent, unless the builder sets another time.
pub(super) const SILENCE: Duration = Duration::from_secs(5);

/// How long a difference that a reconciliation could not remove is left alone: replicas that trust different owners, or
/// have different bounds, differ for ever.
const SETTLED: Duration = Duration::from_secs(10);

/// How long the state of a peer that has much less may stay as it is before this replica begins a reconciliation with
/// it. A peer that exchanges something shows another digest with each beat, every 1.25 s at most.
const STALLED: Duration = Duration::from_secs(2);

#[derive(Debug)]
struct Known {
    replica: String,
    owner: Option<SmolStr>,
    number: u64,
    digest: Digest,
    heard: Instant,
    clock: ClockOffset,
    /// When its digest was another one last.
    changed: Instant,
    /// When the last reconciliation with it ended.
    reconciled: Option<Instant>,
    /// The digests, of this replica and of the peer, that a reconciliation has left different, and when.
    settled: Option<(Digest, Digest, Instant)>,
}

impl Known {
    fn has(&mut self, digest: Digest, now: Instant) {
        if digest != self.digest {
            self.changed = now;
        }
        (self.digest, self.heard) = (digest, now);
    }

    /// Whether it has joined lately, and is about to get everything from a peer of its choice. It would get everything from
    /// everybody at once otherwise.
    fn catches_up(&self, own: Digest, now: Instant) -> bool {
        let is_joining = self.digest.entries < own.entries / 2;
        is_joining && now.saturating_duration_since(self.changed) < STALLED
    }
}

#[derive(Debug)]
pub(super) struct Peers {
    known: BTreeMap<WriterId, Known>,
    /// The last beats of peers with an owner that have left: a recorded one of them brings nobody back.
    departed: BTreeMap<WriterId, (u64, Instant)>,
    silence: Duration,
    /// None once the field is closed.
    events: Option<broadcast::Sender<PeerEvent>>,
}

/// The contents of a beat.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Heard {
    New,
    Known,
    Left,
    /// It is a repetition.
    Old,
    /// It speaks for a peer with an owner, without its signature.
    Forged,
}

impl Peers {
    pub(super) fn new(silence: Duration) -> Self {
        let events = Some(broadcast::Sender::new(KEPT));
        Self { known: BTreeMap::new(), departed: BTreeMap::new(), silence, events }
    }

    /// Events from now on.
    pub(super) fn events(&self) -> broadcast::Receiver<PeerEvent> {
        // Without a sender the events are at their end.
        self.events.as_ref().map_or_else(|| broadcast::channel(1).1, broadcast::Sender::subscribe)
    }

    pub(super) fn close(&mut self) {
        self.events = None;
    }

    /// Whether a beat is not newer than the last signed one of its writer. Asked before its signature is checked.
    pub(super) fn is_old(&self, beat: &Beat) -> bool {
        let signed = self.known.get(&beat.writer).filter(|known| known.owner.is_some());
        let last = signed.map(|known| known.number);
        let last = last.or_else(|| self.departed.get(&beat.writer).map(|(number, _)| *number));
        last.is_some_and(|last| beat.number <= last)
    }

    /// Takes in a beat that `owner` has signed.
    pub(super) fn heard(
        &mut self,
        beat: &Beat,
        owner: Option<&SmolStr>,
        clock: ClockOffset,
        now: Instant,
    ) -> Heard {
        if self.is_old(beat) {
            return Heard::Old;
        }
        let claimed = self.known.get(&beat.writer).and_then(|known| known.owner.as_ref());
        if (claimed.is_some() && claimed != owner)
            || (owner.is_none() && self.departed.contains_key(&beat.writer))
        {
            return Heard::Forged;
        }
        if beat.leaves {
            if let Some(number) = owner.map(|_| beat.number) {
                self.depart(beat.writer, number, now);
            }
            self.forget(beat.writer);
            return Heard::Left;
        }
        if let Some(known) = self.known.get_mut(&beat.writer) {
            known.has(beat.digest, now);
            (known.number, known.clock) = (beat.number, clock);
            if known.owner.is_none() && owner.is_some() {
                known.owner = owner.cloned();
                self.tell(beat.writer, PeerEvent::Proven);
            }
            return Heard::Known;
        }
        if self.known.len() >= MAX_PEERS {
            // Anybody can invent peers without an owner.
            let first = |(_, known): &(&WriterId, &Known)| (known.owner.is_some(), known.heard);
            if let Some((&oldest, _)) = self.known.iter().min_by_key(first) {
                self.forget(oldest);
            }
        }
        self.departed.remove(&beat.writer);
        let known = Known {
            replica: beat.replica.chars().take(64).collect(),
            owner: owner.cloned(),
            number: beat.number,
            digest: beat.digest,
            heard: now,
            clock,
            changed: now,
            reconciled: None,
            settled: None,
        };
        self.known.insert(beat.writer, known);
        self.tell(beat.writer, PeerEvent::Joined);
        Heard::New
    }

    pub(super) fn forget_silent(&mut self, now: Instant) {
        let is_silent = |known: &Known| now.saturating_duration_since(known.heard) >= self.silence;
        let silent: Vec<_> =
            self.known.iter().filter(|(_, known)| is_silent(known)).map(|(&writer, _)| writer).collect();
        silent.into_iter().for_each(|writer| self.forget(writer));
    }

    pub(super) fn forget(&mut self, writer: WriterId) {
        self.tell(writer, PeerEvent::Left);
        if let Some(known) = self.known.remove(&writer)
            && known.owner.is_some()
        {
            self.depart(writer, known.number, known.heard);
        }
    }

    fn depart(&mut self, writer: WriterId, number: u64, now: Instant) {
        if self.departed.len() >= MAX_PEERS
            && let Some((&oldest, _)) = self.departed.iter().min_by_key(|(_, (_, when))| *when)
        {
            self.departed.remove(&oldest);
        }
        let last = self.departed.entry(writer).or_insert((number, now));
        last.0 = last.0.max(number);
    }

    fn tell(&self, writer: WriterId, event: impl FnOnce(Peer) -> PeerEvent) {
        if let (Some(events), Some(known)) = (&self.events, self.known.get(&writer)) {
            // Fails only if nobody listens.
            let _ = events.send(event(peer(writer, known, None)));
        }
    }

    pub(super) fn knows(&self, writer: WriterId) -> bool {
        self.known.contains_key(&writer)
    }

    /// The digest that a peer had when it was heard last.
    pub(super) fn digest(&self, writer: WriterId) -> Option<Digest> {
        self.known.get(&writer).map(|known| known.digest)
    }

    /// Takes note of the digest in an answer.
    pub(super) fn answered(&mut self, writer: WriterId, digest: Digest, now: Instant) {
        if let Some(known) = self.known.get_mut(&writer) {
            known.has(digest, now);
        }
    }

    /// Takes note of a reconciliation that began with the digests `before`, of this replica and of the peer, and ended
    /// with the digest `own` here.
    pub(super) fn reconciled(
        &mut self,
        writer: WriterId,
        before: (Digest, Option<Digest>),
        own: Digest,
        now: Instant,
    ) {
        if let Some(known) = self.known.get_mut(&writer) {
            if before == (own, Some(known.digest)) && own != known.digest {
                known.settled = Some((own, known.digest, now));
            }
            known.reconciled = Some(now);
        }
    }

    /// Whether a peer had this digest when it was heard last.
    pub(super) fn agrees(&self, writer: WriterId, digest: Digest) -> bool {
        self.digest(writer) == Some(digest)
    }

    /// The peers that have another state and do not catch up by themselves, those that were reconciled longest ago first.
    pub(super) fn differing(&self, digest: Digest, now: Instant) -> Vec<(WriterId, Option<Instant>)> {
        let is_settled = |known: &Known| {
            known.settled.is_some_and(|(own, theirs, when)| {
                (own, theirs) == (digest, known.digest) && now.saturating_duration_since(when) < SETTLED
            })
        };
        let differs =
            |known: &Known| known.digest != digest && !is_settled(known) && !known.catches_up(digest, now);
        let mut all: Vec<_> = self.known.iter().filter(|(_, known)| differs(known)).collect();
        all.sort_by_key(|(_, known)| known.reconciled);
        all.into_iter().map(|(&writer, known)| (writer, known.reconciled)).collect()
    }

    /// The clock of a peer; `None` if it is not known.
    pub(super) fn clock(&self, writer: WriterId) -> Option<ClockOffset> {
        self.known.get(&writer).map(|known| known.clock)
    }

    pub(super) fn name(&self, writer: WriterId) -> String {
        self.known.get(&writer).map_or_else(|| writer.to_string(), |known| known.replica.clone())
    }

    /// The first peer whose clock is off by more than is allowed, if most are.
    pub(super) fn most_clocks_off(&self, allowed: Duration) -> Option<(String, ClockOffset)> {
        let mut off = self.known.values().filter(|known| known.clock.by() > allowed);
        let first = off.next()?;
        (2 * (1 + off.count()) > self.known.len()).then(|| (first.replica.clone(), first.clock))
    }

    pub(super) fn writers(&self) -> Vec<WriterId> {
        self.known.keys().copied().collect()
    }

    pub(super) fn list(&self, digest: Digest) -> Vec<Peer> {
        self.known.iter().map(|(&writer, known)| peer(writer, known, Some(digest))).collect()
    }
}

fn peer(writer: WriterId, known: &Known, digest: Option<Digest>) -> Peer {
    Peer {
        replica: known.replica.clone(),
        writer,
        owner: known.owner.as_ref().map(ToString::to_string),
        agrees: digest == Some(known.digest),
        entries: known.digest.entries,
        clock: known.clock,
    }
}
