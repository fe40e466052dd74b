//! The writing half of a connection: sends what waits in the outbox, pings, and finds clients that do not read or are
//! gone.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use aether_field::PageEntry;
use aether_metrics::Written;
use axum::extract::ws::{CloseFrame, Message, Utf8Bytes, WebSocket};
use bytes::Bytes;
use futures_util::SinkExt as _;
use futures_util::stream::SplitSink;
use parking_lot::Mutex;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::{Instant, MissedTickBehavior, interval, timeout};

use super::change::Change;
use super::counts::{Counts, Dropped};
use super::effect::Close;
use super::hub::Hub;
use super::outbox::{Outbox, Reading};
use super::{v1, v04};

/// The size of what is sent at once, in bytes.
const BATCH: usize = 64 << 10;

/// The size up to which a whole snapshot takes no place of one.
const SMALL: usize = 256 << 10;

/// The size of what a client has [`max_stall`](super::SecurityLimits::max_stall) for.
const STRETCH: u64 = 512 << 10;

/// Which protocol a connection speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Dialect {
    V04,
    V1,
}

/// The last sign of life of a client.
#[derive(Debug)]
pub(super) struct Pulse(Mutex<Instant>);

impl Pulse {
    pub(super) fn new() -> Self {
        Self(Mutex::new(Instant::now()))
    }

    pub(super) fn beat(&self) {
        *self.0.lock() = Instant::now();
    }

    fn silent_for(&self) -> Duration {
        self.0.lock().elapsed()
    }
}

type Sink = SplitSink<WebSocket, Message>;

pub(super) fn close_message(close: Close) -> Message {
    Message::Close(Some(CloseFrame { code: close.code, reason: Utf8Bytes::from_static(close.reason) }))
}

/// Writes until the connection ends or is closed. Returns why the client was given up, if it was.
pub(super) async fn write(
    sink: &mut Sink,
    (hub, outbox): (&Hub, &Outbox),
    id: &str,
    dialect: Dialect,
    pulse: &Pulse,
    written: Option<&Written>,
) -> Option<Dropped> {
    let limits = &hub.limits;
    let mut writer = Writer { hub, outbox, dialect, told: 0, snapshot: None };
    let mut ping = interval(limits.ping_interval);
    ping.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ping.reset();
    let (mut presence, mut shown) = (None, BTreeSet::new());
    loop {
        let messages = writer.next().await;
        let is_idle = messages.is_empty();
        if !is_idle && let Err(end) = send(sink, messages, (limits.max_stall, written)).await {
            return end;
        }
        writer.snapshot = None;
        if !outbox.wants_presence() {
            presence = None;
        } else if presence.is_none() {
            (presence, shown) = (Some(hub.field.presence().watch()), BTreeSet::new());
        }
        if is_idle && let Some(close) = outbox.take_close() {
            let _ = send(sink, vec![close_message(close)], (limits.max_stall, written)).await;
            return None;
        }
        let next_presence = async {
            match &mut presence {
                Some(watch) => watch.next().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = std::future::ready(()), if !is_idle => {}
            () = outbox.wake.notified() => {}
            update = next_presence => match update {
                Some(update) => {
                    let messages = presence_message(dialect, (id, outbox), &mut shown, &update);
                    if let Err(end) = send(sink, messages, (limits.max_stall, written)).await {
                        return end;
                    }
                }
                None => return None,
            },
            _ = ping.tick() => {
                if pulse.silent_for() > limits.max_silence {
                    return Some(Dropped::Silent);
                }
                let mut messages = vec![Message::Ping(Bytes::new())];
                messages.extend(writer.cursor());
                if let Err(end) = send(sink, messages, (limits.max_stall, written)).await {
                    return end;
                }
            }
        }
    }
}

/// The message of an update. A client sees the participants that are about something that it may read.
fn presence_message(
    dialect: Dialect,
    (own, outbox): (&str, &Outbox),
    shown: &mut BTreeSet<String>,
    update: &aether_field::PresenceUpdate,
) -> Vec<Message> {
    if update.id() == own {
        return Vec::new();
    }
    let value = update.json().filter(|_| outbox.may_see(update.about())).map(|json| &json[..]);
    if value.is_some() {
        shown.insert(update.id().to_owned());
    } else if !shown.remove(update.id()) {
        return Vec::new();
    }
    let text = match dialect {
        Dialect::V04 => v04::presence(update.id(), value),
        Dialect::V1 => v1::presence(update.id(), value),
    };
    text.map(|text| Message::Text(text.into())).into_iter().collect()
}

/// Sends messages. `Err` if the connection has ended, or is given up: it took less than a stretch in the time for one.
async fn send(
    sink: &mut Sink,
    messages: Vec<Message>,
    (stall, written): (Duration, Option<&Written>),
) -> Result<(), Option<Dropped>> {
    let sending = async {
        for message in messages {
            sink.feed(message).await?;
        }
        sink.flush().await
    };
    let mut sending = std::pin::pin!(sending);
    let taken = || written.map_or(0, Written::bytes);
    loop {
        let before = taken();
        match timeout(stall, &mut sending).await {
            Ok(Ok(())) => return Ok(()),
            Ok(Err::<_, axum::Error>(_)) => return Err(None),
            Err(_) if taken() - before >= STRETCH => {}
            Err(_) => return Err(Some(Dropped::Stalled)),
        }
    }
}

struct Writer<'a> {
    hub: &'a Hub,
    outbox: &'a Outbox,
    dialect: Dialect,
    /// The revision that the client was told last.
    told: u64,
    /// The place of a whole snapshot that is in memory.
    snapshot: Option<OwnedSemaphorePermit>,
}

impl Writer<'_> {
    /// The next messages; none if nothing waits.
    async fn next(&mut self) -> Vec<Message> {
        let mut messages: Vec<_> =
            self.outbox.take_replies().into_iter().map(|reply| Message::Text(reply.into())).collect();
        if self.dialect == Dialect::V04 && self.outbox.has_snapshot() {
            if !messages.is_empty() {
                return messages;
            }
            // Closed never.
            self.snapshot = Arc::clone(&self.hub.snapshots).acquire_owned().await.ok();
        }
        let settled = self.hub.settled();
        if let Some(reading) = self.outbox.take_snapshot(settled) {
            messages.push(match self.dialect {
                Dialect::V04 => self.whole_snapshot(reading).await,
                Dialect::V1 => self.part_of_snapshot(reading),
            });
        }
        self.changes(settled, &mut messages);
        messages
    }

    fn changes(&mut self, settled: u64, messages: &mut Vec<Message>) {
        let (changes, complete) = self.outbox.take_changes(BATCH, settled);
        if changes.is_empty() {
            return;
        }
        let changes = changes
            .into_iter()
            .map(|(slot, change)| change.unwrap_or_else(|| Change::now(&self.hub.field, slot)));
        match self.dialect {
            Dialect::V04 => {
                for change in changes {
                    match change.in_v04() {
                        Some(text) => messages.push(Message::Text(text.clone())),
                        None => Counts::one(&self.hub.counts.unreadable),
                    }
                }
            }
            Dialect::V1 => {
                let mut entries = Vec::with_capacity(changes.len());
                for change in changes {
                    match change.in_v1() {
                        Some(text) => entries.push(text.clone()),
                        None => Counts::one(&self.hub.counts.unreadable),
                    }
                }
                self.told = complete;
                messages.push(Message::Text(v1::changes(&self.outbox.epoch(), complete, &entries).into()));
            }
        }
    }

    /// The cursor, if it has moved on by changes that the client did not want.
    fn cursor(&mut self) -> Option<Message> {
        let settled = self.hub.settled();
        if self.dialect == Dialect::V04 || settled == self.told || !self.outbox.is_idle() {
            return None;
        }
        // Everything up to here was pushed before the outbox was seen to be empty.
        self.told = settled;
        Some(Message::Text(v1::cursor(&self.outbox.epoch(), settled).into()))
    }

    async fn whole_snapshot(&mut self, mut reading: Reading) -> Message {
        let mut snapshot = v04::Snapshot::new();
        while let Some(names) = reading.names.front() {
            let page = self.hub.field.page(names, reading.from.take(), 4 * BATCH);
            for entry in &page.entries {
                if let PageEntry::Register { name, value, .. } = entry
                    && !snapshot.add(name, value)
                {
                    Counts::one(&self.hub.counts.unreadable);
                }
            }
            reading.from = page.next;
            if reading.from.is_none() {
                reading.names.pop_front();
            }
            // A large field takes seconds.
            tokio::task::yield_now().await;
        }
        self.outbox.go_on(reading);
        let text = snapshot.finish();
        if text.len() <= SMALL {
            self.snapshot = None;
        }
        Message::Text(text.into())
    }

    fn part_of_snapshot(&mut self, mut reading: Reading) -> Message {
        let mut entries = Vec::new();
        if let Some(names) = reading.names.front() {
            let page = self.hub.field.page(names, reading.from.take(), BATCH);
            for entry in &page.entries {
                match v1::page_entry(entry) {
                    Some(text) => entries.push(text),
                    None => Counts::one(&self.hub.counts.unreadable),
                }
            }
            reading.from = page.next;
            if reading.from.is_none() {
                reading.names.pop_front();
            }
        }
        reading.sent += entries.len() as u64;
        let revision = reading.revision.unwrap_or_default();
        let is_done = reading.names.is_empty();
        let epoch = self.outbox.epoch();
        let cursor = is_done.then_some((&*epoch, revision));
        let at_most = self.hub.field.status().entries.max(reading.sent);
        let is_first = !std::mem::replace(&mut reading.has_begun, true);
        let message = v1::snapshot(&entries, is_first, reading.sent, at_most, cursor);
        if is_done {
            self.told = revision;
        }
        self.outbox.go_on(reading);
        Message::Text(message.into())
    }
}
