//! The inventory service: keeps a stock, and reserves, releases and sells units by order.
//!
//! One of the two sample services, small enough to copy. It depends on no other service: it answers questions on
//! `inventory.reserve`, `inventory.release` and `inventory.commit` (and `inventory.restock`), and emits an event for
//! each change of the stock.
//!
//! ```
//! use aether_service::CancellationToken;
//! use aether_core::Aether;
//! use aether_service_beta::{Beta, BetaOptions};
//!
//! # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let aether = Aether::local();
//! let shutdown = CancellationToken::new();
//! let beta = Beta::start(&aether, BetaOptions::default()).await?; // subscribed from here on
//! let running = beta.run(shutdown.clone());
//! // ... orders come and go ...
//! shutdown.cancel();
//! println!("{}", running.await?);
//! # Ok(()) }
//! ```

mod args;
mod beta;
mod id;
pub mod messages;
mod options;
mod settings;
mod stock;
mod summary;

pub use args::{BetaArgs, StockArgs, main};
pub use beta::{Beta, BetaError};
pub use id::{IdError, OrderId, Sku};
pub use options::BetaOptions;
pub use settings::StockSettings;
pub use stock::{AlreadySold, NotReserved, Refusal, Reservation, Stock};
pub use summary::StockSummary;
