//! The order service: takes orders through reservation, payment and sale, and undoes what cannot be finished.
//!
//! One of the two sample services, small enough to copy. It knows no other service: it asks whoever answers on
//! `inventory.*`, brings its own payment desk (`payments.charge`), and tells whoever listens what became of each order.
//!
//! ```no_run
//! use aether_chassis::CancellationToken;
//! use aether_core::Aether;
//! use aether_service_alpha::{Alpha, AlphaOptions};
//!
//! # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let aether = Aether::connect("nats://127.0.0.1:4222").await?;
//! let alpha = Alpha::start(&aether, AlphaOptions::default().orders(Some(100))).await?;
//! let counters = alpha.counters(); // can be read at any time, from anywhere
//! let summary = alpha.run(CancellationToken::new()).await?;
//! assert_eq!(summary, counters.summary());
//! println!("{summary}");
//! # Ok(()) }
//! ```

mod alpha;
mod args;
mod customers;
mod inventory;
mod options;
mod order;
mod payment;
mod saga;
mod counters;

pub use alpha::{Alpha, AlphaError};
pub use args::{AlphaArgs, OrderArgs, main};
pub use options::{AlphaOptions, Chance, ChanceError, Rate, RateError};
pub use order::{IllegalStep, Order, OrderId, OrderIdError, State, Step};
pub use payment::{Book, Decline, PaymentDesk};
pub use counters::{OrderSummary, OrderCounters};
