//! Where the processor time of a message goes: sender, server and receiver, each in a process of its own.
//!
//! This program runs itself as the sender and as the receiver. Each reports the processor time that it took for its
//! messages, without its start; the server's is read from outside. The times come from `/proc`, so Linux only.

use std::ffi::OsString;
use std::process::Stdio;
use std::time::Duration;

use aether_bench::{median, payload};
use aether_conformance::NatsServer;
use aether_core::{Channel, InboxOptions, Vibrator, Wave};
use clap::{Args, ValueEnum};
use futures::StreamExt;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::Command;

use crate::{BYTES, MESSAGES, Outcome, SILENCE};

/// The work of a process of its own.
#[derive(Debug, Clone, Args)]
pub(crate) struct Job {
    #[arg(long = "side", hide = true, requires_all = ["of", "url"])]
    pub(crate) side: Option<Side>,
    #[arg(long, hide = true)]
    of: Option<Contestant>,
    #[arg(long, hide = true)]
    url: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Side {
    Sender,
    Receiver,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Contestant {
    Raw,
    Aether,
}

/// Processor time, in nanoseconds.
#[derive(Debug, Clone, Copy, Default)]
struct Spent {
    user: f64,
    system: f64,
}

impl Spent {
    /// The time that a process has taken so far, to 10 ms.
    fn by(process: &str) -> Outcome<Self> {
        // Source: proc(5). The times are fields 14 and 15, in ticks of 10 ms; the name before them may hold spaces.
        let stat = std::fs::read_to_string(format!("/proc/{process}/stat"))?;
        let fields: Vec<_> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
        let ticks =
            |index: usize| -> Outcome<f64> { Ok(fields.get(index).ok_or("a short stat")?.parse::<f64>()?) };
        Ok(Self { user: ticks(11)? * 1e7, system: ticks(12)? * 1e7 })
    }

    fn since(self, before: Self) -> Self {
        Self { user: self.user - before.user, system: self.system - before.system }
    }

    /// As a line that [`Spent::read`] reads.
    fn line(self, messages: u64) -> String {
        format!("{} {} {messages}", self.user, self.system)
    }

    /// The time for each message, and the number of messages.
    fn read(line: &str) -> Outcome<(Self, u64)> {
        let mut words = line.split(' ');
        let mut word = || words.next().ok_or("a side said too little");
        let (user, system, messages): (f64, f64, u64) =
            (word()?.parse()?, word()?.parse()?, word()?.parse()?);
        Ok((Self { user, system }.each(messages), messages))
    }

    fn each(self, messages: u64) -> Self {
        Self { user: self.user / messages as f64, system: self.system / messages as f64 }
    }

    fn total(self) -> f64 {
        self.user + self.system
    }
}

/// Compares both contestants and prints a table: the medians of the rounds.
pub(crate) async fn compare(rounds: usize) -> Outcome<()> {
    let server = NatsServer::start().await?;
    let mut measured = [Vec::new(), Vec::new()];
    for _ in 0..rounds {
        for (times, contestant) in measured.iter_mut().zip([Contestant::Raw, Contestant::Aether]) {
            times.push(run(&server, contestant).await?);
        }
    }
    println!("| ns of processor time a message | sender | server | receiver | all | against raw | lost |");
    println!("|---|---|---|---|---|---|---|");
    let all = |round: &([Spent; 3], u64)| round.0.iter().map(|spent| spent.total()).sum::<f64>();
    let ratio = median(measured[0].iter().zip(&measured[1]).map(|(raw, ours)| all(raw) / all(ours)));
    for (times, (name, ratio)) in measured.iter().zip([("async-nats", 1.0), ("Aether over NATS", ratio)]) {
        let column = |side: usize| {
            let user = median(times.iter().map(|round| round.0[side].user));
            let system = median(times.iter().map(|round| round.0[side].system));
            format!("{user:.0} + {system:.0}")
        };
        let lost = times.iter().map(|round| round.1).max().unwrap_or(0);
        println!(
            "| {name} | {} | {} | {} | {:.0} | {ratio:.2} | {lost} |",
            column(0),
            column(1),
            column(2),
            median(times.iter().map(all))
        );
    }
    println!(
        "\nUser time + time in the kernel. The ratio compares the work that one processor does in a second."
    );
    Ok(())
}

/// One round. Returns the times of sender, server and receiver for each message, and how many were lost.
async fn run(server: &NatsServer, contestant: Contestant) -> Outcome<([Spent; 3], u64)> {
    let pid = server.pid().ok_or("the server has ended")?.to_string();
    let program = std::env::current_exe()?;
    let command = |side: &str| {
        let mut command = Command::new(&program);
        let of = if contestant == Contestant::Raw { "raw" } else { "aether" };
        let args: [OsString; 6] =
            ["--side".into(), side.into(), "--of".into(), of.into(), "--url".into(), server.url().into()];
        command.args(args).stdout(Stdio::piped()).kill_on_drop(true);
        command
    };
    let mut receiver = command("receiver").spawn()?;
    let mut said = BufReader::new(receiver.stdout.take().ok_or("no stdout")?).lines();
    if said.next_line().await?.as_deref() != Some("ready") {
        return Err("the receiver did not get ready".into());
    }
    let before = Spent::by(&pid)?;
    let sender = command("sender").output().await?;
    let (sender, _) = Spent::read(std::str::from_utf8(&sender.stdout)?.trim_end())?;
    let line = said.next_line().await?.ok_or("the receiver ended without a word")?;
    let (receiver_spent, received) = Spent::read(&line)?;
    let server = Spent::by(&pid)?.since(before).each(MESSAGES);
    receiver.wait().await?;
    Ok(([sender, server, receiver_spent], MESSAGES - received))
}

/// The work of a process of its own.
pub(crate) async fn work(job: &Job) -> Outcome<()> {
    let (Some(side), Some(contestant), Some(url)) = (job.side, job.of, &job.url) else {
        return Err("a side needs --of and --url".into());
    };
    let line = match (side, contestant) {
        (Side::Sender, Contestant::Raw) => send_raw(url).await?,
        (Side::Sender, Contestant::Aether) => send(url).await?,
        (Side::Receiver, Contestant::Raw) => receive_raw(url).await?,
        (Side::Receiver, Contestant::Aether) => receive(url).await?,
    };
    println!("{line}");
    Ok(())
}

async fn send_raw(url: &str) -> Outcome<String> {
    let client = async_nats::connect(url).await?;
    let before = Spent::by("self")?;
    let client = tokio::spawn(async move {
        for _ in 0..MESSAGES {
            client.publish("bench.wave", payload(BYTES)).await?;
        }
        client.flush().await?;
        Outcome::Ok(client)
    });
    let client = client.await??;
    let spent = Spent::by("self")?.since(before);
    drop(client);
    Ok(spent.line(MESSAGES))
}

async fn send(url: &str) -> Outcome<String> {
    let aether = aether::connect(url).await?;
    let emitter = aether.emitter("sender")?;
    let channel = Channel::new("bench.wave")?;
    let before = Spent::by("self")?;
    let sending = tokio::spawn(async move {
        for _ in 0..MESSAGES {
            emitter.emit(Wave::from_bytes(&channel, payload(BYTES))?).await?;
        }
        Outcome::Ok(())
    });
    sending.await??;
    aether.flush().await?;
    let spent = Spent::by("self")?.since(before);
    aether.close().await?;
    Ok(spent.line(MESSAGES))
}

async fn receive_raw(url: &str) -> Outcome<String> {
    let client = async_nats::connect(url).await?;
    let mut messages = client.subscribe("bench.wave").await?;
    client.flush().await?;
    let before = Spent::by("self")?;
    println!("ready");
    let receiving = tokio::spawn(async move {
        let mut received = 0;
        while received < MESSAGES {
            // The client drops messages silently where it is too slow.
            let within = if received == 0 { Duration::from_secs(60) } else { SILENCE };
            match tokio::time::timeout(within, messages.next()).await {
                Ok(Some(message)) => assert_eq!(message.payload.len(), BYTES),
                Ok(None) | Err(_) => break,
            }
            received += 1;
        }
        received
    });
    let received = receiving.await?;
    Ok(Spent::by("self")?.since(before).line(received))
}

async fn receive(url: &str) -> Outcome<String> {
    let aether = aether::connect(url).await?;
    // With its default bounds: a sender that is faster is asked to pause.
    let mut receiver =
        Vibrator::builder("receiver").inbox(InboxOptions::interactive()).create(&aether).await?;
    receiver.resonate_on("bench.wave").await?;
    let before = Spent::by("self")?;
    println!("ready");
    let receiving = tokio::spawn(async move {
        for _ in 0..MESSAGES {
            let wave = receiver.receive().await.ok_or("closed")?;
            assert_eq!(wave.payload().len(), BYTES);
        }
        assert!(receiver.ledger().adds_up());
        Outcome::Ok(receiver.ledger().delivered)
    });
    let received = receiving.await??;
    let spent = Spent::by("self")?.since(before);
    aether.close().await?;
    Ok(spent.line(received))
}
