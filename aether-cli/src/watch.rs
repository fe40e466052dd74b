//! Watching a medium with the physics engine: what `aether physics` and `aether map` have in common.

use std::time::Instant;

use aether_chassis::MediumArgs;
use aether_core::physics::{Finding, PhysicsEngine, PhysicsReport};
use aether_core::{Aether, InboxOptions, Order, Pattern, Vibrator};

use crate::account::Account;
use crate::error::CommandError;
use crate::output::tell;

/// An observer whose waves go to the engine.
pub(crate) struct Watch {
    aether: Aether,
    vibrator: Vibrator,
    engine: PhysicsEngine,
}

impl Watch {
    /// Observes a pattern from now on.
    pub(crate) async fn open(
        medium: &MediumArgs,
        name: &str,
        pattern: &Pattern,
    ) -> Result<Self, CommandError> {
        let aether = medium.connect(name).await?;
        if !aether.promises().crosses_processes {
            return Err(CommandError::Alone { nobody_would: "emit anything" });
        }
        // In the order of arrival: the engine looks at times.
        let inbox = InboxOptions::interactive().order(Order::Arrival);
        let vibrator = Vibrator::builder(name).inbox(inbox).observe().create(&aether).await?;
        vibrator.resonate_on(pattern).await?;
        Ok(Self { aether, vibrator, engine: PhysicsEngine::default() })
    }

    /// Takes the next wave in. False when the medium was closed.
    ///
    /// # Cancel safety
    /// Cancelled before completion, no wave was taken.
    pub(crate) async fn take_in(&mut self) -> bool {
        let Some(wave) = self.vibrator.receive().await else { return false };
        self.engine.observe(&wave, Instant::now());
        true
    }

    /// What was found by now and not said yet.
    pub(crate) fn findings(&mut self) -> impl Iterator<Item = Finding> {
        std::iter::from_fn(|| self.engine.tick(Instant::now()))
    }

    /// Waits until something may be found by time alone.
    ///
    /// # Cancel safety
    /// Cancelled before completion, nothing was done.
    pub(crate) async fn change(at: Option<Instant>) {
        match at {
            Some(at) => tokio::time::sleep_until(at.into()).await,
            None => std::future::pending().await,
        }
    }

    /// When something may be found by time alone.
    pub(crate) fn next_change(&self) -> Option<Instant> {
        self.engine.next_change()
    }

    pub(crate) fn report(&mut self) -> PhysicsReport {
        self.engine.report()
    }

    /// Says what the observer lost, if anything, and ends.
    pub(crate) async fn close(self) {
        let ledger = self.vibrator.ledger();
        if ledger.lost() > 0 {
            tell(Account(ledger));
        }
        drop(self.vibrator);
        aether_chassis::close(&self.aether).await;
    }
}
