//! The receiving side: from the client to the router, one task a subscription.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::{SystemTime, UNIX_EPOCH};

use crate::clock::Instant;
use async_nats::{Message, SubscribeError};
use futures_util::future::BoxFuture;
use futures_util::{FutureExt, StreamExt};
use tokio::sync::{Notify, watch};
use tokio::task::JoinHandle;

use super::reply::Reply;
use super::transit::Transit;
use super::{Root, Shared, cloudevents};
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

/// One subscription of the server.
struct Tap {
    root: Root,
    target: Target,
    /// What its subjects begin with: prefix, root and dot.
    before_channel: String,
    last_channel: Option<Channel>,
}

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

    /// Subscribes to a pattern under a root, and starts the task that takes what the client receives for it, as fast as
    /// it comes. Told to end, it delivers what has arrived; told to leave, it unsubscribes. The server need not have the
    /// subscription yet.
    pub(super) async fn subscribe(
        self: &Arc<Self>,
        root: Root,
        pattern: &Pattern,
        group: Option<&str>,
        target: Target,
        mut ending: watch::Receiver<bool>,
    ) -> Result<Drain, SubscribeError> {
        let (client, subject) = (&self.shared.client, self.shared.subject(root, pattern.as_str()));
        let mut subscriber = match group {
            Some(group) => client.queue_subscribe(subject, group.to_owned()).await?,
            None => client.subscribe(subject).await?,
        };
        let mut tap = Tap { root, target, before_channel: self.shared.subject(root, ""), last_channel: None };
        let intake = Arc::clone(self);
        let leave = Arc::new(Notify::new());
        let left = Arc::clone(&leave);
        let task = tokio::spawn(async move {
            loop {
                let message = tokio::select! {
                    biased;
                    () = left.notified() => None,
                    message = subscriber.next() => Some(message),
                    _ = ending.wait_for(|ending| *ending) => break,
                };
                match message {
                    Some(Some(message)) => intake.take(message, &mut tap),
                    Some(None) => return,
                    None => {
                        // Fails only when the client has ended, and the subscription with it.
                        let _ = subscriber.unsubscribe().await;
                        return;
                    }
                }
            }
            while let Some(Some(message)) = subscriber.next().now_or_never() {
                intake.take(message, &mut tap);
            }
        });
        Ok(Drain { task, leave })
    }

    fn take(&self, message: Message, tap: &mut Tap) {
        let subject = message.subject.clone();
        match self.read(message, tap) {
            Ok(waves) => match (&tap.target, tap.root) {
                (Target::Pattern(pattern), Root::Waves) => self.router.arrive(pattern, waves),
                (Target::Pattern(pattern), Root::Questions) => self.router.arrive_asked(pattern, waves),
                (Target::Pattern(pattern), Root::Seen) => self.router.arrive_seen(pattern, waves),
                (Target::Member(member), _) => {
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

    fn read(&self, message: Message, tap: &mut Tap) -> Result<Vec<Wave>, FrameError> {
        let name = message.subject.strip_prefix(&*tap.before_channel).ok_or(ChannelError::Empty)?;
        let channel = match &tap.last_channel {
            Some(channel) if channel.as_str() == name => channel.clone(),
            _ => tap.last_channel.insert(Channel::with_reserved(name)?).clone(),
        };
        let plain = !wire::is_frame(&message.payload);
        // What observers see has been asked elsewhere.
        let reply = message.reply.clone().filter(|_| tap.root != Root::Seen);
        let mut waves =
            self.waves(message, &channel, if reply.is_some() { Kind::Query } else { Kind::Event })?;
        if let (Some(subject), [question]) = (reply, &mut *waves) {
            let to_foreigner = tap.root == Root::Waves;
            let path = Reply { shared: Arc::clone(&self.shared), subject, to_foreigner, plain };
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
