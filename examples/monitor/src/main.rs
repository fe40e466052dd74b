//! Runs the services of the monitor, in one process or, over NATS, each in a process of its own:
//! `aether-monitor --medium nats://127.0.0.1:4222 alerter`.

use std::error::Error;
use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use aether_metrics::Metrics;
use aether_monitor::{alerter, notifier, probe, watch};
use aether_service::{CancellationToken, MediumArgs, close_with_account, run};
use clap::{Parser, ValueEnum};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::timeout;

/// How long a machine that is up may take to accept a connection.
const PATIENCE: Duration = Duration::from_millis(500);

/// Watch a machine: probes, alerters and a notifier
#[derive(Parser)]
struct Args {
    #[command(flatten)]
    medium: MediumArgs,
    /// The roles to run in this process
    #[arg(value_enum, default_value_t = Role::All)]
    role: Role,
    /// The machine: an address that accepts connections while it is up
    #[arg(long, default_value = "127.0.0.1:22")]
    target: SocketAddr,
}

#[derive(Clone, Copy, PartialEq, ValueEnum)]
enum Role {
    All,
    Probe,
    Alerter,
    Notifier,
}

#[derive(Debug, thiserror::Error)]
#[error(transparent)]
struct Failed(Box<dyn Error + Send + Sync>);

fn main() -> ExitCode {
    let args = Args::parse();
    run(|shutdown| async { monitor(args, shutdown).await.map_err(Failed) })
}

async fn monitor(args: Args, shutdown: CancellationToken) -> Result<(), Box<dyn Error + Send + Sync>> {
    let Some(aether) = args.medium.connect_until(&shutdown, "monitor").await? else { return Ok(()) };
    let of = |role, most| if args.role == Role::All { most } else { usize::from(args.role == role) };
    let target = args.target;
    for name in ["oslo", "rome"].into_iter().take(of(Role::Probe, 2)) {
        let connects = move || async move {
            timeout(PATIENCE, TcpStream::connect(target)).await.is_ok_and(|connected| connected.is_ok())
        };
        tokio::spawn(probe(aether.emitter(name)?, target.to_string(), connects));
    }
    let (mut services, mut metrics) = (JoinSet::new(), Metrics::of(&aether));
    let mut builders: Vec<_> = std::iter::repeat_with(alerter).take(of(Role::Alerter, 2)).collect();
    for _ in &builders {
        tokio::spawn(watch(aether.clone(), aether.emitter("watch")?));
    }
    if of(Role::Notifier, 1) == 1 {
        builders.push(notifier(Arc::new(|text: &str| {
            println!("PAGE: {text}");
            Ok(())
        })));
    }
    for builder in builders {
        let service = builder.build(&aether).await?;
        metrics = metrics.service(&service);
        services.spawn(service.run_until(shutdown.clone()));
    }
    let endpoint = metrics.serve(([127, 0, 0, 1], 0).into()).await?;
    println!("metrics: http://{}/metrics", endpoint.address());
    shutdown.cancelled().await;
    while let Some(ended) = services.join_next().await {
        println!("{}", ended??);
    }
    Ok(close_with_account(&aether).await?)
}
