//! The subscriptions of one vibrator, indexed by pattern: joining and detuning look only at patterns that overlap.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use crate::channel::Pattern;
use crate::medium::JoinError;
use crate::router::Subscription;

/// The maximum number of subscriptions of a vibrator. All of them may match one channel, and the first emit to it looks at each.
const MAX_SUBSCRIPTIONS: usize = 16_384;

/// The patterns that a vibrator is tuned to.
#[derive(Debug, Default)]
pub(super) struct Tuned {
    /// Those without and those with a group.
    by_pattern: HashMap<Pattern, Vec<Arc<Subscription>>>,
    /// The number of all of them.
    count: usize,
    /// Used over a network only, where an old subscription may stand in for younger ones.
    alone: Option<Box<Alone>>,
}

/// The subscriptions without a group: those that are heard and those that are muted.
#[derive(Debug, Default)]
struct Alone {
    heard: Overlaps,
    muted: Overlaps,
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
    pub(super) fn insert(
        &mut self,
        new: Arc<Subscription>,
        crosses: bool,
    ) -> Result<Option<Arc<Subscription>>, JoinError> {
        if self.find(new.pattern(), new.group()).is_none() {
            self.check_room()?;
        }
        let same = self.by_pattern.entry(new.pattern().clone()).or_default();
        let is_same = |other: &&mut Arc<Subscription>| other.group() == new.group();
        match same.iter_mut().find(is_same) {
            // The older one stays.
            Some(other) if other.id() <= new.id() => return Ok(Some(new)),
            Some(other) => {
                let younger = std::mem::replace(other, Arc::clone(&new));
                if let Some(alone) = self.alone.as_mut().filter(|_| is_alone(&new)) {
                    alone.heard.remove(younger.pattern(), younger.id());
                    alone.heard.insert(new.pattern(), new.id());
                }
                return Ok(Some(younger));
            }
            None => {
                same.push(Arc::clone(&new));
                self.count += 1;
            }
        }
        if crosses && is_alone(&new) {
            self.alone.get_or_insert_default().heard.insert(new.pattern(), new.id());
        }
        Ok(None)
    }

    /// Marks a muted subscription as heard again. Returns whether it is still there.
    pub(super) fn unmute(&mut self, subscription: &Arc<Subscription>) -> bool {
        let (pattern, id) = (subscription.pattern(), subscription.id());
        let is_there =
            self.by_pattern.get(pattern).is_some_and(|all| all.iter().any(|other| other.id() == id));
        if let Some(alone) = self.alone.as_mut().filter(|_| is_there) {
            alone.muted.remove(pattern, id);
            alone.heard.insert(pattern, id);
        }
        is_there
    }

    /// Forgets a subscription that rules have ended.
    pub(super) fn forget(&mut self, ended: &Subscription) {
        self.take(ended.pattern(), ended.id());
        if let Some(alone) = &mut self.alone {
            alone.heard.remove(ended.pattern(), ended.id());
            alone.muted.remove(ended.pattern(), ended.id());
        }
    }

    /// Leaves a pattern, in all groups. A subscription on which a younger one depends stays as long as that is so.
    pub(super) fn detune(&mut self, pattern: &Pattern) -> Detuned {
        let mut detuned = Detuned::default();
        let Some(all) = self.by_pattern.remove(pattern) else { return detuned };
        self.count -= all.len();
        let mut stays = Vec::new();
        let mut needless = Vec::new();
        for left in all {
            let id = left.id();
            if left.is_muted() {
                stays.push(left);
            } else if let Some(alone) = self.alone.as_mut().filter(|_| is_alone(&left)) {
                alone.heard.remove(pattern, id);
                if alone.heard.has_younger(pattern, id) {
                    alone.muted.insert(pattern, id);
                    detuned.muted.push(Arc::clone(&left));
                    stays.push(left);
                } else {
                    detuned.gone.push(left);
                }
                for (older, text) in alone.muted.older(pattern, id) {
                    if !alone.heard.has_younger(&text, older) {
                        alone.muted.remove(&text, older);
                        needless.push((older, text));
                    }
                }
            } else {
                detuned.gone.push(left);
            }
        }
        self.count += stays.len();
        if !stays.is_empty() {
            self.by_pattern.insert(pattern.clone(), stays);
        }
        detuned.gone.extend(needless.into_iter().filter_map(|(id, text)| self.take(&text, id)));
        detuned
    }

    fn take(&mut self, pattern: &Pattern, id: u64) -> Option<Arc<Subscription>> {
        let all = self.by_pattern.get_mut(pattern)?;
        let place = all.iter().position(|other| other.id() == id)?;
        let taken = all.swap_remove(place);
        self.count -= 1;
        if all.is_empty() {
            self.by_pattern.remove(pattern);
        }
        Some(taken)
    }

    /// All subscriptions.
    pub(super) fn into_all(self) -> impl Iterator<Item = Arc<Subscription>> {
        self.by_pattern.into_values().flatten()
    }
}

/// Numbered patterns in a tree of tokens, to find those that overlap with another pattern.
#[derive(Debug, Default)]
struct Overlaps {
    root: OverlapNode,
    patterns: HashMap<u64, Pattern>,
}

/// One node of the tree: the patterns that agree up to here.
#[derive(Debug, Default)]
struct OverlapNode {
    children: HashMap<Box<str>, OverlapNode>,
    /// The numbers of all patterns at or below this node.
    all: BTreeSet<u64>,
    /// The numbers of the pattern that ends here, and of the one that continues with `>`.
    here: BTreeSet<u64>,
    rest: BTreeSet<u64>,
}

impl Overlaps {
    fn insert(&mut self, pattern: &Pattern, id: u64) {
        self.patterns.insert(id, pattern.clone());
        let mut node = &mut self.root;
        node.all.insert(id);
        for token in pattern.tokens() {
            if token == ">" {
                node.rest.insert(id);
                return;
            }
            node = node.children.entry(token.into()).or_default();
            node.all.insert(id);
        }
        node.here.insert(id);
    }

    fn remove(&mut self, pattern: &Pattern, id: u64) {
        if self.patterns.remove(&id).is_some() {
            let tokens: Vec<&str> = pattern.tokens().collect();
            self.root.remove(&tokens, id);
        }
    }

    /// Whether a pattern with a higher number overlaps with this one.
    fn has_younger(&self, pattern: &Pattern, id: u64) -> bool {
        let tokens: Vec<&str> = pattern.tokens().collect();
        self.root.meet(&tokens, &mut |ids| ids.last().is_some_and(|last| *last > id), &mut |_| true)
    }

    /// The patterns with lower numbers that overlap with this one.
    fn older(&self, pattern: &Pattern, id: u64) -> Vec<(u64, Pattern)> {
        let tokens: Vec<&str> = pattern.tokens().collect();
        let mut found = Vec::new();
        let is_older = &mut |ids: &BTreeSet<u64>| ids.first().is_some_and(|first| *first < id);
        self.root.meet(&tokens, is_older, &mut |ids| {
            found.extend(
                ids.range(..id).filter_map(|older| Some((*older, self.patterns.get(older)?.clone()))),
            );
            false
        });
        found
    }
}

impl OverlapNode {
    fn remove(&mut self, tokens: &[&str], id: u64) {
        self.all.remove(&id);
        match tokens {
            [] => drop(self.here.remove(&id)),
            [">"] => drop(self.rest.remove(&id)),
            [token, tokens @ ..] => {
                if let Some(child) = self.children.get_mut(*token) {
                    child.remove(tokens, id);
                    if child.all.is_empty() {
                        self.children.remove(*token);
                    }
                }
            }
        }
    }

    /// Finds the patterns below this node that overlap with the remaining tokens of a pattern. Passes their numbers to
    /// `take`, but skips numbers for which `may` returns false. Stops when `take` returns true, and returns whether it did.
    fn meet(
        &self,
        tokens: &[&str],
        may: &mut impl FnMut(&BTreeSet<u64>) -> bool,
        take: &mut impl FnMut(&BTreeSet<u64>) -> bool,
    ) -> bool {
        if !may(&self.all) {
            return false;
        }
        let Some((first, tokens)) = tokens.split_first() else { return may(&self.here) && take(&self.here) };
        if may(&self.rest) && take(&self.rest) {
            return true;
        }
        match *first {
            ">" => self.children.values().any(|child| may(&child.all) && take(&child.all)),
            "*" => self.children.values().any(|child| child.meet(tokens, may, take)),
            first => [first, "*"]
                .into_iter()
                .any(|token| self.children.get(token).is_some_and(|child| child.meet(tokens, may, take))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::inbox::{Inbox, InboxOptions};
    use crate::router::{Listener, Router};
    use crate::source::{Sequencer, Source};
    use proptest::prelude::*;

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
        let entered: Vec<_> = joining.into_iter().map(|(_, new)| tuned.insert(new, true)).collect();
        assert!(
            entered[..MAX_SUBSCRIPTIONS].iter().all(Result::is_ok) && refused(&entered[MAX_SUBSCRIPTIONS])
        );
        assert!(tuned.find(&Pattern::new("a.16384").unwrap(), None).is_none());
        // Another one of a pattern that is there needs no room, and one that leaves makes some.
        assert!(tuned.insert(subscribe(0), true).is_ok());
        tuned.detune(&Pattern::new("a.1").unwrap());
        assert!(tuned.insert(subscribe(1), true).is_ok() && refused(&tuned.insert(subscribe(20_000), true)));
    }

    proptest! {
        #[test]
        fn finds_the_patterns_that_overlap(
            texts in prop::collection::vec(prop::sample::select(vec![
                "a", "b", "*.a", "a.*", "a.>", "a.b", "*.*", "a.b.c", "a.*.c", "*.b.>", "b.>", ">", "b.a.*.d",
            ]), 1..24),
            removed in prop::collection::vec(any::<prop::sample::Index>(), 0..8),
            asked in 0..26_u64,
        ) {
            let mut all: Vec<(u64, Pattern)> =
                texts.iter().zip(1..).map(|(text, id)| (id, Pattern::new(text).unwrap())).collect();
            let mut overlaps = Overlaps::default();
            all.iter().for_each(|(id, pattern)| overlaps.insert(pattern, *id));
            for index in removed {
                if all.len() > 1 {
                    let (id, pattern) = all.remove(index.index(all.len()));
                    overlaps.remove(&pattern, id);
                }
            }
            for text in ["a", "a.b", "*", "*.b", "a.>", ">", "b.a.x.d", "*.*.c"] {
                let pattern = Pattern::new(text).unwrap();
                let meets = |(_, other): &&(u64, Pattern)| other.overlaps(&pattern);
                let younger = all.iter().filter(meets).any(|(id, _)| *id > asked);
                prop_assert_eq!(overlaps.has_younger(&pattern, asked), younger, "{} after {}", text, asked);
                let mut older: Vec<_> = overlaps.older(&pattern, asked).into_iter().map(|(id, _)| id).collect();
                older.sort_unstable();
                let expected: Vec<_> = all.iter().filter(meets).map(|(id, _)| *id).filter(|id| *id < asked).collect();
                prop_assert_eq!(older, expected, "{} before {}", text, asked);
            }
            all.iter().for_each(|(id, pattern)| overlaps.remove(pattern, *id));
            prop_assert!(overlaps.root.all.is_empty() && overlaps.root.children.is_empty());
        }
    }
}
