//! The driver: starts server, receiver, sender and the others, kills the server now and then, and adds up.

use std::time::Duration;

use aether_conformance::NatsServer;
use tokio::time::{Instant, interval_at, sleep_until};

use crate::forger::Forger;
use crate::jobs::Jobs;
use crate::process::Process;
use crate::receiver::Received;
use crate::sender::Sent;
use crate::verdict::Verdict;
use crate::{Args, Outcome, Part, Role};

pub(crate) async fn run(args: &Args) -> Outcome<()> {
    if args.kill_every <= args.down {
        return Err("--kill-every must be longer than --down".into());
    }
    let mut server = NatsServer::start().await?;
    let medium = server.url();
    let mut receiver = Process::start(Role::Receiver, &medium, args)?;
    receiver.is_ready::<Received>().await?;
    let mut observer = match args.has(Part::Observers) {
        true => Some(Process::start(Role::Observer, &medium, args)?),
        false => None,
    };
    if let Some(observer) = &mut observer {
        observer.is_ready::<Received>().await?;
    }
    let mut jobs = Jobs::start(&medium, args).await?;
    let mut sender = Process::start(Role::Sender, &medium, args)?;
    let forger = if args.has(Part::Forged) { Some(Forger::start(&medium).await?) } else { None };
    println!(
        "{} waves/s to a receiver that takes {}/s, for {} min; the server is killed every {:?} and away for {:?}\n",
        args.rate(),
        args.capacity,
        args.minutes,
        args.kill_every,
        args.down
    );
    println!(
        "{:>6} {:>11} {:>11} {:>11} {:>9} {:>9} {:>9} {:>12} {:>12}",
        "time s",
        "emitted",
        "received",
        "shed",
        "lost up",
        "in outbox",
        "kills",
        "sender KiB",
        "receiver KiB"
    );
    let start = Instant::now();
    let end = start + Duration::from_secs_f64(60.0 * args.minutes);
    let (mut sent, mut received) = (Sent::default(), Received::default());
    let mut kills = 0;
    let mut kill = interval_at(start + args.kill_every, args.kill_every);
    let mut restart = None;
    let lines = (args.minutes * 60.0 / 20.0).clamp(1.0, 30.0);
    let mut show = interval_at(start + Duration::from_secs_f64(lines), Duration::from_secs_f64(lines));
    let mut sample = interval_at(start, Duration::from_millis(500));
    loop {
        tokio::select! {
            told = sender.tells() => sent = told?,
            told = receiver.tells() => received = told?,
            told = tells(&mut observer) => drop(told?),
            told = jobs_tell(&mut jobs) => told?,
            _ = sample.tick() => {
                sender.memory.sample();
                receiver.memory.sample();
                if let Some(observer) = &mut observer {
                    observer.memory.sample();
                }
            }
            _ = show.tick() => {
                let kib = |process: &mut Process| process.memory.sample().unwrap_or_default() / 1024;
                println!(
                    "{:>6.0} {:>11} {:>11} {:>11} {:>9} {:>9} {:>9} {:>12} {:>12}",
                    start.elapsed().as_secs_f64(),
                    sent.emitted,
                    received.received,
                    received.shed + received.expired + sent.lost,
                    received.lost_upstream,
                    sent.queued,
                    kills,
                    kib(&mut sender),
                    kib(&mut receiver)
                );
            }
            // Skip outages that would last until the end of the run.
            at = kill.tick() => if at + args.down + Duration::from_secs(1) < end {
                if let Some(jobs) = &mut jobs {
                    jobs.settle().await?;
                }
                server.kill().await?;
                kills += 1;
                restart = Some(Instant::now() + args.down);
                sender.memory.next_period();
                receiver.memory.next_period();
                if let Some(observer) = &mut observer {
                    observer.memory.next_period();
                }
            },
            () = async { sleep_until(restart.unwrap_or(end)).await }, if restart.is_some() => {
                server.restart().await?;
                restart = None;
                if let Some(jobs) = &mut jobs {
                    jobs.resume(kills + 1).await?;
                }
            }
            () = sleep_until(end) => break,
        }
    }
    if restart.is_some() {
        server.restart().await?;
    }
    if let Some(jobs) = &mut jobs {
        jobs.settle().await?;
    }
    let sent: Sent = sender.last("end\n", |sent: &Sent| sent.is_last).await?;
    let due = sent.delivered;
    let is_whole = |received: &Received| received.is_last;
    let received: Received = receiver.last(&format!("{due}\n"), is_whole).await?;
    let mut verdict = Verdict::default();
    verdict.of_overload(kills, sent, received);
    verdict.of_memory("sender", &sender.memory);
    verdict.of_memory("receiver", &receiver.memory);
    if let Some(mut observer) = observer {
        let observed: Received = observer.last(&format!("{due}\n"), is_whole).await?;
        verdict.of_observers(sent, observed);
        verdict.of_memory("observer", &observer.memory);
        observer.ends().await?;
    }
    if let Some(mut jobs) = jobs {
        verdict.of_jobs(args, &jobs);
        jobs.end().await?;
    }
    if let Some(forger) = forger {
        verdict.of_forgeries(&received, forger.end());
    }
    sender.ends().await?;
    receiver.ends().await?;
    verdict.end()
}

/// The next report of an optional process.
async fn tells(process: &mut Option<Process>) -> Outcome<Received> {
    match process {
        Some(process) => process.tells().await,
        None => std::future::pending().await,
    }
}

/// The next report of the boss and the workers, if they run.
async fn jobs_tell(jobs: &mut Option<Jobs>) -> Outcome<()> {
    match jobs {
        Some(jobs) => jobs.tell().await,
        None => std::future::pending().await,
    }
}
