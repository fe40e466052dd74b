//! The parts that a service needs around the bus: handlers, command-line arguments, logging, shutdown, one-line errors.
//!
//! The sample services and the command line use it. The bus itself is in `aether_core`, which does not depend on
//! processes, so this crate is optional.
//!
//! ```
//! use aether_service::{CancellationToken, MediumArgs};
//! use clap::Parser;
//!
//! #[derive(Parser)]
//! struct Args {
//!     #[command(flatten)]
//!     medium: MediumArgs,
//! }
//!
//! async fn service(args: Args, shutdown: CancellationToken) -> Result<(), aether_core::ConnectError> {
//!     let Some(aether) = args.medium.connect_until(&shutdown, "my-service").await? else { return Ok(()) };
//!     // create vibrators on `aether`, serve until `shutdown` is cancelled
//! #   let _ = aether;
//!     shutdown.cancelled().await;
//!     Ok(())
//! }
//!
//! // The whole of a main function:
//! let code = aether_service::run(|shutdown| {
//! #   shutdown.cancel();
//!     service(Args::parse_from(["my-service"]), shutdown)
//! });
//! # assert_eq!(code, std::process::ExitCode::SUCCESS);
//! ```

#![warn(clippy::disallowed_methods)]

mod account;
mod age;
mod asker;
pub mod cgroup;
pub mod config;
mod connecting;
pub mod description;
mod error_chain;
mod handler;
pub mod health;
pub mod jobs;
pub mod letters;
pub mod logging;
mod login;
mod medium_args;
mod memory_watch;
mod process;
mod resend;
mod service;
pub mod service_manager;
pub mod shutdown;
pub mod telemetry;
mod timings;

pub use account::{LostWaves, Received, Refused, Sent, close_with_account};
pub use asker::{Asker, AskerError, AskerOptions};
pub use config::{ConfigArgs, Configuration};
pub use error_chain::error_chain;
pub use handler::{
    Answer, BatchHandler, Delivery, EchoHandler, FromWave, Handler, IntoAnswer, IntoOutcome, Json, Payload,
    Rejection, State, Typed,
};
pub use medium_args::MediumArgs;
pub use process::{close, run, run_with};
pub use resend::{PausesError, Resend, RetryBudget};
pub use schemars;
pub use service::{
    Breaker, Durable, Handlers, Handling, Limits, LimitsError, Service, ServiceBuilder, ServiceCounters,
    ServiceError, ServiceReport,
};
pub use timings::{BANDS, BUCKETS, Histogram, Timings};
pub use tokio_util::sync::CancellationToken;
