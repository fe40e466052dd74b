//! The accounts of all inboxes, open and closed, by vibrator name.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use parking_lot::Mutex;

use crate::amplitude::Floor;
use crate::inbox::{Inbox, Ledger};

/// Up to this many held inboxes are swept at every close; more are swept only when their number has doubled.
const ALWAYS_SWEPT: usize = 64;
/// The maximum number of names of closed inboxes with an account of their own.
const MAX_DEPARTED: usize = 1024;
/// The name that collects the accounts of the others.
const OTHER: &str = "_other";

/// The account of all vibrators of one name. Its counts never fall from report to report, whichever vibrators of that
/// name come and go. No two reports have the same name.
///
/// The names of 1024 departed vibrators are remembered. The accounts of further ones are summed up under the name
/// `_other`; a vibrator of such a name that returns starts at zero.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct InboxReport {
    /// The name shared by the vibrators.
    pub vibrator: String,
    /// The number of open inboxes of that name.
    pub open: usize,
    /// The sum of the accounts of their inboxes, closed ones included.
    pub ledger: Ledger,
    /// The floor in effect: the highest among the open inboxes.
    pub effective_floor: Floor,
}

impl InboxReport {
    /// The account of a name without inboxes.
    pub(crate) fn none(vibrator: &str) -> Self {
        let (vibrator, effective_floor) = (vibrator.to_owned(), Floor::OPEN);
        Self { vibrator, open: 0, ledger: Ledger::default(), effective_floor }
    }
}

#[derive(Default)]
pub(super) struct InboxAccounts(Mutex<AccountsState>);

#[derive(Default)]
struct AccountsState {
    open: BTreeMap<u64, (String, Arc<Inbox>)>,
    /// Closed inboxes that may still get offers: from an emitter that waited, from one that has just looked up a route,
    /// or from a network with waves in flight. Bounded by the references held elsewhere.
    leaving: Vec<(String, Arc<Inbox>)>,
    /// The number at which they are swept next. Sweeping at every close would make closing many inboxes quadratic.
    sweep_at: usize,
    gone: HashMap<String, Ledger>,
    /// The medium was closed: an inbox opened now is closed at once.
    closed: bool,
}

impl AccountsState {
    /// Folds closed inboxes that can get no more offers into the total of their name. Drop the result outside of the
    /// lock: with an inbox goes its callback, and with that anything the user put into it.
    fn settle(&mut self) -> Vec<(String, Arc<Inbox>)> {
        if self.leaving.len() < self.sweep_at {
            return Vec::new();
        }
        let settled: Vec<_> =
            self.leaving.extract_if(.., |(_, inbox)| Arc::get_mut(inbox).is_some()).collect();
        for (vibrator, inbox) in &settled {
            *self.departed_account(vibrator) += inbox.ledger();
        }
        self.sweep_at = if self.leaving.len() < ALWAYS_SWEPT { 0 } else { 2 * self.leaving.len() };
        settled
    }

    /// Every inbox that is not yet folded into a total.
    fn inboxes(&self) -> impl Iterator<Item = &(String, Arc<Inbox>)> {
        self.open.values().chain(&self.leaving)
    }

    /// The total of the departed vibrators of a name.
    fn departed_account(&mut self, vibrator: &str) -> &mut Ledger {
        let kept = self.gone.len() < MAX_DEPARTED || self.gone.contains_key(vibrator);
        self.gone.entry(if kept { vibrator } else { OTHER }.to_owned()).or_default()
    }
}

impl InboxAccounts {
    pub(super) fn open(&self, listener: u64, vibrator: &str, inbox: Arc<Inbox>) {
        let mut state = self.0.lock();
        if state.closed {
            inbox.close();
        }
        state.open.insert(listener, (vibrator.to_owned(), inbox));
    }

    pub(super) fn close(&self, listener: u64) {
        let inbox = self.0.lock().open.get(&listener).map(|(_, inbox)| Arc::clone(inbox));
        // Outside of the lock, because the callback runs for each lost wave.
        let Some(inbox) = inbox else { return };
        inbox.abandon();
        drop(inbox);
        let _settled = {
            let mut state = self.0.lock();
            let closed = state.open.remove(&listener);
            state.leaving.extend(closed);
            state.settle()
        };
    }

    pub(super) fn close_all(&self) {
        let open: Vec<_> = {
            let mut state = self.0.lock();
            // An inbox that is opened from now on is closed there.
            state.closed = true;
            state.open.values().map(|(_, inbox)| Arc::clone(inbox)).collect()
        };
        // Outside of the lock, because closing wakes receivers and emitters.
        for inbox in open {
            inbox.close();
        }
    }

    pub(super) fn reports(&self) -> Vec<InboxReport> {
        let state = self.0.lock();
        let mut reports: BTreeMap<&str, InboxReport> = BTreeMap::new();
        for (vibrator, ledger) in &state.gone {
            reports.entry(vibrator).or_insert_with(|| InboxReport::none(vibrator)).ledger += *ledger;
        }
        for (vibrator, inbox) in state.inboxes() {
            reports.entry(vibrator).or_insert_with(|| InboxReport::none(vibrator)).ledger += inbox.ledger();
        }
        for (vibrator, inbox) in state.open.values() {
            let report = reports.entry(vibrator).or_insert_with(|| InboxReport::none(vibrator));
            report.open += 1;
            report.effective_floor = report.effective_floor.max(inbox.effective_floor());
        }
        reports.into_values().collect()
    }

    pub(super) fn sum(&self) -> Ledger {
        let state = self.0.lock();
        let gone = state.gone.values().fold(Ledger::default(), |sum, ledger| sum + *ledger);
        state.inboxes().fold(gone, |sum, (_, inbox)| sum + inbox.ledger())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::inbox::{InboxOptions, Offer, ShedReason};
    use crate::wave::Wave;

    fn inbox_with(waves: usize) -> Arc<Inbox> {
        let inbox = Inbox::new(InboxOptions::default()).unwrap();
        inbox.offer_all((0..waves).map(|_| Wave::from_bytes("a", "x").unwrap()));
        Arc::new(inbox)
    }

    fn of(accounts: &InboxAccounts, name: &str) -> Option<(usize, u64)> {
        let reports = accounts.reports();
        let mut named = reports.iter().filter(|report| report.vibrator == name);
        let found = named.next().map(|report| (report.open, report.ledger.offered));
        assert!(named.next().is_none(), "one report per name");
        found
    }

    #[test]
    fn a_name_keeps_its_counts_when_its_vibrators_come_and_go() {
        let accounts = InboxAccounts::default();
        accounts.open(1, "alpha", inbox_with(3));
        accounts.open(2, "alpha", inbox_with(4));
        assert_eq!(of(&accounts, "alpha"), Some((2, 7)));
        accounts.close(1);
        assert_eq!(of(&accounts, "alpha"), Some((1, 7)));
        accounts.close(2);
        accounts.close(2);
        assert_eq!(of(&accounts, "alpha"), Some((0, 7)));
        accounts.open(3, "alpha", inbox_with(1));
        assert_eq!(of(&accounts, "alpha"), Some((1, 8)));
        assert_eq!((accounts.sum().offered, accounts.sum().shed_closed), (8, 7));
        assert!(accounts.sum().adds_up());
    }

    #[test]
    fn the_floor_is_the_highest_of_the_open_ones() {
        let accounts = InboxAccounts::default();
        for (listener, floor) in [(1, 0.1), (2, 0.4)] {
            let options = InboxOptions::default().floor(Floor::new(floor).unwrap());
            accounts.open(listener, "alpha", Arc::new(Inbox::new(options).unwrap()));
        }
        let floor = |accounts: &InboxAccounts| accounts.reports()[0].effective_floor;
        assert_eq!(floor(&accounts), Floor::new(0.4).unwrap());
        accounts.close(2);
        assert_eq!(floor(&accounts), Floor::new(0.1).unwrap());
        accounts.close(1);
        assert!(floor(&accounts).is_open());
    }

    #[test]
    fn unbounded_names_do_not_grow_the_accounts_and_the_sum_stays_complete() {
        let accounts = InboxAccounts::default();
        for listener in 0..(MAX_DEPARTED as u64 + 100) {
            accounts.open(listener, &format!("v{listener}"), inbox_with(1));
            accounts.close(listener);
        }
        assert_eq!(accounts.reports().len(), MAX_DEPARTED + 1);
        assert_eq!(of(&accounts, OTHER), Some((0, 100)));
        assert_eq!(accounts.sum().offered, MAX_DEPARTED as u64 + 100);
        // A vibrator that happens to have that name shares the entry.
        accounts.open(u64::MAX, OTHER, inbox_with(1));
        assert_eq!(of(&accounts, OTHER), Some((1, 101)));
    }

    #[test]
    fn late_waves_for_a_closed_inbox_are_counted_as_long_as_any_can_arrive() {
        let accounts = InboxAccounts::default();
        let shed = Arc::new(Mutex::new(0));
        let options = InboxOptions::default().on_shed({
            let shed = Arc::clone(&shed);
            move |_, reason| *shed.lock() += u64::from(reason == ShedReason::Closed)
        });
        let inbox = Arc::new(Inbox::new(options).unwrap());
        let late = || inbox.offer(Wave::from_bytes("a", "x").unwrap(), Offer::Now).unwrap();
        accounts.open(1, "alpha", Arc::clone(&inbox));
        accounts.open(2, "alpha", inbox_with(1));
        accounts.close(1);
        late();
        // Another inbox closes meanwhile, with no reference left.
        accounts.close(2);
        late();
        let account = Ledger { offered: 3, shed_closed: 3, ..Ledger::default() };
        assert_eq!((accounts.sum(), *shed.lock()), (account, 2));
        assert_eq!(of(&accounts, "alpha"), Some((0, 3)));
        drop(inbox);
        accounts.open(3, "beta", inbox_with(0));
        accounts.close(3);
        assert!(accounts.0.lock().leaving.is_empty());
        assert_eq!((accounts.sum(), of(&accounts, "alpha")), (account, Some((0, 3))));
    }

    #[test]
    fn inboxes_held_while_they_close_are_freed_eventually() {
        let accounts = InboxAccounts::default();
        let close = |listener: u64, inbox: &Arc<Inbox>| {
            accounts.open(listener, "alpha", Arc::clone(inbox));
            accounts.close(listener);
        };
        let held: Vec<_> = (0..1000).map(|_| inbox_with(1)).collect();
        (0..).zip(&held).for_each(|(listener, inbox)| close(listener, inbox));
        assert_eq!(accounts.0.lock().leaving.len(), 1000);
        drop(held);
        (1000..4000).for_each(|listener| close(listener, &inbox_with(1)));
        assert!(accounts.0.lock().leaving.len() < 1000);
        assert_eq!(of(&accounts, "alpha"), Some((0, 4000)));
    }

    #[test]
    fn dropping_a_callback_may_close_another_inbox() {
        struct Closing(std::sync::Weak<InboxAccounts>);
        impl Drop for Closing {
            fn drop(&mut self) {
                if let Some(accounts) = self.0.upgrade() {
                    accounts.close(2);
                }
            }
        }
        let accounts = Arc::new(InboxAccounts::default());
        let closing = Closing(Arc::downgrade(&accounts));
        let options = InboxOptions::default().on_shed(move |_, _| assert!(closing.0.strong_count() > 0));
        accounts.open(1, "alpha", Arc::new(Inbox::new(options).unwrap()));
        accounts.open(2, "beta", inbox_with(1));
        accounts.close(1);
        assert_eq!(of(&accounts, "beta"), Some((0, 1)));
    }

    #[test]
    fn a_callback_may_read_the_accounts() {
        let accounts = Arc::new(InboxAccounts::default());
        let seen = Arc::new(Mutex::new(0));
        let options = InboxOptions::default().on_shed({
            let (accounts, seen) = (Arc::downgrade(&accounts), Arc::clone(&seen));
            move |_, _| *seen.lock() += accounts.upgrade().map_or(0, |accounts| accounts.reports().len())
        });
        let inbox = Inbox::new(options).unwrap();
        inbox.offer(Wave::from_bytes("a", "x").unwrap(), Offer::Now).unwrap();
        accounts.open(1, "alpha", Arc::new(inbox));
        accounts.close(1);
        assert_eq!(*seen.lock(), 1);
    }
}
