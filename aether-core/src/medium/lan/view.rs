//! What a tool sees of the network: the peers, the surroundings, and a router for several networks.

use std::fmt;
use std::sync::{Arc, OnceLock};

use tokio::sync::{mpsc, oneshot};

use super::address::LanAddress;
use super::error::LanError;
use super::net::{Net, Role};
use super::peers::LanPeer;
use super::runtime::Surroundings;
use super::shared::LanShared;
use crate::seal::SealKeys;

/// The realm of those who have no secret.
const OPEN: &str = "open";

/// The realm of a secret: the id of its key, which tells nothing about it.
pub(super) fn realm_of(keys: Option<&SealKeys>) -> String {
    let id = keys.and_then(|keys| keys.ids().find(|(_, key_use)| *key_use == crate::seal::KeyUse::Seals));
    id.map_or_else(|| OPEN.to_owned(), |(id, _)| id.to_string())
}

/// The name of this machine.
pub(super) fn machine() -> String {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname")
        .or_else(|_| std::fs::read_to_string("/etc/hostname"));
    let name = name.map(|name| name.trim().to_owned()).unwrap_or_default();
    if name.is_empty() { format!("process {}", std::process::id()) } else { name }
}

struct Filled {
    shared: Arc<LanShared>,
    realm: String,
    questions: mpsc::Sender<oneshot::Sender<Surroundings>>,
}

/// A look at the network, for tools: give it to [`LanOptions::view`](super::LanOptions::view) before connecting.
#[derive(Clone, Default)]
pub struct LanView(Arc<OnceLock<Filled>>);

/// What Zenoh sees around this process.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct LanSurroundings {
    /// The number of processes that Zenoh is connected to directly, whatever their secret.
    pub peers: usize,
    /// The number of routers.
    pub routers: usize,
    /// The number of processes with this secret, this one included.
    pub same_secret: usize,
    /// The number of processes with another secret.
    pub other_secret: usize,
    /// The number of processes without a secret, if this one has one.
    pub no_secret: usize,
}

impl LanView {
    pub(super) fn fill(
        &self,
        shared: &Arc<LanShared>,
        realm: &str,
        questions: mpsc::Sender<oneshot::Sender<Surroundings>>,
    ) {
        let _ = self.0.set(Filled { shared: Arc::clone(shared), realm: realm.to_owned(), questions });
    }

    /// The peers, by name. Empty before the medium has connected.
    #[must_use]
    pub fn peers(&self) -> Vec<LanPeer> {
        self.0.get().map(|filled| filled.shared.peers.list()).unwrap_or_default()
    }

    /// Changes whenever something may have changed. `None` before the medium has connected.
    #[must_use]
    pub fn changes(&self) -> Option<tokio::sync::watch::Receiver<u64>> {
        self.0.get().map(|filled| filled.shared.progress.subscribe())
    }

    /// What Zenoh sees around. `None` before the medium has connected and after it has ended.
    ///
    /// # Cancel safety
    /// If cancelled before completion, nothing has changed.
    pub async fn surroundings(&self) -> Option<LanSurroundings> {
        let Filled { realm, questions, .. } = self.0.get()?;
        let (asker, answer) = oneshot::channel();
        questions.send(asker).await.ok()?;
        let Surroundings { peers, routers, realms } = answer.await.ok()?;
        let mut seen = LanSurroundings { peers, routers, ..LanSurroundings::default() };
        for (other, nodes) in realms {
            match other {
                other if other == *realm => seen.same_secret += nodes,
                other if other == OPEN => seen.no_secret += nodes,
                _ => seen.other_secret += nodes,
            }
        }
        Some(seen)
    }
}

impl fmt::Debug for LanView {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LanView").field("peers", &self.peers()).finish()
    }
}

/// A router, which connects networks that multicast does not cross. It needs no secret, and can read nothing.
pub struct LanRouter {
    net: Net,
}

impl LanRouter {
    /// Listens on the endpoints of an address such as `lan:?listen=tcp/[::]:7447`, by default there, and connects to the
    /// peers and routers that it names. Needs a tokio runtime of many threads.
    ///
    /// # Errors
    /// [`LanError`] if the address is not valid or cannot be listened on.
    ///
    /// # Cancel safety
    /// If cancelled before completion, nothing listens.
    pub async fn open(address: &str) -> Result<Self, LanError> {
        let address = LanAddress::read(address)?;
        Ok(Self { net: Net::open(&address, Role::Router, None, String::new()).await? })
    }

    /// The number of processes and of other routers that are connected to it.
    ///
    /// # Cancel safety
    /// If cancelled before completion, nothing has changed.
    pub async fn connected(&self) -> (usize, usize) {
        self.net.surroundings().await
    }

    /// Ends it.
    ///
    /// # Cancel safety
    /// If cancelled before completion, it may still end.
    pub async fn close(self) {
        self.net.close().await;
    }
}

impl fmt::Debug for LanRouter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LanRouter").finish_non_exhaustive()
    }
}
