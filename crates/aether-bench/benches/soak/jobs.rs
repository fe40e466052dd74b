//! The boss and the workers as seen by the driver: it decides when periods are safe and checks that the commands of
//! safe periods are accounted for.

use std::time::Duration;

use tokio::time::{Instant, timeout_at};

use crate::boss::Bossed;
use crate::process::Process;
use crate::workers::Worked;
use crate::{Args, Outcome, Part, Role};

/// How long to wait for the last commands and echoes of a safe period, and for reconnects.
const PATIENCE: Duration = Duration::from_secs(30);

pub(crate) struct Jobs {
    boss: Process,
    workers: Process,
    pub(crate) bossed: Bossed,
    pub(crate) worked: Worked,
    /// How many orders the boss has received.
    orders: u64,
    /// Safe periods whose commands were not accounted for in time.
    pub(crate) unsettled: Vec<String>,
}

impl Jobs {
    /// Starts both if there is anything for them to do. The first period is safe.
    pub(crate) async fn start(medium: &str, args: &Args) -> Outcome<Option<Self>> {
        if !args.has(Part::Groups) && !args.has(Part::Circuits) {
            return Ok(None);
        }
        let mut workers = Process::start(Role::Workers, medium, args)?;
        let worked = workers.is_ready().await?;
        let mut boss = Process::start(Role::Boss, medium, args)?;
        let bossed = boss.is_ready().await?;
        let mut jobs = Self { boss, workers, bossed, worked, orders: 0, unsettled: Vec::new() };
        jobs.order("safe\n").await?;
        Ok(Some(jobs))
    }

    async fn order(&mut self, order: &str) -> Outcome<()> {
        self.orders += 1;
        self.boss.order(order).await
    }

    /// Waits for the next report of either process.
    ///
    /// # Cancel safety
    /// If cancelled before completion, it loses no report.
    pub(crate) async fn tell(&mut self) -> Outcome<()> {
        tokio::select! {
            told = self.boss.tells() => self.bossed = told?,
            told = self.workers.tells() => self.worked = told?,
        }
        Ok(())
    }

    /// Ends the safe period and waits until all its commands are accounted for.
    pub(crate) async fn settle(&mut self) -> Outcome<()> {
        self.order("risky\n").await?;
        if !self.wait(|jobs| jobs.bossed.orders == jobs.orders && jobs.missing().is_none()).await? {
            let missing = self.missing().unwrap_or_else(|| "the boss does not answer".to_owned());
            self.unsettled.push(missing);
        }
        Ok(())
    }

    /// Describes the commands of safe periods that are not accounted for.
    fn missing(&self) -> Option<String> {
        let (bossed, worked) = (&self.bossed, &self.worked);
        if bossed.jobs != worked.jobs {
            return Some(format!("{} jobs of safe times, of which {} came", bossed.jobs, worked.jobs));
        }
        if bossed.tasks != worked.succeeded + worked.unhandled {
            return Some(format!("{} tasks, of which {} were taken", bossed.tasks, worked.tasks));
        }
        if bossed.echoed_tasks != worked.unhandled {
            return Some(format!("{} echoes of {} failed tasks", bossed.echoed_tasks, worked.unhandled));
        }
        None
    }

    /// Waits until both processes have connected this many times, then begins a safe period.
    pub(crate) async fn resume(&mut self, connects: u64) -> Outcome<()> {
        if !self.wait(|jobs| jobs.bossed.connects.min(jobs.worked.connects) >= connects).await? {
            return Err("boss and workers are not connected again".into());
        }
        self.order("safe\n").await
    }

    async fn wait(&mut self, is_so: impl Fn(&Self) -> bool) -> Outcome<bool> {
        let until = Instant::now() + PATIENCE;
        while !is_so(self) {
            match timeout_at(until, self.tell()).await {
                Ok(told) => told?,
                Err(_) => return Ok(false),
            }
        }
        Ok(true)
    }

    pub(crate) async fn end(&mut self) -> Outcome<()> {
        self.boss.ends().await?;
        self.workers.ends().await
    }
}
