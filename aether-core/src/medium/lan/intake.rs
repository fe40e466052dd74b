//! The receiving task: from the network to the router. It opens messages, notices what is missing, and answers peers.
//!
//! It waits for nothing but messages: waves for a full inbox wait in a [`Crowd`].

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use futures_util::stream::{FuturesUnordered, StreamExt};

use super::arrivals::Arrival;
use super::asking::Asking;
use super::crowd::{Crowd, WAITING_BYTES};
use super::joined::{Joined, MemberFound};
use super::lane::Lane;
use super::message::{Addressees, Message, MessageError};
use super::peers::Received;
use super::presence::Presence;
use super::reply::Reply;
use super::sealing::LaneGuards;
use super::shared::{LanShared, MEASURES};
use super::table::TableChange;
use crate::channel::Pattern;
use crate::clock::{self, Instant, sleep_until};
use crate::medium::flow;
use crate::medium::link::{Gap, GapReport, Gaps, HeardFrame, Transit};
use crate::router::{Crowded, Lost, Router, Subscription};
use crate::wave::Wave;
use crate::wire::{self, Frame, FrameError, micros_since_1970};

/// A wave for a member that has left is passed on this many times. Each time it was chosen by a process that did not know.
const MAX_HOPS: u8 = 3;
/// Messages that are handled before other tasks get a turn.
const BETWEEN_OTHERS: usize = 128;

/// What was counted.
#[derive(Debug, Default)]
pub(super) struct Counts {
    pub(super) malformed: AtomicU64,
    pub(super) misplaced: AtomicU64,
    pub(super) lost_upstream: AtomicU64,
    pub(super) forgotten_streams: AtomicU64,
    pub(super) refused_sealed: AtomicU64,
    /// Waves for members that are not known here.
    pub(super) homeless: AtomicU64,
    /// Messages of another version of the protocol, which count as malformed, too.
    pub(super) other_version: AtomicU64,
}

/// Whose waves wait: those of a pattern or of a member.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Target {
    Pattern(Pattern),
    Member(u64),
}

struct Tap {
    gaps: Gaps,
    in_force: Arc<OnceLock<Instant>>,
}

/// What the receiving task needs.
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
    crowds: HashMap<Target, Crowd>,
    settling: FuturesUnordered<BoxFuture<'static, Target>>,
    waiting_bytes: usize,
}

/// Receives until the medium ends, and then delivers what has arrived.
pub(super) async fn receive(intake: Intake) {
    let guards = intake.shared.sealing.guards();
    let mut ending = intake.shared.ending.subscribe();
    let arrivals = Arc::clone(&intake.shared.arrivals);
    let (taps, crowds, settling) = (HashMap::new(), HashMap::new(), FuturesUnordered::new());
    let mut receiving = Receiving { intake, guards, taps, crowds, settling, waiting_bytes: 0 };
    loop {
        let renewal = receiving.crowds.values().filter_map(|crowd| crowd.pause.renewal()).min();
        let arrived = tokio::select! {
            biased;
            Some(target) = receiving.settling.next() => {
                receiving.go_on(&target);
                continue;
            }
            arrived = arrivals.take() => arrived,
            () = sleep_until(renewal) => {
                receiving.renew();
                continue;
            }
            _ = ending.wait_for(|ending| *ending) => break,
        };
        for (count, arrival) in arrived.into_iter().enumerate() {
            receiving.take(arrival);
            if count % BETWEEN_OTHERS == BETWEEN_OTHERS - 1 {
                receiving.look_after_crowds();
                tokio::task::yield_now().await;
            }
        }
    }
    for arrival in arrivals.take_now() {
        receiving.take(arrival);
    }
    arrivals.end();
    receiving.finish();
}

impl Receiving {
    fn take(&mut self, arrival: Arrival) {
        let shared = Arc::clone(&self.intake.shared);
        let (lane, from, message) = match arrival {
            Arrival::Own(lane, message) => (lane, shared.node, message),
            Arrival::Sealed(bytes) => {
                let Some((lane, inner)) = shared.sealing.open(shared.node, &bytes, &mut self.guards) else {
                    return;
                };
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
        self.intake.counts.malformed.fetch_add(1, Ordering::Relaxed);
        tracing::debug!(%error, "ignored a message that is not valid");
    }

    fn handle(&mut self, lane: Lane, from: u64, message: Message) {
        let shared = Arc::clone(&self.intake.shared);
        match message {
            Message::Waves { frame } => self.waves(from, &frame),
            Message::Share { member, hops, frame } => self.share(lane, from, member, hops, frame),
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
                if let Some((_, pauses)) = flow::read(&frame) {
                    let _ = shared.pauses.try_send((from, pauses));
                }
            }
            Message::Table { json } => match TableChange::read(&json) {
                Ok(change) => self.table(from, change),
                Err(error) => self.malformed(error),
            },
            Message::Known { version } => {
                shared.peers.knows(from, version);
                shared.moved();
            }
            Message::Missing => shared.introduce_to(from),
            Message::Ping { number, version } => {
                let clock_micros = micros_since_1970();
                shared.say_now(from, Lane::CONTROL, Message::Pong { number, clock_micros });
                if from != shared.node && shared.peers.version_of(from).is_none_or(|known| known < version) {
                    shared.say_now(from, Lane::CONTROL, Message::Missing);
                }
            }
            Message::Pong { number, clock_micros } => {
                if number & MEASURES == 0 {
                    shared.peers.answered(from, number);
                    shared.moved();
                } else if let Some(pong) = self.intake.presence.measured(from, number, clock_micros) {
                    shared.peers.measured(from, pong.round_trip, pong.clock_ahead_micros);
                    shared.moved();
                }
            }
            Message::Bye => {
                if shared.peers.forget(from) {
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
            Received::Known { version, is_new } => {
                shared.say_now(from, Lane::CONTROL, Message::Known { version });
                if is_new {
                    tracing::info!(peer = format_args!("{from:016x}"), %name, "a peer came to the network");
                    shared.introduce_to(from);
                    shared.comings.send_modify(|comings| *comings += 1);
                    shared.note_company();
                }
                shared.moved();
            }
            Received::Missing => shared.say_now(from, Lane::CONTROL, Message::Missing),
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
            delay = self.intake.transit.delay(sender, received, now);
            delay
        });
        match decoded {
            // What another process passes on for a sender keeps the sender's number.
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

    fn waves(&mut self, from: u64, bytes: &Bytes) {
        let Some((frame, delay)) = self.decoded_with(from, bytes) else { return };
        let heard = self.intake.joined.hearing(&frame.channel);
        for heard in heard.iter() {
            self.note_gap(&heard.pattern, &heard.in_force, &frame, delay);
            if !frame.waves.is_empty() {
                self.deliver(Target::Pattern(heard.pattern.clone()), None, frame.waves.clone());
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
        let heard = HeardFrame { node, position, waves: frame.waves.len(), delay, now: clock::now() };
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

    fn share(&mut self, lane: Lane, from: u64, id: u64, hops: u8, bytes: Bytes) {
        let Some(frame) = self.decoded(from, &bytes) else { return };
        let Some(first) = frame.waves.first() else { return };
        match self.intake.joined.member(id) {
            MemberFound::Here(member) => self.deliver(Target::Member(id), Some(&member), frame.waves),
            MemberFound::Late(member) => {
                let shared = &self.intake.shared;
                let group = member.group().unwrap_or_default();
                match shared.peers.instead_of(group, id, first).filter(|_| hops < MAX_HOPS) {
                    // At once: in a message to itself, it would fall behind what has arrived for that member meanwhile.
                    Some((node, member)) if node == shared.node => {
                        self.share(lane, from, member, hops + 1, bytes);
                    }
                    Some((node, member)) => {
                        let hops = hops + 1;
                        shared.say_now(node, lane, Message::Share { member, hops, frame: bytes });
                    }
                    None => drop(self.intake.router.arrive_late(&member, frame.waves, true)),
                }
            }
            MemberFound::Unknown => {
                let waves = frame.waves.len() as u64;
                self.intake.counts.homeless.fetch_add(waves, Ordering::Relaxed);
            }
        }
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
                        shared.say_now(node, lane, passed);
                    }
                }
                MemberFound::Unknown => {
                    self.intake.counts.homeless.fetch_add(1, Ordering::Relaxed);
                }
            }
        }
    }

    /// Delivers waves of one channel, behind those that wait.
    fn deliver(&mut self, target: Target, member: Option<&Subscription>, waves: Vec<Wave>) {
        if let Some(crowd) = self.crowds.get_mut(&target).filter(|crowd| crowd.is_waiting()) {
            self.waiting_bytes += crowd.keep(waves);
            if self.waiting_bytes > WAITING_BYTES {
                crowd.give_up();
            }
            return;
        }
        let crowded = self.offer(&target, member, waves);
        self.wait_with(target, crowded);
    }

    fn offer(&self, target: &Target, member: Option<&Subscription>, waves: Vec<Wave>) -> Crowded {
        match (target, member) {
            (Target::Pattern(pattern), _) => self.intake.router.arrive_if_room(pattern, waves),
            (Target::Member(_), Some(member)) => self.intake.router.arrive_for_if_room(member, waves),
            (Target::Member(id), None) => match self.intake.joined.member(*id) {
                MemberFound::Here(member) => self.intake.router.arrive_for_if_room(&member, waves),
                MemberFound::Late(member) => {
                    self.intake.router.arrive_late(&member, waves, true);
                    Crowded::default()
                }
                MemberFound::Unknown => {
                    self.intake.counts.homeless.fetch_add(waves.len() as u64, Ordering::Relaxed);
                    Crowded::default()
                }
            },
        }
    }

    fn wait_with(&mut self, target: Target, crowded: Crowded) {
        if crowded.level().is_none() {
            return;
        }
        let shared = &self.intake.shared;
        let crowd = self.crowds.entry(target.clone()).or_insert_with(|| {
            let pattern = match &target {
                Target::Pattern(pattern) => pattern.clone(),
                Target::Member(id) => match self.intake.joined.member(*id) {
                    MemberFound::Here(member) | MemberFound::Late(member) => member.pattern().clone(),
                    MemberFound::Unknown => Pattern::everything(),
                },
            };
            Crowd::new(shared.flow.next_id(), pattern)
        });
        let (settled, pause) = crowd.wait_with(crowded);
        if let Some(pause) = pause {
            shared.send_pause(&pause);
        }
        self.settling.push(settled.map(move |()| target).boxed());
    }

    /// The waiting waves of a target are settled: delivers what came behind them, as far as there is room.
    fn go_on(&mut self, target: &Target) {
        if let Some(crowd) = self.crowds.get_mut(target) {
            crowd.settled();
        }
        loop {
            let Some(crowd) = self.crowds.get_mut(target) else { return };
            let Some((waves, bytes)) = crowd.next() else {
                if let Some(pause) = crowd.pause.end() {
                    self.intake.shared.send_pause(&pause);
                }
                break;
            };
            self.waiting_bytes -= bytes;
            let crowded = self.offer(target, None, waves);
            if crowded.level().is_some() {
                self.wait_with(target.clone(), crowded);
                self.renew();
                return;
            }
        }
        self.crowds.retain(|_, crowd| !crowd.is_idle());
    }

    fn renew(&mut self) {
        let now = clock::now();
        let pauses: Vec<_> = self.crowds.values_mut().filter_map(|crowd| crowd.pause.renewed(now)).collect();
        pauses.iter().for_each(|pause| self.intake.shared.send_pause(pause));
    }

    /// Delivers what waits where there is room now, and renews the pauses. Called while messages keep arriving.
    fn look_after_crowds(&mut self) {
        while let Some(Some(target)) = self.settling.next().now_or_never() {
            self.go_on(&target);
        }
        self.renew();
    }

    /// Delivers everything that waits, whether there is room or not.
    fn finish(&mut self) {
        self.settling = FuturesUnordered::new();
        let targets: Vec<Target> = self.crowds.keys().cloned().collect();
        for target in targets {
            while let Some((waves, _)) = self.crowds.get_mut(&target).and_then(Crowd::next) {
                drop(self.offer(&target, None, waves));
            }
        }
    }
}

/// Who asks.
#[derive(Clone, Copy)]
struct Asked {
    asker: u64,
    number: u64,
    hops: u8,
}
