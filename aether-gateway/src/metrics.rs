//! The metrics, in the OpenMetrics text format.
//!
//! Written from one reading of the status for each scrape. The accounts of inboxes and of the medium are kept by those
//! themselves; here they are only written down, so a scrape adds up exactly as the ledgers do. The set of lines is
//! bounded by the status, whatever names come from the network.

use std::fmt;
use std::sync::Arc;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeGaugeValue, EncodeMetric, NoLabelSet, text};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::{Registry, Unit};

use crate::slots::Connections;
use crate::status::{LedgerLine, ObservedLine, Readiness, Scene, Status};

/// What goes before each name.
const PREFIX: &str = "aether";

/// All metrics of a gateway.
#[derive(Debug)]
pub(crate) struct Metrics {
    registry: Registry,
}

impl Metrics {
    pub(crate) fn new(scene: Arc<Scene>) -> Self {
        let mut registry = Registry::with_prefix(PREFIX);
        registry.register_collector(Box::new(Scrape { scene }));
        Self { registry }
    }

    /// Writes them as OpenMetrics 1.0.
    pub(crate) fn write(&self) -> Result<String, fmt::Error> {
        let mut text = String::new();
        text::encode(&mut text, &self.registry)?;
        Ok(text)
    }
}

/// Reads the status anew for each scrape.
#[derive(Debug)]
struct Scrape {
    scene: Arc<Scene>,
}

impl Collector for Scrape {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let status = self.scene.read();
        let mut to = Families(encoder);
        write_gateway(&mut to, &status)?;
        write_observed(&mut to, &status)?;
        let help = "How old waves were when the gateway saw them";
        let ages = to.0.encode_descriptor("wave_age", help, Some(&Unit::Seconds), MetricType::Histogram)?;
        self.scene.observed().ages().encode(ages)?;
        write_medium(&mut to, &status)?;
        write_reflected(&mut to, &status)?;
        write_physics(&mut to, &status)?;
        write_inboxes(&mut to, &status)
    }
}

fn write_gateway(to: &mut Families<'_>, status: &Status) -> fmt::Result {
    to.0.encode_descriptor("build", "The gateway that runs", None, MetricType::Info)?
        .encode_info(&[("version", status.version)])?;
    to.gauge(
        "start_time",
        "When the gateway was started, since 1970",
        Some(Unit::Seconds),
        [(vec![], status.started_at_unix_seconds)],
    )?;
    let ready = u32::from(status.readiness == Readiness::Ready);
    to.gauge("ready", "1 if waves are observed now", None, [(vec![], ready)])?;
    let Connections { accepted, evicted_waiting, evicted_answering, timed_out } = status.http;
    to.counter("http_connections", "Connections over HTTP", None, [(vec![], accepted)])?;
    let ended = [("idle", evicted_waiting), ("slow", evicted_answering), ("timed_out", timed_out)];
    to.counter(
        "http_connections_cut",
        "Connections that the gateway ended before they were answered, idle and slow ones in favour of newer ones",
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
    to.counter(
        "observed_waves",
        "Waves that the gateway saw",
        None,
        kinds().map(|(labels, kind)| (labels, kind.waves)),
    )?;
    to.counter(
        "observed_payload",
        "Payloads of the waves that the gateway saw",
        Some(Unit::Bytes),
        kinds().map(|(labels, kind)| (labels, kind.payload_bytes)),
    )?;
    let channels = status.observed.channels.len();
    to.gauge("observed_channels", "Lines in the table of channels", None, [(vec![], channels)])?;
    let ObservedLine { forgotten_channels, forgotten_waves, forgotten_payload_bytes, .. } = status.observed;
    let help = "Channels that were silent and whose lines others have taken";
    to.counter("observed_forgotten_channels", help, None, [(vec![], forgotten_channels)])?;
    let help = "Waves that were counted in lines that others have taken";
    to.counter("observed_forgotten_waves", help, None, [(vec![], forgotten_waves)])?;
    let help = "Payloads of those waves";
    to.counter("observed_forgotten_payload", help, Some(Unit::Bytes), [(vec![], forgotten_payload_bytes)])
}

fn write_medium(to: &mut Families<'_>, status: &Status) -> fmt::Result {
    let medium = &status.medium;
    let help = "Waves in the outbox that receivers have asked to hold";
    to.gauge("medium_held_waves", help, None, [(vec![], medium.held_waves)])?;
    to.gauge("medium_connected", "1 if waves cross now", None, [(vec![], u32::from(medium.connected))])?;
    let counts = [
        ("medium_connects", "How often the connection was made; 1 if it never broke", medium.connects),
        (
            "medium_unconfirmed_waves",
            "Waves that were not confirmed when the connection broke: at most so many were lost there",
            medium.unconfirmed_waves,
        ),
        (
            "medium_dropped_by_client_messages",
            "Messages that the broker's client dropped, at least",
            medium.dropped_by_client_messages,
        ),
        (
            "medium_malformed_messages",
            "Messages that were no valid frame, or came on a name that is no channel",
            medium.malformed_messages,
        ),
        (
            "medium_implausible_messages",
            "Messages that said what cannot be true",
            medium.implausible_messages,
        ),
        (
            "medium_lost_upstream_waves",
            "Waves sent to subscriptions of this process and lost on the way",
            medium.lost_upstream_waves,
        ),
        ("medium_pauses", "How often receivers have asked this process to pause", medium.pauses),
        (
            "medium_forgotten_streams",
            "Senders' channels that losses are looked for in no longer, as others came",
            medium.forgotten_streams,
        ),
        (
            "medium_shed_at_source_waves",
            "Waves that were not sent, as no receiver of the channel would have heard them",
            medium.shed_at_source_waves,
        ),
    ];
    for (name, help, count) in counts {
        to.counter(name, help, None, [(vec![], count)])?;
    }
    let help =
        "Messages that the broker's client received and nobody has taken from it, not yet or not any more";
    to.gauge("medium_untaken_messages", help, None, [(vec![], medium.untaken_messages)])?;
    write_ledgers(to, &OUTBOX, &[(vec![], &medium.outbox)])
}

fn write_reflected(to: &mut Families<'_>, status: &Status) -> fmt::Result {
    let reflected = &status.reflected;
    let outcomes = [
        ("told", reflected.told),
        ("buried", reflected.buried),
        ("left_to_asker", reflected.left_to_asker),
        ("unconfirmed", reflected.unconfirmed),
    ];
    to.counter(
        "reflected_waves",
        "Commands and queries that failed in this process, by how their sources learnt of it",
        None,
        outcomes.map(|(outcome, waves)| (vec![("outcome", outcome)], waves)),
    )?;
    let help = "Commands and queries that failed and whose sources are to be told";
    to.gauge("reflecting_waves", help, None, [(vec![], reflected.pending)])?;
    let letters = &status.dead_letters;
    to.gauge("dead_letters", "Failed waves that are kept to be sent again", None, [(vec![], letters.kept)])?;
    let counts = [
        ("dead_letters_buried", "Failed waves whose sources could not be told", letters.buried),
        ("dead_letters_taken", "Dead letters that were taken or sent again", letters.taken),
        (
            "dead_letters_overflowed",
            "Failed waves that were not kept, or not any longer, for want of room",
            letters.overflowed,
        ),
    ];
    for (name, help, count) in counts {
        to.counter(name, help, None, [(vec![], count)])?;
    }
    Ok(())
}

fn write_physics(to: &mut Families<'_>, status: &Status) -> fmt::Result {
    let Some(physics) = &status.physics else { return Ok(()) };
    to.counter(
        "findings",
        "What the detectors found: periodic streams, missing beats, polling, retry storms and more, by sort",
        None,
        physics.counts.iter().map(|(sort, findings)| (vec![("sort", *sort)], *findings)),
    )?;
    let edges = physics.map().map_or(0, |map| map.edges.len());
    to.gauge(
        "related_channels",
        "Pairs of channels of which one follows the other",
        None,
        [(vec![], edges)],
    )?;
    let standing = physics.standing().len();
    to.gauge("standing_waves", "Periodic streams, silent ones included", None, [(vec![], standing)])?;
    let help = "Which part of the time the detectors look, 1 while there are not too many waves";
    to.gauge("physics_looked_ratio", help, None, [(vec![], physics.looked())])
}

fn write_inboxes(to: &mut Families<'_>, status: &Status) -> fmt::Result {
    let labelled = || status.inboxes.iter().map(|line| (vec![("vibrator", line.vibrator.as_str())], line));
    let ledgers: Vec<_> = labelled().map(|(labels, line)| (labels, &line.ledger)).collect();
    write_ledgers(to, &INBOX, &ledgers)?;
    to.gauge(
        "inbox_effective_floor",
        "The amplitude below which a vibrator hears nothing, raised by overload; 0 hears everything",
        None,
        labelled().map(|(labels, line)| (labels, line.effective_floor.as_f32())),
    )?;
    to.gauge(
        "inboxes",
        "Inboxes that are open",
        None,
        labelled().map(|(labels, line)| (labels, line.inboxes)),
    )?;
    write_ledgers(to, &ALL_INBOXES, &[(vec![], &status.all_inboxes)])
}

/// The names and words for one sort of ledger: offered = delivered + shed (all reasons) + lost upstream + queued.
struct LedgerNames {
    offered: (&'static str, &'static str),
    delivered: (&'static str, &'static str),
    shed: (&'static str, &'static str),
    /// Not of an outbox, where nothing comes from a network.
    lost_upstream: Option<(&'static str, &'static str)>,
    queued: (&'static str, &'static str),
}

const OUTBOX: LedgerNames = LedgerNames {
    offered: ("outbox_offered_waves", "Waves given to the medium"),
    delivered: ("outbox_delivered_waves", "Waves that the medium carried or handed to the network"),
    shed: ("outbox_shed_waves", "Waves that the medium dropped on purpose, by reason"),
    lost_upstream: None,
    queued: ("outbox_queued_waves", "Waves that wait to be sent"),
};

const INBOX: LedgerNames = LedgerNames {
    offered: ("inbox_offered_waves", "Waves sent to the inboxes of vibrators of a name"),
    delivered: ("inbox_delivered_waves", "Waves that the vibrator took"),
    shed: ("inbox_shed_waves", "Waves that the inboxes dropped on purpose, by reason"),
    lost_upstream: Some(("inbox_lost_upstream_waves", "Waves sent to the inboxes and lost on the way")),
    queued: ("inbox_queued_waves", "Waves that wait in the inboxes now"),
};

/// The sum over all vibrators, for those whose names are without end.
const ALL_INBOXES: LedgerNames = LedgerNames {
    offered: ("offered_waves", "Waves sent to any inbox of the process, closed ones included"),
    delivered: ("delivered_waves", "Waves that any vibrator of the process took"),
    shed: ("shed_waves", "Waves that any inbox of the process dropped on purpose, by reason"),
    lost_upstream: Some((
        "lost_upstream_waves",
        "Waves sent to any inbox of the process and lost on the way",
    )),
    queued: ("queued_waves", "Waves that wait in any inbox of the process now"),
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
