//! Detects emitted waves without receivers. It keeps the waves whose source is notified in that case until the server
//! has answered.
//!
//! An inquiry is sent ahead of the waves to the subject that potential responders subscribe to, with a reply subject of
//! its own. The server immediately replies there if the inquiry has no receiver (status 503), and otherwise does not
//! reply. It processes the messages of one client in order. If the marker behind an inquiry returns without that reply,
//! the inquiry has a receiver. [`Link`](super::link::Link) owns this table, because it has both. This module does no
//! I/O.

use std::collections::VecDeque;

use async_nats::{Message, StatusCode};

use super::tokens::Tokens;
use aether_core::Wave;

/// The number of an inquiry that, according to a server reply, has no receiver. The reply subject ends with that number
/// and its token. `Some(None)` if they are not ours, which means that the reply is not from the server.
pub(super) fn unheard(word: &Message, tokens: &Tokens) -> Option<Option<u64>> {
    let is_unheard = word.status == Some(StatusCode::NO_RESPONDERS);
    is_unheard.then(|| tokens.read(word.subject.rsplit('.').next()?))
}

/// The open inquiries of the sending task.
#[derive(Debug, Default)]
pub(super) struct Inquiries {
    last: u64,
    /// In ascending order. At most as many as there are batches in flight and channels in them.
    open: VecDeque<(u64, Vec<Wave>)>,
}

impl Inquiries {
    /// Opens an inquiry about waves, and returns its number.
    pub(super) fn open(&mut self, waves: Vec<Wave>) -> u64 {
        self.last += 1;
        self.open.push_back((self.last, waves));
        self.last
    }

    /// The number of the latest inquiry.
    pub(super) const fn last(&self) -> u64 {
        self.last
    }

    /// Closes an inquiry that, according to the server, has no receiver. Returns the waves it was about, or none if it
    /// is already closed.
    pub(super) fn take(&mut self, number: u64) -> Vec<Wave> {
        let place = self.open.binary_search_by_key(&number, |(open, _)| *open);
        place.ok().and_then(|place| self.open.remove(place)).map(|(_, waves)| waves).unwrap_or_default()
    }

    /// Closes all inquiries up to a number. They have receivers, because the server has not reported otherwise.
    pub(super) fn close(&mut self, number: u64) {
        while self.open.pop_front_if(|(open, _)| *open <= number).is_some() {}
    }

    /// Closes all inquiries, because the server's replies will not arrive any more.
    pub(super) fn clear(&mut self) {
        self.open.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn waves(texts: &[&str]) -> Vec<Wave> {
        texts.iter().map(|text| Wave::from_bytes("a", (*text).to_owned()).unwrap()).collect()
    }

    fn texts(waves: &[Wave]) -> Vec<&str> {
        waves.iter().map(|wave| wave.text().unwrap()).collect()
    }

    #[test]
    fn an_inquiry_ends_with_the_first_word_about_it() {
        let mut inquiries = Inquiries::default();
        let numbers = [&["1"][..], &["2", "3"], &["4"], &["5"]].map(|texts| inquiries.open(waves(texts)));
        assert_eq!((numbers, inquiries.last()), ([1, 2, 3, 4], 4));
        assert_eq!(texts(&inquiries.take(2)), ["2", "3"]);
        assert!(inquiries.take(2).is_empty(), "the inquiry is closed");
        inquiries.close(3);
        assert!(inquiries.take(1).is_empty() && inquiries.take(3).is_empty(), "the inquiries have receivers");
        assert_eq!(texts(&inquiries.take(4)), ["5"]);
        let lost = inquiries.open(waves(&["6"]));
        inquiries.clear();
        assert!(inquiries.take(lost).is_empty() && inquiries.take(99).is_empty());
    }
}
