//! A thousand WebSocket clients of the gateway that all want the same waves: how late each wave is at each of them, and what
//! that costs the processors.
//!
//! `cargo xtask bench gateway`; `-- --clients 500 --rate 100 --seconds 4` after `cargo bench -p aether-bus-bench --bench
//! gateway` is short. `cargo xtask bench gateway --memory 60` measures its memory instead.
//!
//! The gateway is a process with a NATS server beside it, as users run it. The clients are in processes of their own,
//! several hundred in one. They share the machine's processors with the gateway. A client reads every byte and takes
//! the frames apart; each tenth also finds every wave in them and notes its delay, from its emit to that moment. Others
//! would measure the parser.

#![allow(clippy::unwrap_used, reason = "a benchmark that fails ends")]

mod client;
mod memory;
mod processes;
mod readers;

use std::process::ExitCode;
use std::time::Duration;

use aether_conformance::NatsServer;
use aether_core::{Aether, Wave};
use aether_gateway::GatewayArgs;
use clap::Parser;
use tokio::time::{interval, sleep};

use client::micros_now;
use processes::{Gateway, Readers, Usage};

#[cfg(feature = "mimalloc")]
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// The first argument of the process of the gateway, and of the processes of the clients.
const SERVE: &str = "serve";
const READ: &str = "read";
/// Detection off, and without the limits that are not measured here.
const CROWD: [&str; 5] = [
    "--no-physics",
    "--field-limit",
    "max_connections_total=5000",
    "--field-limit",
    "max_connections_per_source=5000",
];
/// How long the load runs before it is measured.
const WARM: Duration = Duration::from_secs(3);

#[derive(Debug, clap::Parser)]
struct Args {
    /// The numbers of clients; may be repeated
    #[arg(long, default_values_t = [100, 1000])]
    clients: Vec<usize>,
    /// The waves a second; may be repeated
    #[arg(long, default_values_t = [100, 1000])]
    rate: Vec<u32>,
    /// How long each load is measured
    #[arg(long, default_value_t = 8)]
    seconds: u64,
    /// How many processes the clients are in
    #[arg(long, default_value_t = 2)]
    processes: usize,
    /// How many clients in a hundred do not read
    #[arg(long, default_value_t = 0)]
    silent: usize,
    /// Measures for this number of minutes the memory of a gateway with 10,000 channels and 1,000 vibrators instead
    #[arg(long, value_name = "MINUTES")]
    memory: Option<u64>,
    /// Given by cargo.
    #[arg(long, hide = true)]
    bench: bool,
}

fn main() -> ExitCode {
    let mut args = std::env::args();
    let program = args.next().unwrap();
    match args.next().as_deref() {
        Some(SERVE) => {
            let args = GatewayArgs::parse_from([program].into_iter().chain(args));
            aether_service::run(|shutdown| aether_gateway::main(args, shutdown))
        }
        Some(READ) => {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            let numbers: Vec<String> = args.collect();
            runtime.block_on(readers::read(&numbers));
            ExitCode::SUCCESS
        }
        _ => {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            let args = Args::parse();
            match args.memory {
                Some(minutes) => runtime.block_on(memory::measure(minutes)),
                None => runtime.block_on(measure(&args)),
            }
            ExitCode::SUCCESS
        }
    }
}

async fn measure(args: &Args) {
    println!(
        "| clients | do not read | waves a second | p50 | p99 | largest | arrived | told as missed | messages of each client a second | gateway, cores (of it system) | clients, cores |"
    );
    println!("|---|---|---|---|---|---|---|---|---|---|---|");
    for &clients in &args.clients {
        for &rate in &args.rate {
            one(args, clients, rate).await;
        }
    }
}

/// Measures one load, with a gateway and clients of its own.
async fn one(args: &Args, clients: usize, rate: u32) {
    let server = NatsServer::start().await.unwrap();
    let gateway = Gateway::start(&server.url(), &CROWD).await;
    let silent = clients * args.silent / 100;
    let mut readers = Readers::start(&gateway.address, args.processes, clients, silent).await;
    let emitting = tokio::spawn(emit(server.url(), rate));
    sleep(WARM).await;
    readers.say("count").await;
    let before = (Usage::of(gateway.id()), readers.usage());
    sleep(Duration::from_secs(args.seconds)).await;
    let after = (Usage::of(gateway.id()), readers.usage());
    let seen = readers.end().await;
    emitting.abort();
    let seconds = args.seconds as f64;
    let (whole, system) = after.0.cores_since(before.0, seconds);
    let (of_clients, _) = after.1.cores_since(before.1, seconds);
    let ms = |quantile: f64| format!("{:.1} ms", seen.micros.value_at_quantile(quantile) as f64 / 1e3);
    println!(
        "| {clients} | {silent} | {rate} | {} | {} | {:.1} ms | {:.1} % | {} | {:.1} | {whole:.2} ({system:.2}) | {of_clients:.2} |",
        ms(0.5),
        ms(0.99),
        seen.micros.max() as f64 / 1e3,
        100.0 * seen.micros.len() as f64 / (seen.looking as f64 * f64::from(rate) * seconds),
        seen.missed,
        seen.messages as f64 / (clients - silent) as f64 / seconds,
    );
}

/// Emits waves of 100 bytes on a fixed schedule. Each has the time at which it was due.
async fn emit(url: String, rate: u32) {
    let aether = aether::connect(&url).await.unwrap();
    let crowd = aether.emitter("crowd").unwrap();
    let mut due = interval(Duration::from_secs(1) / rate);
    loop {
        let tick = due.tick().await;
        let at = micros_now() - tick.elapsed().as_micros() as u64;
        let payload = format!("at={at};{}", "x".repeat(80));
        crowd.emit(Wave::builder("crowd.wave").text(payload).build().unwrap()).await.unwrap();
    }
}
