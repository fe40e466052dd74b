//! The cost of the accounts of many processes for the NATS server and the gateway.
//!
//! The senders are real connections in one process; server, gateway and senders are measured by the processor time that the
//! system counted for each. Each is measured with accounts and without, because the senders also announce their vibrators.
//! Somebody reads the gateway's page every two seconds and its metrics every fifteen in both.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use aether_conformance::NatsServer;
use aether_core::{Aether, Vibrator};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::goal::Goals;
use crate::part::{Part, processor_time};
use crate::{Outcome, SERVE};

/// The default of `[account] every`.
const EVERY: Duration = Duration::from_secs(5);

/// Connects all processes, tells the mean size of their accounts, and waits until it is killed.
pub(crate) async fn send(processes: usize, vibrators: usize, url: &str, accounts: bool) -> Outcome {
    let (mut connected, mut kept) = (Vec::new(), Vec::new());
    for process in 0..processes {
        let builder = aether::builder().url(url).program(&format!("service-{}", process % 50));
        let aether = builder.account_every(accounts.then_some(EVERY)).connect().await?;
        for number in 0..vibrators {
            let vibrator = Vibrator::create(&format!("vibrator-{number}"), &aether).await?;
            vibrator.resonate_on(format!("work.{process}.{number}")).await?;
            vibrator.emit_bytes(format!("work.{process}.{}", (number + 1) % vibrators), "x").await?;
            kept.push(vibrator);
        }
        connected.push(aether);
    }
    let mut bytes = 0;
    for process in &connected {
        process.flush().await?;
        bytes += serde_json::to_vec(&process.account())?.len();
    }
    println!("ready {}", bytes / connected.len().max(1));
    std::future::pending().await
}

/// The cost of one round, in per cent of a processor.
struct Cost {
    server: f64,
    gateway: f64,
    senders: f64,
    /// The size of an account.
    bytes: u64,
}

/// Adds what the accounts cost.
pub(crate) async fn measure(processes: usize, vibrators: usize, seconds: u64, goals: &mut Goals) -> Outcome {
    let round = async |accounts: bool| {
        eprintln!("accounts: {processes} processes {}", if accounts { "with them" } else { "without them" });
        round(processes, vibrators, seconds, accounts).await
    };
    let (without, with) = (round(false).await?, round(true).await?);
    let messages = processes as f64 / EVERY.as_secs_f64();
    let how = |before: f64, after: f64| {
        format!(
            "{processes} processes of {vibrators} vibrators, {messages:.0} accounts of {} bytes a second: {after:.2} % \
             of a core with them, {before:.2} % without",
            with.bytes
        )
    };
    let server = how(without.server, with.server);
    goals.below("accounts: the NATS server", 1.0, with.server - without.server, "% of a core", server);
    let gateway = how(without.gateway, with.gateway);
    goals.below("accounts: the gateway", 5.0, with.gateway - without.gateway, "% of a core", gateway);
    let senders = format!("{:.2} % of a core", with.senders - without.senders);
    goals.shown("accounts: all senders together", senders, how(without.senders, with.senders));
    Ok(())
}

async fn round(processes: usize, vibrators: usize, seconds: u64, accounts: bool) -> Outcome<Cost> {
    let server = NatsServer::start().await?;
    let url = server.url();
    let gateway = [SERVE, "--no-physics", "--listen", "127.0.0.1:0", "--medium", &url];
    let mut gateway = Part::of_this(&gateway, &[])?;
    let address = gateway.says("gateway: http://")?;
    let address: SocketAddr = address.trim_end_matches('/').parse()?;
    let (number, each) = (processes.to_string(), vibrators.to_string());
    let switch = if accounts { "on" } else { "off" };
    let senders = ["--processes", &number, "--vibrators", &each, "--senders", &url, switch];
    let mut senders = Part::of_this(&senders, &[])?;
    let bytes = senders.says("ready")?;
    // Two intervals, so that every process is known before the measurement.
    for _ in 0..5 {
        get(address, "/").await?;
        tokio::time::sleep(2 * EVERY / 5).await;
    }
    let pids = [server.pid().ok_or("the server ended")?, gateway.pid(), senders.pid()];
    let times = || -> Outcome<Vec<f64>> { pids.iter().map(|pid| processor_time(*pid)).collect() };
    let (before, start) = (times()?, Instant::now());
    let mut turns = tokio::time::interval(Duration::from_secs(1));
    for second in 0..seconds {
        turns.tick().await;
        if second % 2 == 0 {
            get(address, "/").await?;
        }
        if second % 15 == 0 {
            get(address, "/metrics").await?;
        }
    }
    turns.tick().await;
    let (after, elapsed) = (times()?, start.elapsed().as_secs_f64());
    let known = get(address, "/api/accounts").await?.matches("\"standing\":\"present\"").count();
    // The gateway may be one of them.
    let expected = if accounts { processes } else { 0 };
    if known != expected && known != expected + 1 {
        return Err(format!("the gateway knows {known} processes, not {expected}").into());
    }
    let cost = |part: usize| 100.0 * (after[part] - before[part]) / elapsed;
    Ok(Cost { server: cost(0), gateway: cost(1), senders: cost(2), bytes: bytes.parse()? })
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
