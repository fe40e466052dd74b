//! One WebSocket connection: reads messages, carries out their effects, and writes what waits in the outbox.
//!
//! Three parts run side by side and end together: the reader, the [writer](super::writer), and the one that waits for the
//! disk.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use aether_field::FieldError;
use aether_field::core::Operation;
use aether_metrics::Written;
use aether_service::error_chain;
use axum::extract::ws::{Message, WebSocket};
use futures_util::stream::SplitStream;
use futures_util::{SinkExt as _, StreamExt as _};
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::{Instant, timeout, timeout_at};
use tokio_tungstenite::tungstenite;
use tokio_util::sync::CancellationToken;

use super::counts::{Counts, Dropped, Refused};
use super::effect::{Announcement, Close, Effect, Outcome, OwnedWrite, Write};
use super::hub::{Hub, Registered, wall};
use super::limits::REQUESTS_PER_MESSAGE;
use super::outbox::Outbox;
use super::shares::Holder;
use super::writer::{self, Dialect, Pulse};
use super::{v1, v04};
use crate::access::{FieldAccess, Rights};
use crate::admission::{Busy, Permit};
use crate::bucket::TokenBucket;

/// The participants that one connection can be.
const MAX_PARTICIPANTS: usize = 32;
/// How long the last message may take, and the answer to it.
const FAREWELL: Duration = Duration::from_secs(1);

/// The machine of a protocol.
#[derive(Debug)]
enum Session {
    V04(v04::Session),
    V1(v1::Session),
}

impl Session {
    fn open(&mut self, token: Option<&str>) -> Vec<Effect> {
        match self {
            Self::V04(session) => session.open(token),
            Self::V1(session) => {
                session.open(token);
                Vec::new()
            }
        }
    }

    fn receive(&mut self, text: &str) -> Vec<Effect> {
        match self {
            Self::V04(session) => session.receive(text),
            Self::V1(session) => session.receive(text, wall()),
        }
    }

    fn timed_out(&self) -> Vec<Effect> {
        match self {
            Self::V04(_) => v04::Session::timed_out(),
            Self::V1(_) => v1::Session::timed_out(),
        }
    }

    fn check_rights(&mut self) -> Vec<Effect> {
        match self {
            Self::V04(session) => session.check_rights(),
            Self::V1(session) => session.check_rights(),
        }
    }

    const fn is_admitted(&self) -> bool {
        match self {
            Self::V04(session) => session.is_admitted(),
            Self::V1(session) => session.is_admitted(),
        }
    }
}

/// The writes that are to be confirmed once they are on the disk.
#[derive(Debug, Default)]
struct Owed {
    ops: Mutex<Vec<u64>>,
    wake: Notify,
}

/// Serves a connection until it ends.
pub(super) async fn serve(
    socket: WebSocket,
    hub: Arc<Hub>,
    permit: Result<Permit, Busy>,
    dialect: Dialect,
    (access, token): (FieldAccess, Option<String>),
    client: (IpAddr, Option<Written>),
    stop: CancellationToken,
) {
    let (mut sink, stream) = socket.split();
    // Held until the connection has ended.
    let permit = match permit {
        Ok(permit) => permit,
        Err(busy) => {
            hub.counts.refuse(if busy == Busy::Total { Refused::Total } else { Refused::Source });
            let _ = timeout(FAREWELL, sink.send(writer::close_message(Close::BUSY))).await;
            return;
        }
    };
    let id = uuid::Uuid::new_v4().to_string();
    let limits = hub.limits.clone();
    let session = match dialect {
        Dialect::V04 => Session::V04(v04::Session::new(&hub.name, &id, access, limits)),
        Dialect::V1 => Session::V1(v1::Session::new(&hub.name, &id, access, limits, &hub.field_limits())),
    };
    let outbox = Arc::new(Outbox::new(&hub.limits, dialect == Dialect::V04));
    let (owed, pulse) = (Owed::default(), Pulse::new());
    let mut reader = Reader {
        hub: &hub,
        outbox: &outbox,
        owed: &owed,
        id: &id,
        session,
        bucket: TokenBucket::new(hub.limits.messages_burst, hub.limits.messages_per_second, Instant::now()),
        is_closing: false,
        rights: Rights::default(),
        source: client.0,
        holder: Holder::Source(client.0),
        participants: BTreeSet::new(),
        registered: None,
    };
    let mut stream = stream;
    let reading = async {
        reader.read(&mut stream, &pulse, token.as_deref()).await;
    };
    let writing = writer::write(&mut sink, (&hub, &outbox), &id, dialect, &pulse, client.1.as_ref());
    let dropped = tokio::select! {
        () = reading => None,
        dropped = writing => dropped,
        () = confirm(&hub, &outbox, &owed) => None,
        () = stop.cancelled() => {
            let _ = timeout(FAREWELL, sink.send(writer::close_message(Close::GOING_AWAY))).await;
            None
        }
    };
    if let Some(dropped) = dropped {
        hub.counts.give_up(dropped);
        tracing::debug!(?dropped, client = id, "a client of the field was given up");
    }
    leave(&hub, std::mem::take(&mut reader.participants));
    drop(reader);
    if outbox.take_close().is_some() && dropped.is_none() {
        // Closing a socket with unread bytes would destroy the last message on its way.
        let unread = async { while let Some(Ok(_)) = stream.next().await {} };
        let _ = timeout(FAREWELL, unread).await;
    }
    drop(permit);
}

struct Reader<'a> {
    hub: &'a Arc<Hub>,
    outbox: &'a Arc<Outbox>,
    owed: &'a Owed,
    id: &'a str,
    /// The participants that the client is.
    participants: BTreeSet<String>,
    session: Session,
    bucket: TokenBucket,
    is_closing: bool,
    rights: Rights,
    source: IpAddr,
    holder: Holder,
    registered: Option<Registered>,
}

impl Reader<'_> {
    /// Reads until the client closes the connection. After a close of the gateway it waits for the writer to end.
    async fn read(&mut self, stream: &mut SplitStream<WebSocket>, pulse: &Pulse, token: Option<&str>) {
        let deadline = Instant::now() + self.hub.limits.handshake_timeout;
        let effects = self.session.open(token);
        self.carry_out(effects).await;
        // A client gives a sign of life in this time, if it is only a pong.
        let mut checked = Instant::now();
        while !self.is_closing {
            let next = stream.next();
            let next = if self.session.is_admitted() {
                next.await
            } else {
                let Ok(next) = timeout_at(deadline, next).await else {
                    let effects = self.session.timed_out();
                    self.carry_out(effects).await;
                    break;
                };
                next
            };
            pulse.beat();
            if checked.elapsed() > self.hub.limits.ping_interval {
                checked = Instant::now();
                let effects = self.session.check_rights();
                self.carry_out(effects).await;
                if self.is_closing {
                    break;
                }
            }
            match next {
                None | Some(Ok(Message::Close(_))) => return,
                Some(Ok(Message::Ping(_) | Message::Pong(_))) => {}
                Some(Ok(Message::Text(text))) => self.message(&text).await,
                Some(Ok(Message::Binary(bytes))) => match std::str::from_utf8(&bytes) {
                    // The published server takes them as text, too.
                    Ok(text) if matches!(self.session, Session::V04(_)) => self.message(text).await,
                    Err(_) if matches!(self.session, Session::V04(_)) => {
                        self.hub.counts.refuse(Refused::Json)
                    }
                    _ => self.close(Refused::Json, Close::NOT_TEXT),
                },
                Some(Err(error)) if is_too_big(&error) => self.close(Refused::Frame, Close::TOO_BIG),
                Some(Err(error)) => return tracing::debug!(%error, "a WebSocket connection failed"),
            }
            self.outbox.room().await;
        }
        std::future::pending().await
    }

    async fn message(&mut self, text: &str) {
        // It is read more slowly, so nothing is lost: also the offline writes of a published client, which would take a
        // connection that ends for a reason to forget them.
        while let Err(wait) = self.bucket.take(Instant::now()) {
            tokio::time::sleep(wait).await;
        }
        let effects = self.session.receive(text);
        // They are owed before the next one is read.
        let requests = if let Session::V1(session) = &self.session { session.requests_received() } else { 1 };
        self.bucket.charge((requests as u64).div_ceil(REQUESTS_PER_MESSAGE).saturating_sub(1));
        self.carry_out(effects).await;
    }

    async fn carry_out(&mut self, effects: Vec<Effect>) {
        for effect in effects {
            match effect {
                Effect::Admit { writer, rights, token } => {
                    if self.registered.is_none() {
                        Counts::one(&self.hub.counts.admitted);
                    }
                    self.holder = Holder::of(token.as_deref(), self.source);
                    self.rights = rights.clone();
                    self.outbox.admit(writer, rights.read.clone());
                    self.registered = Some(self.hub.register(self.outbox, writer, rights));
                }
                Effect::Reply(reply) => self.reply(reply),
                Effect::Subscribe(subscription) => {
                    let answers = matches!(self.session, Session::V1(_));
                    self.hub.subscribe(self.outbox, subscription, answers);
                }
                Effect::Wait(time) => tokio::time::sleep(time).await,
                Effect::Write(write) => self.write(&write),
                Effect::Submit(write) => self.submit(&write),
                Effect::Announce(name, announcement) => self.announce(name, announcement.as_ref()),
                Effect::Leave => leave(self.hub, std::mem::take(&mut self.participants)),
                Effect::Count(refused) => self.hub.counts.refuse_client(refused, self.source, &self.hub.name),
                Effect::Close(close) => {
                    self.outbox.close(close);
                    self.is_closing = true;
                }
            }
        }
    }

    fn close(&mut self, refused: Refused, close: Close) {
        self.hub.counts.refuse(refused);
        self.outbox.close(close);
        self.is_closing = true;
    }

    fn reply(&mut self, reply: String) {
        if !self.outbox.reply(reply) {
            self.hub.counts.give_up(Dropped::Stalled);
            self.outbox.close(Close::STALLED);
            self.is_closing = true;
        }
    }

    fn write(&mut self, write: &Write) {
        let outcome = self.hub.write(write, self.holder);
        if let Outcome::Refused { code: "field", .. } = outcome {
            self.hub.counts.refuse(Refused::Field);
        }
        let Some(about) = &write.about else {
            if let (Outcome::Unchanged, Operation::Delete { key }) = (&outcome, &write.operation) {
                // A published client takes the echo as acknowledgement, also if nothing has changed.
                self.reply(v04::deleted(key));
            }
            return;
        };
        let (Operation::Set { key, .. }
        | Operation::Delete { key }
        | Operation::Count { key, .. }
        | Operation::Insert { key, .. }
        | Operation::Discard { key, .. }) = &write.operation;
        for reply in v1::outcome(about.op, &write.operation, &outcome, self.rights.may_read(key)) {
            self.reply(reply);
        }
        if about.durable && !matches!(outcome, Outcome::Refused { .. }) {
            self.owe(about.op);
        }
    }

    fn submit(&mut self, write: &OwnedWrite) {
        let outcome = self.hub.submit(write, self.holder);
        let is_refused = matches!(outcome, Outcome::Refused { .. });
        if matches!(outcome, Outcome::Refused { code: "field" | "version", .. }) {
            self.hub.counts.refuse(Refused::Field);
        }
        if let Some(reply) = v1::submitted(write.op, &outcome) {
            self.reply(reply);
        }
        if write.durable && !is_refused {
            self.owe(write.op);
        }
    }

    /// The write is to be confirmed once it is on the disk.
    fn owe(&self, op: u64) {
        self.outbox.owe(1, 0);
        self.owed.ops.lock().push(op);
        self.owed.wake.notify_one();
    }

    fn announce(&mut self, name: Option<String>, announcement: Option<&Announcement>) {
        let id = name.map_or_else(|| self.id.to_owned(), |name| format!("{}/{name}", self.id));
        let Some(Announcement { about, value }) = announcement else {
            self.participants.remove(&id);
            self.hub.field.presence().leave(&id);
            return;
        };
        let announced = if self.participants.len() < MAX_PARTICIPANTS || self.participants.contains(&id) {
            serde_json::from_str::<&serde_json::value::RawValue>(value)
                .map_or(Ok(()), |value| self.hub.field.presence().announce_about(&id, about, value))
                .map_err(|error| error.to_string())
        } else {
            Err(format!("one connection can be {MAX_PARTICIPANTS} participants"))
        };
        match announced {
            Ok(()) => {
                self.participants.insert(id);
            }
            Err(message) => {
                self.hub.counts.refuse(Refused::Presence);
                if matches!(self.session, Session::V1(_)) {
                    self.reply(v1::refused(None, "presence", &message, None));
                }
            }
        }
    }
}

fn leave(hub: &Hub, participants: BTreeSet<String>) {
    for id in participants {
        hub.field.presence().leave(&id);
    }
}

/// Confirms writes once they are on the disk: one sync for all that wait at that moment.
async fn confirm(hub: &Hub, outbox: &Outbox, owed: &Owed) {
    loop {
        owed.wake.notified().await;
        let ops = std::mem::take(&mut *owed.ops.lock());
        if ops.is_empty() {
            continue;
        }
        let result = hub.field.durable().await.map_err(|error| not_durable(&error));
        for op in &ops {
            let reply = match &result {
                Ok(()) => v1::durable(*op),
                Err(message) => v1::not_durable(*op, message),
            };
            if !outbox.reply(reply) {
                hub.counts.give_up(Dropped::Stalled);
                outbox.close(Close::STALLED);
            }
        }
        outbox.owe(0, ops.len());
    }
}

/// Why a write is not on the disk, without the path of the file: clients may be strangers.
pub(super) fn not_durable(error: &FieldError) -> String {
    match error {
        FieldError::Store(store) => {
            let cause = std::error::Error::source(store).map(error_chain);
            cause.map_or_else(|| error.to_string(), |cause| format!("{error}: {cause}"))
        }
        other => other.to_string(),
    }
}

fn is_too_big(error: &axum::Error) -> bool {
    let cause = std::error::Error::source(error).and_then(|cause| cause.downcast_ref::<tungstenite::Error>());
    matches!(cause, Some(tungstenite::Error::Capacity(_)))
}
