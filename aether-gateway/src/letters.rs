//! Dead letters over HTTP: lists, shows, replays and drops the letters of all services that answer for theirs.
//!
//! It asks the same questions as `aether letters`. Letters that durable logs keep in JetStream are read from the
//! server: each such log is a store, too. A letter has the payload of a wave, so reading needs the right to hear its
//! channel, and changing the right to emit on the channel of the letter's store.

use std::sync::Arc;
use std::time::Duration;

use aether_core::echo::LetterId;
use aether_core::{Channel, Pattern};
use aether_log::DeadError;
use aether_service::error_chain;
use aether_service::letters::{LetterAnswer, LetterFilter, LetterQuery, LetterRecord, record_of_log};
use axum::Router;
use axum::extract::{Path, RawQuery, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use tokio::time::{timeout, timeout_at};

use crate::access::WaveRights;
use crate::answer;
use crate::durable::Durable;
use crate::gate::Caller;
use crate::stores::{AskedStore, List, Listed, Row, Stores};

const PATIENCE_FOR_STREAM: Duration = Duration::from_secs(6);
/// The maximum number of letters of a log in JetStream that are listed: each is a request to the server.
const MOST_LETTERS_OF_LOG: usize = 100;
/// The reason of problems.
const REASON: &str = "letter";
/// Why a log in JetStream is not in a list.
const NOT_READ: &str = "it was not read any more, as others took too long";

/// The services and logs that answer about letters.
#[derive(Debug)]
pub(crate) struct Letters {
    stores: Stores,
    durable: Arc<Durable>,
}

impl Row for LetterRecord {
    const NAME: &'static str = "letters";
    type Mark = u64;

    fn mark(&self) -> Option<u64> {
        self.id.parse::<LetterId>().ok().map(|id| id.number)
    }

    fn page(answer: LetterAnswer) -> Option<(Vec<Self>, bool)> {
        match answer {
            LetterAnswer::Letters { letters, more } => Some((letters, more)),
            _ => None,
        }
    }

    /// The channel comes from the service that answered: a name that is none is heard by nobody.
    fn may_be_seen(&self, rights: &WaveRights) -> bool {
        Channel::new(&self.channel).is_ok_and(|channel| rights.may_hear(&channel))
    }
}

impl Letters {
    pub(crate) fn new(stores: Stores, durable: Arc<Durable>) -> Arc<Self> {
        Arc::new(Self { stores, durable })
    }

    /// Asks all of them. `None` if its turn does not come in time.
    async fn list(&self, filter: &LetterFilter, rights: &WaveRights) -> Option<List<'_, LetterRecord>> {
        let query = |after| LetterQuery::Ls { filter: filter.clone(), after };
        let mut list = self.stores.list(rights, query).await?;
        self.list_streams(filter, rights, &mut list).await;
        Some(list)
    }

    /// Adds the letters of logs in JetStream that have any.
    async fn list_streams(
        &self,
        filter: &LetterFilter,
        rights: &WaveRights,
        list: &mut List<'_, LetterRecord>,
    ) {
        let channel = filter.channel.as_deref().and_then(|pattern| Pattern::new(pattern).ok());
        let Ok(logs) = timeout_at(list.end, self.durable.stores_with_letters()).await else {
            let error = Some(NOT_READ.to_owned());
            list.stores.push(AskedStore { store: "0".to_owned(), service: "JetStream".to_owned(), error });
            return;
        };
        for (log, store) in logs {
            // A service that has the log open has answered for it.
            let named = format!("{store:x}");
            if list.stores.iter().any(|known| known.store == named && known.error.is_none()) {
                continue;
            }
            let reading = self.durable.letters_of(&log, MOST_LETTERS_OF_LOG + 1);
            let error = match timeout_at(list.end, reading).await {
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
                        let row = record_of_log(id, &letter, false);
                        list.rows.push(Listed { store: named.clone(), service: service_of(&log), row });
                    }
                    None
                }
                Ok(Err(error)) => Some(error_chain(&error)),
                Err(_) => Some(NOT_READ.to_owned()),
            };
            list.stores.push(AskedStore { store: named, service: service_of(&log), error });
        }
    }

    /// Asks about one letter. A service that is not there any more has taken its letters with it.
    async fn about(&self, caller: &Caller, id: &str, op: Op) -> Response {
        let Ok(id) = id.parse::<LetterId>() else {
            return problem(StatusCode::BAD_REQUEST, "ids of letters look like 1f9a3c5b7d2e4f60-17");
        };
        let rights = match self.stores.rights(caller, (op != Op::Show).then_some(id.store)) {
            Ok(rights) => rights,
            Err(error) => return error.into_response(),
        };
        if let Some(log) = self.durable.stream_of_store(id.store) {
            return self.about_stream(&rights, &log, id, op).await;
        }
        match self.stores.ask(id.store, &op.query(id)).await {
            Ok(LetterAnswer::Gone { hint, .. }) => problem(StatusCode::NOT_FOUND, &hint),
            Ok(LetterAnswer::NotSent { hint, .. }) => problem(StatusCode::CONFLICT, &hint),
            Ok(LetterAnswer::Letter(letter)) if !letter.may_be_seen(&rights) => self.stores.refuse(),
            Ok(answer) => answer::json(StatusCode::OK, &answer),
            Err(error) => error.problem(REASON),
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
            Ok(Ok(None)) => self.stores.refuse(),
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
    let rights = match letters.stores.rights(&caller, None) {
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
    answer::problem(code, REASON, text)
}
