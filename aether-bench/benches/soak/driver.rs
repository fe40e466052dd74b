//! The driver: starts server, receiver and sender, kills the server now and then, and adds up.

use std::process::Stdio;
use std::time::Duration;

use aether_core::conformance::NatsServer;
use serde::de::DeserializeOwned;
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio::time::{Instant, interval_at, sleep_until, timeout_at};

use crate::memory::Memory;
use crate::receiver::Received;
use crate::sender::Sent;
use crate::{Args, Outcome};

/// How long a process may take to start, or to bring its affairs to an end.
const PATIENCE: Duration = Duration::from_secs(120);

/// A process that this one has started. Killed when it is dropped.
struct Process {
    child: Child,
    orders: Option<ChildStdin>,
    said: Lines<BufReader<ChildStdout>>,
    memory: Memory,
}

impl Process {
    fn start(role: &str, medium: &str, args: &Args) -> Outcome<Self> {
        let mut command = Command::new(std::env::current_exe()?);
        command.args(["--role", role, "--medium", medium]);
        command.arg(format!("--load={}", args.load)).arg(format!("--capacity={}", args.capacity));
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).kill_on_drop(true);
        let mut child = command.spawn()?;
        let (orders, said) = (child.stdin.take(), child.stdout.take().ok_or("a process without stdout")?);
        let memory = Memory::of(child.id().ok_or("a process that has ended")?);
        Ok(Self { child, orders, said: BufReader::new(said).lines(), memory })
    }

    /// The next account that it gives of itself.
    async fn tells<T: DeserializeOwned>(&mut self) -> Outcome<T> {
        let line = self.said.next_line().await?.ok_or("a process has ended before its time")?;
        Ok(serde_json::from_str(&line)?)
    }

    async fn order(&mut self, line: String) -> Outcome<()> {
        Ok(self.orders.as_mut().ok_or("a process without stdin")?.write_all(line.as_bytes()).await?)
    }

    /// Its last words: the last account before it waits for its stdin to end, or ends.
    async fn last<T: DeserializeOwned>(&mut self, order: String, is_last: impl Fn(&T) -> bool) -> Outcome<T> {
        self.order(order).await?;
        let until = Instant::now() + PATIENCE;
        loop {
            let told: T = timeout_at(until, self.tells()).await.map_err(|_| "a process does not end")??;
            if is_last(&told) {
                return Ok(told);
            }
        }
    }
}

pub(crate) async fn run(args: &Args) -> Outcome<()> {
    if args.kill_every <= args.down {
        return Err("--kill-every must be longer than --down".into());
    }
    let mut server = NatsServer::start().await?;
    let medium = server.url();
    let mut receiver = Process::start("receiver", &medium, args)?;
    let _: Received = timeout_at(Instant::now() + PATIENCE, receiver.tells()).await??;
    let mut sender = Process::start("sender", &medium, args)?;
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
            _ = sample.tick() => {
                sender.memory.sample();
                receiver.memory.sample();
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
            // Not so late that the last outage is still going on at the end.
            at = kill.tick() => if at + args.down + Duration::from_secs(1) < end {
                server.kill().await?;
                kills += 1;
                restart = Some(Instant::now() + args.down);
                sender.memory.next_period();
                receiver.memory.next_period();
            },
            () = async { sleep_until(restart.unwrap_or(end)).await }, if restart.is_some() => {
                server.restart().await?;
                restart = None;
            }
            () = sleep_until(end) => break,
        }
    }
    if restart.is_some() {
        server.restart().await?;
    }
    let before = sent.emitted;
    let sent: Sent =
        sender.last("end\n".to_owned(), |sent: &Sent| sent.emitted > before && sent.queued == 0).await?;
    let due = sent.delivered;
    let received: Received = receiver
        .last(format!("{due}\n"), |received: &Received| received.offered >= due && received.queued == 0)
        .await?;
    // Each ends when nobody has orders for it any more.
    for process in [&mut sender, &mut receiver] {
        process.orders = None;
        let status = timeout_at(Instant::now() + PATIENCE, process.child.wait()).await??;
        if !status.success() {
            return Err(format!("a process failed: {status}").into());
        }
    }
    verdict(kills, sent, received, [("sender", &sender.memory), ("receiver", &receiver.memory)])
}

fn verdict(kills: u64, sent: Sent, received: Received, memories: [(&str, &Memory); 2]) -> Outcome<()> {
    let strong = 100.0 * received.strong as f64 / sent.strong.max(1) as f64;
    println!(
        "\nthe server was killed {kills} times; sender connected {} times, receiver {}; unconfirmed: at most {}",
        sent.connects, received.connects, sent.unconfirmed
    );
    println!(
        "sender:   {} offered = {} delivered + {} shed + {} queued",
        sent.offered, sent.delivered, sent.lost, sent.queued
    );
    println!(
        "receiver: {} offered = {} delivered + {} shed + {} expired + {} lost_upstream + {} queued",
        received.offered,
        received.delivered,
        received.shed,
        received.expired,
        received.lost_upstream,
        received.queued
    );
    println!("strong:   {} emitted, {} received ({strong:.2} %)", sent.strong, received.strong);
    let mut failures = Vec::new();
    let mut check = |holds: bool, what: String| {
        println!("{} {what}", if holds { "ok    " } else { "FAILED" });
        if !holds {
            failures.push(what);
        }
    };
    check(sent.emitted == sent.offered, "the outbox was offered what was emitted".into());
    check(sent.offered == sent.delivered + sent.lost + sent.queued, "the sender's account adds up".into());
    check(received.adds_up, "the receiver's account adds up".into());
    let whole = sent.lost
        + sent.queued
        + received.delivered
        + received.shed
        + received.expired
        + received.lost_upstream
        + received.queued;
    check(sent.emitted == whole, format!("together they add up to the wave: {} = {whole}", sent.emitted));
    check(received.received == received.delivered, "what was received is what was delivered".into());
    check(received.out_of_order == 0, format!("{} waves out of order or twice", received.out_of_order));
    check(received.malformed == 0, format!("{} malformed messages", received.malformed));
    check(received.missing == received.lost_upstream, "the medium counts the same losses".into());
    for (name, memory) in memories {
        let mib: Vec<_> =
            memory.peaks.iter().map(|peak| format!("{:.1}", *peak as f64 / 1048576.0)).collect();
        let peaks = mib.join(" ");
        match (memory.is_flat(), memory.growth()) {
            (Some(flat), Some(growth)) => {
                check(flat, format!("memory of the {name} is flat: x {growth:.3}; peaks in MiB {peaks}"));
            }
            _ => println!("-      memory of the {name}: too few kills to say; peaks in MiB {peaks}"),
        }
    }
    if failures.is_empty() { Ok(()) } else { Err(failures.join("; ").into()) }
}
