//! An answer of server-sent events, which goes on until its sender ends it.

use std::convert::Infallible;

use aether_metrics::Streaming;
use axum::body::Body;
use axum::http::{HeaderValue, header};
use axum::response::Response;
use bytes::Bytes;
use tokio::sync::mpsc;

/// Opens an answer: where its chunks go, the handle that ends it, and itself.
pub(crate) fn open() -> (mpsc::Sender<Bytes>, Streaming, Response) {
    let streaming = Streaming::default();
    // One chunk waits while one is written.
    let (chunks, mut body) = mpsc::channel::<Bytes>(1);
    let body = futures_util::stream::poll_fn(move |context| {
        body.poll_recv(context).map(|chunk| chunk.map(Ok::<_, Infallible>))
    });
    let mut response = Response::new(Body::from_stream(body));
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    // A proxy such as nginx collects an answer before it passes it on, unless told otherwise.
    headers.insert("x-accel-buffering", HeaderValue::from_static("no"));
    response.extensions_mut().insert(streaming.clone());
    (chunks, streaming, response)
}
