//! Services: handlers in Python, behind the limits of the service.

use std::sync::Arc;
use std::time::Duration;

use aether::{Aether, Emitter, Wave as Message};
use aether_service::{
    Answer, Asker, CancellationToken, Rejection, Resend, Service as Rust, ServiceCounters, ServiceError,
    ServiceReport,
};
use parking_lot::Mutex;
use pyo3::prelude::*;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use crate::errors::Failure;
use crate::process::{Owned, Process};
use crate::waiting::Task;
use crate::wave::{Wave, with_payload};

/// The outcome of a handler: an answer, a rejection, or another failure.
type Outcome = Result<Answer, Box<dyn std::error::Error + Send + Sync>>;

/// A handler as `(is_query, pattern, number)`.
pub(crate) type Handler = (bool, String, usize);

/// The options of a service.
#[derive(FromPyObject)]
pub(crate) struct Options {
    name: String,
    group: Option<String>,
    concurrency: Option<usize>,
    time_out: Option<f64>,
    retries: u8,
    grace: f64,
}

/// A service that runs.
#[pyclass(frozen)]
pub(crate) struct Service {
    process: Process,
    running: Owned<Running>,
}

struct Running {
    stop: CancellationToken,
    counters: ServiceCounters,
    ended: Mutex<Option<JoinHandle<Result<ServiceReport, ServiceError>>>>,
}

/// The place of the outcome of one call of a handler.
#[pyclass(frozen)]
pub(crate) struct Call(Mutex<Option<oneshot::Sender<Outcome>>>);

impl Call {
    fn end(&self, outcome: Outcome) {
        if let Some(waiting) = self.0.lock().take() {
            // The handler was given up meanwhile.
            let _ = waiting.send(outcome);
        }
    }
}

#[pymethods]
impl Call {
    /// The handler has returned this.
    fn answer(&self, value: &Bound<'_, PyAny>) -> PyResult<()> {
        let blank = Message::builder("answer");
        self.end(Ok(Answer::wave(with_payload(blank, value)?)));
        Ok(())
    }

    /// The handler has failed. A wave that is rejected is not tried again.
    fn fail(&self, text: String, is_rejection: bool) {
        self.end(Err(if is_rejection { Rejection::new(text).into() } else { text.into() }));
    }
}

/// Calls handlers: `call(number, wave, place)` starts one and returns what cancels it.
#[derive(Clone)]
struct Caller {
    call: Arc<Py<PyAny>>,
    process: Process,
}

impl Caller {
    async fn call(self, number: usize, message: Message, emitter: Emitter, asker: Asker) -> Outcome {
        let (place, outcome) = oneshot::channel();
        let wave = Wave::new(message, emitter, asker, &self.process);
        let mut started = Started { cancel: Arc::default(), process: self.process.clone(), is_done: false };
        let (cancel, call) = (Arc::clone(&started.cancel), Arc::clone(&self.call));
        self.process.step(move |py| {
            let place = Call(Mutex::new(Some(place)));
            match call.call1(py, (number, wave, place)) {
                Ok(canceller) => *cancel.lock() = Some(canceller),
                // Its place is dropped, and the handler has failed.
                Err(error) => error.write_unraisable(py, None),
            }
        });
        let outcome = outcome.await;
        started.is_done = true;
        outcome.unwrap_or_else(|_| Err("the loop of the handler has ended".into()))
    }
}

/// A call of a handler, which is cancelled if it is given up.
struct Started {
    cancel: Arc<Mutex<Option<Py<PyAny>>>>,
    process: Process,
    is_done: bool,
}

impl Drop for Started {
    fn drop(&mut self) {
        if self.is_done {
            return;
        }
        let cancel = Arc::clone(&self.cancel);
        // After the step that starts it.
        self.process.step(move |py| {
            let canceller = cancel.lock().take();
            if let Some(Err(error)) = canceller.map(|canceller| canceller.call0(py)) {
                error.write_unraisable(py, None);
            }
        });
    }
}

/// Starts a service. It is subscribed when this returns.
pub(crate) async fn start(
    aether: &Aether,
    options: Options,
    handlers: Vec<Handler>,
    call: Py<PyAny>,
    process: Process,
) -> Result<Service, Failure> {
    let seconds = |seconds: f64| {
        Duration::try_from_secs_f64(seconds).map_err(|error| Failure::refused(error.to_string()))
    };
    let mut service = Rust::builder(&options.name).grace(seconds(options.grace)?).describe("0.0.0", "");
    if let Some(group) = &options.group {
        service = service.group(group);
    }
    if let Some(waves) = options.concurrency {
        service = service.concurrency(waves);
    }
    if let Some(time) = options.time_out {
        service = service.time_out(seconds(time)?);
    }
    if options.retries > 0 {
        service = service.retry(Resend::default().most(options.retries));
    }
    let caller = Caller { call: Arc::new(call), process: process.clone() };
    for (is_query, pattern, number) in handlers {
        let caller = caller.clone();
        let handler = move |message: Message, emitter: Emitter, asker: Asker| {
            caller.clone().call(number, message, emitter, asker)
        };
        service = if is_query {
            service.on_query(pattern, handler)
        } else {
            service.on(pattern, move |message, emitter, asker| {
                let handling = handler(message, emitter, asker);
                async move { handling.await.map(drop) }
            })
        };
    }
    let service = service.build(aether).await?;
    let (stop, counters) = (CancellationToken::new(), service.counters());
    let ended = Mutex::new(Some(tokio::spawn(service.run_until(stop.clone()))));
    Ok(Service { running: Owned::new(Running { stop, counters, ended }, &process), process })
}

#[pymethods]
impl Service {
    /// The outcomes of the waves so far.
    fn report(&self) -> PyResult<Report> {
        Ok(self.running.get()?.counters.report().into())
    }

    /// Ends the service. Handlers that run have the grace period.
    fn stop(&self) -> PyResult<()> {
        self.running.get()?.stop.cancel();
        Ok(())
    }

    /// The task of the report once the service has ended. Only the first call waits.
    fn ended(&self) -> PyResult<Task> {
        let running = self.running.get()?;
        let (ended, counters) = (running.ended.lock().take(), running.counters.clone());
        Ok(Task::spawn(&self.process, async move {
            if let Some(ended) = ended {
                let ended = ended.await.map_err(|error| Failure::refused(error.to_string()))?;
                ended.map_err(Failure::from)?;
            }
            Ok(Report::from(counters.report()))
        }))
    }
}

/// The outcomes of waves, as a dict.
#[derive(IntoPyObject)]
struct Report {
    received: u64,
    succeeded: u64,
    retried: u64,
    rejected: u64,
    failed: u64,
    timed_out: u64,
    left: u64,
    abandoned: u64,
    in_flight: u64,
}

impl From<ServiceReport> for Report {
    fn from(report: ServiceReport) -> Self {
        Self {
            received: report.received,
            succeeded: report.succeeded,
            retried: report.retried,
            rejected: report.rejected,
            // A handler of Python that panics is an error of this extension.
            failed: report.failed + report.panicked,
            timed_out: report.timed_out,
            left: report.left,
            abandoned: report.abandoned,
            in_flight: report.in_flight,
        }
    }
}
