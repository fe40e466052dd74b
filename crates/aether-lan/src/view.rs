//! The network as a tool sees it: the peers, how far they are, and what is around.

use std::fmt;
use std::sync::atomic::Ordering;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};

use super::address::LanAddress;
use super::counts::Counts;
#[cfg(feature = "zenoh")]
use super::error::LanError;
use super::peer::LanPeer;
use super::presence::{LanPingError, LanPong, Presence};
use super::runtime::Question;
use super::shared::LanShared;
#[cfg(feature = "zenoh")]
use super::sockets::LanHello;
use super::surroundings::LanSurroundings;

/// The name of this machine.
pub(super) fn machine() -> String {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname")
        .or_else(|_| std::fs::read_to_string("/etc/hostname"));
    let name = name.map(|name| name.trim().to_owned()).unwrap_or_default();
    if name.is_empty() { format!("process {}", std::process::id()) } else { name }
}

/// The parts of the medium that a view looks at.
pub(super) struct Filled {
    pub(super) shared: Arc<LanShared>,
    pub(super) presence: Arc<Presence>,
    pub(super) counts: Arc<Counts>,
    pub(super) address: LanAddress,
    pub(super) questions: mpsc::Sender<Question>,
}

/// A look at the network, for tools: give it to [`LanOptions::view`](super::LanOptions::view) before connecting.
#[derive(Clone, Default)]
pub struct LanView(Arc<OnceLock<Filled>>);

/// Where a process listens, and how it looks for others, by its address.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct LanEndpoints {
    /// The endpoints that it connects to, such as `tcp/192.168.1.20:7447`.
    pub connect: Vec<String>,
    /// Whether they are routers. Then it connects to one of them and listens nowhere.
    pub by_router: bool,
    /// The endpoints on which it listens. Empty: any free TCP port of all interfaces.
    pub listen: Vec<String>,
    /// Whether it looks for others by multicast, at 224.0.0.224 and UDP port 7446.
    pub multicast: bool,
    /// The only interface on which it does, if there is one.
    pub interface: Option<String>,
}

impl LanView {
    /// Only the first medium counts.
    pub(super) fn fill(&self, filled: Filled) {
        let _ = self.0.set(filled);
    }

    /// The peers, by name. Empty before the medium has connected.
    #[must_use]
    pub fn peers(&self) -> Vec<LanPeer> {
        self.0.get().map(|filled| filled.shared.peers.list()).unwrap_or_default()
    }

    /// Changes whenever something may have changed. `None` before the medium has connected.
    #[must_use]
    pub fn changes(&self) -> Option<tokio::sync::watch::Receiver<u64>> {
        self.0.get().map(|filled| filled.shared.seen.subscribe())
    }

    /// The surroundings as Zenoh sees them. `None` before the medium has connected and after it has ended.
    ///
    /// # Cancel safety
    /// If cancelled before completion, nothing has changed.
    pub async fn surroundings(&self) -> Option<LanSurroundings> {
        let Filled { questions, counts, .. } = self.0.get()?;
        let (asker, answer) = oneshot::channel();
        questions.send(Question::Surroundings(asker)).await.ok()?;
        let other_version = counts.other_version.load(Ordering::Relaxed);
        Some(LanSurroundings { other_version, ..answer.await.ok()? })
    }

    /// The settings in the address of this process. `None` before the medium has connected.
    #[must_use]
    pub fn endpoints(&self) -> Option<LanEndpoints> {
        let address = &self.0.get()?.address;
        let LanAddress { listen, interface, no_multicast, .. } = address;
        Some(LanEndpoints {
            connect: address.connect(),
            by_router: address.is_by_router(),
            listen: listen.clone(),
            multicast: !no_multicast,
            interface: interface.clone(),
        })
    }

    /// Measures the way to a peer and back, by a message that goes past the waves and is answered at once. The other process
    /// counts it nowhere.
    ///
    /// # Errors
    /// [`LanPingError::Lost`] if no answer came in time; see there for others.
    ///
    /// # Cancel safety
    /// If cancelled before completion, the message may have been sent. Its answer is ignored.
    pub async fn ping(&self, node: u64, within: Duration) -> Result<LanPong, LanPingError> {
        let Filled { shared, presence, .. } = self.0.get().ok_or(LanPingError::NotConnected)?;
        presence.ping(shared, node, within).await
    }

    /// Asks by multicast who is there, on each of these interfaces (names or addresses), at most 16, and collects
    /// answers for a time. This process answers, too, if its question comes back to this machine. At most 256 answers
    /// are kept for each interface. The address of this process does not matter, not even if it has `multicast=off`;
    /// then this process does not answer. `None` before the medium has connected and after it has ended.
    ///
    /// # Errors
    /// [`LanError::Network`] if it cannot be asked.
    ///
    /// # Cancel safety
    /// If cancelled before completion, asking goes on for the rest of the time, and the next question waits for it.
    #[cfg(feature = "zenoh")]
    pub async fn hellos(
        &self,
        interfaces: &[String],
        within: Duration,
    ) -> Option<Result<Vec<LanHello>, LanError>> {
        let (asker, answer) = oneshot::channel();
        let interfaces = interfaces.to_vec();
        self.0.get()?.questions.send(Question::Hellos { interfaces, within, asker }).await.ok()?;
        answer.await.ok()
    }
}

impl fmt::Debug for LanView {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LanView").field("peers", &self.peers()).finish()
    }
}
