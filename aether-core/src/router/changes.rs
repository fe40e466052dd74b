//! The patterns of the latest changes of the table.
//!
//! A route stays valid through changes of patterns that do not match its channel. That is found here, at a cost that depends on the
//! number of changes and not on the number of patterns that match the channel.

use std::collections::VecDeque;

use crate::channel::{Channel, Pattern};

/// The number of changes that are remembered. To compare a channel with all of them takes some microseconds.
pub(super) const REMEMBERED: u64 = 256;

/// Counts the changes, and remembers the latest.
#[derive(Default)]
pub(super) struct Changes {
    count: u64,
    latest: VecDeque<Pattern>,
}

impl Changes {
    pub(super) fn count(&self) -> u64 {
        self.count
    }

    pub(super) fn note(&mut self, pattern: &Pattern) {
        self.count += 1;
        self.latest.push_front(pattern.clone());
        self.latest.truncate(REMEMBERED as usize);
    }

    /// Whether no change after this many concerns the channel. `false` if too many have come to know.
    pub(super) fn leave_alone(&self, channel: &Channel, since: u64) -> bool {
        let newer = usize::try_from(self.count.saturating_sub(since)).unwrap_or(usize::MAX);
        newer <= self.latest.len() && self.latest.iter().take(newer).all(|pattern| !pattern.matches(channel))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_channel_is_left_alone_until_a_change_matches_it_or_too_many_have_come() {
        let channel = Channel::new("a.b").unwrap();
        let mut changes = Changes::default();
        let change = |changes: &mut Changes, pattern: &str| changes.note(&Pattern::new(pattern).unwrap());
        assert!(changes.leave_alone(&channel, 0));
        for _ in 0..REMEMBERED {
            change(&mut changes, "b.*");
        }
        assert!(changes.leave_alone(&channel, 0));
        change(&mut changes, "b.*");
        assert!(!changes.leave_alone(&channel, 0) && changes.leave_alone(&channel, 1));
        change(&mut changes, "a.>");
        change(&mut changes, "c");
        let count = changes.count();
        assert!(!changes.leave_alone(&channel, count - 2) && changes.leave_alone(&channel, count - 1));
        assert_eq!(changes.latest.len() as u64, REMEMBERED);
    }
}
