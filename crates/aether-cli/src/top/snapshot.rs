//! The sources that `aether top` watches, and one reading of them.

use std::collections::VecDeque;
use std::time::Duration;

use aether::physics::{Incident, PhysicsEngine, PhysicsObserver};
use aether_core::account::{AccountCounts, Accounts, KnownProcess, Standing};
use aether_core::presence::{Announcement, Roster};
use aether_core::{Aether, Ledger, Pattern};
use tokio::time::Instant;

use crate::error::CommandError;

/// The number of incidents and findings that are kept.
const KEPT: usize = 100;
/// The maximum number of waves per step.
const BURST: usize = 256;
/// How often the map is drawn: a report looks at all channels.
const REPORT_EVERY: Duration = Duration::from_secs(5);
/// The same while the map is empty, so that it does not stay so for seconds.
const FIRST_REPORT_EVERY: Duration = Duration::from_secs(1);

/// The readers of one medium.
pub(super) struct Watched {
    aether: Aether,
    accounts: Accounts,
    roster: Roster,
    observer: Option<PhysicsObserver>,
    lines: VecDeque<String>,
    map: Vec<String>,
    reported: Instant,
    /// When the connection was found broken.
    away: Option<Instant>,
}

/// One reading.
#[derive(Default)]
pub(super) struct Snapshot {
    /// How long the connection has been away; `None` while it is connected.
    pub(super) away: Option<Duration>,
    /// Those that lose most now come first, then those that have lost most; those that have gone last.
    pub(super) processes: Vec<KnownProcess>,
    pub(super) counts: AccountCounts,
    pub(super) vibrators: Vec<Announcement>,
    /// Whether waves are observed.
    pub(super) observes: bool,
    /// Incidents and findings, newest first.
    pub(super) lines: Vec<String>,
    pub(super) map: Vec<String>,
}

impl Watched {
    pub(super) async fn open(aether: &Aether, observes: bool) -> Result<Self, CommandError> {
        let observer = if observes {
            let engine = PhysicsEngine::default();
            Some(PhysicsObserver::open("aether-top", Pattern::everything(), engine, aether).await?)
        } else {
            None
        };
        Ok(Self {
            aether: aether.clone(),
            accounts: aether.accounts().await?,
            roster: aether.roster().await?,
            observer,
            lines: VecDeque::new(),
            map: Vec::new(),
            reported: Instant::now(),
            away: None,
        })
    }

    /// Takes in waves, or waits. Never completes without an observer.
    ///
    /// # Cancel safety
    /// Cancelled before completion, no wave was taken.
    pub(super) async fn observe(&mut self) -> Result<(), CommandError> {
        let Some(observer) = &mut self.observer else { return std::future::pending().await };
        if observer.advance(BURST).await?.is_none() {
            self.observer = None;
            return Ok(());
        }
        self.take_results();
        Ok(())
    }

    fn take_results(&mut self) {
        let Some(observer) = &mut self.observer else { return };
        // The map shows what is related; the findings here are about what is wrong.
        while observer.found().is_some() {}
        while let Some(incident) = observer.incident() {
            self.lines.truncate(KEPT - 1);
            self.lines.push_front(line(&incident));
        }
    }

    pub(super) fn snapshot(&mut self) -> Snapshot {
        let now = Instant::now();
        let every = if self.map.is_empty() { FIRST_REPORT_EVERY } else { REPORT_EVERY };
        if self.reported + every <= now
            && let Some(observer) = &mut self.observer
        {
            self.reported = now;
            let report = observer.report();
            self.map = report.map.edges.iter().map(ToString::to_string).collect();
            self.take_results();
        }
        self.away = match self.aether.status().connected {
            true => None,
            false => Some(self.away.unwrap_or(now)),
        };
        let mut processes = self.accounts.processes();
        processes.sort_by(|a, b| {
            let gone = |it: &KnownProcess| it.standing != Standing::Present;
            let rate = |it: &KnownProcess| it.rates.map_or(0.0, |rates| rates.lost);
            let by_rate = || rate(b).total_cmp(&rate(a));
            gone(a).cmp(&gone(b)).then_with(by_rate).then_with(|| lost(b).cmp(&lost(a)))
        });
        Snapshot {
            away: self.away.map(|since| now.saturating_duration_since(since)),
            processes,
            counts: self.accounts.counts(),
            vibrators: self.roster.vibrators(),
            observes: self.observer.is_some(),
            lines: self.lines.iter().cloned().collect(),
            map: self.map.clone(),
        }
    }
}

fn line(incident: &Incident) -> String {
    let state = if incident.until.is_some() { "ended" } else { incident.severity.as_str() };
    format!("{state}: {incident}")
}

/// The losses by reason, without zeros: of the inboxes, and of the outbox.
pub(super) fn losses(known: &KnownProcess) -> Vec<(String, u64)> {
    let of = |ledger: &Ledger, place: &'static str| {
        let shed = ledger.losses().map(|(reason, waves)| (format!("{place}{}", reason.as_str()), waves));
        let upstream = (format!("{place}lost_upstream"), ledger.lost_upstream);
        shed.into_iter().chain([upstream]).filter(|(_, waves)| *waves > 0)
    };
    let outbox = known.account.medium.outbox;
    of(&known.account.ledger(), "").chain(of(&outbox, "outbox_")).collect()
}

/// All losses.
pub(super) fn lost(known: &KnownProcess) -> u64 {
    losses(known).into_iter().fold(0, |sum, (_, waves)| sum.saturating_add(waves))
}
