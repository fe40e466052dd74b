//! How a flush has the sending task announce where it stands, and learns that it has.
//!
//! Only the sending task may announce: from anywhere else an announcement could overtake the waves that it counts.

use parking_lot::Mutex;
use tokio::sync::{Notify, oneshot};

/// Dropped when the announcements were handed to the client.
type Asked = Vec<oneshot::Sender<()>>;

pub(super) struct Announcing {
    /// `None` when the sending task has ended: it has announced everything or cannot.
    asked: Mutex<Option<Asked>>,
    news: Notify,
}

impl Announcing {
    pub(super) fn new() -> Self {
        Self { asked: Mutex::new(Some(Vec::new())), news: Notify::new() }
    }

    /// Waits until everything that was sent so far is announced, or cannot be.
    ///
    /// Cancel safety: cancelled while it waits, it is announced all the same.
    pub(super) async fn ask(&self) {
        let done = {
            let mut asked = self.asked.lock();
            let Some(asked) = &mut *asked else { return };
            let (announced, done) = oneshot::channel();
            asked.push(announced);
            done
        };
        self.news.notify_one();
        // Nothing is ever sent: being dropped says it.
        let _ = done.await;
    }

    /// For the sending task: waits until it is asked to announce. What it gets it drops when it has.
    ///
    /// Cancel safety: cancelled while it waits, no request is lost.
    pub(super) async fn asked(&self) -> Asked {
        loop {
            let asked = self.asked.lock().as_mut().map(std::mem::take).unwrap_or_default();
            if !asked.is_empty() {
                return asked;
            }
            self.news.notified().await;
        }
    }

    /// For the sending task: whoever asks from now on need not wait.
    pub(super) fn end(&self) {
        *self.asked.lock() = None;
    }
}
