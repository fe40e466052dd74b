//! The receiving task: passes messages from the socket to the router and detects missing waves.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use aether_core::medium::Lost;
use aether_core::wave::{ReplyError, ReplyPath};
use aether_core::{Pattern, Wave};
use aether_link::HeardFrame;
use aether_link::wire::{self, Frame};
use futures_util::future::BoxFuture;
use tokio::io::BufReader;
use tokio::net::unix::OwnedReadHalf;

use crate::message::{self, Message, Tag};
use crate::shared::{Past, Shared};

/// Receives messages until the hub is gone.
pub(crate) async fn receive(shared: Arc<Shared>, input: OwnedReadHalf) {
    let mut input = BufReader::new(input);
    while let Ok(bytes) = message::read(&mut input).await {
        if Message::parse(bytes).and_then(|message| take(&shared, message)).is_none() {
            shared.malformed.fetch_add(1, Ordering::Relaxed);
        }
        tokio::task::coop::consume_budget().await;
    }
    shared.broke();
}

/// Handles a message. Returns `None` if it is malformed.
fn take(shared: &Arc<Shared>, message: Message) -> Option<()> {
    let Message { tag, number, channel, frame } = message;
    if tag == Tag::Marker {
        shared.came(number, None);
        return Some(());
    }
    let (now, mut delay) = (Instant::now(), Duration::ZERO);
    let transit = |sender: wire::Sender| {
        delay = shared.transit.delay(
            sender.node.into(),
            sender.sent_micros,
            aether_core::clock::micros_since_1970(),
            now,
        );
        delay
    };
    let frame = wire::decode(&frame, Some(&channel), now, transit).ok()?;
    let single = || frame.waves.first().cloned();
    match tag {
        Tag::Waves => {
            for (pattern, lost) in heard_by(shared, &frame, &channel, delay, now) {
                if let Some(lost) = lost {
                    shared.lost_upstream.fetch_add(lost.waves, Ordering::Relaxed);
                    shared.router.lost_upstream(&pattern, &channel, lost);
                }
                shared.router.arrive(&pattern, frame.waves.clone());
            }
        }
        Tag::Question => {
            let question = single()?.with_reply_path(Arc::new(Reply { shared: Arc::clone(shared), number }));
            for pattern in shared.patterns(&channel) {
                // Observers get the question without the reply path.
                shared.router.arrive(&pattern, vec![question.clone()]);
            }
        }
        Tag::Seen => {
            for pattern in shared.patterns(&channel) {
                shared.router.arrive_seen(&pattern, frame.waves.clone());
            }
        }
        Tag::Answer => shared.came(number, Some(single()?)),
        Tag::Notice => {
            shared.router.notify(&single()?);
        }
        Tag::Marker => {}
    }
    Some(())
}

/// The local patterns that match a frame's channel, each with the waves it missed before this frame.
fn heard_by(
    shared: &Shared,
    frame: &Frame,
    channel: &aether_core::Channel,
    delay: Duration,
    now: Instant,
) -> Vec<(Pattern, Option<Lost>)> {
    let (node, waves) = (frame.sender.node.into(), frame.waves.len());
    let mut joined = shared.joined.lock();
    let heard = joined.iter_mut().filter(|(pattern, _)| pattern.matches(channel));
    let noted = heard.map(|(pattern, joined)| {
        let gap = frame.position.and_then(|position| {
            let report = joined.gaps.note(channel, HeardFrame { node, position, waves, delay, now });
            shared.forgotten.fetch_add(u64::from(report.forgets), Ordering::Relaxed);
            shared.implausible.fetch_add(u64::from(report.is_implausible), Ordering::Relaxed);
            report.gap
        });
        let is_own = frame.sender.node == shared.node;
        (pattern.clone(), gap.map(|gap| Lost { waves: gap.waves, since: gap.since, is_own }))
    });
    noted.collect()
}

/// The reply path to the asker, identified by the number of the question.
struct Reply {
    shared: Arc<Shared>,
    number: u64,
}

impl ReplyPath for Reply {
    fn carry(&self, reply: Wave) -> BoxFuture<'_, Result<(), ReplyError>> {
        Box::pin(async move {
            if self.shared.is_closed() {
                return Err(ReplyError::Closed);
            }
            if let Some((bytes, max_bytes)) = self.shared.oversize(&reply) {
                return Err(ReplyError::TooLarge { bytes, max_bytes });
            }
            let message = self.shared.message(Tag::Answer, self.number, &reply).ok_or(ReplyError::Closed)?;
            self.shared.past.send(Past::Message(message)).await.map_err(|_| ReplyError::Closed)
        })
    }
}
