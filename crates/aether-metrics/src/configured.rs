//! The endpoint of a program whose configuration has an address for it.

use aether_service::Configuration;

use crate::endpoint::{Endpoint, ServeError};
use crate::metrics::Metrics;

impl Metrics {
    /// Serves the metrics on the address in `[metrics] listen` (`--metrics`), and logs where; nothing if it is off.
    ///
    /// # Errors
    /// [`ServeError`] if the address cannot be bound.
    ///
    /// # Panics
    /// As [`Metrics::serve`], if there is an address.
    ///
    /// # Cancel safety
    /// As [`Metrics::serve`].
    pub async fn serve_configured(
        self,
        configuration: &Configuration,
    ) -> Result<Option<Endpoint>, ServeError> {
        let Some(listen) = configuration.settings().metrics.listen.on() else { return Ok(None) };
        let endpoint = self.serve(listen.0).await?;
        tracing::info!("metrics: http://{}/metrics", endpoint.address());
        Ok(Some(endpoint))
    }
}
