//! The receiving side: from the client to the router, one task a subscription.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::{SystemTime, UNIX_EPOCH};

use crate::clock::Instant;
use async_nats::{Message, Subscriber};
use futures_util::future::BoxFuture;
use futures_util::{FutureExt, StreamExt};
use tokio::sync::{Notify, watch};
use tokio::task::JoinHandle;

use super::transit::Transit;
use super::{Reply, Shared, cloudevents};
use crate::channel::{Channel, ChannelError, Pattern};
use crate::router::{Router, Subscription};
use crate::source::{Sequencer, Source};
use crate::wave::{Kind, Wave};
use crate::wire::{self, FrameError};

/// For whom a subscription of the server brings messages.
pub(super) enum Target {
    /// All lone subscribers of a pattern.
    Pattern(Pattern),
    /// One member of a group.
    Member(Weak<Subscription>),
}

/// A subscription of the server and the task that drains it.
pub(super) struct Drain {
    pub(super) task: JoinHandle<()>,
    leave: Arc<Notify>,
}

impl Drain {
    /// Ends the subscription. What comes back is ready when the client has been told so.
    pub(super) fn leave(self) -> Leaving {
        self.leave.notify_one();
        self.task.map(drop).boxed().shared()
    }
}

/// A subscription on its way out.
pub(super) type Leaving = futures_util::future::Shared<BoxFuture<'static, ()>>;

pub(super) struct Intake {
    router: Arc<Router>,
    shared: Arc<Shared>,
    transit: Transit,
    /// Numbers the messages of foreign publishers that bring no id of their own.
    foreign: Sequencer,
    malformed: AtomicU64,
}

impl Intake {
    pub(super) fn new(router: Arc<Router>, shared: Arc<Shared>) -> Self {
        Self {
            router,
            shared,
            transit: Transit::default(),
            foreign: Sequencer::new(Source::foreign()),
            malformed: AtomicU64::new(0),
        }
    }

    pub(super) fn malformed(&self) -> u64 {
        self.malformed.load(Ordering::Relaxed)
    }

    /// Starts the task that takes what the client receives for a subscription, as fast as it comes. Told to end, it
    /// delivers what has arrived; told to leave, it unsubscribes.
    pub(super) fn drain(
        self: &Arc<Self>,
        mut subscriber: Subscriber,
        target: Target,
        mut ending: watch::Receiver<bool>,
    ) -> Drain {
        let intake = Arc::clone(self);
        let leave = Arc::new(Notify::new());
        let left = Arc::clone(&leave);
        let task = tokio::spawn(async move {
            let mut last_channel = None;
            loop {
                let message = tokio::select! {
                    biased;
                    () = left.notified() => None,
                    message = subscriber.next() => Some(message),
                    _ = ending.wait_for(|ending| *ending) => break,
                };
                match message {
                    Some(Some(message)) => intake.take(message, &target, &mut last_channel),
                    Some(None) => return,
                    None => {
                        // Fails only when the client has ended, and the subscription with it.
                        let _ = subscriber.unsubscribe().await;
                        return;
                    }
                }
            }
            while let Some(Some(message)) = subscriber.next().now_or_never() {
                intake.take(message, &target, &mut last_channel);
            }
        });
        Drain { task, leave }
    }

    fn take(&self, message: Message, target: &Target, last_channel: &mut Option<Channel>) {
        let subject = message.subject.clone();
        match self.read(message, last_channel) {
            Ok(waves) => match target {
                Target::Pattern(pattern) => self.router.arrive(pattern, waves),
                Target::Member(member) => {
                    if let Some(member) = member.upgrade() {
                        self.router.arrive_for(&member, waves);
                    }
                }
            },
            Err(error) => {
                self.malformed.fetch_add(1, Ordering::Relaxed);
                tracing::debug!(%subject, %error, "a message is no valid frame and was left out");
            }
        }
    }

    fn read(&self, message: Message, last_channel: &mut Option<Channel>) -> Result<Vec<Wave>, FrameError> {
        let name = message
            .subject
            .strip_prefix(&*self.shared.prefix)
            .and_then(|rest| rest.strip_prefix('.'))
            .ok_or(ChannelError::Empty)?;
        let channel = match last_channel {
            Some(channel) if channel.as_str() == name => channel.clone(),
            _ => last_channel.insert(Channel::with_reserved(name)?).clone(),
        };
        let plain = !wire::is_frame(&message.payload);
        let reply = message.reply.clone();
        let mut waves =
            self.waves(message, &channel, if reply.is_some() { Kind::Query } else { Kind::Event })?;
        if let (Some(subject), [question]) = (reply, &mut *waves) {
            let path = Reply { shared: Arc::clone(&self.shared), subject, plain };
            *question = question.clone().with_reply_path(Arc::new(path));
        }
        Ok(waves)
    }

    /// The answer to a question asked on a channel.
    pub(super) fn answer(&self, message: Message, channel: &Channel) -> Result<Wave, FrameError> {
        let waves = self.waves(message, channel, Kind::Response)?;
        waves.into_iter().next().ok_or(FrameError::Empty { what: "waves" })
    }

    fn waves(&self, message: Message, channel: &Channel, kind: Kind) -> Result<Vec<Wave>, FrameError> {
        let now = Instant::now();
        if wire::is_frame(&message.payload) {
            let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
            let received = u64::try_from(since_1970.as_micros()).unwrap_or(u64::MAX);
            let transit = |sender| self.transit.delay(sender, received, now);
            Ok(wire::decode(&message.payload, Some(channel), now, transit)?.waves)
        } else {
            Ok(vec![cloudevents::read(message, channel, kind, &self.foreign, now)])
        }
    }
}
