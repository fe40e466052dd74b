//! Queues over HTTP: lists and steers the queues of all services that answer for theirs, and their schedules.
//!
//! It asks the same questions as `aether jobs`: a queue is what one process has of a consumer of its durable log. Reading a
//! queue needs the right to hear its pattern, reading a wave or a schedule the right to hear its channel, and changing
//! something the right to emit on the channel of the store.

use std::collections::HashSet;
use std::sync::Arc;

use aether_core::{Channel, Pattern};
use aether_service::jobs::{JobAnswer, JobQuery, JobRecord, QueueRecord, ScheduleRecord};
use aether_service::letters::{LetterAnswer, LetterQuery};
use axum::Router;
use axum::extract::{Path, RawQuery, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use axum::routing::{get, post};
use serde_json::json;

use crate::access::WaveRights;
use crate::answer;
use crate::gate::Caller;
use crate::stores::{Row, Stores, Unanswered};

/// The reason of problems.
const REASON: &str = "queue";

impl Row for QueueRecord {
    const NAME: &'static str = "queues";
    type Mark = String;

    fn mark(&self) -> Option<String> {
        Some(self.consumer.clone())
    }

    fn page(answer: LetterAnswer) -> Option<(Vec<Self>, bool)> {
        match answer {
            LetterAnswer::Jobs(JobAnswer::Queues { queues, more }) => Some((queues, more)),
            _ => None,
        }
    }

    fn may_be_seen(&self, rights: &WaveRights) -> bool {
        Pattern::new(&self.pattern).is_ok_and(|pattern| rights.may_hear_all(&pattern))
    }
}

impl Row for JobRecord {
    const NAME: &'static str = "jobs";
    type Mark = u64;

    fn mark(&self) -> Option<u64> {
        Some(self.position)
    }

    fn page(answer: LetterAnswer) -> Option<(Vec<Self>, bool)> {
        match answer {
            LetterAnswer::Jobs(JobAnswer::Jobs { jobs, more }) => Some((jobs, more)),
            _ => None,
        }
    }

    /// A wave that the log has no more has no channel.
    fn may_be_seen(&self, rights: &WaveRights) -> bool {
        match self.channel.is_empty() {
            true => rights.may_hear_all(&Pattern::everything()),
            false => may_hear(rights, &self.channel),
        }
    }
}

impl Row for ScheduleRecord {
    const NAME: &'static str = "schedules";
    type Mark = String;

    fn mark(&self) -> Option<String> {
        Some(self.key.clone())
    }

    fn page(answer: LetterAnswer) -> Option<(Vec<Self>, bool)> {
        match answer {
            LetterAnswer::Jobs(JobAnswer::Schedules { schedules, more }) => Some((schedules, more)),
            _ => None,
        }
    }

    fn may_be_seen(&self, rights: &WaveRights) -> bool {
        may_hear(rights, &self.channel)
    }
}

/// The channel comes from the service that answered: a name that is none is heard by nobody.
fn may_hear(rights: &WaveRights, channel: &str) -> bool {
    Channel::new(channel).is_ok_and(|channel| rights.may_hear(&channel))
}

pub(crate) fn routes(stores: Arc<Stores>) -> Router {
    Router::new()
        .route("/api/queues", get(queues))
        .route("/api/queues/{store}/{consumer}", get(jobs))
        .route("/api/queues/{store}/{consumer}/{change}", post(change))
        .route("/api/schedules", get(schedules))
        .route("/api/schedules/{store}/{key}/unschedule", post(unschedule))
        .with_state(stores)
}

type This = State<Arc<Stores>>;

async fn queues(State(stores): This, caller: Caller) -> Response {
    let rights = match stores.rights(&caller, None) {
        Ok(rights) => rights,
        Err(error) => return error.into_response(),
    };
    let query = |after| LetterQuery::Jobs(JobQuery::Ls { after });
    match stores.list::<QueueRecord>(&rights, query).await {
        Some(list) => answer::json(StatusCode::OK, &list),
        None => busy(),
    }
}

/// The schedules of each log once, whichever of its processes answer.
async fn schedules(State(stores): This, caller: Caller) -> Response {
    let rights = match stores.rights(&caller, None) {
        Ok(rights) => rights,
        Err(error) => return error.into_response(),
    };
    let query = |after| LetterQuery::Jobs(JobQuery::Schedules { after });
    let Some(mut list) = stores.list::<ScheduleRecord>(&rights, query).await else { return busy() };
    let mut known = HashSet::new();
    list.rows.retain(|listed| known.insert((listed.row.log.clone(), listed.row.key.clone())));
    answer::json(StatusCode::OK, &list)
}

/// The waves of a queue that are in flight or pause after a failure.
async fn jobs(
    State(stores): This,
    Path((store, consumer)): Path<(String, String)>,
    caller: Caller,
) -> Response {
    let Some(store) = number(&store) else { return no_store() };
    let rights = match stores.rights(&caller, None) {
        Ok(rights) => rights,
        Err(error) => return error.into_response(),
    };
    let query = |after| LetterQuery::Jobs(JobQuery::Show { consumer: consumer.clone(), after });
    match stores.list_of::<JobRecord>(store, &rights, query).await {
        Ok(found) => {
            let found = json!({ "jobs": found.rows, "more": found.more, "hidden": found.hidden });
            answer::json(StatusCode::OK, &found)
        }
        Err(error) => error.problem(REASON),
    }
}

async fn change(
    State(stores): This,
    Path((store, consumer, change)): Path<(String, String, String)>,
    RawQuery(query): RawQuery,
    caller: Caller,
) -> Response {
    let Some(store) = number(&store) else { return no_store() };
    let mut position = None;
    for (name, value) in form_urlencoded::parse(query.unwrap_or_default().as_bytes()) {
        match value.parse() {
            Ok(number) if name == "position" => position = Some(number),
            _ => return problem(StatusCode::BAD_REQUEST, "the only parameter is position, a number"),
        }
    }
    let query = match (&*change, position) {
        ("pause", None) => JobQuery::Pause { consumer },
        ("resume", None) => JobQuery::Resume { consumer },
        ("retry", position) => JobQuery::Retry { consumer, position },
        ("cancel", Some(position)) => JobQuery::Cancel { consumer, position },
        _ => {
            let text = "pause or resume a queue, retry its waves or the one at ?position=, or cancel the one at ?position=";
            return problem(StatusCode::BAD_REQUEST, text);
        }
    };
    steer(&stores, store, query, &caller).await
}

async fn unschedule(
    State(stores): This,
    Path((store, key)): Path<(String, String)>,
    caller: Caller,
) -> Response {
    let Some(store) = number(&store) else { return no_store() };
    steer(&stores, store, JobQuery::Unschedule { key }, &caller).await
}

/// Has a service change something. It logs that.
async fn steer(stores: &Stores, store: u64, query: JobQuery, caller: &Caller) -> Response {
    if let Err(error) = stores.rights(caller, Some(store)) {
        return error.into_response();
    }
    match stores.ask(store, &LetterQuery::Jobs(query)).await {
        Ok(LetterAnswer::Jobs(JobAnswer::Changed { number: 0 })) => {
            let text = "nothing was changed: the process has no such queue or schedule, or nothing of it waits or pauses";
            problem(StatusCode::NOT_FOUND, text)
        }
        Ok(LetterAnswer::Jobs(JobAnswer::Changed { number })) => {
            answer::json(StatusCode::OK, &json!({ "changed": number }))
        }
        Ok(_) => Unanswered::Unreadable.problem(REASON),
        Err(error) => error.problem(REASON),
    }
}

fn number(store: &str) -> Option<u64> {
    u64::from_str_radix(store, 16).ok()
}

fn no_store() -> Response {
    problem(StatusCode::BAD_REQUEST, "stores look like 1f9a3c5b7d2e4f60")
}

fn busy() -> Response {
    problem(StatusCode::SERVICE_UNAVAILABLE, "other lists of queues take too long; ask again later")
}

fn problem(code: StatusCode, text: &str) -> Response {
    answer::problem(code, REASON, text)
}
