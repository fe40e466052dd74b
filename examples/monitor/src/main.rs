//! Runs the services of the monitor, in one process or, over NATS, each in a process of its own:
//! `aether-monitor --medium nats://127.0.0.1:4222 alerter`.

use std::error::Error;
use std::net::{SocketAddr, TcpStream};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use aether_chassis::{CancellationToken, MediumArgs, close_with_account, run};
use aether_core::Aether;
use aether_metrics::Metrics;
use aether_monitor::{alerter, notifier, probe, watch};
use clap::{Parser, ValueEnum};

/// Watch a machine: probes, alerters and a notifier
#[derive(Parser)]
struct Args {
    #[command(flatten)]
    medium: MediumArgs,
    /// What to run in this process
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
    let runs = |role| args.role == role || args.role == Role::All;
    let (mut services, mut metrics) = (tokio::task::JoinSet::new(), Metrics::of(&aether));
    for name in ["oslo", "rome"].into_iter().filter(|_| runs(Role::Probe)) {
        let (emitter, target) = (aether.emitter(name)?, args.target);
        let is_up = move || TcpStream::connect_timeout(&target, Duration::from_millis(500)).is_ok();
        tokio::spawn(async move { probe(emitter, &target.to_string(), is_up).await });
    }
    let pager = Arc::new(|text: &str| Ok(println!("PAGE: {text}")));
    let builders = [alerter(), alerter(), notifier(pager)].into_iter();
    for (at, builder) in
        builders.enumerate().filter(|(at, _)| runs(if *at < 2 { Role::Alerter } else { Role::Notifier }))
    {
        let service = builder.build(&aether).await?;
        metrics = metrics.service(&service);
        if at < 2 {
            watch_beside(&aether, &service)?;
        }
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

fn watch_beside(
    aether: &Aether,
    service: &aether_chassis::Service,
) -> Result<(), Box<dyn Error + Send + Sync>> {
    let (aether, emitter) = (aether.clone(), service.emitter());
    tokio::spawn(async move { watch(&aether, emitter).await });
    Ok(())
}
