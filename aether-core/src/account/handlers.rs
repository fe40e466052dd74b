//! The counts of the handlers of services and the state of their circuit breakers: a part of the account of a process.
//!
//! A library that runs handlers adds an entry with
//! [`Aether::account_handlers`](crate::Aether::account_handlers), as `aether-service` does for each service.

use std::collections::BTreeMap;
use std::sync::{Arc, Weak};

use parking_lot::Mutex;

/// The maximum number of names of ended services with an account of their own.
const MAX_ENDED: usize = 64;
/// The name that collects the accounts of the others.
pub(super) const OTHER: &str = "_other";

/// The outcomes of the waves that the handlers of one service took: `received = succeeded + retried + failed + shed +
/// left + in_flight`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct HandlersAccount {
    /// The name of the service. Set by [`Aether::account_handlers`](crate::Aether::account_handlers).
    pub name: String,
    /// Waves taken out of the inbox. A wave that is retried counts again.
    pub received: u64,
    /// Waves that were handled.
    pub succeeded: u64,
    /// Attempts that failed and are repeated.
    pub retried: u64,
    /// Waves that failed: rejected, with an error, a panic, or a time-out.
    pub failed: u64,
    /// Waves that were not tried, because the service was busy or its circuit breaker open.
    pub shed: u64,
    /// Waves that were not handled, or not to the end, because the service ended.
    pub left: u64,
    /// Waves being handled, or waiting to be repeated.
    pub in_flight: u64,
    /// The number of circuit breakers.
    pub breakers: u64,
    /// The number of circuit breakers that are open now. One whose time is over is half open: it is not counted.
    pub breakers_open: u64,
    /// How often circuit breakers have opened.
    pub breaker_openings: u64,
}

impl HandlersAccount {
    /// Whether every wave is accounted for, and no more circuit breakers are open than exist.
    #[must_use]
    pub fn adds_up(&self) -> bool {
        let parts = [self.succeeded, self.retried, self.failed, self.shed, self.left, self.in_flight];
        let sum = parts.into_iter().try_fold(0_u64, u64::checked_add);
        sum == Some(self.received) && self.breakers_open <= self.breakers
    }

    /// Adds the counts of another one.
    pub(super) fn add(&mut self, other: &Self) {
        self.combine(other, u64::saturating_add);
    }

    /// The growth since an earlier account. Counts that fell give 0.
    pub(super) fn since(mut self, before: &Self) -> Self {
        self.combine(before, u64::saturating_sub);
        self
    }

    fn combine(&mut self, other: &Self, with: impl Fn(u64, u64) -> u64) {
        for (to, from) in [
            (&mut self.received, other.received),
            (&mut self.succeeded, other.succeeded),
            (&mut self.retried, other.retried),
            (&mut self.failed, other.failed),
            (&mut self.shed, other.shed),
            (&mut self.left, other.left),
            (&mut self.in_flight, other.in_flight),
            (&mut self.breakers, other.breakers),
            (&mut self.breakers_open, other.breakers_open),
            (&mut self.breaker_openings, other.breaker_openings),
        ] {
            *to = with(*to, from);
        }
    }
}

type Report = Arc<dyn Fn(&mut HandlersAccount) + Send + Sync>;

/// The entries of one process.
#[derive(Default)]
pub(crate) struct HandlerEntries(Mutex<EntriesState>);

#[derive(Default)]
struct EntriesState {
    last: u64,
    /// In the order in which they were added.
    live: BTreeMap<u64, (String, Report)>,
    /// The last accounts of dropped entries, by name.
    ended: BTreeMap<String, HandlersAccount>,
}

impl HandlerEntries {
    pub(crate) fn add(self: &Arc<Self>, name: &str, report: Report) -> HandlersEntry {
        let mut state = self.0.lock();
        state.last += 1;
        let number = state.last;
        state.live.insert(number, (name.to_owned(), report));
        HandlersEntry { entries: Arc::downgrade(self), number }
    }

    /// The accounts by name, including dropped entries.
    pub(super) fn read(&self) -> Vec<HandlersAccount> {
        let (mut by_name, live) = {
            let state = self.0.lock();
            (state.ended.clone(), state.live.values().cloned().collect::<Vec<_>>())
        };
        // Outside of the lock: the reports are code of other crates.
        for (name, report) in live {
            let account = written(&report);
            by_name.entry(name).or_default().add(&account);
        }
        by_name.into_iter().map(|(name, account)| HandlersAccount { name, ..account }).collect()
    }

    fn drop_entry(&self, number: u64) {
        let Some((name, report)) = self.0.lock().live.get(&number).cloned() else { return };
        let mut last = written(&report);
        (last.breakers, last.breakers_open) = (0, 0);
        let mut state = self.0.lock();
        if state.live.remove(&number).is_some() {
            let is_kept = state.ended.len() < MAX_ENDED || state.ended.contains_key(&name);
            let name = if is_kept { name } else { OTHER.to_owned() };
            state.ended.entry(name).or_default().add(&last);
        }
    }
}

fn written(report: &Report) -> HandlersAccount {
    let mut account = HandlersAccount::default();
    report(&mut account);
    account
}

/// Keeps the handlers of a service in the account of their process. Once it is dropped, their last counts stay, and their
/// circuit breakers are left out.
#[derive(Debug)]
#[must_use = "dropping it ends the entry"]
pub struct HandlersEntry {
    entries: Weak<HandlerEntries>,
    number: u64,
}

impl Drop for HandlersEntry {
    fn drop(&mut self) {
        if let Some(entries) = self.entries.upgrade() {
            entries.drop_entry(self.number);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reporting(received: u64) -> Report {
        Arc::new(move |account| {
            (account.received, account.succeeded, account.breakers, account.breakers_open) =
                (received, received, 1, 1);
        })
    }

    #[test]
    fn entries_of_one_name_are_added_up_and_ended_ones_keep_their_counts() {
        let entries = Arc::new(HandlerEntries::default());
        let (first, second) = (entries.add("shop", reporting(2)), entries.add("shop", reporting(3)));
        let read = |entries: &HandlerEntries| {
            let all = entries.read();
            assert!(all.iter().all(HandlersAccount::adds_up));
            all.into_iter().map(|it| (it.name, it.received, it.breakers_open)).collect::<Vec<_>>()
        };
        assert_eq!(read(&entries), [("shop".to_owned(), 5, 2)]);
        drop(first);
        assert_eq!(read(&entries), [("shop".to_owned(), 5, 1)]);
        drop(second);
        assert_eq!(read(&entries), [("shop".to_owned(), 5, 0)]);
    }

    #[test]
    fn many_ended_names_share_one_account() {
        let entries = Arc::new(HandlerEntries::default());
        for number in 0..MAX_ENDED + 20 {
            drop(entries.add(&format!("s{number:03}"), reporting(1)));
        }
        let all = entries.read();
        assert_eq!(all.len(), MAX_ENDED + 1);
        assert_eq!(all.iter().find(|it| it.name == OTHER).unwrap().received, 20);
    }
}
