//! The HTTP side: from a request for `/field/{name}/ws` to a WebSocket connection.

use std::collections::BTreeMap;
use std::sync::Arc;

use aether_metrics::{ClientAddress, Written};
use axum::Router;
use axum::extract::ws::WebSocketUpgrade;
use axum::extract::{Extension, Path, RawQuery, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::counts::Refused;
use super::hub::Hub;
use super::writer::Dialect;
use super::{connection, v1};
use crate::access::FieldAccess;
use crate::answer;
use crate::gate::{Caller, Gate};

/// The number of bytes that the WebSocket side writes at once. A larger buffer would only hide that a client does not
/// read.
const WRITE_BUFFER: usize = 32 << 10;

/// The fields of a gateway, by name.
#[derive(Debug, Clone)]
pub(super) struct Hubs {
    pub(super) hubs: Arc<BTreeMap<String, Arc<Hub>>>,
    pub(super) gate: Arc<Gate>,
    pub(super) connections: TaskTracker,
    pub(super) stop: CancellationToken,
}

pub(super) fn routes(hubs: Hubs) -> Router {
    Router::new().route("/field/{name}/ws", get(upgrade)).with_state(hubs)
}

async fn upgrade(
    State(hubs): State<Hubs>,
    Path(name): Path<String>,
    RawQuery(query): RawQuery,
    (Extension(client), written): (Extension<ClientAddress>, Option<Extension<Written>>),
    caller: Caller,
    headers: HeaderMap,
    upgrade: WebSocketUpgrade,
) -> Response {
    let Some(hub) = hubs.hubs.get(&name).map(Arc::clone) else {
        return answer::text(StatusCode::NOT_FOUND, &format!("this gateway has no field {name:?}"));
    };
    if !hub.origins.allow(&headers) {
        hub.counts.refuse(Refused::Origin);
        let text = "pages of this origin may not use the field; --field-origin allows them";
        return answer::text(StatusCode::FORBIDDEN, text);
    }
    if let Err(error) = hubs.gate.may_connect_to_field(&headers) {
        hub.counts.refuse(Refused::of(&error));
        return error.into_response();
    }
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
