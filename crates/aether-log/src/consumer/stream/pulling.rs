//! The task that pulls waves from the server into the window, and tells the server which ones are still held.

use std::sync::Arc;
use std::time::Duration;

use async_nats::jetstream::Message;
use async_nats::jetstream::consumer::PullConsumer;
use async_nats::jetstream::consumer::pull::BatchConfig;
use async_nats::{StatusCode, Subscriber};
use bytes::Bytes;
use futures_util::{FutureExt as _, StreamExt as _};
use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until};

use super::claim::{answer, id};
use super::complaints::{Complaint, Complaints};
use super::shared::StreamShared;
use super::unreadable::Unreadable;
use super::window::Held;
use crate::consumer::ready::Order;
use crate::jetstream::{JetStreamError, Unopened};
use crate::stored_wave::read_frame;

/// How long the server keeps a request that it cannot fulfil yet.
const EXPIRES: Duration = Duration::from_secs(30);
/// How often the server confirms that it still has the request. A request without a confirmation for some of these
/// intervals is sent again: the server has changed.
const HEARTBEAT: Duration = Duration::from_secs(1);
const SILENT_FOR: Duration = Duration::from_millis(2500);
/// The pause before a request is sent again that was refused.
const PAUSE: Duration = Duration::from_millis(100);
/// The longest time until the server delivers a wave again whose key is not here.
const LOCKED_AGAIN: Duration = Duration::from_secs(5);
/// How many waves go into the window at once.
const AT_ONCE: usize = 256;

/// A request that the server has.
#[derive(Debug)]
struct Asked {
    /// The waves that are to come.
    waves: usize,
    heard: Instant,
    /// Since when no request was answered.
    unanswered: Option<Instant>,
    /// No request before this moment.
    not_before: Instant,
}

/// The meaning of a message of the server.
enum Meaning {
    Wave(Box<Held>),
    Unreadable,
    /// Its key is not here.
    Locked,
    Heartbeat,
    /// The request has ended.
    Ended,
    /// Nobody serves the consumer now.
    Refused,
    Deleted,
}

/// Pulls until the consumer is closed and nothing is in flight any more.
pub(super) async fn pull(
    shared: Arc<StreamShared>,
    consumer: PullConsumer,
    mut closed: watch::Receiver<bool>,
) {
    let ended = match pull_until_closed(&shared, &consumer, &mut closed).await {
        Ok(()) => return,
        Err(error) => error,
    };
    tracing::error!(consumer = shared.name, error = %ended, "nothing is pulled any more");
    shared.window.end(ended);
}

async fn pull_until_closed(
    shared: &StreamShared,
    consumer: &PullConsumer,
    closed: &mut watch::Receiver<bool>,
) -> Result<(), JetStreamError> {
    let (client, window) = (&shared.connection.client, &shared.window);
    let refused = |doing, source: Arc<dyn std::error::Error + Send + Sync>| JetStreamError::Refused {
        doing,
        name: shared.name.clone(),
        source,
    };
    let inbox = async_nats::Subject::from(client.new_inbox());
    let subscribed = client.subscribe(inbox.clone()).await;
    let mut messages = subscribed.map_err(|error| refused("subscribe for", Arc::new(error)))?;
    let next = format!("$JS.API.CONSUMER.MSG.NEXT.{}.{}", shared.subjects.stream(), shared.name);
    let not_permitted = shared.connection.refused(&next);
    tokio::pin!(not_permitted);
    let (mut reader, mut unreadable) = (Reader::new(shared), Unreadable::new(client));
    let mut touching = interval(shared.ack_wait / 4);
    touching.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let now = Instant::now();
    let mut asked = Asked { waves: 0, heard: now, unanswered: None, not_before: now };
    let (mut is_closed, mut has_left) = (false, false);
    loop {
        // A server that has the request confirms it each second, so this is looked at within a second.
        if unreadable.may_be_there(client) {
            unreadable.pass_over(shared, consumer).await;
        }
        if asked.waves == 0
            && !is_closed
            && asked.not_before <= Instant::now()
            && let Some((waves, max_bytes)) = window.room()
        {
            // A wave that is larger than the room could never be asked for.
            let max_bytes = max_bytes.max(client.max_payload());
            let (expires, idle_heartbeat) = (Some(EXPIRES), HEARTBEAT);
            let request =
                BatchConfig { batch: waves, expires, max_bytes, idle_heartbeat, ..BatchConfig::default() };
            let sent = consumer.request_batch(request, inbox.clone()).await;
            sent.map_err(|error| refused("pull from", Arc::new(error)))?;
            (asked.waves, asked.heard) = (waves, Instant::now());
        }
        let silent = asked.heard + SILENT_FOR;
        tokio::select! {
            biased;
            // The handle that closes it sends nothing else.
            _ = closed.changed(), if !is_closed => {
                is_closed = true;
                // The server would deliver what it gets back to the request that it still has from here.
                if messages.drain().await.is_err() {
                    // Without a connection there is nobody to give anything back to.
                    return Ok(());
                }
            }
            () = &mut not_permitted => return Err(JetStreamError::NotPermitted { subject: next }),
            _ = touching.tick() => {
                for reply in window.untouched(shared.ack_wait / 4) {
                    answer(shared, reply, Bytes::from_static(b"+WPI")).await;
                }
            }
            () = window.room.notified(), if asked.waves == 0 => {}
            () = sleep_until(asked.not_before), if asked.waves == 0 && asked.not_before > Instant::now() => {}
            () = window.changed.notified(), if is_closed => {}
            message = messages.next(), if !has_left => match message {
                Some(message) => take(shared, &mut reader, message, &mut messages, &mut asked).await?,
                None if is_closed => has_left = true,
                None => return Err(refused("deliver from", Arc::new(Ended))),
            },
            // Last: a server is not silent whose messages lie here.
            () = sleep_until(silent), if asked.waves > 0 && !is_closed => asked.ended(Some(silent - SILENT_FOR)),
        }
        if !is_closed && asked.unanswered.is_some_and(|since| since.elapsed() > shared.connection.patience) {
            let (name, after) = (shared.name.clone(), shared.connection.patience);
            return Err(JetStreamError::NoAnswer { name, after });
        }
        if has_left {
            // Others get at once what this process will not handle.
            for reply in window.drain() {
                answer(shared, reply, Bytes::from_static(b"-NAK")).await;
            }
            if window.in_flight() == 0 {
                return Ok(());
            }
        }
    }
}

/// The subscription has ended without being left.
#[derive(Debug, thiserror::Error)]
#[error("the connection is closed")]
struct Ended;

impl Asked {
    fn heard(&mut self) {
        (self.heard, self.unanswered) = (Instant::now(), None);
    }

    /// The request has ended; if it was not answered, since when.
    fn ended(&mut self, unanswered: Option<Instant>) {
        self.waves = 0;
        if let Some(since) = unanswered {
            self.unanswered.get_or_insert(since);
            self.not_before = Instant::now() + PAUSE;
        }
    }
}

/// Takes a message, and those that have arrived behind it, into the window.
async fn take(
    shared: &StreamShared,
    reader: &mut Reader<'_>,
    first: async_nats::Message,
    messages: &mut Subscriber,
    asked: &mut Asked,
) -> Result<(), JetStreamError> {
    let (mut next, mut waves) = (Some(first), Vec::new());
    let (mut is_deleted, mut is_refused) = (false, false);
    let mut passed_over = 0;
    while let Some(message) = next {
        let reply = message.reply.clone();
        match reader.read(message) {
            Meaning::Wave(held) => waves.push(*held),
            Meaning::Unreadable => {
                passed_over += 1;
                shared.window.expire();
                if let Some(reply) = reply {
                    answer(shared, reply, Bytes::from_static(b"+TERM")).await;
                }
            }
            Meaning::Locked => {
                passed_over += 1;
                if let Some(reply) = reply {
                    // No later than a wave of a silent process.
                    let delay = LOCKED_AGAIN.min(shared.ack_wait).as_nanos();
                    answer(shared, reply, format!("-NAK {{\"delay\":{delay}}}").into()).await;
                }
            }
            Meaning::Heartbeat => {}
            Meaning::Ended => asked.ended(None),
            Meaning::Refused => is_refused = true,
            Meaning::Deleted => is_deleted = true,
        }
        if waves.len() >= AT_ONCE {
            break;
        }
        next = messages.next().now_or_never().flatten();
    }
    match is_refused {
        true => asked.ended(Some(Instant::now())),
        false => asked.heard(),
    }
    asked.waves = asked.waves.saturating_sub(waves.len() + passed_over);
    for reply in shared.window.add(waves) {
        answer(shared, reply, Bytes::from_static(b"+ACK")).await;
    }
    match is_deleted {
        true => Err(JetStreamError::Deleted { consumer: shared.name.clone() }),
        false => Ok(()),
    }
}

/// Reads deliveries.
struct Reader<'a> {
    shared: &'a StreamShared,
    /// Reused, because the context in it is large.
    message: Option<Message>,
    complaints: Complaints,
}

impl<'a> Reader<'a> {
    fn new(shared: &'a StreamShared) -> Self {
        Self { shared, message: None, complaints: Complaints::default() }
    }

    fn read(&mut self, message: async_nats::Message) -> Meaning {
        match message.status {
            None | Some(StatusCode::OK) => self.read_wave(message),
            Some(StatusCode::IDLE_HEARTBEAT) => Meaning::Heartbeat,
            Some(StatusCode::NO_RESPONDERS) => Meaning::Refused,
            Some(StatusCode::NOT_FOUND | StatusCode::TIMEOUT) => Meaning::Ended,
            Some(_) => match message.description.as_deref() {
                Some(text) if text.eq_ignore_ascii_case("consumer deleted") => Meaning::Deleted,
                Some(text) if text.to_ascii_lowercase().contains("maxbytes") => Meaning::Ended,
                // The leader has changed, the server shuts down, or too many requests wait.
                _ => Meaning::Refused,
            },
        }
    }

    fn read_wave(&mut self, message: async_nats::Message) -> Meaning {
        let bytes = message.payload.len();
        let delivery = match &mut self.message {
            Some(delivery) => {
                delivery.message = message;
                delivery
            }
            none => none.insert(Message { message, context: self.shared.connection.context.clone() }),
        };
        let Ok(info) = delivery.info() else { return Meaning::Unreadable };
        let position = info.stream_sequence;
        let delivered = u64::try_from(info.delivered).unwrap_or(1);
        let micros = u64::try_from(info.published.unix_timestamp_nanos() / 1000).unwrap_or(0);
        let (consumer, now) = (&self.shared.name, Instant::now());
        let mut due = |complaint| self.complaints.due(complaint, now);
        let opened = match self.shared.connection.sealing.open(&delivery.subject, &delivery.payload) {
            Ok(opened) => opened,
            Err(error @ Unopened::Locked) => {
                if let Some(left_out) = due(Complaint::Locked) {
                    tracing::warn!(position, consumer, %error, left_out, "a wave waits for its key and is delivered again");
                }
                return Meaning::Locked;
            }
            Err(error) => {
                if let Some(left_out) = due(Complaint::Refused) {
                    tracing::warn!(position, consumer, %error, left_out, "a message of the stream is refused and passed over");
                }
                return Meaning::Unreadable;
            }
        };
        let name = self.shared.subjects.name(&delivery.subject).map(str::as_bytes);
        let mut stored = match read_frame(position, micros, Some(name.unwrap_or_default()), &opened.frame) {
            Ok(stored) => stored,
            Err(error) => {
                if let Some(left_out) = due(Complaint::NoWave) {
                    tracing::warn!(position, consumer, %error, left_out, "a message of the stream cannot be read as a wave and is passed over");
                }
                return Meaning::Unreadable;
            }
        };
        if opened.proof.is_some_and(|proof| !stored.wave.prove(&proof)) {
            if let Some(left_out) = due(Complaint::Name) {
                let name = stored.wave.source().name();
                tracing::warn!(
                    position,
                    consumer,
                    name,
                    left_out,
                    "its signer may not use the name: a wave is passed over"
                );
            }
            return Meaning::Unreadable;
        }
        // A copy, so that the schema of one wave delays no other consumer.
        let border = self.shared.connection.border.lock().clone();
        if let Some(border) = border
            && let Err(refusal) = border.admit_stored(&mut stored.wave)
        {
            if let Some(left_out) = due(Complaint::Rules) {
                tracing::warn!(position, consumer, %refusal, left_out, "the rules refuse a wave of the stream: it is passed over");
            }
            return Meaning::Unreadable;
        }
        let Some(reply) = delivery.reply.clone() else { return Meaning::Unreadable };
        let (level, id) = (stored.wave.signal().level(), id(&stored));
        let key = stored.wave.key().filter(|_| self.shared.options.by_key).map(Arc::from);
        let order = Order { position, level, micros, key };
        Meaning::Wave(Box::new(Held { stored, order, id, reply, delivered, bytes, touched: now }))
    }
}
