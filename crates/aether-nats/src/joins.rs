//! Joins: the notices by which receivers ask all senders for their positions, and the answers.
//!
//! A receiver that has just joined does not know which waves were sent before. If the next ones are lost, it could
//! not tell them apart from those. So each join outside of groups sends a notice. The sending task of every process
//! then announces the positions of the matching channels, which come to the receiver among their waves, and answers
//! with the number of its next stream ([`Beginnings`]). Nobody waits for that: a join takes no longer, and what it
//! learns counts from the answer on.
//!
//! Only the sending task may announce: an announcement from anywhere else could overtake the waves that it counts. Joins and
//! flushes ask it to ([`AnnouncementRequests`]).
//!
//! Notices may be forged. The work that they cause a sender is bounded ([`Allowance`]), and so are the remembered
//! answers. This module does no I/O; [`subscriptions`](super::subscriptions) sends and takes the messages.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use tokio::sync::{Notify, oneshot};

use super::authentication::{Arrived, known_node};
use aether_core::clock::{self, Instant};
use aether_core::medium::Sequencer;
use aether_core::wave::ContentType;
use aether_core::{Channel, Pattern, Source, Wave};
use aether_link::Beginnings;
use aether_link::wire::{self, Frame};

/// The channel of the notices. Answers come on a channel below it that names the node that asked.
pub(super) const JOINS: &str = "_aether.joins";

/// How many announcements a sender makes for joins at once, and then in each second. An answer counts as several, because a
/// sender looks at all its channels for it: with these bounds, a second of notices without end costs it 50 ms.
const MOST: u64 = 8192;
const MOST_A_SECOND: u64 = 1024;
const ANSWER: u64 = 4;

/// The maximum number of joins that wait to be answered. A notice of more is not answered.
const MAX_JOINS: usize = 1024;

/// The connection's side of joins.
pub(super) struct Joins {
    /// The answers of other senders to the joins of this process.
    pub(super) beginnings: Arc<Beginnings>,
    /// The beginning of the times in our notices.
    started: Instant,
    sequencer: Sequencer,
    /// For the answers to others.
    allowance: Mutex<Allowance>,
}

/// A notice of somebody who has joined.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct JoinNotice {
    /// The node that has joined.
    node: u64,
    pub(super) pattern: Pattern,
    /// When it joined, by its own account. The answer repeats it.
    pub(super) at_micros: u64,
}

#[derive(Serialize, Deserialize)]
struct JoinRecord {
    pattern: String,
    at: u64,
}

/// The announcements that may still be made. It is restored with time.
#[derive(Debug)]
struct Allowance {
    left: u64,
    at: Instant,
}

impl Allowance {
    fn restore(&mut self, now: Instant) {
        let restored = now.saturating_duration_since(self.at).as_millis() as u64 * MOST_A_SECOND / 1000;
        if restored > 0 {
            (self.left, self.at) = (self.left.saturating_add(restored).min(MOST), now);
        }
    }
}

impl JoinNotice {
    pub(super) fn read(message: &Bytes) -> Option<Self> {
        let channel = Channel::with_reserved(JOINS).ok()?;
        let Frame { sender, waves, .. } =
            wire::decode(message, Some(&channel), clock::now(), |_| Duration::ZERO).ok()?;
        let JoinRecord { pattern, at } = serde_json::from_slice(waves.first()?.payload()).ok()?;
        Some(Self { node: sender.node, pattern: Pattern::new(&pattern).ok()?, at_micros: at })
    }

    /// The channel of the answers.
    pub(super) fn answered_on(&self) -> String {
        answers_for(self.node)
    }
}

/// The channel of the answers to a node.
pub(super) fn answers_for(node: u64) -> String {
    format!("{JOINS}.{node:x}")
}

impl Joins {
    pub(super) fn new() -> Self {
        let started = clock::now();
        Self {
            beginnings: Arc::default(),
            started,
            sequencer: Sequencer::new(Source::framework()),
            allowance: Mutex::new(Allowance { left: MOST, at: started }),
        }
    }

    /// The notice of a join that is in force by now.
    pub(super) fn notice(&self, pattern: &Pattern) -> Option<Wave> {
        // Rounded up, so that it is not earlier than the join.
        let at = u64::try_from(clock::since(self.started).as_micros()).ok()? + 1;
        let payload = serde_json::to_vec(&JoinRecord { pattern: pattern.as_str().to_owned(), at }).ok()?;
        let channel = Channel::with_reserved(JOINS).ok()?;
        Some(Wave::plain(channel, payload.into(), ContentType::Json).noticed(&self.sequencer))
    }

    /// Whether a notice may be answered.
    pub(super) fn admits_one(&self, now: Instant) -> bool {
        let mut allowance = self.allowance.lock();
        allowance.restore(now);
        let left = allowance.left.checked_sub(ANSWER);
        allowance.left = left.unwrap_or(allowance.left);
        left.is_some()
    }

    /// Makes announcements for an answer: `announced` gets their maximum number.
    pub(super) fn announce<T>(&self, announced: impl FnOnce(usize) -> Vec<T>) -> Vec<T> {
        let mut allowance = self.allowance.lock();
        let announced = announced(usize::try_from(allowance.left).unwrap_or(usize::MAX));
        allowance.left = allowance.left.saturating_sub(announced.len() as u64);
        announced
    }

    /// Remembers an answer to one of our notices.
    pub(super) fn note_answer(&self, answer: &Arrived, channel: &Channel) {
        let now = clock::now();
        let frame = wire::decode(&answer.message.payload, Some(channel), now, |_| Duration::ZERO);
        let Ok(Frame { sender, position: Some(position), .. }) = frame else { return };
        let asked = self.started.checked_add(Duration::from_micros(position.first));
        if let Some(asked) = asked.filter(|asked| *asked <= now) {
            let node = known_node(answer.proof.as_ref(), sender.node);
            self.beginnings.note(node, position.stream, asked, now);
        }
    }
}

/// Pending requests.
#[derive(Default)]
pub(super) struct AskedAnnouncements {
    /// Dropped once the announcements have been handed to the client.
    pub(super) flushes: Vec<oneshot::Sender<()>>,
    pub(super) joins: Vec<JoinNotice>,
}

/// The requests to the sending task to announce its positions.
pub(super) struct AnnouncementRequests {
    /// `None` once the sending task has ended. It has then announced everything, or cannot announce any more.
    asked: Mutex<Option<AskedAnnouncements>>,
    news: Notify,
}

impl AnnouncementRequests {
    pub(super) fn new() -> Self {
        Self { asked: Mutex::new(Some(AskedAnnouncements::default())), news: Notify::new() }
    }

    /// Waits until everything sent so far has been announced, or can no longer be announced.
    ///
    /// Cancel safety: if the call is cancelled while it waits, the announcement is still made.
    pub(super) async fn ask(&self) {
        let done = {
            let mut asked = self.asked.lock();
            let Some(asked) = &mut *asked else { return };
            let (announced, done) = oneshot::channel();
            asked.flushes.push(announced);
            done
        };
        self.news.notify_one();
        // No value is ever sent. The sender is dropped to signal completion.
        let _ = done.await;
    }

    /// Hands over the notice of a join, to be answered.
    pub(super) fn joined(&self, join: JoinNotice) {
        if let Some(asked) = &mut *self.asked.lock()
            && asked.joins.len() < MAX_JOINS
        {
            asked.joins.push(join);
            self.news.notify_one();
        }
    }

    /// For the sending task: waits for requests to announce. The task drops the returned senders after announcing.
    ///
    /// Cancel safety: no request is lost if the call is cancelled while it waits.
    pub(super) async fn asked(&self) -> AskedAnnouncements {
        loop {
            let asked = self.asked.lock().as_mut().map(std::mem::take).unwrap_or_default();
            if !asked.flushes.is_empty() || !asked.joins.is_empty() {
                return asked;
            }
            self.news.notified().await;
        }
    }

    /// For the sending task: marks its end. Later calls to [`ask`](Self::ask) return at once.
    pub(super) fn end(&self) {
        *self.asked.lock() = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_notice_is_read_as_it_was_written_and_anything_else_is_none() {
        let (joins, sender) = (Joins::new(), wire::Sender { node: 0x2a, sent_micros: 0 });
        let frame = |wave: Wave| wire::encode(sender, None, &[wave], clock::now()).unwrap();
        let pattern = Pattern::new("orders.*").unwrap();
        let notice = JoinNotice::read(&frame(joins.notice(&pattern).unwrap())).unwrap();
        assert_eq!((notice.node, notice.pattern.as_str()), (0x2a, "orders.*"));
        assert!(notice.at_micros > 0 && notice.answered_on() == "_aether.joins.2a");
        let other = |text: &str| frame(Wave::from_bytes("a", text.to_owned()).unwrap());
        for text in ["", "{}", r#"{"pattern":"a..b","at":1}"#, r#"{"pattern":"a","at":-1}"#] {
            assert_eq!(JoinNotice::read(&other(text)), None, "{text}");
        }
        assert_eq!(JoinNotice::read(&Bytes::from_static(b"\xaeTH")), None);
    }

    #[test]
    fn notices_without_end_are_answered_at_a_bounded_rate() {
        let joins = Joins::new();
        let answered =
            |now| std::iter::repeat_with(|| joins.admits_one(now)).take_while(|is| *is).count() as u64;
        assert_eq!(joins.announce(|most| vec![(); most / 2]).len() as u64, MOST / 2);
        assert_eq!(answered(joins.started), MOST / 2 / ANSWER);
        assert_eq!(joins.announce(|most| vec![(); most]).len(), 0);
        let later = joins.started + Duration::from_secs(2);
        assert_eq!(answered(later), 2 * MOST_A_SECOND / ANSWER);
        assert_eq!(answered(later + Duration::from_secs(3600)), MOST / ANSWER);
    }
}
