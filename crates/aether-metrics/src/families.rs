//! Writes metric families: the description once, then a line for each set of labels.
//!
//! Collectors use it. It holds no values.

use std::fmt;

use aether_core::Ledger;
use prometheus_client::encoding::{DescriptorEncoder, EncodeGaugeValue, MetricEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::Unit;

/// The labels of one line.
pub type Labels<'a> = Vec<(&'static str, &'a str)>;

/// Writes whole families of metrics into a scrape.
#[derive(Debug)]
pub struct Families<'a>(DescriptorEncoder<'a>);

impl<'a> Families<'a> {
    /// Writes into the scrape of a collector.
    #[must_use]
    pub fn new(encoder: DescriptorEncoder<'a>) -> Self {
        Self(encoder)
    }

    /// Writes counters. The scrape adds `_total` to their name.
    ///
    /// # Errors
    /// As the encoder.
    pub fn counter<'l>(
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

    /// Writes gauges.
    ///
    /// # Errors
    /// As the encoder.
    pub fn gauge<'l>(
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

    /// Describes a family of another type, whose values the caller writes.
    ///
    /// # Errors
    /// As the encoder.
    pub fn other<'s>(
        &'s mut self,
        name: &'s str,
        help: &str,
        unit: Option<&'s Unit>,
        sort: MetricType,
    ) -> Result<MetricEncoder<'s>, fmt::Error> {
        self.0.encode_descriptor(name, help, unit, sort)
    }

    pub(crate) fn ledgers(&mut self, names: &LedgerNames, ledgers: &[(Labels<'_>, Ledger)]) -> fmt::Result {
        let each = |count: fn(&Ledger) -> u64| {
            ledgers.iter().map(move |(labels, ledger)| (labels.clone(), count(ledger)))
        };
        let (name, help) = names.offered;
        self.counter(name, help, None, each(|ledger| ledger.offered))?;
        let (name, help) = names.delivered;
        self.counter(name, help, None, each(|ledger| ledger.delivered))?;
        let shed = ledgers.iter().flat_map(|(labels, ledger)| {
            ledger.losses().map(|(reason, waves)| {
                let mut labels = labels.clone();
                labels.push(("reason", reason.as_str()));
                (labels, waves)
            })
        });
        let (name, help) = names.shed;
        self.counter(name, help, None, shed)?;
        if let Some((name, help)) = names.lost_upstream {
            self.counter(name, help, None, each(|ledger| ledger.lost_upstream))?;
        }
        let (name, help) = names.queued;
        self.gauge(name, help, None, each(|ledger| ledger.queued))
    }
}

/// The names and help texts of one kind of ledger: offered = delivered + shed (all reasons) + lost upstream + queued.
pub(crate) struct LedgerNames {
    offered: (&'static str, &'static str),
    delivered: (&'static str, &'static str),
    shed: (&'static str, &'static str),
    /// `None` for an outbox, which receives nothing from a network.
    lost_upstream: Option<(&'static str, &'static str)>,
    queued: (&'static str, &'static str),
}

pub(crate) const OUTBOX: LedgerNames = LedgerNames {
    offered: ("outbox_offered_waves", "Waves given to the medium"),
    delivered: ("outbox_delivered_waves", "Waves carried by the medium or handed to the network"),
    shed: ("outbox_shed_waves", "Waves shed by the medium, by reason"),
    lost_upstream: None,
    queued: ("outbox_queued_waves", "Waves waiting to be sent"),
};

pub(crate) const INBOX: LedgerNames = LedgerNames {
    offered: ("inbox_offered_waves", "Waves sent to the inboxes of the vibrators with this name"),
    delivered: ("inbox_delivered_waves", "Waves received by the vibrators with this name"),
    shed: ("inbox_shed_waves", "Waves shed by the inboxes, by reason"),
    lost_upstream: Some(("inbox_lost_upstream_waves", "Waves sent to the inboxes and lost on the way")),
    queued: ("inbox_queued_waves", "Waves waiting in the inboxes"),
};

/// The sum over all vibrators, for processes with an unbounded number of vibrator names.
pub(crate) const ALL_INBOXES: LedgerNames = LedgerNames {
    offered: ("offered_waves", "Waves sent to all inboxes of the process, including closed ones"),
    delivered: ("delivered_waves", "Waves received by all vibrators of the process"),
    shed: ("shed_waves", "Waves shed by all inboxes of the process, by reason"),
    lost_upstream: Some((
        "lost_upstream_waves",
        "Waves sent to all inboxes of the process and lost on the way",
    )),
    queued: ("queued_waves", "Waves waiting in all inboxes of the process"),
};
