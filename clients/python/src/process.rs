//! The runtime of this process, and what a fork does to it.
//!
//! A fork copies the memory and none of the threads, so everything that was made before is dead in the child. A
//! handle there refuses every call, and is never dropped, because a thread that is gone may hold its locks. The
//! child gets a runtime of its own with the first connection.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;
use std::time::Duration;

use parking_lot::Mutex;
use pyo3::prelude::*;
use tokio::runtime::{Builder, Handle, Runtime};

use crate::errors::exceptions::{ClosedError, ForkedError};

/// How long the tasks of the runtime may take to end. Everything was closed before.
const ENDING: Duration = Duration::from_secs(1);

/// A step that needs the interpreter, such as the result of a wait; `None` is the last one.
type Step = Option<Box<dyn FnOnce(Python<'_>) + Send>>;

/// The number of forks between the first process and this one.
static GENERATION: AtomicU64 = AtomicU64::new(0);

/// Locked only with the interpreter held, so no other thread holds it when the process forks.
static WORKERS: Mutex<Option<Workers>> = Mutex::new(None);

/// The threads of this process.
struct Workers {
    generation: u64,
    runtime: Runtime,
    steps: Sender<Step>,
    /// Disconnected once the thread of the steps has ended.
    stepping: Receiver<()>,
}

/// Starts tasks and hands their results to Python.
#[derive(Debug, Clone)]
pub(crate) struct Process {
    pub(crate) runtime: Handle,
    steps: Sender<Step>,
}

impl Process {
    /// The one of this process; its threads start with the first call.
    pub(crate) fn of_now() -> PyResult<Self> {
        let generation = GENERATION.load(Relaxed);
        let mut workers = WORKERS.lock();
        if let Some(inherited) = workers.take_if(|workers| workers.generation != generation) {
            // Its threads are in the parent.
            std::mem::forget(inherited);
        }
        let workers = match &mut *workers {
            Some(workers) => workers,
            none => none.insert(Workers::start(generation)?),
        };
        Ok(Self { runtime: workers.runtime.handle().clone(), steps: workers.steps.clone() })
    }

    /// Has the step done soon, after the earlier ones. It is dropped if the interpreter ends.
    pub(crate) fn step(&self, step: impl FnOnce(Python<'_>) + Send + 'static) {
        let _ = self.steps.send(Some(Box::new(step)));
    }
}

impl Workers {
    fn start(generation: u64) -> PyResult<Self> {
        // Two, so that one busy task of the network does not hold up the other ones. They never wait for the interpreter.
        let runtime =
            Builder::new_multi_thread().worker_threads(2).thread_name("aether").enable_all().build()?;
        let (steps, waiting) = channel::<Step>();
        let (ended, stepping) = channel();
        thread::Builder::new().name("aether-python".to_owned()).spawn(move || {
            let _ended = ended;
            while let Ok(Some(step)) = waiting.recv() {
                // Nobody waits any more when the interpreter ends.
                if Python::try_attach(step).is_none() {
                    break;
                }
            }
        })?;
        Ok(Self { generation, runtime, steps, stepping })
    }
}

/// A value that belongs to the process that made it.
pub(crate) struct Owned<T> {
    generation: u64,
    runtime: Handle,
    value: Option<T>,
}

impl<T> Owned<T> {
    pub(crate) fn new(value: T, process: &Process) -> Self {
        Self { generation: GENERATION.load(Relaxed), runtime: process.runtime.clone(), value: Some(value) }
    }

    /// The value.
    ///
    /// # Errors
    /// `ForkedError` in a child of the process that made it.
    pub(crate) fn get(&self) -> PyResult<&T> {
        if self.generation != GENERATION.load(Relaxed) {
            return Err(ForkedError::new_err(
                "this was opened before the process forked, and works in the parent alone: open it again in the child",
            ));
        }
        self.value.as_ref().ok_or_else(|| ClosedError::new_err("this is closed"))
    }
}

impl<T> Drop for Owned<T> {
    fn drop(&mut self) {
        let Some(value) = self.value.take() else { return };
        if self.generation == GENERATION.load(Relaxed) {
            // The runtime does the rest of its work.
            let _entered = self.runtime.enter();
            drop(value);
        } else {
            std::mem::forget(value);
        }
    }
}

/// Takes note that this is a child: everything that was made before is dead.
#[pyfunction]
pub(crate) fn forked() {
    GENERATION.fetch_add(1, Relaxed);
}

/// Ends the threads of this process. For the end of the interpreter.
#[pyfunction]
pub(crate) fn shutdown(py: Python<'_>) {
    let generation = GENERATION.load(Relaxed);
    let workers = WORKERS.lock().take();
    match workers {
        Some(workers) if workers.generation == generation => {
            py.detach(move || {
                workers.runtime.shutdown_timeout(ENDING);
                // An interpreter that ends kills the threads that call it, with the frames of Rust below the call.
                let _ = workers.steps.send(None);
                let _ = workers.stepping.recv_timeout(ENDING);
            });
        }
        inherited => std::mem::forget(inherited),
    }
}
