//! The metrics of durable logs, as they were read last: at most 256 consumers in folders, and as many in JetStream.

use std::fmt;

use aether_metrics::Families;
use aether_metrics::prometheus_client::registry::Unit;

use crate::durable::{AllLogs, ConsumerLine, LogLine, StandingLine, Store};

pub(super) fn write(to: &mut Families<'_>, all: &AllLogs) -> fmt::Result {
    let streams = all.streams();
    if streams.url.is_some() {
        let help = "1 if the durable logs in JetStream can be read";
        to.gauge("durable_jetstream_readable", help, None, [(vec![], u32::from(streams.is_observed))])?;
    }
    if all.logs().next().is_none() {
        return Ok(());
    }
    let logs = || all.logs().map(|log| (of_log(log), log));
    let help = "1 if the durable log can be read";
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
    let consumers = |value: fn(&StandingLine) -> Option<u64>| {
        all.logs().flat_map(move |log| {
            log.consumers.iter().filter_map(move |consumer| {
                Some((of_consumer(log, consumer), value(consumer.standing.as_ref()?)?))
            })
        })
    };
    let help = "Waves that wait for a consumer of a durable log; a lower bound until the log was counted";
    to.gauge("durable_lag_waves", help, None, consumers(|standing| Some(standing.lag)))?;
    let help = "Waves of a durable log that were delivered to a consumer and are not acknowledged";
    to.gauge("durable_in_flight_waves", help, None, consumers(|standing| Some(standing.in_flight)))?;
    let help = "Waves in flight that JetStream has delivered to a consumer more than once";
    to.gauge("durable_redelivered_waves", help, None, consumers(|standing| standing.redelivered))?;
    let help = "Waves that have failed and are delivered again to a consumer of a durable log";
    to.gauge("durable_retrying_waves", help, None, consumers(|standing| standing.retrying))
}

fn of_log(log: &LogLine) -> Vec<(&'static str, &str)> {
    let store = match log.store {
        Store::Folder => "folder",
        Store::JetStream => "jetstream",
    };
    vec![("store", store), ("log", log.folder.as_deref().unwrap_or(&log.name))]
}

fn of_consumer<'l>(log: &'l LogLine, consumer: &'l ConsumerLine) -> Vec<(&'static str, &'l str)> {
    let mut labels = of_log(log);
    labels.push(("consumer", &consumer.name));
    labels
}
