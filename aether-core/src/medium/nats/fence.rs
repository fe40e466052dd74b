//! A fence behind the errors of the server.
//!
//! The client hands errors of the server over by a task of its own, in their order, while a marker comes by another task. So a
//! marker that returns does not tell whether the error before it was noted. An error of our own does: a subscription whose
//! subject no server takes is answered with `Invalid Subject`, in its turn, and has no other effect.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use async_nats::{Client, Event, ServerError};
use tokio::sync::{Mutex, Notify};
use tokio::time::timeout;

/// The bound of the wait. It passes only if the client has dropped the error, as it does when there are many at once, or if
/// the server is of another kind, which is waited for once.
const ANSWERED_WITHIN: Duration = Duration::from_secs(5);

/// One fence at a time, for all who wait, because the client keeps few errors.
#[derive(Debug, Default)]
pub(super) struct Fence {
    /// The fences that were begun and those that have ended. Those that are begun later than a call are behind it.
    begun: AtomicU64,
    ended: Mutex<u64>,
    returned: AtomicU64,
    news: Notify,
    /// The first fence has not returned.
    is_unknown: AtomicBool,
}

impl Fence {
    /// Waits until all errors that the server has sent in answer to what the client was given so far have been noted, or may
    /// not be known.
    pub(super) async fn pass(&self, client: &Client) {
        let needed = self.begun.load(Ordering::SeqCst) + 1;
        let mut ended = self.ended.lock().await;
        if *ended >= needed || self.is_unknown.load(Ordering::Relaxed) {
            return;
        }
        let number = self.begun.fetch_add(1, Ordering::SeqCst) + 1;
        // One that was given up may still return, and comes first. One that a new connection repeats returns twice.
        self.returned.fetch_min(number - 1, Ordering::SeqCst);
        // Text may follow `>` in no subject. The inbox is permitted to everybody who can connect.
        let refused = client.subscribe(format!("{}.>.fence", client.new_inbox())).await;
        let is_back = async {
            loop {
                let news = self.news.notified();
                if self.returned.load(Ordering::SeqCst) >= number {
                    return;
                }
                news.await;
            }
        };
        if refused.is_ok() && timeout(ANSWERED_WITHIN, is_back).await.is_err() {
            self.is_unknown.store(*ended == 0, Ordering::Relaxed);
            self.returned.fetch_max(number, Ordering::SeqCst);
        }
        *ended = number;
    }

    /// Called by the client's event task, after errors were noted.
    pub(super) fn note(&self, event: &Event) {
        if let Event::ServerError(ServerError::Other(error)) = event
            && error.trim_matches('\'').eq_ignore_ascii_case("invalid subject")
        {
            self.returned.fetch_add(1, Ordering::SeqCst);
            self.news.notify_waiters();
        }
    }
}
