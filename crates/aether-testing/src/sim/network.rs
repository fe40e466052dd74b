//! The network of a simulation: connections like TCP's between processes, below the LAN medium.
//!
//! It moves when the simulation takes a step ([`Network::advance`]), and within a step processes only put messages into
//! its queues. Each receiver takes what came for it in its own runtime, as a process reads its sockets.

mod connection;
mod state;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use aether_lan::{LanError, LanNetwork, LanProcess, LanSession};
use futures_util::future::BoxFuture;
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::{sleep, timeout};

use super::epoch::Epoch;
use super::trace::Trace;
use crate::seed::mixed;
pub use connection::Link;
use state::{Incoming, Put, State};

/// How long a process looks for others before it takes part, as on a real network.
const SCOUTS_FOR: Duration = Duration::from_millis(300);
/// A connection that takes nothing for this long is closed by the sender, who waits for it.
const STUCK: Duration = Duration::from_secs(2);
/// How long a process that leaves waits for what it has put.
const LEAVES_WITHIN: Duration = Duration::from_secs(2);

/// A network of a simulation.
pub(super) struct Network {
    name: String,
    state: Mutex<State>,
}

impl Network {
    fn new(name: &str, seed: u64, trace: Trace) -> Arc<Self> {
        Arc::new(Self { name: name.to_owned(), state: Mutex::new(State::new(seed, trace)) })
    }

    /// Moves messages until a time, and hands over what has arrived by then.
    pub(super) fn advance(&self, now: Duration) {
        self.state.lock().advance(now);
    }

    /// Sets the link from one process to another; with `None` it is the one of all.
    pub(super) fn link(&self, from: usize, to: usize, link: Option<Link>) {
        self.state.lock().link(from, to, link);
    }

    /// Sets the link between any two processes that have none of their own.
    pub(super) fn link_all(&self, link: Link) {
        self.state.lock().link_all(link);
    }

    /// The shortest latency of all links.
    pub(super) fn shortest(&self) -> Duration {
        self.state.lock().shortest()
    }

    /// Holds back what one process sends to another, until it is joined as often.
    pub(super) fn cut(&self, from: usize, to: usize) {
        self.state.lock().cut(from, to);
    }

    pub(super) fn join(&self, from: usize, to: usize) {
        self.state.lock().join(from, to);
    }

    pub(super) fn heal(&self) {
        self.state.lock().heal();
    }

    /// A process is frozen, or no longer: it reads nothing.
    pub(super) fn freeze(&self, process: usize, is_frozen: bool) {
        self.state.lock().freeze(process, is_frozen);
    }

    /// A process is gone, with all that it has put and not sent.
    pub(super) fn kill(&self, process: usize) {
        self.state.lock().kill(process);
    }
}

/// All networks of a simulation. The first one is there from the beginning.
#[derive(Clone)]
pub(super) struct Networks(Arc<Mutex<Vec<Arc<Network>>>>);

impl Networks {
    pub(super) fn new(name: &str, seed: u64, trace: Trace) -> Self {
        Self(Arc::new(Mutex::new(vec![Network::new(name, seed, trace)])))
    }

    /// Adds a network, unless it is there.
    pub(super) fn add(&self, name: &str, seed: u64, trace: Trace) {
        let mut all = self.0.lock();
        if all.iter().all(|network| network.name != name) {
            let seed = mixed([seed, 6, all.len() as u64]);
            all.push(Network::new(name, seed, trace));
        }
    }

    #[track_caller]
    pub(super) fn find(&self, name: &str) -> Arc<Network> {
        let found = self.all().into_iter().find(|network| network.name == name);
        found.unwrap_or_else(|| panic!("there is no network {name:?}: name it with Sim::on"))
    }

    /// All of them.
    pub(super) fn all(&self) -> Vec<Arc<Network>> {
        self.0.lock().clone()
    }
}

/// The network as one life of a process reaches it.
pub(super) struct Port {
    network: Arc<Network>,
    process: usize,
    epoch: Epoch,
}

impl Port {
    pub(super) const fn new(network: Arc<Network>, process: usize, epoch: Epoch) -> Self {
        Self { network, process, epoch }
    }
}

impl fmt::Debug for Port {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Port").field("process", &self.process).finish_non_exhaustive()
    }
}

impl LanNetwork for Port {
    fn enter(&self, lan: LanProcess) -> BoxFuture<'static, Result<Box<dyn LanSession>, LanError>> {
        let (network, process, epoch) = (Arc::clone(&self.network), self.process, self.epoch);
        Box::pin(async move {
            let (node, changed) = (lan.node(), Arc::new(Notify::new()));
            let session = Session { network, node, epoch, changed: Arc::clone(&changed) };
            session.network.state.lock().enter(node, process, changed);
            tokio::spawn(read(Arc::clone(&session.network), lan, Arc::clone(&session.changed)));
            sleep(SCOUTS_FOR).await;
            let session: Box<dyn LanSession> = Box::new(session);
            Ok(session)
        })
    }
}

/// Takes what has come for a process, and hands it to its medium, until the process has left.
async fn read(network: Arc<Network>, lan: LanProcess, changed: Arc<Notify>) {
    loop {
        let next = network.state.lock().take(lan.node());
        match next {
            None => return,
            Some(Incoming::Nothing) => changed.notified().await,
            Some(Incoming::Shown(node, is_there)) => lan.show(node, is_there),
            Some(Incoming::Message(bytes)) => {
                lan.room().await;
                lan.bring(bytes);
            }
        }
    }
}

/// A process on the network, until it leaves.
struct Session {
    network: Arc<Network>,
    node: u64,
    epoch: Epoch,
    /// Something has come for the process, or there is room for what it sends.
    changed: Arc<Notify>,
}

impl Session {
    fn try_put(&self, to: u64, lane: u8, bytes: &mut Vec<u8>) -> Put {
        self.network.state.lock().put(self.node, to, lane, bytes, self.epoch.now())
    }

    /// Waits until `is_done`, looking again with each change.
    async fn until<T>(&self, mut is_done: impl FnMut(&mut State) -> Option<T>) -> T {
        let room = self.network.state.lock().room_of(self.node);
        loop {
            let changed = room.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            let done = is_done(&mut self.network.state.lock());
            match done {
                Some(done) => return done,
                None => changed.await,
            }
        }
    }
}

impl LanSession for Session {
    fn nodes(&self) -> Vec<u64> {
        self.network.state.lock().seen_by(self.node)
    }

    fn put(&self, to: u64, lane: u8, mut bytes: Vec<u8>) -> BoxFuture<'_, bool> {
        match self.try_put(to, lane, &mut bytes) {
            Put::Taken => Box::pin(std::future::ready(true)),
            Put::Ended => Box::pin(std::future::ready(false)),
            Put::Full => Box::pin(async move {
                let put =
                    self.until(|state| match state.put(self.node, to, lane, &mut bytes, self.epoch.now()) {
                        Put::Full => None,
                        put => Some(matches!(put, Put::Taken)),
                    });
                match timeout(STUCK, put).await {
                    Ok(is_taken) => is_taken,
                    Err(_) => {
                        self.network.state.lock().give_up(self.node, to);
                        true
                    }
                }
            }),
        }
    }

    fn offer(&self, to: u64, lane: u8, mut bytes: Vec<u8>) -> bool {
        matches!(self.try_put(to, lane, &mut bytes), Put::Taken)
    }

    fn close(&self) -> BoxFuture<'_, ()> {
        Box::pin(async {
            let sent = self.until(|state| state.has_sent_all(self.node).then_some(()));
            // What is not sent by then is lost, as on a connection that is closed.
            let _ = timeout(LEAVES_WITHIN, sent).await;
            self.network.state.lock().leave(self.node);
        })
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.network.state.lock().leave(self.node);
    }
}
