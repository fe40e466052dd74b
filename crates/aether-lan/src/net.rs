//! The network below the medium: Zenoh, or one of the program.

use std::sync::Arc;
#[cfg(feature = "zenoh")]
use std::time::Duration;

use super::error::LanError;
use super::lane::Lane;
use super::network::{LanNetwork, LanProcess, LanSession};
#[cfg(feature = "zenoh")]
use super::sockets::{Entrance, LanHello, ZenohNet, hellos};
use super::surroundings::LanSurroundings;

/// The way into a network.
pub(super) enum Below {
    #[cfg(feature = "zenoh")]
    Zenoh(Entrance),
    Other(Arc<dyn LanNetwork>),
}

impl Below {
    pub(super) async fn enter(self, process: LanProcess) -> Result<Net, LanError> {
        match self {
            #[cfg(feature = "zenoh")]
            Self::Zenoh(entrance) => entrance.enter(&process).await.map(|net| Net::Zenoh(Box::new(net))),
            Self::Other(network) => network.enter(process).await.map(Net::Other),
        }
    }
}

/// This process on its network.
pub(super) enum Net {
    #[cfg(feature = "zenoh")]
    Zenoh(Box<ZenohNet>),
    Other(Box<dyn LanSession>),
}

impl Net {
    /// The nodes that are seen now. This process may be among them.
    #[cfg_attr(not(feature = "zenoh"), expect(clippy::unused_async, reason = "only Zenoh is asked"))]
    pub(super) async fn nodes(&self) -> Vec<u64> {
        match self {
            #[cfg(feature = "zenoh")]
            Self::Zenoh(net) => net.nodes().await,
            Self::Other(session) => session.nodes(),
        }
    }

    #[cfg_attr(not(feature = "zenoh"), expect(clippy::unused_async, reason = "only Zenoh is asked"))]
    pub(super) async fn surroundings(&self) -> LanSurroundings {
        match self {
            #[cfg(feature = "zenoh")]
            Self::Zenoh(net) => net.surroundings().await,
            Self::Other(session) => {
                let peers = session.nodes().len();
                LanSurroundings { peers, same_secret: peers + 1, ..LanSurroundings::default() }
            }
        }
    }

    /// Sends bytes to a node, once there is room. Zenoh blocks the thread meanwhile. Returns false if the session has ended.
    /// `is_last`: nothing follows at once that could share a packet.
    #[cfg_attr(not(feature = "zenoh"), expect(unused_variables, reason = "only Zenoh has packets"))]
    pub(super) async fn put(&self, to: u64, lane: Lane, bytes: Vec<u8>, is_last: bool) -> bool {
        match self {
            #[cfg(feature = "zenoh")]
            Self::Zenoh(net) => net.put(to, lane, bytes, is_last),
            Self::Other(session) => session.put(to, lane.number(), bytes).await,
        }
    }

    /// The same for a node that takes nothing at the moment, without waiting: what finds no room is lost.
    pub(super) fn offer(&self, to: u64, lane: Lane, bytes: Vec<u8>) -> bool {
        match self {
            #[cfg(feature = "zenoh")]
            Self::Zenoh(net) => net.offer(to, lane, bytes),
            Self::Other(session) => session.offer(to, lane.number(), bytes),
        }
    }

    /// The answers by multicast. Another network has none.
    #[cfg(feature = "zenoh")]
    pub(super) async fn hellos(
        &self,
        interfaces: &[String],
        within: Duration,
    ) -> Result<Vec<LanHello>, LanError> {
        match self {
            Self::Zenoh(net) => hellos(net, interfaces, within).await,
            Self::Other(_) => Ok(Vec::new()),
        }
    }

    pub(super) async fn close(&self) {
        match self {
            #[cfg(feature = "zenoh")]
            Self::Zenoh(net) => net.close().await,
            Self::Other(session) => session.close().await,
        }
    }
}
