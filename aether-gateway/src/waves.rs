//! Waves through the gateway: heard and emitted by the pages and by other programs, over HTTP and WebSocket.
//!
//! `GET /waves` and `/ws` send the waves that match a filter, `POST /waves/{channel}` and `/ws` emit and ask. The
//! [gate](crate::gate) decides who may. Each client has a bounded [tap](crate::taps); waves that did not fit are
//! counted, and the client gets the count.

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

pub(crate) fn routes(shared: Arc<Shared>) -> Router {
    let body = DefaultBodyLimit::max(shared.max_body);
    Router::new()
        .route("/waves", get(stream::stream))
        .route("/waves/{channel}", post(emitting::post).layer(body))
        .route("/ws", get(socket::upgrade))
        .with_state(shared)
}
