//! What the suite needs of a medium under test. Implemented by the tests of each medium.

use bytes::Bytes;
use futures_util::future::BoxFuture;

use crate::aether::Aether;
use crate::inbox::InboxOptions;

/// A step that the harness itself failed at: the medium was not even reached.
#[derive(Debug, thiserror::Error)]
#[error("the harness could not {step}")]
pub struct SiteError {
    step: &'static str,
    source: Box<dyn std::error::Error + Send + Sync>,
}

impl SiteError {
    /// What could not be done, as an infinitive such as `connect`, and why.
    #[must_use]
    pub fn new(step: &'static str, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        Self { step, source: source.into() }
    }
}

/// Makes media to be tested.
pub trait Harness: Send + Sync {
    /// A medium that nobody else uses; each case asks for one. It ends when it is dropped.
    fn site(&self) -> BoxFuture<'_, Result<Box<dyn Site>, SiteError>>;
}

/// One medium: a broker of its own, or a name space of its own on a broker, or this process.
pub trait Site: Send + Sync {
    /// A connected [`Aether`]. A medium that crosses processes makes another one each time, all of which hear each
    /// other; one that does not hands out clones of the same. `outbox` bounds what waits to be sent; a medium that
    /// has no outbox ignores it.
    fn connect(&self, outbox: InboxOptions) -> BoxFuture<'_, Result<Aether, SiteError>>;

    /// The means to break the connections, if there are any.
    fn link(&self) -> Option<&dyn Link> {
        None
    }

    /// A client of the same broker that does not know Aether, if there is a broker.
    fn foreign(&self) -> Option<&dyn Foreign> {
        None
    }
}

/// The connections between the [`Aether`]s of a site and what they are connected to.
pub trait Link: Send + Sync {
    /// Breaks all connections and lets none be made. Returns once the other end of each connection has let go of it,
    /// so that nothing emitted afterwards can be on a connection that is no more.
    fn cut(&self) -> BoxFuture<'_, Result<(), SiteError>>;

    /// Lets connections be made again. Does not wait until they are.
    fn mend(&self) -> BoxFuture<'_, Result<(), SiteError>>;
}

/// A message as a client sees it that does not know Aether.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ForeignMessage {
    /// Names and values.
    pub headers: Vec<(String, String)>,
    /// The body, as it is.
    pub payload: Bytes,
}

/// A client of the broker that does not know Aether.
pub trait Foreign: Send + Sync {
    /// Publishes a message where waves of this channel go. Returns once the broker has it.
    fn publish(&self, channel: &str, message: ForeignMessage) -> BoxFuture<'_, Result<(), SiteError>>;

    /// Sends a request where questions of this channel go, and waits for the answer as the broker hands it over.
    fn request(
        &self,
        channel: &str,
        message: ForeignMessage,
    ) -> BoxFuture<'_, Result<ForeignMessage, SiteError>>;
}
