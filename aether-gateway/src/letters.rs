//! Dead letters over HTTP: lists, shows, replays and drops the letters of all services that answer for theirs.
//!
//! It asks the same questions as `aether letters`. Letters that durable logs keep in JetStream are read from the
//! server: each such log is a store, too. A letter has the payload of a wave, so reading needs the right to hear its
//! channel, and changing the right to emit on the channel of the letter's store.

use std::sync::Arc;
use std::time::Duration;

use aether_core::echo::LetterId;
use aether_core::presence::Roster;
use aether_core::{AskError, Channel, Emitter, Kind, Pattern, Wave};
use aether_log::DeadError;
use aether_service::error_chain;
use aether_service::letters::{
    LetterAnswer, LetterFilter, LetterQuery, LetterRecord, channel_of, record_of_log, stores,
};
use axum::Router;
use axum::extract::{Path, RawQuery, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use serde::Serialize;
use tokio::sync::Mutex;
use tokio::time::{Instant, timeout, timeout_at};

use crate::access::WaveRights;
use crate::answer;
use crate::durable::Durable;
use crate::gate::{Caller, Gate, GateError};
use crate::taps::Taps;

/// How long one service has to answer, and all of them for one list: an answer has 15 s.
const PATIENCE: Duration = Duration::from_secs(2);
const PATIENCE_FOR_ALL: Duration = Duration::from_secs(10);
const PATIENCE_FOR_STREAM: Duration = Duration::from_secs(6);
/// The maximum number of services that are asked, and of letters that are listed.
const MOST_STORES: usize = 64;
const MOST_LETTERS: usize = 1000;
/// The maximum number of letters of a log in JetStream that are listed: each is a request to the server.
const MOST_LETTERS_OF_LOG: usize = 100;
/// Why a log in JetStream is not in a list.
const NOT_READ: &str = "it was not read any more, as others took too long";

/// The services and logs that answer about letters.
#[derive(Debug)]
pub(crate) struct Letters {
    roster: Roster,
    emitter: Emitter,
    gate: Arc<Gate>,
    taps: Arc<Taps>,
    durable: Arc<Durable>,
    /// One list at a time: each asks every service.
    turn: Mutex<()>,
}

/// A list of letters, the oldest of each service first.
#[derive(Debug, Serialize)]
struct List {
    stores: Vec<Store>,
    letters: Vec<Listed>,
    /// Whether there are more.
    more: bool,
    /// Letters of channels that the client may not hear.
    hidden: usize,
}

/// A service that keeps letters.
#[derive(Debug, Serialize)]
struct Store {
    store: String,
    service: String,
    /// Why it did not answer.
    error: Option<String>,
}

#[derive(Debug, Serialize)]
struct Listed {
    service: String,
    #[serde(flatten)]
    letter: LetterRecord,
}

impl Letters {
    pub(crate) fn new(
        roster: Roster,
        emitter: Emitter,
        gate: Arc<Gate>,
        taps: Arc<Taps>,
        durable: Arc<Durable>,
    ) -> Arc<Self> {
        Arc::new(Self { roster, emitter, gate, taps, durable, turn: Mutex::default() })
    }

    /// Asks a service. `None` is an answer that cannot be read.
    async fn ask(
        &self,
        store: u64,
        query: &LetterQuery,
        patience: Duration,
    ) -> Result<Option<LetterAnswer>, AskError> {
        let question = Wave::builder(channel_of(store)).kind(Kind::Query).json(query).build();
        // The channel and the question are made of numbers and of texts that were read as JSON or a query.
        let Ok(question) = question else { return Ok(None) };
        let answer = self.emitter.ask_within(question, patience).await?;
        Ok(answer.json().ok())
    }

    /// Asks all of them. `None` if its turn does not come in time.
    async fn list(&self, filter: &LetterFilter, rights: &WaveRights) -> Option<List> {
        let end = Instant::now() + PATIENCE_FOR_ALL;
        let _turn = timeout_at(end, self.turn.lock()).await.ok()?;
        let mut list = List { stores: Vec::new(), letters: Vec::new(), more: false, hidden: 0 };
        let mut stores = stores(&self.roster);
        list.more = stores.len() > MOST_STORES;
        stores.truncate(MOST_STORES);
        for (store, service) in stores {
            let mut after = 0;
            let error = loop {
                if list.letters.len() >= MOST_LETTERS {
                    list.more = true;
                    break None;
                }
                let patience = PATIENCE.min(end.saturating_duration_since(Instant::now()));
                if patience.is_zero() {
                    break Some("it was not asked any more, as others took too long".to_owned());
                }
                let query = LetterQuery::Ls { filter: filter.clone(), after };
                let (letters, more) = match self.ask(store, &query, patience).await {
                    Ok(Some(LetterAnswer::Letters { letters, more })) => (letters, more),
                    Ok(_) => break Some("its answer cannot be read".to_owned()),
                    Err(error) => break Some(error_chain(&error)),
                };
                let last = letters.last().and_then(|letter| letter.id.parse::<LetterId>().ok());
                let all = letters.len();
                let shown = letters.into_iter().filter(|letter| may_hear(rights, letter));
                let before = list.letters.len();
                list.letters.extend(shown.map(|letter| Listed { service: service.clone(), letter }));
                list.hidden += all - (list.letters.len() - before);
                match last.filter(|_| more) {
                    Some(last) if last.number > after => after = last.number,
                    _ => break None,
                }
            };
            list.stores.push(Store { store: format!("{store:x}"), service, error });
        }
        self.list_streams(filter, rights, &mut list, end).await;
        Some(list)
    }

    /// Adds the letters of logs in JetStream that have any.
    async fn list_streams(&self, filter: &LetterFilter, rights: &WaveRights, list: &mut List, end: Instant) {
        let channel = filter.channel.as_deref().and_then(|pattern| Pattern::new(pattern).ok());
        let Ok(logs) = timeout_at(end, self.durable.stores_with_letters()).await else {
            let error = Some(NOT_READ.to_owned());
            list.stores.push(Store { store: "0".to_owned(), service: "JetStream".to_owned(), error });
            return;
        };
        for (log, store) in logs {
            // A service that has the log open has answered for it.
            let named = format!("{store:x}");
            if list.stores.iter().any(|known| known.store == named && known.error.is_none()) {
                continue;
            }
            let reading = self.durable.letters_of(&log, MOST_LETTERS_OF_LOG + 1);
            let error = match timeout_at(end, reading).await {
                Ok(Ok(mut letters)) => {
                    list.more |= letters.len() > MOST_LETTERS_OF_LOG;
                    letters.truncate(MOST_LETTERS_OF_LOG);
                    for letter in letters {
                        let of = letter.stored.wave.channel();
                        if channel.as_ref().is_some_and(|pattern| !pattern.matches(of)) {
                            continue;
                        }
                        if !rights.may_hear(of) {
                            list.hidden += 1;
                            continue;
                        }
                        let id = LetterId { store, number: letter.number };
                        let letter = record_of_log(id, &letter, false);
                        list.letters.push(Listed { service: service_of(&log), letter });
                    }
                    None
                }
                Ok(Err(error)) => Some(error_chain(&error)),
                Err(_) => Some(NOT_READ.to_owned()),
            };
            list.stores.push(Store { store: format!("{store:x}"), service: service_of(&log), error });
        }
    }

    /// The rights of a request that may read letters, or change one of this store.
    fn rights(&self, caller: &Caller, change: Option<u64>) -> Result<WaveRights, GateError> {
        let rights = self.gate.rights_of(caller).and_then(|rights| {
            let allowed = match change.map(|store| Channel::new(channel_of(store))) {
                Some(Ok(channel)) => self.gate.may_emit(&rights, &channel),
                None if !rights.hear.is_empty() => Ok(()),
                _ => Err(GateError::Hear),
            };
            allowed.map(|()| rights)
        });
        rights.inspect_err(|error| self.taps.refuse(error))
    }

    /// Asks about one letter. A service that is not there any more has taken its letters with it.
    async fn about(&self, caller: &Caller, id: &str, op: Op) -> Response {
        let Ok(id) = id.parse::<LetterId>() else {
            return problem(StatusCode::BAD_REQUEST, "ids of letters look like 1f9a3c5b7d2e4f60-17");
        };
        let rights = match self.rights(caller, (op != Op::Show).then_some(id.store)) {
            Ok(rights) => rights,
            Err(error) => return error.into_response(),
        };
        if let Some(log) = self.durable.stream_of_store(id.store) {
            return self.about_stream(&rights, &log, id, op).await;
        }
        match self.ask(id.store, &op.query(id), PATIENCE).await {
            Ok(Some(LetterAnswer::Gone { hint, .. })) => problem(StatusCode::NOT_FOUND, &hint),
            Ok(Some(LetterAnswer::NotSent { hint, .. })) => problem(StatusCode::CONFLICT, &hint),
            Ok(Some(LetterAnswer::Letter(letter))) if !may_hear(&rights, &letter) => {
                self.taps.refuse(&GateError::Hear);
                GateError::Hear.into_response()
            }
            Ok(Some(answer)) => answer::json(StatusCode::OK, &answer),
            Ok(None) => problem(StatusCode::BAD_GATEWAY, "the answer of the service cannot be read"),
            Err(AskError::NoResonator { .. }) => problem(StatusCode::NOT_FOUND, "no running service has it"),
            Err(error) => problem(StatusCode::GATEWAY_TIMEOUT, &error_chain(&error)),
        }
    }
}

impl Letters {
    /// Reads, stores again or drops a letter of a log in JetStream.
    async fn about_stream(&self, rights: &WaveRights, log: &str, id: LetterId, op: Op) -> Response {
        let LetterId { number, .. } = id;
        let doing = async {
            let letters = self.durable.stream_letters(log).await.map_err(DeadError::from)?;
            Ok(match op {
                Op::Show => {
                    let letter = letters.show(number).await?;
                    let may_hear = rights.may_hear(letter.stored.wave.channel());
                    may_hear.then(|| LetterAnswer::Letter(Box::new(record_of_log(id, &letter, true))))
                }
                Op::Replay => {
                    let position = letters.store_again(number).await?;
                    let wave = format!("position {position} of {log}");
                    Some(LetterAnswer::Replayed { id: id.to_string(), wave })
                }
                Op::Drop => {
                    letters.drop_letter(number).await?;
                    Some(LetterAnswer::Dropped { id: id.to_string() })
                }
            })
        };
        match timeout(PATIENCE_FOR_STREAM, doing).await {
            Ok(Ok(Some(answer))) => answer::json(StatusCode::OK, &answer),
            Ok(Ok(None)) => {
                self.taps.refuse(&GateError::Hear);
                GateError::Hear.into_response()
            }
            Ok(Err(error @ DeadError::Unknown { .. })) => problem(StatusCode::NOT_FOUND, &error.to_string()),
            Ok(Err(error)) => problem(StatusCode::BAD_GATEWAY, &error_chain(&error)),
            Err(_) => problem(StatusCode::GATEWAY_TIMEOUT, "the server did not answer in time"),
        }
    }
}

/// How a log in JetStream is called among the services.
fn service_of(log: &str) -> String {
    format!("{log} in JetStream")
}

/// The channel comes from the service that answered: a name that is none is heard by nobody.
fn may_hear(rights: &WaveRights, letter: &LetterRecord) -> bool {
    Channel::new(&letter.channel).is_ok_and(|channel| rights.may_hear(&channel))
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Op {
    Show,
    Replay,
    Drop,
}

impl Op {
    fn query(self, id: LetterId) -> LetterQuery {
        let id = id.to_string();
        match self {
            Self::Show => LetterQuery::Show { id },
            Self::Replay => LetterQuery::Replay { id },
            Self::Drop => LetterQuery::Drop { id },
        }
    }
}

pub(crate) fn routes(letters: Arc<Letters>) -> Router {
    Router::new()
        .route("/api/dead", get(list))
        .route("/api/dead/{id}", get(show).delete(remove))
        .route("/api/dead/{id}/replay", post(replay))
        .with_state(letters)
}

async fn list(State(letters): State<Arc<Letters>>, RawQuery(query): RawQuery, caller: Caller) -> Response {
    let rights = match letters.rights(&caller, None) {
        Ok(rights) => rights,
        Err(error) => return error.into_response(),
    };
    let mut filter = LetterFilter::default();
    for (name, value) in form_urlencoded::parse(query.unwrap_or_default().as_bytes()) {
        if name != "channel" {
            return problem(StatusCode::BAD_REQUEST, "the only parameter is channel, a pattern");
        }
        if Pattern::new(&*value).is_err() {
            return problem(StatusCode::BAD_REQUEST, "channel is a pattern such as orders.* or orders.>");
        }
        filter.channel = Some(value.into_owned());
    }
    match letters.list(&filter, &rights).await {
        Some(list) => answer::json(StatusCode::OK, &list),
        None => {
            problem(StatusCode::SERVICE_UNAVAILABLE, "other lists of letters take too long; ask again later")
        }
    }
}

async fn show(State(letters): State<Arc<Letters>>, Path(id): Path<String>, caller: Caller) -> Response {
    letters.about(&caller, &id, Op::Show).await
}

async fn replay(State(letters): State<Arc<Letters>>, Path(id): Path<String>, caller: Caller) -> Response {
    letters.about(&caller, &id, Op::Replay).await
}

async fn remove(State(letters): State<Arc<Letters>>, Path(id): Path<String>, caller: Caller) -> Response {
    letters.about(&caller, &id, Op::Drop).await
}

fn problem(code: StatusCode, text: &str) -> Response {
    answer::problem(code, "letter", text)
}
