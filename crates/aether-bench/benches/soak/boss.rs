//! The boss: sends commands to a group and to a service with a circuit breaker, and listens for echoes.
//!
//! When a connection to NATS breaks, messages in transit to a group member are lost and not counted. The driver
//! therefore announces when the server is *safe*: all commands sent in a safe period must be accounted for. At other
//! times the group still receives commands, each of which may arrive at most once. The service receives none then, so
//! every command to it is either in its ledger or returned as an echo.

use std::time::Duration;

use aether_core::{Aether, EmitError, Kind, Vibrator, Wave};
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::time::{Instant, MissedTickBehavior, interval};

use crate::sender::say;
use crate::{Args, Outcome, Part};

/// The command channels.
pub(crate) const JOBS: &str = "soak.jobs";
pub(crate) const TASKS: &str = "soak.tasks";

/// Commands per second on each channel.
const RATE: f64 = 300.0;
const TICK: Duration = Duration::from_millis(5);
const TELL: Duration = Duration::from_millis(500);

/// The statistics reported by the boss.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
pub(crate) struct Bossed {
    /// How many orders it has followed.
    pub(crate) orders: u64,
    /// Whether the current period is safe.
    is_safe: bool,
    pub(crate) connects: u64,
    /// Commands sent to the group, in safe and risky periods.
    pub(crate) jobs: u64,
    pub(crate) risky_jobs: u64,
    /// Commands sent to the service, all in safe periods.
    pub(crate) tasks: u64,
    /// Waves reported by echoes of these commands.
    pub(crate) echoed_jobs: u64,
    pub(crate) echoed_tasks: u64,
    /// Echoes of waves that were never sent, and echoes that report more waves than were sent.
    pub(crate) unknown_echoes: u64,
    pub(crate) implausible_echoes: u64,
    /// Commands not sent because all members had announced that they would shed them. Expected to be zero.
    pub(crate) below_floor: u64,
}

struct Boss {
    jobs: Vibrator,
    tasks: Vibrator,
    /// The number of the next command to the group.
    number: u64,
    said: Bossed,
}

impl Boss {
    fn order_job(&mut self) -> Outcome<()> {
        let is_safe = self.said.is_safe;
        let payload = format!("{} {}", if is_safe { "safe" } else { "risky" }, self.number);
        let wave = Wave::builder(JOBS).kind(Kind::Command).text(payload).build()?;
        match self.jobs.try_emit(wave) {
            Ok(_) if is_safe => self.said.jobs += 1,
            Ok(_) => self.said.risky_jobs += 1,
            Err(EmitError::BelowFloor { .. }) => self.said.below_floor += 1,
            Err(EmitError::Full { .. }) => {}
            Err(error) => return Err(error.into()),
        }
        self.number += 1;
        Ok(())
    }

    fn order_task(&mut self) -> Outcome<()> {
        let wave = Wave::builder(TASKS).kind(Kind::Command).text(self.said.tasks.to_string()).build()?;
        match self.tasks.try_emit(wave) {
            Ok(_) => self.said.tasks += 1,
            Err(EmitError::Full { .. }) => {}
            Err(error) => return Err(error.into()),
        }
        Ok(())
    }
}

/// Sends commands until stdin ends. A line on stdin, `safe` or `risky`, sets the kind of the period that follows.
/// `risky` is acknowledged once all commands of the safe period have left.
pub(crate) async fn run(medium: &str, args: &Args) -> Outcome<()> {
    let aether = aether::connect(medium).await?;
    let jobs = Vibrator::builder("boss-jobs").respect_floor().create(&aether).await?;
    let tasks = Vibrator::create("boss-tasks", &aether).await?;
    let (mut job_echoes, mut task_echoes) = (jobs.echoes().await?, tasks.echoes().await?);
    let mut boss = Boss { jobs, tasks, number: 0, said: Bossed::default() };
    let (with_jobs, with_tasks) = (args.has(Part::Groups), args.has(Part::Circuits));
    let mut orders = BufReader::new(tokio::io::stdin()).lines();
    let (mut tick, mut tell) = (interval(TICK), interval(TELL));
    tick.set_missed_tick_behavior(MissedTickBehavior::Burst);
    let start = Instant::now();
    let mut steps = 0;
    loop {
        tokio::select! {
            _ = tick.tick() => {
                let due = (start.elapsed().as_secs_f64() * RATE) as u64;
                while steps < due {
                    if with_jobs {
                        boss.order_job()?;
                    }
                    if with_tasks && boss.said.is_safe {
                        boss.order_task()?;
                    }
                    steps += 1;
                }
            }
            Some(echo) = job_echoes.receive() => add(&mut boss.said.echoed_jobs, echo.count),
            Some(echo) = task_echoes.receive() => add(&mut boss.said.echoed_tasks, echo.count),
            _ = tell.tick() => {
                boss.said.unknown_echoes = job_echoes.unknown() + task_echoes.unknown();
                boss.said.implausible_echoes = job_echoes.implausible() + task_echoes.implausible();
                say(&Bossed { connects: aether.status().connects, ..boss.said })?;
            }
            line = orders.next_line() => {
                match line?.as_deref() {
                    Some("safe") => boss.said.is_safe = true,
                    Some(_) => {
                        aether.flush().await?;
                        boss.said.is_safe = false;
                    }
                    None => break,
                }
                boss.said.orders += 1;
            }
        }
    }
    Ok(aether.close().await?)
}

/// Adds without overflow, because an echo may be forged.
const fn add(to: &mut u64, count: u64) {
    *to = to.saturating_add(count);
}
