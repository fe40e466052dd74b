//! The services that answer about what their processes keep: [dead letters](crate::letters) and [queues](crate::queues).
//!
//! Each process that answers has a store, which is asked on a channel of its own. Changing something of a store needs the
//! right to emit on that channel.

use std::sync::Arc;
use std::time::Duration;

use aether_core::presence::Roster;
use aether_core::{AskError, Channel, Emitter, Kind, Wave};
use aether_service::error_chain;
use aether_service::letters::{LetterAnswer, LetterQuery, channel_of, stores};
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use serde::ser::{Serialize, SerializeMap as _, Serializer};
use tokio::sync::{Mutex, MutexGuard};
use tokio::time::{Instant, timeout_at};

use crate::access::WaveRights;
use crate::answer;
use crate::gate::{Caller, Gate, GateError};
use crate::status::StatusSource;
use crate::taps::Taps;

/// How long one service has to answer, and all of them for one list: an answer has 15 s.
const PATIENCE: Duration = Duration::from_secs(2);
const PATIENCE_FOR_ALL: Duration = Duration::from_secs(10);
/// The maximum number of services that are asked, and of rows that are listed.
const MOST_STORES: usize = 64;
const MOST_ROWS: usize = 1000;

/// The services, and what decides who may ask them.
#[derive(Debug)]
pub(crate) struct Stores {
    roster: Roster,
    emitter: Emitter,
    gate: Arc<Gate>,
    taps: Arc<Taps>,
    /// One list at a time: each asks every service.
    turn: Mutex<()>,
}

/// A row of a list, which services answer with page by page.
pub(crate) trait Row: serde::Serialize + Sized {
    /// The name of such rows in an answer.
    const NAME: &'static str;
    /// Where a page ends; the next one begins behind it.
    type Mark: Clone + Default + PartialOrd + Send;

    /// `None` if no page begins behind it.
    fn mark(&self) -> Option<Self::Mark>;

    /// The rows of an answer, and whether there are more. `None` if it is the answer to another question.
    fn page(answer: LetterAnswer) -> Option<(Vec<Self>, bool)>;

    /// Whether a client may see it.
    fn may_be_seen(&self, rights: &WaveRights) -> bool;
}

/// The rows of one service that a client may see.
#[derive(Debug)]
pub(crate) struct Rows<T> {
    pub(crate) rows: Vec<T>,
    /// Whether there are more.
    pub(crate) more: bool,
    /// The number of rows that the client may not see.
    pub(crate) hidden: usize,
}

/// The rows of all services, service by service.
#[derive(Debug)]
pub(crate) struct List<'s, T> {
    pub(crate) stores: Vec<AskedStore>,
    pub(crate) rows: Vec<Listed<T>>,
    pub(crate) more: bool,
    pub(crate) hidden: usize,
    /// Until when it may be completed.
    pub(crate) end: Instant,
    /// Other lists wait for it.
    _turn: MutexGuard<'s, ()>,
}

/// A service that was asked.
#[derive(Debug, serde::Serialize)]
pub(crate) struct AskedStore {
    pub(crate) store: String,
    pub(crate) service: String,
    /// Why it did not answer.
    pub(crate) error: Option<String>,
}

#[derive(Debug, serde::Serialize)]
pub(crate) struct Listed<T> {
    pub(crate) store: String,
    pub(crate) service: String,
    #[serde(flatten)]
    pub(crate) row: T,
}

/// Why a service gave no answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Unanswered {
    #[error("it was not asked any more, as others took too long")]
    Late,
    #[error("its answer cannot be read")]
    Unreadable,
    #[error(transparent)]
    Ask(#[from] AskError),
}

impl Stores {
    pub(crate) fn new(source: &StatusSource, emitter: Emitter, gate: Arc<Gate>) -> Self {
        let (roster, taps) = (source.roster().clone(), Arc::clone(source.taps()));
        Self { roster, emitter, gate, taps, turn: Mutex::default() }
    }

    /// Asks one of them.
    pub(crate) async fn ask(&self, store: u64, query: &LetterQuery) -> Result<LetterAnswer, Unanswered> {
        self.ask_within(store, query, PATIENCE).await
    }

    async fn ask_within(
        &self,
        store: u64,
        query: &LetterQuery,
        patience: Duration,
    ) -> Result<LetterAnswer, Unanswered> {
        let question = Wave::builder(channel_of(store)).kind(Kind::Query).json(query).build();
        // The channel and the question are made of numbers and of texts that were read as JSON or a query.
        let Ok(question) = question else { return Err(Unanswered::Unreadable) };
        let answer = self.emitter.ask_within(question, patience).await?;
        answer.json().map_err(|_| Unanswered::Unreadable)
    }

    /// Asks all of them for rows. `None` if its turn does not come in time.
    pub(crate) async fn list<T: Row>(
        &self,
        rights: &WaveRights,
        query: impl Fn(T::Mark) -> LetterQuery + Sync,
    ) -> Option<List<'_, T>> {
        let end = Instant::now() + PATIENCE_FOR_ALL;
        let turn = timeout_at(end, self.turn.lock()).await.ok()?;
        let mut all = stores(&self.roster);
        let more = all.len() > MOST_STORES;
        all.truncate(MOST_STORES);
        let mut list = List { stores: Vec::new(), rows: Vec::new(), more, hidden: 0, end, _turn: turn };
        for (store, service) in all {
            let mut found = Rows::none();
            let asked = self.read(store, rights, &query, MOST_ROWS - list.rows.len(), end, &mut found).await;
            let (store, error) = (format!("{store:x}"), asked.err().map(|error| error_chain(&error)));
            let row = |row| Listed { store: store.clone(), service: service.clone(), row };
            list.rows.extend(found.rows.into_iter().map(row));
            list.more |= found.more;
            list.hidden += found.hidden;
            list.stores.push(AskedStore { store, service, error });
        }
        Some(list)
    }

    /// Asks one of them for rows.
    pub(crate) async fn list_of<T: Row>(
        &self,
        store: u64,
        rights: &WaveRights,
        query: impl Fn(T::Mark) -> LetterQuery + Sync,
    ) -> Result<Rows<T>, Unanswered> {
        let (mut found, end) = (Rows::none(), Instant::now() + PATIENCE_FOR_ALL);
        self.read(store, rights, &query, MOST_ROWS, end, &mut found).await?;
        Ok(found)
    }

    /// Reads page after page, for at most `most` rows that the client may see.
    async fn read<T: Row>(
        &self,
        store: u64,
        rights: &WaveRights,
        query: &(impl Fn(T::Mark) -> LetterQuery + Sync),
        most: usize,
        end: Instant,
        found: &mut Rows<T>,
    ) -> Result<(), Unanswered> {
        let mut behind = T::Mark::default();
        while found.rows.len() < most {
            let patience = PATIENCE.min(end.saturating_duration_since(Instant::now()));
            if patience.is_zero() {
                return Err(Unanswered::Late);
            }
            let answer = self.ask_within(store, &query(behind.clone()), patience).await?;
            let (rows, more) = T::page(answer).ok_or(Unanswered::Unreadable)?;
            let last = rows.last().and_then(T::mark);
            for row in rows {
                match row.may_be_seen(rights) {
                    true => found.rows.push(row),
                    false => found.hidden += 1,
                }
            }
            match last.filter(|last| more && *last > behind) {
                Some(last) => behind = last,
                None if found.rows.len() <= most => return Ok(()),
                None => break,
            }
        }
        found.rows.truncate(most);
        found.more = true;
        Ok(())
    }

    /// The rights of a request that may read what is kept, or change something of this store.
    pub(crate) fn rights(&self, caller: &Caller, change: Option<u64>) -> Result<WaveRights, GateError> {
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

    /// Refuses what a client may not hear.
    pub(crate) fn refuse(&self) -> Response {
        self.taps.refuse(&GateError::Hear);
        GateError::Hear.into_response()
    }
}

impl<T> Rows<T> {
    const fn none() -> Self {
        Self { rows: Vec::new(), more: false, hidden: 0 }
    }
}

impl<T: Row> Serialize for List<'_, T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(4))?;
        map.serialize_entry("stores", &self.stores)?;
        map.serialize_entry(T::NAME, &self.rows)?;
        map.serialize_entry("more", &self.more)?;
        map.serialize_entry("hidden", &self.hidden)?;
        map.end()
    }
}

impl Unanswered {
    /// The answer to a request about one store. `about` is what the request is about.
    pub(crate) fn problem(&self, about: &str) -> Response {
        let (code, text) = match self {
            Self::Ask(AskError::NoResonator { .. }) => {
                (StatusCode::NOT_FOUND, "no running service has it".to_owned())
            }
            Self::Ask(AskError::Failed { .. }) => (StatusCode::BAD_GATEWAY, error_chain(self)),
            Self::Unreadable => {
                (StatusCode::BAD_GATEWAY, "the answer of the service cannot be read".to_owned())
            }
            _ => (StatusCode::GATEWAY_TIMEOUT, error_chain(self)),
        };
        answer::problem(code, about, &text)
    }
}
