//! An observer that feeds the waves of a running bus to a [`PhysicsEngine`].
//!
//! Runs the pure engine with an inbox, timers and the roster. Used by `aether physics`, `aether map` and programs that
//! want the findings. While the engine pauses because of too many waves, the observer leaves the bus, so that no wave
//! is routed, copied or sent for it. All decisions are the engine's.

use futures_util::StreamExt as _;
use std::future::poll_fn;
use std::task::Poll;
use std::time::Duration;

use tokio::time::sleep;

use super::engine::{PhysicsEngine, PhysicsReport};
use super::finding::Finding;
use super::incidents::Incident;
use super::sampling::Sampling;
use aether_core::account::Accounts;
use aether_core::clock::{self, Instant};
use aether_core::presence::Roster;
use aether_core::wave::ChannelError;
use aether_core::{
    Aether, CreateError, InboxOptions, JoinError, Ledger, Pattern, ServeOrder, Vibrator, WhenFull,
};

/// An observer that is this late was itself stopped or starved. Waves may wait outside of its inbox.
const STALLED: Duration = Duration::from_millis(500);

/// Why an observer could not be opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ObserveError {
    /// Its vibrator could not be created.
    #[error("the observer could not be created")]
    Create(#[from] CreateError),
    /// The pattern or the roster could not be joined.
    #[error("cannot subscribe to the waves")]
    Join(#[from] JoinError),
}

/// Observes a pattern with a [`PhysicsEngine`]. Ordinary term: a monitoring agent.
///
/// It costs a bus no more than the [waves a second](crate::EngineOptions::waves_a_second) in the engine's
/// budget. If there are more, it reports [`Finding::Sampling`], leaves the bus, and returns after the pause. The pause
/// and the waves shed by the inbox are reported to the detectors, so neither counts as a missing beat.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use aether_physics::PhysicsEngine;
/// use aether_core::{Aether, Vibrator, Wave};
/// use aether_physics::PhysicsObserver;
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
    aether: Aether,
    vibrator: Vibrator,
    pattern: Pattern,
    engine: PhysicsEngine,
    roster: Roster,
    /// The accounts of the processes. `None` in process, where none can be lost.
    accounts: Option<Accounts>,
    /// When the observer left the bus; `None` while it is subscribed.
    gone: Option<Instant>,
    /// The number of waves lost by the inbox, and when it was read.
    lost: (u64, Instant),
    /// The end of the last call.
    seen: Instant,
}

impl PhysicsObserver {
    /// Starts to observe a pattern. The name appears in logs and ledgers.
    ///
    /// # Errors
    /// [`ObserveError`] if the name or the pattern is not valid or the medium is closed.
    ///
    /// # Cancel safety
    /// If cancelled before completion, nothing is observed.
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
        // In the order of arrival, because the engine analyses times. No emitter waits for an observer.
        let inbox = InboxOptions::interactive().order(ServeOrder::Arrival).when_full(WhenFull::Shed);
        let vibrator = Vibrator::builder(name).inbox(inbox).observe().create(aether).await?;
        let roster = aether.roster().await?;
        let crosses_processes = aether.promises().crosses_processes;
        let accounts = if crosses_processes { Some(aether.accounts().await?) } else { None };
        vibrator.resonate_on(pattern.clone()).await?;
        let (aether, now) = (aether.clone(), clock::now());
        let lost = (0, now);
        Ok(Self { aether, vibrator, pattern, engine, roster, accounts, gone: None, lost, seen: now })
    }

    /// Waits for waves and takes in at most `most` of them (at least one), or waits until time alone may produce a
    /// finding. Returns the number of waves, or `None` once the medium is closed and everything was taken in. Fetch the
    /// [findings](Self::found) after each call.
    ///
    /// During a pause of the engine nothing is received, and the call lasts until its end.
    ///
    /// # Errors
    /// [`JoinError`] if the pattern cannot be joined after a pause. The next call tries again.
    ///
    /// # Cancel safety
    /// If cancelled before completion, no wave was taken.
    pub async fn advance(&mut self, most: usize) -> Result<Option<usize>, JoinError> {
        if let Some(until) = self.engine.away_until() {
            self.leave();
            let wait = sleep(until.saturating_duration_since(clock::now()));
            tokio::select! {
                biased;
                () = wait => {}
                // Skips waves in flight; ends when the medium is closed.
                () = self.pass_over() => return Ok(None),
            }
        }
        if let Some(gone) = self.gone {
            match self.vibrator.resonate_on(self.pattern.clone()).await {
                Ok(()) => {}
                Err(JoinError::Closed) => return Ok(None),
                Err(error) => return Err(error),
            }
            let now = clock::now();
            self.gone = None;
            self.engine.look(now);
            self.engine.not_seen(gone, now);
        }
        let due = self.engine.next_change();
        let change = async {
            match due {
                Some(at) => sleep(at.saturating_duration_since(clock::now())).await,
                None => std::future::pending().await,
            }
        };
        let taken = tokio::select! {
            biased;
            taken = self.take_in(most) => taken,
            () = change => Some(0),
        };
        // The medium is only asked after a silence, and until it is back.
        if taken == Some(0) || !self.engine.is_connected() {
            self.check_connection();
        }
        self.account();
        let now = clock::now();
        if due.is_some_and(|due| now.saturating_duration_since(due.max(self.seen)) > STALLED) {
            // No silence in this time is evidence.
            self.engine.stalled(self.seen, now);
        }
        self.read_accounts(now);
        self.seen = now;
        if self.engine.away_until().is_some() {
            self.leave();
        }
        Ok(taken)
    }

    /// The next finding. Call it until it returns `None`.
    pub fn found(&mut self) -> Option<Finding> {
        match self.gone {
            // The pause ends when the pattern is joined again, not by a tick.
            Some(_) => self.engine.waiting(),
            None => self.engine.tick(clock::now()),
        }
    }

    /// The next incident that began or ended. Call it after [`PhysicsObserver::found`] has returned `None`, until it returns
    /// `None` too.
    pub fn incident(&mut self) -> Option<Incident> {
        self.engine.incident()
    }

    /// The current state, with the current subscriptions. Edges that are new or gone since the last report become
    /// findings.
    pub fn report(&mut self) -> PhysicsReport {
        // A report may take long, and the next judgement must not blame a service for an outage in between.
        self.check_connection();
        self.read_roster();
        self.engine.report()
    }

    /// The share of the traffic that was observed.
    #[must_use]
    pub fn sampling(&self) -> Sampling {
        self.engine.sampling()
    }

    /// The ledger of the inbox in which waves wait.
    #[must_use]
    pub fn ledger(&self) -> Ledger {
        self.vibrator.ledger()
    }

    /// Waits for the first wave, then takes in the queued ones.
    async fn take_in(&mut self, most: usize) -> Option<usize> {
        let Self { vibrator, engine, .. } = self;
        let mut taken = 0;
        poll_fn(|cx| {
            loop {
                match vibrator.poll_next_unpin(cx) {
                    Poll::Ready(Some(wave)) => engine.observe(&wave, clock::now()),
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

    /// Receives and drops waves until the medium is closed.
    async fn pass_over(&mut self) {
        while self.vibrator.receive().await.is_some() {}
    }

    fn leave(&mut self) {
        if self.gone.is_none() {
            self.gone = Some(clock::now());
            // The pattern was joined, so it is valid.
            let _ = self.vibrator.detune(self.pattern.clone());
        }
    }

    fn read_roster(&mut self) {
        for (vibrator, patterns) in self.roster.heard_by_name() {
            self.engine.tuned(&vibrator, &patterns);
        }
    }

    /// Reads what the processes told, if a judgement needs it.
    fn read_accounts(&mut self, now: Instant) {
        if self.accounts.is_some() && self.engine.wants_accounts(now) {
            self.read_roster();
            let processes = self.accounts.as_ref().map(Accounts::processes).unwrap_or_default();
            self.engine.told(&processes, now);
        }
    }

    /// Reports to the engine whether the medium is connected.
    fn check_connection(&mut self) {
        match self.aether.status().connected {
            false => self.engine.disconnected(clock::now()),
            true => self.engine.connected(clock::now()),
        }
    }

    /// Reports waves lost by the inbox since the last call to the engine.
    fn account(&mut self) {
        let (lost, now) = (self.vibrator.ledger().lost(), clock::now());
        if lost > self.lost.0 {
            self.engine.lost(lost - self.lost.0, self.lost.1, now);
        }
        self.lost = (lost, now);
    }
}

#[cfg(test)]
mod tests;
