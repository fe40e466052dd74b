//! The subscriptions of one vibrator.

use std::collections::HashMap;
use std::sync::Arc;

use crate::channel::Pattern;
use crate::medium::JoinError;
use crate::router::Subscription;

/// The maximum number of subscriptions of a vibrator. All of them may match one channel, and the first emit to it looks at each.
const MAX_SUBSCRIPTIONS: usize = 16_384;

/// The patterns that a vibrator is tuned to. Leaving one over a network looks at all of them once.
#[derive(Debug, Default)]
pub(super) struct Tuned {
    /// Those without and those with a group.
    by_pattern: HashMap<Pattern, Vec<Arc<Subscription>>>,
    /// The number of all of them.
    count: usize,
}

/// The result of leaving a pattern.
#[derive(Debug, Default)]
pub(super) struct Detuned {
    /// Subscriptions that stay because younger ones depend on them.
    pub(super) muted: Vec<Arc<Subscription>>,
    /// Subscriptions that are no longer needed. Some may be of other patterns.
    pub(super) gone: Vec<Arc<Subscription>>,
}

fn is_alone(subscription: &Subscription) -> bool {
    subscription.group().is_none()
}

impl Tuned {
    pub(super) fn find(&self, pattern: &Pattern, group: Option<&str>) -> Option<Arc<Subscription>> {
        self.by_pattern.get(pattern)?.iter().find(|other| other.group() == group).cloned()
    }

    /// Fails if there is no room for another subscription.
    pub(super) fn check_room(&self) -> Result<(), JoinError> {
        match self.count {
            MAX_SUBSCRIPTIONS.. => Err(JoinError::TooManyPatterns { most: MAX_SUBSCRIPTIONS }),
            _ => Ok(()),
        }
    }

    /// Enters a subscription. If the same one was made twice at the same time, hands back the one that is not needed.
    /// Fails if others have taken the room meanwhile.
    pub(super) fn insert(&mut self, new: Arc<Subscription>) -> Result<Option<Arc<Subscription>>, JoinError> {
        if self.find(new.pattern(), new.group()).is_none() {
            self.check_room()?;
        }
        let same = self.by_pattern.entry(new.pattern().clone()).or_default();
        match same.iter_mut().find(|other| other.group() == new.group()) {
            // The older one stays.
            Some(other) if other.id() <= new.id() => Ok(Some(new)),
            Some(other) => Ok(Some(std::mem::replace(other, new))),
            None => {
                same.push(new);
                self.count += 1;
                Ok(None)
            }
        }
    }

    /// Whether a subscription is still there.
    pub(super) fn has(&self, subscription: &Subscription) -> bool {
        let same = self.by_pattern.get(subscription.pattern());
        same.is_some_and(|all| all.iter().any(|other| other.id() == subscription.id()))
    }

    /// Leaves a pattern, in all groups. Over a network an old subscription may stand in for younger ones: one on which a
    /// younger one depends stays as long as that is so.
    pub(super) fn detune(&mut self, pattern: &Pattern, crosses: bool) -> Detuned {
        let mut detuned = Detuned::default();
        let Some(all) = self.by_pattern.remove(pattern) else { return detuned };
        self.count -= all.len();
        for left in all {
            if left.is_muted() {
                self.keep(left);
            } else if crosses && is_alone(&left) {
                let needless: Vec<_> = self.muted_for(&left).cloned().collect();
                needless.iter().for_each(|needless| self.forget(needless));
                detuned.gone.extend(needless);
                if self.has_younger(&left) {
                    detuned.muted.push(Arc::clone(&left));
                    self.keep(left);
                } else {
                    detuned.gone.push(left);
                }
            } else {
                detuned.gone.push(left);
            }
        }
        detuned
    }

    fn keep(&mut self, subscription: Arc<Subscription>) {
        self.count += 1;
        self.by_pattern.entry(subscription.pattern().clone()).or_default().push(subscription);
    }

    /// Whether a younger subscription is heard that shares channels with this one.
    fn has_younger(&self, one: &Subscription) -> bool {
        self.overlapping(one).any(|other| !other.is_muted() && other.id() > one.id())
    }

    /// The muted subscriptions that only this one depends on.
    fn muted_for<'a>(&'a self, one: &'a Subscription) -> impl Iterator<Item = &'a Arc<Subscription>> {
        let muted = self.overlapping(one).filter(|other| other.is_muted() && other.id() < one.id());
        muted.filter(|muted| !self.has_younger(muted))
    }

    /// The subscriptions without a group that share channels with this one.
    fn overlapping<'a>(&'a self, one: &'a Subscription) -> impl Iterator<Item = &'a Arc<Subscription>> {
        let all = self.by_pattern.iter().filter(|(pattern, _)| pattern.overlaps(one.pattern()));
        all.flat_map(|(_, all)| all).filter(|other| is_alone(other))
    }

    /// Forgets a subscription that rules have ended, or that is not needed.
    pub(super) fn forget(&mut self, ended: &Subscription) {
        let Some(all) = self.by_pattern.get_mut(ended.pattern()) else { return };
        let before = all.len();
        all.retain(|other| other.id() != ended.id());
        self.count -= before - all.len();
        if all.is_empty() {
            self.by_pattern.remove(ended.pattern());
        }
    }

    /// All subscriptions.
    pub(super) fn into_all(self) -> impl Iterator<Item = Arc<Subscription>> {
        self.by_pattern.into_values().flatten()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::inbox::{Inbox, InboxOptions};
    use crate::router::{Listener, Router};
    use crate::source::{Sequencer, Source};

    #[test]
    fn joins_that_pass_the_check_together_find_no_room_in_the_end() {
        let (router, inbox) = (Router::new(), Arc::new(Inbox::new(InboxOptions::default()).unwrap()));
        let subscribe = |number: usize| {
            let sequencer = Arc::new(Sequencer::new(Source::framework()));
            let listener = Listener { sequencer, hears_own: false, observes: false, relabel: None };
            let pattern = Pattern::new(format!("a.{number}")).unwrap();
            router.subscribe(pattern, None, Arc::clone(&inbox), listener)
        };
        let mut tuned = Tuned::default();
        let joining: Vec<_> =
            (0..=MAX_SUBSCRIPTIONS).map(|number| (tuned.check_room(), subscribe(number))).collect();
        assert!(joining.iter().all(|(checked, _)| checked.is_ok()));
        let refused =
            |joined: &Result<_, _>| matches!(joined, Err(JoinError::TooManyPatterns { most: 16_384 }));
        let entered: Vec<_> = joining.into_iter().map(|(_, new)| tuned.insert(new)).collect();
        assert!(
            entered[..MAX_SUBSCRIPTIONS].iter().all(Result::is_ok) && refused(&entered[MAX_SUBSCRIPTIONS])
        );
        assert!(tuned.find(&Pattern::new("a.16384").unwrap(), None).is_none());
        // Another one of a pattern that is there needs no room, and one that leaves makes some.
        assert!(tuned.insert(subscribe(0)).is_ok());
        tuned.detune(&Pattern::new("a.1").unwrap(), true);
        assert!(tuned.insert(subscribe(1)).is_ok() && refused(&tuned.insert(subscribe(20_000))));
    }
}
