//! Threads of their own for sessions of Zenoh.
//!
//! Zenoh blocks the calling thread while its queue is full, because nothing may be dropped; and it needs a runtime of many
//! threads. So nothing here runs on the threads of the service.

use tokio::runtime::Builder;
use tokio::sync::oneshot;

use crate::error::LanError;

/// One blocks with what goes past the outbox, one with what keeps the peers together, one beats.
const WORKERS: usize = 3;

pub(super) fn no_thread(error: std::io::Error) -> LanError {
    LanError::Network { step: "its threads cannot be started", source: error.into() }
}

/// Runs a medium on a thread of its own, with workers beside it. The receiver ends with the thread.
pub(crate) fn run_apart(run: impl Future<Output = ()> + Send + 'static) -> oneshot::Receiver<()> {
    let (ended, has_ended) = oneshot::channel::<()>();
    let thread = std::thread::Builder::new().name("aether-lan".to_owned());
    let started = thread.spawn(move || {
        let runtime = Builder::new_multi_thread()
            .worker_threads(WORKERS)
            .thread_name("aether-lan")
            .enable_all()
            .build();
        match runtime {
            Ok(runtime) => runtime.block_on(run),
            Err(error) => tracing::error!(%error, "the threads of the network cannot be started"),
        }
        drop(ended);
    });
    if let Err(error) = started {
        // Those who wait for the medium see that it has ended.
        tracing::error!(%error, "the thread of the network cannot be started");
    }
    has_ended
}

/// Runs something on threads of its own until it ends.
pub(super) fn on_its_own(run: impl Future<Output = ()> + Send + 'static) -> Result<(), LanError> {
    let runtime = Builder::new_multi_thread()
        .worker_threads(1)
        .thread_name("aether-lan")
        .enable_all()
        .build()
        .map_err(no_thread)?;
    let thread = std::thread::Builder::new().name("aether-lan".to_owned());
    // By a worker, whose place another one takes while it blocks. A panic is in the log.
    let started = thread.spawn(move || drop(runtime.block_on(runtime.spawn(run))));
    started.map(drop).map_err(no_thread)
}
