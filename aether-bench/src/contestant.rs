//! The contestants: what carries the messages of a run from the sender to the handler.
//!
//! Each has a file with its two ends; runs are made by `run.rs`, which knows none of them. The peers are as their users
//! have them: tokio's channels bounded at 1024, async-nats with its default subscription.

mod aether;
mod async_nats;
mod broadcast;
mod mpsc;
mod two_mpsc;

use aether_core::{Aether, ConnectError, InboxOptions, NatsOptions, Wire, medium::WireError};
use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::payload::Load;
use crate::schedule::Strength;

pub(crate) use self::aether::{AetherReceiver, AetherSender};
pub(crate) use self::async_nats::{NatsReceiver, NatsSender};
pub(crate) use self::broadcast::broadcast;
pub(crate) use self::mpsc::mpsc;
pub(crate) use self::two_mpsc::two_mpsc;

/// How many messages wait in a channel of tokio, and in the inbox of Aether under overload.
pub(crate) const BOUND: usize = 1024;

/// The sender's end.
pub(crate) trait Offer: Send + 'static {
    /// Offers one message, at once; called from a thread that may block. What is refused is counted.
    fn offer(&mut self, payload: Bytes, strength: Strength);

    /// Lets the receiver know that there is no more, and says whether that has left. Over a network it is called until
    /// the receiver has said that it knows.
    fn end(&mut self) -> impl Future<Output = bool> + Send;
}

/// The receiver's end.
pub(crate) trait Hear: Send + 'static {
    /// The next message, or `None` after the last one.
    fn next(&mut self) -> impl Future<Output = Option<Load>> + Send;

    /// How many it missed, where it is told a number only.
    fn lagged(&self) -> u64 {
        0
    }
}

/// Where Aether runs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Address {
    /// `local:` or `nats://host:port`.
    pub url: String,
    /// What stands before each channel in a subject.
    pub prefix: String,
    /// How waves are written, by name.
    wire: String,
}

impl Address {
    /// In this process, or on a NATS server.
    #[must_use]
    pub fn new(url: &str, prefix: &str, wire: Wire) -> Self {
        Self { url: url.to_owned(), prefix: prefix.to_owned(), wire: wire.as_str().to_owned() }
    }

    /// Inside this process.
    #[must_use]
    pub fn local() -> Self {
        Self::new("local:", "aether", Wire::Frames)
    }

    /// On a NATS server, as usual.
    #[must_use]
    pub fn nats(url: &str) -> Self {
        Self::new(url, "aether", Wire::Frames)
    }

    /// Connects, with an outbox of one's own.
    pub(crate) async fn connect(&self, outbox: InboxOptions) -> Result<Aether, ContestantError> {
        let options = NatsOptions::default()
            .prefix(&self.prefix)
            .wire(self.wire.parse()?)
            .client_name("aether-bench")
            .outbox(outbox);
        Ok(Aether::builder().url(&self.url).nats(options).connect().await?)
    }
}

/// How the inbox of Aether's receiver is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Profile {
    /// [`InboxOptions::overload`]: 1024 waves, 20 ms, sheds at once.
    Overload,
    /// [`InboxOptions::interactive`], the default: 65,536 waves.
    Interactive,
}

impl Profile {
    pub(crate) fn inbox(self) -> InboxOptions {
        match self {
            Self::Overload => InboxOptions::overload().max_waves(BOUND),
            Self::Interactive => InboxOptions::interactive(),
        }
    }
}

/// What carries the messages.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Contestant {
    /// tokio's mpsc channel, bounded, `try_send`: drops the newest.
    Mpsc,
    /// Two of them, one for the strong messages, received by a biased `select!`.
    TwoMpsc,
    /// tokio's broadcast channel: drops the oldest, tells how many.
    Broadcast,
    /// async-nats with its default subscription: drops what its client has no room for.
    AsyncNats {
        /// The server.
        url: String,
    },
    /// Aether.
    Aether {
        /// Where.
        address: Address,
        /// The receiver's inbox.
        profile: Profile,
    },
}

impl Contestant {
    /// As it stands in tables.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Mpsc => "tokio mpsc",
            Self::TwoMpsc => "two tokio mpsc, strong first",
            Self::Broadcast => "tokio broadcast",
            Self::AsyncNats { .. } => "async-nats",
            Self::Aether { .. } if self.crosses_processes() => "Aether over NATS",
            Self::Aether { .. } => "Aether",
        }
    }

    /// Whether sender and receiver are two processes.
    #[must_use]
    pub fn crosses_processes(&self) -> bool {
        match self {
            Self::Mpsc | Self::TwoMpsc | Self::Broadcast => false,
            Self::AsyncNats { .. } => true,
            Self::Aether { address, .. } => {
                // A scheme is not case-sensitive.
                !address.url.get(..6).is_some_and(|scheme| scheme.eq_ignore_ascii_case("local:"))
            }
        }
    }
}

/// Why a contestant did not come to the start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ContestantError {
    /// Aether cannot be connected.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// No such wire format.
    #[error(transparent)]
    Wire(#[from] WireError),
    /// No such vibrator.
    #[error("no vibrator")]
    Create(#[from] aether_core::CreateError),
    /// Not tuned.
    #[error("nothing can be heard")]
    Join(#[from] aether_core::JoinError),
    /// async-nats cannot be connected.
    #[error("cannot connect to {url}: is a NATS server running there?")]
    Nats {
        /// Where.
        url: String,
        /// What the client says.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}
