//! The table of URL schemes. It maps the scheme of an address to a medium, and contains the media of this crate.
//!
//! Used by [`AetherBuilder`](crate::AetherBuilder). All media are registered the same way, including those of other
//! crates.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use futures_util::future::{BoxFuture, FutureExt, ready};

use super::Medium;
use super::connect::{ConnectError, ConnectRequest, Connector};
use super::local::{Local, LocalOptions};

/// The connectors, keyed by the lower-case scheme of their addresses.
#[derive(Clone)]
pub(crate) struct Schemes(HashMap<String, Connector>);

impl Default for Schemes {
    fn default() -> Self {
        let mut schemes = Self(HashMap::new());
        schemes.register("local", |request| {
            let options = request.options::<LocalOptions>();
            let local: Arc<dyn Medium> = Arc::new(Local::new(request.router, &options));
            ready(Ok(local))
        });
        #[cfg(feature = "lan")]
        schemes.register("lan", super::lan::connect);
        #[cfg(feature = "nats")]
        for scheme in ["nats", "tls"] {
            schemes.register(scheme, super::nats::connect);
        }
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
        let Some((scheme, _)) = url.split_once(':') else {
            return Err(ConnectError::Url { url: url.to_owned() });
        };
        let scheme = scheme.to_ascii_lowercase();
        self.0.get(&scheme).ok_or_else(|| match &*scheme {
            // These are registered unless the feature is off.
            "nats" | "tls" => ConnectError::Feature { url: url.to_owned(), feature: "nats" },
            "lan" => ConnectError::Feature { url: url.to_owned(), feature: "lan" },
            _ => ConnectError::Scheme { url: url.to_owned(), scheme },
        })
    }
}

impl fmt::Debug for Schemes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

/// Whether an address is one to which a program could connect with the media that are built in, or several such paths with
/// blanks between them. Nothing is connected.
///
/// # Errors
/// The [`ConnectError`] with which connecting would fail at once, without secrets.
pub fn check_address(url: &str) -> Result<(), ConnectError> {
    let schemes = Schemes::default();
    let check = |path: &str| -> Result<(), ConnectError> {
        schemes.find(path)?;
        #[cfg(feature = "nats")]
        if path
            .split_once(':')
            .is_some_and(|(scheme, _)| ["nats", "tls"].contains(&&*scheme.to_ascii_lowercase()))
        {
            super::nats::servers(path)?;
        }
        Ok(())
    };
    let checked = match url.split_whitespace().nth(1) {
        Some(_) => url.split_whitespace().try_for_each(check),
        None => check(url),
    };
    checked.map_err(ConnectError::without_secrets)
}
