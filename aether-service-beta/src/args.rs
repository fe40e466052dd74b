//! The service as a program: its arguments and what its main function does.
//!
//! Used by this crate's own binary and by the command line, which has the service as a subcommand.

use std::io::Write as _;
use std::time::Duration;

use aether_chassis::{CancellationToken, MediumArgs};

use crate::{Beta, BetaError, BetaOptions};

/// Keep the stock: reserve, release and sell units by order
#[derive(Debug, Clone, clap::Parser)]
#[command(name = "aether-service-beta", version)]
#[non_exhaustive]
pub struct BetaArgs {
    /// Which medium to connect to.
    #[command(flatten)]
    pub medium: MediumArgs,
    /// How the stock shall be.
    #[command(flatten)]
    pub stock: StockArgs,
}

/// How the stock shall be; to be flattened beside other arguments.
#[derive(Debug, Clone, clap::Args)]
#[command(next_help_heading = "Stock")]
#[non_exhaustive]
pub struct StockArgs {
    /// Units of each article in the beginning, and after each restocking
    #[arg(long, value_name = "N", default_value_t = BetaOptions::DEFAULT_UNITS)]
    pub units: u32,

    /// Fill the stock up every so many seconds; 0 for never
    #[arg(long, value_name = "SECONDS", default_value = "3", value_parser = seconds)]
    pub restock_every: Duration,

    /// Tell how much stock there is every so many seconds; 0 for never
    #[arg(long, value_name = "SECONDS", default_value = "1", value_parser = seconds)]
    pub heartbeat: Duration,
}

fn seconds(text: &str) -> Result<Duration, Box<dyn std::error::Error + Send + Sync>> {
    Ok(Duration::try_from_secs_f64(text.parse()?)?)
}

impl StockArgs {
    /// The options of the service.
    pub fn options(&self) -> BetaOptions {
        BetaOptions::default()
            .units(self.units)
            .restock_every(Some(self.restock_every))
            .heartbeat(Some(self.heartbeat))
    }
}

/// Connects, serves until `shutdown` is cancelled, and prints the account of the stock.
///
/// # Errors
/// [`BetaError`] if the medium cannot be reached or the service cannot start.
///
/// # Cancel safety
/// Cancelled before completion, the service has ended and the stock is gone with it.
pub async fn main(args: BetaArgs, shutdown: CancellationToken) -> Result<(), BetaError> {
    let Some(aether) = args.medium.connect_until(&shutdown, "aether-service-beta").await? else {
        return Ok(());
    };
    if args.medium.is_local() {
        tracing::warn!(
            "the local medium lives inside this process: nobody else can order here; use --medium nats://host:port"
        );
    }
    let beta = Beta::start(&aether, args.stock.options()).await?;
    let summary = beta.run(shutdown).await?;
    writeln!(std::io::stdout(), "{summary}").map_err(BetaError::Output)?;
    aether_chassis::close(&aether).await;
    Ok(())
}
