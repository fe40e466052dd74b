//! The HTTP client of the exporters. They run in threads of their own, so it may block.

use std::error::Error;
use std::io::Read as _;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::{HeaderValue, Request, Response, StatusCode, header};
use opentelemetry_http::{HttpClient, HttpError};
use percent_encoding::percent_decode_str;

/// The longest answer of a collector that is read.
const MAX_ANSWER: u64 = 64 << 10;
/// A collector that does not answer within this time does not get the batch.
const PATIENCE: Duration = Duration::from_secs(5);

/// A blocking client.
#[derive(Debug)]
pub(super) struct Client {
    agent: ureq::Agent,
    /// The user and the password of the address.
    authorization: Option<HeaderValue>,
    /// The status of the last answer, if the collector refused what it was sent.
    refused: AtomicU16,
}

/// The address of a collector without its user and password, and these as a header. They are percent-encoded in an address.
pub(super) fn without_login(collector: &str) -> (String, Option<HeaderValue>) {
    let parts = collector.split_once("://").and_then(|(scheme, rest)| {
        let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        let (login, host) = authority.rsplit_once('@')?;
        Some((format!("{scheme}://{host}{path}"), login))
    });
    let Some((address, login)) = parts else { return (collector.to_owned(), None) };
    let (user, password) = login.split_once(':').unwrap_or((login, ""));
    let mut decoded: Vec<u8> = percent_decode_str(user).collect();
    decoded.push(b':');
    decoded.extend(percent_decode_str(password));
    let header = HeaderValue::try_from(format!("Basic {}", STANDARD.encode(decoded))).ok();
    let header = header.map(|mut header| {
        header.set_sensitive(true);
        header
    });
    (address, header)
}

impl Client {
    pub(super) fn new(authorization: Option<HeaderValue>) -> Self {
        let config = ureq::Agent::config_builder()
            .timeout_global(Some(PATIENCE))
            .http_status_as_error(false)
            .max_redirects(0);
        Self { agent: config.build().into(), authorization, refused: AtomicU16::new(0) }
    }
}

impl Client {
    /// The answer to an empty batch.
    pub(super) fn answer_to(&self, endpoint: &str) -> Result<StatusCode, Box<dyn Error + Send + Sync>> {
        let mut request = self.agent.post(endpoint).header(header::CONTENT_TYPE, "application/x-protobuf");
        if let Some(authorization) = &self.authorization {
            request = request.header(header::AUTHORIZATION, authorization);
        }
        Ok(request.send(&[][..])?.status())
    }

    /// Logs once that the collector refuses, and once that it takes again.
    fn note(&self, status: StatusCode, path: &str) {
        let refused = if status.is_success() { 0 } else { status.as_u16() };
        let before = self.refused.swap(refused, Ordering::Relaxed);
        if refused != 0 && refused != before {
            tracing::warn!(%status, path, "the collector refuses telemetry: check telemetry.otlp, its path and its login");
        } else if refused == 0 && before != 0 {
            tracing::info!("the collector takes telemetry again");
        }
    }
}

#[async_trait]
impl HttpClient for Client {
    async fn send_bytes(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        let (mut parts, body) = request.into_parts();
        if let Some(authorization) = &self.authorization {
            // The header of OTEL_EXPORTER_OTLP_HEADERS goes first.
            parts.headers.entry(header::AUTHORIZATION).or_insert_with(|| authorization.clone());
        }
        let path = parts.uri.path().to_owned();
        let response = self.agent.run(Request::from_parts(parts, &body[..]))?;
        self.note(response.status(), &path);
        let (parts, body) = response.into_parts();
        let mut answer = Vec::new();
        body.into_reader().take(MAX_ANSWER).read_to_end(&mut answer)?;
        Ok(Response::from_parts(parts, answer.into()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_login_of_an_address_is_decoded_and_not_sent_in_it() {
        let (address, header) = without_login("http://user:sec%20ret@host:4318/otlp");
        assert_eq!(address, "http://host:4318/otlp");
        let expected = format!("Basic {}", STANDARD.encode("user:sec ret"));
        assert_eq!(header.unwrap().to_str().unwrap(), expected);
        let (address, header) = without_login("https://host/a@b");
        assert_eq!((address.as_str(), header), ("https://host/a@b", None));
    }
}
