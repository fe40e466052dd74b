//! Aether: a message bus on which the important messages get through.
//!
//! Services are [`Vibrator`]s. They emit [`Wave`]s (messages) on [`Channel`]s (subjects) and do not know each other.
//! Each wave has an amplitude (importance): under overload strong waves keep their latency, weak ones are shed first,
//! and every loss is counted with its reason. The medium is in process by default, or NATS when a system outgrows one
//! process; the code is the same.
//!
//! ```
//! use aether::{Aether, Vibrator};
//!
//! #[tokio::main(flavor = "current_thread")]
//! async fn main() -> Result<(), Box<dyn std::error::Error>> {
//!     let aether = Aether::local(); // or aether::connect("nats://127.0.0.1:4222").await?
//!     let mut stock = Vibrator::create("stock", &aether).await?;
//!     stock.resonate_on("orders.*").await?;
//!
//!     let shop = Vibrator::create("shop", &aether).await?;
//!     shop.emit_wave("orders.created", &serde_json::json!({ "sku": "lamp" })).await?;
//!
//!     let wave = stock.receive().await.expect("the medium is open");
//!     println!("{} {}", wave.channel(), wave.text()?);
//!     assert!(stock.ledger().adds_up());
//!     Ok(())
//! }
//! ```
//!
//! # Crates
//! This crate has the names of `aether-core`, the bus in process, and all else as modules, each of which is a crate of
//! its own:
//!
//! - [`bridge`]: relays waves between two media. [`paths`]: several media as one, with failover.
//! - `nats` (feature, default): the NATS medium. `lan`: the medium between machines of one network, without a server.
//! - `seal`: encryption and signatures. `rules`: who may emit and hear what; with `schema`, JSON schemas of payloads.
//! - `field`: shared state; `mirror`: folders that are the same on every machine. `log`: durable channels.
//! - `physics`: detectors that find patterns in the traffic. `hopping`: channels whose subject changes from slot to slot.

mod connecting;

pub use aether_bridge as bridge;
pub use aether_core::*;
#[cfg(feature = "field")]
pub use aether_field as field;
#[cfg(feature = "hopping")]
pub use aether_hopping as hopping;
#[cfg(feature = "lan")]
pub use aether_lan as lan;
#[cfg(feature = "log")]
pub use aether_log as log;
#[cfg(feature = "mirror")]
pub use aether_mirror as mirror;
#[cfg(feature = "nats")]
pub use aether_nats as nats;
pub use aether_paths as paths;
#[cfg(feature = "physics")]
pub use aether_physics as physics;
#[cfg(feature = "rules")]
pub use aether_rules as rules;
#[cfg(feature = "seal")]
pub use aether_seal as seal;
pub use connecting::{builder, check_address, connect};
