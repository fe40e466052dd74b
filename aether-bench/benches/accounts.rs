//! Measures what the accounts of 1,000 processes of 10 vibrators cost the NATS server and the gateway.
//!
//! `cargo xtask bench accounts` runs it. The senders are real connections in a process of their own; server, gateway and
//! senders are measured by the processor time that the system counted for each (Linux only). Each round is measured with
//! accounts and without, because the senders also announce their vibrators. Somebody reads the gateway's page every two
//! seconds and its metrics every fifteen in both.

use std::error::Error;
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use aether_bench::Table;
use aether_chassis::CancellationToken;
use aether_core::conformance::NatsServer;
use aether_core::{Aether, Vibrator};
use aether_gateway::GatewayArgs;
use clap::Parser;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Measures what accounts cost.
#[derive(Debug, Parser)]
struct Args {
    /// The number of processes.
    #[arg(long, default_value_t = 1000)]
    processes: usize,
    /// The number of vibrators of each.
    #[arg(long, default_value_t = 10)]
    vibrators: usize,
    /// The time for which each round is measured, in seconds.
    #[arg(long, default_value_t = 30)]
    seconds: u64,
    /// Internal: be the senders, on this medium, with or without accounts.
    #[arg(long, hide = true, num_args = 2, value_names = ["URL", "ACCOUNTS"])]
    senders: Option<Vec<String>>,
    /// Passed by cargo.
    #[arg(long, hide = true)]
    bench: bool,
}

/// The first argument of this program when it is the gateway.
const SERVE: &str = "--serve-gateway";
/// The default of `[account] every`.
const EVERY: Duration = Duration::from_secs(5);

type Outcome<T> = Result<T, Box<dyn Error>>;

fn main() -> Outcome<()> {
    let arguments: Vec<_> = std::env::args().collect();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    if arguments.get(1).is_some_and(|first| first == SERVE) {
        let args = GatewayArgs::parse_from([&["gateway".to_owned()], &arguments[2..]].concat());
        return Ok(runtime.block_on(aether_gateway::main(args, CancellationToken::new()))?);
    }
    let args = Args::parse();
    match &args.senders {
        Some(senders) => runtime.block_on(send(&args, &senders[0], senders[1] == "on")),
        None => runtime.block_on(measure(&args)),
    }
}

/// Connects all processes, tells the mean size of their accounts, and waits until it is killed.
async fn send(args: &Args, url: &str, accounts: bool) -> Outcome<()> {
    let (mut processes, mut kept) = (Vec::new(), Vec::new());
    for process in 0..args.processes {
        let builder = Aether::builder().url(url).program(&format!("service-{}", process % 50));
        let aether = builder.account_every(accounts.then_some(EVERY)).connect().await?;
        for number in 0..args.vibrators {
            let vibrator = Vibrator::create(&format!("vibrator-{number}"), &aether).await?;
            vibrator.resonate_on(format!("work.{process}.{number}")).await?;
            vibrator.emit_bytes(format!("work.{process}.{}", (number + 1) % args.vibrators), "x").await?;
            kept.push(vibrator);
        }
        processes.push(aether);
    }
    let mut bytes = 0;
    for process in &processes {
        process.flush().await?;
        bytes += serde_json::to_vec(&process.account())?.len();
    }
    println!("ready {}", bytes / processes.len().max(1));
    std::future::pending().await
}

/// A child of this program, which is killed with this.
struct Part(Child);

impl Part {
    /// Starts it, and returns what follows this word in its first line that has it.
    fn start(args: &[&str], word: &str) -> Outcome<(Self, String)> {
        let mut command = Command::new(std::env::current_exe()?);
        let mut child = command.args(args).stdin(Stdio::null()).stdout(Stdio::piped()).spawn()?;
        let mut lines = BufReader::new(child.stdout.take().ok_or("no stdout")?).lines();
        let part = Self(child);
        loop {
            let line = lines.next().ok_or("a part of the benchmark ended")??;
            if let Some(rest) = line.strip_prefix(word) {
                return Ok((part, rest.trim().to_owned()));
            }
        }
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// What one round cost, in per cent of a processor.
struct Cost {
    server: f64,
    gateway: f64,
    senders: f64,
    bytes: u64,
}

async fn measure(args: &Args) -> Outcome<()> {
    let without = round(args, false).await?;
    let with = round(args, true).await?;
    let mut table = Table::new(&["", "without accounts", "with accounts", "accounts"]);
    for (name, of) in [
        ("NATS server, % of a core", (|cost: &Cost| cost.server) as fn(&Cost) -> f64),
        ("gateway, % of a core", |cost| cost.gateway),
        ("all senders, % of a core", |cost| cost.senders),
    ] {
        let (before, after) = (of(&without), of(&with));
        table.row(
            [name.to_owned()]
                .into_iter()
                .chain([before, after, after - before].map(|it| format!("{it:.2}")))
                .collect(),
        );
    }
    let messages = args.processes as f64 / EVERY.as_secs_f64();
    println!("{}", table.markdown());
    println!(
        "{} processes of {} vibrators: {} bytes an account, {messages:.0} messages and {:.0} KiB a second",
        args.processes,
        args.vibrators,
        with.bytes,
        messages * with.bytes as f64 / 1024.0
    );
    Ok(())
}

async fn round(args: &Args, accounts: bool) -> Outcome<Cost> {
    let server = NatsServer::start().await?;
    let url = server.url();
    let gateway = [SERVE, "--no-physics", "--listen", "127.0.0.1:0", "--medium", &url];
    let (gateway, address) = Part::start(&gateway, "gateway: http://")?;
    let address: SocketAddr = address.trim_end_matches('/').parse()?;
    let (processes, vibrators) = (args.processes.to_string(), args.vibrators.to_string());
    let switch = if accounts { "on" } else { "off" };
    let senders = ["--processes", &processes, "--vibrators", &vibrators, "--senders", &url, switch];
    let (senders, bytes) = Part::start(&senders, "ready")?;
    // Two intervals, so that every process is known before the measurement.
    for _ in 0..5 {
        get(address, "/").await?;
        tokio::time::sleep(2 * EVERY / 5).await;
    }
    let pids = [server.pid().ok_or("the server ended")?, gateway.0.id(), senders.0.id()];
    let before = pids.map(processor_time);
    let start = Instant::now();
    let mut turns = tokio::time::interval(Duration::from_secs(1));
    for second in 0..args.seconds {
        turns.tick().await;
        if second % 2 == 0 {
            get(address, "/").await?;
        }
        if second % 15 == 0 {
            get(address, "/metrics").await?;
        }
    }
    turns.tick().await;
    let elapsed = start.elapsed().as_secs_f64();
    let status = get(address, "/api/accounts").await?;
    let known = status.matches("\"standing\":\"present\"").count();
    let expected = if accounts { args.processes + 1 } else { 1 };
    if known != expected {
        return Err(format!("the gateway knows {known} processes, not {expected}").into());
    }
    let mut costs = pids
        .map(processor_time)
        .into_iter()
        .zip(before)
        .map(|(after, before)| Ok::<_, Box<dyn Error>>(100.0 * (after? - before?) / elapsed));
    let mut next = || costs.next().ok_or("three parts")?;
    Ok(Cost { server: next()?, gateway: next()?, senders: next()?, bytes: bytes.parse()? })
}

/// The body of an answer of the gateway, with its head.
async fn get(address: SocketAddr, path: &str) -> Outcome<String> {
    let mut stream = TcpStream::connect(address).await?;
    let request = format!("GET {path} HTTP/1.1\r\nhost: gateway\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await?;
    Ok(String::from_utf8_lossy(&answer).into_owned())
}

/// The processor time of a process in seconds, in user and system mode.
fn processor_time(pid: u32) -> Outcome<f64> {
    /// Ticks a second in this file, on every Linux.
    const TICKS: f64 = 100.0;
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
    // The name of the program, in brackets, may contain spaces.
    let rest = stat.rsplit_once(')').ok_or("no /proc/PID/stat")?.1;
    let ticks: Vec<f64> =
        rest.split_whitespace().skip(11).take(2).map(str::parse).collect::<Result<_, _>>()?;
    Ok(ticks.iter().sum::<f64>() / TICKS)
}
