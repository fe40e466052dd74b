//! The service as a program: its arguments and its main function.
//!
//! This crate's binary and the subcommand `aether alpha` use it.

use std::io::Write as _;

use aether_chassis::{CancellationToken, MediumArgs};
use aether_core::Aether;

use crate::payment::CHARGE;
use crate::{Alpha, AlphaError, AlphaOptions, Chance, Rate};

/// The name of the program, in the log and in the connection list of the NATS server.
const PROGRAM: &str = "aether-service-alpha";

/// Run the order service: reservation, payment and sale of made-up orders
#[derive(Debug, Clone, clap::Parser)]
#[command(name = PROGRAM, version)]
#[non_exhaustive]
pub struct AlphaArgs {
    /// The medium to connect to.
    #[command(flatten)]
    pub medium: MediumArgs,
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

    /// Orders a second
    #[arg(long, value_name = "N", default_value = "20", allow_negative_numbers = true)]
    pub rate: Rate,

    /// The probability that a payment is declined, from 0 to 1
    #[arg(long, value_name = "CHANCE", default_value = "0.1", allow_negative_numbers = true)]
    pub decline_rate: Chance,

    /// The random seed: the same seed creates the same orders and declines the same cards
    #[arg(long, value_name = "N", default_value = "0", value_parser = whole, allow_negative_numbers = true)]
    pub seed: u64,
}

/// Not a whole number.
#[derive(Debug, thiserror::Error)]
#[error("use a whole number from 0 to {}", u64::MAX)]
struct WholeError;

fn whole(text: &str) -> Result<u64, WholeError> {
    text.parse().map_err(|_| WholeError)
}

impl OrderArgs {
    /// The options of the service.
    pub fn options(&self) -> AlphaOptions {
        AlphaOptions::default()
            .orders(self.orders)
            .rate(self.rate)
            .decline_rate(self.decline_rate)
            .seed(self.seed)
    }
}

/// Connects, runs orders until `shutdown` is cancelled or all are settled, and prints the summary.
///
/// # Errors
/// [`AlphaError`] if the medium cannot be reached, the service cannot start, or not every emitted wave reached the
/// server.
///
/// # Cancel safety
/// Cancelled before completion, the service has ended; orders in flight are not undone.
pub async fn main(args: AlphaArgs, shutdown: CancellationToken) -> Result<(), AlphaError> {
    let Some(aether) = args.medium.connect_until(&shutdown, PROGRAM).await? else {
        return Ok(());
    };
    if args.medium.is_local() {
        tracing::warn!(
            "the local medium lives inside this process, so no inventory service can be reached; use --medium nats://host:port"
        );
    }
    let done = serve(&args, &aether, shutdown).await;
    let closed = aether_chassis::close_with_account(&aether).await;
    done?;
    Ok(closed?)
}

async fn serve(args: &AlphaArgs, aether: &Aether, shutdown: CancellationToken) -> Result<(), AlphaError> {
    let alpha = Alpha::start(aether, args.orders.options()).await?;
    args.medium.announce(
        PROGRAM,
        env!("CARGO_PKG_VERSION"),
        format_args!("creates orders, answers {CHARGE}"),
    );
    let summary = alpha.run(shutdown).await?;
    writeln!(std::io::stdout(), "{summary}").map_err(AlphaError::Output)
}
