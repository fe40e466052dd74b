//! What hopping needs of the bus: its router and its medium, and subscriptions that end when they are dropped.

use std::sync::Arc;

use crate::channel::Pattern;
use crate::inbox::Inbox;
use crate::medium::{JoinError, Medium};
use crate::router::{Listener, Router, Subscription};

/// The router and the medium of one [`Aether`](crate::Aether). Cloning it is two reference counts.
#[derive(Debug, Clone)]
pub(super) struct Bus {
    pub(super) router: Arc<Router>,
    pub(super) medium: Arc<dyn Medium>,
}

impl Bus {
    /// Subscribes an inbox to a pattern. Cancelled before completion, nothing stays subscribed.
    pub(super) async fn join(
        &self,
        pattern: Pattern,
        inbox: Arc<Inbox>,
        listener: Listener,
    ) -> Result<SubscriptionGuard, JoinError> {
        let subscription = self.router.subscribe(pattern, None, inbox, listener);
        let guard = SubscriptionGuard { bus: self.clone(), subscription: Arc::clone(&subscription) };
        self.medium.join(subscription).await?;
        Ok(guard)
    }
}

/// One subscription, which ends when this is dropped.
#[derive(Debug)]
#[must_use = "dropping it unsubscribes"]
pub(super) struct SubscriptionGuard {
    bus: Bus,
    subscription: Arc<Subscription>,
}

impl Drop for SubscriptionGuard {
    fn drop(&mut self) {
        self.bus.router.unsubscribe(&self.subscription);
        self.bus.medium.leave(&self.subscription);
    }
}
