//! The task that pulls waves from the server into the window, and tells the server which ones are still held.

use std::sync::Arc;
use std::time::Duration;

use async_nats::Subscriber;
use async_nats::jetstream::consumer::PullConsumer;
use bytes::Bytes;
use futures_util::{FutureExt as _, StreamExt as _};
use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until};

use super::claim::{answer, give_back};
use super::holding::{HEARTBEAT, Holding};
use super::opening::again_when_unlocked;
use super::reader::{Meaning, Reader};
use super::shared::StreamShared;
use super::unreadable::Unreadable;
use crate::jetstream::JetStreamError;

/// A request without a confirmation for this time is sent again.
const SILENT_FOR: Duration = Duration::from_millis(2500);
/// The pause before a request is sent again that was refused.
const PAUSE: Duration = Duration::from_millis(100);
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
    if shared.options.is_pinned() {
        // What is here is not kept alive any more.
        shared.window.close();
        give_back(&shared, shared.window.drain(|_| false)).await;
    }
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
    let mut holding = Holding::new(shared);
    let mut touching = interval(shared.ack_wait / 4);
    touching.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let now = Instant::now();
    let mut asked = Asked { waves: 0, heard: now, unanswered: None, not_before: now };
    let (mut is_closed, mut has_left) = (false, false);
    loop {
        let changed = window.changed.notified();
        tokio::pin!(changed);
        changed.as_mut().enable();
        // A server that has the request confirms it each second, so this is looked at within a second.
        if unreadable.may_be_there(client) {
            unreadable.pass_over(shared, consumer).await;
        }
        holding.ask_before_anything_begins();
        if asked.waves == 0
            && !is_closed
            && asked.not_before <= Instant::now()
            && let Some((waves, max_bytes)) = holding.room()
        {
            // A wave that is larger than the room could never be asked for.
            let max_bytes = max_bytes.max(client.max_payload());
            let request = holding.request(waves, max_bytes)?;
            let sent = client.publish_with_reply(next.clone(), inbox.clone(), request).await;
            sent.map_err(|error| refused("pull from", Arc::new(error)))?;
            (asked.waves, asked.heard) = (waves, Instant::now());
            if holding.gathers_one_by_one(waves) {
                asked.not_before = asked.heard + HEARTBEAT;
            }
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
                holding.ask();
            }
            (begun, info) = holding.answered() => {
                // Not answered, it is asked again later.
                if let Ok(info) = info && !holding.learn(begun, info.into()).await {
                    asked.ended(None);
                }
            }
            () = window.unclear.notified() => holding.doubt().await,
            () = window.room.notified(), if asked.waves == 0 => {}
            () = sleep_until(asked.not_before), if asked.waves == 0 && asked.not_before > Instant::now() => {}
            () = changed, if is_closed || holding.waits() => {}
            message = messages.next(), if !has_left => match message {
                Some(message) => take(&mut holding, &mut reader, message, &mut messages, &mut asked).await?,
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
            // Before what waits is taken out: a wave in flight may go back to the others.
            let is_last = window.in_flight() == 0;
            // Others get at once what this process will not handle.
            give_back(shared, window.drain(|_| false)).await;
            if is_last {
                holding.leave().await;
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
    holding: &mut Holding<'_>,
    reader: &mut Reader<'_>,
    first: async_nats::Message,
    messages: &mut Subscriber,
    asked: &mut Asked,
) -> Result<(), JetStreamError> {
    let shared = holding.shared;
    let (mut next, mut waves) = (Some(first), Vec::new());
    let (mut is_deleted, mut is_refused) = (false, false);
    let mut passed_over = 0;
    while let Some(message) = next {
        let reply = message.reply.clone();
        let meaning = reader.read(message);
        if let Some(arrived) = reader.arrived()
            && !holding.came(&arrived, &mut waves).await
        {
            passed_over += 1;
            give_back(shared, reply).await;
            next = messages.next().now_or_never().flatten();
            continue;
        }
        match meaning {
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
                    answer(shared, reply, again_when_unlocked(shared)).await;
                }
            }
            Meaning::Heartbeat => holding.ask_while_gathering(),
            Meaning::Ended => asked.ended(None),
            Meaning::NotPinned => {
                give_back(shared, std::mem::take(&mut waves).into_iter().map(|held| held.reply)).await;
                holding.lose().await;
                asked.ended(None);
            }
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
    holding.begin();
    match is_deleted {
        true => Err(JetStreamError::Deleted { consumer: shared.name.clone() }),
        false => Ok(()),
    }
}
