//! Notifications when the connection of a medium breaks or is restored.

use std::fmt;
use std::sync::{Arc, Weak};

use tokio::sync::watch;

use super::{Aether, Shared};
use crate::inbox::Ledger;
use crate::medium::MediumStatus;

/// Observes when the connection of an [`Aether`] breaks and when it is restored. It does not keep the medium open.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use aether_core::Aether;
///
/// let aether = Aether::local();
/// let mut connection = aether.connection();
/// aether.close().await?;
/// assert!(connection.changed().await.is_none());
/// # Ok(()) }
/// ```
pub struct Connection {
    aether: Weak<Shared>,
    /// `None` for a medium without a connection.
    stands: Option<watch::Receiver<bool>>,
}

impl Connection {
    /// Waits until the connection breaks or is restored, and returns the status of the medium. Changes in quick
    /// succession may be reported as one: [`MediumStatus::connects`] shows whether the connection is a new one. Returns
    /// `None` when the medium was closed or dropped, and immediately for a medium without a connection, such as the
    /// in-process one.
    ///
    /// # Cancel safety
    /// If cancelled before completion, no change is missed.
    pub async fn changed(&mut self) -> Option<MediumStatus> {
        let status = match self.stands.as_mut()?.changed().await {
            Ok(()) => self.look(),
            Err(_) => None,
        };
        if status.is_none() {
            self.stands = None;
        }
        status
    }

    /// The account of all inboxes of the process: [`Aether::ledger`]. `None` if the `Aether` was dropped.
    #[must_use]
    pub fn ledger(&self) -> Option<Ledger> {
        self.aether().map(|aether| aether.ledger())
    }

    /// A handle of the `Aether`, which keeps it alive. `None` if it was dropped.
    #[must_use]
    pub fn aether(&self) -> Option<Aether> {
        Some(Aether { shared: self.aether.upgrade()? })
    }

    /// Returns `None` if the medium was closed or dropped.
    fn look(&mut self) -> Option<MediumStatus> {
        let stands = *self.stands.as_mut()?.borrow_and_update();
        let status = self.aether()?.status();
        // A closed medium reports `true` here although its status is not connected.
        (status.connected || !stands).then_some(status)
    }
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let stands = self.stands.as_ref().map(|stands| *stands.borrow());
        f.debug_struct("Connection").field("stands", &stands).finish_non_exhaustive()
    }
}

impl Aether {
    /// Observes the connection from now on.
    #[must_use]
    pub fn connection(&self) -> Connection {
        Connection { aether: Arc::downgrade(&self.shared), stands: self.medium().connection() }
    }
}
