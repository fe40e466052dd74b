//! Rights: the names of fields and the channels of waves that somebody may use.

use aether_core::{Channel, Pattern};
use aether_field::Names;

/// The names that a client may read, and those that it may write.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Rights {
    pub(crate) read: Vec<Names>,
    pub(crate) write: Vec<Names>,
}

impl Rights {
    /// Everything.
    pub(crate) fn all() -> Self {
        Self { read: vec![Names::of("*")], write: vec![Names::of("*")] }
    }

    pub(crate) fn may_read(&self, name: &str) -> bool {
        self.read.iter().any(|names| names.has(name))
    }

    pub(crate) fn may_write(&self, name: &str) -> bool {
        self.write.iter().any(|names| names.has(name))
    }

    /// The names that a participant with these rights is about, by default: the names that it may read, or else write.
    /// `None` without a right to write, which a participant needs: others see its value.
    pub(crate) fn of_participant(&self) -> Option<Vec<Names>> {
        let about = if self.read.is_empty() { &self.write } else { &self.read };
        (!self.write.is_empty()).then(|| about.clone())
    }

    /// The part of these names that may be read or written; `None` if it is none.
    pub(crate) fn shared(&self, wanted: &[Names]) -> Option<Vec<Names>> {
        let all = wanted
            .iter()
            .flat_map(|wanted| self.read.iter().chain(&self.write).filter_map(|allowed| wanted.and(allowed)));
        let all: Vec<_> = all.collect();
        (!all.is_empty()).then_some(all)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.read.is_empty() && self.write.is_empty()
    }

    /// Adds the rights of the same holder.
    pub(super) fn add(&mut self, more: &Self) {
        self.read.extend(more.read.iter().cloned());
        self.write.extend(more.write.iter().cloned());
    }

    /// The part of the names that may be read, without names that others of the result include.
    pub(crate) fn readable(&self, wanted: &[Names]) -> Vec<Names> {
        let mut readable: Vec<Names> = Vec::new();
        let all = wanted.iter().flat_map(|wanted| self.read.iter().filter_map(|read| wanted.and(read)));
        for names in all {
            if readable.iter().any(|known| known.and(&names).as_ref() == Some(&names)) {
                continue;
            }
            readable.retain(|known| names.and(known).as_ref() != Some(known));
            readable.push(names);
        }
        readable
    }
}

/// The channels that a client may hear through a gateway, and those on which it may emit.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct WaveRights {
    pub(crate) hear: Vec<Pattern>,
    pub(crate) emit: Vec<Pattern>,
}

impl WaveRights {
    /// Everything.
    pub(crate) fn all() -> Self {
        Self { hear: vec![Pattern::everything()], emit: vec![Pattern::everything()] }
    }

    pub(crate) fn may_hear(&self, channel: &Channel) -> bool {
        self.hear.iter().any(|pattern| pattern.matches(channel))
    }

    /// Whether every channel of a pattern may be heard.
    pub(crate) fn may_hear_all(&self, pattern: &Pattern) -> bool {
        self.hear.iter().any(|allowed| allowed.covers(pattern))
    }

    pub(crate) fn may_emit(&self, channel: &Channel) -> bool {
        self.emit.iter().any(|pattern| pattern.matches(channel))
    }

    pub(super) fn is_empty(&self) -> bool {
        self.hear.is_empty() && self.emit.is_empty()
    }

    /// Adds the rights of the same holder.
    pub(super) fn add(&mut self, more: &Self) {
        self.hear.extend(more.hear.iter().cloned());
        self.emit.extend(more.emit.iter().cloned());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(patterns: &[&str]) -> Vec<Names> {
        patterns.iter().map(|pattern| Names::of(pattern)).collect()
    }

    #[test]
    fn the_readable_part_of_a_subscription_is_the_narrower_of_both() {
        let rights = Rights { read: names(&["room/7/*", "lamp"]), write: vec![] };
        assert_eq!(rights.readable(&names(&["*"])), names(&["room/7/*", "lamp"]));
        assert_eq!(rights.readable(&names(&["room/7/a", "room/7/*", "room/7/b*"])), names(&["room/7/*"]));
        assert_eq!(rights.readable(&names(&["room/*", "lamps"])), names(&["room/7/*"]));
        assert_eq!(rights.readable(&names(&["room/8/*", "room/7"])), []);
    }
}
