//! Answers that go on: the mark that takes a connection out of the bounds of the server.

use tokio_util::sync::CancellationToken;

/// Marks an answer that goes on, such as server-sent events. It belongs into the extensions of a response.
///
/// The connection leaves its slot and the time limit of 15 s. The writer of the answer bounds it instead: the number of
/// such answers, and the time that a client may take to read. [`end`](Self::end) closes the connection also where the
/// client does not read.
#[derive(Debug, Clone, Default)]
pub struct Streaming {
    ended: CancellationToken,
}

impl Streaming {
    /// Closes the connection. Up to 15 s after the request, the answer is only closed by the end of its body.
    pub fn end(&self) {
        self.ended.cancel();
    }

    pub(crate) async fn ended(&self) {
        self.ended.cancelled().await;
    }
}
