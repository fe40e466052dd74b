//! The headers that protect the reader of an answer in a browser, the pause before an answer to a wrong token, and the
//! line in the log about it: one layer around all routes, errors included.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Request, State};
use axum::http::header::{self, HeaderName};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::middleware::Next;
use axum::response::Response;
use tokio::time::sleep;

use crate::gate::{GateError, address, bearer};
use crate::taps::Taps;

/// For answers other than pages: nothing of them runs, loads anything or is framed.
const POLICY: &str = "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// The headers of an answer unless its route sets others, as the pages do about what they may load, and caches about
/// what they may keep.
const ALL: [(HeaderName, &str); 5] = [
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (header::REFERRER_POLICY, "no-referrer"),
    (header::CONTENT_SECURITY_POLICY, POLICY),
    (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
    (header::CACHE_CONTROL, "no-store"),
];

/// How long a request with a token that is not known waits for its answer.
const GUESS_TAKES: Duration = Duration::from_secs(1);

/// A year, as usual. Only browsers that reach the gateway by a name keep it.
const TLS_ONLY: &str = "max-age=31536000";

/// The state of the layer.
#[derive(Debug)]
pub(crate) struct Protection {
    /// Whether the gateway serves over TLS.
    pub(crate) is_secure: bool,
    pub(crate) taps: Arc<Taps>,
}

/// Adds the headers.
pub(crate) async fn protect(
    State(protection): State<Arc<Protection>>,
    request: Request,
    next: Next,
) -> Response {
    let is_tls_only = protection.is_secure && is_at_standard_port(request.headers());
    let shows_token = bearer(request.headers()).is_some();
    let client = address(request.extensions());
    // Without the query, which may have a token.
    let uri = request.uri().clone();
    let mut response = next.run(request).await;
    if let Some(error) = response.extensions().get::<GateError>() {
        protection.taps.audit.refused(error.reason(), client, uri.path(), error);
    }
    if shows_token && response.status() == StatusCode::UNAUTHORIZED {
        // A guessing client waits, and holds one of the connections that an address may have.
        sleep(GUESS_TAKES).await;
    }
    let headers = response.headers_mut();
    for (name, value) in ALL {
        headers.entry(name).or_insert(HeaderValue::from_static(value));
    }
    if is_tls_only {
        headers.insert(header::STRICT_TRANSPORT_SECURITY, HeaderValue::from_static(TLS_ONLY));
    }
    response
}

/// Whether the gateway has the port of HTTPS. On another port it does not answer for its host: browsers would refuse
/// plain HTTP on all of its ports, such as the port of a service's metrics.
fn is_at_standard_port(headers: &HeaderMap) -> bool {
    let host = headers.get(header::HOST).and_then(|host| host.to_str().ok());
    host.is_some_and(|host| {
        let port = host.rsplit_once(':').map(|(_, port)| port).filter(|port| !port.ends_with(']'));
        port.is_none_or(|port| port == "443")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gateway_on_a_port_of_its_own_does_not_speak_for_its_host() {
        let is_standard = |host: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::HOST, host.parse().unwrap());
            is_at_standard_port(&headers)
        };
        for host in ["bus.example", "bus.example:443", "[2001:db8::1]", "[2001:db8::1]:443"] {
            assert!(is_standard(host), "{host}");
        }
        for host in ["bus.example:8443", "localhost:8080", "[2001:db8::1]:8443"] {
            assert!(!is_standard(host), "{host}");
        }
        assert!(!is_at_standard_port(&HeaderMap::new()));
    }
}
