//! Waves through the gateway: heard and emitted by the pages and by other programs, over HTTP and WebSocket.
//!
//! `GET /waves` and `/ws` send the waves that match a filter, `POST /waves/{channel}` and `/ws` emit and ask. The
//! [gate](crate::gate) says who may. Each client has a bounded [tap](crate::taps); what did not fit is counted, and told to the
//! client.

mod cloud_events;
mod draft;
mod emitting;
mod request;
mod session;
mod shared;
mod socket;
mod stream;

use std::sync::Arc;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::routing::{get, post};

pub(crate) use shared::Shared;

/// The largest body of a request: 1 MiB, or what the medium takes.
const MAX_BODY: usize = 1 << 20;

/// The routes. `max_payload` is that of the medium, in bytes.
pub(crate) fn routes(shared: Arc<Shared>, max_payload: usize) -> Router {
    let body = DefaultBodyLimit::max(max_payload.min(MAX_BODY));
    Router::new()
        .route("/waves", get(stream::stream))
        .route("/waves/{channel}", post(emitting::post).layer(body))
        .route("/ws", get(socket::upgrade))
        .with_state(shared)
}
