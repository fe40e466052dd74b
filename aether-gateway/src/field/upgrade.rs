//! The way from a request for `/field/{name}/ws` to a WebSocket connection.

use std::sync::Arc;

use aether_metrics::{ClientAddress, Written};
use axum::extract::ws::WebSocketUpgrade;
use axum::extract::ws::rejection::WebSocketUpgradeRejection;
use axum::extract::{Extension, Path, RawQuery, State};
use axum::http::HeaderMap;
use axum::response::{IntoResponse as _, Response};

use super::hubs::Hubs;
use super::writer::Dialect;
use super::{connection, v1};
use crate::access::FieldAccess;
use crate::assets;
use crate::gate::Caller;

/// The number of bytes that the WebSocket side writes at once. A larger buffer would only hide that a client does not
/// read.
const WRITE_BUFFER: usize = 32 << 10;

/// A request for `/`: a client of the field that is served there, or somebody who wants to see the pages.
pub(super) async fn root(
    State(hubs): State<Hubs>,
    query: RawQuery,
    extensions: (Extension<ClientAddress>, Option<Extension<Written>>),
    caller: Caller,
    headers: HeaderMap,
    upgrade: Result<WebSocketUpgrade, WebSocketUpgradeRejection>,
) -> Response {
    match (upgrade, hubs.root.clone()) {
        (Ok(upgrade), Some(name)) => {
            self::upgrade(State(hubs), Path(name), query, extensions, caller, headers, upgrade).await
        }
        _ => assets::index(headers).await,
    }
}

/// A request for a WebSocket connection to a field.
pub(super) async fn upgrade(
    State(hubs): State<Hubs>,
    Path(name): Path<String>,
    RawQuery(query): RawQuery,
    (Extension(client), written): (Extension<ClientAddress>, Option<Extension<Written>>),
    caller: Caller,
    headers: HeaderMap,
    upgrade: WebSocketUpgrade,
) -> Response {
    let hub = match hubs.hub(&name, &headers) {
        Ok(hub) => hub,
        Err(denied) => return denied.into_response(),
    };
    let token = query.as_deref().and_then(token);
    let access = FieldAccess::new(Arc::clone(&hub.access), caller.certificate());
    let permit = hub.admission.enter(client.source());
    let client = (client.source(), written.map(|Extension(written)| written));
    let upgrade = upgrade
        .protocols([v1::SUBPROTOCOL])
        .max_message_size(hub.limits.max_frame_bytes)
        .max_frame_size(hub.limits.max_frame_bytes)
        .write_buffer_size(WRITE_BUFFER);
    let dialect = if upgrade.selected_protocol().is_some() { Dialect::V1 } else { Dialect::V04 };
    // The permit is given back also if the upgrade fails, with the closure.
    upgrade.on_upgrade(move |socket| {
        let stop = hubs.stop.clone();
        hubs.connections.track_future(connection::serve(
            socket,
            hub,
            permit,
            dialect,
            (access, token),
            client,
            stop,
        ))
    })
}

/// The token of the URL.
fn token(query: &str) -> Option<String> {
    let mut pairs = form_urlencoded::parse(query.as_bytes());
    pairs.find(|(name, _)| name == "auth_token").map(|(_, token)| token.into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_token_of_the_url_is_decoded() {
        assert_eq!(token("a=1&auth_token=s%20e+c%26").as_deref(), Some("s e c&"));
        assert_eq!(token("auth_tokens=x"), None);
        assert_eq!(token("auth_token=").as_deref(), Some(""));
    }
}
