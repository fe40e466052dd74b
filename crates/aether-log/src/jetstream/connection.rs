//! The connection of a log to its NATS servers: requests that are tried again while no server can answer them.

use std::sync::Arc;
use std::time::Duration;

use aether_core::medium::{Guard, MediumStatus, without_secrets};
use aether_nats::{NatsClient, NatsClientError, NatsOptions, NatsRefusals};
use async_nats::client::{RequestError, RequestErrorKind};
use async_nats::connection::State;
use async_nats::jetstream::context::PublishErrorKind;
use async_nats::jetstream::message::PublishMessage;
use async_nats::jetstream::publish::PublishAck;
use async_nats::jetstream::response::Response;
use async_nats::jetstream::{Context, Error as ServerError, ErrorCode};
use async_nats::{ConnectOptions, Event, HeaderMap, Message, Request, ServerAddr};
use bytes::Bytes;
use parking_lot::Mutex;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::runtime::Handle;
use tokio::task::spawn_blocking;
use tokio::time::{Instant, sleep, timeout};

use super::error::JetStreamError;
use crate::sealing::Sealing;
use crate::store::Appended;

/// The wait for one answer, after which the request is sent again. An election takes longer, and a published wave is
/// recognised when it comes twice.
const ANSWERED_WITHIN: Duration = Duration::from_secs(3);
/// A server that answers nothing for about three of these is left for another one.
const PING_INTERVAL: Duration = Duration::from_secs(2);
/// The pauses between attempts.
const FIRST_PAUSE: Duration = Duration::from_millis(20);
const LONGEST_PAUSE: Duration = Duration::from_millis(500);

/// Why a request failed.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The server gave a reason.
    Server(ServerError),
    Other(JetStreamError),
}

impl Failure {
    pub(crate) fn while_doing(self, doing: &'static str, name: &str) -> JetStreamError {
        match self {
            Self::Server(source) => {
                JetStreamError::Refused { doing, name: name.to_owned(), source: Arc::new(source) }
            }
            Self::Other(error) => error,
        }
    }

    pub(crate) fn is(&self, code: ErrorCode) -> bool {
        matches!(self, Self::Server(error) if error.error_code() == code)
    }
}

/// A connection, shared by all parts of a log.
#[derive(Debug)]
pub(crate) struct Connection {
    pub(crate) client: NatsClient,
    pub(crate) context: Context,
    pub(crate) patience: Duration,
    /// Where waves go on being stored when nobody waits for them.
    pub(crate) runtime: Handle,
    pub(crate) sealing: Arc<Sealing>,
    /// The checks that waves have to pass before consumers read them, once the log is connected to a bus that has a
    /// border.
    pub(crate) border: Mutex<Option<Arc<dyn Guard>>>,
    /// Why the last wave was not stored, and until when that is news.
    refused: Mutex<Option<(JetStreamError, Instant)>>,
    url: String,
    refusals: Arc<NatsRefusals>,
}

impl Drop for Connection {
    /// A client whose last handle goes forgets what it has not written yet: acknowledgements, and waves that go back.
    fn drop(&mut self) {
        let (client, patience) = (self.client.clone(), self.patience);
        self.runtime.spawn(async move {
            let _ = timeout(patience, client.flush()).await;
        });
    }
}

/// Pauses between attempts, until a patience ends.
struct Attempts {
    ends: Instant,
    pause: Duration,
}

impl Attempts {
    fn new(patience: Duration) -> Self {
        Self { ends: Instant::now() + patience, pause: FIRST_PAUSE }
    }

    /// Waits for the next attempt, if there is one.
    async fn next(&mut self) -> bool {
        let pause = self.pause;
        self.pause = (pause * 2).min(LONGEST_PAUSE);
        let has_next = Instant::now() + pause < self.ends;
        if has_next {
            sleep(pause).await;
        }
        has_next
    }
}

/// Whether a server may do later what it refuses now: it has no leader, or is starting.
fn may_pass(error: &ServerError) -> bool {
    [
        ErrorCode::CLUSTER_INCOMPLETE,
        ErrorCode::CLUSTER_NO_PEERS,
        ErrorCode::CLUSTER_NOT_ACTIVE,
        ErrorCode::CLUSTER_NOT_AVAILABLE,
        ErrorCode::CLUSTER_NOT_LEADER,
        ErrorCode::CONSUMER_OFFLINE,
        ErrorCode::RAFT_GENERAL,
        ErrorCode::STREAM_DUPLICATE_MESSAGE_CONFLICT,
        ErrorCode::STREAM_OFFLINE,
        ErrorCode::STREAM_TOO_MANY_REQUESTS,
    ]
    .contains(&error.error_code())
}

fn is_full(error: &ServerError) -> bool {
    [
        ErrorCode::ACCOUNT_RESOURCES_EXCEEDED,
        ErrorCode::INSUFFICIENT_RESOURCES,
        ErrorCode::STORAGE_RESOURCES_EXCEEDED,
        ErrorCode::STREAM_STORE_FAILED,
    ]
    .contains(&error.error_code())
}

/// A message that a stream has.
#[derive(Debug, Clone, Copy)]
pub(super) struct Published {
    pub(super) position: u64,
    /// Whether the stream had one of its id.
    pub(super) is_duplicate: bool,
    /// Whether the first try was answered. A later one counts as a duplicate of it.
    is_first: bool,
}

impl Published {
    pub(super) const fn appended(self) -> Appended {
        Appended { position: self.position, is_copy: self.is_duplicate && self.is_first }
    }
}

impl Connection {
    /// Connects, and checks that the server has JetStream.
    pub(crate) async fn open(
        url: &str,
        nats: NatsOptions,
        patience: Duration,
    ) -> Result<Arc<Self>, JetStreamError> {
        let servers: Vec<ServerAddr> = url
            .split(',')
            // As a whole: a part of an address may be a part of a password.
            .map(|server| {
                server.trim().parse().map_err(|_| JetStreamError::Url { url: without_secrets(url) })
            })
            .collect::<Result<_, _>>()?;
        let shown = without_secrets(url);
        let refusals = Arc::<NatsRefusals>::default();
        let noting = Arc::clone(&refusals);
        let options = nats.seal_options().map_err(|error| JetStreamError::Keys(Arc::new(error)))?;
        let sealing = Arc::new(Sealing::new(options)?);
        let renewed = Arc::clone(&sealing);
        let on_event = move |event| {
            noting.note(&event);
            let renewed = matches!(event, Event::Connected).then(|| Arc::clone(&renewed));
            async move {
                if let Some(renewed) = renewed {
                    // Files can be slow and long. Fails only when the runtime ends.
                    let _ = spawn_blocking(move || renewed.renew()).await;
                }
            }
        };
        let configure = |options: ConnectOptions| options.ping_interval(PING_INTERVAL);
        let unreachable = |source| JetStreamError::Unreachable { url: shown.clone(), source };
        let client =
            nats.connect_client(&servers, configure, on_event).await.map_err(|error| match error {
                NatsClientError::Login(error) => JetStreamError::Login(Arc::new(error)),
                NatsClientError::Connect(error) => unreachable(Arc::new(error)),
                error => unreachable(Arc::new(error)),
            })?;
        let mut context = async_nats::jetstream::new(client.clone());
        context.set_timeout(ANSWERED_WITHIN);
        let runtime = Handle::current();
        let border = Mutex::default();
        let (url, refused) = (shown, Mutex::default());
        let connection = Self { client, context, patience, runtime, sealing, border, refused, url, refusals };
        let connection = Arc::new(connection);
        connection.has_jetstream().await?;
        Ok(connection)
    }

    /// Whether the server keeps streams for this user.
    pub(crate) async fn has_jetstream(&self) -> Result<(), JetStreamError> {
        let refused = self.refusals.publishing("$JS.API.INFO");
        let none = || JetStreamError::NoJetStream { url: self.url.clone() };
        let answer = tokio::select! {
            biased;
            answer = self.ask("$JS.API.INFO".to_owned(), Bytes::new()) => answer,
            // Nothing that a log does needs this request.
            () = refused => return Ok(()),
        };
        let answer = match answer {
            Ok(answer) => answer,
            Err(error) if error.kind() == RequestErrorKind::NoResponders => return Err(none()),
            // The requests that follow try again.
            Err(_) => return Ok(()),
        };
        match serde_json::from_slice::<Response<serde::de::IgnoredAny>>(&answer.payload) {
            Ok(Response::Err { error })
                if error.error_code() == ErrorCode::JETSTREAM_NOT_ENABLED
                    || error.error_code() == ErrorCode::JETSTREAM_NOT_ENABLED_FOR_ACCOUNT =>
            {
                Err(none())
            }
            // Also a cluster that is starting, which the requests that follow wait for.
            _ => Ok(()),
        }
    }

    async fn ask(&self, subject: String, content: Bytes) -> Result<Message, RequestError> {
        let request = Request::new().payload(content).timeout(Some(ANSWERED_WITHIN));
        self.client.send_request(subject, request).await
    }

    /// What is known of waves that cannot be stored.
    pub(crate) fn trouble(&self) -> Option<JetStreamError> {
        if self.client.connection_state() != State::Connected {
            return Some(JetStreamError::NotConnected { url: self.url.clone() });
        }
        let refused = self.refused.lock();
        refused.as_ref().filter(|(_, until)| Instant::now() < *until).map(|(error, _)| error.clone())
    }

    /// Notes the outcome of storing a wave. A wave that is too large does not count against the server.
    pub(crate) fn note<T>(&self, stored: &Result<T, JetStreamError>) {
        let refused = stored.as_ref().err().cloned();
        if !matches!(refused, Some(JetStreamError::TooLarge { .. })) {
            *self.refused.lock() = refused.map(|error| (error, Instant::now() + self.patience));
        }
    }

    /// Adds what was not opened, what could not be parsed, and what the server refused.
    pub(crate) fn add_to(&self, status: &mut MediumStatus) {
        self.sealing.add_to(status);
        status.malformed += self.client.malformed();
        status.refused_by_server += self.refusals.total();
    }

    /// Waits until the server refuses this subject, from now on.
    pub(crate) fn refused(&self, subject: &str) -> impl Future<Output = ()> + Send + use<> {
        self.refusals.publishing(subject)
    }

    fn no_answer(&self, name: &str) -> JetStreamError {
        JetStreamError::NoAnswer { name: name.to_owned(), after: self.patience }
    }

    /// A request to the API of JetStream about a stream or a consumer. `()` as content is none.
    pub(crate) async fn api<T: DeserializeOwned>(
        &self,
        name: &str,
        subject: String,
        content: &impl Serialize,
    ) -> Result<T, Failure> {
        let subject = format!("$JS.API.{subject}");
        let unusable = |source: Arc<dyn std::error::Error + Send + Sync>| {
            let name = name.to_owned();
            Failure::Other(JetStreamError::Refused { doing: "answer for", name, source })
        };
        let content = serde_json::to_vec(content).map_err(|error| unusable(Arc::new(error)))?;
        let content = if content == b"null" { Bytes::new() } else { content.into() };
        let mut attempts = Attempts::new(self.patience);
        loop {
            let refused = self.refusals.publishing(&subject);
            let answer = tokio::select! {
                biased;
                answer = self.ask(subject.clone(), content.clone()) => answer,
                () = refused => return Err(Failure::Other(JetStreamError::NotPermitted { subject })),
            };
            let refused = match answer {
                Ok(answer) => match serde_json::from_slice::<Response<T>>(&answer.payload) {
                    Ok(Response::Ok(answer)) => return Ok(answer),
                    Ok(Response::Err { error }) if may_pass(&error) => Some(error),
                    Ok(Response::Err { error }) => return Err(Failure::Server(error)),
                    Err(error) => return Err(unusable(Arc::new(error))),
                },
                Err(error) => match error.kind() {
                    RequestErrorKind::NoResponders | RequestErrorKind::TimedOut => None,
                    _ => return Err(unusable(Arc::new(error))),
                },
            };
            if !attempts.next().await {
                return Err(refused.map_or_else(|| Failure::Other(self.no_answer(name)), Failure::Server));
            }
        }
    }

    /// Publishes to a stream, sealed if the log has keys, and waits until it has the message. Messages of one id are
    /// stored once. After a lost answer, one that was stored by this call may be counted as new.
    pub(crate) async fn publish(
        &self,
        stream: &str,
        subject: &str,
        id: &str,
        body: Bytes,
    ) -> Result<Appended, JetStreamError> {
        let body = self.sealing.seal(subject, body)?;
        self.publish_sealed(stream, subject, id, HeaderMap::new(), body).await.map(Published::appended)
    }

    /// Publishes to a stream as it is, with headers. Otherwise as [`Self::publish`].
    pub(super) async fn publish_sealed(
        &self,
        stream: &str,
        subject: &str,
        id: &str,
        headers: HeaderMap,
        body: Bytes,
    ) -> Result<Published, JetStreamError> {
        let mut is_first = true;
        let mut attempts = Attempts::new(self.patience);
        loop {
            let refused = self.refusals.publishing(subject);
            let message = PublishMessage::build().headers(headers.clone()).message_id(id);
            let message = message.expected_stream(stream).payload(body.clone());
            let publishing = async { self.context.send_publish(subject.to_owned(), message).await?.await };
            let error = tokio::select! {
                biased;
                published = publishing => match published {
                    Ok(PublishAck { sequence, duplicate, .. }) => {
                        return Ok(Published { position: sequence, is_duplicate: duplicate, is_first });
                    }
                    Err(error) => error,
                },
                () = refused => return Err(JetStreamError::NotPermitted { subject: subject.to_owned() }),
            };
            let cause =
                std::error::Error::source(&error).and_then(|cause| cause.downcast_ref::<ServerError>());
            let refused = |source: Arc<dyn std::error::Error + Send + Sync>| JetStreamError::Refused {
                doing: "store a wave in",
                name: stream.to_owned(),
                source,
            };
            match (error.kind(), cause) {
                (_, Some(cause)) if may_pass(cause) => {}
                (_, Some(cause)) if is_full(cause) => {
                    let source = Arc::new(cause.clone());
                    return Err(JetStreamError::Full { stream: stream.to_owned(), source });
                }
                (_, Some(cause)) if cause.error_code() == ErrorCode::STREAM_MESSAGE_EXCEEDS_MAXIMUM => {
                    let (stream, bytes) = (stream.to_owned(), body.len());
                    return Err(JetStreamError::TooLarge { stream, bytes, limit: bytes });
                }
                (_, Some(cause)) => return Err(refused(Arc::new(cause.clone()))),
                (PublishErrorKind::MaxPayloadExceeded, None) => {
                    // The headers count as well.
                    let (stream, limit) = (stream.to_owned(), self.client.max_payload());
                    return Err(JetStreamError::TooLarge { stream, bytes: body.len().max(limit), limit });
                }
                // No leader, no connection, or no answer: the wave may have been stored, and its id keeps it single.
                _ => {}
            }
            is_first = false;
            if !attempts.next().await {
                return Err(self.no_answer(stream));
            }
        }
    }

    /// Acknowledges a delivery, and waits until the server has noted it.
    pub(crate) async fn acknowledge(&self, consumer: &str, reply: &str) -> Result<(), JetStreamError> {
        let mut attempts = Attempts::new(self.patience);
        loop {
            let refused = self.refusals.publishing(reply);
            let answer = tokio::select! {
                biased;
                answer = self.ask(reply.to_owned(), Bytes::from_static(b"+ACK")) => answer,
                () = refused => return Err(JetStreamError::NotPermitted { subject: reply.to_owned() }),
            };
            let Err(error) = answer else { return Ok(()) };
            match error.kind() {
                RequestErrorKind::TimedOut | RequestErrorKind::NoResponders => {}
                _ => {
                    let (name, source) = (consumer.to_owned(), Arc::new(error));
                    return Err(JetStreamError::Refused { doing: "acknowledge a wave of", name, source });
                }
            }
            if !attempts.next().await {
                return Err(self.no_answer(consumer));
            }
        }
    }
}
