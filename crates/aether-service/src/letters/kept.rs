//! The dead letters of a process when it ends: they are in memory and end with it.

use std::collections::BTreeMap;
use std::fmt;

use aether_core::DeadLetters;
use aether_core::echo::DeadLetterCounts;

/// The maximum number of channels that are named.
const NAMED: usize = 8;

/// The account of the dead letters of a process: `dead letters: 5 buried = 3 kept + 1 taken + 1 overflowed (kept: 2
/// orders.pay handler_failed, 1 stock.reserve rejected)`. [`close`](crate::close) logs it if letters are kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeptLetters {
    counts: DeadLetterCounts,
    /// The number of letters of each channel and reason, the most first.
    groups: Vec<(String, u64)>,
}

impl KeptLetters {
    /// The letters now.
    #[must_use]
    pub fn of(letters: &DeadLetters) -> Self {
        let mut groups: BTreeMap<String, u64> = BTreeMap::new();
        for letter in letters.list() {
            *groups.entry(format!("{} {}", letter.wave.channel(), letter.reason)).or_default() += 1;
        }
        let mut groups: Vec<_> = groups.into_iter().collect();
        groups.sort_by_key(|(_, letters)| std::cmp::Reverse(*letters));
        Self { counts: letters.counts(), groups }
    }

    /// Whether no letter is kept.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.counts.kept == 0
    }
}

impl fmt::Display for KeptLetters {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let DeadLetterCounts { buried, kept, taken, overflowed, .. } = self.counts;
        write!(f, "dead letters: {buried} buried = {kept} kept + {taken} taken + {overflowed} overflowed")?;
        if self.groups.is_empty() {
            return Ok(());
        }
        f.write_str(" (kept: ")?;
        for (place, (group, letters)) in self.groups.iter().take(NAMED).enumerate() {
            write!(f, "{}{letters} {group}", if place == 0 { "" } else { ", " })?;
        }
        let rest: u64 = self.groups.iter().skip(NAMED).map(|(_, letters)| letters).sum();
        if rest > 0 {
            write!(f, ", {rest} others")?;
        }
        f.write_str(")")
    }
}

#[cfg(test)]
mod tests {
    use aether_core::{Aether, Kind, Wave};

    use super::*;

    #[tokio::test]
    async fn the_account_names_the_channels_with_the_most_letters() {
        let aether = Aether::local();
        let letters = aether.dead_letters();
        assert!(KeptLetters::of(&letters).is_empty());
        let shop = aether.emitter("shop").unwrap();
        for channel in 0..10 {
            for _ in 0..=usize::from(channel == 7) {
                let wave = Wave::builder(format!("orders.{channel}")).kind(Kind::Command).build().unwrap();
                shop.emit(wave).await.unwrap();
            }
        }
        drop(letters.take(1));
        let kept = KeptLetters::of(&letters);
        let text = kept.to_string();
        let begins = "dead letters: 11 buried = 10 kept + 1 taken + 0 overflowed (kept: 2 orders.7 no_resonator, 1 orders.1 ";
        assert!(text.starts_with(begins) && text.ends_with(", 1 others)") && !kept.is_empty(), "{text}");
    }
}
