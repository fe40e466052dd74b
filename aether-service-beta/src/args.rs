//! The service as a program: its arguments and its main function.
//!
//! This crate's binary and the subcommand `aether beta` use it.

use std::io::Write as _;
use std::time::Duration;

use aether_core::Aether;
use aether_service::config::{Loader, Time};
use aether_service::{CancellationToken, ConfigArgs, Configuration};

use crate::settings::StockSettings;
use crate::{Beta, BetaError, messages};

/// The name of the program, in the log and in the connection list of the NATS server.
const PROGRAM: &str = "aether-service-beta";

/// Run the inventory service: reserve, release and sell units by order
#[derive(Debug, Clone, clap::Parser)]
#[command(name = PROGRAM, version)]
#[non_exhaustive]
pub struct BetaArgs {
    /// The configuration, with the medium to connect to.
    #[command(flatten)]
    pub config: ConfigArgs,
    /// The stock.
    #[command(flatten)]
    pub stock: StockArgs,
}

/// The arguments for the stock, to be flattened into other arguments.
#[derive(Debug, Clone, clap::Args)]
#[command(next_help_heading = "Stock")]
#[non_exhaustive]
pub struct StockArgs {
    /// Units of each article at the start and after each restocking [default: 25]
    #[arg(long, value_name = "N", value_parser = units, allow_negative_numbers = true)]
    pub units: Option<u32>,

    /// Restock at this interval in seconds; 0 for never [default: 3]
    #[arg(long, value_name = "SECONDS", value_parser = seconds, allow_negative_numbers = true)]
    pub restock_every: Option<Duration>,

    /// Emit the stock level at this interval in seconds; 0 for never [default: 1]
    #[arg(long, value_name = "SECONDS", value_parser = seconds, allow_negative_numbers = true)]
    pub heartbeat: Option<Duration>,

    /// Keep the stock in this file, so that it survives a crash [default: in memory]
    #[arg(long, value_name = "FILE")]
    pub store: Option<String>,
}

/// An argument out of range.
#[derive(Debug, thiserror::Error)]
enum NumberError {
    #[error("use a whole number from 0 to {}", u32::MAX)]
    Units,
    #[error("use a number of seconds from {LEAST_SECONDS} to {MOST_SECONDS}, or 0 for never")]
    Seconds,
}

/// A shorter interval would be a load instead of a heartbeat.
const LEAST_SECONDS: f64 = 0.001;
/// A year.
const MOST_SECONDS: f64 = 31_536_000.0;

fn units(text: &str) -> Result<u32, NumberError> {
    text.parse().map_err(|_| NumberError::Units)
}

fn seconds(text: &str) -> Result<Duration, NumberError> {
    let seconds = text.parse::<f64>().map_err(|_| NumberError::Seconds)?;
    let allowed = seconds == 0.0 || (LEAST_SECONDS..=MOST_SECONDS).contains(&seconds);
    if allowed { Ok(Duration::from_secs_f64(seconds)) } else { Err(NumberError::Seconds) }
}

impl StockArgs {
    /// Adds the section of the service to a configuration, with the arguments that were given.
    pub fn layer(&self, loader: Loader) -> Loader {
        loader
            .section::<StockSettings>()
            .given("service.beta.units", "--units", self.units)
            .given("service.beta.restock_every", "--restock-every", self.restock_every.map(Time))
            .given("service.beta.heartbeat", "--heartbeat", self.heartbeat.map(Time))
            .given("service.beta.store", "--store", self.store.as_ref())
    }
}

/// Connects, serves until `shutdown` is cancelled, and prints the summary of the stock.
///
/// # Errors
/// [`BetaError`] if the configuration is not valid, the medium cannot be reached, the service cannot start, or not
/// every emitted wave reached the server.
///
/// # Cancel safety
/// Cancelled before completion, the service has ended. A stock without a store is lost.
pub async fn main(args: BetaArgs, shutdown: CancellationToken) -> Result<(), BetaError> {
    let config = args.stock.layer(args.config.loader()).load()?;
    let Some(aether) = config.connect_until(&shutdown, PROGRAM).await? else {
        return Ok(());
    };
    if config.settings().medium.args().is_local() {
        tracing::warn!(
            "the local medium lives inside this process, so no other process can ask; use --medium nats://host:port"
        );
    }
    let done = serve(&config, &aether, shutdown).await;
    let closed = aether_service::close_with_account(&aether).await;
    done?;
    Ok(closed?)
}

async fn serve(
    config: &Configuration,
    aether: &Aether,
    shutdown: CancellationToken,
) -> Result<(), BetaError> {
    let beta = Beta::start(aether, config.section::<StockSettings>().open(config)?).await?;
    let heard = [messages::RESERVE, messages::RELEASE, messages::COMMIT, messages::RESTOCK].join(", ");
    let _metrics = beta.metrics(aether).serve_configured(config).await?;
    config.settings().medium.args().announce(
        PROGRAM,
        env!("CARGO_PKG_VERSION"),
        format_args!("answers {heard}"),
    );
    let summary = beta.run(shutdown).await?;
    writeln!(std::io::stdout(), "{summary}").map_err(BetaError::Output)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_out_of_range_are_refused_with_the_allowed_range() {
        assert_eq!(seconds("0").unwrap(), Duration::ZERO);
        assert_eq!(seconds("0.001").unwrap(), Duration::from_millis(1));
        assert_eq!(units("4294967295").unwrap(), u32::MAX);
        for wrong in ["", "-1", "NaN", "inf", "1e-9", "1e300", "soon"] {
            assert!(seconds(wrong).unwrap_err().to_string().contains("0.001 to 31536000, or 0"), "{wrong}");
            assert!(units(wrong).unwrap_err().to_string().contains("0 to 4294967295"), "{wrong}");
        }
    }
}
