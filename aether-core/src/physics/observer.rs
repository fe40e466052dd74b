//! The physics of a running bus: an observer whose waves go to a [`PhysicsEngine`].
//!
//! Drives the engine, which is pure, with an inbox, timers and the roster. Used by `aether physics`, `aether map` and
//! whoever wants the findings in a program. When the engine looks away because there is too much, the observer leaves the
//! bus for that time, so that nobody routes, copies or sends a wave for it. It decides nothing itself.

use std::future::poll_fn;
use std::task::Poll;

use tokio::time::sleep;

use super::engine::{PhysicsEngine, PhysicsReport, Sampling};
use super::finding::Finding;
use crate::aether::Aether;
use crate::channel::{ChannelError, Pattern};
use crate::clock::Instant;
use crate::floors::Roster;
use crate::inbox::{InboxOptions, Ledger, Order, WhenFull};
use crate::medium::JoinError;
use crate::vibrator::{CreateError, Vibrator};

/// Why nothing can be observed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ObserveError {
    /// There can be no observer.
    #[error("no observer could be made")]
    Create(#[from] CreateError),
    /// The pattern, or who is there, cannot be heard.
    #[error("the waves cannot be heard")]
    Join(#[from] JoinError),
}

/// Observes a pattern with a [`PhysicsEngine`]. Ordinary term: a monitoring agent.
///
/// It costs a bus no more than the [waves a second](crate::physics::EngineOptions::waves_a_second) that the engine takes
/// in: of more it says so ([`Finding::Sampling`]), leaves the bus, and comes back when it may look again. What went by
/// meanwhile, and what its inbox had to shed, the detectors are told of: no beat is missing because nobody looked.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use aether_core::physics::PhysicsEngine;
/// use aether_core::{Aether, PhysicsObserver, Vibrator, Wave};
///
/// let aether = Aether::local();
/// let mut observer = PhysicsObserver::open("watch", "orders.>", PhysicsEngine::default(), &aether).await?;
/// let shop = Vibrator::create("shop", &aether).await?;
/// let receipt = shop.emit(Wave::from_bytes("orders.created", "17")?).await?;
/// shop.emit(Wave::builder("orders.paid").cause(shop.id_of(&receipt)).build()?).await?;
///
/// while observer.sampling().seen < 2 {
///     observer.advance(256).await?.expect("the medium is open");
/// }
/// assert!(observer.report().map.edge("orders.created", "orders.paid").is_some());
/// let found = observer.found().expect("an edge that is new");
/// assert!(found.to_string().starts_with("related: orders.created -> orders.paid after "));
/// # Ok(()) }
/// ```
#[derive(Debug)]
pub struct PhysicsObserver {
    vibrator: Vibrator,
    pattern: Pattern,
    engine: PhysicsEngine,
    roster: Roster,
    /// Since when the pattern is not heard, if it is not.
    gone: Option<Instant>,
    /// How many waves the inbox had lost, and when that was seen.
    lost: (u64, Instant),
}

impl PhysicsObserver {
    /// Observes a pattern from now on. The name says who it is in logs and ledgers.
    ///
    /// # Errors
    /// [`ObserveError`] if the name or the pattern is not valid or the medium is closed.
    ///
    /// # Cancel safety
    /// Cancelled before completion, nothing is observed.
    pub async fn open<P>(
        name: &str,
        pattern: P,
        engine: PhysicsEngine,
        aether: &Aether,
    ) -> Result<Self, ObserveError>
    where
        P: TryInto<Pattern>,
        ChannelError: From<P::Error>,
    {
        let pattern = pattern.try_into().map_err(|error| JoinError::from(ChannelError::from(error)))?;
        Self::start(name, pattern, engine, aether).await
    }

    async fn start(
        name: &str,
        pattern: Pattern,
        engine: PhysicsEngine,
        aether: &Aether,
    ) -> Result<Self, ObserveError> {
        // In the order of arrival: the engine looks at times. And nobody waits for an observer.
        let inbox = InboxOptions::interactive().order(Order::Arrival).when_full(WhenFull::Shed);
        let vibrator = Vibrator::builder(name).inbox(inbox).observe().create(aether).await?;
        let roster = aether.roster().await?;
        vibrator.resonate_on(pattern.clone()).await?;
        Ok(Self { vibrator, pattern, engine, roster, gone: None, lost: (0, Instant::now()) })
    }

    /// Waits until there is something to take in, and takes in at most so many waves (at least one); or until something
    /// may be found by time alone. Says how many waves it took in; `None` when the medium was closed and everything was
    /// taken in. Fetch what was [found](Self::found) after each call.
    ///
    /// While the engine looks away nothing is heard; then it takes until it looks again.
    ///
    /// # Errors
    /// [`JoinError`] if the pattern cannot be heard again. The next call tries it anew.
    ///
    /// # Cancel safety
    /// Cancelled before completion, no wave was taken.
    pub async fn advance(&mut self, most: usize) -> Result<Option<usize>, JoinError> {
        if let Some(until) = self.engine.away_until() {
            self.leave();
            let wait = sleep(until.saturating_duration_since(Instant::now()));
            tokio::select! {
                () = wait => {}
                // What was on its way is passed over; and this ends when the medium does.
                () = self.pass_over() => return Ok(None),
            }
        }
        if let Some(gone) = self.gone {
            match self.vibrator.resonate_on(self.pattern.clone()).await {
                Ok(()) => {}
                Err(JoinError::Closed) => return Ok(None),
                Err(error) => return Err(error),
            }
            let now = Instant::now();
            self.gone = None;
            self.engine.look(now);
            self.engine.not_seen(gone, now);
        }
        let change = self.engine.next_change();
        let change = async {
            match change {
                Some(at) => sleep(at.saturating_duration_since(Instant::now())).await,
                None => std::future::pending().await,
            }
        };
        let taken = tokio::select! {
            biased;
            taken = self.take_in(most) => taken,
            () = change => Some(0),
        };
        self.account();
        if self.engine.away_until().is_some() {
            self.leave();
        }
        Ok(taken)
    }

    /// What has been found by now, one at a time: call it until it returns `None`.
    pub fn found(&mut self) -> Option<Finding> {
        match self.gone {
            // It looks again when it hears again, and not by a tick.
            Some(_) => self.engine.waiting(),
            None => self.engine.tick(Instant::now()),
        }
    }

    /// How things stand, with who listens to what by now. Edges that are new or gone since the last report become findings.
    pub fn report(&mut self) -> PhysicsReport {
        for (vibrator, patterns) in self.roster.heard_by_name() {
            self.engine.tuned(&vibrator, &patterns);
        }
        self.engine.report()
    }

    /// How much of what went by was looked at.
    #[must_use]
    pub fn sampling(&self) -> Sampling {
        self.engine.sampling()
    }

    /// The account of the inbox in which waves wait to be taken in.
    #[must_use]
    pub fn ledger(&self) -> Ledger {
        self.vibrator.ledger()
    }

    /// Takes in what is there, once there is anything.
    async fn take_in(&mut self, most: usize) -> Option<usize> {
        let Self { vibrator, engine, .. } = self;
        let mut taken = 0;
        poll_fn(|cx| {
            loop {
                match vibrator.poll_receive(cx) {
                    Poll::Ready(Some(wave)) => engine.observe(&wave, Instant::now()),
                    Poll::Ready(None) => return Poll::Ready((taken > 0).then_some(taken)),
                    Poll::Pending if taken == 0 => return Poll::Pending,
                    Poll::Pending => return Poll::Ready(Some(taken)),
                }
                taken += 1;
                if taken >= most || engine.away_until().is_some() {
                    return Poll::Ready(Some(taken));
                }
            }
        })
        .await
    }

    /// Receives until the medium is closed, for nothing.
    async fn pass_over(&mut self) {
        while self.vibrator.receive().await.is_some() {}
    }

    fn leave(&mut self) {
        if self.gone.is_none() {
            self.gone = Some(Instant::now());
            // It was joined, so it is valid.
            let _ = self.vibrator.detune(self.pattern.clone());
        }
    }

    /// Tells the engine when the inbox has lost waves since the last call.
    fn account(&mut self) {
        let (lost, now) = (self.vibrator.ledger().lost(), Instant::now());
        if lost > self.lost.0 {
            self.engine.lost(lost - self.lost.0, self.lost.1, now);
        }
        self.lost = (lost, now);
    }
}

#[cfg(test)]
mod tests;
