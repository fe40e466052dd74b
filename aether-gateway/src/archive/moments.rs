//! The records of an archive: spans of time with the flow and the losses, and incidents.

use serde::{Deserialize, Serialize};

/// The maximum number of places in a span; losses elsewhere share a line.
const MOST_PLACES: usize = 100;
const OTHERS: &str = "(others)";

/// A minute or an hour.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct ArchivedSpan {
    /// Its beginning, in seconds since 1970.
    pub begin_unix_seconds: u64,
    /// For how many seconds of it the gateway has observed.
    pub seconds: u64,
    /// The observed waves.
    pub waves: u64,
    /// The bytes of their payloads.
    pub payload_bytes: u64,
    /// The sum of their amplitudes.
    pub energy: f64,
    /// The losses, by place and reason.
    pub lost: Vec<ArchivedLoss>,
    /// The counts, by place; places without losses included.
    #[serde(default)]
    pub accounts: Vec<ArchivedAccount>,
}

/// The counts of the inboxes or the outboxes of one program. `offered = delivered + lost + queued`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct ArchivedAccount {
    /// The program.
    pub program: String,
    /// `inbox` or `outbox`.
    pub queue: String,
    /// Waves that were offered.
    pub offered: u64,
    /// Waves that were taken.
    pub delivered: u64,
    /// Waves that were lost, for whatever reason.
    pub lost: u64,
    /// By how much the queues have grown, or shrunk. Waves that were queued in a process that has gone stay in it:
    /// their fate is unknown.
    pub queued: i64,
}

/// The losses of one program for one reason.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct ArchivedLoss {
    /// The program.
    pub program: String,
    /// `inbox` or `outbox`.
    pub queue: String,
    /// The reason, as in a ledger.
    pub reason: String,
    /// The number of lost waves.
    pub waves: u64,
}

/// An incident.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct ArchivedIncident {
    /// Its number in the gateway that has seen it.
    pub id: u64,
    /// Its cause, such as `stopped`.
    pub cause: String,
    /// `warning` or `critical`.
    pub severity: String,
    /// One sentence about it.
    pub text: String,
    /// When it began, in milliseconds since 1970.
    pub begin_unix_ms: u64,
    /// How long it lasted.
    pub seconds: f64,
    /// Whether it lasted when it was written last.
    pub is_open: bool,
}

impl ArchivedSpan {
    pub(crate) fn beginning(begin_unix_seconds: u64) -> Self {
        Self { begin_unix_seconds, ..Self::default() }
    }

    /// The end of what was observed, in seconds since 1970, if that was without a break.
    #[must_use]
    pub fn end_unix_seconds(&self) -> u64 {
        self.begin_unix_seconds.saturating_add(self.seconds)
    }

    /// All lost waves.
    #[must_use]
    pub fn lost_waves(&self) -> u64 {
        self.lost.iter().fold(0, |sum, lost| sum.saturating_add(lost.waves))
    }

    pub(crate) fn lose(&mut self, program: &str, queue: &str, reason: &str, waves: u64) {
        if waves == 0 {
            return;
        }
        let is_same = |lost: &&mut ArchivedLoss| {
            lost.program == program && lost.queue == queue && lost.reason == reason
        };
        if let Some(lost) = self.lost.iter_mut().find(is_same) {
            lost.waves = lost.waves.saturating_add(waves);
        } else if self.lost.len() < MOST_PLACES || program == OTHERS {
            let (program, queue, reason) = (program.to_owned(), queue.to_owned(), reason.to_owned());
            self.lost.push(ArchivedLoss { program, queue, reason, waves });
        } else {
            self.lose(OTHERS, queue, reason, waves);
        }
    }

    pub(crate) fn account(&mut self, account: ArchivedAccount) {
        let is_same =
            |known: &&mut ArchivedAccount| known.program == account.program && known.queue == account.queue;
        if let Some(known) = self.accounts.iter_mut().find(is_same) {
            known.offered = known.offered.saturating_add(account.offered);
            known.delivered = known.delivered.saturating_add(account.delivered);
            known.lost = known.lost.saturating_add(account.lost);
            known.queued = known.queued.saturating_add(account.queued);
        } else if self.accounts.len() < MOST_PLACES || account.program == OTHERS {
            self.accounts.push(account);
        } else {
            self.account(ArchivedAccount { program: OTHERS.to_owned(), ..account });
        }
    }

    /// Adds what another span has.
    pub fn add(&mut self, other: &Self) {
        self.seconds = self.seconds.saturating_add(other.seconds);
        self.waves = self.waves.saturating_add(other.waves);
        self.payload_bytes = self.payload_bytes.saturating_add(other.payload_bytes);
        self.energy += other.energy;
        for lost in &other.lost {
            self.lose(&lost.program, &lost.queue, &lost.reason, lost.waves);
        }
        other.accounts.iter().cloned().for_each(|account| self.account(account));
    }
}

impl ArchivedIncident {
    /// Its end, or the time until which it was seen, in milliseconds since 1970.
    #[must_use]
    pub fn end_unix_ms(&self) -> u64 {
        self.begin_unix_ms.saturating_add((self.seconds.max(0.0) * 1000.0) as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn losses_beyond_the_bound_share_a_line_and_none_is_missing() {
        let mut span = ArchivedSpan::default();
        for program in 0..MOST_PLACES + 20 {
            span.lose(&format!("p{program}"), "inbox", "full", 2);
            span.lose(&format!("p{program}"), "inbox", "full", 0);
        }
        assert_eq!((span.lost.len(), span.lost_waves()), (MOST_PLACES + 1, 2 * (MOST_PLACES as u64 + 20)));
        let mut sum = span.clone();
        sum.add(&span);
        assert_eq!(sum.lost_waves(), 2 * span.lost_waves());
    }

    #[test]
    fn accounts_beyond_the_bound_share_a_line_and_all_lines_add_up() {
        let mut span = ArchivedSpan::default();
        for program in 0..MOST_PLACES + 20 {
            span.account(ArchivedAccount {
                program: format!("p{program}"),
                queue: "outbox".to_owned(),
                offered: 10,
                delivered: 11,
                lost: 1,
                queued: -2,
            });
        }
        let mut sum = span.clone();
        sum.add(&span);
        assert_eq!((span.accounts.len(), sum.accounts.len()), (MOST_PLACES + 1, MOST_PLACES + 1));
        assert_eq!(
            sum.accounts.iter().map(|account| account.offered).sum::<u64>(),
            20 * (MOST_PLACES as u64 + 20)
        );
        for ArchivedAccount { offered, delivered, lost, queued, .. } in sum.accounts {
            assert_eq!(offered.checked_signed_diff(delivered + lost), Some(queued));
        }
    }

    #[test]
    fn a_span_of_an_older_gateway_has_no_accounts() {
        let old =
            r#"{"begin_unix_seconds":7,"seconds":60,"waves":1,"payload_bytes":2,"energy":0.5,"lost":[]}"#;
        let span: ArchivedSpan = serde_json::from_str(old).unwrap();
        assert!(span.waves == 1 && span.accounts.is_empty());
    }
}
