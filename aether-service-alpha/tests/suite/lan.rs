//! Orders between two machines that have a cable and a secret in common, and nothing else: two processes in two network
//! namespaces.

use std::io::{BufRead, BufReader, Read};
use std::process::{Child, Command, ExitCode, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use aether_conformance::{Cable, End};
use aether_core::Aether;
use aether_service::CancellationToken;
use aether_service_alpha::{Alpha, AlphaOptions, Rate};
use aether_service_beta::{Beta, BetaArgs, BetaOptions};
use clap::Parser as _;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

const ROLE: &str = "AETHER_TEST_IS_BETA";
const ORDERS: u64 = 200;
const UNITS: u32 = 10_000;
const SEED: u64 = 3;
/// Far longer than the orders take.
const LONG: Duration = Duration::from_secs(180);

/// A service as a process. It is killed when this is dropped.
struct Service {
    name: &'static str,
    child: Child,
    lines: Receiver<String>,
    log: Vec<String>,
}

impl Service {
    /// Starts it with nothing but the medium, the secret, and arguments about orders and stock.
    fn start(name: &'static str, mut command: Command) -> Self {
        for (variable, _) in std::env::vars().filter(|(variable, _)| variable.starts_with("AETHER_")) {
            command.env_remove(variable);
        }
        command.env("AETHER_MEDIUM", "lan:").env("AETHER_LAN_SECRET", "two machines and a cable");
        if name == "beta" {
            command.env(ROLE, "1");
        }
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let (sender, lines) = channel();
        let outputs: [Box<dyn Read + Send>; 2] =
            [Box::new(child.stdout.take().unwrap()), Box::new(child.stderr.take().unwrap())];
        for output in outputs {
            let sender = sender.clone();
            std::thread::spawn(move || {
                for line in BufReader::new(output).lines().map_while(Result::ok) {
                    let _ = sender.send(line);
                }
            });
        }
        Self { name, child, lines, log: Vec::new() }
    }

    /// Waits for a line with this text, and returns the line from there on.
    fn says(&mut self, text: &str) -> String {
        let deadline = Instant::now() + LONG;
        loop {
            match self.lines.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                Ok(line) => {
                    self.log.push(line);
                    if let Some((_, rest)) = self.log.last().unwrap().split_once(text) {
                        return format!("{text}{rest}");
                    }
                }
                Err(error) => {
                    let ended = error == RecvTimeoutError::Disconnected;
                    panic!("{} never said {text:?} (ended: {ended}):\n{}", self.name, self.log.join("\n"));
                }
            }
        }
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The inventory service, as its own program starts it; does nothing without its role.
#[test]
fn beta_as_a_process() {
    if std::env::var_os(ROLE).is_none() {
        return;
    }
    let units = UNITS.to_string();
    let args = BetaArgs::parse_from(["aether-service-beta", "--units", &units, "--restock-every", "0"]);
    let code = aether_service::run(|shutdown| aether_service_beta::main(args, shutdown));
    assert_eq!(format!("{code:?}"), format!("{:?}", ExitCode::SUCCESS));
}

fn beta(cable: &Cable) -> Service {
    let mut command = cable.command(End::Right, std::env::current_exe().unwrap());
    command.args(["--exact", "lan::beta_as_a_process", "--nocapture"]);
    Service::start("beta", command)
}

fn alpha(cable: &Cable) -> Service {
    let mut command = cable.command(End::Left, env!("CARGO_BIN_EXE_aether-service-alpha"));
    let (orders, seed) = (ORDERS.to_string(), SEED.to_string());
    command.args(["--orders", &orders, "--rate", "1000", "--seed", &seed]);
    Service::start("alpha", command)
}

/// The result of the same orders in one process: the summaries of orders and of stock.
async fn in_one_process() -> (String, String) {
    let aether = Aether::local();
    let beta = Beta::start(&aether, BetaOptions::default().units(UNITS)).await.unwrap();
    let shutdown = CancellationToken::new();
    let beta = tokio::spawn(beta.run(shutdown.clone()));
    let options = AlphaOptions::default().orders(Some(ORDERS)).rate(Rate::per_second(1000.0).unwrap());
    let alpha = Alpha::start(&aether, options.seed(SEED)).await.unwrap();
    let orders = alpha.run(CancellationToken::new()).await.unwrap();
    shutdown.cancel();
    (orders.to_string(), beta.await.unwrap().unwrap().to_string())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_machines_with_nothing_but_a_secret_run_the_order_system_whichever_starts_first() {
    let expected = in_one_process().await;
    for beta_is_first in [true, false] {
        let Some(cable) = Cable::lay().unwrap_or_else(|error| panic!("{error}")) else {
            return;
        };
        let (mut alpha, mut beta) = if beta_is_first {
            let mut beta = beta(&cable);
            beta.says("on lan:");
            (alpha(&cable), beta)
        } else {
            let mut alpha = alpha(&cable);
            alpha.says("on lan:");
            (alpha, beta(&cable))
        };
        let orders = alpha.says("orders: ");
        assert!(alpha.child.wait().unwrap().success(), "{}", alpha.log.join("\n"));
        kill(Pid::from_raw(beta.child.id().try_into().unwrap()), Signal::SIGTERM).unwrap();
        let stock = beta.says("stock: ");
        assert!(beta.child.wait().unwrap().success(), "{}", beta.log.join("\n"));
        println!("{orders}; {stock}");
        assert_eq!((orders, stock), expected, "beta first: {beta_is_first}");
    }
}
