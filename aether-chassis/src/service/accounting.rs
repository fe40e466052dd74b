//! What a service adds to the account of its process: the outcomes of its waves, and its circuit breakers.

use aether_core::Aether;
use aether_core::account::HandlersEntry;

use super::circuit::Circuit;
use super::report::{ServiceCounters, ServiceReport};

/// Adds a service to the account of its process, until the entry is dropped. Services of one name are added up.
pub(super) fn account(
    aether: &Aether,
    name: &str,
    counters: ServiceCounters,
    circuits: Vec<Circuit>,
) -> HandlersEntry {
    aether.account_handlers(name, move |account| {
        let ServiceReport {
            received,
            succeeded,
            retried,
            rejected,
            failed,
            panicked,
            timed_out,
            shed_busy,
            shed_circuit_open,
            left,
            abandoned,
            in_flight,
            ..
        } = counters.report();
        (account.received, account.succeeded, account.retried) = (received, succeeded, retried);
        account.failed = rejected + failed + panicked + timed_out;
        account.shed = shed_busy + shed_circuit_open;
        (account.left, account.in_flight) = (left + abandoned, in_flight);
        for circuit in &circuits {
            let (is_open, openings) = circuit.openings();
            account.breakers += 1;
            account.breakers_open += u64::from(is_open);
            account.breaker_openings += openings;
        }
    })
}
