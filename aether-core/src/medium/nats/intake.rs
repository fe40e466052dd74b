//! The receiving side: from the client to the router, one task a subscription. What is missing is noticed here.

use std::pin::pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use crate::clock::Instant;
use async_nats::{Message, SubscribeError, Subscriber};
use futures_util::{FutureExt, StreamExt};
use tokio::sync::{Notify, oneshot, watch};
use tokio::task::{JoinHandle, coop};
use tokio::time::{sleep, timeout};

use super::cloudevents;
use super::connection::{CLIENT_QUEUE, Leaving, NatsShared, Root};
use super::crowd::Crowd;
use super::foreign::Foreign;
use super::reply::Reply;
use crate::channel::{Channel, ChannelError, Pattern};
use crate::medium::link::{Gap, GapReport, Gaps, HeardFrame, Transit};
use crate::router::{Crowded, Lost, Router, Subscription};
use crate::wave::{Kind, Wave};
use crate::wire::{self, FrameError, micros_since_1970};

/// At the end, so many messages are taken before other tasks get a turn.
const BETWEEN_OTHERS: usize = 128;

/// A member that leaves a group hands to the others what comes in so long and in twice as long, so many messages at least
/// if any come at all.
const LEAVING_QUIET: Duration = Duration::from_secs(1);
const LEAVING_MESSAGES: u64 = 512;

/// For whom a subscription of the server brings messages.
pub(super) enum Target {
    /// All lone subscribers of a pattern.
    Pattern(Pattern),
    /// One member of a group.
    Member(Arc<Subscription>),
    /// One that has left: what was on its way to it is for another member in this process, or is counted.
    Late(Arc<Subscription>),
}

/// A subscription of the server and the task that drains it.
pub(super) struct Drain {
    pub(super) task: JoinHandle<()>,
    leave: Arc<Leave>,
    /// Dropped when the client knows that the subscription was left.
    is_told: oneshot::Receiver<()>,
    in_force: Arc<OnceLock<Instant>>,
}

/// The word that a subscription is to be left.
#[derive(Default)]
struct Leave {
    told: Notify,
    /// Whether the group has other members in this process.
    has_others: AtomicBool,
}

impl Drain {
    /// The server has the subscription, from now on at the latest.
    pub(super) fn is_in_force(&self) {
        self.in_force.get_or_init(Instant::now);
    }

    /// Ends the subscription, that of a member in favour of the others in this process, if there are any. What comes back
    /// is ready when the client has been told so.
    pub(super) fn leave(self, has_others: bool) -> Leaving {
        self.leave.has_others.store(has_others, Ordering::Relaxed);
        self.leave.told.notify_one();
        // By a word, or by the end of the task.
        self.is_told.map(drop).boxed().shared()
    }
}

/// One subscription of the server.
struct Tap {
    root: Root,
    target: Target,
    /// What its subjects begin with: prefix, root and dot.
    before_channel: String,
    last_channel: Option<Channel>,
    /// Nobody else in this process takes what comes for it when it has left its group.
    is_last: bool,
    /// Where all waves of the pattern come by: what is missing. Members of a group get a part of them, and questions
    /// are not numbered.
    gaps: Option<Gaps>,
    foreign: Foreign,
}

impl Tap {
    /// Delivers nothing more, and says whether what still comes has to be taken.
    fn leave(&mut self) -> bool {
        if let Target::Member(member) = &self.target {
            self.target = Target::Late(Arc::clone(member));
        }
        matches!(self.target, Target::Late(_))
    }
}

pub(super) struct Intake {
    router: Arc<Router>,
    shared: Arc<NatsShared>,
    transit: Transit,
    malformed: AtomicU64,
    lost_upstream: AtomicU64,
    forgotten_streams: AtomicU64,
    /// Frames with a position that cannot be true.
    misplaced: AtomicU64,
}

/// What a message brought.
struct Brought {
    waves: Vec<Wave>,
    /// What was lost before it.
    lost: Option<Lost>,
}

impl Intake {
    pub(super) fn new(router: Arc<Router>, shared: Arc<NatsShared>) -> Self {
        Self {
            router,
            shared,
            transit: Transit::default(),
            malformed: AtomicU64::new(0),
            lost_upstream: AtomicU64::new(0),
            forgotten_streams: AtomicU64::new(0),
            misplaced: AtomicU64::new(0),
        }
    }

    pub(super) fn malformed(&self) -> u64 {
        self.malformed.load(Ordering::Relaxed)
    }

    pub(super) fn lost_upstream(&self) -> u64 {
        self.lost_upstream.load(Ordering::Relaxed)
    }

    pub(super) fn forgotten_streams(&self) -> u64 {
        self.forgotten_streams.load(Ordering::Relaxed)
    }

    /// Messages that said what cannot be true, of their place or time.
    pub(super) fn implausible(&self) -> u64 {
        self.misplaced.load(Ordering::Relaxed) + self.transit.implausible()
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
        let in_force = Arc::<OnceLock<Instant>>::default();
        let gaps = (root == Root::Waves && group.is_none()).then(|| Gaps::new(Arc::clone(&in_force)));
        let before_channel = self.shared.subject(root, "");
        let mut tap = Tap {
            root,
            target,
            before_channel,
            last_channel: None,
            is_last: false,
            gaps,
            foreign: Foreign::new(),
        };
        let mut crowd = Crowd::new(Arc::clone(&self.shared), pattern.clone());
        let intake = Arc::clone(self);
        let leaving = Arc::<Leave>::default();
        let leave = Arc::clone(&leaving);
        let (told, is_told) = oneshot::channel();
        let task = tokio::spawn(async move {
            let mut told = Some(told);
            let mut taken = 0;
            loop {
                let message = tokio::select! {
                    biased;
                    () = leave.told.notified() => None,
                    () = crowd.settled(), if crowd.is_waiting() => {
                        intake.take_on(&mut subscriber, &mut tap, &mut crowd);
                        continue;
                    }
                    message = subscriber.next() => Some(message),
                    _ = ending.wait_for(|ending| *ending) => break,
                };
                match message {
                    Some(Some(message)) => {
                        taken += 1;
                        if crowd.is_waiting() {
                            crowd.keep(message);
                        } else {
                            crowd.wait_with(intake.take(message, &mut tap));
                        }
                        intake.take_waiting(&mut tap, &mut crowd);
                        // Looked at here as well: with more to take all the time the other is never looked at.
                        if ending.has_changed().unwrap_or(true) {
                            break;
                        }
                    }
                    Some(None) => return,
                    None if tap.leave() => {
                        // While the connection is away nothing is under way.
                        let has_others = leave.has_others.load(Ordering::Relaxed);
                        tap.is_last = !has_others || !intake.shared.link.is_connected();
                        if !tap.is_last {
                            // From now on nothing reaches it that was not handed over.
                            drop(told.take());
                        }
                        intake.take_all(&mut tap, &mut crowd);
                        // The client may have no room for the word: whoever closes does not wait for that.
                        let leaving = async {
                            if !tap.is_last {
                                intake.hand_over(&mut subscriber, &mut tap, taken).await;
                            }
                            // Fails only when the client has ended, and the subscription with it.
                            let _ = subscriber.drain().await;
                        };
                        tokio::select! {
                            biased;
                            () = leaving => drop(told.take()),
                            _ = ending.wait_for(|ending| *ending) => break,
                        }
                    }
                    None => {
                        // Fails only when the client has ended, and the subscription with it.
                        tokio::select! {
                            biased;
                            _ = subscriber.unsubscribe() => {}
                            _ = ending.wait_for(|ending| *ending) => {}
                        }
                        return;
                    }
                }
            }
            // What has arrived is delivered and nothing that arrives from now on, or this would not end while others go
            // on sending. Without waiting: the client may have no room for the word.
            let _ = coop::unconstrained(subscriber.unsubscribe()).now_or_never();
            intake.take_all(&mut tap, &mut crowd);
            for taken in 1..=CLIENT_QUEUE {
                // Without the budget of the task, which may be spent: what is there must be seen.
                let Some(Some(message)) = coop::unconstrained(subscriber.next()).now_or_never() else {
                    break;
                };
                drop(intake.take(message, &mut tap));
                if taken.is_multiple_of(BETWEEN_OTHERS) {
                    tokio::task::yield_now().await;
                }
            }
        });
        Ok(Drain { task, leave: leaving, is_told, in_force })
    }

    /// Has what comes for a member that leaves its group handed to the others in this process. It has taken so many
    /// messages. Returns when nothing comes any more, or when nobody else is left.
    ///
    /// The client forgets a subscription that it is told to end before the server knows of it, and drops what comes
    /// meanwhile. So the subscription ends after a number of messages, which client and server count alike and which is
    /// larger than what can be under way, or when nothing has come for a while.
    async fn hand_over(&self, subscriber: &mut Subscriber, tap: &mut Tap, mut taken: u64) {
        let before = taken;
        let mut measured = pin!(sleep(LEAVING_QUIET));
        while !tap.is_last {
            let message = tokio::select! {
                biased;
                () = &mut measured => break,
                message = subscriber.next() => message,
            };
            let Some(message) = message else { return };
            taken += 1;
            drop(self.take(message, tap));
        }
        if taken == before {
            return;
        }
        // Fails only when the client has ended, and the subscription with it.
        let _ = subscriber.unsubscribe_after(taken + LEAVING_MESSAGES + 2 * (taken - before)).await;
        while !tap.is_last {
            match timeout(LEAVING_QUIET, subscriber.next()).await {
                Ok(Some(message)) => drop(self.take(message, tap)),
                Ok(None) | Err(_) => return,
            }
        }
    }

    /// Takes the messages that have waited for room, as far as there is some.
    fn take_waiting(&self, tap: &mut Tap, crowd: &mut Crowd) {
        while let Some(message) = crowd.next() {
            let crowded = self.take(message, tap);
            crowd.wait_with(crowded);
        }
    }

    /// The same when room has come, and has more of them wait that came meanwhile: with room coming all the time the client
    /// would not be looked at.
    fn take_on(&self, subscriber: &mut Subscriber, tap: &mut Tap, crowd: &mut Crowd) {
        self.take_waiting(tap, crowd);
        for _ in 0..BETWEEN_OTHERS {
            if !crowd.is_waiting() {
                return;
            }
            // Without the budget of the task, which may be spent.
            let Some(Some(message)) = coop::unconstrained(subscriber.next()).now_or_never() else { return };
            crowd.keep(message);
        }
    }

    /// Takes the messages that have waited for room, whether there is some or not.
    fn take_all(&self, tap: &mut Tap, crowd: &mut Crowd) {
        crowd.give_up();
        while let Some(message) = crowd.take() {
            drop(self.take(message, tap));
        }
    }

    /// Delivers what a message brought. What has to wait for room is handed back.
    fn take(&self, message: Message, tap: &mut Tap) -> Crowded {
        self.shared.link.took_message();
        let subject = message.subject.clone();
        match self.read(message, tap) {
            Ok(Brought { waves, lost }) => match (&tap.target, tap.root) {
                (Target::Pattern(pattern), Root::Waves) => {
                    if let (Some(lost), Some(channel)) = (lost, &tap.last_channel) {
                        self.lost_upstream.fetch_add(lost.waves, Ordering::Relaxed);
                        self.router.lost_upstream(pattern, channel, lost);
                    }
                    return self.router.arrive_if_room(pattern, waves);
                }
                (Target::Pattern(pattern), Root::Questions) => self.router.arrive_asked(pattern, waves),
                (Target::Pattern(pattern), Root::Seen) => self.router.arrive_seen(pattern, waves),
                (Target::Member(member), Root::Waves) => {
                    return self.router.arrive_for_if_room(member, waves);
                }
                (Target::Member(member), _) => self.router.arrive_for(member, waves),
                (Target::Late(member), _) => {
                    tap.is_last |= !self.router.arrive_late(member, waves, !tap.is_last)
                }
            },
            Err(error) => {
                self.malformed.fetch_add(1, Ordering::Relaxed);
                tracing::debug!(%subject, %error, "a message is no valid frame and was left out");
            }
        }
        Crowded::default()
    }

    fn read(&self, message: Message, tap: &mut Tap) -> Result<Brought, FrameError> {
        let name = message.subject.strip_prefix(&*tap.before_channel).ok_or(ChannelError::Empty)?;
        let channel = match &tap.last_channel {
            Some(channel) if channel.as_str() == name => channel.clone(),
            _ => tap.last_channel.insert(Channel::with_reserved(name)?).clone(),
        };
        let plain = !wire::is_frame(&message.payload);
        // What observers see has been asked elsewhere.
        let reply = message.reply.clone().filter(|_| tap.root != Root::Seen);
        let kind = if reply.is_some() { Kind::Query } else { Kind::Event };
        let mut brought = self.waves(message, &channel, kind, tap.gaps.as_mut(), &mut tap.foreign)?;
        if let (Some(subject), [question]) = (reply, &mut *brought.waves) {
            let to_foreigner = tap.root == Root::Waves;
            let path = Reply { shared: Arc::clone(&self.shared), subject, to_foreigner, plain };
            *question = question.clone().with_reply_path(Arc::new(path));
        }
        Ok(brought)
    }

    /// The answer to a question asked on a channel.
    pub(super) fn answer(&self, message: Message, channel: &Channel) -> Result<Wave, FrameError> {
        let brought = self.waves(message, channel, Kind::Response, None, &mut Foreign::new())?;
        brought.waves.into_iter().next().ok_or(FrameError::Empty { what: "waves" })
    }

    fn waves(
        &self,
        message: Message,
        channel: &Channel,
        kind: Kind,
        gaps: Option<&mut Gaps>,
        foreign: &mut Foreign,
    ) -> Result<Brought, FrameError> {
        let now = Instant::now();
        let mut delay = Duration::ZERO;
        let (node, position, waves) = if wire::is_frame(&message.payload) {
            let received = micros_since_1970();
            let transit = |sender| {
                delay = self.transit.delay(sender, received, now);
                delay
            };
            let frame = wire::decode(&message.payload, Some(channel), now, transit)?;
            (frame.sender.node, frame.position, frame.waves)
        } else {
            let (node, position) = cloudevents::position(&message).unzip();
            let wave = cloudevents::read(message, channel, kind, foreign, now);
            (node.unwrap_or(0), position, vec![wave])
        };
        let lost = gaps.zip(position).and_then(|(gaps, position)| {
            let heard = HeardFrame { node, position, waves: waves.len(), delay, now };
            let GapReport { gap, forgets, is_implausible } = gaps.note(channel, heard);
            self.forgotten_streams.fetch_add(u64::from(forgets), Ordering::Relaxed);
            if is_implausible {
                self.misplaced.fetch_add(1, Ordering::Relaxed);
                tracing::debug!(%channel, node, ?position, "the position of a frame cannot be true");
            }
            gap.map(|Gap { waves, since }| Lost { waves, since, is_own: node == self.shared.node })
        });
        Ok(Brought { waves, lost })
    }
}
