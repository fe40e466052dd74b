//! Why the medium of a local network cannot be used.

use std::path::PathBuf;

use aether_core::ConnectError;
use aether_core::medium::ForeignError;
use aether_seal::{SealError, SealKeysError};

/// Why a process cannot join the network. Secrets are never part of it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LanError {
    /// There is no secret, and the options do not say that this is intended.
    #[error(
        "no secret: everybody on the network could read and send everything. Set AETHER_LAN_SECRET_FILE (or AETHER_LAN_SECRET, or a file with keys) to the same secret on all machines, or allow it with lan:?insecure"
    )]
    NoSecret,
    /// The secret is too short.
    #[error("the secret has {bytes} bytes: use at least {min_bytes}, such as five random words")]
    ShortSecret {
        /// Its length.
        bytes: usize,
        /// The least length.
        min_bytes: usize,
    },
    /// The file with the secret cannot be used.
    #[error("the secret cannot be read")]
    Secret(#[from] SealKeysError),
    /// Nothing can be sealed.
    #[error(transparent)]
    Seal(#[from] SealError),
    /// The file with the secret is too long.
    #[error("{} is not a secret: it has more than 64 KiB", .path.display())]
    TooLong {
        /// The file.
        path: PathBuf,
    },
    /// The options ask for proven sources, which this medium does not have: a member passes on waves of others.
    #[error(
        "a local network does not prove who emits: leave out the signing key and the list of signers, or use a NATS server"
    )]
    Unproven,
    /// No key can be derived from the secret.
    #[error("no key can be derived from the secret: {reason}")]
    Derivation {
        /// The error of the key derivation.
        reason: String,
    },
    /// A part of the address is not known.
    #[error(
        "{part:?} is not a part of an address: use lan: or lan:?peer=HOST:PORT, with peer, router, listen, interface, multicast=off or insecure, joined by &"
    )]
    Address {
        /// The part.
        part: String,
    },
    /// An address names a router and another way.
    #[error(
        "with router= a process reaches everybody through the router: leave out {part}, or name the machine by peer= in place of the router"
    )]
    ByRouter {
        /// The other way.
        part: String,
    },
    /// A router would listen on a port that nobody knows.
    #[error(
        "a router on a free port cannot be found: {endpoint:?} needs a port that others can name, such as 7447"
    )]
    RouterPort {
        /// The endpoint.
        endpoint: String,
    },
    /// A setting that only NATS has differs from its default.
    #[error(
        "a local network has no {setting}: leave it out. Systems with different secrets do not hear each other there"
    )]
    OnlyNats {
        /// The setting.
        setting: &'static str,
    },
    /// With certificates nothing is connected without QUIC.
    #[error("{endpoint:?} is without certificates, and this process has some: use quic/, or no certificates")]
    Plain {
        /// The endpoint as given.
        endpoint: String,
    },
    /// An endpoint in the address is not valid.
    #[error(
        "{endpoint:?} is not an endpoint: use HOST:PORT, tcp/HOST:PORT or, with certificates, quic/HOST:PORT"
    )]
    Endpoint {
        /// The endpoint as given.
        endpoint: String,
    },
    /// None of the routers that the address names answers.
    #[error("no router answers at {}: start `aether lan router` there, or correct the address", .routers.join(" or "))]
    NoRouter {
        /// Their endpoints.
        routers: Vec<String>,
        /// The error of Zenoh.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The network below the medium refuses the configuration, or cannot be entered.
    #[error("the network cannot be used: {step}")]
    Network {
        /// The step that failed.
        step: &'static str,
        /// The error of the network.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

impl From<LanError> for ConnectError {
    fn from(error: LanError) -> Self {
        let is_transient = matches!(error, LanError::NoRouter { .. });
        ForeignError::new(error).transient(is_transient).into()
    }
}
