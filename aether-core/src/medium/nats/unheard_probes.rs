//! Whether anybody hears what is emitted: waves whose source is told if nobody does, until the server has spoken.
//!
//! An inquiry goes ahead of the waves, to where those subscribe who could answer, with a reply subject of its own. The
//! server says there at once that nobody hears it (status 503), and otherwise nothing. It handles what one client sends in
//! order: when the marker behind an inquiry is back and that word has not come, somebody hears. Kept by
//! [`Link`](super::link::Link), which has both; does no I/O.

use std::collections::VecDeque;

use async_nats::{Message, StatusCode};

use super::tokens::Tokens;
use crate::wave::Wave;

/// The number of an inquiry of which the server says that nobody hears it. Its reply subject ends with that number and
/// its token; `Some(None)` if they are not ours, so that it is not the server that says so.
pub(super) fn unheard(word: &Message, tokens: &Tokens) -> Option<Option<u64>> {
    let is_unheard = word.status == Some(StatusCode::NO_RESPONDERS);
    is_unheard.then(|| tokens.read(word.subject.rsplit('.').next()?))
}

/// The inquiries of the sending task that are open.
#[derive(Debug, Default)]
pub(super) struct Inquiries {
    last: u64,
    /// Ascending. As many as there are batches under way and channels in them at most.
    open: VecDeque<(u64, Vec<Wave>)>,
}

impl Inquiries {
    /// Opens one about waves, and returns its number.
    pub(super) fn open(&mut self, waves: Vec<Wave>) -> u64 {
        self.last += 1;
        self.open.push_back((self.last, waves));
        self.last
    }

    /// The number of the latest.
    pub(super) const fn last(&self) -> u64 {
        self.last
    }

    /// Closes one of which the server has said that nobody hears it. What it was about; nothing if it is closed already.
    pub(super) fn take(&mut self, number: u64) -> Vec<Wave> {
        let place = self.open.binary_search_by_key(&number, |(open, _)| *open);
        place.ok().and_then(|place| self.open.remove(place)).map(|(_, waves)| waves).unwrap_or_default()
    }

    /// Closes all up to a number: somebody hears them, as the server has said nothing else.
    pub(super) fn close(&mut self, number: u64) {
        while self.open.pop_front_if(|(open, _)| *open <= number).is_some() {}
    }

    /// Closes all: the server's word will not come any more.
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
        assert!(inquiries.take(2).is_empty(), "it is over");
        inquiries.close(3);
        assert!(inquiries.take(1).is_empty() && inquiries.take(3).is_empty(), "somebody hears them");
        assert_eq!(texts(&inquiries.take(4)), ["5"]);
        let lost = inquiries.open(waves(&["6"]));
        inquiries.clear();
        assert!(inquiries.take(lost).is_empty() && inquiries.take(99).is_empty());
    }
}
