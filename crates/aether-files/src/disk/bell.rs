//! The bell of a [`Worker`](super::Worker): it waits for work by it.

use std::future::poll_fn;
use std::task::{Poll, Waker};
use std::time::Duration;

use parking_lot::{Condvar, Mutex};

use super::is_simulated;

/// Wakes a worker that waits: a thread of its own, or a task of a simulation. A ring while nobody waits ends the next wait.
#[derive(Debug)]
pub struct Bell {
    state: Mutex<Ringing>,
    wake: Condvar,
    is_simulated: bool,
}

#[derive(Debug, Default)]
struct Ringing {
    is_rung: bool,
    waiting: Option<Waker>,
}

impl Default for Bell {
    fn default() -> Self {
        Self { state: Mutex::default(), wake: Condvar::new(), is_simulated: is_simulated() }
    }
}

impl Bell {
    /// Rings.
    pub fn ring(&self) {
        let waiting = {
            let mut state = self.state.lock();
            state.is_rung = true;
            state.waiting.take()
        };
        self.wake.notify_one();
        if let Some(waiting) = waiting {
            waiting.wake();
        }
    }

    /// Forgets a ring that nobody has waited for.
    pub fn forget(&self) {
        self.state.lock().is_rung = false;
    }

    /// Waits for a ring, at most as long as this. Returns whether there was one. On a thread it blocks.
    pub async fn wait(&self, longest: Option<Duration>) -> bool {
        if !self.is_simulated {
            return self.block(longest);
        }
        let ring = poll_fn(|context| {
            let mut state = self.state.lock();
            if std::mem::take(&mut state.is_rung) {
                return Poll::Ready(());
            }
            state.waiting = Some(context.waker().clone());
            Poll::Pending
        });
        match longest {
            Some(longest) => tokio::time::timeout(longest, ring).await.is_ok(),
            None => {
                ring.await;
                true
            }
        }
    }

    fn block(&self, longest: Option<Duration>) -> bool {
        let mut state = self.state.lock();
        while !state.is_rung {
            match longest {
                None => self.wake.wait(&mut state),
                Some(longest) if self.wake.wait_for(&mut state, longest).timed_out() => break,
                Some(_) => {}
            }
        }
        std::mem::take(&mut state.is_rung)
    }
}
