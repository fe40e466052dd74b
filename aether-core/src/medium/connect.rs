//! Connecting to a medium: connection requests, wire formats and errors.
//!
//! Used by [`AetherBuilder::connect`](crate::AetherBuilder::connect) and by the media. This module does not open
//! connections. All media are registered by their scheme in the same way, including media of other crates.

use std::any::Any;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::SystemTime;

use futures_util::future::{BoxFuture, FutureExt, ready};

use super::Medium;
use super::errors::ForeignError;
use super::local::{Local, LocalOptions};
use crate::amplitude::Floor;
use crate::inbox::{InboxOptions, InboxOptionsError, Ledger};
use crate::router::{Heard, Router};
use crate::source::Source;

/// Creates the medium for an address.
pub(crate) type Connector =
    Arc<dyn Fn(ConnectRequest) -> BoxFuture<'static, Result<Arc<dyn Medium>, ConnectError>> + Send + Sync>;

/// Finds the connector of an address.
pub(crate) type FindConnector = Arc<dyn Fn(&str) -> Result<Connector, ConnectError> + Send + Sync>;

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
    /// Finds the connector of an address.
    pub(crate) find: FindConnector,
}

impl ConnectRequest {
    /// The options of this type given to [`AetherBuilder::options`](crate::AetherBuilder::options), or the default
    /// ones.
    #[must_use]
    pub fn options<T: Clone + Default + Send + Sync + 'static>(&self) -> T {
        self.options.find().cloned().unwrap_or_default()
    }

    /// The request with options of this type, in place of others of the same type.
    #[must_use]
    pub fn with_options<T: Clone + Send + Sync + 'static>(mut self, options: T) -> Self {
        self.options.insert(options);
        self
    }

    /// The options of the medium's outbox, completed so that lost commands and queries are reported to their sources.
    #[must_use]
    pub fn reflecting(&self, options: InboxOptions) -> InboxOptions {
        (self.reflecting)(options)
    }

    /// Connects to the medium at another address, by the schemes of the same builder. For connectors that have
    /// several media.
    ///
    /// # Errors
    /// [`ConnectError::Url`] or [`ConnectError::Scheme`] if no medium has this address, and any error of its connector.
    ///
    /// # Cancel safety
    /// If cancelled before completion, no connection stays open.
    pub async fn connect_to(self, url: String) -> Result<Arc<dyn Medium>, ConnectError> {
        let connector = (self.find)(&url)?;
        connector(Self { url, before: None, ..self }).await
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
                Err(ConnectError::Scheme {
                    scheme,
                    url: self.url,
                    known: "a scheme that has a medium".to_owned(),
                })
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
#[derive(Debug, Clone, Default)]
pub(crate) struct MediumOptions(Vec<Arc<dyn Any + Send + Sync>>);

impl MediumOptions {
    pub(crate) fn insert<T: Send + Sync + 'static>(&mut self, options: T) {
        self.0.retain(|other| !other.is::<T>());
        self.0.push(Arc::new(options));
    }

    pub(crate) fn find<T: 'static>(&self) -> Option<&T> {
        self.0.iter().find_map(|options| options.downcast_ref())
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

/// The reason why connecting to a medium failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConnectError {
    /// The address is not a URL.
    #[error("{url:?} is not the address of a medium: use {known}")]
    Url {
        /// The address as given.
        url: String,
        /// The schemes that can be used, with commas between them.
        known: String,
    },
    /// No medium has this scheme.
    #[error("{scheme:?} in {url:?} is not a medium: use {known}")]
    Scheme {
        /// The scheme.
        scheme: String,
        /// The address as given.
        url: String,
        /// The schemes that can be used, with commas between them.
        known: String,
    },
    /// This program was built without the medium.
    #[error("{url:?} needs the feature {feature:?} of Aether, which this program was built without")]
    Feature {
        /// The address as given.
        url: String,
        /// The missing feature.
        feature: &'static str,
    },
    /// The bounds of the outbox are invalid.
    #[error("invalid outbox")]
    Outbox(#[from] InboxOptionsError),
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
    /// The medium refuses its address or its options, or the server refuses this program. The text is the text
    /// of the medium's own error, which [`ConnectError::of_medium`] finds by its type.
    #[error(transparent)]
    Medium(#[from] ForeignError),
    /// A layer around the medium cannot be used.
    #[error("the {layer} of this program cannot be used")]
    Layer {
        /// The layer, such as a durable log.
        layer: &'static str,
        /// Why.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

impl ConnectError {
    /// Whether connecting may succeed later: nothing responded at the address, and nothing refused the connection.
    #[must_use]
    pub const fn is_transient(&self) -> bool {
        match self {
            Self::Unreachable { is_transient, .. } => *is_transient,
            Self::Medium(error) => error.is_transient(),
            _ => false,
        }
    }

    /// The medium's own error, if it has this type.
    #[must_use]
    pub fn of_medium<E: std::error::Error + 'static>(&self) -> Option<&E> {
        match self {
            Self::Medium(error) => error.downcast_ref(),
            _ => None,
        }
    }

    /// Removes secrets, because errors are logged and the part of an address before an `@` is a password or a token.
    /// Media do so in errors of their own.
    #[must_use]
    pub fn without_secrets(mut self) -> Self {
        if let Self::Url { url, .. }
        | Self::Scheme { url, .. }
        | Self::Feature { url, .. }
        | Self::Unreachable { url, .. } = &mut self
        {
            *url = without_secrets(url);
        }
        self
    }
}

/// The addresses in a text: the parts between blanks if there are several, or else the text as it is.
#[must_use]
pub fn addresses_in(text: &str) -> Vec<&str> {
    let several: Vec<_> = text.split_whitespace().collect();
    if several.len() > 1 { several } else { vec![text] }
}

/// The address of a medium, or several separated by commas or spaces, without the password or token before an `@`. Safe to
/// display.
///
/// ```
/// use aether_core::medium::without_secrets;
///
/// assert_eq!(without_secrets("nats://shop:secret@a:4222"), "nats://***@a:4222");
/// assert_eq!(without_secrets("lan: nats://token@a,nats://b"), "lan: nats://***@a,nats://b");
/// assert_eq!(without_secrets("nats://shop:se,cret@a, nats://b"), "nats://***@a, nats://b");
/// ```
#[must_use]
pub fn without_secrets(addresses: &str) -> String {
    // A password may have a comma or a space, so an address ends only where the next one begins.
    let mut parts: Vec<String> = Vec::new();
    for part in addresses.split_inclusive([',', ' ']) {
        match parts.last_mut() {
            Some(address) if !part.contains("://") && address.contains("://") => address.push_str(part),
            _ => parts.push(part.to_owned()),
        }
    }
    let shown = parts.into_iter().map(|address| {
        let (scheme, rest) = address.find("://").map_or(("", &*address), |at| address.split_at(at + 3));
        rest.rsplit_once('@').map_or_else(|| address.clone(), |(_, host)| format!("{scheme}***@{host}"))
    });
    shown.collect()
}

/// The wire format of waves on a network.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
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

/// The scheme of the connector for several addresses. No address has it, because a scheme has no blank.
pub(crate) const SEVERAL: &str = "several addresses";

/// The connectors, keyed by the lower-case scheme of their addresses.
#[derive(Clone)]
pub(crate) struct Schemes(BTreeMap<String, Connector>);

impl Default for Schemes {
    fn default() -> Self {
        let mut schemes = Self(BTreeMap::new());
        schemes.register("local", |request| {
            let options = request.options::<LocalOptions>();
            let local: Arc<dyn Medium> = Arc::new(Local::new(request.router, &options));
            ready(Ok(local))
        });
        schemes
    }
}

impl Schemes {
    /// Registers a connector. [`ConnectRequest::connect`] calls the connector that the scheme had before.
    pub(crate) fn register<F>(
        &mut self,
        scheme: &str,
        connect: impl Fn(ConnectRequest) -> F + Send + Sync + 'static,
    ) where
        F: Future<Output = Result<Arc<dyn Medium>, ConnectError>> + Send + 'static,
    {
        let scheme = scheme.to_ascii_lowercase();
        let before = self.0.remove(&scheme);
        let connector: Connector = Arc::new(move |request: ConnectRequest| -> BoxFuture<'static, _> {
            connect(ConnectRequest { before: before.clone(), ..request }).boxed()
        });
        self.0.insert(scheme, connector);
    }

    /// Returns the connector for an address.
    pub(crate) fn find(&self, url: &str) -> Result<&Connector, ConnectError> {
        let scheme = url.split_once(':').map(|(scheme, _)| scheme.to_ascii_lowercase());
        scheme.and_then(|scheme| self.0.get(&scheme)).ok_or_else(|| self.unknown(url))
    }

    /// Returns the connector for several addresses.
    pub(crate) fn find_several(&self, url: &str) -> Result<&Connector, ConnectError> {
        self.0.get(SEVERAL).ok_or_else(|| self.unknown(url))
    }

    /// The error for an address that no medium has.
    fn unknown(&self, url: &str) -> ConnectError {
        let mut known: Vec<_> =
            self.0.keys().filter(|scheme| *scheme != SEVERAL).map(|scheme| format!("{scheme}:")).collect();
        known.sort_unstable();
        let (known, url) = (known.join(", "), url.to_owned());
        match url.split_once(':') {
            Some((scheme, _)) => ConnectError::Scheme { scheme: scheme.to_ascii_lowercase(), url, known },
            None => ConnectError::Url { url, known },
        }
    }
}

impl fmt::Debug for Schemes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

/// Puts a medium around another one.
pub(crate) type Layer = Arc<dyn Fn(Arc<dyn Medium>) -> Arc<dyn Medium> + Send + Sync>;
