//! The thread that talks to Zenoh, with a runtime of its own.
//!
//! Zenoh blocks the calling thread while its queue is full, because nothing may be dropped; and it needs a runtime of many
//! threads. So nothing here runs on the threads of the service. The sending task has the thread; beside it a task sends
//! what goes past the outbox, one what keeps the peers together, and another one is the heartbeat.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Builder;
use tokio::sync::{mpsc, oneshot};

use super::address::LanAddress;
use super::error::LanError;
use super::hello::{self, LanHello};
use super::net::{Certificates, Net, Role};
use super::presence::Presence;
use super::realms::Realms;
use super::sending;
use super::shared::{Exits, LanShared, Spoken};
use aether_core::medium::Router;

/// One blocks with what goes past the outbox, one with what keeps the peers together, one beats.
const WORKERS: usize = 3;

/// The state of the thread.
pub(super) struct Driver {
    pub(super) shared: Arc<LanShared>,
    pub(super) router: Arc<Router>,
    pub(super) presence: Arc<Presence>,
    pub(super) exits: Exits,
    pub(super) address: LanAddress,
    pub(super) certificates: Option<Certificates>,
    pub(super) realms: Realms,
    /// Questions of tools about the surroundings.
    pub(super) questions: mpsc::Receiver<Question>,
}

/// The processes and routers that Zenoh sees.
#[derive(Debug, Clone, Default)]
pub(super) struct Surroundings {
    pub(super) peers: usize,
    pub(super) routers: usize,
    /// The nodes that are seen, by realm.
    pub(super) realms: BTreeMap<String, HashSet<u64>>,
}

/// A question of a tool.
pub(super) enum Question {
    Surroundings(oneshot::Sender<Surroundings>),
    /// The answers by multicast on these interfaces within a time.
    Hellos {
        interfaces: Vec<String>,
        within: Duration,
        asker: oneshot::Sender<Result<Vec<LanHello>, LanError>>,
    },
}

/// The first message of the thread, once the session is open: the nodes that are there, and the end of the thread.
pub(super) type Opened = Result<HashSet<u64>, LanError>;

impl Driver {
    /// Starts the thread. The second receiver ends with it.
    pub(super) fn start(self) -> (oneshot::Receiver<Opened>, oneshot::Receiver<()>) {
        let (opened, is_open) = oneshot::channel();
        let (ended, has_ended) = oneshot::channel::<()>();
        let thread = std::thread::Builder::new().name("aether-lan".to_owned());
        let started = thread.spawn(move || {
            let runtime = Builder::new_multi_thread()
                .worker_threads(WORKERS)
                .thread_name("aether-lan")
                .enable_all()
                .build();
            match runtime {
                Ok(runtime) => runtime.block_on(self.run(opened)),
                Err(error) => drop(opened.send(Err(no_thread(error)))),
            }
            drop(ended);
        });
        if let Err(error) = started {
            // The receivers see that their senders are gone.
            tracing::error!(%error, "the thread of the network cannot be started");
        }
        (is_open, has_ended)
    }

    async fn run(self, opened: oneshot::Sender<Opened>) {
        let Self { shared, router, presence, exits, .. } = self;
        let certificates = self.certificates.as_ref();
        let net = match Net::open(&self.address, Role::Process, certificates, self.realms).await {
            Ok(net) => Arc::new(net),
            Err(error) => return drop(opened.send(Err(error))),
        };
        let Exits { spoken, controls, requests } = exits;
        let declared = net.declare(shared.node, Arc::clone(&shared.arrivals), {
            let (shared, presence) = (Arc::clone(&shared), Arc::clone(&presence));
            move |node, is_there| presence.note_token(&shared, node, is_there)
        });
        let declared = match declared.await {
            Ok(declared) => declared,
            Err(error) => return drop(opened.send(Err(error))),
        };
        let speaking = [spoken, controls]
            .map(|messages| tokio::spawn(speak(messages, Arc::clone(&shared), Arc::clone(&net))));
        let beating = tokio::spawn(presence.beat(Arc::clone(&shared)));
        let answering = tokio::spawn(answer(Arc::clone(&net), self.address, self.questions));
        let nodes = net.nodes().await;
        // Fails if nobody waits any more: the medium is dropped, and ends below.
        let _ = opened.send(Ok(nodes));
        sending::send(Arc::clone(&shared), router, Arc::clone(&net), requests).await;
        // The last words are in the queues.
        shared.say_last().await;
        for speaking in speaking {
            let _ = speaking.await;
        }
        for task in [beating, answering] {
            task.abort();
        }
        drop(declared);
        net.close().await;
    }
}

pub(super) fn no_thread(error: std::io::Error) -> LanError {
    LanError::Zenoh { step: "its threads cannot be started", source: error.into() }
}

/// Runs something on threads of its own until it ends.
pub(super) fn on_its_own(run: impl Future<Output = ()> + Send + 'static) -> Result<(), LanError> {
    let runtime = Builder::new_multi_thread()
        .worker_threads(1)
        .thread_name("aether-lan")
        .enable_all()
        .build()
        .map_err(no_thread)?;
    let thread = std::thread::Builder::new().name("aether-lan".to_owned());
    // By a worker, whose place another one takes while it blocks. A panic is in the log.
    let started = thread.spawn(move || drop(runtime.block_on(runtime.spawn(run))));
    started.map(drop).map_err(no_thread)
}

/// Sends messages past the outbox until the medium ends and none is left.
async fn speak(mut messages: mpsc::Receiver<Spoken>, shared: Arc<LanShared>, net: Arc<Net>) {
    while let Some(Spoken { to, lane, message }) = messages.recv().await {
        if let Some(bytes) = shared.sealing.seal(to, lane, shared.node, &message) {
            match shared.holds_up_others(to) {
                true => net.offer(to, lane, bytes),
                false => net.put(to, lane, bytes, true),
            };
        }
        if messages.is_empty() && *shared.ending.borrow() {
            return;
        }
    }
}

async fn answer(net: Arc<Net>, address: LanAddress, mut questions: mpsc::Receiver<Question>) {
    while let Some(question) = questions.recv().await {
        match question {
            Question::Surroundings(asker) => {
                let (peers, routers) = net.surroundings().await;
                let realms = net.realms().await;
                let _ = asker.send(Surroundings { peers, routers, realms });
            }
            Question::Hellos { interfaces, within, asker } => {
                let mut asked = hello::ask(&address, &interfaces, within).await;
                let (own, connected) = (net.id(), net.connected().await);
                for hello in asked.iter_mut().flatten() {
                    hello.is_own = hello.id == own;
                    hello.is_connected = connected.contains(&hello.id);
                }
                let _ = asker.send(asked);
            }
        }
    }
}
