//! Durable consumers over HTTP: the waves that wait for one, sent again, and the consumer forgotten.
//!
//! A wave has a payload, so looking needs the right to hear its channel, sending again the right to emit on it, and
//! forgetting the right to emit on the channel of the log's store, as for [dead letters](crate::letters). A consumer in
//! JetStream is forgotten at the server. A consumer in a folder belongs to the program that has the log open: the
//! gateway asks it, if it answers.

use std::sync::Arc;
use std::time::Duration;

use aether_core::{AskError, Channel, Emitter, Kind, Wave};
use aether_service::error_chain;
use aether_service::letters::{LetterAnswer, LetterQuery, channel_of};
use axum::Router;
use axum::extract::{RawQuery, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use axum::routing::{get, post};
use serde_json::json;
use serde_json::value::RawValue;
use tokio::time::{Instant, timeout, timeout_at};

use crate::access::WaveRights;
use crate::answer;
use crate::durable::{Durable, FirstWaves, LogName, UnknownLog};
use crate::gate::{Caller, Gate, GateError};
use crate::status::StatusSource;
use crate::taps::{Taps, record};

/// How long reading has, and then how long emitting or a program that is asked: an answer has 15 s.
const PATIENCE: Duration = Duration::from_secs(6);
/// The number of waves that are shown, and the maximum that is sent again by one request.
const SHOWN: usize = 20;
const MOST_AGAIN: usize = 1000;
/// The maximum size of a payload that is shown whole, in bytes.
const MAX_SHOWN: usize = 8 << 10;

/// The services that answer about consumers.
#[derive(Debug)]
pub(crate) struct Consumers {
    durable: Arc<Durable>,
    emitter: Emitter,
    gate: Arc<Gate>,
    taps: Arc<Taps>,
}

/// Which consumer is meant.
struct Named {
    log: LogName,
    consumer: String,
}

impl Consumers {
    pub(crate) fn new(source: &StatusSource, emitter: Emitter, gate: Arc<Gate>) -> Arc<Self> {
        let (durable, taps) = (Arc::clone(source.durable()), Arc::clone(source.taps()));
        Arc::new(Self { durable, emitter, gate, taps })
    }

    fn rights(&self, caller: &Caller) -> Result<WaveRights, GateError> {
        self.gate.rights_of(caller).inspect_err(|error| self.taps.refuse(error))
    }

    fn refused(&self, error: &GateError) -> Response {
        self.taps.refuse(error);
        error.clone().into_response()
    }

    async fn waiting(&self, named: &Named, most: usize) -> Result<FirstWaves, Response> {
        let reading = self.durable.waiting(&named.log, &named.consumer, most);
        match timeout(PATIENCE, reading).await {
            Ok(Ok(waiting)) => Ok(waiting),
            Ok(Err(error @ (UnknownLog::Unknown | UnknownLog::NotBegun))) => {
                Err(problem(StatusCode::NOT_FOUND, &error.to_string()))
            }
            Ok(Err(error)) => Err(problem(StatusCode::BAD_GATEWAY, &error_chain(&error))),
            Err(_) => Err(problem(StatusCode::GATEWAY_TIMEOUT, "the log was not read in time")),
        }
    }

    /// Asks the program that has the log of a folder open.
    async fn forget_in_folder(&self, store: u64, consumer: String) -> Response {
        let query = LetterQuery::Forget { consumer: consumer.clone() };
        let Ok(question) = Wave::builder(channel_of(store)).kind(Kind::Query).json(&query).build() else {
            return problem(StatusCode::BAD_REQUEST, "the name cannot be sent");
        };
        match self.emitter.ask_within(question, PATIENCE).await.map(|answer| answer.json()) {
            Ok(Ok(LetterAnswer::Forgotten { consumer })) => forgotten(&consumer),
            Ok(Ok(LetterAnswer::Gone { hint, .. })) => problem(StatusCode::NOT_FOUND, &hint),
            Ok(Ok(LetterAnswer::NotSent { hint, .. })) => problem(StatusCode::CONFLICT, &hint),
            Ok(_) => problem(StatusCode::BAD_GATEWAY, "the answer of the program cannot be read"),
            Err(AskError::NoResonator { .. }) => problem(
                StatusCode::CONFLICT,
                "the program that has the log open does not answer: stop it and remove the folder of the consumer, or build \
                 its service with_letters()",
            ),
            Err(error) => problem(StatusCode::GATEWAY_TIMEOUT, &error_chain(&error)),
        }
    }
}

impl Named {
    fn of_query(query: Option<&str>) -> Option<Self> {
        let (mut log, mut consumer) = (None, None);
        for (name, value) in form_urlencoded::parse(query.unwrap_or_default().as_bytes()) {
            match &*name {
                "log" => log = Some(LogName::Stream(value.into_owned())),
                "folder" => log = Some(LogName::Folder(value.into_owned())),
                "consumer" => consumer = Some(value.into_owned()),
                _ => return None,
            }
        }
        Some(Self { log: log?, consumer: consumer? })
    }
}

pub(crate) fn routes(consumers: Arc<Consumers>) -> Router {
    Router::new()
        .route("/api/durable/consumer", get(show).delete(forget))
        .route("/api/durable/consumer/replay", post(replay))
        .with_state(consumers)
}

type This = State<Arc<Consumers>>;

/// The first waves that wait.
async fn show(State(this): This, RawQuery(query): RawQuery, caller: Caller) -> Response {
    let rights = match this.rights(&caller) {
        Ok(rights) if rights.hear.is_empty() => return this.refused(&GateError::Hear),
        Ok(rights) => rights,
        Err(error) => return error.into_response(),
    };
    let Some(named) = Named::of_query(query.as_deref()) else { return unnamed() };
    let FirstWaves { waves, more, .. } = &match this.waiting(&named, SHOWN).await {
        Ok(waiting) => waiting,
        Err(response) => return response,
    };
    let heard = waves.iter().filter(|stored| rights.may_hear(stored.wave.channel()));
    let lines: Vec<_> = heard
        .filter_map(|stored| {
            // Text that was written as JSON can be read as JSON.
            let wave = RawValue::from_string(record::json(&stored.wave, MAX_SHOWN)).ok()?;
            Some(json!({ "position": stored.position, "wave": wave }))
        })
        .collect();
    let hidden = waves.len() - lines.len();
    answer::json(StatusCode::OK, &json!({ "waves": lines, "hidden": hidden, "more": more }))
}

/// The waves that wait again, as new ones for all who listen now. The consumer itself is not changed.
async fn replay(State(this): This, RawQuery(query): RawQuery, caller: Caller) -> Response {
    let rights = match this.rights(&caller) {
        Ok(rights) => rights,
        Err(error) => return error.into_response(),
    };
    if let Err(error) = this.gate.may_emit_anything(&rights) {
        return this.refused(&error);
    }
    let Some(named) = Named::of_query(query.as_deref()) else { return unnamed() };
    let mut waiting = match this.waiting(&named, MOST_AGAIN).await {
        Ok(waiting) => waiting,
        Err(response) => return response,
    };
    // None is sent unless all may be.
    for stored in &waiting.waves {
        if let Err(error) = this.gate.may_emit(&rights, stored.wave.channel()) {
            return this.refused(&error);
        }
    }
    let (mut sent, end) = (0_usize, Instant::now() + PATIENCE);
    for stored in waiting.waves.drain(..) {
        match timeout_at(end, this.emitter.emit(stored.wave)).await {
            Ok(Ok(_)) => {
                Taps::one(&this.taps.emitted);
                sent += 1;
            }
            Ok(Err(error)) => {
                let text = format!("{sent} waves were sent again, then: {}", error_chain(&error));
                return problem(StatusCode::BAD_GATEWAY, &text);
            }
            Err(_) => {
                let text =
                    format!("{sent} waves were sent again within {PATIENCE:?}, then there was no room");
                return problem(StatusCode::GATEWAY_TIMEOUT, &text);
            }
        }
    }
    answer::json(StatusCode::OK, &json!({ "waves": sent, "more": waiting.more }))
}

/// Forgets a consumer.
async fn forget(State(this): This, RawQuery(query): RawQuery, caller: Caller) -> Response {
    let rights = match this.rights(&caller) {
        Ok(rights) => rights,
        Err(error) => return error.into_response(),
    };
    let Some(Named { log, consumer }) = Named::of_query(query.as_deref()) else { return unnamed() };
    let unknown = || problem(StatusCode::NOT_FOUND, &UnknownLog::Unknown.to_string());
    // Before anything else: what is not shown is not touched, and its existence is not told.
    if !this.durable.has(&log).await {
        return unknown();
    }
    let Some(store) = log.store() else { return unknown() };
    let Ok(channel) = Channel::new(channel_of(store)) else { return unknown() };
    if let Err(error) = this.gate.may_emit(&rights, &channel) {
        return this.refused(&error);
    }
    match log {
        LogName::Stream(log) => match timeout(PATIENCE, this.durable.forget_in_stream(&log, &consumer)).await
        {
            Ok(Ok(true)) => forgotten(&consumer),
            Ok(Ok(false)) => unknown(),
            Ok(Err(error)) => problem(StatusCode::BAD_GATEWAY, &error_chain(&error)),
            Err(_) => problem(StatusCode::GATEWAY_TIMEOUT, "the server did not answer in time"),
        },
        LogName::Folder(_) => this.forget_in_folder(store, consumer).await,
    }
}

fn forgotten(consumer: &str) -> Response {
    answer::json(StatusCode::OK, &json!({ "forgotten": consumer }))
}

fn unnamed() -> Response {
    problem(StatusCode::BAD_REQUEST, "name a log (log, or folder) and a consumer, and nothing else")
}

fn problem(code: StatusCode, text: &str) -> Response {
    answer::problem(code, "consumer", text)
}
