//! The receiving side: from the client to the router, with one task per subscription. It detects missing waves.

use std::pin::pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use async_nats::{Message, SubscribeError, Subscriber};
use futures_util::{FutureExt, StreamExt};
use tokio::sync::{Notify, oneshot, watch};
use tokio::task::{JoinHandle, coop};
use tokio::time::{sleep, timeout};

use super::authentication::{Arrived, SealingGuard, known_node, prove};
use super::cloudevents;
use super::connection::{CLIENT_QUEUE, Leaving, NatsShared};
use super::foreign::Foreign;
use super::pause::PauseRequester;
use super::requests::Reply;
use super::subjects::{Root, may_be_answered};
use aether_core::clock::{self, Instant, micros_since_1970};
use aether_core::medium::{Crowded, Lost, Router, Subscription};
use aether_core::wave::ChannelError;
use aether_core::{Channel, Kind, Pattern, Wave};
use aether_link::wire::{self, FrameError, Sender};
use aether_link::{Gap, GapReport, Gaps, HeardFrame, Transit};

/// At the end, this many messages are processed before other tasks get a turn.
const BETWEEN_OTHERS: usize = 128;

/// A member that leaves a group hands over to the other members the messages that arrive within this time and then
/// within twice this time. If any arrive at all, it hands over at least this many messages.
const LEAVING_QUIET: Duration = Duration::from_secs(1);
const LEAVING_MESSAGES: u64 = 512;

/// The target of a server subscription's messages.
pub(super) enum Target {
    /// All ungrouped subscribers of a pattern.
    Pattern(Pattern),
    /// One member of a group.
    Member(Arc<Subscription>),
    /// A former member. Messages still on the way to it go to another member in this process, or are counted.
    Late(Arc<Subscription>),
}

/// A server subscription and the task that drains it.
pub(super) struct SubscriptionTask {
    pub(super) task: JoinHandle<()>,
    leave: Arc<Leave>,
    /// Dropped when the client has been told to unsubscribe.
    is_told: oneshot::Receiver<()>,
    in_force: Arc<OnceLock<Instant>>,
}

/// The signal to leave a subscription.
#[derive(Default)]
struct Leave {
    told: Notify,
    /// Whether the group has other members in this process.
    has_others: AtomicBool,
}

impl SubscriptionTask {
    /// Records that the server has the subscription, from now on at the latest.
    pub(super) fn is_in_force(&self) {
        self.in_force.get_or_init(clock::now);
    }

    /// Ends the subscription. If it belongs to a group member, its messages are handed over to the other members in
    /// this process, if there are any. The returned future is ready when the client has been told to unsubscribe.
    pub(super) fn leave(self, has_others: bool) -> Leaving {
        self.leave.has_others.store(has_others, Ordering::Relaxed);
        self.leave.told.notify_one();
        // It completes on a signal, or when the task ends.
        self.is_told.map(drop).boxed().shared()
    }
}

/// One server subscription.
struct ServerSubscription {
    root: Root,
    target: Target,
    /// The start of its subjects: prefix, root and dot.
    before_channel: String,
    last_channel: Option<Channel>,
    /// No other member in this process receives its messages after it has left its group.
    is_last: bool,
    /// Gap detection, for subscriptions that receive all waves of the pattern. Group members receive only part of them,
    /// and questions are not numbered.
    gaps: Option<Gaps>,
    foreign: Foreign,
    guard: SealingGuard,
}

impl ServerSubscription {
    /// Stops delivery, and returns whether messages that still arrive have to be processed.
    fn leave(&mut self) -> bool {
        if let Target::Member(member) = &self.target {
            self.target = Target::Late(Arc::clone(member));
        }
        matches!(self.target, Target::Late(_))
    }
}

/// Takes messages from the client and hands their waves to the router. Each connection has one.
pub(super) struct NatsReceiver {
    router: Arc<Router>,
    shared: Arc<NatsShared>,
    transit: Transit,
    lost_upstream: AtomicU64,
    forgotten_streams: AtomicU64,
    /// The number of frames with an impossible position.
    misplaced: AtomicU64,
    /// The number of sealed frames that arrived although this process has no keys.
    refused_sealed: AtomicU64,
}

/// The contents of a message.
struct MessageContents {
    waves: Vec<Wave>,
    /// The waves lost before it.
    lost: Option<Lost>,
}

impl NatsReceiver {
    pub(super) fn new(router: Arc<Router>, shared: Arc<NatsShared>) -> Self {
        Self {
            router,
            shared,
            transit: Transit::default(),
            lost_upstream: AtomicU64::new(0),
            forgotten_streams: AtomicU64::new(0),
            misplaced: AtomicU64::new(0),
            refused_sealed: AtomicU64::new(0),
        }
    }

    pub(super) fn lost_upstream(&self) -> u64 {
        self.lost_upstream.load(Ordering::Relaxed)
    }

    pub(super) fn forgotten_streams(&self) -> u64 {
        self.forgotten_streams.load(Ordering::Relaxed)
    }

    pub(super) fn refused_sealed(&self) -> u64 {
        self.refused_sealed.load(Ordering::Relaxed)
    }

    /// The number of messages with an impossible position or time.
    pub(super) fn implausible(&self) -> u64 {
        self.misplaced.load(Ordering::Relaxed) + self.transit.implausible()
    }

    /// Subscribes to a pattern under a root, and starts the task that processes the messages that the client receives
    /// for it, as fast as they arrive. When told to end, the task delivers what has arrived. When told to leave, it
    /// unsubscribes. The server may not have the subscription yet when this method returns.
    pub(super) async fn subscribe(
        self: &Arc<Self>,
        root: Root,
        pattern: &Pattern,
        group: Option<&str>,
        target: Target,
        mut ending: watch::Receiver<bool>,
    ) -> Result<SubscriptionTask, SubscribeError> {
        let (client, subject) = (&self.shared.client, self.shared.subject(root, pattern.as_str()));
        let mut subscriber = match group {
            Some(group) => client.queue_subscribe(subject, group.to_owned()).await?,
            None => client.subscribe(subject).await?,
        };
        let in_force = Arc::<OnceLock<Instant>>::default();
        let gaps = (root == Root::Waves && group.is_none())
            .then(|| Gaps::with_beginnings(Arc::clone(&in_force), Arc::clone(&self.shared.joins.beginnings)));
        let before_channel = self.shared.subject(root, "");
        let mut source = ServerSubscription {
            root,
            target,
            before_channel,
            last_channel: None,
            is_last: false,
            gaps,
            foreign: Foreign::new(),
            guard: self.shared.sealing.guard(group.is_some()),
        };
        let mut requester = PauseRequester::new(Arc::clone(&self.shared), pattern.clone());
        let receiver = Arc::clone(self);
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
                    () = requester.settled(), if requester.is_waiting() => {
                        receiver.take_on(&mut subscriber, &mut source, &mut requester);
                        continue;
                    }
                    message = subscriber.next() => Some(message),
                    _ = ending.wait_for(|ending| *ending) => break,
                };
                match message {
                    Some(Some(message)) => {
                        taken += 1;
                        if let Some(arrived) = receiver.open(message, &mut source) {
                            if requester.is_waiting() {
                                requester.keep(arrived);
                            } else {
                                requester.wait_with(receiver.take(arrived, &mut source));
                            }
                        }
                        receiver.take_waiting(&mut source, &mut requester);
                        // Checked here as well: while messages keep arriving, the other branch is never polled.
                        if ending.has_changed().unwrap_or(true) {
                            break;
                        }
                    }
                    Some(None) => return,
                    None if source.leave() => {
                        // While the connection is down, no messages are in transit.
                        let has_others = leave.has_others.load(Ordering::Relaxed);
                        source.is_last = !has_others || !receiver.shared.state.is_connected();
                        if !source.is_last {
                            // From now on, only messages that were handed over reach it.
                            drop(told.take());
                        }
                        receiver.take_all(&mut source, &mut requester);
                        // The client may have no room for the command. Closing does not wait for that.
                        let leaving = async {
                            if !source.is_last {
                                receiver.hand_over(&mut subscriber, &mut source, taken).await;
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
            // Delivers what has already arrived, but nothing that arrives from now on, because otherwise this would not
            // end while others keep sending. Does not wait, because the client may have no room for the command.
            let _ = coop::unconstrained(subscriber.unsubscribe()).now_or_never();
            receiver.take_all(&mut source, &mut requester);
            for taken in 1..=CLIENT_QUEUE {
                // Bypasses the task's budget, which may be used up: messages that have arrived must be seen.
                let Some(Some(message)) = coop::unconstrained(subscriber.next()).now_or_never() else {
                    break;
                };
                receiver.open_and_take(message, &mut source);
                if taken.is_multiple_of(BETWEEN_OTHERS) {
                    tokio::task::yield_now().await;
                }
            }
        });
        Ok(SubscriptionTask { task, leave: leaving, is_told, in_force })
    }

    /// Hands the messages that arrive for a departing group member over to the other members in this process. `taken`
    /// is the number of messages that it has taken so far. Returns when no more messages arrive, or when no other
    /// member is left.
    ///
    /// When told to end a subscription, the client removes it before the server does, and drops the messages that
    /// arrive in between. The subscription therefore ends after a number of messages, which client and server count
    /// alike and which exceeds the number that can be in transit, or when nothing has arrived for a while.
    async fn hand_over(&self, subscriber: &mut Subscriber, source: &mut ServerSubscription, mut taken: u64) {
        let before = taken;
        let mut measured = pin!(sleep(LEAVING_QUIET));
        while !source.is_last {
            let message = tokio::select! {
                biased;
                () = &mut measured => break,
                message = subscriber.next() => message,
            };
            let Some(message) = message else { return };
            taken += 1;
            self.open_and_take(message, source);
        }
        if taken == before {
            return;
        }
        // Fails only when the client has ended, and the subscription with it.
        let _ = subscriber.unsubscribe_after(taken + LEAVING_MESSAGES + 2 * (taken - before)).await;
        while !source.is_last {
            match timeout(LEAVING_QUIET, subscriber.next()).await {
                Ok(Some(message)) => self.open_and_take(message, source),
                Ok(None) | Err(_) => return,
            }
        }
    }

    /// Processes the messages that have waited for room, as far as there is room.
    fn take_waiting(&self, source: &mut ServerSubscription, requester: &mut PauseRequester) {
        while let Some(message) = requester.next() {
            let crowded = self.take(message, source);
            requester.wait_with(crowded);
        }
    }

    /// Does the same when room has become available, and queues messages that arrived in the meantime. Otherwise the
    /// client would not be polled while room keeps becoming available.
    fn take_on(
        &self,
        subscriber: &mut Subscriber,
        source: &mut ServerSubscription,
        requester: &mut PauseRequester,
    ) {
        self.take_waiting(source, requester);
        for _ in 0..BETWEEN_OTHERS {
            if !requester.is_waiting() {
                return;
            }
            // Bypasses the task's budget, which may be used up.
            let Some(Some(message)) = coop::unconstrained(subscriber.next()).now_or_never() else { return };
            if let Some(arrived) = self.open(message, source) {
                requester.keep(arrived);
            }
        }
    }

    /// Processes the messages that have waited for room, whether or not there is room.
    fn take_all(&self, source: &mut ServerSubscription, requester: &mut PauseRequester) {
        requester.give_up();
        while let Some(message) = requester.take() {
            drop(self.take(message, source));
        }
    }

    /// Opens a message that was just taken from the client. `None` if it is refused.
    fn open(&self, message: Message, source: &mut ServerSubscription) -> Option<Arrived> {
        let arrived =
            self.shared.sealing.open(source.root, &source.before_channel, message, &mut source.guard);
        if arrived.is_none() {
            self.shared.state.took_message();
        }
        arrived
    }

    /// Delivers the contents of a message whether or not there is room.
    fn open_and_take(&self, message: Message, source: &mut ServerSubscription) {
        if let Some(arrived) = self.open(message, source) {
            drop(self.take(arrived, source));
        }
    }

    /// Delivers the contents of a message. Returns the waves that have to wait for room.
    fn take(&self, arrived: Arrived, source: &mut ServerSubscription) -> Crowded {
        self.shared.state.took_message();
        let subject = arrived.message.subject.clone();
        if source.root == Root::Questions
            && let Some(reply) = arrived.message.reply.as_deref().filter(|reply| !may_be_answered(reply))
        {
            let error = format_args!("the answer would go to {reply:?}, which is not an inbox");
            self.shared.malformed.note(&subject, error);
            return Crowded::default();
        }
        match self.read(arrived, source) {
            Ok(MessageContents { waves, lost }) => match (&source.target, source.root) {
                (Target::Pattern(pattern), Root::Waves) => {
                    if let (Some(lost), Some(channel)) = (lost, &source.last_channel) {
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
                    source.is_last |= !self.router.arrive_late(member, waves, !source.is_last)
                }
            },
            Err(error) => {
                match &error {
                    FrameError::Sealed => {
                        if self.refused_sealed.fetch_add(1, Ordering::Relaxed) == 0 {
                            tracing::warn!(%subject, %error, "refused a message; later ones are only counted");
                        }
                    }
                    // The proof has counted and named it.
                    FrameError::Misnamed { .. } => {}
                    error => self.shared.malformed.note(&subject, error),
                }
            }
        }
        Crowded::default()
    }

    fn read(&self, arrived: Arrived, source: &mut ServerSubscription) -> Result<MessageContents, FrameError> {
        let Arrived { message, asked_from, proof } = arrived;
        let name = message.subject.strip_prefix(&*source.before_channel).ok_or(ChannelError::Empty)?;
        let channel = match &source.last_channel {
            Some(channel) if channel.as_str() == name => channel.clone(),
            _ => source.last_channel.insert(Channel::with_reserved(name)?).clone(),
        };
        let plain = !wire::is_frame(&message.payload);
        // For observer copies, the question has already been asked elsewhere. A foreign publisher may name any
        // subject for answers, such as the subject of an acknowledgement.
        let is_question = source.root != Root::Seen;
        let mut reply = message.reply.clone().filter(|reply| is_question && may_be_answered(reply));
        if self.shared.sealing.is_on() && asked_from.is_none() {
            // A sealed question names the place where its asker waits. Nobody has sealed the one of the message.
            reply = None;
        }
        let kind = if reply.is_some() { Kind::Query } else { Kind::Event };
        let arrived = Arrived { message, asked_from: None, proof };
        let is_copy = source.root == Root::Seen;
        let mut brought =
            self.waves(arrived, is_copy, &channel, kind, source.gaps.as_mut(), &mut source.foreign)?;
        if let Some(subject) = reply
            && brought.waves.len() == 1
            && let Some(question) = brought.waves.pop()
        {
            let to_foreigner = source.root == Root::Waves;
            let shared = Arc::clone(&self.shared);
            let path = Reply { shared, subject, asked_from, to_foreigner, plain };
            // Its only handle, so the wave is not copied.
            brought.waves.push(question.with_reply_path(Arc::new(path)));
        }
        Ok(brought)
    }

    /// Decodes the answer to a question asked on a channel.
    pub(super) fn answer(&self, answer: Arrived, channel: &Channel) -> Result<Wave, FrameError> {
        let brought = self.waves(answer, false, channel, Kind::Response, None, &mut Foreign::new())?;
        brought.waves.into_iter().next().ok_or(FrameError::Empty { what: "waves" })
    }

    fn waves(
        &self,
        arrived: Arrived,
        is_copy: bool,
        channel: &Channel,
        kind: Kind,
        gaps: Option<&mut Gaps>,
        foreign: &mut Foreign,
    ) -> Result<MessageContents, FrameError> {
        let Arrived { message, proof, .. } = arrived;
        let proof = proof.as_ref();
        let now = clock::now();
        let mut delay = Duration::ZERO;
        // The sealed part is a frame: the headers of a message are not sealed.
        let (node, position, waves) = if self.shared.sealing.is_on() || wire::is_frame(&message.payload) {
            let received = micros_since_1970();
            let transit = |sender: Sender| {
                delay = self.transit.delay(known_node(proof, sender.node), sender.sent_micros, received, now);
                delay
            };
            let mut frame = wire::decode(&message.payload, Some(channel), now, transit)?;
            prove(&mut frame.waves, proof, is_copy)?;
            (frame.sender.node, frame.position, frame.waves)
        } else {
            let (node, position) = cloudevents::position(&message).unzip();
            let wave = cloudevents::read(message, channel, kind, foreign, now);
            (node.unwrap_or(0), position, vec![wave])
        };
        let lost = gaps.zip(position).and_then(|(gaps, position)| {
            let heard =
                HeardFrame { node: known_node(proof, node), position, waves: waves.len(), delay, now };
            let GapReport { gap, forgets, is_implausible } = gaps.note(channel, heard);
            self.forgotten_streams.fetch_add(u64::from(forgets), Ordering::Relaxed);
            if is_implausible {
                self.misplaced.fetch_add(1, Ordering::Relaxed);
                tracing::debug!(%channel, node, ?position, "a frame has an impossible position");
            }
            gap.map(|Gap { waves, since }| Lost { waves, since, is_own: node == self.shared.node })
        });
        Ok(MessageContents { waves, lost })
    }
}
