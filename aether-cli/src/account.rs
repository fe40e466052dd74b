//! The account of waves as a sum that a person can check.

use std::fmt;

use aether_core::{Ledger, ShedReason};

/// The ledger of an inbox in words: `waves: 12 offered = 10 delivered + 2 full + ... + 0 queued`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Account(pub(crate) Ledger);

impl fmt::Display for Account {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(ledger) = self;
        write!(f, "waves: {} offered = {} delivered", ledger.offered, ledger.delivered)?;
        // Nothing is sent from an inbox.
        for (reason, waves) in ledger.losses().into_iter().filter(|loss| loss.0 != ShedReason::Unsendable) {
            write!(f, " + {waves} {}", reason.as_str().replace('_', " "))?;
        }
        write!(f, " + {} lost upstream + {} queued", ledger.lost_upstream, ledger.queued)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use aether_core::{Aether, Floor, InboxOptions, Vibrator, Wave};

    #[tokio::test]
    async fn every_wave_stands_in_the_sum() {
        let aether = Aether::local();
        let inbox = InboxOptions::overload().max_waves(2).sojourn_cap(None).floor(Floor::new(0.2).unwrap());
        let mut hears = Vibrator::builder("hears").inbox(inbox).create(&aether).await.unwrap();
        hears.resonate_on("a").await.unwrap();
        let emits = Vibrator::create("emits", &aether).await.unwrap();
        for amplitude in [0.1, 0.5, 0.5, 0.5, 0.9] {
            emits
                .emit(Wave::builder("a").amplitude(amplitude).never_decays().build().unwrap())
                .await
                .unwrap();
        }
        hears.receive().await.unwrap();
        assert_eq!(
            Account(hears.ledger()).to_string(),
            "waves: 5 offered = 1 delivered + 2 full + 1 below floor + 0 sojourn + 0 expired + 0 closed + 0 lost upstream + 1 queued"
        );
    }
}
