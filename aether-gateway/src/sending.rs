//! Long answers on their way to clients, bounded in bytes: in total, and for each source.
//!
//! A client may take 15 s to read an answer, which is kept for so long. Short answers are bounded by the slots of the
//! server.

use std::collections::HashMap;
use std::convert::Infallible;
use std::net::IpAddr;
use std::sync::Arc;

use axum::body::Body;
use bytes::Bytes;
use parking_lot::Mutex;

/// From this size on an answer is long, and how much of it the server gets at once.
pub(crate) const LONG: usize = 64 << 10;
/// The bytes of long answers beyond which no further one begins, in total and for one source. The last one may exceed them.
const MOST: usize = 32 << 20;
const MOST_OF_SOURCE: usize = 16 << 20;

/// The bytes that have not been sent, of each source that has any.
#[derive(Debug, Default)]
pub(crate) struct Sending(Mutex<HashMap<IpAddr, usize>>);

/// The bytes of one answer. Dropping it gives them back.
struct Held {
    sending: Arc<Sending>,
    source: IpAddr,
    bytes: usize,
}

impl Sending {
    /// The body of a long answer, which counts until it was sent or its connection has ended; `None` if there is no room.
    pub(crate) fn body(self: &Arc<Self>, source: IpAddr, text: Bytes) -> Option<Body> {
        let held = self.hold(source, text.len())?;
        let parts = futures_util::stream::unfold((text, held), async |(mut rest, held)| {
            if rest.is_empty() {
                return None;
            }
            let part = rest.split_to(rest.len().min(LONG));
            Some((Ok::<_, Infallible>(part), (rest, held)))
        });
        Some(Body::from_stream(parts))
    }

    fn hold(self: &Arc<Self>, source: IpAddr, bytes: usize) -> Option<Held> {
        let mut held = self.0.lock();
        let of_source = held.get(&source).copied().unwrap_or_default();
        if of_source >= MOST_OF_SOURCE || held.values().sum::<usize>() >= MOST {
            return None;
        }
        held.insert(source, of_source + bytes);
        Some(Held { sending: Arc::clone(self), source, bytes })
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let mut held = self.sending.0.lock();
        if let Some(bytes) = held.get_mut(&self.source) {
            *bytes -= self.bytes;
            if *bytes == 0 {
                held.remove(&self.source);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn bytes_are_bounded_by_source_and_in_total_and_given_back_when_they_were_sent() {
        let sending = Arc::<Sending>::default();
        let source = |number: u8| IpAddr::from([192, 0, 2, number]);
        let text = || Bytes::from(vec![b'x'; MOST_OF_SOURCE]);
        let first = sending.body(source(1), text()).unwrap();
        assert!(sending.body(source(1), text()).is_none());
        let second = sending.body(source(2), text()).unwrap();
        assert!(sending.body(source(3), text()).is_none(), "there is no room in total");
        let read = axum::body::to_bytes(first, usize::MAX).await.unwrap();
        assert_eq!(read.len(), MOST_OF_SOURCE);
        assert!(sending.body(source(2), text()).is_none());
        let third = sending.body(source(1), text()).unwrap();
        drop((second, third));
        assert!(sending.0.lock().is_empty());
    }
}
