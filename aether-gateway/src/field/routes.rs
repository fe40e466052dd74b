//! The paths of the fields.

use std::sync::Arc;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::middleware;
use axum::routing::get;

use super::hubs::Hubs;
use super::upgrade::{root, upgrade};
use super::{cross_origin, entries, events};
use crate::assets;

pub(super) fn routes(hubs: Hubs) -> Router {
    let max_value = hubs.hubs.values().map(|hub| hub.limits.max_value_bytes).max().unwrap_or_default();
    let entry = get(entries::read).put(entries::write).delete(entries::remove).options(cross_origin::refuse);
    // White space goes, so the text may be longer than the value.
    let entry = entry.layer(DefaultBodyLimit::max(2 * max_value));
    let other_pages = middleware::from_fn_with_state(Arc::clone(&hubs.origins), cross_origin::headers);
    let plain = Router::new()
        .route("/field/{name}/entries", get(entries::list).options(cross_origin::refuse))
        .route("/field/{name}/entries/{*key}", entry)
        .route("/field/{name}/watch", get(events::watch).options(cross_origin::refuse))
        .route_layer(other_pages);
    let index = if hubs.root.is_some() { get(root) } else { get(assets::index) };
    Router::new().route("/", index).route("/field/{name}/ws", get(upgrade)).merge(plain).with_state(hubs)
}
