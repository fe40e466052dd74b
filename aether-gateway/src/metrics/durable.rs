//! The metrics of durable logs in folders, as they were read last: at most 256 consumers.

use std::fmt;

use aether_metrics::Families;
use aether_metrics::prometheus_client::registry::Unit;

use crate::durable::{ConsumerLine, LogLine, Reading, StandingLine};

pub(super) fn write(to: &mut Families<'_>, reading: &Reading) -> fmt::Result {
    if reading.logs.is_empty() {
        return Ok(());
    }
    let logs = || reading.logs.iter().map(|log| (vec![("log", log.folder.as_str())], log));
    let help = "1 if the durable log in a folder can be read";
    to.gauge(
        "durable_readable",
        help,
        None,
        logs().map(|(labels, log)| (labels, u32::from(log.error.is_none()))),
    )?;
    let held = || logs().filter_map(|(labels, log)| Some((labels, log.held.as_ref()?)));
    let help = "Size of a durable log";
    to.gauge("durable_log", help, Some(Unit::Bytes), held().map(|(labels, held)| (labels, held.bytes)))?;
    let letters = held().filter_map(|(labels, held)| Some((labels, held.dead_letters?)));
    to.gauge(
        "durable_dead_letters",
        "Waves that the consumers of a durable log have given up",
        None,
        letters,
    )?;
    let consumers = |value: fn(&StandingLine) -> u64| {
        reading.logs.iter().flat_map(move |log| {
            log.consumers
                .iter()
                .filter_map(move |consumer| Some((labels(log, consumer), value(consumer.standing.as_ref()?))))
        })
    };
    let help = "Waves that wait for a consumer of a durable log; at least so many until the log was counted";
    to.gauge("durable_lag_waves", help, None, consumers(|standing| standing.lag))?;
    let help = "Waves that have failed and are delivered again to a consumer of a durable log";
    to.gauge("durable_retrying_waves", help, None, consumers(|standing| standing.retrying))
}

fn labels<'l>(log: &'l LogLine, consumer: &'l ConsumerLine) -> Vec<(&'static str, &'l str)> {
    vec![("log", log.folder.as_str()), ("consumer", consumer.name.as_str())]
}
