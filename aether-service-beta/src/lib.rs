//! The inventory service: keeps the stock, and reserves, releases and sells it by order.
//!
//! One of the two sample services, small enough to copy. It knows no other service: it hears questions on
//! `inventory.reserve`, `inventory.release` and `inventory.commit` (and `inventory.restock`), answers them, and tells
//! whoever listens what became of the stock.
//!
//! ```
//! use aether_chassis::CancellationToken;
//! use aether_core::Aether;
//! use aether_service_beta::{Beta, BetaOptions};
//!
//! # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let aether = Aether::local();
//! let shutdown = CancellationToken::new();
//! let beta = Beta::start(&aether, BetaOptions::default()).await?; // from here on it hears every question
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
mod stock;
mod summary;

pub use args::{BetaArgs, StockArgs, main};
pub use beta::{Beta, BetaError};
pub use id::{IdError, OrderId, Sku};
pub use options::BetaOptions;
pub use stock::{AlreadySold, NotReserved, Refusal, Reservation, Stock};
pub use summary::StockSummary;
