//! Requests to the sending task to announce its positions: from a flush, and from those who have joined.
//!
//! Only the sending task may announce. An announcement from anywhere else could overtake the waves that it counts.

use parking_lot::Mutex;
use tokio::sync::{Notify, oneshot};

use super::joins::JoinNotice;

/// The maximum number of joins that wait to be answered. A notice of more is not answered.
const MAX_JOINS: usize = 1024;

/// Pending requests.
#[derive(Default)]
pub(super) struct Asked {
    /// Dropped once the announcements have been handed to the client.
    pub(super) flushes: Vec<oneshot::Sender<()>>,
    pub(super) joins: Vec<JoinNotice>,
}

pub(super) struct Announcing {
    /// `None` once the sending task has ended. It has then announced everything, or cannot announce any more.
    asked: Mutex<Option<Asked>>,
    news: Notify,
}

impl Announcing {
    pub(super) fn new() -> Self {
        Self { asked: Mutex::new(Some(Asked::default())), news: Notify::new() }
    }

    /// Waits until everything sent so far has been announced, or can no longer be announced.
    ///
    /// Cancel safety: if the call is cancelled while it waits, the announcement is still made.
    pub(super) async fn ask(&self) {
        let done = {
            let mut asked = self.asked.lock();
            let Some(asked) = &mut *asked else { return };
            let (announced, done) = oneshot::channel();
            asked.flushes.push(announced);
            done
        };
        self.news.notify_one();
        // No value is ever sent. The sender is dropped to signal completion.
        let _ = done.await;
    }

    /// Hands over the notice of a join, to be answered.
    pub(super) fn joined(&self, join: JoinNotice) {
        if let Some(asked) = &mut *self.asked.lock()
            && asked.joins.len() < MAX_JOINS
        {
            asked.joins.push(join);
            self.news.notify_one();
        }
    }

    /// For the sending task: waits for requests to announce. The task drops the returned senders after announcing.
    ///
    /// Cancel safety: no request is lost if the call is cancelled while it waits.
    pub(super) async fn asked(&self) -> Asked {
        loop {
            let asked = self.asked.lock().as_mut().map(std::mem::take).unwrap_or_default();
            if !asked.flushes.is_empty() || !asked.joins.is_empty() {
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
