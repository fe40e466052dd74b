//! The patterns of all subscriptions as a tree of tokens.
//!
//! Looked at only when the route of a channel is not in the router's cache.

use std::collections::HashMap;
use std::sync::Arc;

use super::Subscription;
use crate::channel::Channel;

/// One token deep in the tree.
#[derive(Default)]
pub(super) struct Trie {
    literal: HashMap<Box<str>, Trie>,
    one: Option<Box<Trie>>,
    /// Subscriptions whose pattern ends here.
    here: Vec<Arc<Subscription>>,
    /// Subscriptions whose pattern goes on with `>`.
    rest: Vec<Arc<Subscription>>,
}

impl Trie {
    pub(super) fn insert(&mut self, subscription: Arc<Subscription>) {
        let pattern = subscription.pattern.clone();
        let mut node = self;
        for token in pattern.tokens() {
            match token {
                ">" => {
                    node.rest.push(subscription);
                    return;
                }
                "*" => node = node.one.get_or_insert_default(),
                token => node = node.literal.entry(token.into()).or_default(),
            }
        }
        node.here.push(subscription);
    }

    /// Removes a subscription and the branches that it leaves empty.
    pub(super) fn remove(&mut self, subscription: &Subscription) {
        let tokens: Vec<&str> = subscription.pattern.tokens().collect();
        self.remove_below(&tokens, subscription.id);
    }

    fn remove_below(&mut self, tokens: &[&str], id: u64) {
        match tokens {
            [] => self.here.retain(|subscription| subscription.id != id),
            [">"] => self.rest.retain(|subscription| subscription.id != id),
            ["*", tokens @ ..] => {
                if let Some(child) = &mut self.one {
                    child.remove_below(tokens, id);
                    if child.is_empty() {
                        self.one = None;
                    }
                }
            }
            [token, tokens @ ..] => {
                if let Some(child) = self.literal.get_mut(*token) {
                    child.remove_below(tokens, id);
                    if child.is_empty() {
                        self.literal.remove(*token);
                    }
                }
            }
        }
    }

    fn is_empty(&self) -> bool {
        self.literal.is_empty() && self.one.is_none() && self.here.is_empty() && self.rest.is_empty()
    }

    /// All subscriptions that hear a channel, in no particular order.
    pub(super) fn matching(&self, channel: &Channel) -> Vec<Arc<Subscription>> {
        let tokens: Vec<&str> = channel.tokens().collect();
        let mut found = Vec::new();
        if channel.is_reserved() {
            // Wildcards in first place do not hear the framework's own channels.
            if let Some(child) = tokens.first().and_then(|first| self.literal.get(*first)) {
                child.collect(&tokens[1..], &mut found);
            }
        } else {
            self.collect(&tokens, &mut found);
        }
        found
    }

    /// At most 16 tokens deep, and two branches a token: bounded by the names' limits.
    fn collect(&self, tokens: &[&str], found: &mut Vec<Arc<Subscription>>) {
        let [first, tokens @ ..] = tokens else {
            found.extend(self.here.iter().cloned());
            return;
        };
        found.extend(self.rest.iter().cloned());
        if let Some(child) = self.literal.get(*first) {
            child.collect(tokens, found);
        }
        if let Some(child) = &self.one {
            child.collect(tokens, found);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::channel::Pattern;
    use crate::inbox::{Inbox, InboxOptions};
    use crate::source::{Sequencer, Source};
    use proptest::prelude::*;

    fn subscription(id: u64, pattern: &str) -> Arc<Subscription> {
        Arc::new(Subscription {
            id,
            pattern: Pattern::new(pattern).unwrap(),
            group: None,
            inbox: Arc::new(Inbox::new(InboxOptions::default()).unwrap()),
            sequencer: Arc::new(Sequencer::new(Source::framework())),
            hears_own: false,
            muted: false.into(),
            #[cfg(feature = "nats")]
            in_force: Default::default(),
            observes: false,
            tuned: None,
        })
    }

    fn any_name(wild: bool) -> impl Strategy<Value = String> {
        let tokens = if wild {
            prop::sample::select(vec!["a", "b", "*", "*"]).boxed()
        } else {
            prop::sample::select(vec!["a", "b", "c", "_aether"]).boxed()
        };
        (prop::collection::vec(tokens, 1..5), any::<bool>())
            .prop_map(move |(tokens, rest)| tokens.join(".") + if wild && rest { ".>" } else { "" })
    }

    proptest! {
        #[test]
        fn finds_exactly_the_patterns_that_match(
            patterns in prop::collection::vec(any_name(true), 0..20),
            channels in prop::collection::vec(any_name(false), 0..20),
            removed in prop::collection::vec(any::<prop::sample::Index>(), 0..5),
        ) {
            let mut all: Vec<_> = patterns.iter().enumerate().map(|(id, p)| subscription(id as u64, p)).collect();
            let mut trie = Trie::default();
            all.iter().for_each(|s| trie.insert(s.clone()));
            for index in removed {
                if !all.is_empty() {
                    trie.remove(&all.remove(index.index(all.len())));
                }
            }
            for name in channels {
                let channel = Channel::with_reserved(&name).unwrap();
                let mut found: Vec<_> = trie.matching(&channel).iter().map(|s| s.id).collect();
                found.sort_unstable();
                let expected: Vec<_> = all.iter().filter(|s| s.pattern.matches(&channel)).map(|s| s.id).collect();
                prop_assert_eq!(found, expected, "{}", name);
            }
            all.iter().for_each(|s| trie.remove(s));
            prop_assert!(trie.is_empty());
        }
    }
}
