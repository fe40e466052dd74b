//! The metrics, in the OpenMetrics text format.
//!
//! Each scrape is written from one reading of the status. Inboxes and the medium keep their own ledgers, which are only
//! copied here, so a scrape adds up exactly as the ledgers do. The status bounds the number of lines, whatever names
//! come from the network.

use std::fmt;
use std::sync::Arc;

use aether_core::physics::Severity;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeGaugeValue, EncodeMetric, NoLabelSet, text};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::{Registry, Unit};

use crate::slots::Connections;
use crate::status::{LedgerLine, ObservedLine, Readiness, Status, StatusSource};

/// The prefix of each name.
const PREFIX: &str = "aether";

/// All metrics of a gateway.
#[derive(Debug)]
pub(crate) struct Metrics {
    registry: Registry,
}

impl Metrics {
    pub(crate) fn new(source: Arc<StatusSource>) -> Self {
        let mut registry = Registry::with_prefix(PREFIX);
        registry.register_collector(Box::new(Scrape { source }));
        Self { registry }
    }

    /// Writes them as OpenMetrics 1.0.
    pub(crate) fn write(&self) -> Result<String, fmt::Error> {
        let mut text = String::new();
        text::encode(&mut text, &self.registry)?;
        Ok(text)
    }
}

/// Reads the status for each scrape.
#[derive(Debug)]
struct Scrape {
    source: Arc<StatusSource>,
}

impl Collector for Scrape {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let status = self.source.read();
        let mut to = Families(encoder);
        write_gateway(&mut to, &status)?;
        write_observed(&mut to, &status)?;
        let help = "Age of waves when the gateway received them";
        let ages = to.0.encode_descriptor("wave_age", help, Some(&Unit::Seconds), MetricType::Histogram)?;
        self.source.observed().ages().encode(ages)?;
        write_medium(&mut to, &status)?;
        write_reflected(&mut to, &status)?;
        write_roster(&mut to, &status)?;
        write_physics(&mut to, &status)?;
        write_inboxes(&mut to, &status)
    }
}

fn write_gateway(to: &mut Families<'_>, status: &Status) -> fmt::Result {
    to.0.encode_descriptor("build", "Version of the gateway", None, MetricType::Info)?
        .encode_info(&[("version", status.version)])?;
    to.gauge(
        "start_time",
        "Start time of the gateway since 1970",
        Some(Unit::Seconds),
        [(vec![], status.started_at_unix_seconds)],
    )?;
    let ready = u32::from(status.readiness == Readiness::Ready);
    to.gauge("ready", "1 if the gateway observes waves", None, [(vec![], ready)])?;
    let Connections { accepted, evicted_waiting, evicted_answering, timed_out } = status.http;
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

fn write_medium(to: &mut Families<'_>, status: &Status) -> fmt::Result {
    let medium = &status.medium;
    let help = "Waves held in the outbox because receivers asked for a pause";
    to.gauge("medium_held_waves", help, None, [(vec![], medium.held_waves)])?;
    to.gauge(
        "medium_connected",
        "1 if the medium is connected",
        None,
        [(vec![], u32::from(medium.connected))],
    )?;
    let counts = [
        ("medium_connects", "Number of times the connection was made; 1 if it never broke", medium.connects),
        (
            "medium_unconfirmed_waves",
            "Waves not confirmed when the connection broke; an upper bound of the waves lost",
            medium.unconfirmed_waves,
        ),
        (
            "medium_dropped_by_client_messages",
            "Messages dropped by the broker's client, a lower bound",
            medium.dropped_by_client_messages,
        ),
        (
            "medium_malformed_messages",
            "Messages with an invalid frame or an invalid channel",
            medium.malformed_messages,
        ),
        ("medium_implausible_messages", "Messages with implausible content", medium.implausible_messages),
        (
            "medium_stray_answers",
            "Answers that came when nobody waited for them any more, or that nobody asked for",
            medium.stray_answers,
        ),
        (
            "medium_lost_upstream_waves",
            "Waves sent to this process and lost on the way",
            medium.lost_upstream_waves,
        ),
        ("medium_pauses", "How often receivers have asked this process to pause", medium.pauses),
        (
            "medium_forgotten_streams",
            "Streams no longer checked for gaps, because the table was full",
            medium.forgotten_streams,
        ),
        (
            "medium_shed_at_source_waves",
            "Waves not sent because they were below the floors of all receivers",
            medium.shed_at_source_waves,
        ),
    ];
    for (name, help, count) in counts {
        to.counter(name, help, None, [(vec![], count)])?;
    }
    let help = "Messages received by the broker's client and not taken from it";
    to.gauge("medium_untaken_messages", help, None, [(vec![], medium.untaken_messages)])?;
    write_ledgers(to, &OUTBOX, &[(vec![], &medium.outbox)])
}

fn write_reflected(to: &mut Families<'_>, status: &Status) -> fmt::Result {
    let reflected = &status.reflected;
    let outcomes = [
        ("echoed", reflected.echoed),
        ("buried", reflected.buried),
        ("left_to_asker", reflected.left_to_asker),
        ("unconfirmed", reflected.unconfirmed),
    ];
    to.counter(
        "reflected_waves",
        "Commands and queries that failed in this process, by how the failure was reported",
        None,
        outcomes.map(|(outcome, waves)| (vec![("outcome", outcome)], waves)),
    )?;
    let help = "Failed commands and queries whose failure is being reported";
    to.gauge("reflecting_waves", help, None, [(vec![], reflected.pending)])?;
    let help = "Echoes from other processes that cannot be true";
    to.counter("refused_echoes", help, None, [(vec![], reflected.refused_echoes)])?;
    let letters = &status.dead_letters;
    to.gauge(
        "dead_letters",
        "Failed waves that are kept and can be sent again",
        None,
        [(vec![], letters.kept)],
    )?;
    let counts = [
        ("dead_letters_buried", "Failed waves whose failure could not be reported", letters.buried),
        ("dead_letters_taken", "Dead letters that were taken or sent again", letters.taken),
        ("dead_letters_overflowed", "Failed waves dropped for lack of room", letters.overflowed),
    ];
    for (name, help, count) in counts {
        to.counter(name, help, None, [(vec![], count)])?;
    }
    Ok(())
}

fn write_roster(to: &mut Families<'_>, status: &Status) -> fmt::Result {
    let Some(roster) = &status.roster else { return Ok(()) };
    let help = "Announcements of vibrators that were left out, as there were too many";
    to.counter("left_out_announcements", help, None, [(vec![], roster.left_out_announcements)])?;
    let help = "Announcements that contradict each other, as two processes speak in the name of one";
    to.counter("implausible_announcements", help, None, [(vec![], roster.implausible_announcements)])
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

fn write_inboxes(to: &mut Families<'_>, status: &Status) -> fmt::Result {
    let labelled = || status.inboxes.iter().map(|line| (vec![("vibrator", line.vibrator.as_str())], line));
    let ledgers: Vec<_> = labelled().map(|(labels, line)| (labels, &line.ledger)).collect();
    write_ledgers(to, &INBOX, &ledgers)?;
    to.gauge(
        "inbox_effective_floor",
        "Amplitude below which a vibrator receives nothing; overload raises it, 0 receives everything",
        None,
        labelled().map(|(labels, line)| (labels, line.effective_floor.as_f32())),
    )?;
    to.gauge("inboxes", "Open inboxes", None, labelled().map(|(labels, line)| (labels, line.inboxes)))?;
    write_ledgers(to, &ALL_INBOXES, &[(vec![], &status.all_inboxes)])
}

/// The names and help texts of one kind of ledger: offered = delivered + shed (all reasons) + lost upstream + queued.
struct LedgerNames {
    offered: (&'static str, &'static str),
    delivered: (&'static str, &'static str),
    shed: (&'static str, &'static str),
    /// `None` for an outbox, which receives nothing from a network.
    lost_upstream: Option<(&'static str, &'static str)>,
    queued: (&'static str, &'static str),
}

const OUTBOX: LedgerNames = LedgerNames {
    offered: ("outbox_offered_waves", "Waves given to the medium"),
    delivered: ("outbox_delivered_waves", "Waves carried by the medium or handed to the network"),
    shed: ("outbox_shed_waves", "Waves shed by the medium, by reason"),
    lost_upstream: None,
    queued: ("outbox_queued_waves", "Waves waiting to be sent"),
};

const INBOX: LedgerNames = LedgerNames {
    offered: ("inbox_offered_waves", "Waves sent to the inboxes of the vibrators with this name"),
    delivered: ("inbox_delivered_waves", "Waves received by the vibrators with this name"),
    shed: ("inbox_shed_waves", "Waves shed by the inboxes, by reason"),
    lost_upstream: Some(("inbox_lost_upstream_waves", "Waves sent to the inboxes and lost on the way")),
    queued: ("inbox_queued_waves", "Waves waiting in the inboxes"),
};

/// The sum over all vibrators, for processes with an unbounded number of vibrator names.
const ALL_INBOXES: LedgerNames = LedgerNames {
    offered: ("offered_waves", "Waves sent to all inboxes of the process, including closed ones"),
    delivered: ("delivered_waves", "Waves received by all vibrators of the process"),
    shed: ("shed_waves", "Waves shed by all inboxes of the process, by reason"),
    lost_upstream: Some((
        "lost_upstream_waves",
        "Waves sent to all inboxes of the process and lost on the way",
    )),
    queued: ("queued_waves", "Waves waiting in all inboxes of the process"),
};

fn write_ledgers(
    to: &mut Families<'_>,
    names: &LedgerNames,
    ledgers: &[(Labels<'_>, &LedgerLine)],
) -> fmt::Result {
    let each = |count: fn(&LedgerLine) -> u64| {
        ledgers.iter().map(move |(labels, ledger)| (labels.clone(), count(ledger)))
    };
    let (name, help) = names.offered;
    to.counter(name, help, None, each(|ledger| ledger.0.offered))?;
    let (name, help) = names.delivered;
    to.counter(name, help, None, each(|ledger| ledger.0.delivered))?;
    let shed = ledgers.iter().flat_map(|(labels, ledger)| {
        ledger.0.losses().map(|(reason, waves)| {
            let mut labels = labels.clone();
            labels.push(("reason", reason.as_str()));
            (labels, waves)
        })
    });
    let (name, help) = names.shed;
    to.counter(name, help, None, shed)?;
    if let Some((name, help)) = names.lost_upstream {
        to.counter(name, help, None, each(|ledger| ledger.0.lost_upstream))?;
    }
    let (name, help) = names.queued;
    to.gauge(name, help, None, each(|ledger| ledger.0.queued))
}

type Labels<'a> = Vec<(&'static str, &'a str)>;

/// Writes whole families: the description once, then a line for each set of labels.
struct Families<'a>(DescriptorEncoder<'a>);

impl Families<'_> {
    fn counter<'l>(
        &mut self,
        name: &str,
        help: &str,
        unit: Option<Unit>,
        lines: impl IntoIterator<Item = (Labels<'l>, u64)>,
    ) -> fmt::Result {
        let mut family = self.0.encode_descriptor(name, help, unit.as_ref(), MetricType::Counter)?;
        for (labels, count) in lines {
            if labels.is_empty() {
                family.encode_counter::<NoLabelSet, _, u64>(&count, None)?;
            } else {
                family.encode_family(&labels)?.encode_counter::<NoLabelSet, _, u64>(&count, None)?;
            }
        }
        Ok(())
    }

    fn gauge<'l>(
        &mut self,
        name: &str,
        help: &str,
        unit: Option<Unit>,
        lines: impl IntoIterator<Item = (Labels<'l>, impl EncodeGaugeValue)>,
    ) -> fmt::Result {
        let mut family = self.0.encode_descriptor(name, help, unit.as_ref(), MetricType::Gauge)?;
        for (labels, value) in lines {
            if labels.is_empty() {
                family.encode_gauge(&value)?;
            } else {
                family.encode_family(&labels)?.encode_gauge(&value)?;
            }
        }
        Ok(())
    }
}
