//! The tasks of the medium that talk to its network.
//!
//! With Zenoh they have a thread and a runtime of their own, because Zenoh blocks the calling thread; over another network
//! they are tasks of the runtime that connects. The sending task is the main one; beside it a task sends what goes past the
//! outbox, one what keeps the peers together, and another one is the heartbeat.

use std::sync::Arc;
#[cfg(feature = "zenoh")]
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};

use super::error::LanError;
use super::net::{Below, Net};
use super::network::LanProcess;
use super::presence::Presence;
use super::sending;
use super::shared::{Exits, LanShared, Spoken};
#[cfg(feature = "zenoh")]
use super::sockets::{self, LanHello};
use super::surroundings::LanSurroundings;
use aether_core::medium::Router;

/// The state of the tasks.
pub(super) struct Driver {
    pub(super) shared: Arc<LanShared>,
    pub(super) router: Arc<Router>,
    pub(super) presence: Arc<Presence>,
    pub(super) exits: Exits,
    /// Questions of tools about the surroundings.
    pub(super) questions: mpsc::Receiver<Question>,
}

/// A question of a tool.
pub(super) enum Question {
    Surroundings(oneshot::Sender<LanSurroundings>),
    /// The answers by multicast on these interfaces within a time.
    #[cfg(feature = "zenoh")]
    Hellos {
        interfaces: Vec<String>,
        within: Duration,
        asker: oneshot::Sender<Result<Vec<LanHello>, LanError>>,
    },
}

/// The first message of the tasks, once the network is entered: the nodes that are there.
pub(super) type Opened = Result<Vec<u64>, LanError>;

impl Driver {
    /// Starts the tasks. The second receiver ends with them.
    pub(super) fn start(self, below: Below) -> (oneshot::Receiver<Opened>, oneshot::Receiver<()>) {
        let (opened, is_open) = oneshot::channel();
        let has_ended = match below {
            #[cfg(feature = "zenoh")]
            Below::Zenoh(_) => sockets::run_apart(self.run(below, opened)),
            Below::Other(_) => {
                let (ended, has_ended) = oneshot::channel();
                tokio::spawn(async move {
                    self.run(below, opened).await;
                    drop(ended);
                });
                has_ended
            }
        };
        (is_open, has_ended)
    }

    async fn run(self, below: Below, opened: oneshot::Sender<Opened>) {
        let Self { shared, router, presence, exits, questions } = self;
        let net = match below.enter(LanProcess::new(Arc::clone(&shared), Arc::clone(&presence))).await {
            Ok(net) => Arc::new(net),
            Err(error) => return drop(opened.send(Err(error))),
        };
        let Exits { spoken, controls, requests } = exits;
        let speaking = [spoken, controls]
            .map(|messages| tokio::spawn(speak(messages, Arc::clone(&shared), Arc::clone(&net))));
        let beating = tokio::spawn(presence.beat(Arc::clone(&shared)));
        let answering = tokio::spawn(answer(Arc::clone(&net), questions));
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
        net.close().await;
    }
}

/// Sends messages past the outbox until the medium ends and none is left.
async fn speak(mut messages: mpsc::Receiver<Spoken>, shared: Arc<LanShared>, net: Arc<Net>) {
    while let Some(Spoken { to, lane, message }) = messages.recv().await {
        if let Some(bytes) = shared.sealing.seal(to, lane, shared.node, &message) {
            match shared.holds_up_others(to) {
                true => net.offer(to, lane, bytes),
                false => net.put(to, lane, bytes, true).await,
            };
        }
        if messages.is_empty() && shared.ending.is_cancelled() {
            return;
        }
    }
}

async fn answer(net: Arc<Net>, mut questions: mpsc::Receiver<Question>) {
    while let Some(question) = questions.recv().await {
        match question {
            Question::Surroundings(asker) => drop(asker.send(net.surroundings().await)),
            #[cfg(feature = "zenoh")]
            Question::Hellos { interfaces, within, asker } => {
                drop(asker.send(net.hellos(&interfaces, within).await));
            }
        }
    }
}
