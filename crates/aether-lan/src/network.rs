//! The seam below the medium: a network that sees nodes and moves bytes between them.
//!
//! The medium has Zenoh there unless [`LanOptions::network`](super::LanOptions::network) names another one, such as a
//! simulated network. A network authenticates nobody and decides nothing.

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::future::BoxFuture;

use super::error::LanError;
use super::presence::Presence;
use super::shared::LanShared;

/// A network below the medium. Processes on it see each other by their nodes, and send each other bytes.
///
/// Everybody on it is in one network, whatever the secret; a secret still seals all messages. Everything runs as tasks of
/// the runtime that connects.
pub trait LanNetwork: fmt::Debug + Send + Sync + 'static {
    /// Enters it as a process. The session calls [`LanProcess::bring`] and [`LanProcess::show`] from then on.
    ///
    /// # Errors
    /// [`LanError::Network`] with the reason, if the process cannot enter.
    fn enter(&self, process: LanProcess) -> BoxFuture<'static, Result<Box<dyn LanSession>, LanError>>;
}

/// One process on a network. Dropped without [`close`](Self::close), it has left.
pub trait LanSession: Send + Sync + 'static {
    /// The nodes of others that are seen now.
    fn nodes(&self) -> Vec<u64>;

    /// Sends bytes to a node, in order within a lane; a lane with a lower number is more urgent and may overtake. Waits
    /// while there is no room, for seconds at most. Returns false if the session has ended.
    fn put(&self, to: u64, lane: u8, bytes: Vec<u8>) -> BoxFuture<'_, bool>;

    /// The same without waiting. Returns false, and the bytes are lost, if there is no room.
    fn offer(&self, to: u64, lane: u8, bytes: Vec<u8>) -> bool;

    /// Leaves. All bytes that were put before are still sent.
    fn close(&self) -> BoxFuture<'_, ()>;
}

/// This process, as its network sees it.
#[derive(Clone)]
pub struct LanProcess {
    shared: Arc<LanShared>,
    presence: Arc<Presence>,
}

impl LanProcess {
    pub(super) const fn new(shared: Arc<LanShared>, presence: Arc<Presence>) -> Self {
        Self { shared, presence }
    }

    /// The number of its node, drawn when it connected.
    #[must_use]
    pub fn node(&self) -> u64 {
        self.shared.node
    }

    /// Waits until there is room for what is brought. A network that does not wait for it may lose what it brings.
    ///
    /// # Cancel safety
    /// If cancelled before completion, nothing has changed.
    pub async fn room(&self) {
        self.shared.arrivals.room().await;
    }

    /// Hands over what came for it. Never waits. Without [room](Self::room), some may still be taken; the rest is lost,
    /// which the process counts when later waves arrive.
    pub fn bring(&self, bytes: Bytes) {
        self.shared.arrivals.bring(bytes);
    }

    /// The same for a thread that may block, which waits for room.
    #[cfg(feature = "zenoh")]
    pub(super) fn bring_in_place(&self, bytes: Bytes) {
        self.shared.arrivals.bring_in_place(bytes);
    }

    /// Another node has come, or gone. A hint only: a node that is not shown is a peer all the same once it introduces
    /// itself.
    pub fn show(&self, node: u64, is_there: bool) {
        if node != self.node() {
            self.presence.note_token(&self.shared, node, is_there);
        }
    }
}

impl fmt::Debug for LanProcess {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LanProcess").field("node", &self.node()).finish_non_exhaustive()
    }
}
