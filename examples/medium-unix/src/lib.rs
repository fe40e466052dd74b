//! An example of a medium in its own crate: it carries waves between the processes of one machine over a Unix socket.
//!
//! A [`Hub`] forwards what each client sends to all clients, like an Ethernet. Every client therefore receives
//! everything, and no client can tell which others are listening. For this reason the medium does not support groups
//! and does not detect channels without listeners. A slow client detects missed waves by gaps in the sequence numbers
//! and counts them. A client does not reconnect after the hub is gone.
//!
//! ```no_run
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! use aether_core::Aether;
//!
//! let _hub = aether_medium_unix::Hub::bind("/run/aether.sock")?; // in one process
//! let builder = aether_core::AetherBuilder::new().scheme("unix", aether_medium_unix::connect);
//! let aether = builder.url("unix:/run/aether.sock").connect().await?;
//! # Ok(()) }
//! ```

mod hub;
mod message;
mod receiving;
mod sending;
mod shared;
mod unix;

pub use hub::Hub;
pub use unix::connect;
