//! Why connecting to a NATS server failed, beyond what every medium can say.

use aether_core::ConnectError;
use aether_core::medium::ForeignError;
use aether_core::wave::ChannelError;
use aether_seal::{SealError, SealKeysError, SealOptionsError, SigningError};

use super::login::NatsLoginError;
use super::tls::TlsFailure;

/// Why a program cannot use NATS as it is set up; in [`ConnectError::Medium`], where [`ConnectError::of_medium`] finds it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum NatsError {
    /// The prefix cannot begin a NATS subject.
    #[error("invalid prefix")]
    Prefix(#[from] ChannelError),
    /// The prefix is reserved for the questions or the observer copies of another system.
    #[error("prefix {prefix:?} may not end in {suffix:?}: that is where the prefix {} puts {}", prefix.trim_end_matches(suffix), if *.suffix == "-ask" { "its questions" } else { "what observers see" })]
    PrefixTaken {
        /// The prefix as given.
        prefix: String,
        /// The reserved suffix.
        suffix: &'static str,
    },
    /// A file with a secret or a certificate cannot be used.
    #[error("cannot log in")]
    Login(#[from] NatsLoginError),
    /// The keys of sealed waves cannot be used.
    #[error("cannot seal")]
    Keys(#[source] SealKeysError),
    /// The key that signs, or the list of signers, cannot be used.
    #[error("cannot prove who emits")]
    Signing(#[source] SigningError),
    /// Nothing can be sealed.
    #[error(transparent)]
    Seal(SealError),
    /// Keys and CloudEvents exclude each other: consumers of CloudEvents cannot open what is sealed.
    #[error("waves cannot be sealed and be CloudEvents: use the wire format frames, or no keys")]
    SealedEvents,
    /// The TLS handshake failed.
    #[error("no TLS with {url}: {failure}")]
    Tls {
        /// The address of the server, without secrets.
        url: String,
        /// The part of the handshake that failed.
        failure: TlsFailure,
        /// The error of the broker's client.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The server refused the login.
    #[error(
        "{url} refused the login: check the user and the password, the token, the NKey or the credentials file"
    )]
    Unauthorized {
        /// The address of the server, without secrets.
        url: String,
        /// The error of the broker's client.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The server does not permit what every connection needs: an inbox of its own.
    #[error("{url} does not permit to use {subject}: allow it in the permissions of this user")]
    NotPermitted {
        /// The address of the server, without secrets.
        url: String,
        /// The subject that was refused.
        subject: String,
    },
}

impl From<SealOptionsError> for NatsError {
    fn from(error: SealOptionsError) -> Self {
        match error {
            SealOptionsError::Keys(error) => Self::Keys(error),
            SealOptionsError::Signing(error) => Self::Signing(error),
            SealOptionsError::Random(error) => Self::Seal(error),
        }
    }
}

impl From<NatsError> for ConnectError {
    fn from(error: NatsError) -> Self {
        ForeignError::new(error).into()
    }
}
