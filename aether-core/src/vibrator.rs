//! The vibrator: the handle a service holds to emit and to receive.
//!
//! Built from an [`Aether`]; its sending half, the [`Emitter`], can be cloned and handed around. It holds one inbox,
//! however many patterns it is tuned to.
//!
//! ```
//! use aether_core::{Aether, Vibrator};
//!
//! # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let aether = Aether::local();
//! let mut stock = Vibrator::create("stock", &aether).await?;
//! stock.resonate_on("orders.*").await?;
//!
//! let shop = Vibrator::create("shop", &aether).await?;
//! shop.emit_wave("orders.created", &"a lamp").await?;
//!
//! let wave = stock.receive().await.expect("the medium is open");
//! assert_eq!(wave.json::<String>()?, "a lamp");
//! assert_eq!(wave.source().name(), "shop");
//! # Ok(()) }
//! ```

mod builder;
mod emitter;
mod pace;
mod replay;
mod tuned;

pub use builder::{CreateError, VibratorBuilder};
#[allow(unused_imports, reason = "for optional parts")]
pub(crate) use emitter::settled;
pub use emitter::{Emitter, EmitterAccount};

use std::ops::Deref;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use futures_core::Stream;
use parking_lot::Mutex;

use crate::aether::Aether;
use crate::amplitude::Floor;
use crate::bus::SubscriptionGuard;
use crate::channel::{Channel, ChannelError, Pattern};
use crate::echo::{Echoes, EchoesError};
use crate::extensions::ExtensionMap;
use crate::inbox::{Callback, Inbox, Ledger, Offer};
use crate::medium::JoinError;
use crate::router::{Listener, Subscription};
use crate::wave::Wave;
use pace::Pace;
use tuned::{Detuned, Tuned};

/// A service on the bus: emits waves, and receives those of the channels it is tuned to. Ordinary term: a client
/// handle with one mailbox.
///
/// All methods of [`Emitter`] can be called on it. Dropping it ends its subscriptions; what was still queued is
/// counted as lost with the reason `closed`.
#[derive(Debug)]
pub struct Vibrator {
    pub(crate) emitter: Emitter,
    pub(crate) inbox: Arc<Inbox>,
    pace: Pace,
    pub(crate) hears_own: bool,
    pub(crate) observes: bool,
    tuned: Mutex<Tuned>,
    /// What optional parts keep; dropped before the inbox is closed.
    pub(crate) extensions: ExtensionMap,
    /// That of the inbox, which others may hold for longer.
    on_shed: Callback,
}

impl Vibrator {
    /// A vibrator with default options. The name says who it is in logs, metrics and ids; it need not be unique.
    ///
    /// # Errors
    /// [`CreateError::Name`] if the name is empty, longer than 128 bytes or has control characters.
    ///
    /// # Cancel safety
    /// Cancelled before completion, nothing was made.
    pub async fn create(name: &str, aether: &Aether) -> Result<Self, CreateError> {
        Self::builder(name).create(aether).await
    }

    /// A vibrator with options.
    pub fn builder(name: &str) -> VibratorBuilder<'_> {
        VibratorBuilder::new(name)
    }

    /// Hears the channels of a pattern from now on: once this returns, no wave is missed. Ordinary term: subscribe.
    /// A pattern that is heard already changes nothing.
    ///
    /// # Errors
    /// [`JoinError`] if the pattern is not valid or the medium is closed.
    ///
    /// # Cancel safety
    /// Cancelled before completion, the pattern is not heard.
    pub async fn resonate_on<P>(&self, pattern: P) -> Result<(), JoinError>
    where
        P: TryInto<Pattern>,
        ChannelError: From<P::Error>,
    {
        self.join(pattern.try_into().map_err(ChannelError::from)?, None).await
    }

    /// The same as a member of a group: each wave goes to one of those members of the group that hear its channel, by
    /// whatever patterns and in all processes together. Ordinary term: queue group, consumer group.
    ///
    /// In process the members take turns, and one that is full or does not hear so weak a wave is passed over while
    /// another one has room. If none has, `emit` waits for whichever has room first.
    ///
    /// A vibrator gets a wave once as a lone listener, by however many of its patterns, and once more as a member of each
    /// group whose turn falls to it: one that hears a channel alone and in two groups may get three copies.
    ///
    /// On NATS, waves that are emitted in a burst on one channel travel together and reach one member together.
    /// Commands travel alone, so that a group shares even a burst of them: use [`Kind::Command`](crate::Kind) for work.
    ///
    /// # Errors
    /// [`JoinError`] if the pattern or the name of the group is not valid, the medium is closed, or the vibrator is an
    /// observer. A group's name follows the rules of a channel.
    ///
    /// # Cancel safety
    /// Cancelled before completion, the pattern is not heard.
    pub async fn resonate_in_group<P>(&self, pattern: P, group: &str) -> Result<(), JoinError>
    where
        P: TryInto<Pattern>,
        ChannelError: From<P::Error>,
    {
        let group = Channel::new(group)?;
        if self.observes {
            return Err(JoinError::Observer { group });
        }
        self.join(pattern.try_into().map_err(ChannelError::from)?, Some(group.as_str().into())).await
    }

    async fn join(&self, pattern: Pattern, group: Option<Arc<str>>) -> Result<(), JoinError> {
        let aether = self.emitter.aether();
        let found = self.tuned.lock().find(&pattern, group.as_deref());
        if let Some(subscription) = found {
            if !subscription.is_muted() {
                return Ok(());
            }
            // The medium has it still. It is asked all the same, as it may be closed.
            let announcing = PendingAnnouncement::begin(self, &subscription);
            let (joined, ()) =
                tokio::join!(aether.medium().join(Arc::clone(&subscription)), announcing.told());
            joined?;
            let mut tuned = self.tuned.lock();
            if tuned.unmute(&subscription) {
                aether.router().mute(&subscription, false);
                announcing.stays();
                return Ok(());
            }
        }
        let listener = Listener {
            sequencer: Arc::clone(self.emitter.sequencer()),
            hears_own: self.hears_own,
            observes: self.observes,
            relabel: None,
        };
        self.finish_joining(aether.bus().subscribe(pattern, group, Arc::clone(&self.inbox), listener)).await
    }

    /// Joins what was subscribed to and announces it. Entered last, so that what is cancelled before ends.
    async fn finish_joining(&self, guard: SubscriptionGuard) -> Result<(), JoinError> {
        let aether = self.emitter.aether();
        let subscription = Arc::clone(guard.subscription());
        let announcing = PendingAnnouncement::begin(self, &subscription);
        let (joined, ()) = tokio::join!(guard.join(), announcing.told());
        joined?;
        let crosses = aether.promises().crosses_processes;
        guard.keep();
        let needless = self.tuned.lock().insert(Arc::clone(&subscription), crosses);
        announcing.stays();
        if let Some(needless) = needless {
            self.leave(&needless);
            aether.presence().detune(self.source().instance(), needless.id());
        }
        Ok(())
    }

    /// Stops hearing a pattern, in whatever groups. What is queued can still be received. Ordinary term: unsubscribe.
    /// A pattern that is not heard changes nothing.
    ///
    /// # Errors
    /// [`ChannelError`] if the pattern is not valid.
    pub fn detune<P>(&self, pattern: P) -> Result<(), ChannelError>
    where
        P: TryInto<Pattern>,
        ChannelError: From<P::Error>,
    {
        let pattern = pattern.try_into()?;
        let aether = self.emitter.aether();
        let mut tuned = self.tuned.lock();
        let Detuned { muted, gone } = tuned.detune(&pattern);
        for subscription in &muted {
            aether.router().mute(subscription, true);
        }
        drop(tuned);
        for subscription in &gone {
            self.leave(subscription);
        }
        for subscription in muted.iter().chain(&gone) {
            aether.presence().detune(self.source().instance(), subscription.id());
        }
        Ok(())
    }

    fn leave(&self, subscription: &Subscription) {
        self.emitter.aether().bus().leave(subscription);
    }

    /// The next wave, the strongest first, or `None` when the medium was closed and everything was received; at once if
    /// the vibrator was made after that.
    ///
    /// While stronger waves come as fast as they are received, weaker ones wait
    /// ([`ServeOrder::Strength`](crate::ServeOrder) says what helps).
    ///
    /// # Cancel safety
    /// Cancelled before completion, no wave was taken.
    pub async fn receive(&mut self) -> Option<Wave> {
        std::future::poll_fn(|cx| self.poll_receive(cx)).await
    }

    /// The next wave whose channel matches a pattern, in the [`ServeOrder`](crate::ServeOrder) of the inbox; the others stay queued. Each call looks at the waves that are
    /// queued, each one once.
    ///
    /// The pattern is not subscribed to: tune the vibrator with [`Vibrator::resonate_on`] first.
    ///
    /// # Errors
    /// [`ChannelError`] if the pattern is not valid.
    ///
    /// # Cancel safety
    /// Cancelled before completion, no wave was taken.
    pub async fn receive_from<P>(&mut self, pattern: P) -> Result<Option<Wave>, ChannelError>
    where
        P: TryInto<Pattern>,
        ChannelError: From<P::Error>,
    {
        let pattern: Pattern = pattern.try_into()?;
        let mut seen = 0;
        let wave = std::future::poll_fn(|cx| {
            let matches = |wave: &Wave| pattern.matches(wave.channel());
            self.pace.poll(cx, |cx| self.inbox.poll_receive_where(cx, &mut seen, matches))
        })
        .await;
        Ok(wave.map(|wave| wave.heard_by(self.emitter.sequencer())))
    }

    /// Puts a wave that was received back into the inbox, where it waits its turn among the others by its strength, as
    /// it does after [`Wave::resent`]. It is offered like any wave: counted anew, and shed where it is too weak.
    pub fn put_back(&self, wave: Wave) {
        // What is offered like this is never handed back.
        let _ = self.inbox.offer(wave, Offer::Now);
    }

    pub(crate) fn poll_receive(&mut self, cx: &mut Context<'_>) -> Poll<Option<Wave>> {
        let polled = self.pace.poll(cx, |cx| self.inbox.poll_receive(cx));
        polled.map(|wave| wave.map(|wave| wave.heard_by(self.emitter.sequencer())))
    }

    /// The sending half, to be cloned and handed around. It outlives the vibrator.
    #[must_use]
    pub fn emitter(&self) -> Emitter {
        self.emitter.clone()
    }

    /// Listens for the echoes of this vibrator's own waves from now on: commands and queries that nobody heard, that
    /// were shed or expired, that a handler refused or failed at, or that were relayed too far. Ordinary term: error
    /// returns. Events, responses and broadcasts are not reflected, and no echo is.
    ///
    /// Without anybody who listens at the source, such waves go to the
    /// [dead letters](crate::Aether::dead_letters) of the process where they failed. So listen before emitting.
    ///
    /// Over NATS a receiver of this connection counts as one that hears, the emitter itself included; and with
    /// [`Wire::CloudEvents`](crate::Wire) nobody can tell whether anybody hears ([`Promises::reflects_unheard`]).
    ///
    /// [`Promises::reflects_unheard`]: crate::Promises::reflects_unheard
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use aether_core::{Aether, EchoReason, Kind, Vibrator, Wave};
    ///
    /// let aether = Aether::local();
    /// let shop = Vibrator::create("shop", &aether).await?;
    /// let mut echoes = shop.echoes().await?;
    /// let receipt = shop.emit(Wave::builder("stock.reserve").kind(Kind::Command).text("a lamp").build()?).await?;
    /// let echo = echoes.receive().await.expect("the medium is open");
    /// assert_eq!((echo.of, echo.reason), (shop.id_of(&receipt), EchoReason::NoResonator));
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// [`EchoesError::Taken`] while an earlier [`Echoes`] of this vibrator exists; else as
    /// [`Vibrator::resonate_on`].
    ///
    /// # Cancel safety
    /// Cancelled before completion, nobody listens.
    pub async fn echoes(&self) -> Result<Echoes, EchoesError> {
        let aether = self.emitter.aether();
        Echoes::open(aether.bus(), aether.reflector(), self.emitter.sequencer(), aether.lifeline()).await
    }

    /// The account of the inbox.
    #[must_use]
    pub fn ledger(&self) -> Ledger {
        self.inbox.ledger()
    }

    /// What is heard in effect: the configured floor, or what overload has recently raised it to.
    #[must_use]
    pub fn effective_floor(&self) -> Floor {
        self.inbox.effective_floor()
    }
}

/// A subscription that is announced to those who respect floors; dropped, it is taken back.
struct PendingAnnouncement<'a> {
    vibrator: &'a Vibrator,
    subscription: Option<&'a Subscription>,
}

impl<'a> PendingAnnouncement<'a> {
    fn begin(vibrator: &'a Vibrator, subscription: &'a Subscription) -> Self {
        let announcing = Self { vibrator, subscription: (!vibrator.observes).then_some(subscription) };
        announcing.enter();
        announcing
    }

    fn enter(&self) {
        if let Some(subscription) = self.subscription {
            let instance = self.vibrator.source().instance();
            let presence = self.vibrator.emitter.aether().presence();
            presence.tune(instance, subscription.id(), subscription.heard());
        }
    }

    /// Returns when others know.
    async fn told(&self) {
        if self.subscription.is_some() {
            let aether = self.vibrator.emitter.aether();
            aether.presence().told(aether.bus(), self.vibrator.source().instance()).await;
        }
    }

    fn stays(mut self) {
        // Another join of the same may have been cancelled meanwhile.
        self.enter();
        self.subscription = None;
    }
}

impl Drop for PendingAnnouncement<'_> {
    fn drop(&mut self) {
        if let Some(subscription) = self.subscription {
            let instance = self.vibrator.source().instance();
            self.vibrator.emitter.aether().presence().detune(instance, subscription.id());
        }
    }
}

impl Deref for Vibrator {
    type Target = Emitter;
    fn deref(&self) -> &Emitter {
        &self.emitter
    }
}

/// The waves received, one after the other; ends when the medium was closed and everything was received.
impl Stream for Vibrator {
    type Item = Wave;
    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Wave>> {
        self.get_mut().poll_receive(cx)
    }
}

impl Drop for Vibrator {
    fn drop(&mut self) {
        self.extensions.clear();
        for subscription in self.tuned.get_mut().take_all() {
            self.leave(&subscription);
        }
        self.emitter.aether().presence().close(self.source().instance());
        self.emitter.aether().router().close_inbox(self.source().instance());
        self.on_shed.revoke();
    }
}
