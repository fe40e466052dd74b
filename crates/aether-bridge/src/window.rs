//! The window of identities: which waves a bridge has heard lately, on either side.
//!
//! A wave that comes directly from its source is always new, also if the source repeats it. One that another bridge has
//! relayed is new if it was not heard before. Bounded for whatever strangers send: the last 1024 numbers of each source, and
//! between 1024 and 2048 sources, the least recently heard of which are forgotten. A forgotten wave counts as new, because a
//! bridge that doubts must not lose it; its mark and its hops still end its way.

use std::collections::{HashMap, VecDeque};

use aether_core::{Source, Wave};

/// The numbers that are remembered of a source, 8 KiB.
const NUMBERS: usize = 1024;
/// The sources of one generation. There are two.
const SOURCES: usize = 1024;

/// Two generations of sources. Once the younger one is full it becomes the older one, whose sources are forgotten.
#[derive(Debug, Default)]
pub(super) struct Window {
    younger: HashMap<Source, Numbers>,
    older: HashMap<Source, Numbers>,
}

/// The numbers last heard, the oldest first.
#[derive(Debug, Default)]
struct Numbers(VecDeque<u64>);

impl Window {
    /// Remembers a wave. Returns whether it is to be relayed.
    pub(super) fn is_new(&mut self, wave: &Wave) -> bool {
        // Without an identity it cannot be told from others.
        if wave.sequence() == 0 {
            return true;
        }
        let numbers = self.numbers(wave.source());
        // Only relayed waves come by several ways, so others are not searched for.
        let is_known = wave.hops() > 0 && numbers.0.contains(&wave.sequence());
        if !is_known {
            if numbers.0.len() == NUMBERS {
                numbers.0.pop_front();
            }
            numbers.0.push_back(wave.sequence());
        }
        !is_known
    }

    fn numbers(&mut self, source: &Source) -> &mut Numbers {
        if !self.younger.contains_key(source) {
            if self.younger.len() == SOURCES {
                self.older = std::mem::take(&mut self.younger);
            }
            let known = self.older.remove(source).unwrap_or_default();
            self.younger.insert(source.clone(), known);
        }
        self.younger.entry(source.clone()).or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use aether_core::WaveId;
    use aether_core::clock::Moment;

    fn wave(source: &Source, sequence: u64, hops: u8) -> Wave {
        let id = WaveId { source: source.clone(), sequence };
        let wave = Wave::builder("a").build().unwrap().identified(id, None);
        (0..hops).fold(wave, |wave, _| wave.relayed(Moment::now()).unwrap())
    }

    #[test]
    fn a_relayed_wave_is_new_once_and_one_from_its_source_always() {
        let (mut window, source) = (Window::default(), Source::new("shop").unwrap());
        assert!(window.is_new(&wave(&source, 7, 0)) && window.is_new(&wave(&source, 7, 0)));
        assert!(!window.is_new(&wave(&source, 7, 1)) && window.is_new(&wave(&source, 8, 1)));
        assert!(!window.is_new(&wave(&source, 8, 2)));
        assert!(window.is_new(&wave(&Source::new("shop").unwrap(), 8, 2)), "another instance");
        let nameless = Wave::builder("a").build().unwrap().relayed(Moment::now()).unwrap();
        assert!(window.is_new(&nameless) && window.is_new(&nameless));
    }

    #[test]
    fn invented_sources_and_numbers_fill_nothing() {
        let (mut window, real) = (Window::default(), Source::new("real").unwrap());
        for number in 1..=5000 {
            window.is_new(&wave(&Source::new("invented").unwrap(), number, 1));
            // Heard now and then, a source is not forgotten.
            assert_eq!(window.is_new(&wave(&real, 1, 1)), number == 1);
        }
        assert!(window.younger.len() <= SOURCES && window.older.len() <= SOURCES);
        for number in 1..=5000 {
            window.is_new(&wave(&real, number, 1));
        }
        assert_eq!(window.numbers(&real).0.len(), NUMBERS);
        assert!(!window.is_new(&wave(&real, 5000 - 1023, 1)) && window.is_new(&wave(&real, 5000 - 1024, 1)));
    }
}
