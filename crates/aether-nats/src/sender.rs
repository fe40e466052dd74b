//! The sending task: moves waves from the outbox to the client, many waves per message; and flushing, which waits for it.
//!
//! Batching happens naturally: while one batch is on its way to the broker, waves queue up and leave together in the
//! next batch. There is no timer, and a single wave leaves immediately. Commands never share a message, because a
//! server queue group delivers a message to one member as a whole, and the members should share the work.
//!
//! For commands, queries and waves whose source asked, which are reflected if they have no receiver, the task asks the
//! server whether there is one, once per channel and batch.
//!
//! The task numbers outgoing waves ([`Numbers`]). When nothing follows them, it announces the numbers: after a new
//! connection, when a channel has gone quiet, for somebody who has joined, at a flush, and at the end.
//!
//! Flushing, confirming and closing wait, within bounds, until the broker has received everything that was accepted.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use async_nats::{PublishError, PublishErrorKind, Subject};
use bytes::Bytes;
use futures_util::future::join_all;
use tokio::sync::watch;
use tokio::time::timeout;

use super::connection::NatsShared;
use super::joins::{AskedAnnouncements, JoinNotice};
use super::pause::ObeyedPauses;
use super::state::{AWAY_PATIENCE, Ended};
use super::subjects::Root;
use super::{Nats, cloudevents};
use aether_core::clock::{self, Instant, sleep_until};
use aether_core::medium::Wire;
use aether_core::{Channel, FlushError, Wave};
use aether_link::wire::{Position, encode_at, encode_bounded};
use aether_link::{Acceptance, Batches, Numbers, StreamAnnouncement, fitting, is_of_one_channel, within};

/// The maximum number of waves and bytes in a batch, and the maximum number of batches in flight before one is
/// confirmed. Together they bound the delay of a strong wave.
const BATCH_WAVES: usize = 512;
const BATCH_BYTES: usize = 256 << 10;
const BATCHES_UNDER_WAY: usize = 8;

/// The approximate maximum number of messages per batch, provided that each wave makes as many messages as in the
/// previous batch. If each wave is a message, batches are smaller and more of them are in flight, so that room for
/// emitters appears steadily even on a slow connection.
const BATCH_MESSAGES: usize = 64;

/// The approximate size of a message. The server assembles a message that it cannot read at once in separate memory.
/// For the same waves, messages of 8 KiB cost it half the processor time of messages of 300 KiB.
const FRAME_BYTES: usize = 8 << 10;

/// Closing and flushing give up after this long without any progress while the connection is up, when the network may
/// have lost a packet or two and the server may be busy. Two TCP retransmissions in a row take at least 0.6 s (RFC
/// 6298, with the minimum of 0.2 s that Linux uses), and three take at least 1.4 s.
const CONNECTED_PATIENCE: Duration = Duration::from_secs(2);

/// Closing waits this long for the tasks that deliver what has arrived. These tasks do not wait for anything; only slow
/// inbox callbacks can delay them.
const DELIVER_WITHIN: Duration = Duration::from_secs(10);

/// The next action of the sending task.
enum Next {
    Send,
    /// An announcement is computed when it can be sent, because it contains the age of the stream.
    Announce(fn(&mut Numbers, Instant) -> Vec<StreamAnnouncement>),
    Answer(AskedAnnouncements),
    End,
}

/// Sends until the outbox is closed and empty, or until nobody uses the medium any more and the server stays away.
pub(super) async fn send(shared: Arc<NatsShared>, mut ending: watch::Receiver<bool>) {
    let given_up = async {
        // Fails if it was dropped.
        let _ = ending.wait_for(|ending| *ending).await;
        shared.state.stays_away().await;
    };
    tokio::select! {
        () = send_all(&shared) => {}
        () = given_up => shared.outbox.abandon(),
    }
}

async fn send_all(shared: &Arc<NatsShared>) {
    // Also when the task is aborted: no task should wait for work that will not be done any more.
    let ending = Ending(shared);
    let mut batch = Vec::with_capacity(BATCH_WAVES);
    let mut batch_waves = BATCH_WAVES;
    let mut groups = Batches::default();
    let mut numbers = Numbers::new();
    let mut pauses = ObeyedPauses::new(shared);
    let mut connection = shared.state.connection(&shared.client);
    loop {
        let next = tokio::select! {
            biased;
            asked = shared.announcements.asked() => Next::Answer(asked),
            () = shared.state.connected_after(&mut connection, &shared.client) => {
                Next::Announce(Numbers::after_reconnecting)
            }
            is_filled = shared.outbox.filled_after(pauses.seen()) => if is_filled { Next::Send } else { Next::End },
            () = pauses.changed(shared) => Next::Send,
            () = sleep_until(numbers.next_round()) => Next::Announce(|_, _| Vec::new()),
        };
        shared.state.until_connected(&shared.client).await;
        match next {
            Next::Send => {
                batch.clear();
                pauses.update(shared).await;
                match pauses.is_empty() {
                    true => shared.state.take(&mut batch, |outbox, batch| {
                        outbox.take_many(batch_waves, BATCH_BYTES, batch);
                    }),
                    false => pauses.take_unheld(shared, (batch_waves, BATCH_BYTES), &mut batch),
                }
                if batch.is_empty() && !pauses.is_empty() {
                    // A flush may have seen that a batch was being taken.
                    shared.state.note_progress();
                    continue;
                }
                // This comes after taking, so that subscriptions left before one of these waves was emitted do not
                // receive it.
                shared.left().await;
                let waves = batch.len();
                let messages = send_batch(shared, &mut batch, &mut groups, &mut numbers).await;
                shared.state.mark(&shared.client).await;
                let is_full = waves >= batch_waves;
                let under_way =
                    if is_full { BATCHES_UNDER_WAY * BATCH_WAVES / batch_waves } else { BATCHES_UNDER_WAY };
                shared.state.fewer_marks_than(under_way, &shared.client).await;
                batch_waves = (waves * BATCH_MESSAGES / messages.max(1)).clamp(BATCH_MESSAGES, BATCH_WAVES);
            }
            Next::Announce(which) => announce(shared, which(&mut numbers, clock::now())).await,
            Next::Answer(AskedAnnouncements { flushes, joins }) => {
                for join in &joins {
                    answer(shared, &numbers, join).await;
                }
                if !flushes.is_empty() {
                    announce(shared, numbers.unannounced(clock::now())).await;
                }
            }
            Next::End => break,
        }
        // Checked in any case, because channels go quiet while others are busy.
        let now = clock::now();
        if numbers.next_round().is_some_and(|round| round <= now) {
            announce(shared, numbers.due(now)).await;
        }
    }
    announce(shared, numbers.unannounced(clock::now())).await;
    drop(ending);
    // The client ends with its last handle, which may be ours, and does not write what it still buffers at that point.
    let _ = shared.client.flush().await;
}

struct Ending<'a>(&'a NatsShared);

impl Drop for Ending<'_> {
    fn drop(&mut self) {
        self.0.announcements.end();
    }
}

/// Returns the number of messages in the batch.
async fn send_batch(
    shared: &NatsShared,
    batch: &mut Vec<Wave>,
    groups: &mut Batches,
    numbers: &mut Numbers,
) -> usize {
    match shared.wire {
        Wire::Frames => {
            let mut messages = 0;
            if is_of_one_channel(batch) {
                messages = send_frames(shared, batch, numbers).await;
            } else {
                groups.sort(batch);
                for waves in groups.in_order() {
                    messages += send_frames(shared, waves, numbers).await;
                }
            }
            // At once, while they are in the processor's caches, and because the next batch may come much later.
            batch.clear();
            groups.clear();
            messages
        }
        Wire::CloudEvents => {
            for wave in &*batch {
                let now = clock::now();
                let subject = shared.subject(Root::Waves, wave.channel().as_str());
                // Omits the last announcement of an evicted stream, because consumers would take it for an event.
                let (stream, _) = numbers.stream(wave.channel(), now);
                let headers = cloudevents::numbered(wave, shared.node, stream.position(now), now);
                let payload = wave.payload().clone();
                if is_sent(&shared.client.publish_with_headers(subject, headers, payload).await) {
                    stream.sent(1, now);
                } else {
                    shared.state.unsendable(std::slice::from_ref(wave));
                }
            }
            batch.len()
        }
    }
}

/// Whether the client accepted a message. It rejects messages that are too large for the server it is now connected to.
/// Otherwise it rejects messages only when it has ended; the state then writes off what the client was given.
fn is_sent(published: &Result<(), PublishError>) -> bool {
    !matches!(published, Err(error) if error.kind() == PublishErrorKind::MaxPayloadExceeded)
}

/// Announces the stream positions of some channels to receivers.
async fn announce(shared: &NatsShared, announcements: impl IntoIterator<Item = StreamAnnouncement>) {
    if shared.wire == Wire::CloudEvents {
        // Consumers that do not support Aether would take an announcement for an event.
        return;
    }
    for (channel, position) in announcements {
        if let Some(frame) = announcement(shared, position) {
            let subject = shared.subject(Root::Waves, channel.as_str());
            if let Some(frame) = shared.sealed(Root::Waves, channel.as_str(), &subject, frame) {
                let _ = shared.client.publish(subject, frame).await;
            }
        }
    }
}

/// Answers somebody who has joined: where the streams are that it hears, and which ones have not begun yet. Nothing is
/// numbered in between.
async fn answer(shared: &NatsShared, numbers: &Numbers, join: &JoinNotice) {
    let now = clock::now();
    announce(shared, shared.joins.announce(|most| numbers.heard_by(&join.pattern, most, now))).await;
    let position = Position { stream: numbers.next_stream(), first: join.at_micros, age_micros: 0 };
    let Some(frame) = announcement(shared, position) else { return };
    let channel = join.answered_on();
    let subject = shared.subject(Root::Questions, &channel);
    if let Some(frame) = shared.sealed(Root::Questions, &channel, &subject, frame) {
        let _ = shared.client.publish(subject, frame).await;
    }
}

/// A frame without waves that contains the position of a stream.
fn announcement(shared: &NatsShared, position: Position) -> Option<Bytes> {
    // A frame without waves cannot be invalid.
    encode_at(shared.sender(), Some(position), None, &[], clock::now()).ok()
}

/// Asks the server whether a channel has receivers, ahead of waves whose source is notified if there are none. Any
/// receiver of the inquiry also receives the waves, because subscriptions to waves are made before subscriptions to
/// questions.
async fn inquire(shared: &NatsShared, channel: &Channel, position: Position, about: Vec<Wave>) {
    let Some(frame) = announcement(shared, position) else { return };
    let subject = shared.subject(Root::Questions, channel.as_str());
    let Some(frame) = shared.sealed(Root::Questions, channel.as_str(), &subject, frame) else { return };
    if let Some(reply) = shared.state.inquire(about) {
        let _ = shared.client.publish_with_reply(subject, reply, frame).await;
    }
}

/// Sends waves of one channel, in order, in as few messages as the server's limit and commands allow. Returns the
/// number of messages.
async fn send_frames(shared: &NatsShared, waves: &[Wave], numbers: &mut Numbers) -> usize {
    let Some(first) = waves.first() else { return 0 };
    let (stream, forgotten) = numbers.stream(first.channel(), clock::now());
    announce(shared, forgotten).await;
    // The waves whose source is notified if they have no receiver. An asker learns this from `ask`. The source of a
    // wave that is too large for this server is notified below.
    let is_told = |wave: &&Wave| wave.reflects() && !wave.is_question() && shared.oversize(wave).is_none();
    let about: Vec<_> = waves.iter().filter(is_told).cloned().collect();
    if !about.is_empty() {
        inquire(shared, first.channel(), stream.position(clock::now()), about).await;
    }
    let max_bytes = shared.max_frame().min(FRAME_BYTES);
    let subject = Subject::from(shared.subject(Root::Waves, first.channel().as_str()));
    let (mut rest, mut messages) = (waves, 0);
    while !rest.is_empty() {
        let (fitting, bound) = fitting(rest, max_bytes, true);
        let (these, later) = rest.split_at(fitting);
        let now = clock::now();
        match encode_bounded(shared.sender(), Some(stream.position(now)), None, these, bound, now) {
            Ok(frame) => {
                let channel = first.channel().as_str();
                let sent = match shared.sealed(Root::Waves, channel, &subject, frame) {
                    Some(frame) => is_sent(&shared.client.publish(subject.clone(), frame).await),
                    None => false,
                };
                if sent {
                    stream.sent(these.len(), now);
                } else {
                    shared.state.unsendable(these);
                }
            }
            // The waves are of one channel, far fewer than the number of sources allowed in a frame, and none is too
            // large. This should not happen. If it did, the loss would still be counted.
            Err(error) => {
                tracing::error!(%error, "cannot encode the waves of a batch as a frame");
                shared.state.unsendable(these);
            }
        }
        (rest, messages) = (later, messages + 1);
    }
    messages
}

impl Nats {
    /// How long to wait for progress.
    fn patience(&self) -> Duration {
        if self.shared.state.is_connected() { CONNECTED_PATIENCE } else { AWAY_PATIENCE }
    }

    /// Waits until everything in the outbox has left and was confirmed, or until the patience expires.
    pub(super) async fn settle(&self) -> Result<(), FlushError> {
        let (shared, state) = (&*self.shared, &*self.shared.state);
        let lost_before = state.unconfirmed();
        let mut goal = state.goal();
        let moved = || {
            let mut progress = state.progress();
            async move { progress.changed().await }
        };
        let settled = within(moved, || self.patience(), async {
            let mut progress = state.progress();
            while {
                progress.borrow_and_update();
                state.unsettled(&mut goal).is_some()
            } {
                // Would fail only if the state had been dropped.
                let _ = progress.changed().await;
            }
            // This lets receivers detect missed waves even if nothing follows.
            shared.announcements.ask().await;
            shared.left().await;
            // Waves that were written off may still be in the client's hands, so a marker of our own is sent behind
            // them.
            state.round_trip_behind_errors(&shared.client).await?;
            // Waves that nobody hears came back, also those that had to be looked at again.
            if let Some(unverified) = &shared.unverified {
                unverified.decided().await;
            }
            Ok(())
        });
        let settled = settled.await;
        let waves = state.unsettled(&mut goal).unwrap_or(0) + state.unconfirmed() - lost_before;
        match settled {
            Ok(Err(Ended)) => Err(FlushError::Closed),
            Ok(Ok(())) if waves == 0 => Ok(()),
            Ok(Ok(())) => Err(FlushError::Unconfirmed { waves, patience: self.patience() }),
            Err(patience) if waves == 0 => Err(FlushError::Unanswered { patience }),
            Err(patience) => Err(FlushError::Unconfirmed { waves, patience }),
        }
    }

    /// The same. Waves that could not be sent are an error as well.
    pub(super) async fn settle_all(&self) -> Result<(), FlushError> {
        self.settle().await?;
        match self.shared.state.take_unsendable() {
            0 => Ok(()),
            waves => Err(FlushError::Unsendable { waves }),
        }
    }

    pub(super) async fn end(&self) -> Result<(), FlushError> {
        self.shared.closed.store(true, Ordering::Release);
        // The sending task empties the outbox and ends.
        self.shared.outbox.close();
        // A repeated close waits for the first one, and takes over if that one was cancelled.
        let mut is_over = self.closing.lock().await;
        if *is_over {
            return Ok(());
        }
        // Everything that the server sent before this marker returned is in the hands of the draining tasks.
        let settled = self.settle_all().await;
        if matches!(settled, Ok(()) | Err(FlushError::Unsendable { .. })) {
            // Departing receivers have already begun to send their notices. If the server goes away now too, no
            // recipient is left.
            let _ = timeout(self.patience(), self.notices.announced()).await;
        }
        if let Some(sender) = self.sender.lock().take() {
            sender.abort();
        }
        self.shared.outbox.abandon();
        self.ending.send_replace(true);
        // Tasks that take longer continue. The waves that they deliver are counted, because the inboxes are closed.
        let _ = timeout(DELIVER_WITHIN, join_all(self.joined.take_tasks())).await;
        self.shared.state.end();
        *is_over = true;
        settled
    }
}
