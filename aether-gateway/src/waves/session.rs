//! The state of one client of `/ws`: its rights, what it watches, its subscriptions, and what it waits for.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use aether_core::{EmitError, Emitter, Wave};
use aether_service::error_chain;
use axum::extract::ws::Utf8Bytes;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use serde_json::{Value, json};
use tokio::sync::Notify;
use tokio::time::Instant;

use super::draft::Draft;
use super::request::{Op, Request};
use super::shared::Shared;
use crate::access::WaveRights;
use crate::gate::{Caller, GateError};
use crate::taps::record;
use crate::taps::{OpenTap, Taken, Taps, message};
use crate::trace_url::TraceUrl;
use crate::views::{View, Watching};

/// The maximum number of subscriptions of a client. They share its bound in bytes equally.
const MOST_SUBSCRIPTIONS: usize = 4;
/// The patience of a question that names none, and the longest.
const PATIENCE: Duration = Duration::from_secs(5);
const LONGEST_PATIENCE: Duration = Duration::from_secs(60);

/// A client.
pub(super) struct Session {
    shared: Arc<Shared>,
    caller: Caller,
    rights: Result<WaveRights, GateError>,
    may_watch: Result<(), GateError>,
    watching: Vec<Watching>,
    subscriptions: Vec<(u64, OpenTap)>,
    pub(super) wake: Arc<Notify>,
    pub(super) replies: VecDeque<String>,
    /// Waves that are emitted, and questions that wait for their answers.
    pub(super) running: FuturesUnordered<BoxFuture<'static, String>>,
}

impl Session {
    pub(super) fn new(shared: Arc<Shared>, caller: Caller, rights: Result<WaveRights, GateError>) -> Self {
        let may_watch = shared.gate.may_read_of(caller.headers());
        let hello = json!({
            "op": "hello",
            "version": env!("CARGO_PKG_VERSION"),
            "needs_token": shared.gate.needs_token(&caller),
            "emits": shared.gate.emits(),
            "trace_url": shared.trace_url.as_ref().map(TraceUrl::as_str),
            "max_message_bytes": shared.limits.max_message_bytes,
            "watch_refused": may_watch.as_ref().err().map(ToString::to_string),
            "refused": rights.as_ref().err().map(ToString::to_string),
        });
        Self {
            shared,
            caller,
            rights,
            may_watch,
            watching: Vec::new(),
            subscriptions: Vec::new(),
            wake: Arc::default(),
            replies: VecDeque::from([hello.to_string()]),
            running: FuturesUnordered::new(),
        }
    }

    pub(super) fn receive(&mut self, text: &str) {
        match serde_json::from_str::<Request>(text) {
            Ok(request) => {
                let id = request.id;
                if let Err(error) = self.carry_out(request) {
                    self.refuse(id, error);
                }
            }
            Err(error) => self.refuse(0, Refusal::new("json", error)),
        }
    }

    /// A message is too long, or there are too many.
    pub(super) fn refuse_message(&mut self, reason: &'static str, text: String) {
        self.refuse(0, Refusal::new(reason, text));
    }

    fn refuse(&mut self, id: u64, Refusal { reason, text, is_of_gate }: Refusal) {
        self.shared.taps.refuse_for(reason);
        if is_of_gate {
            self.shared.taps.audit.refused(reason, self.caller.address(), "/ws", &text);
        }
        self.replies.push_back(error(id, reason, &text));
    }

    fn carry_out(&mut self, request: Request) -> Result<(), Refusal> {
        let Request { op, id, token, view, filter, wave, patience_ms } = request;
        match op {
            Op::Token => {
                self.may_watch = self.shared.gate.may_read(self.caller.headers(), token.as_deref());
                self.rights = self.shared.gate.rights(&self.caller, token.as_deref());
                self.may_watch.clone()?;
                self.rights()?;
            }
            Op::Watch => {
                self.may_watch.clone()?;
                let view = named(view.as_deref())?;
                if self.watching.iter().all(|watching| watching.view != view) {
                    self.watching.push(self.shared.views.watch(view));
                }
                return Ok(());
            }
            Op::Unwatch => {
                let view = named(view.as_deref())?;
                self.watching.retain(|watching| watching.view != view);
                return Ok(());
            }
            Op::Subscribe => {
                let rights = self.rights()?.clone();
                if rights.hear.is_empty() {
                    return Err(GateError::Hear.into());
                }
                let per_second = filter.per_second;
                let filter = filter.filter().map_err(|error| Refusal::new("filter", error))?;
                // A new filter under a number replaces the one before.
                self.subscriptions.retain(|(known, _)| *known != id);
                if self.subscriptions.len() == MOST_SUBSCRIPTIONS {
                    let text = format!("at most {MOST_SUBSCRIPTIONS} subscriptions are allowed");
                    return Err(Refusal::new("subscriptions", text));
                }
                let (taps, wake) = (&self.shared.taps, Arc::clone(&self.wake));
                let bytes = self.shared.limits.max_queue_bytes / MOST_SUBSCRIPTIONS;
                self.subscriptions.push((id, OpenTap::open(taps, filter, rights, per_second, bytes, wake)));
            }
            Op::Unsubscribe => self.subscriptions.retain(|(known, _)| *known != id),
            Op::Emit => {
                let wave = self.wave(wave)?;
                return self.emit(id, wave);
            }
            Op::Ask => {
                let wave = self.wave(wave)?;
                Taps::one(&self.shared.taps.asked);
                let patience = patience_ms.map_or(PATIENCE, Duration::from_millis).min(LONGEST_PATIENCE);
                let emitter = self.shared.emitter.clone();
                self.running.push(Box::pin(ask(emitter, id, wave, patience)));
                return Ok(());
            }
        }
        self.replies.push_back(json!({ "op": "done", "id": id }).to_string());
        Ok(())
    }

    fn rights(&self) -> Result<&WaveRights, Refusal> {
        self.rights.as_ref().map_err(|error| Refusal::from(error.clone()))
    }

    fn wave(&self, draft: Option<Draft>) -> Result<Wave, Refusal> {
        let rights = self.rights()?;
        let draft = draft.ok_or_else(|| Refusal::new("json", "there is no wave in the message"))?;
        let wave = draft.wave().map_err(|error| Refusal::new("wave", error_chain(&error)))?;
        self.shared.gate.may_emit(rights, wave.channel())?;
        Ok(wave)
    }

    /// Emits at once if there is room. Otherwise the client gets a message that its wave waits.
    fn emit(&mut self, id: u64, wave: Wave) -> Result<(), Refusal> {
        let emitter = self.shared.emitter.clone();
        match emitter.try_emit(wave) {
            Ok(receipt) => {
                Taps::one(&self.shared.taps.emitted);
                self.replies.push_back(emitted(&emitter, id, &receipt, false));
            }
            Err(EmitError::Full { wave }) => {
                self.replies.push_back(json!({ "op": "waiting", "id": id }).to_string());
                let taps = Arc::clone(&self.shared.taps);
                self.running.push(Box::pin(async move {
                    match emitter.emit(wave).await {
                        Ok(receipt) => {
                            Taps::one(&taps.emitted);
                            emitted(&emitter, id, &receipt, true)
                        }
                        Err(failed) => error(id, "emit", &error_chain(&failed)),
                    }
                }));
            }
            Err(failed) => return Err(Refusal::new("emit", error_chain(&failed))),
        }
        Ok(())
    }

    /// The next messages without waves: replies, and views that are new.
    pub(super) fn messages(&mut self) -> Vec<Utf8Bytes> {
        let mut messages: Vec<_> = self.replies.drain(..).map(Utf8Bytes::from).collect();
        let views = self.watching.iter_mut().filter_map(Watching::take);
        messages.extend(views.map(|(written, missed)| written.message(missed)));
        messages
    }

    /// The waves that wait, and when it is worth looking again before it is woken.
    pub(super) fn waves(&mut self, now: Instant) -> (Vec<Utf8Bytes>, Option<Instant>) {
        let (mut messages, mut again) = (Vec::new(), None::<Instant>);
        for (id, tap) in &mut self.subscriptions {
            let Taken { batches, mut missed, again: at } = tap.take(now);
            for batch in &batches {
                messages.push(batch.message(*id, std::mem::take(&mut missed)));
            }
            if missed > 0 {
                messages.push(message(*id, missed, &[]));
            }
            again = again.into_iter().chain(at).min();
        }
        (messages, again)
    }
}

struct Refusal {
    reason: &'static str,
    text: String,
    /// Whether the client may not do it, whatever it is.
    is_of_gate: bool,
}

impl Refusal {
    fn new(reason: &'static str, text: impl ToString) -> Self {
        Self { reason, text: text.to_string(), is_of_gate: false }
    }
}

impl From<GateError> for Refusal {
    fn from(error: GateError) -> Self {
        Self { is_of_gate: true, ..Self::new(error.reason(), error) }
    }
}

fn named(view: Option<&str>) -> Result<View, Refusal> {
    let names = View::ALL.map(View::name).join(", ");
    view.and_then(View::named).ok_or_else(|| Refusal::new("view", format!("the views are: {names}")))
}

fn error(id: u64, reason: &str, text: &str) -> String {
    json!({ "op": "error", "id": id, "reason": reason, "text": text }).to_string()
}

fn emitted(emitter: &Emitter, id: u64, receipt: &aether_core::Receipt, waited: bool) -> String {
    let mut reply = json!({ "op": "emitted", "id": id, "wave": emitter.id_of(receipt).to_string() });
    reply["receivers"] = receipt.receivers.map_or(Value::Null, Value::from);
    reply["waited"] = waited.into();
    reply.to_string()
}

async fn ask(emitter: Emitter, id: u64, question: Wave, patience: Duration) -> String {
    match emitter.ask_within(question, patience).await {
        Ok(answer) => {
            let wave = record::whole(&answer);
            format!(r#"{{"op":"answer","id":{id},"wave":{wave}}}"#)
        }
        Err(failed) => error(id, "ask", &error_chain(&failed)),
    }
}
