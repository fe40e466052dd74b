//! The life of a background task: one for each `Aether` and purpose.
//!
//! It is started when there is work, ends with its `Aether`, and is started again with the next work if the runtime that
//! it ran in has ended. The work of the task belongs to its owner. Owners claim and release it under the lock that
//! guards its work, so that no work is left lying between two tasks.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::runtime::Handle;
use tokio::sync::watch;

/// Whether and where the task runs.
#[derive(Debug, Default)]
pub(crate) struct Background {
    /// The runtime in which it is started. Without one it is started in the caller's runtime.
    home: OnceLock<Handle>,
    is_running: AtomicBool,
    ended: watch::Sender<bool>,
}

/// The result of [`Background::claim`].
pub(crate) enum Claim {
    /// The task runs already.
    Running,
    /// The caller has to start it, in this runtime, and must not hold a lock that the task takes when it is dropped: a
    /// runtime that has ended drops it at once.
    Start(Handle),
    /// There is no runtime. The next work tries again.
    NoRuntime,
}

impl Background {
    /// Makes the caller's runtime, if there is one, the one in which the task is started. The first call decides.
    pub(crate) fn note_runtime(&self) {
        if self.home.get().is_none()
            && let Ok(runtime) = Handle::try_current()
        {
            let _ = self.home.set(runtime);
        }
    }

    /// Claims the task for the caller, who starts it, unless it runs already.
    pub(crate) fn claim(&self) -> Claim {
        if self.is_running.load(Ordering::Relaxed) {
            return Claim::Running;
        }
        // The task's own runtime first: the caller's may end soon.
        match self.home.get().cloned().or_else(|| Handle::try_current().ok()) {
            Some(runtime) => {
                self.is_running.store(true, Ordering::Relaxed);
                Claim::Start(runtime)
            }
            None => Claim::NoRuntime,
        }
    }

    /// The task runs no longer: it is done, or was dropped with its runtime.
    pub(crate) fn release(&self) {
        self.is_running.store(false, Ordering::Relaxed);
    }

    /// Tells the task to end.
    pub(crate) fn end(&self) {
        self.ended.send_replace(true);
    }

    /// Waits until the task has to end.
    pub(crate) async fn ended(&self) {
        // The sender lives as long as this: it cannot be gone.
        let _ = self.ended.subscribe().wait_for(|ended| *ended).await;
    }
}
