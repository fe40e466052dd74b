//! The NATS medium.
use crate::aether::{AetherBuilder, ConnectError};
use crate::medium::Medium;
use crate::router::Router;
use std::sync::Arc;
pub(crate) async fn connect(
    builder: &AetherBuilder,
    _: Arc<Router>,
) -> Result<Arc<dyn Medium>, ConnectError> {
    Err(ConnectError::Url { url: builder.url.clone() })
}
