//! State shared by all parts of the medium: the outbox, the peers, and the ways out.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

use bytes::Bytes;
use tokio::sync::{Notify, mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;

use super::arrivals::Arrivals;
use super::lane::{LANE_BITS, Lane};
use super::message::{Addressees, Message};
use super::peers::Peers;
use super::sealing::Sealing;
use super::table::TableChange;
use super::tally::Tallies;
use aether_core::clock::micros_since_1970;
use aether_core::inbox::Inbox;
use aether_core::{Wave, clock};
use aether_link::OutboxReader;
use aether_link::wire::{EncodeError, Position, Sender, encode_at, frame_bound, record_bound};
use aether_link::{Acceptance, frame_oversize};
use aether_link::{Flow, Pause};

/// The largest frame, as on a NATS server by default.
pub(super) const MAX_FRAME: usize = 1 << 20;
/// The messages past the outbox that wait at most, and as many of what keeps the peers together.
const MAX_SPOKEN: usize = 4096;
/// The pauses of receivers that the sending task has not looked at.
const MAX_PAUSES: usize = 256;
/// Pings that only measure have this bit. They confirm nothing, because they overtake waves.
pub(super) const MEASURES: u64 = 1 << 63;

/// A message past the outbox.
#[derive(Debug)]
pub(super) struct Spoken {
    pub(super) to: u64,
    pub(super) lane: Lane,
    pub(super) message: Message,
}

/// The pings behind everything that was sent before.
#[derive(Debug)]
pub(super) struct Barrier {
    /// The number of the first one: who answers this or a later one has everything.
    pub(super) first: u64,
    /// Those that were pinged, each with the way of the ping: one that comes back later has another way.
    pub(super) nodes: Vec<(u64, u32)>,
}

/// The requests to the sending task, besides waves.
pub(super) struct Requests {
    pub(super) barriers: mpsc::UnboundedReceiver<oneshot::Sender<Barrier>>,
    pub(super) pauses: mpsc::Receiver<(u64, Vec<Pause>)>,
}

/// The other ends of the ways out of [`LanShared`], for the tasks that send.
pub(super) struct Exits {
    pub(super) spoken: mpsc::Receiver<Spoken>,
    pub(super) controls: mpsc::Receiver<Spoken>,
    pub(super) requests: Requests,
}

pub(super) struct LanShared {
    pub(super) node: u64,
    pub(super) outbox: OutboxReader,
    pub(super) peers: Peers,
    pub(super) tallies: Tallies,
    pub(super) sealing: Sealing,
    pub(super) arrivals: Arc<Arrivals>,
    pub(super) flow: Flow,
    /// Messages past the outbox: questions, answers and their copies.
    speak: mpsc::Sender<Spoken>,
    /// Messages of [`Lane::CONTROL`], which wait for none of the others.
    control: mpsc::Sender<Spoken>,
    /// Requests for a barrier, to the sending task: pings behind everything sent so far.
    pub(super) barriers: mpsc::UnboundedSender<oneshot::Sender<Barrier>>,
    /// Pauses, to the sending task. The receiving task has authenticated them.
    pub(super) pauses: mpsc::Sender<(u64, Vec<Pause>)>,
    /// Wakes all waiting tasks, in their order, with everything that somebody may wait for, and only if it has changed: a
    /// task that waits for it gives up when nothing moves any more.
    pub(super) progress: Notify,
    /// Moves with all that a tool may show, measurements included.
    pub(super) seen: watch::Sender<u64>,
    /// The number of times that a peer came, or came back.
    pub(super) comings: watch::Sender<u64>,
    /// Whether any peer is there. For others; the sending task has `company_changed`.
    pub(super) company: watch::Sender<bool>,
    pub(super) company_changed: Notify,
    pub(super) closed: AtomicBool,
    /// The farewells are sent: nobody learns of this process any more.
    pub(super) has_parted: AtomicBool,
    pub(super) last_ping: AtomicU64,
    /// The processes to which something is on the way, this one included, and one more while any of them has asked for a
    /// pause.
    pub(super) flights: AtomicUsize,
    /// Waves that could not be sent and that no flush has reported yet.
    pub(super) unsendable: AtomicU64,
    pub(super) ending: CancellationToken,
}

impl LanShared {
    pub(super) fn new(peers: Peers, outbox: OutboxReader, sealing: Sealing) -> (Arc<Self>, Exits) {
        let ((speak, spoken), (control, controls)) = (mpsc::channel(MAX_SPOKEN), mpsc::channel(MAX_SPOKEN));
        let (barriers, asked_barriers) = mpsc::unbounded_channel();
        let (pauses, asked_pauses) = mpsc::channel(MAX_PAUSES);
        let shared = Arc::new(Self {
            node: peers.node(),
            outbox,
            peers,
            tallies: Tallies::default(),
            sealing,
            arrivals: Arc::default(),
            flow: Flow::new(),
            speak,
            control,
            barriers,
            pauses,
            progress: Notify::new(),
            seen: watch::Sender::new(0),
            comings: watch::Sender::new(0),
            company: watch::Sender::new(false),
            company_changed: Notify::new(),
            closed: AtomicBool::new(false),
            has_parted: AtomicBool::new(false),
            last_ping: AtomicU64::new(0),
            flights: AtomicUsize::new(0),
            unsendable: AtomicU64::new(0),
            ending: CancellationToken::new(),
        });
        let requests = Requests { barriers: asked_barriers, pauses: asked_pauses };
        (shared, Exits { spoken, controls, requests })
    }

    pub(super) fn moved(&self) {
        self.progress.notify_waiters();
        self.measured();
    }

    /// Something was measured that nobody waits for.
    pub(super) fn measured(&self) {
        self.seen.send_modify(|moves| *moves = moves.wrapping_add(1));
    }

    /// To be called when a peer has come or gone.
    pub(super) fn note_company(&self) {
        // Looked at while nobody else can change it, or an older answer could overtake a newer one.
        let is_changed = self.company.send_if_modified(|known| {
            let has_company = !self.peers.is_alone();
            std::mem::replace(known, has_company) != has_company
        });
        if is_changed {
            self.company_changed.notify_one();
        }
    }

    /// A node has answered a ping, and misses a number of waves on a way. Returns whether that is news.
    pub(super) fn answered(&self, from: u64, number: u64, (way, missing): (u32, u64)) -> bool {
        if from == self.node {
            self.peers.answered_own(number);
            return true;
        }
        self.peers.answered(from, number, (way, missing))
    }

    /// Whether a peer takes nothing, and others would wait for it. One whose answers were not looked at yet is not to blame.
    pub(super) fn holds_up_others(&self, node: u64) -> bool {
        self.peers.holds_up_others(node, clock::now())
            && self.peers.holds_up_others(node, self.arrivals.looked_at_until())
    }

    /// The farewell to a node, with what was received of it.
    pub(super) fn bye(&self, to: u64) -> Message {
        let (way, received) = self.tallies.received(to);
        Message::Bye { way, received }
    }

    /// The sender of frames in a lane. Each lane counts as a sender of its own, because lanes overtake each other.
    pub(super) fn sender(&self, lane: Lane) -> Sender {
        Sender { node: self.node | u64::from(lane.number()), sent_micros: micros_since_1970() }
    }

    /// Whether a frame's sender belongs to a node.
    pub(super) const fn is_of(sender: u64, node: u64) -> bool {
        sender & !LANE_BITS == node
    }

    /// One wave as a frame of its own.
    pub(super) fn frame(&self, lane: Lane, wave: &Wave) -> Result<Bytes, EncodeError> {
        let (channel, waves) = (Some(wave.channel()), std::slice::from_ref(wave));
        encode_at(self.sender(lane), None, channel, waves, clock::now())
    }

    /// A frame without waves that contains the position of a stream.
    pub(super) fn announcement(
        &self,
        lane: Lane,
        channel: &aether_core::Channel,
        position: Position,
    ) -> Option<Bytes> {
        // A frame without waves cannot be invalid.
        encode_at(self.sender(lane), Some(position), Some(channel), &[], clock::now()).ok()
    }

    /// Sends a message past the outbox. Waits for room. Returns false if the medium has ended.
    pub(super) async fn say(&self, to: u64, lane: Lane, message: Message) -> bool {
        if to == self.node {
            return self.arrivals.bring_own(lane, message);
        }
        self.way_out(lane).send(Spoken { to, lane, message }).await.is_ok()
    }

    fn way_out(&self, lane: Lane) -> &mpsc::Sender<Spoken> {
        if lane == Lane::CONTROL { &self.control } else { &self.speak }
    }

    /// A last message to nobody for the tasks that send what goes past the outbox, so that they notice the end.
    pub(super) async fn say_last(&self) {
        for lane in [Lane::CONTROL, Lane::LAST] {
            // Fails if the task has ended.
            let _ = self.way_out(lane).send(Spoken { to: 0, lane, message: Message::Missing }).await;
        }
    }

    /// The same without waiting. Returns false if there was no room: the message is lost, and its sender repeats it, does
    /// without, or counts it.
    pub(super) fn say_now(&self, to: u64, lane: Lane, message: Message) -> bool {
        let is_taken = if to == self.node {
            self.arrivals.bring_own(lane, message)
        } else {
            self.way_out(lane).try_send(Spoken { to, lane, message }).is_ok()
        };
        if !is_taken {
            tracing::debug!("a message of the medium found no room");
        }
        is_taken
    }

    /// Tells peers what has changed of what this process hears.
    pub(super) fn tell_change(&self, nodes: &[u64], change: &TableChange) {
        if nodes.is_empty() {
            return;
        }
        let json = change.write();
        for node in nodes {
            self.say_now(*node, Lane::CONTROL, Message::Table { json: json.clone() });
        }
    }

    /// Tells a node everything that this process hears.
    pub(super) fn introduce_to(&self, node: u64) {
        self.peers.introduce(node, |table| {
            // Looked at while the peers are locked: whoever was told of this process gets a farewell.
            if !self.has_parted.load(Ordering::Acquire) {
                self.say_now(node, Lane::CONTROL, Message::Table { json: table.write() });
            }
        });
    }

    /// Asks all senders to pause.
    pub(super) fn send_pause(&self, pause: &Pause) {
        let frame = self.flow.wave(pause).and_then(|wave| self.frame(Lane::CONTROL, &wave).ok());
        let Some(frame) = frame else { return };
        for node in self.peers.nodes().into_iter().chain([self.node]) {
            self.say_now(node, Lane::CONTROL, Message::Pause { frame: frame.clone() });
        }
    }

    /// The lane of one wave.
    pub(super) fn lane_of(wave: &Wave) -> Lane {
        Lane::of_level(wave.signal().level())
    }

    /// Sends a question (or with number 0 a notice) to those who can answer. Returns their nodes.
    pub(super) async fn say_to_addressees(
        &self,
        number: u64,
        wave: &Wave,
        lane: Lane,
        frame: &Bytes,
    ) -> Vec<u64> {
        let mut nodes = Vec::new();
        for (node, to) in self.peers.route(wave.channel()).addressees(wave) {
            let to: Addressees = to;
            let question = Message::Question { asker: self.node, number, hops: 0, to, frame: frame.clone() };
            self.say(node, lane, question).await;
            nodes.push(node);
        }
        nodes
    }

    /// Sends a copy of a question or an answer to the observers of its channel. Never waits.
    pub(super) fn observe(&self, wave: &Wave) {
        let route = self.peers.route(wave.channel());
        if route.observing.is_empty() {
            return;
        }
        let lane = Self::lane_of(wave);
        if let Ok(frame) = self.frame(lane, wave) {
            for node in &route.observing {
                self.say_now(*node, lane, Message::Copy { frame: frame.clone() });
            }
        }
    }

    /// Waits until something holds, looking again with all progress. Returns false if the medium has ended first.
    pub(super) async fn until(&self, holds: impl Fn() -> bool) -> bool {
        loop {
            // It is woken from here on, also by what moves while this looks.
            let moved = self.progress.notified();
            if holds() {
                return true;
            }
            let has_ended = tokio::select! {
                biased;
                () = moved => false,
                () = self.ending.cancelled() => true,
            };
            if has_ended {
                return holds();
            }
        }
    }
}

impl Acceptance for LanShared {
    fn outbox(&self) -> &Arc<Inbox> {
        self.outbox.inbox()
    }

    fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Acquire)
    }

    fn oversize(&self, wave: &Wave) -> Option<(usize, usize)> {
        let bound = frame_bound(Some(wave.channel())) + record_bound(wave);
        frame_oversize(wave, (bound, MAX_FRAME), |now| {
            let waves = std::slice::from_ref(wave);
            encode_at(self.sender(Lane::LAST), None, Some(wave.channel()), waves, now)
        })
    }
}
