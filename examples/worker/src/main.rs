//! The worker as a program. Its jobs are in a folder, or in JetStream:
//!
//! ```text
//! AETHER__DURABLE__STORED='jobs.>' AETHER__DURABLE__FOLDER=jobs cargo run -p aether-worker
//! AETHER__DURABLE__STORED='jobs.>' AETHER__DURABLE__LOG=jetstream:jobs AETHER_MEDIUM=nats://127.0.0.1:4222 cargo run -p aether-worker
//! ```

use std::error::Error;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use aether_outbox::Relay;
use aether_service::{CancellationToken, ConfigArgs, close_with_account, run};
use aether_worker::{every_night, http, open, worker};
use clap::Parser;
use tokio::net::TcpListener;

/// Make invoices of orders
#[derive(Parser)]
struct Args {
    #[command(flatten)]
    config: ConfigArgs,
    /// Where orders are placed
    #[arg(long, default_value = "127.0.0.1:8000")]
    http: SocketAddr,
    /// The database
    #[arg(long, default_value = "orders.sqlite")]
    store: PathBuf,
}

fn main() -> ExitCode {
    let args = Args::parse();
    run(|shutdown| serve(args, shutdown))
}

async fn serve(args: Args, shutdown: CancellationToken) -> Result<(), Box<dyn Error>> {
    let config = args.config.load_common()?;
    let Some(aether) = config.connect_until(&shutdown, "worker").await? else { return Ok(()) };
    let orders = open(&args.store)?;
    let relay = Relay::spawn(&orders, &aether)?;
    every_night(&aether).await?;
    let service = worker(orders.clone()).configured(&config).build(&aether).await?;
    let listener = TcpListener::bind(args.http).await?;
    println!("orders: http://{}/orders", listener.local_addr()?);
    let front =
        axum::serve(listener, http(orders)).with_graceful_shutdown(shutdown.clone().cancelled_owned());
    let (ended, report) = tokio::join!(front, service.run_until(shutdown));
    println!("{}\n{}", report?, relay.close(Duration::from_secs(5)).await);
    ended?;
    Ok(close_with_account(&aether).await?)
}
