//! The subscriptions that have passed a border, and their end when other rules do not allow them.

use std::collections::BTreeMap;
use std::sync::{Arc, Weak};

use parking_lot::Mutex;

use crate::border::Border;
use crate::refusal::Refusal;
use aether_core::JoinError;
use aether_core::medium::{Medium, OnRevoked, Router, Subscription};

pub(super) struct Joined {
    border: Border,
    inner: Arc<dyn Medium>,
    router: Arc<Router>,
    on_revoked: OnRevoked,
    /// By their ids. As many as the vibrators of this process have.
    subscriptions: Mutex<BTreeMap<u64, Weak<Subscription>>>,
}

impl Joined {
    pub(super) fn new(
        border: Border,
        inner: Arc<dyn Medium>,
        router: Arc<Router>,
        on_revoked: OnRevoked,
    ) -> Self {
        Self { border, inner, router, on_revoked, subscriptions: Mutex::default() }
    }

    pub(super) async fn join(&self, subscription: Arc<Subscription>) -> Result<(), JoinError> {
        let not_allowed = |refusal: Refusal| JoinError::NotAllowed(Box::new(refusal.into()));
        let (name, pattern, id) = (subscription.name(), subscription.pattern(), subscription.id());
        // Entered first: rules that change from now on see it.
        self.subscriptions.lock().insert(id, Arc::downgrade(&subscription));
        if let Err(refusal) = self.border.may_listen(name, pattern) {
            self.forget(id);
            return Err(not_allowed(refusal));
        }
        let joined = self.inner.join(Arc::clone(&subscription)).await;
        if joined.is_err() {
            self.forget(id);
        }
        if subscription.has_ended() {
            // The rules changed meanwhile, and the medium may have learnt of the end before it had the subscription.
            self.inner.leave(&subscription);
            self.border.still_allows(name, pattern).map_err(not_allowed)?;
            return Err(JoinError::Dropped);
        }
        joined
    }

    pub(super) fn forget(&self, subscription: u64) {
        self.subscriptions.lock().remove(&subscription);
    }

    /// Ends those that the rules do not allow any more.
    pub(super) fn look_again(&self) {
        let joined: Vec<_> = self.subscriptions.lock().values().filter_map(Weak::upgrade).collect();
        for subscription in joined {
            let (name, pattern) = (subscription.name(), subscription.pattern());
            let Err(refusal) = self.border.still_allows(name, pattern) else { continue };
            self.forget(subscription.id());
            if !subscription.end() {
                continue;
            }
            tracing::warn!(vibrator = name, %pattern, %refusal, "a subscription ends: the rules have changed");
            self.border.count_revoked();
            self.router.unsubscribe(&subscription);
            self.inner.leave(&subscription);
            (self.on_revoked)(&subscription);
        }
    }
}
