//! The order service: takes orders through reservation, payment and sale, and undoes orders that cannot be completed.
//!
//! One of the two sample services, small enough to copy. It depends on no other service: it asks any service that
//! answers on `inventory.*`, runs its own payment service (`payments.charge`), and emits an event for each step of an
//! order.
//!
//! ```no_run
//! use aether_service::CancellationToken;
//! use aether_core::Aether;
//! use aether_service_alpha::{Alpha, AlphaOptions};
//!
//! # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let aether = aether::connect("nats://127.0.0.1:4222").await?;
//! let alpha = Alpha::start(&aether, AlphaOptions::default().orders(Some(100))).await?;
//! let counters = alpha.counters(); // can be read at any time
//! let summary = alpha.run(CancellationToken::new()).await?;
//! assert_eq!(summary, counters.summary());
//! println!("{summary}");
//! # Ok(()) }
//! ```

mod alpha;
mod args;
mod counters;
mod customers;
mod inventory;
mod options;
mod order;
mod payment;
mod saga;
mod settings;

pub use alpha::{Alpha, AlphaError};
pub use args::{AlphaArgs, OrderArgs, main};
pub use counters::{OrderCounters, OrderSummary};
pub use options::{AlphaOptions, Chance, ChanceError, Rate, RateError};
pub use order::{IllegalStep, Order, OrderId, OrderIdError, State, Step};
pub use payment::{ChargeLedger, Decline, PaymentService};
pub use settings::OrderSettings;
