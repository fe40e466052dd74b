//! The metrics of the accounts of all processes: sums by program, of at most 257 lines, whatever names come from the
//! network. A count never falls, also when a process restarts.

use std::fmt;

use aether_core::Ledger;
use aether_core::account::AccountError;
use aether_metrics::Families;

use crate::status::{AccountsPart, ProgramLine};

/// The name and the help of a family, and its value for a program.
type Family = (&'static str, &'static str, fn(&ProgramLine) -> u64);

pub(super) fn write(to: &mut Families<'_>, accounts: &AccountsPart) -> fmt::Result {
    let programs = || accounts.programs.iter().map(|line| (vec![("program", line.program.as_str())], line));
    let standings = programs().flat_map(|(labels, line)| {
        [("present", line.present), ("silent", line.silent), ("ended", line.ended)].map(
            |(standing, number)| {
                let mut labels = labels.clone();
                labels.push(("standing", standing));
                (labels, number)
            },
        )
    });
    let help = "Processes that tell their account, have missed three accounts, or have ended";
    to.gauge("processes", help, None, standings)?;
    let counters: [Family; 9] = [
        ("process_offered_waves", "Waves offered to the inboxes of all processes of a program", |it| {
            it.inboxes.0.offered
        }),
        ("process_delivered_waves", "Waves received by all processes of a program", |it| {
            it.inboxes.0.delivered
        }),
        (
            "process_lost_upstream_waves",
            "Waves sent to all processes of a program and lost on the way",
            |it| it.inboxes.0.lost_upstream,
        ),
        ("process_emitted_waves", "Waves that all processes of a program gave to their medium", |it| {
            it.outbox.0.offered
        }),
        ("process_unconfirmed_waves", "Waves not confirmed when a connection broke", |it| it.unconfirmed),
        ("process_handled_waves", "Waves that the handlers of a program took", |it| it.handlers.received),
        ("process_failed_waves", "Waves whose handlers failed", |it| it.handlers.failed),
        ("process_breaker_openings", "How often circuit breakers have opened", |it| {
            it.handlers.breaker_openings
        }),
        (
            "process_suspicious_accounts",
            "Accounts of a program that are wrong or contradict each other",
            |it| it.suspicious,
        ),
    ];
    for (name, help, count) in counters {
        to.counter(name, help, None, programs().map(|(labels, line)| (labels, count(line))))?;
    }
    let help = "Waves shed by the inboxes of all processes of a program, by reason";
    shed(to, ("process_shed_waves", help), accounts, |line| &line.inboxes.0)?;
    let help = "Waves shed by the outboxes of all processes of a program, by reason";
    shed(to, ("process_outbox_shed_waves", help), accounts, |line| &line.outbox.0)?;
    let gauges: [Family; 4] = [
        ("process_queued_waves", "Waves waiting in the inboxes of present processes", |it| {
            it.inboxes.0.queued
        }),
        ("process_outbox_queued_waves", "Waves waiting to be sent by present processes", |it| {
            it.outbox.0.queued
        }),
        ("process_unsettled_waves", "Waves that were queued in processes that are gone", |it| it.unsettled),
        ("process_open_breakers", "Circuit breakers that are open", |it| it.handlers.breakers_open),
    ];
    for (name, help, value) in gauges {
        to.gauge(name, help, None, programs().map(|(labels, line)| (labels, value(line))))?;
    }
    let help = "Highest amplitude below which a present process receives nothing; 0 receives everything";
    let floors = programs().map(|(labels, line)| (labels, line.effective_floor.as_f32()));
    to.gauge("process_effective_floor", help, None, floors)?;
    to.counter("accounts", "Accounts of other processes that were read", None, [(vec![], accounts.taken)])?;
    let suspicious = AccountError::ALL.map(|reason| {
        let number = accounts.suspicious.get(reason.as_str()).copied().unwrap_or_default();
        (vec![("reason", reason.as_str())], number)
    });
    to.counter("accounts_suspicious", "Accounts that were rejected or are suspicious", None, suspicious)
}

fn shed(
    to: &mut Families<'_>,
    (name, help): (&str, &str),
    accounts: &AccountsPart,
    ledger: fn(&ProgramLine) -> &Ledger,
) -> fmt::Result {
    let lines = accounts.programs.iter().flat_map(|line| {
        ledger(line).losses().map(|(reason, waves)| {
            (vec![("program", line.program.as_str()), ("reason", reason.as_str())], waves)
        })
    });
    to.counter(name, help, None, lines)
}
