//! The overview: what flows, what is lost and why, incidents, who is there.

use serde::Serialize;

use crate::attention::Concern;
use crate::history::rounded;
use crate::log::Newest;
use crate::losses::{Lately, Losses};
use crate::observed::Second;
use crate::readiness::Readiness;
use crate::status::{AccountsPart, FindingLine, IncidentLine, PhysicsPart, ProgramLine, StatusSource};
use crate::taps::WavesLine;
use crate::track::{Moment, unix_ms};

/// The newest entries of the log that are shown.
const NEWEST: usize = 12;
/// The maximum number of channels of the last second: those with the most waves.
const MOST_CHANNELS: usize = 1000;

#[derive(Debug, Serialize)]
pub(crate) struct Overview {
    version: &'static str,
    unix_ms: u64,
    /// The number of the second, since the gateway started.
    second: u64,
    uptime_seconds: f64,
    readiness: Readiness,
    crosses_processes: bool,
    /// Whether there is an observer that looks for incidents.
    physics: bool,
    flow: Flow,
    losses: Losses,
    /// Concerns that need a look, in addition to losses and incidents.
    attention: Vec<Concern>,
    incidents: Vec<IncidentLine>,
    findings: Vec<FindingLine>,
    programs: Vec<ProgramLine>,
    vibrators: usize,
    /// The clients of the pages and of the API.
    clients: WavesLine,
    log: Newest,
}

#[derive(Debug, Serialize)]
struct Flow {
    waves: u64,
    payload_bytes: u64,
    waves_per_second: f64,
    known_channels: usize,
    /// The last second.
    second_waves: u64,
    second_bytes: u64,
    second_energy: f64,
    /// Name, waves and sum of amplitudes of each channel in the last second.
    channels: Vec<(String, u64, f64)>,
}

impl Overview {
    pub(crate) fn of(
        source: &StatusSource,
        second: u64,
        channels: &[Second],
        all: Moment,
        lost_lately: &Lately,
    ) -> Self {
        let observed = source.observed();
        let programs = AccountsPart::programs(source.accounts());
        let physics = source.insight().map(|insight| PhysicsPart::of(&insight));
        let losses = Losses::of(&programs, lost_lately);
        let mut busiest: Vec<&Second> = channels.iter().collect();
        busiest.sort_by_key(|second| std::cmp::Reverse(second.moment.waves));
        let line = |second: &&Second| {
            let Moment { waves, energy, .. } = second.moment;
            (second.channel.to_string(), waves, rounded(energy as f32))
        };
        Self {
            version: env!("CARGO_PKG_VERSION"),
            unix_ms: unix_ms(),
            second,
            uptime_seconds: observed.uptime().as_secs_f64(),
            readiness: source.readiness(),
            crosses_processes: source.aether().promises().crosses_processes,
            physics: physics.is_some(),
            flow: Flow {
                waves: observed.waves(),
                payload_bytes: observed.payload_bytes(),
                waves_per_second: observed.waves_per_second(),
                known_channels: observed.known_channels(),
                second_waves: all.waves,
                second_bytes: all.bytes,
                second_energy: rounded(all.energy as f32),
                channels: busiest.iter().take(MOST_CHANNELS).map(line).collect(),
            },
            losses,
            attention: Vec::new(),
            incidents: physics.as_ref().map(PhysicsPart::incident_lines).unwrap_or_default(),
            findings: physics.as_ref().map(PhysicsPart::finding_lines).unwrap_or_default(),
            programs,
            vibrators: source.roster().count(),
            clients: source.taps().line(),
            log: source.log().newest(NEWEST),
        }
    }

    pub(crate) fn with_attention(self, attention: Vec<Concern>) -> Self {
        Self { attention, ..self }
    }
}
