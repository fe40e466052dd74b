//! The contestants: the transports that carry the messages of a run from the sender to the handler.
//!
//! Each has a file with its two ends; `run.rs` makes runs without depending on any of them. The peers use common
//! settings: tokio's channels bounded at 1024, async-nats with its default subscription.

mod async_nats;
mod broadcast;
mod bus;
mod mpsc;
mod two_mpsc;

use std::path::PathBuf;

use aether::nats::{NatsOptions, Wire, WireError};
use aether_core::{Aether, ConnectError, InboxOptions};
use aether_service::MediumArgs;
use aether_service::config::{CertificateFiles, LoginFile};
use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::payload::Load;
use crate::schedule::Strength;

pub(crate) use self::async_nats::{NatsReceiver, NatsSender};
pub(crate) use self::broadcast::broadcast;
pub(crate) use self::bus::{AetherReceiver, AetherSender};
pub(crate) use self::mpsc::mpsc;
pub(crate) use self::two_mpsc::two_mpsc;

/// The capacity of tokio's channels, and of Aether's inbox under overload.
pub(crate) const BOUND: usize = 1024;

/// The sender's end.
pub(crate) trait Offer: Send + 'static {
    /// Offers one message at once and counts refusals. Called from a thread that may block.
    fn offer(&mut self, payload: Bytes, strength: Strength);

    /// Sends the end marker, and returns whether it was sent. Over a network it is repeated until the receiver confirms
    /// it.
    fn end(&mut self) -> impl Future<Output = bool> + Send;
}

/// The receiver's end.
pub(crate) trait Hear: Send + 'static {
    /// The next message, or `None` after the last one.
    fn next(&mut self) -> impl Future<Output = Option<Load>> + Send;

    /// The number of missed messages, for a transport that reports only a number.
    fn lagged(&self) -> u64 {
        0
    }
}

/// The medium of Aether.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Address {
    /// `local:` or `nats://host:port`.
    pub url: String,
    /// The subject prefix of all channels.
    pub prefix: String,
    /// The name of the wire format.
    wire: String,
    /// The file with the secret of the program.
    login: Option<LoginFile>,
    /// The authorities that are trusted.
    ca: Option<PathBuf>,
    /// The certificate of the program.
    certificate: Option<CertificateFiles>,
    /// The file with the keys of sealed waves.
    keys: Option<PathBuf>,
}

/// Runs sign nothing.
impl From<&MediumArgs> for Address {
    fn from(args: &MediumArgs) -> Self {
        let MediumArgs { login, ca, certificate, keys, .. } = args.clone();
        Self { login, ca, certificate, keys, ..Self::new(&args.medium, &args.prefix, args.wire) }
    }
}

impl Address {
    /// Makes an address of this process or of a NATS server.
    #[must_use]
    pub fn new(url: &str, prefix: &str, wire: Wire) -> Self {
        Self {
            url: url.to_owned(),
            prefix: prefix.to_owned(),
            wire: wire.as_str().to_owned(),
            login: None,
            ca: None,
            certificate: None,
            keys: None,
        }
    }

    /// Inside this process.
    #[must_use]
    pub fn local() -> Self {
        Self::new("local:", "aether", Wire::Frames)
    }

    /// On a NATS server with default settings.
    #[must_use]
    pub fn nats(url: &str) -> Self {
        Self::new(url, "aether", Wire::Frames)
    }

    /// Connects with the given outbox.
    pub(crate) async fn connect(&self, outbox: InboxOptions) -> Result<Aether, ContestantError> {
        let mut options = NatsOptions::default()
            .prefix(&self.prefix)
            .wire(self.wire.parse()?)
            .client_name("aether-bench")
            .outbox(outbox);
        if let Some(login) = &self.login {
            options = options.login(login.clone().into());
        }
        if let Some(ca) = &self.ca {
            options = options.authorities(ca);
        }
        if let Some(CertificateFiles { certificate, key }) = &self.certificate {
            options = options.certificate(certificate, key);
        }
        if let Some(keys) = &self.keys {
            options = options.keys(keys);
        }
        Ok(aether::builder().url(&self.url).options(options).connect().await?)
    }
}

/// The inbox profile of Aether's receiver.
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

/// The transport of the messages.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Contestant {
    /// tokio's mpsc channel, bounded, `try_send`: drops the newest.
    Mpsc,
    /// Two mpsc channels, one for strong messages, received with a biased `select!`.
    TwoMpsc,
    /// tokio's broadcast channel: drops the oldest and reports how many.
    Broadcast,
    /// async-nats with its default subscription: drops messages when its client is full.
    AsyncNats {
        /// The server.
        url: String,
    },
    /// Aether.
    Aether {
        /// Where.
        address: Address,
        /// The profile of the receiver's inbox.
        profile: Profile,
    },
}

impl Contestant {
    /// The name in tables.
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

/// Why a contestant could not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ContestantError {
    /// Aether cannot connect.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// The wire format does not exist.
    #[error(transparent)]
    Wire(#[from] WireError),
    /// The vibrator could not be created.
    #[error("the vibrator could not be created")]
    Create(#[from] aether_core::CreateError),
    /// Subscribing failed.
    #[error("cannot subscribe")]
    Join(#[from] aether_core::JoinError),
    /// async-nats cannot connect.
    #[error("cannot connect to {url}: is a NATS server running there?")]
    Nats {
        /// Where.
        url: String,
        /// The error of the client.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}
