//! The mark that a bridge leaves on the waves that it relays, so that it never relays them again.

use aether_core::wave::MetadataError;
use aether_core::{Channel, Wave};

/// The metadata entry with the marks of the bridges that have relayed a wave, in order, separated by spaces.
pub const BRIDGES: &str = "aether-bridges";

/// The mark of one bridge, or of all bridges of a group.
#[derive(Debug)]
pub(super) struct Mark(Box<str>);

impl Mark {
    /// The mark of a group, which has no spaces in its name, or one that no other bridge has.
    pub(super) fn new(group: Option<&Channel>) -> Self {
        Self(match group {
            Some(group) => group.as_str().into(),
            None => format!("{:016x}", fastrand::u64(..)).into(),
        })
    }

    /// Whether this bridge, or one of its group, has relayed the wave.
    pub(super) fn is_on(&self, wave: &Wave) -> bool {
        marks(wave).any(|mark| *mark == *self.0)
    }

    /// The wave with this mark behind the others.
    pub(super) fn on(&self, wave: Wave) -> Result<Wave, MetadataError> {
        let mut all: String = marks(&wave).flat_map(|mark| [mark, " "]).collect();
        all.push_str(&self.0);
        wave.with_entry(BRIDGES, &all)
    }
}

/// A foreign client may have written several entries, or anything into them.
fn marks(wave: &Wave) -> impl Iterator<Item = &str> {
    let entries = wave.metadata().iter().filter(|(name, _)| *name == BRIDGES);
    entries.flat_map(|(_, value)| value.split_ascii_whitespace())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_are_kept_in_order_and_found() {
        let (first, second) = (Mark::new(Some(&Channel::new("edge").unwrap())), Mark::new(None));
        let wave = Wave::builder("a").metadata("k", "v").build().unwrap();
        assert!(!first.is_on(&wave));
        let both = second.on(first.on(wave).unwrap()).unwrap();
        assert!(first.is_on(&both) && second.is_on(&both) && !Mark::new(None).is_on(&both));
        assert_eq!(both.metadata().value(BRIDGES), Some(&*format!("edge {}", second.0)));
        assert_eq!((both.metadata().len(), both.metadata().value("k")), (2, Some("v")));
    }

    #[test]
    fn what_strangers_wrote_is_read_and_bounded() {
        let mark = Mark::new(Some(&Channel::new("edge").unwrap()));
        let wave = Wave::builder("a").metadata(BRIDGES, "  x  ").metadata(BRIDGES, "edge").build().unwrap();
        assert!(mark.is_on(&wave));
        assert_eq!(mark.on(wave).unwrap().metadata().value(BRIDGES), Some("x edge edge"));
        let long = Wave::builder("a").metadata(BRIDGES, &"x".repeat(8178)).build().unwrap();
        assert!(matches!(mark.on(long), Err(MetadataError::Full { .. })));
    }
}
