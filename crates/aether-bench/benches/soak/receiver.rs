//! The receiver: takes waves at a fixed maximum rate and checks that none arrives twice. It also runs as an observer
//! that takes all waves, next to an observer that takes none.

use std::collections::HashMap;
use std::time::Duration;

use aether_core::{Aether, InboxOptions, Ledger, Vibrator, Wave, WhenFull, medium::MediumStatus};
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::time::{Instant, MissedTickBehavior, interval, timeout};

use crate::sender::say;
use crate::{CHANNEL, Outcome};

/// The interval at which waves are taken and statistics reported.
const TICK: Duration = Duration::from_millis(2);
const TELL: Duration = Duration::from_secs(1);
/// How long to wait for the last announcements, which arrive after at most 64 s.
const PATIENCE: Duration = Duration::from_secs(90);

/// The statistics reported by the receiver.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
pub(crate) struct Received {
    /// Whether this is the final report.
    pub(crate) is_last: bool,
    /// The number of waves, counted one by one.
    pub(crate) received: u64,
    pub(crate) strong: u64,
    /// Waves that arrived twice, or after a wave emitted later.
    pub(crate) out_of_order: u64,
    /// The inbox ledger.
    pub(crate) offered: u64,
    pub(crate) delivered: u64,
    pub(crate) shed: u64,
    pub(crate) expired: u64,
    pub(crate) lost_upstream: u64,
    pub(crate) queued: u64,
    pub(crate) adds_up: bool,
    pub(crate) connects: u64,
    pub(crate) malformed: u64,
    pub(crate) implausible: u64,
    pub(crate) dropped_by_client: u64,
    /// Waves lost in transit, as counted by the medium.
    pub(crate) missing: u64,
    /// The ledger of the observer that takes nothing.
    pub(crate) idle_offered: u64,
    pub(crate) idle_delivered: u64,
    pub(crate) idle_adds_up: bool,
}

impl Received {
    /// Returns these statistics updated with the current ledgers.
    fn with(self, ledger: Ledger, idle: Option<Ledger>, status: MediumStatus) -> Self {
        Self {
            offered: ledger.offered,
            delivered: ledger.delivered,
            shed: ledger.lost() - ledger.expired - ledger.lost_upstream,
            expired: ledger.expired,
            lost_upstream: ledger.lost_upstream,
            queued: ledger.queued,
            adds_up: ledger.adds_up(),
            connects: status.connects,
            malformed: status.malformed,
            implausible: status.implausible,
            dropped_by_client: status.dropped_by_client,
            missing: status.lost_upstream,
            idle_offered: idle.map_or(0, |idle| idle.offered),
            idle_delivered: idle.map_or(0, |idle| idle.delivered),
            idle_adds_up: idle.is_none_or(|idle| idle.adds_up()),
            ..self
        }
    }

    /// Checks that waves of one source, channel and amplitude keep their order.
    fn note(&mut self, wave: &Wave, last: &mut HashMap<u16, u64>) {
        self.received += 1;
        self.strong += u64::from(wave.amplitude() > aether_core::Amplitude::NORMAL);
        let before = last.insert(wave.amplitude().loss(), wave.sequence());
        self.out_of_order += u64::from(before.is_some_and(|before| before >= wave.sequence()));
    }
}

/// Receives at its capacity until a number arrives on stdin, then until that many waves are accounted for.
pub(crate) async fn run(medium: &str, capacity: f64) -> Outcome<()> {
    let aether = aether::connect(medium).await?;
    let vibrator = Vibrator::builder("receiver").inbox(InboxOptions::overload()).create(&aether).await?;
    vibrator.resonate_on(CHANNEL).await?;
    receive(aether, vibrator, None, capacity).await
}

/// Runs as an observer that takes every wave, next to an observer that is never polled.
pub(crate) async fn observe(medium: &str) -> Outcome<()> {
    let aether = aether::connect(medium).await?;
    let inbox = InboxOptions::interactive().when_full(WhenFull::Shed);
    let vibrator = Vibrator::builder("observer").observe().inbox(inbox).create(&aether).await?;
    vibrator.resonate_on(CHANNEL).await?;
    let inbox = InboxOptions::interactive().max_waves(1000);
    let idle = Vibrator::builder("idle-observer").observe().inbox(inbox).create(&aether).await?;
    idle.resonate_on(CHANNEL).await?;
    receive(aether, vibrator, Some(idle), f64::MAX).await
}

async fn receive(
    aether: Aether,
    mut vibrator: Vibrator,
    idle: Option<Vibrator>,
    capacity: f64,
) -> Outcome<()> {
    let mut counted = Received::default();
    let mut last = HashMap::new();
    say(&counted)?;
    let mut orders = BufReader::new(tokio::io::stdin()).lines();
    let (mut tick, mut tell) = (interval(TICK), interval(TELL));
    // Capacity that was unused while no wave was queued is lost.
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let (mut credit, mut credited) = (0.0_f64, Instant::now());
    let due = loop {
        tokio::select! {
            _ = tick.tick() => {
                let now = Instant::now();
                credit = (credit + (now - credited).as_secs_f64() * capacity).min(capacity / 50.0);
                credited = now;
                while credit >= 1.0 {
                    let Some(wave) = ready(&mut vibrator).await else { break };
                    counted.note(&wave, &mut last);
                    credit -= 1.0;
                }
            }
            _ = tell.tick() => {
                let idle = idle.as_ref().map(Vibrator::ledger);
                say(&counted.with(vibrator.ledger(), idle, aether.status()))?;
            }
            line = orders.next_line() => break line?.ok_or("the driver is gone")?.parse::<u64>()?,
        }
    };
    let settled = async {
        while vibrator.ledger().offered < due || vibrator.ledger().queued > 0 {
            // An announcement is not a wave, so its effect appears only in the ledger.
            tokio::select! {
                Some(wave) = vibrator.receive() => counted.note(&wave, &mut last),
                _ = tick.tick() => {}
            }
        }
    };
    // Waves not accounted for within this time appear in the report.
    let _ = timeout(PATIENCE, settled).await;
    counted.is_last = true;
    let idle = idle.as_ref().map(Vibrator::ledger);
    say(&counted.with(vibrator.ledger(), idle, aether.status()))?;
    Ok(aether.close().await?)
}

/// The next wave, if one is queued.
async fn ready(vibrator: &mut Vibrator) -> Option<Wave> {
    tokio::select! {
        biased;
        wave = vibrator.receive() => wave,
        () = std::future::ready(()) => None,
    }
}
