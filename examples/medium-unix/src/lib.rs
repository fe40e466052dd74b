//! An example of a medium in a crate of its own: waves between the processes of one machine, over a Unix socket.
//!
//! A [`Hub`] forwards what any client sends to all of them, like an Ethernet. So everybody hears everything, and nobody
//! knows who hears: this medium promises no groups and does not notice that nobody hears a channel. What a slow client
//! misses is found by its gaps in the numbers and counted. A client does not connect again when the hub is gone.
//!
//! ```no_run
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! use aether_core::Aether;
//!
//! let _hub = aether_medium_unix::Hub::bind("/run/aether.sock")?; // in one process
//! let builder = Aether::builder().scheme("unix", aether_medium_unix::connect);
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
