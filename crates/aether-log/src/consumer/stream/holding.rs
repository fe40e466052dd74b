//! How a process holds the waves of a consumer: what it asks the server for, and by key or with a limit, whether it
//! is the pinned client and how long it may begin waves.
//!
//! Then the server confirms each quarter of the acknowledgement wait that it has heard of the waves that are here. For
//! half of that wait from then on no other process can get one of them.

use std::time::Duration;

use async_nats::jetstream::consumer::Info;
use async_nats::jetstream::consumer::pull::BatchConfig;
use bytes::Bytes;
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use serde::Serialize;
use serde_json::json;
use tokio::time::Instant;

use super::claim::give_back;
use super::pin::{GROUP, Moment, Pin};
use super::reader::Arrived;
use super::shared::StreamShared;
use super::window::Held;
use crate::jetstream::JetStreamError;

/// How long the server keeps a request that it cannot fulfil yet.
const EXPIRES: Duration = Duration::from_secs(30);

/// How often the server confirms that it still has the request. A request without a confirmation for some of these
/// intervals is sent again: the server has changed.
pub(super) const HEARTBEAT: Duration = Duration::from_secs(1);

/// When the server was asked, and what it knows.
type Known = (Instant, Result<Info, JetStreamError>);

/// The state of the pulling task that is about the waves.
pub(super) struct Holding<'a> {
    pub(super) shared: &'a StreamShared,
    pin: Pin,
    /// A question to the server.
    asking: Option<BoxFuture<'a, Known>>,
    /// Until when a wave may begin.
    until: Instant,
    /// The pin is to be kept, although there is no room.
    keeps_pin: bool,
}

/// A request for waves.
#[derive(Serialize)]
struct Request<'a> {
    #[serde(flatten)]
    batch: BatchConfig,
    /// The pin.
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<&'a str>,
}

impl<'a> Holding<'a> {
    pub(super) fn new(shared: &'a StreamShared) -> Self {
        Self { shared, pin: Pin::default(), asking: None, until: Instant::now(), keeps_pin: false }
    }

    /// How many waves, and of how many bytes, to ask for now.
    pub(super) fn room(&mut self) -> Option<(usize, usize)> {
        if self.shared.options.is_pinned() && self.pin.id().is_none() {
            // It comes with the pin, if this is the pinned client.
            return Some((1, 0));
        }
        let keeps_pin = std::mem::take(&mut self.keeps_pin);
        self.shared.window.room().or(keeps_pin.then_some((1, 0)))
    }

    /// A request. Pinned, it ends before the server takes the pinned client for gone.
    pub(super) fn request(&self, batch: usize, max_bytes: usize) -> Result<Bytes, JetStreamError> {
        let is_pinned = self.shared.options.is_pinned();
        let expires = if is_pinned { EXPIRES.min(self.shared.ack_wait / 2) } else { EXPIRES };
        let idle_heartbeat = HEARTBEAT.min(expires / 2);
        let group = is_pinned.then(|| GROUP.to_owned());
        let expires = Some(expires);
        let batch =
            BatchConfig { batch, expires, max_bytes, idle_heartbeat, group, ..BatchConfig::default() };
        let request = serde_json::to_vec(&Request { batch, id: self.pin.id() });
        request.map(Bytes::from).map_err(|error| JetStreamError::Refused {
            doing: "pull from",
            name: self.shared.name.clone(),
            source: std::sync::Arc::new(error),
        })
    }

    /// Whether waves come back from elsewhere one by one, as there is no room for others: then there is a pause between two.
    pub(super) fn gathers_one_by_one(&self, waves: usize) -> bool {
        waves == 1 && self.pin.is_gathering()
    }

    /// Whether the end of what is in flight here is waited for.
    pub(super) fn waits(&self) -> bool {
        self.pin.is_to_ask()
    }

    /// Asks the server, unless it is being asked.
    pub(super) fn ask(&mut self) {
        self.keeps_pin = self.pin.id().is_some();
        if self.keeps_pin && self.asking.is_none() {
            let shared = self.shared;
            let begun = Instant::now();
            self.asking = Some(async move { (begun, shared.info().await) }.boxed());
        }
    }

    pub(super) fn ask_while_gathering(&mut self) {
        if self.pin.is_gathering() {
            self.ask();
        }
    }

    pub(super) fn ask_before_anything_begins(&mut self) {
        if self.pin.is_to_ask() && self.shared.window.in_flight() == 0 {
            self.ask();
        }
    }

    /// Waits for the answer.
    pub(super) async fn answered(&mut self) -> Known {
        let Some(asking) = &mut self.asking else { return std::future::pending().await };
        let answer = asking.await;
        self.asking = None;
        answer
    }

    /// The server has answered a question that was begun then. False if another process is the pinned client.
    pub(super) async fn learn(&mut self, begun: Instant, now: Moment) -> bool {
        if self.pin.id().is_none() {
            return true;
        }
        if self.pin.id() != now.pinned.as_deref() {
            self.lose().await;
            return false;
        }
        let window = &self.shared.window;
        self.until = begun + self.shared.ack_wait / 2;
        if (!self.pin.is_to_ask() || window.in_flight() == 0) && self.pin.learn(now) {
            let back = window.drain(|held| self.pin.came(held.numbers()));
            give_back(self.shared, back).await;
            self.pin.complete();
        }
        self.begin();
        true
    }

    /// Lets waves begin if all that are not acknowledged are here.
    pub(super) fn begin(&self) {
        if self.pin.is_whole() {
            self.shared.window.begin_until(self.until);
        }
    }

    /// A delivery came, behind waves that are not in the window yet. False if it is to go back.
    pub(super) async fn came(&mut self, arrived: &Arrived, before: &mut Vec<Held>) -> bool {
        if self.pin.is_new(&arrived.pin) {
            self.shared.window.take_over();
            let before = std::mem::take(before).into_iter().map(|held| held.reply);
            give_back(self.shared, before.chain(self.shared.window.drain(|_| false))).await;
            let (consumer, position) = (&self.shared.name, arrived.numbers.position);
            tracing::info!(consumer, position, "this process handles the waves of the consumer");
        }
        self.pin.came(arrived.numbers)
    }

    /// Another process may have got what is here.
    pub(super) async fn lose(&mut self) {
        self.shared.window.close();
        give_back(self.shared, self.shared.window.drain(|_| false)).await;
        if self.pin.lose() {
            tracing::info!(consumer = self.shared.name, "another process handles the waves of the consumer");
        }
    }

    /// It is not clear what the server knows.
    pub(super) async fn doubt(&mut self) {
        self.shared.window.close();
        give_back(self.shared, self.shared.window.drain(|_| false)).await;
        self.pin.doubt();
    }

    /// Gives back the pin, so that another process need not wait until it ends.
    pub(super) async fn leave(&mut self) {
        if !self.pin.lose() {
            return;
        }
        let (connection, name) = (&self.shared.connection, &self.shared.name);
        let subject = format!("CONSUMER.UNPIN.{}.{name}", self.shared.subjects.stream());
        let given = connection.api::<serde_json::Value>(name, subject, &json!({ "group": GROUP })).await;
        if let Err(failure) = given {
            let error = failure.while_doing("unpin the consumer", name);
            tracing::debug!(consumer = name, %error, "the next process waits until the pin ends");
        }
    }
}
