//! The table of URL schemes. It maps the scheme of an address to a medium, and contains `local`.
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

/// The scheme of the connector for several addresses. No address has it, because a scheme has no blank.
pub(crate) const SEVERAL: &str = "several addresses";

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
