//! The bus: a router and the medium that feeds it.
//!
//! Each [`Aether`](crate::Aether) has one. Vibrators, presence and echoes subscribe to channels here; the bus depends
//! on none of them.
//!
//! Libraries that extend Aether use it where a [`Vibrator`](crate::Vibrator) does too much: a subscription made here is
//! on no roster and is announced to no sender, it ends with its guard, reserved channels are allowed, and a
//! [`Relabel`](crate::medium::Relabel) can change each wave before the inbox sees it. Services do not need it.
//!
//! ```
//! use std::sync::Arc;
//!
//! use aether_core::medium::Relabel;
//! use aether_core::{Aether, Channel, Pattern, Vibrator, Wave};
//!
//! /// A service of one tenant does not see the tenant in its channels.
//! #[derive(Debug)]
//! struct WithoutTenant;
//!
//! impl Relabel for WithoutTenant {
//!     fn relabel(&self, mut wave: Wave) -> Wave {
//!         let name = wave.channel().as_str().strip_prefix("tenant.7.").map(Channel::new);
//!         if let Some(Ok(channel)) = name {
//!             wave.move_to(&channel);
//!         }
//!         wave
//!     }
//! }
//!
//! # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let aether = Aether::local();
//! let mut stock = Vibrator::create("stock", &aether).await?;
//! let tuner = stock.tuner();
//! let mut listener = tuner.listener();
//! listener.relabel = Some(Arc::new(WithoutTenant));
//! let pattern = Pattern::new("tenant.7.>")?;
//! let _joined = aether.bus().join(pattern, Arc::clone(tuner.inbox()), listener).await?;
//!
//! aether.emitter("shop")?.emit_wave("tenant.7.orders", &"a lamp").await?;
//! assert_eq!(stock.receive().await.expect("the medium is open").channel().as_str(), "orders");
//! # Ok(()) }
//! ```

use std::any::Any;
use std::sync::Arc;

use crate::channel::Pattern;
use crate::inbox::Inbox;
use crate::medium::{JoinError, Medium};
use crate::router::{Listener, Router, Subscription};

/// A router and its medium. A clone costs two reference counts.
#[derive(Debug, Clone)]
pub struct Bus {
    router: Arc<Router>,
    medium: Arc<dyn Medium>,
}

impl Bus {
    pub(crate) fn new(router: Arc<Router>, medium: Arc<dyn Medium>) -> Self {
        Self { router, medium }
    }

    pub(crate) fn router(&self) -> &Router {
        &self.router
    }

    /// The medium.
    #[must_use]
    pub fn medium(&self) -> &Arc<dyn Medium> {
        &self.medium
    }

    /// Adds a subscription to the router. The medium delivers nothing for it before [`SubscriptionGuard::join`].
    pub(crate) fn subscribe(
        &self,
        pattern: Pattern,
        group: Option<Arc<str>>,
        inbox: Arc<Inbox>,
        listener: Listener,
    ) -> SubscriptionGuard {
        let subscription = self.router.subscribe(pattern, group, inbox, listener);
        SubscriptionGuard { bus: self.clone(), subscription, is_kept: false }
    }

    /// Subscribes an inbox to a pattern. Once this returns, no wave is missed.
    ///
    /// # Errors
    /// [`JoinError`] if the medium is closed, or the rules or the server do not allow the pattern.
    ///
    /// # Cancel safety
    /// If cancelled before completion, nothing stays subscribed.
    pub async fn join(
        &self,
        pattern: Pattern,
        inbox: Arc<Inbox>,
        listener: Listener,
    ) -> Result<SubscriptionGuard, JoinError> {
        let guard = self.subscribe(pattern, None, inbox, listener);
        guard.join().await?;
        Ok(guard)
    }

    /// Ends a subscription, unless rules have ended it.
    pub(crate) fn leave(&self, subscription: &Subscription) {
        if subscription.end() {
            self.router.unsubscribe(subscription);
            self.medium.leave(subscription);
        }
    }
}

/// Keeps an [`Aether`](crate::Aether) alive. Held by handles that are useless without it.
#[derive(Debug, Clone)]
pub(crate) struct Lifeline(#[expect(dead_code, reason = "only held")] Arc<dyn Any + Send + Sync>);

impl Lifeline {
    pub(crate) fn to(what: Arc<dyn Any + Send + Sync>) -> Self {
        Self(what)
    }
}

/// A subscription that ends when the guard is dropped.
#[derive(Debug)]
#[must_use = "dropping it ends the subscription"]
pub struct SubscriptionGuard {
    bus: Bus,
    subscription: Arc<Subscription>,
    is_kept: bool,
}

impl SubscriptionGuard {
    pub(crate) fn subscription(&self) -> &Arc<Subscription> {
        &self.subscription
    }

    /// Subscribes at the medium. Once this returns, no wave is missed.
    pub(crate) async fn join(&self) -> Result<(), JoinError> {
        self.bus.medium.join(Arc::clone(&self.subscription)).await
    }

    /// Disarms the guard: the subscription lasts until [`Bus::leave`].
    pub(crate) fn keep(mut self) {
        self.is_kept = true;
    }
}

impl Drop for SubscriptionGuard {
    fn drop(&mut self) {
        if !self.is_kept {
            self.bus.leave(&self.subscription);
        }
    }
}
