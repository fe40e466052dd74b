//! The connection of a medium, as it breaks and comes back.

use std::fmt;
use std::sync::{Arc, Weak};

use tokio::sync::watch;

use super::{Aether, Shared};
use crate::medium::MediumStatus;

/// Hears when the connection of an [`Aether`] breaks and when it is back. It does not keep the medium open.
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
    /// Nothing for a medium that has no connection.
    stands: Option<watch::Receiver<bool>>,
}

impl Connection {
    /// Waits until the connection breaks or is back, and returns how the medium is doing then. Changes that follow each
    /// other fast may be told as one: [`MediumStatus::connects`] says whether there is a new connection. `None` when
    /// the medium was closed or is gone, and at once for a medium that has no connection, such as the one in process.
    ///
    /// # Cancel safety
    /// Cancelled before completion, no change is missed.
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

    /// `None` if the medium was closed, or nobody has it any more.
    fn look(&mut self) -> Option<MediumStatus> {
        let stands = *self.stands.as_mut()?.borrow_and_update();
        let status = Aether { shared: self.aether.upgrade()? }.status();
        // A medium that was closed says that nobody needs to wait for it any more.
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
    /// The connection as it breaks and comes back from now on.
    #[must_use]
    pub fn connection(&self) -> Connection {
        Connection { aether: Arc::downgrade(&self.shared), stands: self.medium().connection() }
    }
}
