//! The channels and the bus that are compared, behind one trait.
//!
//! Two kinds of delivery: each message to one of the receivers (a queue), or each message to all of them (fan-out).

mod bus;
mod queues;
mod tokio_channels;

pub(crate) use bus::{Bus, BusGroup, BusManyAtOnce};
pub(crate) use queues::{AsyncChannel, Crossfire, Flume, Kanal};
pub(crate) use tokio_channels::{Broadcast, Mpsc, MpscEach, MpscManyAtOnce};

use bytes::Bytes;
use futures::future::BoxFuture;

use crate::Error;

/// The bound of every channel and inbox.
pub(crate) const BOUND: usize = 1024;
/// The number of messages that are sent or taken at once, where that is possible.
pub(crate) const BATCH: usize = 64;

/// Senders and receivers of one channel.
pub(crate) struct Opened<S, R> {
    pub(crate) senders: Vec<S>,
    pub(crate) receivers: Vec<R>,
    /// Ends the receivers once all senders have been dropped, where that does not happen by itself.
    pub(crate) end: BoxFuture<'static, Result<(), Error>>,
}

/// A channel, or the bus.
pub(crate) trait Contestant: 'static {
    const NAME: &'static str;
    type Sender: Sender;
    type Receiver: Receiver;

    /// Opens a number of senders and receivers.
    fn open(
        senders: usize,
        receivers: usize,
    ) -> impl Future<Output = Result<Opened<Self::Sender, Self::Receiver>, Error>> + Send;
}

/// The sending half.
pub(crate) trait Sender: Send + 'static {
    /// Sends `messages` messages, each made by `make`, and waits for room.
    fn send_all(
        &mut self,
        messages: usize,
        make: impl Fn() -> Bytes + Send + Sync,
    ) -> impl Future<Output = Result<(), Error>> + Send;

    /// Sends a message unless there is no room.
    fn try_send(&mut self, message: Bytes) -> Result<bool, Error>;
}

/// The receiving half.
pub(crate) trait Receiver: Send + 'static {
    /// Passes messages to `seen` until the channel has ended. Returns how many were lost.
    fn receive_all(&mut self, seen: impl FnMut(&[u8]) + Send) -> impl Future<Output = u64> + Send;
}
