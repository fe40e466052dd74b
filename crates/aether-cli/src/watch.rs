//! Observes a medium with the physics engine, for `aether physics` and `aether map`.

use aether::physics::PhysicsObserver;
use aether::physics::{Finding, Incident, PhysicsEngine, PhysicsReport};
use aether_core::{Aether, Pattern};
use aether_service::{CancellationToken, MediumArgs, Received};

use crate::connect::connected;
use crate::error::CommandError;
use crate::output::stderr_line;

/// An observer with its own connection.
pub(crate) struct Watch {
    aether: Aether,
    observer: PhysicsObserver,
}

impl Watch {
    /// Connects and observes a pattern.
    pub(crate) async fn open(
        medium: &MediumArgs,
        name: &str,
        pattern: &Pattern,
        shutdown: &CancellationToken,
    ) -> Result<Self, CommandError> {
        let aether = connected(medium, name, shutdown).await?;
        if !aether.promises().crosses_processes {
            return Err(CommandError::Alone { missing: "emit a wave" });
        }
        let engine = PhysicsEngine::default();
        let observer = PhysicsObserver::open(name, pattern.clone(), engine, &aether).await?;
        Ok(Self { aether, observer })
    }

    /// Processes up to `most` waves, or waits until there may be a finding. Returns the number of waves, or `None` when
    /// the medium is closed.
    ///
    /// # Cancel safety
    /// Cancelled before completion, no wave was taken.
    pub(crate) async fn advance(&mut self, most: usize) -> Result<Option<usize>, CommandError> {
        Ok(self.observer.advance(most).await?)
    }

    /// The findings since the last call.
    pub(crate) fn findings(&mut self) -> impl Iterator<Item = Finding> {
        std::iter::from_fn(|| self.observer.found())
    }

    /// The incidents that began or ended since the last call. To be called after [`Watch::findings`].
    pub(crate) fn incidents(&mut self) -> impl Iterator<Item = Incident> {
        std::iter::from_fn(|| self.observer.incident())
    }

    /// A report with the current subscriptions.
    pub(crate) fn report(&mut self) -> PhysicsReport {
        self.observer.report()
    }

    /// Reports the losses of the observer, if any, and closes the connection.
    pub(crate) async fn close(self) {
        let ledger = self.observer.ledger();
        if ledger.lost() > 0 {
            stderr_line(Received::of(ledger));
        }
        drop(self.observer);
        aether_service::close(&self.aether).await;
    }
}
