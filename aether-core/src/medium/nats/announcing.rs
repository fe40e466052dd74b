//! Requests from a flush to the sending task to announce its position, and their completion.
//!
//! Only the sending task may announce. An announcement from anywhere else could overtake the waves that it counts.

use parking_lot::Mutex;
use tokio::sync::{Notify, oneshot};

/// Pending requests. The senders are dropped once the announcements have been handed to the client.
type Asked = Vec<oneshot::Sender<()>>;

pub(super) struct Announcing {
    /// `None` once the sending task has ended. It has then announced everything, or cannot announce any more.
    asked: Mutex<Option<Asked>>,
    news: Notify,
}

impl Announcing {
    pub(super) fn new() -> Self {
        Self { asked: Mutex::new(Some(Vec::new())), news: Notify::new() }
    }

    /// Waits until everything sent so far has been announced, or can no longer be announced.
    ///
    /// Cancel safety: if the call is cancelled while it waits, the announcement is still made.
    pub(super) async fn ask(&self) {
        let done = {
            let mut asked = self.asked.lock();
            let Some(asked) = &mut *asked else { return };
            let (announced, done) = oneshot::channel();
            asked.push(announced);
            done
        };
        self.news.notify_one();
        // No value is ever sent. The sender is dropped to signal completion.
        let _ = done.await;
    }

    /// For the sending task: waits for requests to announce. The task drops the returned senders after announcing.
    ///
    /// Cancel safety: no request is lost if the call is cancelled while it waits.
    pub(super) async fn asked(&self) -> Asked {
        loop {
            let asked = self.asked.lock().as_mut().map(std::mem::take).unwrap_or_default();
            if !asked.is_empty() {
                return asked;
            }
            self.news.notified().await;
        }
    }

    /// For the sending task: marks its end. Later calls to [`ask`](Self::ask) return at once.
    pub(super) fn end(&self) {
        *self.asked.lock() = None;
    }
}
