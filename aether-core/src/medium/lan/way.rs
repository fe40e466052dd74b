//! What is on its way to a peer: waves that it has not confirmed.

use std::collections::VecDeque;

/// The waves that were sent to a peer and that it has not confirmed. It confirms them by answering the ping behind them.
#[derive(Debug, Default)]
pub(super) struct Way {
    /// Behind the last ping.
    unpinged: u64,
    /// The pings, each with the waves in front of it. As many as the window of the peer allows.
    pinged: VecDeque<(u64, u64)>,
}

impl Way {
    pub(super) fn sent(&mut self, waves: u64) {
        self.unpinged += waves;
    }

    pub(super) fn pinged(&mut self, number: u64) {
        let waves = std::mem::take(&mut self.unpinged);
        if waves > 0 {
            self.pinged.push_back((number, waves));
        }
    }

    /// A ping is answered, and so are those before it.
    pub(super) fn answered(&mut self, number: u64) {
        while self.pinged.pop_front_if(|(pinged, _)| *pinged <= number).is_some() {}
    }

    pub(super) fn waves(&self) -> u64 {
        self.unpinged + self.pinged.iter().map(|(_, waves)| waves).sum::<u64>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_confirms_what_was_sent_before_its_ping_and_nothing_else() {
        let mut way = Way::default();
        way.sent(3);
        way.pinged(7);
        way.pinged(8);
        way.sent(2);
        way.sent(2);
        way.pinged(9);
        way.sent(1);
        assert_eq!((way.waves(), way.pinged.len()), (8, 2));
        way.answered(6);
        assert_eq!(way.waves(), 8);
        way.answered(8);
        assert_eq!(way.waves(), 5);
        way.answered(9);
        way.answered(9);
        assert_eq!((way.waves(), way.pinged.len()), (1, 0));
    }
}
