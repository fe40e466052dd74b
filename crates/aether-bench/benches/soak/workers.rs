//! The workers: a group of three with an occasional fourth member, and a service whose circuit breaker opens
//! repeatedly.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use aether_core::{Aether, InboxOptions, Vibrator, Wave};
use aether_service::{Breaker, CancellationToken, Service};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::time::{interval, sleep, timeout};

use crate::boss::{JOBS, TASKS};
use crate::sender::say;
use crate::{Args, Outcome, Part};

/// Permanent members.
const MEMBERS: usize = 3;
/// How long the fourth member stays in the group, and how long it stays away.
const STAY: Duration = Duration::from_millis(300);
const AWAY: Duration = Duration::from_millis(200);
const TELL: Duration = Duration::from_millis(500);
/// The period of the failures: the first few of this many tasks fail, more in a row than the breaker tolerates.
const FAIL_EVERY: u64 = 500;
const FAIL: u64 = 12;
const BREAKER_BEARS: usize = 5;
const OPEN_FOR: Duration = Duration::from_millis(50);

/// The statistics reported by the workers.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
pub(crate) struct Worked {
    /// The number of connections on which the subscriptions have been restored.
    pub(crate) connects: u64,
    /// Commands that reached a member or were shed by its inbox, in safe and risky periods.
    pub(crate) jobs: u64,
    pub(crate) risky_jobs: u64,
    /// Commands received twice.
    pub(crate) twice: u64,
    /// The fewest and the most commands that one member received.
    pub(crate) fewest: u64,
    pub(crate) most: u64,
    /// How often the fourth member left, and how many commands it received.
    pub(crate) leavings: u64,
    pub(crate) passing_jobs: u64,
    /// The tasks received by the service, and their outcomes.
    pub(crate) tasks: u64,
    pub(crate) succeeded: u64,
    pub(crate) unhandled: u64,
    /// The unhandled tasks that the open circuit refused.
    pub(crate) refused_by_circuit: u64,
    pub(crate) in_flight: u64,
    pub(crate) adds_up: bool,
}

#[derive(Debug, Default)]
struct Counts {
    jobs: AtomicU64,
    risky_jobs: AtomicU64,
    twice: AtomicU64,
    by_member: [AtomicU64; MEMBERS],
    leavings: AtomicU64,
    passing_jobs: AtomicU64,
    /// One bit for each number.
    seen: Mutex<Vec<u64>>,
}

impl Counts {
    /// Records a command that was received, or shed by an inbox.
    fn note(&self, wave: &Wave) {
        let text = wave.text().unwrap_or_default();
        let Some((times, number)) = text.split_once(' ') else { return };
        let Ok(number) = number.parse::<usize>() else { return };
        let count = if times == "safe" { &self.jobs } else { &self.risky_jobs };
        count.fetch_add(1, Ordering::Relaxed);
        let mut seen = self.seen.lock();
        let (word, bit) = (number / 64, 1 << (number % 64));
        if seen.len() <= word {
            seen.resize(word + 1, 0);
        }
        let is_new = seen[word] & bit == 0;
        seen[word] |= bit;
        drop(seen);
        self.twice.fetch_add(u64::from(!is_new), Ordering::Relaxed);
    }
}

async fn member(
    index: usize,
    aether: Aether,
    counts: Arc<Counts>,
    joined: Arc<tokio::sync::Barrier>,
) -> Outcome<()> {
    let shed = Arc::clone(&counts);
    let inbox = InboxOptions::interactive().on_shed(move |wave, _| shed.note(wave));
    let mut vibrator = Vibrator::builder(&format!("worker-{index}")).inbox(inbox).create(&aether).await?;
    vibrator.resonate_in_group(JOBS, "workers").await?;
    joined.wait().await;
    while let Some(wave) = vibrator.receive().await {
        counts.note(&wave);
        counts.by_member[index].fetch_add(1, Ordering::Relaxed);
    }
    Ok(())
}

/// A member that repeatedly leaves and rejoins. Commands in transit to it when it leaves go to another member.
async fn passing_member(aether: Aether, counts: Arc<Counts>) -> Outcome<()> {
    let shed = Arc::clone(&counts);
    let inbox = InboxOptions::interactive().on_shed(move |wave, _| shed.note(wave));
    let mut vibrator = Vibrator::builder("worker-passing").inbox(inbox).create(&aether).await?;
    let note = |wave: Wave| {
        counts.note(&wave);
        counts.passing_jobs.fetch_add(1, Ordering::Relaxed);
    };
    loop {
        vibrator.resonate_in_group(JOBS, "workers").await?;
        let working = async {
            while let Some(wave) = vibrator.receive().await {
                note(wave);
            }
        };
        if timeout(STAY, working).await.is_ok() {
            return Ok(());
        }
        vibrator.detune(JOBS)?;
        counts.leavings.fetch_add(1, Ordering::Relaxed);
        while vibrator.ledger().queued > 0 {
            let Some(wave) = vibrator.receive().await else { return Ok(()) };
            note(wave);
        }
        sleep(AWAY).await;
    }
}

async fn fragile(wave: Wave) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    let number: u64 = wave.text()?.parse()?;
    tokio::task::yield_now().await;
    if number % FAIL_EVERY < FAIL { Err("in a bad mood".into()) } else { Ok(()) }
}

/// Works until stdin ends.
pub(crate) async fn run(medium: &str, args: &Args) -> Outcome<()> {
    let aether = aether::connect(medium).await?;
    let counts = Arc::new(Counts::default());
    if args.has(Part::Groups) {
        let joined = Arc::new(tokio::sync::Barrier::new(MEMBERS + 1));
        for index in 0..MEMBERS {
            tokio::spawn(member(index, aether.clone(), Arc::clone(&counts), Arc::clone(&joined)));
        }
        joined.wait().await;
        tokio::spawn(passing_member(aether.clone(), Arc::clone(&counts)));
    }
    let breaker = Breaker::default().failures(BREAKER_BEARS).open_for(OPEN_FOR);
    let builder = Service::builder("fragile").group("fragile").concurrency(8).circuit_breaker(breaker);
    let service = builder.on(TASKS, fragile).build(&aether).await?;
    let (counters, shutdown) = (service.counters(), CancellationToken::new());
    let serving = tokio::spawn(service.run_until(shutdown.clone()));

    let mut orders = BufReader::new(tokio::io::stdin()).lines();
    let mut tell = interval(TELL);
    let mut connects = 0;
    loop {
        tokio::select! {
            _ = tell.tick() => {
                // The flush is confirmed after the subscriptions, which the client restores first.
                let connected = aether.status().connects;
                if connected > connects && aether.flush().await.is_ok() {
                    connects = connected;
                }
                let count = |count: &AtomicU64| count.load(Ordering::Relaxed);
                let (report, by_member) = (counters.report(), counts.by_member.each_ref().map(count));
                say(&Worked {
                    connects,
                    jobs: count(&counts.jobs),
                    risky_jobs: count(&counts.risky_jobs),
                    twice: count(&counts.twice),
                    fewest: by_member.into_iter().min().unwrap_or_default(),
                    most: by_member.into_iter().max().unwrap_or_default(),
                    leavings: count(&counts.leavings),
                    passing_jobs: count(&counts.passing_jobs),
                    tasks: report.received,
                    succeeded: report.succeeded,
                    unhandled: report.unhandled(),
                    refused_by_circuit: report.shed_circuit_open,
                    in_flight: report.in_flight,
                    adds_up: report.adds_up(),
                })?;
            }
            line = orders.next_line() => if line?.is_none() { break },
        }
    }
    shutdown.cancel();
    serving.await??;
    Ok(aether.close().await?)
}
