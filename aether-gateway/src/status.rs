//! The status: one reading of everything that the gateway shows.
//!
//! The page, the JSON and the metrics are three renderings of one [`Status`]. Reading it takes short locks and no
//! network access. It makes no decisions.

mod accounts;
mod physics;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use aether_core::{
    Aether, Amplitude, Floor, Ledger, Wave,
    account::Accounts,
    echo::{DeadLetterCounts, EchoLedger},
    presence::Roster,
};
use aether_metrics::{Connections, Slots, VibratorAccount, VibratorAccounts};
use aether_service::description::{Directory, RefusedDescriptions};
use aether_service::health::{Health, log_trouble};
use parking_lot::Mutex;
use serde::{Serialize, Serializer};

use crate::durable::Durable;
use crate::field::{FieldLine, Fields};
use crate::heads::Heads;
use crate::insight::Insight;
use crate::log::Log;
use crate::observed::{Observed, ObservedChannel};
use crate::readiness::Readiness;
use crate::taps::{Taps, WavesLine};

pub(crate) use accounts::{AccountsPart, ProgramLine, WholeProcess, lost_of};
pub(crate) use physics::{FindingLine, IncidentLine, PhysicsPart};

/// The sources of a status.
#[derive(Debug)]
pub(crate) struct StatusSource {
    aether: Aether,
    observed: Arc<Observed>,
    insight: Option<Arc<Insight>>,
    roster: Roster,
    accounts: Accounts,
    directory: Directory,
    fields: Arc<Fields>,
    durable: Arc<Durable>,
    taps: Arc<Taps>,
    heads: Heads,
    slots: Arc<Slots>,
    observing: AtomicBool,
    vibrators: Mutex<VibratorAccounts>,
    started_at: f64,
}

/// The traffic and the reports that the gateway hears on the medium.
pub(crate) struct Heard {
    pub(crate) log: Arc<Log>,
    pub(crate) observed: Observed,
    pub(crate) insight: Option<Arc<Insight>>,
    /// The vibrators of all processes, as announced.
    pub(crate) roster: Roster,
    /// The accounts of all processes, as they report them.
    pub(crate) accounts: Accounts,
    /// The descriptions of services.
    pub(crate) directory: Directory,
    /// The durable logs that it shows.
    pub(crate) durable: Arc<Durable>,
}

impl StatusSource {
    pub(crate) fn new(aether: Aether, heard: Heard, fields: Arc<Fields>) -> Self {
        let Heard { observed, insight, roster, accounts, directory, durable, log } = heard;
        // A clock before 1970 is shown as 1970.
        let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self {
            aether,
            observed: Arc::new(observed),
            insight,
            roster,
            accounts,
            directory,
            fields,
            durable,
            taps: Arc::new(Taps::new(log)),
            heads: Heads::default(),
            slots: Slots::new(),
            observing: AtomicBool::new(true),
            vibrators: Mutex::default(),
            started_at: since_1970.as_secs_f64(),
        }
    }

    pub(crate) fn aether(&self) -> &Aether {
        &self.aether
    }

    pub(crate) fn observed(&self) -> Arc<Observed> {
        Arc::clone(&self.observed)
    }

    pub(crate) fn insight(&self) -> Option<Arc<Insight>> {
        self.insight.clone()
    }

    /// The descriptions of the services on the medium.
    pub(crate) fn directory(&self) -> &Directory {
        &self.directory
    }

    /// The durable logs.
    pub(crate) fn durable(&self) -> &Arc<Durable> {
        &self.durable
    }

    pub(crate) fn slots(&self) -> Arc<Slots> {
        Arc::clone(&self.slots)
    }

    pub(crate) fn roster(&self) -> &Roster {
        &self.roster
    }

    pub(crate) fn accounts(&self) -> &Accounts {
        &self.accounts
    }

    /// Those who hear waves through the gateway.
    pub(crate) fn log(&self) -> &Log {
        self.taps.log()
    }

    pub(crate) fn taps(&self) -> &Arc<Taps> {
        &self.taps
    }

    pub(crate) fn note(&self, wave: &Wave) {
        self.observed.note(wave);
        self.heads.note(wave);
        self.taps.offer(wave);
    }

    /// Which of the waves that passed last caused which.
    pub(crate) fn heads(&self) -> &Heads {
        &self.heads
    }

    pub(crate) fn observer_ended(&self) {
        self.observing.store(false, Ordering::Release);
    }

    /// Each known process with its whole account.
    pub(crate) fn whole_processes(&self) -> Vec<WholeProcess> {
        AccountsPart::whole(&self.accounts)
    }

    /// Whether the gateway observes waves.
    pub(crate) fn readiness(&self) -> Readiness {
        if !self.observing.load(Ordering::Acquire) {
            Readiness::ObserverEnded
        } else if !self.aether.status().connected {
            Readiness::NotConnected
        } else if log_trouble(&self.aether).is_some() {
            Readiness::NotStoring
        } else {
            Readiness::Ready
        }
    }

    /// The readiness with the checks of the program, as `/readyz` has it.
    pub(crate) fn health(&self) -> Health {
        self.readiness().health().checked(&self.aether)
    }

    pub(crate) fn read(&self) -> Status {
        let status = self.aether.status();
        let promises = self.aether.promises();
        let forgotten = self.observed.forgotten();
        Status {
            version: env!("CARGO_PKG_VERSION"),
            started_at_unix_seconds: self.started_at,
            uptime_seconds: self.observed.uptime().as_secs_f64(),
            readiness: self.readiness(),
            medium: MediumLine {
                crosses_processes: promises.crosses_processes,
                max_payload_bytes: promises.max_payload,
                connected: status.connected,
                connects: status.connects,
                unconfirmed_waves: status.unconfirmed,
                dropped_by_client_messages: status.dropped_by_client,
                untaken_messages: status.untaken,
                malformed_messages: status.malformed,
                implausible_messages: status.implausible,
                stray_answers: status.stray_answers,
                lost_upstream_waves: status.lost_upstream,
                forgotten_streams: status.forgotten_streams,
                shed_at_source_waves: status.shed_at_source,
                held_waves: status.held,
                pauses: status.pauses,
                outbox: LedgerLine(status.outbox),
            },
            reflected: ReflectedLine::from(self.aether.echo_ledger()),
            roster: RosterLine {
                left_out_announcements: self.roster.left_out(),
                implausible_announcements: self.roster.implausible(),
            },
            refused_descriptions: self.directory.refused(),
            dead_letters: DeadLettersLine::from(self.aether.dead_letters().counts()),
            observed: ObservedLine {
                waves: self.observed.waves(),
                payload_bytes: self.observed.payload_bytes(),
                waves_per_second: self.observed.waves_per_second(),
                channels: self.observed.channels().iter().map(ChannelLine::from).collect(),
                forgotten_channels: forgotten.channels,
                forgotten_waves: forgotten.waves,
                forgotten_payload_bytes: forgotten.payload_bytes,
            },
            inboxes: self.vibrators.lock().read(&self.aether).into_iter().map(InboxLine::from).collect(),
            all_inboxes: LedgerLine(self.aether.ledger()),
            accounts: AccountsPart::of(&self.accounts),
            physics: self.insight.as_deref().map(PhysicsPart::of),
            fields: self.fields.lines(),
            clients: self.taps.line(),
            http: self.slots.counts(),
        }
    }
}

/// One reading of everything.
#[derive(Debug, Serialize)]
pub(crate) struct Status {
    pub(crate) version: &'static str,
    pub(crate) started_at_unix_seconds: f64,
    pub(crate) uptime_seconds: f64,
    pub(crate) readiness: Readiness,
    pub(crate) medium: MediumLine,
    pub(crate) reflected: ReflectedLine,
    pub(crate) roster: RosterLine,
    /// Services that were asked for their descriptions in vain, by reason.
    pub(crate) refused_descriptions: RefusedDescriptions,
    pub(crate) dead_letters: DeadLettersLine,
    pub(crate) observed: ObservedLine,
    pub(crate) inboxes: Vec<InboxLine>,
    /// The sum over all inboxes, including inboxes of closed vibrators.
    pub(crate) all_inboxes: LedgerLine,
    /// The accounts of all processes, as they report them.
    pub(crate) accounts: AccountsPart,
    /// `None` if physics is switched off.
    pub(crate) physics: Option<PhysicsPart>,
    /// The fields that are served over WebSocket.
    pub(crate) fields: Vec<FieldLine>,
    /// Those who hear and emit waves through the gateway.
    pub(crate) clients: WavesLine,
    pub(crate) http: Connections,
}

#[derive(Debug, Serialize)]
pub(crate) struct MediumLine {
    pub(crate) crosses_processes: bool,
    pub(crate) max_payload_bytes: usize,
    pub(crate) connected: bool,
    pub(crate) connects: u64,
    pub(crate) unconfirmed_waves: u64,
    pub(crate) dropped_by_client_messages: u64,
    pub(crate) untaken_messages: u64,
    pub(crate) malformed_messages: u64,
    pub(crate) implausible_messages: u64,
    pub(crate) stray_answers: u64,
    pub(crate) lost_upstream_waves: u64,
    pub(crate) forgotten_streams: u64,
    pub(crate) shed_at_source_waves: u64,
    pub(crate) held_waves: u64,
    pub(crate) pauses: u64,
    pub(crate) outbox: LedgerLine,
}

/// The failed waves of this process by how the failure was reported. `waves` is the sum of the others except
/// `refused_echoes`, which came from elsewhere and cannot be true.
#[derive(Debug, Serialize)]
pub(crate) struct ReflectedLine {
    pub(crate) waves: u64,
    pub(crate) echoed: u64,
    pub(crate) buried: u64,
    pub(crate) left_to_asker: u64,
    pub(crate) unconfirmed: u64,
    pub(crate) pending: u64,
    pub(crate) refused_echoes: u64,
}

impl From<EchoLedger> for ReflectedLine {
    fn from(ledger: EchoLedger) -> Self {
        let EchoLedger {
            reflected: waves,
            echoed,
            buried,
            left_to_asker,
            unconfirmed,
            pending,
            refused: refused_echoes,
            ..
        } = ledger;
        Self { waves, echoed, buried, left_to_asker, unconfirmed, pending, refused_echoes }
    }
}

/// Announcements of vibrators that are in no table.
#[derive(Debug, Serialize)]
pub(crate) struct RosterLine {
    /// There were too many.
    pub(crate) left_out_announcements: u64,
    /// Two processes announced the same vibrator.
    pub(crate) implausible_announcements: u64,
}

/// The failed waves whose source could not be reached. `buried` is the sum of the others.
#[derive(Debug, Serialize)]
pub(crate) struct DeadLettersLine {
    pub(crate) buried: u64,
    pub(crate) kept: u64,
    pub(crate) taken: u64,
    pub(crate) overflowed: u64,
}

impl From<DeadLetterCounts> for DeadLettersLine {
    fn from(counts: DeadLetterCounts) -> Self {
        let DeadLetterCounts { buried, kept, taken, overflowed, .. } = counts;
        Self { buried, kept, taken, overflowed }
    }
}

#[derive(Debug, Serialize)]
pub(crate) struct ObservedLine {
    pub(crate) waves: u64,
    pub(crate) payload_bytes: u64,
    pub(crate) waves_per_second: f64,
    pub(crate) channels: Vec<ChannelLine>,
    pub(crate) forgotten_channels: u64,
    pub(crate) forgotten_waves: u64,
    pub(crate) forgotten_payload_bytes: u64,
}

#[derive(Debug, Serialize)]
pub(crate) struct ChannelLine {
    pub(crate) channel: String,
    pub(crate) waves: u64,
    pub(crate) payload_bytes: u64,
    pub(crate) kinds: Vec<KindLine>,
    pub(crate) last_source: String,
    #[serde(serialize_with = "amplitude_as_number")]
    pub(crate) last_amplitude: Amplitude,
    pub(crate) last_seen_seconds_ago: f64,
}

#[derive(Debug, Serialize)]
pub(crate) struct KindLine {
    pub(crate) kind: &'static str,
    pub(crate) waves: u64,
    pub(crate) payload_bytes: u64,
}

/// The inboxes of all vibrators of one name, including closed ones.
#[derive(Debug, Serialize)]
pub(crate) struct InboxLine {
    pub(crate) vibrator: String,
    /// The number of open inboxes.
    pub(crate) inboxes: usize,
    pub(crate) ledger: LedgerLine,
    /// The highest floor of the open inboxes; 0 receives everything.
    #[serde(serialize_with = "floor_as_number")]
    pub(crate) effective_floor: Floor,
}

/// A ledger, serialised with the reasons of all losses.
#[derive(Debug, Clone, Copy)]
pub(crate) struct LedgerLine(pub(crate) Ledger);

impl Serialize for LedgerLine {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        struct Line {
            offered: u64,
            delivered: u64,
            shed: BTreeMap<&'static str, u64>,
            lost_upstream: u64,
            queued: u64,
        }
        let Self(ledger) = self;
        let shed = ledger.losses().into_iter().map(|(reason, waves)| (reason.as_str(), waves)).collect();
        let Ledger { offered, delivered, lost_upstream, queued, .. } = *ledger;
        Line { offered, delivered, shed, lost_upstream, queued }.serialize(serializer)
    }
}

/// Uses the three digits that `Amplitude` prints, without the extra digits of its fixed-point form.
fn amplitude_as_number<S: Serializer>(amplitude: &Amplitude, serializer: S) -> Result<S::Ok, S::Error> {
    let shown = amplitude.to_string().parse().unwrap_or_else(|_| f64::from(amplitude.as_f32()));
    serializer.serialize_f64(shown)
}

pub(crate) fn floor_as_number<S: Serializer>(floor: &Floor, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_f32(floor.as_f32())
}

impl From<&ObservedChannel> for ChannelLine {
    fn from(line: &ObservedChannel) -> Self {
        let kind = |kind: &crate::ObservedKind| KindLine {
            kind: kind.kind.as_str(),
            waves: kind.waves,
            payload_bytes: kind.payload_bytes,
        };
        Self {
            channel: line.channel.clone(),
            waves: line.waves(),
            payload_bytes: line.payload_bytes(),
            kinds: line.kinds.iter().map(kind).collect(),
            last_source: line.last_source.clone(),
            last_amplitude: line.last_amplitude,
            last_seen_seconds_ago: line.last_seen.as_secs_f64(),
        }
    }
}

impl From<VibratorAccount> for InboxLine {
    fn from(account: VibratorAccount) -> Self {
        let VibratorAccount { vibrator, inboxes, ledger, effective_floor, .. } = account;
        Self { vibrator, inboxes, ledger: LedgerLine(ledger), effective_floor }
    }
}
