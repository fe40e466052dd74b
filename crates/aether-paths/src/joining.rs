//! The subscriptions of this process, each on every path.
//!
//! Others may send by another path than this process, so a subscription is in force when it is so on every connected path.
//! The other paths follow when they stand again.

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::watch;

use aether_core::JoinError;
use aether_core::medium::{Medium, Subscription};

/// How far a subscription is on a path.
#[derive(Debug, Default)]
pub(super) enum Joining {
    #[default]
    NotBegun,
    Begun,
    Joined,
    Failed(JoinError),
}

/// A subscription on all paths.
#[derive(Debug)]
pub(super) struct JoinedPaths {
    subscription: Arc<Subscription>,
    /// One for each path.
    paths: Mutex<Vec<Joining>>,
    /// Changes with each path that has joined or failed.
    pub(super) progress: watch::Sender<u64>,
    has_left: watch::Sender<bool>,
}

impl JoinedPaths {
    /// Joins on a path, in the background, unless that has begun already.
    pub(super) fn begin(self: &Arc<Self>, path: usize, medium: &Arc<dyn Medium>) {
        match self.paths.lock().get_mut(path) {
            Some(joining @ Joining::NotBegun) => *joining = Joining::Begun,
            _ => return,
        }
        let (joined, medium) = (Arc::clone(self), Arc::clone(medium));
        tokio::spawn(async move {
            let mut left = joined.has_left.subscribe();
            let result = tokio::select! {
                biased;
                _ = left.wait_for(|left| *left) => Ok(()),
                result = medium.join(Arc::clone(&joined.subscription)) => result,
            };
            if *joined.has_left.borrow() {
                // It may have left while the medium was joining.
                medium.leave(&joined.subscription);
                return;
            }
            if let Err(error) = &result {
                let pattern = joined.subscription.pattern();
                tracing::warn!(path = path + 1, %pattern, %error, "a path does not take a subscription");
            }
            if let Some(joining) = joined.paths.lock().get_mut(path) {
                *joining = result.map_or_else(Joining::Failed, |()| Joining::Joined);
            }
            joined.progress.send_modify(|progress| *progress += 1);
        });
    }

    /// Whether it has joined on all of these paths.
    ///
    /// # Errors
    /// The error of the first path that has failed.
    pub(super) fn has_joined(&self, needed: impl Fn(usize) -> bool) -> Result<bool, JoinError> {
        let mut paths = self.paths.lock();
        for joining in &mut *paths {
            if let Joining::Failed(_) = joining
                && let Joining::Failed(error) = std::mem::take(joining)
            {
                return Err(error);
            }
        }
        let lacks = |(path, joining): (usize, &Joining)| needed(path) && !matches!(joining, Joining::Joined);
        Ok(!paths.iter().enumerate().any(lacks))
    }
}

/// All subscriptions of this process, by their ids.
#[derive(Debug, Default)]
pub(super) struct Subscriptions(Mutex<BTreeMap<u64, Arc<JoinedPaths>>>);

impl Subscriptions {
    /// A subscription that is joined again, because that failed or was cancelled, goes on where it was.
    pub(super) fn add(&self, subscription: Arc<Subscription>, paths: usize) -> Arc<JoinedPaths> {
        let mut all = self.0.lock();
        let joined = all.entry(subscription.id()).or_insert_with(|| {
            Arc::new(JoinedPaths {
                subscription,
                paths: Mutex::new((0..paths).map(|_| Joining::default()).collect()),
                progress: watch::Sender::new(0),
                has_left: watch::Sender::new(false),
            })
        });
        Arc::clone(joined)
    }

    /// Joins all of them on a path that is there now.
    pub(super) fn begin(&self, path: usize, medium: &Arc<dyn Medium>) {
        let all: Vec<_> = self.0.lock().values().map(Arc::clone).collect();
        all.iter().for_each(|joined| joined.begin(path, medium));
    }

    /// Ends all joins that are not done, which would keep their media.
    pub(super) fn end(&self) {
        for joined in std::mem::take(&mut *self.0.lock()).into_values() {
            joined.has_left.send_replace(true);
        }
    }

    /// Forgets a subscription. The media are to be told as well.
    pub(super) fn remove(&self, subscription: &Subscription) {
        if let Some(joined) = self.0.lock().remove(&subscription.id()) {
            joined.has_left.send_replace(true);
        }
    }
}
