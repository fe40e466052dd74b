//! Rewrites of a rule, compiled: which channel becomes which.

use super::error::RulesError;
use super::rule::Rewrite;
use aether_core::wave::ChannelError;
use aether_core::{Channel, Pattern};

/// Makes channels of one prefix from the channels of another.
#[derive(Debug)]
pub(super) struct Rewriting {
    pub(super) from: Channel,
    pub(super) to: Channel,
}

/// The rest after a prefix of whole tokens, with its dot.
fn rest<'a>(channel: &'a str, prefix: &str) -> Option<&'a str> {
    channel.strip_prefix(prefix).filter(|rest| rest.is_empty() || rest.starts_with('.'))
}

/// Whether a channel can begin with both prefixes.
pub(super) fn meet(a: &Channel, b: &Channel) -> bool {
    rest(a.as_str(), b.as_str()).is_some() || rest(b.as_str(), a.as_str()).is_some()
}

impl Rewriting {
    pub(super) fn compile(rule: usize, Rewrite { from, to }: &Rewrite) -> Result<Self, RulesError> {
        let channel = |prefix: &String| {
            Channel::new(prefix).map_err(|source| RulesError::Prefix { rule, prefix: prefix.clone(), source })
        };
        Ok(Self { from: channel(from)?, to: channel(to)? })
    }

    /// The new name of a channel; `None` for one that stays.
    pub(super) fn of(&self, channel: &Channel) -> Option<Result<Channel, ChannelError>> {
        let rest = rest(channel.as_str(), self.from.as_str())?;
        Some(Channel::new([self.to.as_str(), rest].concat()))
    }

    /// Whether a grant is about any of the channels that it makes.
    pub(super) fn leads_to(&self, granted: &Pattern) -> bool {
        let below = Pattern::new(format!("{}.>", self.to));
        granted.matches(&self.to) || below.is_ok_and(|below| granted.overlaps(&below))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_is_of_whole_tokens() {
        let rewrite = Rewrite { from: "a.b".to_owned(), to: "x".to_owned() };
        let rewriting = Rewriting::compile(1, &rewrite).unwrap();
        for (channel, becomes) in
            [("a.b", Some("x")), ("a.b.c", Some("x.c")), ("a.bc", None), ("a", None), ("b.a.b", None)]
        {
            let made = rewriting.of(&Channel::new(channel).unwrap()).map(Result::unwrap);
            assert_eq!(made, becomes.map(|name| Channel::new(name).unwrap()));
        }
        assert!(
            rewriting.leads_to(&Pattern::new("*.c").unwrap()) && rewriting.leads_to(&Pattern::everything())
        );
        assert!(!rewriting.leads_to(&Pattern::new("a.>").unwrap()));
    }
}
