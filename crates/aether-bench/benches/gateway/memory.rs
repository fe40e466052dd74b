//! The memory of the gateway after a long time: 10,000 channels with lines and histories of their own, 1,000 vibrators
//! in 100 processes of 50 programs, a wave in 15 s on each channel, detection on, and somebody who reads its pages.
//!
//! The processes are connections of this one. Each has its accounts and announces its vibrators, as others do. Each
//! wave is heard by a vibrator.

use std::fs;
use std::time::{Duration, Instant};

use aether_conformance::NatsServer;
use aether_core::{Aether, Emitter, Vibrator};
use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::interval;

use crate::processes::Gateway;

const PROCESSES: usize = 100;
const PROGRAMS: usize = 50;
/// In each process.
const VIBRATORS: usize = 10;
/// On which each vibrator emits.
const CHANNELS: usize = 10;
/// In which each channel has a wave.
const ROUND: Duration = Duration::from_secs(15);
/// How often a line is printed.
const STEP: Duration = Duration::from_secs(300);
/// What is read in each round.
const PAGES: [&str; 5] = ["/", "/metrics", "/api/overview", "/api/services", "/api/map"];
const GOAL_MB: f64 = 150.0;

pub(crate) async fn measure(minutes: u64) {
    let server = NatsServer::start().await.unwrap();
    let args = ["--set", "service.gateway.max_channels=10000"];
    let gateway = Gateway::start(&server.url(), &args).await;
    println!("| after | resident | at most until then | channels | vibrators | waves observed |");
    println!("|---|---|---|---|---|---|");
    print(&gateway, Duration::ZERO).await;
    let begin = Instant::now();
    let (mut processes, mut emitters) = (Vec::new(), Vec::new());
    for number in 0..PROCESSES {
        let (process, of_process) = process(&server.url(), number).await;
        processes.push(process);
        emitters.extend(of_process);
    }
    let whole = Duration::from_secs(60 * minutes);
    let mut turns = interval(ROUND / u32::try_from(emitters.len()).unwrap());
    let mut printed = Duration::ZERO;
    while begin.elapsed() < whole {
        for (number, emitter) in emitters.iter().enumerate() {
            turns.tick().await;
            for channel in 0..CHANNELS {
                let channel = format!("memory.{number}.{channel}");
                emitter.emit_bytes(channel, "x".repeat(100)).await.unwrap();
            }
        }
        for page in PAGES {
            get(&gateway, page).await;
        }
        if begin.elapsed() >= printed + STEP {
            printed += STEP;
            print(&gateway, begin.elapsed()).await;
        }
    }
    print(&gateway, begin.elapsed()).await;
    let (_, largest) = memory(&gateway);
    println!("\nThe goal is below {GOAL_MB} MB after an hour: {largest:.1} MB at most in {minutes} minutes.");
}

/// A process whose vibrators hear the channels on which the one before emits.
async fn process(url: &str, number: usize) -> (Aether, Vec<Emitter>) {
    let builder = aether::builder().url(url).program(&format!("service-{}", number % PROGRAMS));
    let aether = builder.connect().await.unwrap();
    let mut emitters = Vec::new();
    for own in number * VIBRATORS..(number + 1) * VIBRATORS {
        let mut vibrator = Vibrator::create(&format!("vibrator-{own}"), &aether).await.unwrap();
        let heard = (own + 1) % (PROCESSES * VIBRATORS);
        vibrator.resonate_on(format!("memory.{heard}.>")).await.unwrap();
        emitters.push(vibrator.emitter());
        tokio::spawn(async move { while vibrator.receive().await.is_some() {} });
    }
    (aether, emitters)
}

async fn print(gateway: &Gateway, after: Duration) {
    let overview: Value = serde_json::from_str(&get(gateway, "/api/overview").await).unwrap();
    let (resident, largest) = memory(gateway);
    println!(
        "| {:.1} min | {resident:.1} MB | {largest:.1} MB | {} | {} | {} |",
        after.as_secs_f64() / 60.0,
        overview["flow"]["known_channels"],
        overview["vibrators"],
        overview["flow"]["waves"],
    );
}

/// The resident memory of the gateway now, and the most it ever had, in MB.
fn memory(gateway: &Gateway) -> (f64, f64) {
    let status = fs::read_to_string(format!("/proc/{}/status", gateway.id())).unwrap();
    let megabytes = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
        line.split_whitespace().next().unwrap().parse::<f64>().unwrap() / 1024.0
    };
    (megabytes("VmRSS:"), megabytes("VmHWM:"))
}

/// The body of an answer of the gateway.
async fn get(gateway: &Gateway, path: &str) -> String {
    let mut stream = TcpStream::connect(&gateway.address).await.unwrap();
    let request = format!("GET {path} HTTP/1.0\r\nhost: {}\r\n\r\n", gateway.address);
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    assert!(head.contains(" 200 "), "{path}: {head}");
    body.to_owned()
}
