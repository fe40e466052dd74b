//! Connecting to a medium: connection requests, wire formats and errors.
//!
//! Used by [`Aether::connect`](crate::Aether::connect) and by the media. This module does not open connections.

use std::any::Any;
use std::fmt;
use std::sync::Arc;
use std::time::SystemTime;

use futures_util::future::BoxFuture;

use super::Medium;
use super::addresses::without_secrets;
#[cfg(feature = "nats")]
use super::confirming::Confirming;
use super::outlet::{Outlet, PathOutlet};
use crate::amplitude::Floor;
use crate::channel::ChannelError;
use crate::inbox::{Inbox, InboxOptions, InboxOptionsError, Ledger};
use crate::router::{Heard, Router};
use crate::source::Source;

/// Creates the medium for an address.
pub(crate) type Connector =
    Arc<dyn Fn(ConnectRequest) -> BoxFuture<'static, Result<Arc<dyn Medium>, ConnectError>> + Send + Sync>;

/// The input of a connector; see [`AetherBuilder::scheme`](crate::AetherBuilder::scheme).
#[derive(Clone)]
#[non_exhaustive]
pub struct ConnectRequest {
    /// The address as given, including any secrets in it.
    pub url: String,
    /// The router to which the medium delivers.
    pub router: Arc<Router>,
    /// The vibrators of this process, for service discovery.
    pub vibrators: LocalVibrators,
    pub(crate) options: MediumOptions,
    /// Adds the callback that reflects lost commands and queries.
    pub(crate) reflecting: Arc<dyn Fn(InboxOptions) -> InboxOptions + Send + Sync>,
    /// The connector that the scheme had before this one was registered.
    pub(crate) before: Option<Connector>,
    /// The place of this medium among several paths.
    pub(crate) path: Option<PathOutlet>,
}

impl ConnectRequest {
    /// The options of this type given to [`AetherBuilder::options`](crate::AetherBuilder::options), or the default
    /// ones.
    #[must_use]
    pub fn options<T: Clone + Default + Send + Sync + 'static>(&self) -> T {
        self.options.find().cloned().unwrap_or_default()
    }

    /// The outbox of the medium, which tells the sources of lost commands and queries. Where the medium is one of several
    /// [paths](crate::AetherBuilder::path), all of them share the outbox of the first one that asks for it, so a medium asks
    /// before it waits for anything.
    ///
    /// # Errors
    /// [`InboxOptionsError`] names the option that is out of range, and the allowed range.
    pub fn outlet(&self, options: InboxOptions) -> Result<Outlet, InboxOptionsError> {
        let options = (self.reflecting)(options);
        match &self.path {
            Some(path) => path.outlet(options),
            None => Ok(Outlet::new(Arc::new(Inbox::new(options)?))),
        }
    }

    /// The waves whose emitters wait until they are confirmed, of this medium or of all paths.
    #[cfg(feature = "nats")]
    pub(super) fn confirming(&self) -> Arc<Confirming> {
        self.path.as_ref().map(PathOutlet::confirming).unwrap_or_default()
    }

    /// Whether other media of this process can take over, so that a connection that does not answer should be given up
    /// within seconds.
    #[must_use]
    pub fn has_other_paths(&self) -> bool {
        self.path.is_some()
    }

    /// Connects to the medium that the scheme had before this connector was registered, either by default or by an
    /// earlier call of [`AetherBuilder::scheme`](crate::AetherBuilder::scheme). For connectors that wrap another
    /// medium.
    ///
    /// # Errors
    /// [`ConnectError::Scheme`] if the scheme had no connector before, and any error that the earlier connector
    /// returns.
    ///
    /// # Cancel safety
    /// If cancelled before completion, no connection stays open.
    pub async fn connect(mut self) -> Result<Arc<dyn Medium>, ConnectError> {
        match self.before.take() {
            Some(before) => before(self).await,
            None => {
                let scheme = self.url.split_once(':').map_or("", |(scheme, _)| scheme).to_owned();
                Err(ConnectError::Scheme { scheme, url: self.url })
            }
        }
    }
}

impl fmt::Debug for ConnectRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ConnectRequest").field("url", &without_secrets(&self.url)).finish_non_exhaustive()
    }
}

/// Options of media, at most one value of each type.
#[derive(Clone, Default)]
pub(crate) struct MediumOptions(Vec<Arc<dyn Any + Send + Sync>>);

impl MediumOptions {
    pub(crate) fn insert<T: Send + Sync + 'static>(&mut self, options: T) {
        self.0.retain(|other| !other.is::<T>());
        self.0.push(Arc::new(options));
    }

    fn find<T: 'static>(&self) -> Option<&T> {
        self.0.iter().find_map(|options| options.downcast_ref())
    }
}

impl fmt::Debug for MediumOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MediumOptions").field("types", &self.0.len()).finish_non_exhaustive()
    }
}

/// A vibrator of this process that appears in rosters: it has at least one pattern and is neither an observer nor
/// unlisted.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct LocalVibrator {
    /// Its name and instance.
    pub vibrator: Source,
    /// The patterns that it hears.
    pub heard: Vec<Heard>,
    /// The current floor below which it hears nothing.
    pub effective_floor: Floor,
    /// The time of its creation.
    pub made_at: SystemTime,
    /// The account of its inbox.
    pub ledger: Ledger,
}

/// Lists the vibrators of this process, for answering service discovery requests.
#[derive(Clone)]
pub struct LocalVibrators(Arc<dyn Fn() -> Option<Vec<LocalVibrator>> + Send + Sync>);

impl LocalVibrators {
    pub(crate) fn new(list: impl Fn() -> Option<Vec<LocalVibrator>> + Send + Sync + 'static) -> Self {
        Self(Arc::new(list))
    }

    /// The current vibrators; `None` once the [`Aether`](crate::Aether) has been dropped.
    #[must_use]
    pub fn list(&self) -> Option<Vec<LocalVibrator>> {
        (self.0)()
    }
}

impl fmt::Debug for LocalVibrators {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LocalVibrators").finish_non_exhaustive()
    }
}

/// The wire format of waves on a network.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum Wire {
    /// Aether's own frames, with many waves in one message. The default.
    #[default]
    Frames,
    /// CloudEvents 1.0 in binary mode: one wave per message, with its attributes in headers. For consumers that do not
    /// support Aether frames. Vibrators read both formats. Cost: each wave needs a message with headers of its own,
    /// whereas waves in frames share one message.
    CloudEvents,
}

impl Wire {
    /// The lower-case name: `frames` or `cloudevents`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Frames => "frames",
            Self::CloudEvents => "cloudevents",
        }
    }
}

/// The error for text that is not the name of a wire format.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{given:?} is not a wire format: use frames or cloudevents")]
pub struct WireError {
    given: String,
}

impl std::str::FromStr for Wire {
    type Err = WireError;
    fn from_str(text: &str) -> Result<Self, WireError> {
        match text {
            "frames" => Ok(Self::Frames),
            "cloudevents" => Ok(Self::CloudEvents),
            _ => Err(WireError { given: text.to_owned() }),
        }
    }
}

/// The reason why connecting to a medium failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConnectError {
    /// The address is not a URL.
    #[error("{url:?} is not a medium: use local: or nats://host:port, or lan: where it is built in")]
    Url {
        /// The address as given.
        url: String,
    },
    /// No medium has this scheme.
    #[error(
        "{scheme:?} in {url:?} is not a medium: use local:, nats:// or tls://, or lan: where it is built in"
    )]
    Scheme {
        /// The scheme.
        scheme: String,
        /// The address as given.
        url: String,
    },
    /// This program was built without the medium.
    #[error("{url:?} needs the feature {feature:?} of aether-core, which this program was built without")]
    Feature {
        /// The address as given.
        url: String,
        /// The missing feature.
        feature: &'static str,
    },
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
    /// The bounds of the outbox are invalid.
    #[error("invalid outbox")]
    Outbox(#[from] InboxOptionsError),
    /// A file with a secret or a certificate cannot be used.
    #[cfg(feature = "nats")]
    #[error("cannot log in")]
    Login(#[from] super::NatsLoginError),
    /// The keys of sealed waves cannot be used.
    #[cfg(feature = "seal")]
    #[error("cannot seal")]
    Keys(#[from] crate::seal::SealKeysError),
    /// The key that signs, or the list of signers, cannot be used.
    #[cfg(feature = "seal")]
    #[error("cannot prove who emits")]
    Signing(#[source] crate::seal::SigningError),
    /// Nothing can be sealed.
    #[cfg(feature = "seal")]
    #[error(transparent)]
    Seal(#[from] crate::seal::SealError),
    /// Keys and CloudEvents exclude each other: consumers of CloudEvents cannot open what is sealed.
    #[cfg(feature = "seal")]
    #[error("waves cannot be sealed and be CloudEvents: use the wire format frames, or no keys")]
    SealedEvents,
    /// The local network cannot be used.
    #[cfg(feature = "lan")]
    #[error("cannot join the local network")]
    Lan(#[from] super::LanError),
    /// The TLS handshake failed.
    #[cfg(feature = "nats")]
    #[error("no TLS with {url}: {failure}")]
    Tls {
        /// The address of the server.
        url: String,
        /// What failed.
        failure: super::TlsFailure,
        /// The error of the broker's client.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The server refused the login.
    #[cfg(feature = "nats")]
    #[error(
        "{url} refused the login: check the user and the password, the token, the NKey or the credentials file"
    )]
    Unauthorized {
        /// The address of the server.
        url: String,
        /// The error of the broker's client.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The server does not permit what every connection needs: an inbox of its own.
    #[cfg(feature = "nats")]
    #[error("{url} does not permit to use {subject}: allow it in the permissions of this user")]
    NotPermitted {
        /// The address of the server.
        url: String,
        /// The subject that was refused.
        subject: String,
    },
    /// The server did not respond, or refused the connection.
    #[error("cannot connect to {url}: is a server running there?")]
    Unreachable {
        /// The address of the server.
        url: String,
        /// Whether connecting may succeed later: nothing responded at the address, and nothing refused the connection.
        is_transient: bool,
        /// The error of the broker's client.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The paths cannot be used.
    #[error(transparent)]
    Path(#[from] super::PathError),
    /// What is to be around the medium cannot be used.
    #[error("the {layer} of this program cannot be used")]
    Layer {
        /// What it is, such as a durable log.
        layer: &'static str,
        /// Why.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

#[cfg(feature = "seal")]
impl From<crate::seal::SealOptionsError> for ConnectError {
    fn from(error: crate::seal::SealOptionsError) -> Self {
        use crate::seal::SealOptionsError::{Keys, Random, Signing};
        match error {
            Keys(error) => Self::Keys(error),
            Signing(error) => Self::Signing(error),
            Random(error) => Self::Seal(error),
        }
    }
}

impl ConnectError {
    /// Whether connecting may succeed later: nothing responded at the address, and nothing refused the connection.
    #[must_use]
    pub const fn is_transient(&self) -> bool {
        match self {
            Self::Unreachable { is_transient, .. } => *is_transient,
            #[cfg(feature = "lan")]
            Self::Lan(super::LanError::NoRouter { .. }) => true,
            _ => false,
        }
    }

    /// Removes secrets, because errors are logged and the part of an address before an `@` is a password or a token.
    pub(crate) fn without_secrets(mut self) -> Self {
        #[cfg(feature = "nats")]
        if let Self::Tls { url, .. } | Self::Unauthorized { url, .. } | Self::NotPermitted { url, .. } =
            &mut self
        {
            *url = without_secrets(url);
        }
        if let Self::Url { url }
        | Self::Scheme { url, .. }
        | Self::Feature { url, .. }
        | Self::Unreachable { url, .. } = &mut self
        {
            *url = without_secrets(url);
        }
        self
    }
}
