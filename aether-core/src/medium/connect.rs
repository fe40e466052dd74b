//! Connecting to a medium: connection requests, wire formats and errors.
//!
//! Used by [`AetherBuilder::connect`](crate::AetherBuilder::connect) and by the media. This module does not open connections.

use std::any::Any;
use std::fmt;
use std::sync::Arc;
use std::time::SystemTime;

use futures_util::future::BoxFuture;

use super::Medium;
use super::addresses::without_secrets;
use super::foreign_error::ForeignError;
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

    /// The options of the medium's outbox, completed so that the sources of lost commands and queries are told.
    #[must_use]
    pub fn reflecting(&self, options: InboxOptions) -> InboxOptions {
        (self.reflecting)(options)
    }

    /// Connects to the medium at another address, by the schemes of the same builder. For connectors that have several media.
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
#[derive(Clone, Default)]
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
    /// The medium refuses its address or its options, or the server refuses this program. The text is that of the medium's own
    /// error, which [`ConnectError::of_medium`] finds by its type.
    #[error(transparent)]
    Medium(#[from] ForeignError),
    /// What is to be around the medium cannot be used.
    #[error("the {layer} of this program cannot be used")]
    Layer {
        /// What it is, such as a durable log.
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

    /// Removes secrets, because errors are logged and the part of an address before an `@` is a password or a token. Media do so
    /// in errors of their own.
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
