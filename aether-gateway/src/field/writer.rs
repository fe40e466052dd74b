//! The writing half of a connection: sends what waits in the outbox, pings, and finds clients that do not read or are
//! gone.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use aether_field::{Field, PageEntry, PageStart};
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
use super::selection::Part;
use super::slot::Slot;
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

fn message(piece: Piece) -> Message {
    Message::Text(piece.text)
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
    let mut writer = Writer::new(hub, outbox, dialect);
    let mut ping = interval(limits.ping_interval);
    ping.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ping.reset();
    let (mut presence, mut shown) = (None, BTreeSet::new());
    loop {
        let messages: Vec<_> = writer.next().await.into_iter().map(message).collect();
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
                messages.extend(writer.cursor().map(message));
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
    if update.id().strip_prefix(own).is_some_and(|rest| rest.is_empty() || rest.starts_with('/')) {
        return Vec::new();
    }
    let about = outbox.readable(update.about());
    let value = update.json().filter(|_| !about.is_empty()).map(|json| &json[..]);
    if value.is_some() {
        shown.insert(update.id().to_owned());
    } else if !shown.remove(update.id()) {
        return Vec::new();
    }
    let text = match dialect {
        Dialect::V04 => v04::presence(update.id(), value),
        Dialect::V1 => v1::presence(update.id(), value, &about),
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

/// A message to a client.
#[derive(Debug)]
pub(super) struct Piece {
    pub(super) text: Utf8Bytes,
    /// The epoch and the revision up to which the client has everything after it.
    pub(super) cursor: Option<(Arc<str>, u64)>,
}

impl Piece {
    fn new(text: impl Into<Utf8Bytes>) -> Self {
        Self { text: text.into(), cursor: None }
    }
}

/// The next entries of these parts, about this many bytes of them.
pub(super) fn page_of(
    field: &Field,
    parts: &mut VecDeque<Part>,
    from: &mut Option<PageStart>,
    bytes: usize,
) -> Vec<PageEntry> {
    let page = match parts.front() {
        Some(Part::Names(names)) => field.page(names, from.take(), bytes),
        Some(Part::Owners(owners)) => field.page_of_owners(owners, from.take(), bytes),
        None => return Vec::new(),
    };
    *from = page.next;
    if from.is_none() {
        parts.pop_front();
    }
    page.entries
}

/// Takes what waits for one client, and writes it in its protocol.
pub(super) struct Writer<'a> {
    hub: &'a Hub,
    outbox: &'a Outbox,
    dialect: Dialect,
    /// The revision that the client was told last.
    told: u64,
    /// The place of a whole snapshot that is in memory.
    snapshot: Option<OwnedSemaphorePermit>,
}

impl<'a> Writer<'a> {
    pub(super) fn new(hub: &'a Hub, outbox: &'a Outbox, dialect: Dialect) -> Self {
        Self { hub, outbox, dialect, told: 0, snapshot: None }
    }

    /// The next messages; none if nothing waits.
    pub(super) async fn next(&mut self) -> Vec<Piece> {
        let mut pieces: Vec<_> = self.outbox.take_replies().into_iter().map(Piece::new).collect();
        if self.dialect == Dialect::V04 && self.outbox.has_snapshot() {
            if !pieces.is_empty() {
                return pieces;
            }
            // Closed never.
            self.snapshot = Arc::clone(&self.hub.snapshots).acquire_owned().await.ok();
        }
        let settled = self.hub.settled();
        if let Some(reading) = self.outbox.take_snapshot(settled) {
            pieces.push(match self.dialect {
                Dialect::V04 => self.whole_snapshot(reading).await,
                Dialect::V1 => self.part_of_snapshot(reading),
            });
        }
        self.changes(settled, &mut pieces);
        pieces
    }

    fn changes(&mut self, settled: u64, pieces: &mut Vec<Piece>) {
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
                        Some(text) => pieces.push(Piece::new(text.clone())),
                        None => Counts::one(&self.hub.counts.unreadable),
                    }
                }
            }
            Dialect::V1 => {
                let mut entries = Vec::with_capacity(changes.len());
                for change in changes {
                    let own =
                        if let Slot::Counter(name) = &change.slot { self.own_counter(name) } else { None };
                    match own.map(Utf8Bytes::from).or_else(|| change.in_v1().cloned()) {
                        Some(text) => entries.push(text),
                        None => Counts::one(&self.hub.counts.unreadable),
                    }
                }
                self.told = complete;
                let epoch = self.outbox.epoch();
                let text = v1::changes(&epoch, complete, &entries).into();
                pieces.push(Piece { text, cursor: Some((epoch, complete)) });
            }
        }
    }

    /// The entry of a counter with what the client itself has added; `None` if it has added nothing.
    fn own_counter(&self, name: &str) -> Option<String> {
        let (sum, own) = self.hub.field.count_of(name, self.outbox.writer()?)?;
        Some(v1::counter(name, sum, Some(own)))
    }

    /// The cursor, if it has moved on by changes that the client did not want.
    pub(super) fn cursor(&mut self) -> Option<Piece> {
        let settled = self.hub.settled();
        if self.dialect == Dialect::V04 || settled == self.told || !self.outbox.is_idle() {
            return None;
        }
        // Everything up to here was pushed before the outbox was seen to be empty.
        self.told = settled;
        let epoch = self.outbox.epoch();
        let text = v1::cursor(&epoch, settled).into();
        Some(Piece { text, cursor: Some((epoch, settled)) })
    }

    async fn whole_snapshot(&mut self, mut reading: Reading) -> Piece {
        let mut snapshot = v04::Snapshot::new();
        while !reading.parts.is_empty() {
            for entry in page_of(&self.hub.field, &mut reading.parts, &mut reading.from, 4 * BATCH) {
                if let PageEntry::Register { name, value, .. } = &entry
                    && !snapshot.add(name, value)
                {
                    Counts::one(&self.hub.counts.unreadable);
                }
            }
            // A large field takes seconds.
            tokio::task::yield_now().await;
        }
        self.outbox.go_on(reading);
        let text = snapshot.finish();
        if text.len() <= SMALL {
            self.snapshot = None;
        }
        Piece::new(text)
    }

    fn part_of_snapshot(&mut self, mut reading: Reading) -> Piece {
        let mut entries = Vec::new();
        for entry in page_of(&self.hub.field, &mut reading.parts, &mut reading.from, BATCH) {
            let own =
                if let PageEntry::Counter { name, .. } = &entry { self.own_counter(name) } else { None };
            match own.or_else(|| v1::page_entry(&entry)) {
                Some(text) => entries.push(text),
                None => Counts::one(&self.hub.counts.unreadable),
            }
        }
        reading.sent += entries.len() as u64;
        let revision = reading.revision.unwrap_or_default();
        let is_done = reading.parts.is_empty();
        let cursor = is_done.then(|| (self.outbox.epoch(), revision));
        let at_most = self.hub.field.status().entries.max(reading.sent);
        let is_first = !std::mem::replace(&mut reading.has_begun, true);
        let progress = (is_first, reading.sent, at_most);
        let text = v1::snapshot(&entries, progress, cursor.as_ref(), reading.only.as_ref()).into();
        if is_done {
            self.told = revision;
        }
        self.outbox.go_on(reading);
        Piece { text, cursor }
    }
}
