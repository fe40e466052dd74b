//! What is around a process on its network.

/// The surroundings of this process, as Zenoh sees them. Of more than 8192 processes, and of more than 256 secrets, the
/// rest is not seen.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct LanSurroundings {
    /// The number of processes that Zenoh is connected to directly, whatever their secret.
    pub peers: usize,
    /// The number of routers.
    pub routers: usize,
    /// The number of processes with this secret, or with one of the keys, this one included.
    pub same_secret: usize,
    /// The number of processes with another secret.
    pub other_secret: usize,
    /// The number of processes without a secret, if this one has one.
    pub no_secret: usize,
    /// The number of messages with this secret that are of another version of the protocol.
    pub other_version: u64,
}
