//! Nodes that come to the networks of a router, and leave them.

/// A node on the networks of a router.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum LanNode {
    /// A process.
    Process {
        /// Its number, drawn when it joined: [`LanPeer::node`](crate::LanPeer::node).
        node: u64,
        /// The id of the key of its secret, or `open`. Processes hear each other if these are equal.
        realm: String,
    },
    /// Another router.
    Router {
        /// Its number in the network of Zenoh.
        id: String,
    },
}

/// Somebody came, or went.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct LanChange {
    /// The node.
    pub who: LanNode,
    /// Whether it came.
    pub is_there: bool,
}
