//! Aether: a message bus on which the important messages get through.
//!
//! Services are [`Vibrator`]s. They emit [`Wave`]s (messages) on [`Channel`]s (subjects) and do not know each other.
//! Each wave has an amplitude (importance): under overload strong waves keep their latency, weak ones are shed first,
//! and every loss is counted with its reason. The medium is in process by default, or NATS when a system outgrows one
//! process; the code is the same.
//!
//! ```
//! use aether_core::{Aether, Vibrator};
//!
//! #[tokio::main(flavor = "current_thread")]
//! async fn main() -> Result<(), Box<dyn std::error::Error>> {
//!     let aether = Aether::local(); // or Aether::connect("nats://127.0.0.1:4222").await?
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
//! # Modules
//! The names that a service needs are here. The modules have the rest:
//!
//! - [`wave`]: limits, errors and the rarer parts of a wave.
//! - [`vibrator`]: the errors and accounts of emitting and receiving.
//! - [`bus`]: what libraries need that speak on the bus below vibrators.
//! - [`clock`]: the clocks of this crate, which tests can pause.
//! - [`inbox`]: the accounts of inboxes, and what implementors of media need of them.
//! - [`account`]: what every process on the medium lost, and why.
//! - [`echo`]: failed waves that come back, and dead letters.
//! - [`presence`]: who is there and what it hears.
//! - [`bridge`]: relaying between two media.
//! - [`medium`]: the status of a medium, and what it takes to implement one.
//! - `private_file`: files with secrets, which other users of the machine cannot use.
//! - [`wire`]: frames, for programs that read or write them without a bus.
//!
//! # Features
//! - `nats` (default): the NATS medium.
//! - `physics` (default): detectors that find patterns in the traffic, and an observer that runs them, in `physics`.
//! - `schema`: JSON schemas of payloads, in [`rules`].
//! - `seal`: sealed frames, which the broker can neither read nor alter, in `seal`.
//! - `lan`: the medium between machines of one network, without a server (`lan:`).
//! - `link`: what every medium over a network needs, for implementors; part of `nats`.
//! - `conformance`: the suite that every [`Medium`](medium::Medium) must pass.
//! - `nats-server`: the same, and a real NATS server for tests.

#![warn(clippy::disallowed_methods)]

pub mod account;
mod aether;
mod amplitude;
mod background;
pub mod bus;
mod channel;
pub mod clock;
pub mod echo;
mod emission;
mod extensions;
#[cfg(fuzzing)]
#[doc(hidden)]
pub mod fuzzing;
pub mod inbox;
pub mod medium;
mod named;
mod phase;
pub mod presence;
mod proof;
mod router;
mod shares;
mod source;
pub mod vibrator;
pub mod wave;

// What the author of a service writes down, at most 45 names. All else is in the modules.
pub use aether::{Aether, AetherBuilder};
pub use amplitude::{Amplitude, Floor, HalfLife};
pub use channel::{Channel, Pattern};
pub use echo::{DeadLetters, Echo, EchoReason, Echoes};
pub use inbox::{InboxControl, InboxOptions, Ledger, ServeOrder, ShedReason, WhenFull};
pub use medium::{AskError, ConfirmError, ConnectError, EmitError, FlushError, JoinError, LocalOptions};
pub use phase::Phase;
pub use router::{Durability, Receipt};
pub use source::{Source, WaveId};
pub use vibrator::{CreateError, Emitter, Receiver, Tuner, Vibrator, VibratorBuilder};
pub use wave::{Failure, FailureReason, Kind, Metadata, PayloadError, Wave, WaveBuilder, WaveError};
