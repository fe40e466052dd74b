//! Whether a token is cancelled, for a loop that asks before every wave: without taking the lock of the token each time.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};

use futures_util::task::AtomicWaker;
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};

/// A token that one task watches.
pub(super) struct Cancelled {
    signal: Arc<Signal>,
    wakes_signal: Waker,
    waiting: Pin<Box<WaitForCancellationFutureOwned>>,
    is_over: bool,
}

/// Woken by the token.
struct Signal {
    is_set: AtomicBool,
    task: AtomicWaker,
}

impl Wake for Signal {
    fn wake(self: Arc<Self>) {
        self.is_set.store(true, Ordering::Release);
        self.task.wake();
    }
}

impl Cancelled {
    pub(super) fn new(token: CancellationToken) -> Self {
        // Set at first, so that the first look polls the token, which registers the signal.
        let signal = Arc::new(Signal { is_set: AtomicBool::new(true), task: AtomicWaker::new() });
        let wakes_signal = Waker::from(Arc::clone(&signal));
        Self { signal, wakes_signal, waiting: Box::pin(token.cancelled_owned()), is_over: false }
    }

    /// Wakes this task when the token is cancelled. Called before the first look of each poll.
    pub(super) fn register(&self, context: &Context<'_>) {
        self.signal.task.register(context.waker());
    }

    /// Whether the token is cancelled.
    #[inline]
    pub(super) fn is_cancelled(&mut self) -> bool {
        self.signal.is_set.load(Ordering::Acquire) && self.look()
    }

    #[cold]
    fn look(&mut self) -> bool {
        if !self.is_over {
            // Cleared before the poll: a wake-up during the poll sets it again.
            self.signal.is_set.store(false, Ordering::Release);
            let polled = self.waiting.as_mut().poll(&mut Context::from_waker(&self.wakes_signal));
            if polled == Poll::Ready(()) {
                self.is_over = true;
                self.signal.is_set.store(true, Ordering::Release);
            }
        }
        self.is_over
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use super::*;

    #[tokio::test]
    async fn a_cancelled_token_is_seen_at_once_and_wakes_the_task() {
        let token = CancellationToken::new();
        let mut cancelled = Cancelled::new(token.clone());
        assert!(!cancelled.is_cancelled() && !cancelled.is_cancelled());
        let waiting = tokio::spawn(poll_fn(move |context| {
            cancelled.register(context);
            if cancelled.is_cancelled() { Poll::Ready(cancelled.is_cancelled()) } else { Poll::Pending }
        }));
        tokio::task::yield_now().await;
        assert!(!waiting.is_finished());
        token.cancel();
        assert!(waiting.await.unwrap(), "it stays cancelled");
        assert!(Cancelled::new(token).is_cancelled());
    }

    #[test]
    fn a_wake_up_without_a_reason_is_no_cancellation() {
        let token = CancellationToken::new();
        let mut cancelled = Cancelled::new(token.clone());
        assert!(!cancelled.is_cancelled());
        cancelled.wakes_signal.wake_by_ref();
        assert!(!cancelled.is_cancelled());
        token.cancel();
        assert!(cancelled.is_cancelled());
    }
}
