//! Waiting in Python for what the runtime does.

use std::mem;
use std::sync::Arc;

use parking_lot::Mutex;
use pyo3::BoundObject as _;
use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;
use tokio::task::AbortHandle;

use crate::process::Process;

/// Work of the runtime, and its result.
///
/// It has no lock of Python: Ctrl-C may leave one locked, as `concurrent.futures.Future` does, and the thread that
/// hands over the results would wait for it for good.
#[pyclass(frozen)]
pub(crate) struct Task {
    state: Arc<Mutex<State>>,
    work: AbortHandle,
}

enum State {
    /// The functions that are called at the end.
    Running(Vec<Py<PyAny>>),
    Done(PyResult<Py<PyAny>>),
    Cancelled,
}

impl Task {
    /// Starts the work.
    pub(crate) fn spawn<T>(
        process: &Process,
        work: impl Future<Output = Result<T, PyErr>> + Send + 'static,
    ) -> Self
    where
        T: for<'py> IntoPyObject<'py> + Send + 'static,
    {
        let state = Arc::new(Mutex::new(State::Running(Vec::new())));
        let (steps, settled) = (process.clone(), Arc::clone(&state));
        let task = process.runtime.spawn(async move {
            let result = work.await;
            steps.step(move |py| settle(py, &settled, result));
        });
        Self { state, work: task.abort_handle() }
    }
}

fn settle<'py, T: IntoPyObject<'py>>(py: Python<'py>, state: &Mutex<State>, result: PyResult<T>) {
    let result = result.and_then(|value| match value.into_pyobject(py) {
        Ok(value) => Ok(value.into_any().unbind()),
        Err(error) => Err(error.into()),
    });
    for callback in end(state, State::Done(result)).into_iter().flatten() {
        if let Err(error) = callback.call0(py) {
            error.write_unraisable(py, Some(callback.bind(py)));
        }
    }
}

/// Ends the wait unless it has ended. Returns what to call then.
fn end(state: &Mutex<State>, ended: State) -> Option<Vec<Py<PyAny>>> {
    let mut state = state.lock();
    let State::Running(callbacks) = &mut *state else { return None };
    let callbacks = mem::take(callbacks);
    *state = ended;
    Some(callbacks)
}

#[pymethods]
impl Task {
    /// Calls the function once there is a result, on a thread of the extension, or now if there is one.
    fn when_done(&self, callback: Py<PyAny>, py: Python<'_>) -> PyResult<()> {
        if let State::Running(callbacks) = &mut *self.state.lock() {
            callbacks.push(callback);
            return Ok(());
        }
        callback.call0(py)?;
        Ok(())
    }

    fn done(&self) -> bool {
        !matches!(*self.state.lock(), State::Running(_))
    }

    /// The result, or its error. It is an error, too, if there is none.
    fn result(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        match &*self.state.lock() {
            State::Done(Ok(value)) => Ok(value.clone_ref(py)),
            State::Done(Err(error)) => Err(error.clone_ref(py)),
            State::Running(_) | State::Cancelled => Err(PyRuntimeError::new_err("there is no result")),
        }
    }

    /// Ends the work. Returns `False` if there is a result.
    fn cancel(&self) -> bool {
        self.work.abort();
        end(&self.state, State::Cancelled).is_some()
    }
}
