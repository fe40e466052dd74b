//! The physics part of the status.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use aether::physics::{Fringe, PhysicsReport, ResonanceMap, Severity, StandingWave};
use aether_core::Channel;
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
    /// The latest changes of fringes with their age, newest first.
    fringes: Vec<(Duration, Fringe)>,
    /// The number of findings by kind since the start.
    pub(crate) counts: BTreeMap<&'static str, u64>,
}

impl PhysicsPart {
    pub(crate) fn of(insight: &Insight) -> Self {
        Self {
            report: insight.report(),
            incidents: insight.incidents(),
            incidents_by_cause: insight.incidents_by_cause(),
            findings: insight.findings(),
            fringes: insight.fringes(),
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

    /// The incidents, the open ones first.
    pub(crate) fn incident_lines(&self) -> Vec<IncidentLine> {
        self.incidents.iter().map(IncidentLine::of).collect()
    }

    /// The findings, newest first.
    pub(crate) fn finding_lines(&self) -> Vec<FindingLine> {
        self.findings.iter().map(FindingLine::of).collect()
    }

    /// The changes of fringes, newest first.
    pub(crate) fn fringe_lines(&self) -> Vec<FringeLine<'_>> {
        let line = |(ago, fringe)| FringeLine { fringe, seconds_ago: Duration::as_secs_f64(ago) };
        self.fringes.iter().map(|(ago, fringe)| line((ago, fringe))).collect()
    }

    /// The standing streams as JSON, for a view.
    pub(crate) fn standing_json(&self) -> serde_json::Value {
        let lines: Vec<_> = self.standing().iter().map(StandingLine::of).collect();
        serde_json::json!(lines)
    }

    /// The share of recent time in which the detectors ran; 1 unless there are too many waves.
    pub(crate) fn looked(&self) -> f64 {
        self.report.as_deref().map_or(1.0, |report| report.sampling.lately)
    }
}

/// A stream that beats regularly.
#[derive(Debug, Serialize)]
struct StandingLine<'a> {
    channel: &'a str,
    source: &'a str,
    period_seconds: f64,
    regularity: f32,
    beats: u64,
}

/// A change of a fringe.
#[derive(Debug, Serialize)]
pub(crate) struct FringeLine<'a> {
    #[serde(flatten)]
    fringe: &'a Fringe,
    seconds_ago: f64,
}

/// A finding.
#[derive(Debug, Serialize)]
pub(crate) struct FindingLine {
    sort: &'static str,
    text: String,
    seconds_ago: f64,
}

/// An incident.
#[derive(Debug, Serialize)]
pub(crate) struct IncidentLine {
    id: u64,
    cause: &'static str,
    severity: &'static str,
    text: String,
    is_open: bool,
    seconds: f64,
    seconds_ago: f64,
    services: Vec<String>,
    streams: Vec<String>,
    followers: Vec<String>,
    waiting: Vec<String>,
    unheard: Vec<String>,
    findings: Vec<String>,
}

impl<'a> StandingLine<'a> {
    fn of(stream: &'a StandingWave) -> Self {
        Self {
            channel: stream.channel.as_str(),
            source: stream.source.name(),
            period_seconds: stream.period.as_secs_f64(),
            regularity: stream.regularity,
            beats: stream.beats,
        }
    }
}

impl FindingLine {
    fn of(found: &Found) -> Self {
        Self {
            sort: found.finding.as_str(),
            text: found.finding.to_string(),
            seconds_ago: found.ago.as_secs_f64(),
        }
    }
}

impl IncidentLine {
    fn of(NotedIncident { ago, incident, .. }: &NotedIncident) -> Self {
        let names = |channels: &[Channel]| channels.iter().map(Channel::to_string).collect::<Vec<_>>();
        Self {
            id: incident.id,
            cause: incident.cause.as_str(),
            severity: incident.severity.as_str(),
            text: incident.to_string(),
            is_open: incident.until.is_none(),
            seconds: incident.lasted.as_secs_f64(),
            seconds_ago: ago.as_secs_f64(),
            services: incident.services.clone(),
            streams: names(&incident.streams),
            followers: names(&incident.followers),
            waiting: incident.waiting.clone(),
            unheard: names(&incident.unheard),
            findings: incident.findings.iter().map(ToString::to_string).collect(),
        }
    }
}

impl Serialize for PhysicsPart {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let standing: Vec<_> = self.standing().iter().map(StandingLine::of).collect();
        let mut part = serializer.serialize_struct("PhysicsPart", 7)?;
        part.serialize_field("incidents", &self.incident_lines())?;
        part.serialize_field("incidents_by_cause", &self.incidents_by_cause)?;
        part.serialize_field("map", &self.map().map(ResonanceMap::to_json))?;
        part.serialize_field("standing", &standing)?;
        part.serialize_field("findings", &self.finding_lines())?;
        part.serialize_field("findings_by_sort", &self.counts)?;
        part.serialize_field("looked", &self.looked())?;
        part.end()
    }
}
