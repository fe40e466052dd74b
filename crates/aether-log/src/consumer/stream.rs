//! Consumers in JetStream: pull consumers whose position the server keeps.

mod account;
mod claim;
mod complaints;
mod holding;
mod opening;
mod pin;
mod pulling;
mod reader;
mod shared;
mod unreadable;
mod window;

pub(crate) use claim::StreamClaim;

use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use aether_core::Pattern;
use async_nats::jetstream::ErrorCode;
use async_nats::jetstream::consumer::pull::Config as PullConfig;
use async_nats::jetstream::consumer::{
    AckPolicy, Config, DeliverPolicy, FromConsumer as _, Info, IntoConsumerConfig as _, PriorityPolicy,
    PullConsumer, ReplayPolicy,
};
use async_nats::jetstream::stream::Info as StreamInfo;
use parking_lot::Mutex;
use serde_json::json;
use tokio::sync::{Mutex as AsyncMutex, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout_at};

use crate::consumer::attempts::ENDED;
use crate::consumer::delivery::{Delivery, Ending};
use crate::consumer::error::{ConsumeError, WeightError};
use crate::consumer::ledger::ConsumerLedger;
use crate::consumer::options::{ConsumerOptions, Start};
use crate::consumer::queue::{QueueStanding, QueuedJob};
use crate::consumer::window::Failures;
use crate::dead::{Attempt, CANCELLED, Noted, StreamLetters, Underway};
use crate::jetstream::{Connection, JetStreamError, Parts, Subjects, check_consumer};
use crate::name::is_name;
use crate::stored_wave::identity;
use claim::{Taken, forget, give_back};
use pin::GROUP;
use shared::StreamShared;
use window::{Held, StreamWindow, max_held};

/// A consumer of a name, shared by all its handles in this process.
#[derive(Debug)]
pub(crate) struct StreamConsumer {
    shared: Arc<StreamShared>,
    pulling: AsyncMutex<Option<JoinHandle<()>>>,
    closed: watch::Sender<bool>,
    account: Mutex<ConsumerLedger>,
}

impl StreamConsumer {
    pub(crate) fn new(
        name: &str,
        pattern: Pattern,
        options: ConsumerOptions,
        ack_wait: Duration,
        connection: Arc<Connection>,
        subjects: Subjects,
        letters: Arc<StreamLetters>,
    ) -> Result<Self, ConsumeError> {
        if !is_name(name) {
            return Err(ConsumeError::Name { name: name.to_owned() });
        }
        options.check()?;
        letters.begin(name);
        let window = StreamWindow::new(&options);
        let name = name.to_owned();
        let unconfirmed = AtomicU64::new(0);
        let parts = Parts::new(Arc::clone(&connection), subjects.clone());
        let shared = StreamShared {
            name,
            pattern,
            options,
            ack_wait,
            connection,
            subjects,
            letters,
            window,
            parts,
            complaints: Mutex::default(),
            unconfirmed,
        };
        let (pulling, closed) = (AsyncMutex::default(), watch::Sender::new(false));
        Ok(Self { shared: Arc::new(shared), pulling, closed, account: Mutex::default() })
    }

    pub(crate) fn check_pattern(&self, given: &Pattern) -> Result<(), ConsumeError> {
        let (name, stored) = (self.shared.name.clone(), self.shared.pattern.clone());
        if stored == *given {
            return Ok(());
        }
        Err(ConsumeError::OtherPattern { name, stored, given: given.clone() })
    }

    pub(super) fn name(&self) -> &str {
        &self.shared.name
    }

    pub(super) fn set_weight(&self, tenant: &str, weight: NonZeroU32) -> Result<(), WeightError> {
        self.shared.window.set_weight(tenant, weight)
    }

    pub(super) fn ledger(&self) -> ConsumerLedger {
        *self.account.lock()
    }

    pub(super) async fn account(&self) -> Result<ConsumerLedger, ConsumeError> {
        self.ready().await?;
        let account = self.shared.account().await?;
        *self.account.lock() = account;
        Ok(account)
    }

    /// Makes the consumer at the server, or checks the one that exists, and pulls from it.
    pub(super) async fn ready(&self) -> Result<(), ConsumeError> {
        let mut pulling = self.pulling.lock().await;
        if pulling.as_ref().is_some_and(|task| !task.is_finished()) {
            return Ok(());
        }
        let consumer = self.ensure().await?;
        let task = pulling::pull(Arc::clone(&self.shared), consumer, self.closed.subscribe());
        *pulling = Some(self.shared.connection.runtime.spawn(task));
        Ok(())
    }

    /// The settings at the server. `Start` counts only for one that is made.
    async fn wanted(&self, last: u64) -> Config {
        let StreamShared { name, pattern, options, ack_wait, subjects, .. } = &*self.shared;
        let deliver_policy = match options.start {
            Start::First => DeliverPolicy::All,
            Start::New => DeliverPolicy::ByStartSequence { start_sequence: last + 1 },
            Start::Position(position) => DeliverPolicy::ByStartSequence { start_sequence: position.max(1) },
        };
        let (priority_policy, priority_groups, priority_timeout, max_ack_pending) = if options.is_pinned() {
            // All that is not acknowledged fits into one process.
            (PriorityPolicy::PinnedClient, vec![GROUP.to_owned()], *ack_wait, max_held(options))
        } else {
            (PriorityPolicy::None, Vec::new(), Duration::ZERO, options.window.get())
        };
        let config = PullConfig {
            durable_name: Some(name.clone()),
            name: Some(name.clone()),
            deliver_policy,
            ack_policy: AckPolicy::Explicit,
            ack_wait: *ack_wait,
            // Failures are counted here, and a delivery alone does not count as one.
            max_deliver: -1,
            filter_subject: subjects.filter(pattern),
            replay_policy: ReplayPolicy::Instant,
            max_ack_pending: i64::try_from(max_ack_pending).unwrap_or(i64::MAX),
            priority_policy,
            priority_groups,
            priority_timeout,
            ..PullConfig::default()
        };
        config.into_consumer_config()
    }

    async fn ensure(&self) -> Result<PullConsumer, ConsumeError> {
        let StreamShared { name, pattern, options, connection, subjects, .. } = &*self.shared;
        let stream = subjects.stream();
        if options.is_pinned() && !connection.client.is_server_compatible(2, 11, 0) {
            return Err(ConsumeError::ByKey { version: connection.client.server_info().version });
        }
        let info = async || connection.api::<Info>(name, format!("CONSUMER.INFO.{stream}.{name}"), &()).await;
        let (info, wanted) = match info().await {
            Err(failure) if failure.is(ErrorCode::CONSUMER_NOT_FOUND) => {
                let of_stream =
                    connection.api::<StreamInfo>(stream, format!("STREAM.INFO.{stream}"), &()).await;
                let of_stream =
                    of_stream.map_err(|failure| failure.while_doing("describe the stream", stream))?;
                let wanted = self.wanted(of_stream.state.last_sequence).await;
                let subject = format!("CONSUMER.CREATE.{stream}.{name}.{}", wanted.filter_subject);
                let content = json!({ "stream_name": stream, "config": wanted, "action": "create" });
                let made = match connection.api::<Info>(name, subject, &content).await {
                    // Another process has made it meanwhile.
                    Err(failure) if failure.is(ErrorCode::CONSUMER_ALREADY_EXISTS) => info().await,
                    made => made,
                };
                (made, wanted)
            }
            info => (info, self.wanted(0).await),
        };
        let info = info.map_err(|failure| failure.while_doing("make the consumer", name))?;
        let filter = &info.config.filter_subject;
        if *filter != wanted.filter_subject {
            let stored = subjects.name(filter).and_then(|stored| Pattern::new(stored).ok());
            return Err(match stored {
                Some(stored) => {
                    ConsumeError::OtherPattern { name: name.clone(), stored, given: pattern.clone() }
                }
                None => JetStreamError::OtherSettings {
                    kind: "consumer",
                    name: name.clone(),
                    setting: "filter_subject",
                    found: filter.clone(),
                    wanted: wanted.filter_subject,
                }
                .into(),
            });
        }
        check_consumer(&wanted, &info.config)?;
        let config = PullConfig::try_from_consumer_config(info.config.clone()).map_err(|error| {
            let source = Arc::<dyn std::error::Error + Send + Sync>::from(error);
            JetStreamError::Refused { doing: "describe the consumer", name: name.clone(), source }
        })?;
        Ok(PullConsumer::new(config, info, connection.context.clone()))
    }

    pub(super) async fn receive(&self) -> Result<Delivery, ConsumeError> {
        // If a wave is here, nothing is made ready for a wait.
        if let Ok(delivery) = self.next().await? {
            return Ok(delivery);
        }
        loop {
            // Boxed, as what is rare in the next function: the future of each wave would be as large.
            Box::pin(self.ready()).await?;
            let changed = self.shared.window.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            match self.next().await? {
                Ok(delivery) => return Ok(delivery),
                Err(Some(due)) => drop(timeout_at(due, changed).await),
                Err(None) => changed.await,
            }
        }
    }

    /// The next wave that is here, or when there is one.
    async fn next(&self) -> Result<Result<Delivery, Option<Instant>>, ConsumeError> {
        loop {
            match self.shared.window.take(self.shared.options.max_in_flight.get())? {
                Ok(held) => {
                    let taken = Taken::new(Arc::clone(&self.shared), held);
                    if let Some(delivery) = self.deliver(taken).await? {
                        return Ok(Ok(delivery));
                    }
                }
                Err(due) => return Ok(Err(due)),
            }
        }
    }

    pub(super) fn pause(&self, is_paused: bool) {
        self.shared.window.pause(is_paused);
    }

    /// Makes waves due that pause here or at the server.
    pub(super) async fn retry(&self, position: Option<u64>) -> u64 {
        let here = self.shared.window.retry(position);
        let at_server = self.shared.window.take_paused(position);
        let waves = here + at_server.len() as u64;
        give_back(&self.shared, at_server.into_iter().map(|flight| flight.reply)).await;
        waves
    }

    pub(super) async fn queue(&self) -> Result<QueueStanding, ConsumeError> {
        let (waiting, letters) = self.shared.waiting().await?;
        let counted = self.shared.window.counted();
        let waiting = waiting.saturating_sub(counted.in_flight + counted.retrying);
        Ok(counted.standing(&self.shared.pattern, &self.shared.options, (waiting, 0), letters))
    }

    pub(super) fn jobs(&self, after: u64, most: usize) -> Vec<QueuedJob> {
        self.shared.window.jobs(after, most)
    }

    /// Gives up a wave that waits or pauses in this process. False if it does not.
    pub(super) async fn cancel(&self, position: u64) -> Result<bool, ConsumeError> {
        let reason = Attempt::now(CANCELLED);
        if let Some(held) = self.shared.window.take_at(position) {
            let taken = Taken::new(Arc::clone(&self.shared), held);
            let Some(held) = taken.held() else { return Ok(false) };
            let mut failures = match held.known.clone() {
                Some((failures, _)) => failures,
                None => self.noted(held).await?.0,
            };
            failures.end(reason);
            self.give_up(taken, failures).await?;
            return Ok(true);
        }
        let Some(paused) = self.shared.window.take_paused(Some(position)).pop() else { return Ok(false) };
        let StreamShared { name, letters, connection, window, .. } = &*self.shared;
        let whole = self.shared.uncut(&paused.stored, paused.cut.as_deref()).await?;
        // The server delivers it again when it is due.
        let Ok(stored) = whole else { return Ok(false) };
        let mut failures = window.failures(position).unwrap_or_default();
        failures.end(reason);
        letters.bury(name, &stored, failures.count, &failures.listed).await?;
        connection.acknowledge(name, &paused.reply).await?;
        window.ended(position);
        letters.count_given_up(name, &stored, failures.count, &failures.listed);
        forget(&self.shared, position, identity(&stored.wave)).await;
        Ok(true)
    }

    /// Waits until everything is given back.
    pub(super) async fn close(self) {
        self.closed.send_replace(true);
        if let Some(task) = self.pulling.lock().await.take() {
            // It does not panic, and its runtime may end.
            drop(task.await);
        }
    }

    /// How often a wave has failed, and whether an attempt has begun since. The server counts its deliveries, of which some
    /// were no attempts: `None` if each of them is known.
    async fn noted(&self, held: &Held) -> Result<(Failures, Option<Underway>), JetStreamError> {
        let (position, id, delivered) = (held.order.position, held.id, held.delivered);
        if delivered < 2 {
            return Ok((Failures::default(), None));
        }
        // Then no failure makes the server deliver again.
        let is_pinned = self.shared.options.is_pinned();
        // Known here, unless another process had it since.
        if !is_pinned
            && let Some(known) = self.shared.window.failures(position)
            && u64::from(known.count) + 1 == delivered
        {
            return Ok((known, None));
        }
        let Noted { count, listed, underway } =
            self.shared.letters.failures(&self.shared.name, (position, id)).await?;
        let is_known = !is_pinned && underway == Underway::None && u64::from(count) + 1 == delivered;
        Ok((Failures { count, listed, is_final: false }, (!is_known).then_some(underway)))
    }

    /// Makes a wave a dead letter.
    async fn give_up(&self, taken: Taken, failures: Failures) -> Result<(), JetStreamError> {
        let Some((taken, stored)) = self.shared.whole(taken).await? else { return Ok(()) };
        let (attempts, listed) = (failures.count, failures.listed.clone());
        self.shared.letters.bury(&self.shared.name, &stored, attempts, &listed).await?;
        if let Some(claim) = taken.claim(failures, true) {
            claim.give_up(stored, attempts, listed).await?;
        }
        Ok(())
    }

    /// Delivers a wave, or gives it up.
    ///
    /// A wave that comes again for no known reason may have ended its process. Its next attempt is noted at the server
    /// before it begins. If that attempt does not end either, the wave is from then on delivered with nothing else in
    /// flight, and each such attempt without an end is a failure.
    async fn deliver(&self, taken: Taken) -> Result<Option<Delivery>, ConsumeError> {
        let Some(held) = taken.held() else { return Ok(None) };
        let (name, letters) = (&self.shared.name, &self.shared.letters);
        let (position, id) = (held.order.position, held.id);
        let ((mut failures, unexplained), was_noted) = match held.known.clone() {
            Some((failures, was_noted)) => ((failures, None), was_noted),
            None if held.delivered < 2 => ((Failures::default(), None), false),
            None => (Box::pin(self.noted(held)).await?, false),
        };
        if unexplained == Some(Underway::Alone) {
            failures.push(Attempt::now(ENDED));
        }
        if failures.is_final || failures.count >= self.shared.options.max_attempts.get() {
            Box::pin(self.give_up(taken, failures)).await?;
            return Ok(None);
        }
        if let Some(before) = unexplained {
            let is_suspect = before != Underway::None;
            if is_suspect && !self.shared.window.alone(position).await {
                return Ok(None);
            }
            let underway = if is_suspect { Underway::Alone } else { Underway::Among };
            let noted = Noted { count: failures.count, listed: failures.listed.clone(), underway };
            Box::pin(letters.note_failures(name, (position, id), &noted)).await?;
        }
        // After it was noted that the attempt begins: a large wave may end the process.
        let Some((taken, stored)) = self.shared.whole(taken).await? else { return Ok(None) };
        // Meanwhile another process may have got it.
        if !self.shared.window.may_begin() {
            return Ok(None);
        }
        let is_noted = was_noted || failures.count > 0 || unexplained.is_some();
        let attempt = failures.count + 1;
        if self.shared.options.limit.is_some() {
            self.shared.window.delivered(position);
        }
        let claim = taken.claim(failures, is_noted);
        Ok(claim.map(|claim| Delivery::new(stored, attempt, Ending::Stream(claim))))
    }
}

impl Drop for StreamConsumer {
    fn drop(&mut self) {
        self.closed.send_replace(true);
    }
}
