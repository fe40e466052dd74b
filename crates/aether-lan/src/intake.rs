//! The receiving task: from the network to the router. It opens messages, notices what is missing, and answers peers.
//!
//! It waits for nothing but messages: waves for a full inbox wait with the [`Deliveries`].

use std::collections::HashMap;
use std::sync::atomic::Ordering;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::Bytes;

use super::arrivals::Arrival;
use super::asking::Asking;
use super::counts::Counts;
use super::deliveries::{Deliveries, Target};
use super::joined::{Joined, MemberFound};
use super::lane::Lane;
use super::message::{Addressees, Message, MessageError, Place};
use super::peers::Received;
use super::presence::Presence;
use super::reply::Reply;
use super::sealing::LaneGuards;
use super::shared::{LanShared, MEASURES};
use super::table::TableChange;
use aether_core::Pattern;
use aether_core::clock::micros_since_1970;
use aether_core::clock::{self, Instant, sleep_until};
use aether_core::medium::{Lost, Router};
use aether_link::wire::{self, Frame, FrameError};
use aether_link::{Gap, GapReport, Gaps, HeardFrame, Transit, read_pauses};

/// A wave for a member that has left is passed on this many times. Each time it was chosen by a process that did not know.
const MAX_HOPS: u8 = 3;
/// Messages that are handled before other tasks get a turn.
const BETWEEN_OTHERS: usize = 128;

struct Tap {
    gaps: Gaps,
    in_force: Arc<OnceLock<Instant>>,
}

/// The state of the receiving task.
pub(super) struct Intake {
    pub(super) shared: Arc<LanShared>,
    pub(super) router: Arc<Router>,
    pub(super) joined: Arc<Joined>,
    pub(super) asking: Arc<Asking>,
    pub(super) presence: Arc<Presence>,
    pub(super) counts: Arc<Counts>,
    pub(super) transit: Arc<Transit>,
}

struct Receiving {
    intake: Intake,
    guards: LaneGuards,
    taps: HashMap<Pattern, Tap>,
    deliveries: Deliveries,
}

/// Receives until the medium ends, and then delivers what has arrived.
pub(super) async fn receive(intake: Intake) {
    let guards = intake.shared.sealing.guards();
    let ending = intake.shared.ending.clone();
    let arrivals = Arc::clone(&intake.shared.arrivals);
    let (shared, router) = (Arc::clone(&intake.shared), Arc::clone(&intake.router));
    let deliveries = Deliveries::new(shared, router, Arc::clone(&intake.joined), Arc::clone(&intake.counts));
    let mut receiving = Receiving { intake, guards, taps: HashMap::new(), deliveries };
    loop {
        let renewal = receiving.deliveries.renewal();
        let arrived = tokio::select! {
            biased;
            line = receiving.deliveries.settled() => {
                receiving.deliveries.go_on(&line);
                continue;
            }
            arrived = arrivals.take() => arrived,
            () = sleep_until(renewal) => {
                receiving.deliveries.renew();
                continue;
            }
            () = ending.cancelled() => break,
        };
        for (count, arrival) in arrived.into_iter().enumerate() {
            receiving.take(arrival);
            if count % BETWEEN_OTHERS == BETWEEN_OTHERS - 1 {
                receiving.deliveries.look_after_crowds();
                tokio::task::yield_now().await;
            }
        }
    }
    for arrival in arrivals.take_now() {
        receiving.take(arrival);
    }
    arrivals.end();
    receiving.deliveries.finish();
}

impl Receiving {
    fn take(&mut self, arrival: Arrival) {
        let shared = Arc::clone(&self.intake.shared);
        let (lane, from, message) = match arrival {
            Arrival::Own(lane, message) => (lane, shared.node, message),
            Arrival::Sealed(bytes) => {
                let Some(lane) = bytes.first().copied().and_then(Lane::read) else {
                    return self.malformed("a message of no lane");
                };
                let opened = shared.sealing.open(shared.node, lane, bytes.slice(1..), &mut self.guards);
                let Some(inner) = opened else { return };
                if inner.starts_with(&wire::MAGIC)
                    && inner.get(wire::MAGIC.len()) == Some(&wire::SEALED_VERSION)
                {
                    self.intake.counts.refused_sealed.fetch_add(1, Ordering::Relaxed);
                    return;
                }
                match Message::read(inner) {
                    Ok((from, message)) if from != shared.node => (lane, from, message),
                    Ok(_) => return self.malformed("a message in the name of this process"),
                    Err(error) => {
                        let is_other = matches!(error, MessageError::Version { .. });
                        self.intake.counts.other_version.fetch_add(u64::from(is_other), Ordering::Relaxed);
                        return self.malformed(error);
                    }
                }
            }
        };
        if from != shared.node && !shared.peers.heard(from) {
            self.intake.presence.note_stranger(&shared, from, &message);
        }
        self.handle(lane, from, message);
    }

    fn malformed(&self, error: impl std::fmt::Display) {
        if self.intake.counts.malformed.fetch_add(1, Ordering::Relaxed) == 0 {
            tracing::warn!(%error, "ignored a message that is not valid; later ones are only counted");
        } else {
            tracing::debug!(%error, "ignored a message that is not valid");
        }
    }

    fn handle(&mut self, lane: Lane, from: u64, message: Message) {
        let shared = Arc::clone(&self.intake.shared);
        match message {
            Message::Waves { place, frame } => self.waves(lane, from, place, &frame),
            Message::Share { place, member, hops, frame } => {
                let Some(frame) =
                    self.counted(lane, from, place, &frame).map(|(decoded, _)| (decoded, frame))
                else {
                    return;
                };
                self.share(lane, member, hops, frame);
            }
            Message::Question { asker, number, hops, to, frame } => {
                self.question(lane, from, Asked { asker, number, hops }, to, &frame);
            }
            Message::Answer { number, frame } => self.intake.asking.take(number, frame),
            Message::Copy { frame } => {
                if let Some(frame) = self.decoded(from, &frame) {
                    for heard in self.intake.joined.hearing(&frame.channel).iter() {
                        self.intake.router.arrive_seen(&heard.pattern, frame.waves.clone());
                    }
                }
            }
            Message::Pause { frame } => {
                if let Some((_, pauses)) = read_pauses(&frame) {
                    let _ = shared.pauses.try_send((from, pauses));
                }
            }
            Message::Table { json } => match TableChange::read(&json) {
                Ok(change) => self.table(from, change),
                Err(error) => self.malformed(error),
            },
            Message::Known { version } => {
                if shared.peers.knows(from, version) {
                    shared.moved();
                }
            }
            Message::Missing => shared.introduce_to(from),
            Message::Ping { number, version, sent } => {
                let (clock_micros, missing) = (micros_since_1970(), shared.tallies.pinged(from, &sent));
                let pong = Message::Pong { number, clock_micros, way: sent.way, missing };
                shared.say_now(from, Lane::CONTROL, pong);
                if from != shared.node && shared.peers.version_of(from).is_none_or(|known| known < version) {
                    shared.say_now(from, Lane::CONTROL, Message::Missing);
                }
            }
            Message::Pong { number, clock_micros, way, missing } => {
                if number & MEASURES == 0 {
                    if shared.answered(from, number, (way, missing)) {
                        shared.moved();
                    }
                } else if let Some(pong) = self.intake.presence.measured(from, number, clock_micros) {
                    shared.peers.measured(from, pong.round_trip, pong.clock_ahead_micros);
                    shared.measured();
                }
            }
            Message::Bye { way, received } => {
                if shared.peers.part(from, (way, received)) {
                    tracing::info!(peer = format_args!("{from:016x}"), "a peer left the network");
                    shared.note_company();
                    shared.moved();
                }
            }
        }
    }

    fn table(&mut self, from: u64, change: TableChange) {
        let shared = &self.intake.shared;
        let name = change.name.clone();
        match shared.peers.receive(from, change) {
            Received::Known { version, is_new, is_change } => {
                shared.say_now(from, Lane::CONTROL, Message::Known { version });
                if is_new {
                    tracing::info!(peer = format_args!("{from:016x}"), %name, "a peer came to the network");
                    shared.introduce_to(from);
                    shared.comings.send_modify(|comings| *comings += 1);
                    shared.note_company();
                }
                if is_change {
                    shared.moved();
                }
            }
            Received::Missing => {
                shared.say_now(from, Lane::CONTROL, Message::Missing);
            }
            Received::NoRoom => {
                tracing::warn!(peer = format_args!("{from:016x}"), %name, "a peer finds no room in the table");
            }
        }
    }

    /// The contents of a frame of a node; `None` if it is not valid, which is counted.
    fn decoded(&self, from: u64, bytes: &Bytes) -> Option<Frame> {
        self.decoded_with(from, bytes).map(|(frame, _)| frame)
    }

    /// The same, with how much longer it was in transit than the fastest.
    fn decoded_with(&self, from: u64, bytes: &Bytes) -> Option<(Frame, Duration)> {
        let (now, received) = (clock::now(), micros_since_1970());
        let mut delay = Duration::ZERO;
        let decoded = wire::decode(bytes, None, now, |sender| {
            delay = self.intake.transit.delay(sender.node.into(), sender.sent_micros, received, now);
            delay
        });
        match decoded {
            // A frame that another process passes on for a sender keeps the sender's number.
            Ok(frame) if frame.position.is_none() || LanShared::is_of(frame.sender.node, from) => {
                Some((frame, delay))
            }
            Ok(_) => {
                self.malformed("a position in the name of another process");
                None
            }
            Err(FrameError::Sealed) => {
                self.intake.counts.refused_sealed.fetch_add(1, Ordering::Relaxed);
                None
            }
            Err(error) => {
                self.malformed(error);
                None
            }
        }
    }

    /// The contents of a frame of waves. They are counted as arrived, so that their sender learns what is missing.
    fn counted(&self, lane: Lane, from: u64, place: Place, bytes: &Bytes) -> Option<(Frame, Duration)> {
        let decoded = self.decoded_with(from, bytes)?;
        self.intake.shared.tallies.arrived(from, lane, place, decoded.0.waves.len() as u64);
        Some(decoded)
    }

    fn waves(&mut self, lane: Lane, from: u64, place: Place, bytes: &Bytes) {
        let Some((frame, delay)) = self.counted(lane, from, place, bytes) else { return };
        let heard = self.intake.joined.hearing(&frame.channel);
        for heard in heard.iter() {
            self.note_gap(&heard.pattern, &heard.in_force, &frame, delay);
            if !frame.waves.is_empty() {
                let line = (Target::Pattern(heard.pattern.clone()), lane);
                self.deliveries.deliver(line, None, frame.waves.clone());
            }
        }
    }

    fn note_gap(
        &mut self,
        pattern: &Pattern,
        in_force: &Arc<OnceLock<Instant>>,
        frame: &Frame,
        delay: Duration,
    ) {
        let Some(position) = frame.position else { return };
        let tap = self.taps.get_mut(pattern).filter(|tap| Arc::ptr_eq(&tap.in_force, in_force));
        let tap = match tap {
            Some(tap) => tap,
            None => {
                let joined = &self.intake.joined;
                self.taps.retain(|pattern, tap| joined.is_heard(pattern, &tap.in_force));
                let gaps = Gaps::new(Arc::clone(in_force));
                self.taps.insert(pattern.clone(), Tap { gaps, in_force: Arc::clone(in_force) });
                let Some(tap) = self.taps.get_mut(pattern) else { return };
                tap
            }
        };
        let node = frame.sender.node;
        let heard =
            HeardFrame { node: node.into(), position, waves: frame.waves.len(), delay, now: clock::now() };
        let GapReport { gap, forgets, is_implausible } = tap.gaps.note(&frame.channel, heard);
        let counts = &self.intake.counts;
        counts.forgotten_streams.fetch_add(u64::from(forgets), Ordering::Relaxed);
        counts.misplaced.fetch_add(u64::from(is_implausible), Ordering::Relaxed);
        if let Some(Gap { waves, since }) = gap {
            counts.lost_upstream.fetch_add(waves, Ordering::Relaxed);
            let is_own = LanShared::is_of(node, self.intake.shared.node);
            self.intake.router.lost_upstream(pattern, &frame.channel, Lost { waves, since, is_own });
        }
    }

    fn share(&mut self, lane: Lane, id: u64, hops: u8, (frame, bytes): (Frame, Bytes)) {
        let Some(first) = frame.waves.first() else { return };
        match self.intake.joined.member(id) {
            MemberFound::Here(member) => {
                self.deliveries.deliver((Target::Member(id), lane), Some(&member), frame.waves);
            }
            MemberFound::Late(member) => {
                let shared = &self.intake.shared;
                let group = member.group().unwrap_or_default();
                match shared.peers.instead_of(group, id, first).filter(|_| hops < MAX_HOPS) {
                    // At once: in a message to itself, it would fall behind what has arrived for that member meanwhile.
                    Some((node, member)) if node == shared.node => {
                        self.share(lane, member, hops + 1, (frame, bytes));
                    }
                    Some((node, member)) => {
                        let (place, hops) = (Place::default(), hops + 1);
                        let passed = Message::Share { place, member, hops, frame: bytes };
                        if !shared.say_now(node, lane, passed) {
                            self.homeless(frame.waves.len());
                        }
                    }
                    None => drop(self.intake.router.arrive_late(&member, frame.waves, true)),
                }
            }
            MemberFound::Unknown => self.homeless(frame.waves.len()),
        }
    }

    /// Waves for a member have no way to any.
    fn homeless(&self, waves: usize) {
        self.intake.counts.homeless.fetch_add(waves as u64, Ordering::Relaxed);
    }

    fn question(&mut self, lane: Lane, from: u64, asked: Asked, to: Addressees, bytes: &Bytes) {
        let Some(frame) = self.decoded(from, bytes) else { return };
        let [wave] = &frame.waves[..] else { return self.malformed("a question that is not one wave") };
        let shared = Arc::clone(&self.intake.shared);
        let question = match asked.number {
            0 => wave.clone(),
            number => {
                let path = Reply { shared: Arc::clone(&shared), asker: asked.asker, number, lane };
                wave.clone().with_reply_path(Arc::new(path))
            }
        };
        if to.lone {
            for heard in self.intake.joined.hearing(&frame.channel).iter() {
                self.intake.router.arrive_asked(&heard.pattern, vec![question.clone()]);
            }
        }
        for id in to.members {
            match self.intake.joined.member(id) {
                MemberFound::Here(member) => self.intake.router.arrive_for(&member, vec![question.clone()]),
                MemberFound::Late(member) => {
                    let group = member.group().unwrap_or_default();
                    let instead = shared.peers.instead_of(group, id, wave);
                    if let Some((node, member)) = instead.filter(|_| asked.hops < MAX_HOPS) {
                        let to = Addressees { lone: false, members: [member].into_iter().collect() };
                        let Asked { asker, number, hops } = asked;
                        let passed =
                            Message::Question { asker, number, hops: hops + 1, to, frame: bytes.clone() };
                        if !shared.say_now(node, lane, passed) {
                            self.homeless(1);
                        }
                    }
                }
                MemberFound::Unknown => self.homeless(1),
            }
        }
    }
}

/// The asking process.
#[derive(Clone, Copy)]
struct Asked {
    asker: u64,
    number: u64,
    hops: u8,
}

#[cfg(test)]
mod tests {
    use super::super::peers::Peers;
    use super::super::sealing::Sealing;
    use super::super::table::Hearer;
    use super::*;
    use aether_core::InboxOptions;
    use aether_core::Source;
    use aether_core::Wave;
    use aether_core::inbox::Inbox;
    use aether_core::medium::Listener;
    use aether_core::medium::Sequencer;
    use aether_link::OutboxReader;

    #[tokio::test]
    async fn a_wave_that_finds_no_room_on_its_way_to_another_member_is_counted() {
        let inbox = || Arc::new(Inbox::new(InboxOptions::default()).unwrap());
        let peers = Peers::new(8, "here".to_owned());
        let pattern = Pattern::new("orders.*").unwrap();
        let other = Hearer { id: 1, pattern: pattern.clone(), group: Some("shop".into()), observes: false };
        peers.receive(16, TableChange { version: 1, added: vec![other], ..TableChange::default() });
        let (shared, _exits) = LanShared::new(peers, OutboxReader::new(inbox()), Sealing::new(None).unwrap());
        let (router, joined) = (Arc::new(Router::new()), Arc::<Joined>::default());
        let sequencer = Arc::new(Sequencer::new(Source::framework()));
        let listener = Listener::new(sequencer);
        let member = router.subscribe(pattern, Some("shop".into()), inbox(), listener);
        joined.join(&member);
        assert!(joined.leave(&member));

        let counts = Arc::<Counts>::default();
        let deliveries = Deliveries::new(
            Arc::clone(&shared),
            Arc::clone(&router),
            Arc::clone(&joined),
            Arc::clone(&counts),
        );
        let intake = Intake {
            shared: Arc::clone(&shared),
            router,
            joined,
            asking: Arc::default(),
            presence: Arc::default(),
            counts: Arc::clone(&counts),
            transit: Arc::default(),
        };
        let guards = shared.sealing.guards();
        let mut receiving = Receiving { intake, guards, taps: HashMap::new(), deliveries };
        let wave = Wave::builder("orders.created").build().unwrap();
        let frame = shared.frame(Lane::LAST, &wave).unwrap();
        let mut share = || {
            let message = Message::Share {
                place: Place::default(),
                member: member.id(),
                hops: 0,
                frame: frame.clone(),
            };
            receiving.handle(Lane::LAST, 16, message);
            counts.homeless.load(Ordering::Relaxed)
        };
        assert_eq!(share(), 0, "it is passed on");
        while shared.say_now(16, Lane::LAST, Message::Missing) {}
        assert_eq!(share(), 1);
    }
}
