//! The medium of a local network: carries waves between machines that find each other, without a server.
//!
//! Zenoh finds the machines and moves bytes between them (its peer mode). All else is decided here, by what the processes
//! tell each other. Each process knows what every other one hears (`peers`), so a sender knows who gets a wave, which
//! member of a group gets it (`route`), and whether anybody does. Outbound waves go through a bounded outbox ordered by
//! strength; one task numbers and packs them, and sends each strength in a priority of Zenoh (`sending`, `lane`).
//! Inbound, one task opens messages and delivers them to the router, and notices what is missing (`intake`). Everything
//! is sealed with a key derived from a secret that all machines share (`sealing`, `secret`).

mod address;
mod arrivals;
mod asking;
mod counts;
mod crowd;
mod deliveries;
mod error;
mod inside;
mod intake;
mod joined;
mod lane;
mod message;
mod net;
mod network;
mod options;
mod peer;
mod peers;
mod presence;
mod reply;
mod route;
mod runtime;
mod sealing;
mod secret;
mod sending;
mod settling;
mod shared;
#[cfg(feature = "zenoh")]
mod sockets;
mod strangers;
mod surroundings;
mod table;
mod tally;
mod view;
mod way;
mod window;

#[cfg(test)]
mod tests;

pub use error::LanError;
#[doc(hidden)]
pub use inside::LanInside;
pub use network::{LanNetwork, LanProcess, LanSession};
pub use options::LanOptions;
pub use peer::LanPeer;
pub use presence::{LanPingError, LanPong};
#[cfg(feature = "zenoh")]
pub use sockets::{LanChange, LanHello, LanNode, LanRouter, LanRouterAccount};
pub use surroundings::LanSurroundings;
pub use view::{LanEndpoints, LanView};

use std::collections::{BTreeSet, VecDeque};
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures_util::future::{BoxFuture, join_all};
use parking_lot::Mutex;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinHandle;
use tokio::time::timeout;

use address::{LanAddress, Protocol};
#[cfg(not(feature = "zenoh"))]
use aether_core::medium::without_secrets;
use aether_core::medium::{
    Carried, ConnectRequest, Details, Medium, MediumStatus, Offered, Promises, Reach, Router, Subscription,
    Waiting,
};
use aether_core::{AskError, ConnectError, EmitError, FlushError, JoinError, Wave};
use aether_link::Acceptance;
use aether_link::Transit;
use aether_link::wire::{self, FrameError};
use aether_link::{AHEAD, OutboxReader};
use aether_seal::SealKeys;
use asking::{Asking, MAX_QUESTIONS};
use counts::Counts;
use intake::Intake;
use joined::Joined;
use lane::{LANE_BITS, Lane};
use net::Below;
use peer::ON;
use peers::{GONE_AFTER, Peers};
use presence::Presence;
use runtime::Driver;
use sealing::Sealing;
use secret::Secret;
use shared::{LanShared, MAX_FRAME};
use table::{MAX_HEARERS, MAX_TABLE};
use view::Filled;

/// How long connecting waits for those who are seen, or named in the address, to say what they hear.
const MEET_WITHIN: Duration = Duration::from_secs(2);

/// How long a join waits for peers. One that does not receive has gone by then.
const JOIN_WITHIN: Duration = Duration::from_secs(10);

/// How long a notice may take to its only receiver. After that it counts as unconfirmed.
const REACHED_WITHIN: Duration = Duration::from_secs(2);

/// The receiving task, and the end of the tasks that talk to the network.
type Tasks = (JoinHandle<()>, oneshot::Receiver<()>);

/// The handle of the medium. After it is dropped, the outbox is still emptied and everything else ends.
struct Lan {
    shared: Arc<LanShared>,
    router: Arc<Router>,
    joined: Arc<Joined>,
    asking: Arc<Asking>,
    counts: Arc<Counts>,
    transit: Arc<Transit>,
    presence: Arc<Presence>,
    /// Whether it connects over QUIC, with certificates.
    by_quic: bool,
    tasks: Mutex<Option<Tasks>>,
    /// Whether closing has finished. The lock is held while closing is in progress.
    closing: tokio::sync::Mutex<bool>,
}

/// Joins the network.
///
/// # Errors
/// [`LanError`] in [`ConnectError::Medium`], or [`ConnectError::Outbox`].
///
/// # Cancel safety
/// If cancelled before completion, the network is left.
pub async fn connect(request: ConnectRequest) -> Result<Arc<dyn Medium>, ConnectError> {
    let options: LanOptions = request.options();
    let outbox = OutboxReader::of(&request, options.outbox.clone())?;
    let ConnectRequest { url, router, .. } = request;
    let protocol = protocol_of(&options);
    let mut address = LanAddress::read_for_process(&url, protocol)?;
    if options.network.is_some() {
        address = LanAddress { insecure: address.insecure, ..LanAddress::default() };
    }
    let is_insecure = options.insecure || address.insecure;
    let secret = options.secret.clone().or_else(|| Secret::of_environment(|name| std::env::var_os(name)));
    let keys = match secret {
        // Deriving a key takes a while.
        Some(secret) => match tokio::task::spawn_blocking(move || secret.keys()).await {
            Ok(keys) => Some(keys?),
            Err(error) => return Err(LanError::Derivation { reason: error.to_string() }.into()),
        },
        None if is_insecure => None,
        None => return Err(LanError::NoSecret.into()),
    };
    let below = match &options.network {
        Some(network) => Below::Other(Arc::clone(network)),
        None => zenoh_below(&options, &address, keys.as_ref(), &url)?,
    };
    outbox.let_run_ahead(AHEAD);
    let (questions, asked) = mpsc::channel(1);
    let node = fastrand::u64(LANE_BITS + 1..) & !LANE_BITS;
    let machine = view::machine();
    let name = options.name.as_ref().map_or_else(|| machine.clone(), |name| format!("{name}{ON}{machine}"));
    let peers = Peers::new(node, name).gone_after(options.gone_after.unwrap_or(GONE_AFTER));
    let (shared, exits) = LanShared::new(peers, outbox, Sealing::new(keys).map_err(LanError::Seal)?);
    let presence = Arc::<Presence>::default();
    let expected_peers = address.peers.len();
    let (opened, ended) = Driver {
        shared: Arc::clone(&shared),
        router: Arc::clone(&router),
        presence: Arc::clone(&presence),
        exits,
        questions: asked,
    }
    .start(below);
    let (joined, asking) = (Arc::<Joined>::default(), Arc::<Asking>::default());
    let (counts, transit) = (Arc::<Counts>::default(), Arc::<Transit>::default());
    let receiving = tokio::spawn(intake::receive(Intake {
        shared: Arc::clone(&shared),
        router: Arc::clone(&router),
        joined: Arc::clone(&joined),
        asking: Arc::clone(&asking),
        presence: Arc::clone(&presence),
        counts: Arc::clone(&counts),
        transit: Arc::clone(&transit),
    }));
    let tasks = Mutex::new(Some((receiving, ended)));
    let closing = tokio::sync::Mutex::default();
    // From here on, dropping it ends everything.
    let lan = Arc::new(Lan {
        shared,
        router,
        joined,
        asking,
        counts,
        transit,
        presence: Arc::clone(&presence),
        by_quic: options.network.is_none() && protocol == Protocol::Quic,
        tasks,
        closing,
    });
    // They end early only if they cannot be started; the log has the reason.
    let no_tasks = |error: oneshot::error::RecvError| LanError::Network {
        step: "its threads have ended",
        source: error.into(),
    };
    let nodes = opened.await.map_err(no_tasks)??;
    lan.meet(&nodes, expected_peers).await;
    if let Some(view) = &options.view {
        let (shared, counts) = (Arc::clone(&lan.shared), Arc::clone(&lan.counts));
        view.fill(Filled { shared, presence, counts, address, questions });
    }
    Ok(lan)
}

/// How a process with these options connects by Zenoh.
#[cfg(feature = "zenoh")]
fn protocol_of(options: &LanOptions) -> Protocol {
    sockets::protocol_of(options.certificates.as_ref())
}

/// Without Zenoh nothing has certificates.
#[cfg(not(feature = "zenoh"))]
const fn protocol_of(_options: &LanOptions) -> Protocol {
    Protocol::Tcp
}

/// The network of a process whose options name none.
#[cfg(feature = "zenoh")]
fn zenoh_below(
    options: &LanOptions,
    address: &LanAddress,
    keys: Option<&SealKeys>,
    _url: &str,
) -> Result<Below, ConnectError> {
    let (address, certificates, keys) = (address.clone(), options.certificates.clone(), keys.cloned());
    Ok(Below::Zenoh(sockets::Entrance { address, certificates, keys }))
}

#[cfg(not(feature = "zenoh"))]
fn zenoh_below(
    _options: &LanOptions,
    _address: &LanAddress,
    _keys: Option<&SealKeys>,
    url: &str,
) -> Result<Below, ConnectError> {
    Err(ConnectError::Feature { url: without_secrets(url), feature: "zenoh" })
}

impl Lan {
    /// Waits a moment for those who are there, so that the first waves reach them.
    async fn meet(&self, nodes: &[u64], expected_peers: usize) {
        let peers = &self.shared.peers;
        let others: Vec<u64> = nodes.iter().copied().filter(|node| *node != self.shared.node).collect();
        let is_met = || {
            others.iter().all(|node| peers.version_of(*node).is_some())
                && peers.nodes().len() >= expected_peers
                && peers.has_met_all()
                && peers.all_know(peers.version())
        };
        let is_met = timeout(MEET_WITHIN, self.shared.until(is_met)).await.is_ok();
        let (missed, met) = (peers.met(), peers.nodes().len());
        if missed > 0 {
            tracing::warn!(
                missed,
                met,
                "some processes of this network do not answer, and may miss what is sent: their clocks differ by more than \
                 a minute, or a firewall keeps them apart; `aether lan doctor` looks"
            );
        } else if !is_met {
            tracing::info!(
                expected = others.len().max(expected_peers),
                met,
                "not everybody who was expected on the network has answered yet"
            );
        }
    }

    async fn join_and_wait(&self, subscription: Arc<Subscription>) -> Result<(), JoinError> {
        if self.shared.is_closed() {
            return Err(JoinError::Closed);
        }
        self.joined.join(&subscription);
        let shared = &self.shared;
        let version =
            shared.peers.join((&*subscription).into(), |nodes, change| shared.tell_change(nodes, &change));
        let Some(version) = version else {
            return Err(JoinError::TooMany { most: MAX_HEARERS, most_bytes: MAX_TABLE });
        };
        match timeout(JOIN_WITHIN, shared.until(|| shared.peers.all_know(version))).await {
            Ok(true) => {}
            Ok(false) => return Err(JoinError::Closed),
            Err(_) => {
                let peers = shared.peers.ignorant(version);
                return Err(JoinError::Unconfirmed { peers, within: JOIN_WITHIN });
            }
        }
        self.joined.is_in_force(&subscription);
        Ok(())
    }

    /// Sends a question past the outbox, because a question behind a backlog would time out.
    async fn ask_and_wait(&self, question: Wave) -> Result<Wave, AskError> {
        let (shared, channel) = (&*self.shared, question.channel());
        let too_many = || AskError::TooMany { channel: channel.clone(), most: MAX_QUESTIONS };
        let mut asker = self.asking.enter().ok_or_else(too_many)?;
        let lane = LanShared::lane_of(&question);
        let frame = shared.frame(lane, &question).map_err(|error| AskError::Client(Box::new(error)))?;
        let nodes = shared.say_to_addressees(asker.number, &question, lane, &frame).await;
        shared.observe(&question);
        if nodes.is_empty() {
            return Err(AskError::NoResonator { channel: channel.clone() });
        }
        // The sender is in the table until the answer comes.
        let Ok(answer) = (&mut asker.answer).await else {
            return Err(AskError::Client(Box::new(Ended)));
        };
        let mut answer = self
            .read_answer(&answer)
            .map_err(|source| AskError::Malformed { channel: channel.clone(), source: source.into() })?;
        answer.answers(&question);
        shared.observe(&answer);
        Ok(answer)
    }

    /// The nodes that have received a notice which nobody else hears, such as an echo: they answer a ping behind it. Nobody
    /// is asked about a notice for many, which its sender repeats.
    async fn reached(&self, notices: impl Iterator<Item = &Vec<u64>>) -> BTreeSet<u64> {
        let alone = |nodes: &Vec<u64>| nodes.first().copied().filter(|_| nodes.len() == 1);
        let nodes: BTreeSet<u64> = notices.filter_map(alone).collect();
        let pinged = nodes.into_iter().map(|node| async move {
            let is_reached = node == self.shared.node
                || self.presence.ping(&self.shared, node, REACHED_WITHIN).await.is_ok();
            is_reached.then_some(node)
        });
        join_all(pinged).await.into_iter().flatten().collect()
    }

    fn read_answer(&self, bytes: &bytes::Bytes) -> Result<Wave, FrameError> {
        let (now, received) = (aether_core::clock::now(), aether_core::clock::micros_since_1970());
        let frame = wire::decode(bytes, None, now, |sender| {
            self.transit.delay(sender.node.into(), sender.sent_micros, received, now)
        })?;
        frame.waves.into_iter().next().ok_or(FrameError::Empty { what: "waves" })
    }
}

/// The medium ended before an answer arrived.
#[derive(Debug, thiserror::Error)]
#[error("the medium was closed")]
struct Ended;

impl Medium for Lan {
    fn promises(&self) -> Promises {
        let mut promises = Promises::new(true, MAX_FRAME);
        (promises.back_pressure, promises.exact_groups) = (true, false);
        promises
    }

    fn carry(&self, wave: Wave) -> Result<Carried, EmitError> {
        self.shared.carry(wave)
    }

    fn room_for(&self, wave: &Wave) -> usize {
        self.shared.room_for(wave)
    }

    fn carry_all(&self, waves: &mut VecDeque<Wave>) -> Result<Option<Waiting>, EmitError> {
        self.shared.carry_all(waves)
    }

    fn try_carry(&self, wave: Wave) -> Result<Offered, EmitError> {
        self.shared.try_carry(wave)
    }

    fn join(&self, subscription: Arc<Subscription>) -> BoxFuture<'_, Result<(), JoinError>> {
        Box::pin(self.join_and_wait(subscription))
    }

    fn leave(&self, subscription: &Subscription) {
        if self.joined.leave(subscription) {
            let shared = &self.shared;
            shared.peers.leave(subscription.id(), |nodes, change| shared.tell_change(nodes, &change));
        }
    }

    fn ask(&self, question: Wave, patience: Duration) -> BoxFuture<'_, Result<Wave, AskError>> {
        Box::pin(async move {
            let question = self.shared.check(question)?;
            let channel = question.channel().clone();
            // The timeout covers everything, including the wait for room.
            match timeout(patience, self.ask_and_wait(question)).await {
                Ok(answered) => answered,
                Err(_) => Err(AskError::TimedOut { channel, patience }),
            }
        })
    }

    fn notify(&self, notices: Vec<Wave>) -> BoxFuture<'_, Vec<Reach>> {
        Box::pin(async move {
            let mut nodes = Vec::with_capacity(notices.len());
            for notice in notices {
                // While a medium is being closed, its vibrators still send their farewell notices.
                let frame = self.shared.frame(Lane::CONTROL, &notice);
                nodes.push(match frame {
                    Ok(frame)
                        if !self.shared.ending.is_cancelled() && self.shared.oversize(&notice).is_none() =>
                    {
                        Some(self.shared.say_to_addressees(0, &notice, Lane::CONTROL, &frame).await)
                    }
                    _ => None,
                });
            }
            let reached = self.reached(nodes.iter().flatten()).await;
            let reach = |nodes: Option<Vec<u64>>| match nodes.as_deref() {
                None => Reach::Unsent,
                Some([]) => Reach::NoListener,
                Some([node]) if !reached.contains(node) => Reach::Unknown,
                Some(_) => Reach::Delivered,
            };
            nodes.into_iter().map(reach).collect()
        })
    }

    fn flush(&self) -> BoxFuture<'_, Result<(), FlushError>> {
        Box::pin(async move {
            if self.shared.is_closed() {
                return Err(FlushError::Closed);
            }
            self.settle_all().await
        })
    }

    fn close(&self) -> BoxFuture<'_, Result<(), FlushError>> {
        Box::pin(self.end())
    }

    fn status(&self) -> MediumStatus {
        let (shared, counts) = (&self.shared, &self.counts);
        let (in_flight, unconfirmed) = shared.peers.flight();
        let count = |count: &AtomicU64| count.load(Ordering::Relaxed);
        let mut status = MediumStatus::default();
        status.connected = !shared.is_closed();
        status.connects = 1;
        (status.in_flight, status.unconfirmed) = (in_flight, unconfirmed);
        status.outbox = shared.outbox.ledger();
        status.dropped_by_client = count(&counts.homeless);
        status.malformed = count(&counts.malformed);
        status.implausible = count(&counts.misplaced) + self.transit.implausible();
        status.lost_upstream = count(&counts.lost_upstream);
        status.forgotten_streams = count(&counts.forgotten_streams) + shared.peers.left_out();
        status.stray_answers = self.asking.stray();
        status.held = count(&shared.flow.held);
        status.pauses = count(&shared.flow.pauses);
        status.refused_sealed = count(&counts.refused_sealed);
        if let Some(refusals) = shared.sealing.refusals() {
            refusals.add_to(&mut status);
        }
        status
    }

    fn details(&self, into: &mut Details) {
        if let Some(refusals) = self.shared.sealing.refusals() {
            into.add(refusals);
        }
        into.add(LanInside {
            shared: Arc::clone(&self.shared),
            presence: Arc::clone(&self.presence),
            asking: Arc::clone(&self.asking),
            counts: Arc::clone(&self.counts),
        });
    }

    fn reaches_others(&self) -> Option<watch::Receiver<bool>> {
        Some(self.shared.company.subscribe())
    }
}

impl Drop for Lan {
    fn drop(&mut self) {
        // Without close(), nothing waits for the outbox. The sending task empties it.
        self.shared.closed.store(true, Ordering::Release);
        self.shared.outbox.close();
        self.shared.has_parted.store(true, Ordering::Release);
        for node in self.shared.peers.acquainted() {
            self.shared.say_now(node, Lane::CONTROL, self.shared.bye(node));
        }
        self.shared.ending.cancel();
    }
}

impl fmt::Debug for Lan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lan")
            .field("status", &self.status())
            .field("router", &self.router)
            .finish_non_exhaustive()
    }
}
