//! A router, which connects networks that multicast does not cross, for the command that runs one.
//!
//! It carries what is sealed and can open nothing. It hears of processes by their tokens, and of other routers by theirs;
//! tokens are not authenticated. Like the medium it has threads of its own: opening and closing a session of Zenoh block the
//! thread that does it, inside of a runtime, and what else is awaited there then misses that it is woken.

use std::collections::HashSet;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::{mpsc, oneshot};

use super::node::{LanChange, LanNode};
use super::realms::Realms;
use super::session::{Certificates, Role, ZenohNet, protocol_of};
use super::threads;
use crate::address::LanAddress;
use crate::error::LanError;

/// Where a router listens unless its address has another place, with TCP or QUIC.
const LISTEN: &str = "[::]:7447";
/// The processes and routers that are counted. Anybody can show as many tokens as they like.
const MAX_NODES: usize = 8192;
/// The changes that wait to be looked at.
const MAX_CHANGES: usize = 1024;

/// The counts of a router. `came = processes + left`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct LanRouterAccount {
    /// The processes that are there.
    pub processes: usize,
    /// The other routers that are there.
    pub routers: usize,
    /// The most processes at one time.
    pub most_processes: usize,
    /// The processes that came, each time that they did.
    pub came: u64,
    /// The processes that left.
    pub left: u64,
    /// The processes and routers that came while there was no room to count them.
    pub left_out: u64,
    /// The changes that [`LanRouter::changed`] did not return, because too many waited.
    pub untold: u64,
}

#[derive(Default)]
struct Seen {
    nodes: HashSet<LanNode>,
    account: LanRouterAccount,
}

impl Seen {
    /// Counts a change. Returns whether it is one.
    fn note(&mut self, change: &LanChange) -> bool {
        let LanChange { who, is_there } = change;
        let account = &mut self.account;
        if *is_there && !self.nodes.contains(who) && self.nodes.len() >= MAX_NODES {
            account.left_out += 1;
            return false;
        }
        let is_change = if *is_there { self.nodes.insert(who.clone()) } else { self.nodes.remove(who) };
        if !is_change {
            return false;
        }
        match (who, is_there) {
            (LanNode::Process { .. }, true) => {
                account.came += 1;
                account.processes += 1;
                account.most_processes = account.most_processes.max(account.processes);
            }
            (LanNode::Process { .. }, false) => {
                account.left += 1;
                account.processes -= 1;
            }
            (LanNode::Router { .. }, true) => account.routers += 1,
            (LanNode::Router { .. }, false) => account.routers -= 1,
        }
        true
    }
}

/// A router, which connects networks that multicast does not cross. It needs no secret, and can read nothing.
pub struct LanRouter {
    listen: Vec<String>,
    seen: Arc<Mutex<Seen>>,
    changes: mpsc::Receiver<LanChange>,
    /// Questions for the number of processes and routers that are connected. It ends when this is dropped.
    questions: mpsc::Sender<oneshot::Sender<(usize, usize)>>,
    ended: oneshot::Receiver<()>,
}

impl LanRouter {
    /// Listens on the endpoints of an address such as `lan:?listen=tcp/[::]:7447`, by default there, and connects to the
    /// peers and routers that it names. It ends when it is dropped.
    ///
    /// # Errors
    /// [`LanError`] if the address is not valid or cannot be listened on.
    ///
    /// # Cancel safety
    /// If cancelled before completion, nothing listens.
    pub async fn open(address: &str) -> Result<Self, LanError> {
        Self::open_as(address, None).await
    }

    /// The same over QUIC (RFC 9000, with TLS 1.3): with the certificates (PEM) of the authorities, and of this
    /// machine with its key. Both sides of a connection must show one, and nobody connects without.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    ///
    /// # Cancel safety
    /// As [`open`](Self::open).
    pub async fn open_with_certificates(
        address: &str,
        authorities: impl Into<PathBuf>,
        certificate: impl Into<PathBuf>,
        key: impl Into<PathBuf>,
    ) -> Result<Self, LanError> {
        let (authorities, certificate, key) = (authorities.into(), certificate.into(), key.into());
        Self::open_as(address, Some(&Certificates { authorities, certificate, key })).await
    }

    async fn open_as(address: &str, certificates: Option<&Certificates>) -> Result<Self, LanError> {
        let protocol = protocol_of(certificates);
        let mut address = LanAddress::read(address, protocol)?;
        if address.listen.is_empty() {
            address.listen.push(format!("{}/{LISTEN}", protocol.name()));
        }
        let is_any = |endpoint: &&String| {
            endpoint.rsplit(':').next().and_then(|port| port.parse().ok()) == Some(0_u16)
        };
        if let Some(endpoint) = address.listen.iter().find(is_any) {
            return Err(LanError::RouterPort { endpoint: endpoint.clone() });
        }
        let seen = Arc::<Mutex<Seen>>::default();
        let (sender, changes) = mpsc::channel(MAX_CHANGES);
        let on_change = {
            let seen = Arc::clone(&seen);
            move |change: LanChange| {
                let mut seen = seen.lock();
                // Under the lock, so that the changes are in order.
                if seen.note(&change) && sender.try_send(change).is_err() {
                    seen.account.untold += 1;
                }
            }
        };
        let (listen, certificates) = (address.listen.clone(), certificates.cloned());
        let (questions, mut asked) = mpsc::channel::<oneshot::Sender<_>>(1);
        let ((opened, is_open), (ends, ended)) =
            (oneshot::channel::<Result<(), LanError>>(), oneshot::channel::<()>());
        threads::on_its_own(async move {
            let opening = async {
                let net =
                    ZenohNet::open(address, Role::Router, certificates.as_ref(), Realms::none()).await?;
                let declared = net.declare_router(on_change).await?;
                Ok::<_, LanError>((net, declared))
            };
            let (net, declared) = match opening.await {
                Ok(open) => open,
                // Fails if nobody waits any more.
                Err(error) => return drop(opened.send(Err(error))),
            };
            if opened.send(Ok(())).is_ok() {
                while let Some(asker) = asked.recv().await {
                    let _ = asker.send(net.connections().await);
                }
            }
            drop(declared);
            net.close().await;
            drop((net, ends));
        })?;
        is_open.await.map_err(|_| threads::no_thread(std::io::ErrorKind::Interrupted.into()))??;
        Ok(Self { listen, seen, changes, questions, ended })
    }

    /// The endpoints on which it listens.
    #[must_use]
    pub fn listens(&self) -> &[String] {
        &self.listen
    }

    /// The number of processes and of other routers that are connected to it directly.
    ///
    /// # Cancel safety
    /// If cancelled before completion, nothing has changed.
    pub async fn connected(&self) -> (usize, usize) {
        let (asker, answer) = oneshot::channel();
        // It answers for as long as this lives.
        let _ = self.questions.send(asker).await;
        answer.await.unwrap_or_default()
    }

    /// Waits for the next process or router that comes or goes, on any network that routers connect with this one. `None` if
    /// it has ended.
    ///
    /// # Cancel safety
    /// If cancelled before completion, no change is lost.
    pub async fn changed(&mut self) -> Option<LanChange> {
        self.changes.recv().await
    }

    /// The counts so far.
    #[must_use]
    pub fn account(&self) -> LanRouterAccount {
        self.seen.lock().account
    }

    /// Ends it, and waits for that.
    ///
    /// # Cancel safety
    /// If cancelled before completion, it still ends.
    pub async fn close(self) {
        let Self { questions, ended, .. } = self;
        drop(questions);
        // An error: nothing is sent, and the other side is dropped at the end.
        let _ = ended.await;
    }
}

impl fmt::Debug for LanRouter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LanRouter")
            .field("listen", &self.listen)
            .field("account", &self.account())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comings_and_goings_add_up_and_are_bounded() {
        let mut seen = Seen::default();
        let process = |node| LanNode::Process { node, realm: "open".to_owned() };
        let mut note = |who: &LanNode, is_there| seen.note(&LanChange { who: who.clone(), is_there });
        let router = LanNode::Router { id: "7".to_owned() };
        assert!(note(&process(1), true) && note(&process(2), true) && note(&router, true));
        assert!(!note(&process(1), true), "a second time");
        assert!(note(&process(1), false) && !note(&process(1), false) && !note(&process(9), false));
        let LanRouterAccount { processes, routers, most_processes, came, left, .. } = seen.account;
        assert_eq!((processes, routers, most_processes, came, left), (1, 1, 2, 2, 1));
        for node in 100..100 + MAX_NODES as u64 {
            seen.note(&LanChange { who: process(node), is_there: true });
        }
        assert_eq!((seen.nodes.len(), seen.account.left_out), (MAX_NODES, 2));
        assert_eq!(seen.account.came, seen.account.processes as u64 + seen.account.left);
    }
}
