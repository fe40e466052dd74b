//! The contribution of a service to the account of its process: the outcomes of its waves, its circuit breakers and its
//! histograms.

use std::sync::Arc;

use aether_core::Aether;
use aether_core::account::HandlersEntry;

use super::circuit::Circuit;
use super::report::{ServiceCounters, ServiceReport};
use crate::health::{self, ReadyCheck};
use crate::telemetry;

/// The part of a service, until it is dropped.
pub(super) struct Accounted {
    _handlers: HandlersEntry,
    _ready: ReadyCheck,
}

/// Adds a service to the account of its process; services of one name are added up. While one of its circuit breakers is
/// open, the process is not ready.
pub(super) fn account(
    aether: &Aether,
    name: &str,
    counters: ServiceCounters,
    circuits: Vec<(Circuit, String)>,
) -> Accounted {
    telemetry::record(name, counters.shared_timings());
    let circuits: Arc<[_]> = circuits.into();
    let (watched, service) = (Arc::clone(&circuits), name.to_owned());
    let ready = health::check(aether, "circuit_open", move || {
        let open =
            watched.iter().filter(|(circuit, _)| circuit.openings().0).map(|(_, heard)| heard.as_str());
        let open: Vec<_> = open.collect();
        let heard = open.join(", ");
        (!open.is_empty())
            .then(|| format!("the circuit breaker of the service {service} is open for {heard}"))
    });
    let handlers = aether.account_handlers(name, move |account| {
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
        for (circuit, _) in &*circuits {
            let (is_open, openings) = circuit.openings();
            account.breakers += 1;
            account.breakers_open += u64::from(is_open);
            account.breaker_openings += openings;
        }
    });
    Accounted { _handlers: handlers, _ready: ready }
}
