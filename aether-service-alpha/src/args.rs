//! The service as a program: its arguments and its main function.
//!
//! This crate's binary and the subcommand `aether alpha` use it.

use std::io::Write as _;

use aether_core::Aether;
use aether_service::config::Loader;
use aether_service::{CancellationToken, ConfigArgs, Configuration};

use crate::payment::CHARGE;
use crate::settings::OrderSettings;
use crate::{Alpha, AlphaError, Chance, Rate};

/// The name of the program, in the log and in the connection list of the NATS server.
const PROGRAM: &str = "aether-service-alpha";

/// Run the order service: reservation, payment and sale of made-up orders
#[derive(Debug, Clone, clap::Parser)]
#[command(name = PROGRAM, version)]
#[non_exhaustive]
pub struct AlphaArgs {
    /// The configuration, with the medium to connect to.
    #[command(flatten)]
    pub config: ConfigArgs,
    /// The orders to create.
    #[command(flatten)]
    pub orders: OrderArgs,
}

/// The arguments for the orders, to be flattened into other arguments.
#[derive(Debug, Clone, clap::Args)]
#[command(next_help_heading = "Orders")]
#[non_exhaustive]
pub struct OrderArgs {
    /// Stop after this many orders; without it, run until Ctrl-C
    #[arg(long, value_name = "N", value_parser = whole, allow_negative_numbers = true)]
    pub orders: Option<u64>,

    /// Orders a second [default: 20]
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    pub rate: Option<Rate>,

    /// The probability that a payment is declined, from 0 to 1 [default: 0.1]
    #[arg(long, value_name = "CHANCE", allow_negative_numbers = true)]
    pub decline_rate: Option<Chance>,

    /// The random seed: the same seed creates the same orders and declines the same cards [default: 0]
    #[arg(long, value_name = "N", value_parser = whole, allow_negative_numbers = true)]
    pub seed: Option<u64>,
}

/// Not a whole number.
#[derive(Debug, thiserror::Error)]
#[error("use a whole number from 0 to {}", i64::MAX)]
struct WholeError;

fn whole(text: &str) -> Result<u64, WholeError> {
    // The range of TOML.
    text.parse().ok().filter(|number| i64::try_from(*number).is_ok()).ok_or(WholeError)
}

impl OrderArgs {
    /// Adds the section of the service to a configuration, with the arguments that were given.
    pub fn layer(&self, loader: Loader) -> Loader {
        loader
            .section::<OrderSettings>()
            .given("service.alpha.orders", "--orders", self.orders)
            .given("service.alpha.rate", "--rate", self.rate)
            .given("service.alpha.decline_rate", "--decline-rate", self.decline_rate)
            .given("service.alpha.seed", "--seed", self.seed)
    }
}

/// Connects, runs orders until `shutdown` is cancelled or all are settled, and prints the summary.
///
/// # Errors
/// [`AlphaError`] if the configuration is not valid, the medium cannot be reached, the service cannot start, or not
/// every emitted wave reached the server.
///
/// # Cancel safety
/// Cancelled before completion, the service has ended; orders in flight are not undone.
pub async fn main(args: AlphaArgs, shutdown: CancellationToken) -> Result<(), AlphaError> {
    let config = args.orders.layer(args.config.loader()).load()?;
    let Some(aether) = config.connect_until(&shutdown, PROGRAM).await? else {
        return Ok(());
    };
    if config.settings().medium.args().is_local() {
        tracing::warn!(
            "the local medium lives inside this process, so no inventory service can be reached; use --medium nats://host:port"
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
) -> Result<(), AlphaError> {
    let alpha = Alpha::start(aether, config.section::<OrderSettings>().options(config)).await?;
    let _metrics = alpha.metrics(aether).serve_configured(config).await?;
    config.settings().medium.args().announce(
        PROGRAM,
        env!("CARGO_PKG_VERSION"),
        format_args!("creates orders, answers {CHARGE}"),
    );
    let summary = alpha.run(shutdown).await?;
    writeln!(std::io::stdout(), "{summary}").map_err(AlphaError::Output)
}
