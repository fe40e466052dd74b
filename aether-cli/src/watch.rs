//! Watching a medium with the physics engine: what `aether physics` and `aether map` have in common.

use aether_chassis::{CancellationToken, MediumArgs, Received};
use aether_core::physics::{Finding, PhysicsEngine, PhysicsReport};
use aether_core::{Aether, Pattern, physics::PhysicsObserver};

use crate::connect::connected;
use crate::error::CommandError;
use crate::output::stderr_line;

/// An observer, and the connection that it has for itself.
pub(crate) struct Watch {
    aether: Aether,
    observer: PhysicsObserver,
}

impl Watch {
    /// Observes a pattern from now on.
    pub(crate) async fn open(
        medium: &MediumArgs,
        name: &str,
        pattern: &Pattern,
        shutdown: &CancellationToken,
    ) -> Result<Self, CommandError> {
        let aether = connected(medium, name, shutdown).await?;
        if !aether.promises().crosses_processes {
            return Err(CommandError::Alone { nobody_would: "emit anything" });
        }
        let engine = PhysicsEngine::default();
        let observer = PhysicsObserver::open(name, pattern.clone(), engine, &aether).await?;
        Ok(Self { aether, observer })
    }

    /// Takes in at most so many waves, or lets time pass until something may be found; how many. `None` when the medium
    /// was closed.
    ///
    /// # Cancel safety
    /// Cancelled before completion, no wave was taken.
    pub(crate) async fn advance(&mut self, most: usize) -> Result<Option<usize>, CommandError> {
        Ok(self.observer.advance(most).await?)
    }

    /// What was found by now and not said yet.
    pub(crate) fn findings(&mut self) -> impl Iterator<Item = Finding> {
        std::iter::from_fn(|| self.observer.found())
    }

    /// How things stand, with who listens to what by now.
    pub(crate) fn report(&mut self) -> PhysicsReport {
        self.observer.report()
    }

    /// Says what the observer lost, if anything, and ends.
    pub(crate) async fn close(self) {
        let ledger = self.observer.ledger();
        if ledger.lost() > 0 {
            stderr_line(Received::of(ledger));
        }
        drop(self.observer);
        aether_chassis::close(&self.aether).await;
    }
}
