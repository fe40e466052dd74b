//! The interface of the suite to a medium under test. Implemented by the tests of each medium.

use bytes::Bytes;
use futures_util::future::BoxFuture;

use aether_core::{Aether, InboxOptions};

/// A step at which the harness itself failed, before the medium was reached.
#[derive(Debug, thiserror::Error)]
#[error("the harness could not {step}")]
pub struct SiteError {
    step: &'static str,
    source: Box<dyn std::error::Error + Send + Sync>,
}

impl SiteError {
    /// `step` is an infinitive such as `connect`; `source` is the reason.
    #[must_use]
    pub fn new(step: &'static str, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        Self { step, source: source.into() }
    }
}

/// Creates the media under test.
pub trait Harness: Send + Sync {
    /// A fresh, unshared medium for one case. It ends when dropped.
    fn site(&self) -> BoxFuture<'_, Result<Box<dyn Site>, SiteError>>;
}

/// One isolated medium: a broker of its own, a name space of its own on a broker, or this process.
pub trait Site: Send + Sync {
    /// A connected [`Aether`]. A medium that crosses processes creates another one each time, all of them connected
    /// with each other; a medium that does not returns clones of the same. `outbox` bounds the waves waiting to be
    /// sent; a medium without an outbox ignores it.
    fn connect(&self, outbox: InboxOptions) -> BoxFuture<'_, Result<Aether, SiteError>>;

    /// A way to cut the connections, if there is one.
    fn link(&self) -> Option<&dyn Link> {
        None
    }

    /// A client of the same broker that does not know Aether, if there is a broker.
    fn foreign(&self) -> Option<&dyn Foreign> {
        None
    }
}

/// The connections between the [`Aether`]s of a site and their broker or peers.
pub trait Link: Send + Sync {
    /// Cuts all connections and prevents new ones. Returns once the other end has dropped each connection, so that
    /// nothing emitted afterwards can be on an old connection.
    fn cut(&self) -> BoxFuture<'_, Result<(), SiteError>>;

    /// Allows connections again. Need not wait for them; where [`holds_waves`](Self::holds_waves) is false, it returns
    /// once all are there.
    fn mend(&self) -> BoxFuture<'_, Result<(), SiteError>>;

    /// Whether waves wait in the outbox while the connections are cut. False for a medium without a broker: what a process
    /// sends to itself needs no connection, and nobody else is there. Default: true.
    fn holds_waves(&self) -> bool {
        true
    }
}

/// A message as seen by a client that does not know Aether.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ForeignMessage {
    /// Names and values.
    pub headers: Vec<(String, String)>,
    /// The raw body.
    pub payload: Bytes,
}

/// A client of the broker that does not know Aether.
pub trait Foreign: Send + Sync {
    /// Publishes a message to where waves of this channel go. Returns once the broker has it.
    fn publish(&self, channel: &str, message: ForeignMessage) -> BoxFuture<'_, Result<(), SiteError>>;

    /// Sends a request to where questions of this channel go, and waits for the answer as the broker delivers it.
    fn request(
        &self,
        channel: &str,
        message: ForeignMessage,
    ) -> BoxFuture<'_, Result<ForeignMessage, SiteError>>;
}
