//! Waves: the messages of the bus, as Python sees them, and what follows from one.

use std::time::Duration;

use aether::wave::ContentType;
use aether::{Emitter, Kind, Wave as Message, WaveBuilder};
use aether_service::Asker;
use pyo3::prelude::*;
use pyo3::types::PyBytes;
use tokio::time::Instant;

use crate::errors::Failure;
use crate::json::{Nothing, bytes_of, json_of, to_bytes, value_of};
use crate::process::{Owned, Process};
use crate::waiting::Task;

/// A wave that has arrived. Waves that it emits and asks belong to its request, and name it as their cause.
#[pyclass(frozen)]
pub(crate) struct Wave {
    message: Message,
    sender: Sender,
}

/// Emits and asks.
#[pyclass(frozen)]
pub(crate) struct Sender {
    process: Process,
    way: Owned<Way>,
}

#[derive(Clone)]
struct Way {
    emitter: Emitter,
    asker: Asker,
}

impl Sender {
    pub(crate) fn new(emitter: Emitter, asker: Asker, process: &Process) -> Self {
        Self { process: process.clone(), way: Owned::new(Way { emitter, asker }, process) }
    }
}

impl Wave {
    /// A wave, with an emitter and an asker that follow it already.
    pub(crate) fn new(message: Message, emitter: Emitter, asker: Asker, process: &Process) -> Self {
        Self { message, sender: Sender::new(emitter, asker, process) }
    }

    /// The answer to a question, from which nothing more follows.
    fn answer(message: Message, way: &Way, process: &Process) -> Self {
        let (emitter, asker) = (way.emitter.following(&message), way.asker.following(&message));
        Self::new(message, emitter, asker, process)
    }
}

/// How a wave is sent, as `(channel, value, amplitude, kind, key)`.
type Content<'py> = (String, Bound<'py, PyAny>, Option<f32>, String, Option<String>);

fn build((channel, value, amplitude, kind, key): Content<'_>) -> PyResult<Message> {
    let kinds = Kind::ALL.into_iter().find(|known| known.as_str() == kind);
    let kind = kinds.ok_or_else(|| {
        Failure::refused(format!("{kind:?} is not a kind of waves: use event, command, query or broadcast"))
    })?;
    let builder = Message::builder(&*channel).kind(kind);
    let mut builder = with_payload(builder, &value)?;
    if let Some(amplitude) = amplitude {
        builder = builder.amplitude(amplitude);
    }
    if let Some(key) = key {
        builder = builder.key(&key);
    }
    Ok(builder.build().map_err(Failure::from)?)
}

/// Bytes as they are, other values as JSON.
pub(crate) fn with_payload(builder: WaveBuilder, value: &Bound<'_, PyAny>) -> PyResult<WaveBuilder> {
    Ok(match bytes_of(value)? {
        Some(bytes) => builder.bytes(bytes),
        None => builder.bytes(json_of(value, Nothing::IsAValue)?).content_type("application/json"),
    })
}

#[pymethods]
impl Sender {
    /// Emits a wave. Returns a task, which waits for room where receivers hold back senders, and with `confirmed`
    /// until the broker or the receivers have it.
    fn emit(&self, content: Content<'_>, confirmed: bool) -> PyResult<Task> {
        let Way { emitter, .. } = self.way.get()?.clone();
        let message = build(content)?;
        Ok(Task::spawn(&self.process, async move {
            if confirmed {
                emitter.emit_confirmed(message).await.map_err(Failure::from)?;
            } else {
                emitter.emit(message).await.map_err(Failure::from)?;
            }
            Ok(())
        }))
    }

    /// Asks a question. Returns the task of the answer, a `Wave`.
    fn ask(&self, content: Content<'_>, seconds: f64) -> PyResult<Task> {
        let way = self.way.get()?.clone();
        let message = build(content)?;
        let patience =
            Duration::try_from_secs_f64(seconds).map_err(|error| Failure::refused(error.to_string()))?;
        let deadline = Instant::now()
            .checked_add(patience)
            .ok_or_else(|| Failure::refused("the time-out is longer than any clock runs"))?;
        let process = self.process.clone();
        Ok(Task::spawn(&self.process, async move {
            let answer = way.asker.ask_until(message, deadline).await.map_err(Failure::from)?;
            Ok(Wave::answer(answer, &way, &process))
        }))
    }
}

#[pymethods]
impl Wave {
    /// The channel.
    #[getter]
    fn channel(&self) -> &str {
        self.message.channel().as_str()
    }

    /// The payload: the value of JSON, text, or `aether.Bytes`.
    #[getter]
    fn value(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        match self.message.content_type() {
            ContentType::Json => value_of(py, self.message.payload()),
            ContentType::Text => {
                let text = self.message.text().map_err(Failure::from)?;
                Ok(text.into_pyobject(py)?.into_any().unbind())
            }
            _ => to_bytes(py, self.message.payload()),
        }
    }

    /// The payload as it was sent.
    #[getter]
    fn payload<'py>(&self, py: Python<'py>) -> Bound<'py, PyBytes> {
        PyBytes::new(py, self.message.payload())
    }

    /// The media type of the payload.
    #[getter]
    fn content_type(&self) -> &str {
        self.message.content_type().as_str()
    }

    /// The name of the vibrator that emitted it.
    #[getter]
    fn source(&self) -> String {
        self.message.source().to_string()
    }

    #[getter]
    fn id(&self) -> String {
        self.message.id().to_string()
    }

    /// The wave that caused it, if any.
    #[getter]
    fn cause(&self) -> Option<String> {
        self.message.cause().map(ToString::to_string)
    }

    /// The first wave of the request that it belongs to.
    #[getter]
    fn root(&self) -> String {
        self.message.root().to_string()
    }

    /// The trace that it belongs to, as 32 hexadecimal digits.
    #[getter]
    fn trace_id(&self) -> Option<String> {
        self.message.trace_context().map(|context| format!("{:032x}", context.trace_id()))
    }

    #[getter]
    fn kind(&self) -> &'static str {
        self.message.kind().as_str()
    }

    /// How important it is, 0 to 1.
    #[getter]
    fn amplitude(&self) -> f32 {
        self.message.amplitude().as_f32()
    }

    #[getter]
    fn key(&self) -> Option<&str> {
        self.message.key()
    }

    /// Its entries of metadata.
    #[getter]
    fn metadata(&self) -> Vec<(String, String)> {
        self.message.metadata().iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
    }

    /// The time since it was emitted, in seconds.
    #[getter]
    fn age(&self) -> f64 {
        self.message.age().as_secs_f64()
    }

    /// Whether the sender waits for an answer.
    #[getter]
    fn expects_reply(&self) -> bool {
        self.message.expects_reply()
    }

    /// As [`Sender::emit`].
    fn emit(&self, content: Content<'_>, confirmed: bool) -> PyResult<Task> {
        self.sender.emit(content, confirmed)
    }

    /// As [`Sender::ask`].
    fn ask(&self, content: Content<'_>, seconds: f64) -> PyResult<Task> {
        self.sender.ask(content, seconds)
    }

    /// Answers a question. Returns a task.
    fn reply(&self, value: &Bound<'_, PyAny>) -> PyResult<Task> {
        // Sending it sets its channel.
        let answer = with_payload(Message::builder(self.message.channel().clone()), value)?;
        let message = self.message.clone();
        Ok(Task::spawn(&self.sender.process, async move {
            Ok(message.reply_wave(answer).await.map_err(Failure::from)?)
        }))
    }
}
