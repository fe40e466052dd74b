//! The HTTP client of the exporters. They run in threads of their own, so it may block.

use std::io::Read as _;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use http::{Request, Response};
use opentelemetry_http::{HttpClient, HttpError};

/// The longest answer of a collector that is read.
const MAX_ANSWER: u64 = 64 << 10;
/// A collector that does not answer within this time does not get the batch.
const PATIENCE: Duration = Duration::from_secs(5);

/// A blocking client.
#[derive(Debug)]
pub(super) struct Client(ureq::Agent);

impl Client {
    pub(super) fn new() -> Self {
        let config = ureq::Agent::config_builder()
            .timeout_global(Some(PATIENCE))
            .http_status_as_error(false)
            .max_redirects(0);
        Self(config.build().into())
    }
}

#[async_trait]
impl HttpClient for Client {
    async fn send_bytes(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        let (parts, body) = request.into_parts();
        let response = self.0.run(Request::from_parts(parts, &body[..]))?;
        let (parts, body) = response.into_parts();
        let mut answer = Vec::new();
        body.into_reader().take(MAX_ANSWER).read_to_end(&mut answer)?;
        Ok(Response::from_parts(parts, answer.into()))
    }
}
