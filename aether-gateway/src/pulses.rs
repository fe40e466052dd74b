//! Recent offers and losses: by the name of a vibrator for an hour, by process for five minutes.
//!
//! [`Views`](crate::views) ends a bucket every five seconds, as often as processes send their accounts; the pages draw
//! them. The tables are bounded: whatever comes beyond the bounds has no past. Pure but for the accounts that are
//! passed in.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use aether_core::account::{KnownProcess, ProcessAccount, Standing};
use serde::Serialize;

use crate::history::{last, push, rounded};
use crate::status::lost_of;
use crate::track::BUCKETS;

/// The buckets of a process: five minutes.
const OF_PROCESS: usize = 60;
/// The maximum number of names with an hour each of 6 KB, and of processes.
const MOST_NAMES: usize = 256;
const MOST_PROCESSES: usize = 500;

/// The pasts of all vibrators and processes.
#[derive(Debug, Default)]
pub(crate) struct Pulses {
    vibrators: BTreeMap<String, Pulse>,
    processes: BTreeMap<String, Pulse>,
    /// The latest accounts, by process and vibrator; the process itself has no vibrator.
    accounts: BTreeMap<(String, Option<String>), Account>,
}

/// Counts, the age of the process when it told them, and what they grew by a second since the ones before.
#[derive(Debug, Clone, Copy, Default)]
struct Account {
    offered: u64,
    lost: u64,
    uptime: Duration,
    rates: Rates,
}

#[derive(Debug, Clone, Copy, Default)]
struct Rates {
    offered: f64,
    lost: f64,
}

/// The offers and losses a second of one vibrator or process, in buckets.
#[derive(Debug, Default)]
struct Pulse {
    offered: VecDeque<f32>,
    lost: VecDeque<f32>,
    /// Of the bucket that is being ended; `None` for one that is gone.
    now: Option<Rates>,
}

/// A past as JSON, the newest bucket last.
#[derive(Debug, Serialize)]
pub(crate) struct PastLine {
    pub(crate) offered: Vec<f64>,
    pub(crate) lost: Vec<f64>,
}

/// The past of all vibrators of a name.
#[derive(Debug, Serialize)]
pub(crate) struct NamedPast {
    pub(crate) vibrator: String,
    #[serde(flatten)]
    pub(crate) past: PastLine,
}

impl Pulses {
    /// Ends a bucket with the accounts of this moment.
    pub(crate) fn end_bucket(&mut self, processes: &[KnownProcess]) {
        let present = processes.iter().filter(|known| known.standing == Standing::Present);
        self.end(present.map(|known| &*known.account));
    }

    fn end<'a>(&mut self, accounts: impl Iterator<Item = &'a ProcessAccount>) {
        let before = std::mem::take(&mut self.accounts);
        for account in accounts.take(MOST_PROCESSES) {
            let process = account.process.to_string();
            let all = account.ledger();
            let lost = lost_of(&all).saturating_add(lost_of(&account.medium.outbox));
            let known = Account { offered: all.offered, lost, uptime: account.uptime, ..Account::default() };
            let rates = self.rates(&before, (process.clone(), None), known);
            add(&mut self.processes, &process, MOST_PROCESSES, rates);
            for inbox in &account.inboxes {
                let lost = lost_of(&inbox.ledger);
                let known = Account { offered: inbox.ledger.offered, lost, ..known };
                let rates = self.rates(&before, (process.clone(), Some(inbox.vibrator.clone())), known);
                add(&mut self.vibrators, &inbox.vibrator, MOST_NAMES, rates);
            }
        }
        end(&mut self.processes, OF_PROCESS);
        end(&mut self.vibrators, BUCKETS);
    }

    /// The growth of the counts a second between the last two accounts of a process. A bucket without a new account has
    /// the rates of the one before: accounts come about as often as buckets end.
    fn rates(
        &mut self,
        before: &BTreeMap<(String, Option<String>), Account>,
        key: (String, Option<String>),
        mut now: Account,
    ) -> Rates {
        if let Some(then) = before.get(&key) {
            let seconds = now.uptime.saturating_sub(then.uptime).as_secs_f64();
            let rate = |now: u64, then: u64| now.saturating_sub(then) as f64 / seconds;
            now.rates = match seconds {
                0.0 => then.rates,
                _ => Rates { offered: rate(now.offered, then.offered), lost: rate(now.lost, then.lost) },
            };
        }
        self.accounts.insert(key, now);
        now.rates
    }

    /// The last buckets of a process.
    pub(crate) fn of_process(&self, process: &str) -> Option<PastLine> {
        self.processes.get(process).map(|pulse| pulse.last(OF_PROCESS))
    }

    /// The last buckets of all vibrators, by name.
    pub(crate) fn of_vibrators(&self, most: usize) -> Vec<NamedPast> {
        let named =
            |(name, pulse): (&String, &Pulse)| NamedPast { vibrator: name.clone(), past: pulse.last(most) };
        self.vibrators.iter().map(named).collect()
    }

    /// The losses a second of all vibrators of a name in the last bucket.
    pub(crate) fn lost_per_second(&self, vibrator: &str) -> f64 {
        self.vibrators.get(vibrator).and_then(|pulse| pulse.lost.back()).map_or(0.0, |lost| rounded(*lost))
    }
}

/// Adds the rates of one process to a past, if there is room for it.
fn add(all: &mut BTreeMap<String, Pulse>, name: &str, most: usize, rates: Rates) {
    if !all.contains_key(name) {
        if all.len() >= most {
            return;
        }
        all.insert(name.to_owned(), Pulse::default());
    }
    if let Some(pulse) = all.get_mut(name) {
        let sum = pulse.now.get_or_insert_default();
        sum.offered += rates.offered;
        sum.lost += rates.lost;
    }
}

/// Ends a bucket of each. Those that have been gone for as long as is kept, go.
fn end(all: &mut BTreeMap<String, Pulse>, most: usize) {
    all.retain(|_, pulse| {
        let is_there = pulse.end(most);
        is_there || pulse.offered.iter().chain(&pulse.lost).any(|value| *value > 0.0)
    });
}

impl Pulse {
    /// Ends a bucket. Returns whether it was there.
    fn end(&mut self, most: usize) -> bool {
        let now = self.now.take();
        let Rates { offered, lost } = now.unwrap_or_default();
        for (buckets, rate) in [(&mut self.offered, offered), (&mut self.lost, lost)] {
            push(buckets, rate as f32, most);
        }
        now.is_some()
    }

    fn last(&self, most: usize) -> PastLine {
        PastLine { offered: last(&self.offered, most), lost: last(&self.lost, most) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The account of a process in which `stock` has these counts, after `seconds` seconds.
    fn account(pulses: &mut Pulses, process: &str, seconds: u64, offered: u64, lost: u64) -> Rates {
        let uptime = Duration::from_secs(seconds);
        let before = pulses.accounts.clone();
        let known = Account { offered, lost, uptime, ..Account::default() };
        let rates = pulses.rates(&before, (process.to_owned(), Some("stock".to_owned())), known);
        add(&mut pulses.vibrators, "stock", MOST_NAMES, rates);
        rates
    }

    #[test]
    fn rates_are_between_accounts_and_of_all_processes_together() {
        let mut pulses = Pulses::default();
        // Counts from before the gateway looked are no rate, and a late account leaves no gap.
        for (seconds, offered, lost) in
            [(100, 1_000_000, 7), (105, 1_000_500, 7), (105, 1_000_500, 7), (115, 1_000_900, 107)]
        {
            account(&mut pulses, "a", seconds, offered, lost);
            end(&mut pulses.vibrators, BUCKETS);
        }
        let [NamedPast { vibrator, past }] = &pulses.of_vibrators(BUCKETS)[..] else { panic!() };
        assert_eq!(vibrator, "stock");
        assert_eq!(
            (&past.offered[..], &past.lost[..]),
            (&[0.0, 100.0, 100.0, 40.0][..], &[0.0, 0.0, 0.0, 10.0][..])
        );
        assert_eq!(pulses.lost_per_second("stock"), 10.0);

        account(&mut pulses, "b", 1, 0, 0);
        end(&mut pulses.vibrators, BUCKETS);
        account(&mut pulses, "a", 120, 1_001_000, 107);
        account(&mut pulses, "b", 6, 50, 0);
        end(&mut pulses.vibrators, BUCKETS);
        assert_eq!(pulses.of_vibrators(1)[0].past.offered, [30.0]);
    }

    #[test]
    fn made_up_names_are_bounded_and_those_that_are_gone_are_forgotten_with_their_past() {
        let mut pulses = Pulses::default();
        for name in 0..2 * MOST_NAMES {
            add(&mut pulses.vibrators, &format!("v{name}"), MOST_NAMES, Rates { offered: 1.0, lost: 0.0 });
        }
        assert_eq!(pulses.vibrators.len(), MOST_NAMES);
        for _ in 0..=BUCKETS {
            assert!(!pulses.vibrators.is_empty());
            end(&mut pulses.vibrators, BUCKETS);
        }
        assert!(pulses.vibrators.is_empty());
        assert_eq!(pulses.lost_per_second("v1"), 0.0);
    }
}
