//! Sums and differences of ledgers whose numbers come from the network: they end at the bounds and never wrap.

use crate::inbox::Ledger;

/// Combines two ledgers count by count.
fn combined(a: &Ledger, b: &Ledger, with: impl Fn(u64, u64) -> u64) -> Ledger {
    Ledger {
        offered: with(a.offered, b.offered),
        delivered: with(a.delivered, b.delivered),
        shed_full: with(a.shed_full, b.shed_full),
        shed_below_floor: with(a.shed_below_floor, b.shed_below_floor),
        shed_sojourn: with(a.shed_sojourn, b.shed_sojourn),
        expired: with(a.expired, b.expired),
        shed_closed: with(a.shed_closed, b.shed_closed),
        shed_unsendable: with(a.shed_unsendable, b.shed_unsendable),
        lost_upstream: with(a.lost_upstream, b.lost_upstream),
        queued: with(a.queued, b.queued),
    }
}

pub(super) fn sum(a: &Ledger, b: &Ledger) -> Ledger {
    combined(a, b, u64::saturating_add)
}

/// What was added since an earlier ledger of the same waves. Counts that fell give 0.
pub(super) fn since(now: &Ledger, before: &Ledger) -> Ledger {
    combined(now, before, u64::saturating_sub)
}

/// All lost waves; [`Ledger::lost`] could wrap for sums that ended at the bound.
pub(super) fn lost(ledger: &Ledger) -> u64 {
    let shed = ledger.losses().into_iter().fold(0_u64, |sum, (_, waves)| sum.saturating_add(waves));
    shed.saturating_add(ledger.lost_upstream)
}

/// Whether a count fell that can only grow. What is queued may fall.
pub(super) fn fell(now: &Ledger, before: &Ledger) -> bool {
    let grown = since(before, now);
    Ledger { queued: 0, ..grown } != Ledger::default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_end_at_the_bounds_and_fallen_counts_are_noticed() {
        let most = Ledger { offered: u64::MAX, shed_full: u64::MAX, expired: 1, ..Ledger::default() };
        assert_eq!(sum(&most, &most).offered, u64::MAX);
        assert_eq!(lost(&most), u64::MAX);
        let (before, now) = (
            Ledger { offered: 5, delivered: 2, queued: 3, ..Ledger::default() },
            Ledger { offered: 5, delivered: 5, ..Ledger::default() },
        );
        assert!(!fell(&now, &before) && fell(&before, &now));
        assert_eq!(since(&now, &before).delivered, 3);
        assert_eq!(since(&before, &now).delivered, 0);
    }
}
