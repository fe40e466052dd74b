//! Matching the names of many records with one pattern.

use aether_core::Pattern;

/// A pattern, and whether it matched the channel that was asked for last.
#[derive(Debug)]
pub(crate) struct Matching {
    pattern: Pattern,
    last: (Vec<u8>, bool),
}

impl Matching {
    pub(crate) fn new(pattern: &Pattern) -> Self {
        Self { pattern: pattern.clone(), last: (Vec::new(), false) }
    }

    pub(crate) fn matches(&mut self, name: &[u8]) -> bool {
        if self.last.0 != name {
            let channel = std::str::from_utf8(name).ok().and_then(|name| name.parse().ok());
            let matches = channel.is_some_and(|channel| self.pattern.matches(&channel));
            self.last = (name.to_vec(), matches);
        }
        self.last.1
    }
}
