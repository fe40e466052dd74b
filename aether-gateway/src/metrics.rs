//! The metrics of the gateway itself and of the traffic that it observes. The metrics of its bus are in
//! `aether-metrics`.
//!
//! Each scrape is written from one reading of the status, which bounds the number of lines, whatever names come from the
//! network.

mod accounts;
mod durable;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use aether::physics::Severity;
use aether_core::Aether;
use aether_metrics::prometheus_client::collector::Collector;
use aether_metrics::prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use aether_metrics::prometheus_client::metrics::MetricType;
use aether_metrics::prometheus_client::registry::Unit;
use aether_metrics::{Connections, Families, Metrics};

use crate::field::FieldLine;
use crate::readiness::Readiness;
use crate::status::{ObservedLine, Status, StatusSource};
use crate::taps::WavesLine;

/// The metrics of a bus and of the gateway that observes it.
pub(crate) fn metrics(aether: &Aether, source: Arc<StatusSource>) -> Metrics {
    let mut metrics = Metrics::of(aether);
    metrics.collect(Scrape { source });
    metrics
}

/// Reads the status for each scrape.
#[derive(Debug)]
struct Scrape {
    source: Arc<StatusSource>,
}

impl Collector for Scrape {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let status = self.source.read();
        let mut to = Families::new(encoder);
        write_gateway(&mut to, &status)?;
        write_observed(&mut to, &status)?;
        let help = "Age of waves when the gateway received them";
        let ages = to.other("wave_age", help, Some(&Unit::Seconds), MetricType::Histogram)?;
        self.source.observed().ages().encode(ages)?;
        write_roster(&mut to, &status)?;
        accounts::write(&mut to, &status.accounts)?;
        write_descriptions(&mut to, &status)?;
        write_physics(&mut to, &status)?;
        write_clients(&mut to, &status.clients)?;
        durable::write(&mut to, &self.source.durable().last())?;
        write_fields(&mut to, &status)
    }
}

fn write_gateway(to: &mut Families<'_>, status: &Status) -> fmt::Result {
    to.other("build", "Version of the gateway", None, MetricType::Info)?
        .encode_info(&[("version", status.version)])?;
    to.gauge(
        "start_time",
        "Start time of the gateway since 1970",
        Some(Unit::Seconds),
        [(vec![], status.started_at_unix_seconds)],
    )?;
    let ready = u32::from(status.readiness == Readiness::Ready);
    to.gauge("ready", "1 if the gateway observes waves", None, [(vec![], ready)])?;
    let Connections { accepted, evicted_waiting, evicted_answering, timed_out, .. } = status.http;
    to.counter("http_connections", "HTTP connections", None, [(vec![], accepted)])?;
    let ended = [("idle", evicted_waiting), ("slow", evicted_answering), ("timed_out", timed_out)];
    to.counter(
        "http_connections_cut",
        "HTTP connections closed before they were answered; idle and slow ones make room for newer ones",
        None,
        ended.map(|(reason, connections)| (vec![("reason", reason)], connections)),
    )
}

fn write_observed(to: &mut Families<'_>, status: &Status) -> fmt::Result {
    let kinds = || {
        status.observed.channels.iter().flat_map(|line| {
            let labels = |kind| vec![("channel", line.channel.as_str()), ("kind", kind)];
            line.kinds.iter().map(move |kind| (labels(kind.kind), kind))
        })
    };
    to.counter("observed_waves", "Waves observed", None, kinds().map(|(labels, kind)| (labels, kind.waves)))?;
    to.counter(
        "observed_payload",
        "Payload bytes observed",
        Some(Unit::Bytes),
        kinds().map(|(labels, kind)| (labels, kind.payload_bytes)),
    )?;
    let channels = status.observed.channels.len();
    to.gauge("observed_channels", "Lines in the table of channels", None, [(vec![], channels)])?;
    let ObservedLine { forgotten_channels, forgotten_waves, forgotten_payload_bytes, .. } = status.observed;
    let help = "Silent channels whose lines were reused";
    to.counter("observed_forgotten_channels", help, None, [(vec![], forgotten_channels)])?;
    let help = "Waves counted in reused lines";
    to.counter("observed_forgotten_waves", help, None, [(vec![], forgotten_waves)])?;
    let help = "Payload bytes counted in reused lines";
    to.counter("observed_forgotten_payload", help, Some(Unit::Bytes), [(vec![], forgotten_payload_bytes)])
}

fn write_roster(to: &mut Families<'_>, status: &Status) -> fmt::Result {
    let roster = &status.roster;
    let help = "Announcements of vibrators that were left out, as there were too many";
    to.counter("left_out_announcements", help, None, [(vec![], roster.left_out_announcements)])?;
    let help = "Announcements that contradict each other, as two processes speak in the name of one";
    to.counter("implausible_announcements", help, None, [(vec![], roster.implausible_announcements)])
}

/// Those who hear and emit waves through the gateway.
fn write_clients(to: &mut Families<'_>, line: &WavesLine) -> fmt::Result {
    to.gauge("gateway_clients", "Clients that hear or emit waves", None, [(vec![], line.clients)])?;
    let help = "Subscriptions of these clients";
    to.gauge("gateway_subscriptions", help, None, [(vec![], line.subscriptions)])?;
    let help = "Waves that clients were not sent, as they did not read fast enough or wanted fewer";
    to.counter("gateway_missed_waves", help, None, [(vec![], line.missed_waves)])?;
    to.counter("gateway_emitted_waves", "Waves emitted for clients", None, [(vec![], line.emitted_waves)])?;
    to.counter("gateway_questions", "Questions asked for clients", None, [(vec![], line.questions)])?;
    let help = "Clients given up because they did not read";
    to.counter("gateway_stalled_clients", help, None, [(vec![], line.stalled_clients)])?;
    let refused = line.refused.iter().map(|(reason, requests)| (vec![("reason", *reason)], *requests));
    to.counter("gateway_refused_requests", "Requests of clients that were refused", None, refused)
}

fn write_descriptions(to: &mut Families<'_>, status: &Status) -> fmt::Result {
    let refused = status.refused_descriptions;
    let reasons = [
        ("invalid", refused.invalid),
        ("too_large", refused.too_large),
        ("silent", refused.silent),
        ("left_out", refused.left_out),
    ];
    let help = "Services that were asked for their descriptions in vain";
    let lines = reasons.map(|(reason, services)| (vec![("reason", reason)], services));
    to.counter("refused_descriptions", help, None, lines)
}

fn write_fields(to: &mut Families<'_>, status: &Status) -> fmt::Result {
    if status.fields.is_empty() {
        return Ok(());
    }
    let each = |value: fn(&FieldLine) -> u64| {
        status.fields.iter().map(move |line| (vec![("field", line.field.as_str())], value(line)))
    };
    let help = "Clients of a field over WebSocket";
    to.gauge("field_clients", help, None, each(|line| line.clients as u64))?;
    let help = "Entries of a field, marks of removals included";
    to.gauge("field_entries", help, None, each(|line| line.entries))?;
    let help = "Changes that wait to be sent to clients of a field";
    to.gauge("field_queued_changes", help, None, each(|line| line.queued_changes as u64))?;
    let help = "Clients of a field that were admitted";
    to.counter("field_admitted_clients", help, None, each(|line| line.admitted_clients))?;
    let help = "Writes of clients that a field took, repeated ones included";
    to.counter("field_writes", help, None, each(|line| line.writes))?;
    let help = "Losing writes that were reported to their clients";
    to.counter("field_superseded_writes", help, None, each(|line| line.superseded_writes))?;
    let help = "Changes that took the place of an older one before a client got it";
    to.counter("field_coalesced_changes", help, None, each(|line| line.coalesced_changes))?;
    let help = "Clients that get a new snapshot, as too many changes waited for them";
    to.counter("field_resynced_clients", help, None, each(|line| line.resynced_clients))?;
    let help = "Values of other replicas that are no JSON, each time that a client did not get one";
    to.counter("field_unreadable_values", help, None, each(|line| line.unreadable_values))?;
    let reasons = |reasons: fn(&FieldLine) -> &BTreeMap<&'static str, u64>| {
        status.fields.iter().flat_map(move |line| {
            let labels = |reason| vec![("field", line.field.as_str()), ("reason", reason)];
            reasons(line).iter().map(move |(reason, number)| (labels(*reason), *number))
        })
    };
    let help = "Changes of other replicas of a field that were refused here: by the clock, for want of trust, or out of bounds";
    to.counter("field_refused_changes", help, None, reasons(|line| &line.refused_changes))?;
    let events = status.fields.iter().flat_map(|line| {
        let labels = |event| vec![("field", line.field.as_str()), ("event", event)];
        line.events.iter().map(move |(event, number)| (labels(*event), *number))
    });
    let help = "Events of the gateway's replica of a field: changes received, entries that became void or were forgotten, messages that could not be read, participants refused, losses not reported, reconciliations finished and broken off, damaged records";
    to.counter("field_replica_events", help, None, events)?;
    let help = "Connections, messages and writes of clients of a field that were refused";
    to.counter("field_refused", help, None, reasons(|line| &line.refused))?;
    let help = "Clients of a field that were given up";
    to.counter("field_dropped_clients", help, None, reasons(|line| &line.dropped_clients))
}

fn write_physics(to: &mut Families<'_>, status: &Status) -> fmt::Result {
    let Some(physics) = &status.physics else { return Ok(()) };
    to.gauge(
        "incidents_open",
        "Incidents that last, by severity; alert on these",
        None,
        Severity::ALL.map(|severity| (vec![("severity", severity.as_str())], physics.open(severity))),
    )?;
    to.counter(
        "incidents",
        "Incidents that began, by cause",
        None,
        physics.incidents_by_cause.iter().map(|(cause, incidents)| (vec![("cause", *cause)], *incidents)),
    )?;
    to.counter(
        "findings",
        "Findings of the detectors by sort, as details of incidents: periodic streams, missing beats, polling, retry storms and more",
        None,
        physics.counts.iter().map(|(sort, findings)| (vec![("sort", *sort)], *findings)),
    )?;
    let edges = physics.map().map_or(0, |map| map.edges.len());
    to.gauge("related_channels", "Pairs of related channels", None, [(vec![], edges)])?;
    let standing = physics.standing().len();
    to.gauge("standing_waves", "Periodic streams, including silent ones", None, [(vec![], standing)])?;
    let help = "Share of the time in which the detectors run; 1 unless there are too many waves";
    to.gauge("physics_looked_ratio", help, None, [(vec![], physics.looked())])
}
