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
/// the server is of another kind, which is waited for once. Less than the patience of a flush and of connecting (2 s), which must
/// not fail for that.
const ANSWERED_WITHIN: Duration = Duration::from_millis(1500);

/// One fence at a time, for all who wait, because the client keeps few errors.
#[derive(Debug, Default)]
pub(super) struct Fence {
    /// The number of fences that were begun. Those that are begun later than a call are behind it.
    begun: AtomicU64,
    fences: Mutex<Fences>,
    returned: AtomicU64,
    news: Notify,
    /// No fence has returned.
    is_unknown: AtomicBool,
}

#[derive(Debug, Default)]
struct Fences {
    /// The number of the last one that has ended.
    ended: u64,
    /// How many of them the client has taken. No error answers one that was given up before.
    sent: u64,
}

impl Fence {
    /// Waits until all errors that the server has sent in answer to what the client was given so far have been noted, or may
    /// not be known.
    pub(super) async fn pass(&self, client: &Client) {
        let needed = self.begun.load(Ordering::SeqCst) + 1;
        let mut fences = self.fences.lock().await;
        if fences.ended >= needed || self.is_unknown.load(Ordering::Relaxed) {
            return;
        }
        let number = self.begun.fetch_add(1, Ordering::SeqCst) + 1;
        // One that was given up may still return, and comes first. One that a new connection repeats returns twice.
        self.returned.fetch_min(fences.sent, Ordering::SeqCst);
        // Text may follow `>` in no subject. The inbox is permitted to everybody who can connect.
        let refused = client.subscribe(format!("{}.>.fence", client.new_inbox())).await;
        if refused.is_ok() {
            fences.sent += 1;
            let sent = fences.sent;
            let is_back = async {
                loop {
                    let news = self.news.notified();
                    if self.returned.load(Ordering::SeqCst) >= sent {
                        return;
                    }
                    news.await;
                }
            };
            if timeout(ANSWERED_WITHIN, is_back).await.is_err() {
                self.is_unknown.store(fences.ended == 0, Ordering::Relaxed);
                self.returned.fetch_max(sent, Ordering::SeqCst);
            }
        }
        fences.ended = number;
    }

    /// Called by the client's event task, after errors were noted.
    pub(super) fn note(&self, event: &Event) {
        if let Event::ServerError(ServerError::Other(error)) = event
            && error.trim_matches('\'').eq_ignore_ascii_case("invalid subject")
        {
            self.returned.fetch_add(1, Ordering::SeqCst);
            self.is_unknown.store(false, Ordering::Relaxed);
            self.news.notify_waiters();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use async_nats::ConnectOptions;
    use futures_util::FutureExt as _;

    use super::*;
    use aether_conformance::NatsServer;

    /// On one thread, so that the client takes nothing while the test does not wait.
    #[tokio::test]
    async fn a_fence_that_was_given_up_before_the_client_took_it_is_not_waited_for() {
        let server = NatsServer::start().await.unwrap();
        let fence = Arc::<Fence>::default();
        let noting = Arc::clone(&fence);
        let options = ConnectOptions::new().client_capacity(1).event_callback(move |event| {
            noting.note(&event);
            std::future::ready(())
        });
        let client = options.connect(server.url()).await.unwrap();
        while client.publish("a", "fills the client".into()).now_or_never().is_some() {}
        assert!(fence.pass(&client).now_or_never().is_none());
        assert_eq!((fence.begun.load(Ordering::SeqCst), fence.fences.lock().await.sent), (1, 0));
        fence.pass(&client).await;
        assert!(!fence.is_unknown.load(Ordering::Relaxed), "it returned");
        assert_eq!(fence.returned.load(Ordering::SeqCst), 1);
        // One that the client took returns although nobody waits for it.
        client.flush().await.unwrap();
        assert!(fence.pass(&client).now_or_never().is_none());
        fence.pass(&client).await;
        assert_eq!(fence.returned.load(Ordering::SeqCst), 3);
    }
}
