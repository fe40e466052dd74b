//! The accounts of inboxes by the names of their vibrators, up to a bounded number of names.

use std::collections::{BTreeMap, BTreeSet};

use aether_core::{Aether, Floor, Ledger};

/// The shared line of everything without its own.
pub const OTHER: &str = "_other";

/// The maximum number of vibrators with their own line. All others share the line [`OTHER`].
const MAX_VIBRATORS: usize = 500;

/// The inboxes of all vibrators of one name, including closed ones.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct VibratorAccount {
    /// The name, or [`OTHER`].
    pub vibrator: String,
    /// The number of open inboxes.
    pub inboxes: usize,
    /// The sum of their ledgers.
    pub ledger: Ledger,
    /// The highest floor of the open inboxes.
    pub effective_floor: Floor,
}

/// Reads the accounts of vibrators by name. Remembers which names have their own line: they keep it, so that no count
/// ever decreases.
#[derive(Debug, Default)]
pub struct VibratorAccounts {
    told_apart: BTreeSet<String>,
}

impl VibratorAccounts {
    /// The accounts now, by name: at most 500 names, and one more line for the rest.
    pub fn read(&mut self, aether: &Aether) -> Vec<VibratorAccount> {
        let mut lines: BTreeMap<String, VibratorAccount> = BTreeMap::new();
        for report in aether.inboxes() {
            if self.told_apart.len() < MAX_VIBRATORS && report.vibrator != OTHER {
                self.told_apart.insert(report.vibrator.clone());
            }
            let known = self.told_apart.contains(&report.vibrator);
            let name = if known { report.vibrator } else { OTHER.to_owned() };
            let line = lines.entry(name.clone()).or_insert_with(|| VibratorAccount {
                vibrator: name,
                inboxes: 0,
                ledger: Ledger::default(),
                effective_floor: Floor::OPEN,
            });
            line.inboxes += report.open;
            line.ledger += report.ledger;
            line.effective_floor = line.effective_floor.max(report.effective_floor);
        }
        lines.into_values().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use aether_core::Vibrator;

    #[tokio::test]
    async fn vibrators_of_one_name_share_a_line_and_too_many_names_share_the_last() {
        let aether = Aether::local();
        let mut kept = Vec::new();
        for name in (0..MAX_VIBRATORS + 20).map(|n| format!("v{:04}", n / 2)) {
            let vibrator = Vibrator::create(&name, &aether).await.unwrap();
            vibrator.resonate_on("a").await.unwrap();
            kept.push(vibrator);
        }
        for name in (0..MAX_VIBRATORS).map(|n| format!("w{n:04}")) {
            kept.push(Vibrator::create(&name, &aether).await.unwrap());
        }
        kept[0].emit_bytes("a", "x").await.unwrap();
        let mut accounts = VibratorAccounts::default();
        let lines = accounts.read(&aether);
        assert_eq!(lines.len(), MAX_VIBRATORS + 1);
        assert_eq!(lines.iter().map(|line| line.inboxes).sum::<usize>(), kept.len());
        let offered = lines.iter().map(|line| line.ledger.offered).sum::<u64>();
        assert_eq!(offered, (MAX_VIBRATORS + 20 - 1) as u64);
        assert!(lines.iter().any(|line| line.vibrator == OTHER && line.inboxes > 200));

        // New names and closed vibrators do not take existing lines.
        let names =
            |lines: &[VibratorAccount]| lines.iter().map(|line| line.vibrator.clone()).collect::<Vec<_>>();
        let _early = Vibrator::create("a", &aether).await.unwrap();
        kept.truncate(1);
        let later = accounts.read(&aether);
        assert_eq!(names(&later), names(&lines));
        assert_eq!(later.iter().map(|line| line.ledger.offered).sum::<u64>(), offered);
        assert_eq!(later.iter().map(|line| line.inboxes).sum::<usize>(), 2);
    }
}
