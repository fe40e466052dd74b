//! The physics part of the status.

use std::collections::BTreeMap;
use std::sync::Arc;

use aether_core::Channel;
use aether_core::physics::{PhysicsReport, ResonanceMap, Severity, StandingWave};
use serde::ser::SerializeStruct;
use serde::{Serialize, Serializer};

use crate::insight::{Found, Insight, NotedIncident};

/// The findings so far. Before the first report of the detectors there is no map and no standing wave.
#[derive(Debug)]
pub(crate) struct PhysicsPart {
    pub(crate) report: Option<Arc<PhysicsReport>>,
    /// The open ones first.
    pub(crate) incidents: Vec<NotedIncident>,
    /// The number of incidents by cause since the start.
    pub(crate) incidents_by_cause: BTreeMap<&'static str, u64>,
    /// Newest first.
    pub(crate) findings: Vec<Found>,
    /// The number of findings by kind since the start.
    pub(crate) counts: BTreeMap<&'static str, u64>,
}

impl PhysicsPart {
    pub(super) fn of(insight: &Insight) -> Self {
        Self {
            report: insight.report(),
            incidents: insight.incidents(),
            incidents_by_cause: insight.incidents_by_cause(),
            findings: insight.findings(),
            counts: insight.counts(),
        }
    }

    /// The number of open incidents of a severity.
    pub(crate) fn open(&self, severity: Severity) -> usize {
        let is_open = |noted: &&NotedIncident| noted.incident.until.is_none();
        self.incidents.iter().filter(is_open).filter(|noted| noted.incident.severity == severity).count()
    }

    pub(crate) fn map(&self) -> Option<&ResonanceMap> {
        self.report.as_deref().map(|report| &report.map)
    }

    pub(crate) fn standing(&self) -> &[StandingWave] {
        self.report.as_deref().map_or(&[], |report| &report.standing)
    }

    /// The share of recent time in which the detectors ran; 1 unless there are too many waves.
    pub(crate) fn looked(&self) -> f64 {
        self.report.as_deref().map_or(1.0, |report| report.sampling.lately)
    }
}

impl Serialize for PhysicsPart {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        struct Standing<'a> {
            channel: &'a str,
            source: &'a str,
            period_seconds: f64,
            regularity: f32,
            beats: u64,
        }
        #[derive(Serialize)]
        struct Finding {
            sort: &'static str,
            text: String,
            seconds_ago: f64,
        }
        #[derive(Serialize)]
        struct Incident<'a> {
            id: u64,
            cause: &'static str,
            severity: &'static str,
            text: String,
            is_open: bool,
            seconds: f64,
            seconds_ago: f64,
            services: &'a [String],
            streams: Vec<String>,
            followers: Vec<String>,
            waiting: &'a [String],
            findings: Vec<String>,
        }
        let names = |channels: &[Channel]| channels.iter().map(Channel::to_string).collect::<Vec<_>>();
        let incidents: Vec<_> = self
            .incidents
            .iter()
            .map(|NotedIncident { ago, incident, .. }| Incident {
                id: incident.id,
                cause: incident.cause.as_str(),
                severity: incident.severity.as_str(),
                text: incident.to_string(),
                is_open: incident.until.is_none(),
                seconds: incident.lasted.as_secs_f64(),
                seconds_ago: ago.as_secs_f64(),
                services: &incident.services,
                streams: names(&incident.streams),
                followers: names(&incident.followers),
                waiting: &incident.waiting,
                findings: incident.findings.iter().map(ToString::to_string).collect(),
            })
            .collect();
        let standing: Vec<_> = self
            .standing()
            .iter()
            .map(|stream| Standing {
                channel: stream.channel.as_str(),
                source: stream.source.name(),
                period_seconds: stream.period.as_secs_f64(),
                regularity: stream.regularity,
                beats: stream.beats,
            })
            .collect();
        let findings: Vec<_> = self
            .findings
            .iter()
            .map(|found| Finding {
                sort: found.finding.as_str(),
                text: found.finding.to_string(),
                seconds_ago: found.ago.as_secs_f64(),
            })
            .collect();
        let mut part = serializer.serialize_struct("PhysicsPart", 7)?;
        part.serialize_field("incidents", &incidents)?;
        part.serialize_field("incidents_by_cause", &self.incidents_by_cause)?;
        part.serialize_field("map", &self.map().map(ResonanceMap::to_json))?;
        part.serialize_field("standing", &standing)?;
        part.serialize_field("findings", &findings)?;
        part.serialize_field("findings_by_sort", &self.counts)?;
        part.serialize_field("looked", &self.looked())?;
        part.end()
    }
}
