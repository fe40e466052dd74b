//! Streams of what happens: a look that never waits, and a wait that takes nothing.
//!
//! A wait that is cancelled loses nothing: the items that came meanwhile stay here until the next look.

use std::collections::VecDeque;
use std::sync::Arc;

use futures_util::stream::{BoxStream, empty};
use futures_util::{FutureExt as _, StreamExt as _};
use parking_lot::Mutex;
use pyo3::prelude::*;
use tokio_util::sync::CancellationToken;

use crate::process::{Owned, Process};
use crate::waiting::Task;

/// Something that has happened, before Python sees it.
pub(crate) type Item = Box<dyn FnOnce(Python<'_>) -> PyResult<Py<PyAny>> + Send>;

/// What happens, such as changes of a field.
#[pyclass(frozen)]
pub(crate) struct Stream {
    process: Process,
    shared: Owned<Arc<Shared>>,
}

struct Shared {
    source: tokio::sync::Mutex<BoxStream<'static, Item>>,
    waiting: Mutex<VecDeque<Item>>,
    closed: CancellationToken,
    at_once: usize,
}

impl Stream {
    /// - `at_once`: the number of items that are taken from the source before Python asks for them.
    pub(crate) fn new(source: BoxStream<'static, Item>, at_once: usize, process: &Process) -> Self {
        let source = tokio::sync::Mutex::new(source.fuse().boxed());
        let shared = Shared { source, waiting: Mutex::default(), closed: CancellationToken::new(), at_once };
        Self { process: process.clone(), shared: Owned::new(Arc::new(shared), process) }
    }
}

impl Shared {
    /// Whether something waits; `false` once nothing will come.
    async fn ready(&self) -> bool {
        let mut source = self.source.lock().await;
        if !self.waiting.lock().is_empty() {
            return true;
        }
        let mut next = tokio::select! {
            biased;
            () = self.closed.cancelled() => None,
            next = source.next() => next,
        };
        while let Some(item) = next {
            let mut waiting = self.waiting.lock();
            waiting.push_back(item);
            next = if waiting.len() < self.at_once { source.next().now_or_never().flatten() } else { None };
        }
        if self.closed.is_cancelled() {
            *source = empty().boxed();
        }
        !self.waiting.lock().is_empty()
    }

    /// Ends the source, which otherwise goes on to collect, or leaves that to the wait that has it.
    fn close(&self) {
        self.closed.cancel();
        if let Ok(mut source) = self.source.try_lock() {
            *source = empty().boxed();
        }
    }
}

#[pymethods]
impl Stream {
    /// The task of whether something waits; `False` once the stream is at its end.
    fn ready(&self) -> PyResult<Task> {
        let shared = Arc::clone(self.shared.get()?);
        Ok(Task::spawn(&self.process, async move { Ok(shared.ready().await) }))
    }

    /// The next of those that wait; `None` if nothing waits.
    fn take(&self, py: Python<'_>) -> PyResult<Option<Py<PyAny>>> {
        let item = self.shared.get()?.waiting.lock().pop_front();
        item.map(|item| item(py)).transpose()
    }

    /// Ends the stream. Items that wait can still be taken.
    fn close(&self) -> PyResult<()> {
        self.shared.get()?.close();
        Ok(())
    }
}
