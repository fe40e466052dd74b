//! The account of a bridge, as lines or as JSON.

use aether::bridge::{BridgeAccount, WayAccount};
use aether_core::medium::MediumStatus;
use aether_core::{Aether, Ledger};
use aether_service::{Refused, Sent};
use serde_json::{Value, json};

/// The outcome of all waves, once both media are closed.
pub(super) struct Summary {
    names: [String; 2],
    account: BridgeAccount,
    status: [MediumStatus; 2],
    letters: u64,
}

impl Summary {
    pub(super) fn new(names: [String; 2], account: &BridgeAccount, media: [&Aether; 2]) -> Self {
        let letters = media.iter().map(|medium| medium.dead_letters().counts().kept).sum();
        Self { names, account: *account, status: media.map(Aether::status), letters }
    }

    fn ways(&self) -> impl Iterator<Item = (&str, &str, WayAccount)> {
        let [here, there] = &self.names;
        let back = self.account.back.map(|back| (&**there, &**here, back));
        [(&**here, &**there, self.account.there)].into_iter().chain(back)
    }

    /// One line for each way, and one for each medium that was given waves.
    pub(super) fn lines(&self) -> Vec<String> {
        let mut lines: Vec<_> =
            self.ways().map(|(from, to, way)| format!("{from} to {to}: {}", sum(&way))).collect();
        for (name, status) in self.names.iter().zip(&self.status) {
            if status.outbox.offered > 0 {
                lines.push(format!("sent to {name}: {}", Sent::of(*status)));
            }
            if status.refused() > 0 {
                lines.push(format!("{name}: {}", Refused::of(*status)));
            }
        }
        if self.letters > 0 {
            lines.push(format!("dead letters that end with the bridge: {}", self.letters));
        }
        lines
    }

    pub(super) fn json(&self) -> Value {
        let ways: Vec<_> = self
            .ways()
            .map(|(from, to, way)| {
                json!({
                    "from": from, "to": to, "heard": way.inbox.offered, "relayed": way.relayed,
                    "answered": way.answered, "unanswered": way.unanswered,
                    "not_relayed": counted(&way.not_relayed()), "lost": lost(&way.inbox),
                })
            })
            .collect();
        let media: Vec<_> = self
            .names
            .iter()
            .zip(&self.status)
            .map(|(name, status)| {
                let Ledger { offered, delivered, queued, .. } = status.outbox;
                json!({
                    "medium": name, "offered": offered, "sent": delivered, "lost": lost(&status.outbox),
                    "queued": queued, "unconfirmed": status.unconfirmed, "refused": status.refused(),
                })
            })
            .collect();
        json!({ "ways": ways, "media": media, "dead_letters": self.letters })
    }
}

/// The ways in a few words, for a log line.
pub(super) fn ways(account: &BridgeAccount) -> String {
    let relayed = |way: &WayAccount| way.relayed + way.answered;
    match &account.back {
        Some(back) => format!("relayed {} there and {} back", relayed(&account.there), relayed(back)),
        None => format!("relayed {} there", relayed(&account.there)),
    }
}

/// `12 heard = 9 relayed + 2 looped + 1 full`, without zeros.
fn sum(way: &WayAccount) -> String {
    let Ledger { offered, queued, .. } = way.inbox;
    let questions = [("answered", way.answered), ("unanswered", way.unanswered), ("waiting", way.waiting)];
    let mut terms = format!("waves: {offered} heard = {} relayed", way.relayed);
    let losses = losses(&way.inbox).chain([("queued", queued)]);
    for (reason, waves) in questions.into_iter().chain(way.not_relayed()).chain(losses) {
        if waves > 0 {
            terms.push_str(&format!(" + {waves} {}", reason.replace('_', " ")));
        }
    }
    terms
}

fn losses(ledger: &Ledger) -> impl Iterator<Item = (&'static str, u64)> + use<> {
    let shed = ledger.losses().map(|(reason, waves)| (reason.as_str(), waves));
    shed.into_iter().chain([("lost_upstream", ledger.lost_upstream)])
}

fn lost(ledger: &Ledger) -> Value {
    losses(ledger).filter(|(_, waves)| *waves > 0).collect()
}

fn counted(counts: &[(&'static str, u64)]) -> Value {
    counts.iter().copied().filter(|(_, waves)| *waves > 0).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_terms_of_a_way_add_up_to_what_was_heard() {
        let mut way = WayAccount::default();
        (way.inbox.offered, way.inbox.delivered, way.inbox.shed_full) = (12, 11, 1);
        (way.relayed, way.looped, way.answered, way.not_allowed) = (7, 2, 1, 1);
        assert!(way.adds_up());
        assert_eq!(sum(&way), "waves: 12 heard = 7 relayed + 1 answered + 2 looped + 1 not allowed + 1 full");
    }
}
