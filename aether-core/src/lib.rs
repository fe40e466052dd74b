//! Aether: a message bus on which the important messages get through.
//!
//! Services are [`Vibrator`]s. They emit [`Wave`]s (messages) on [`Channel`]s (subjects) and do not know each other.
//! Each wave has an amplitude (importance): under overload strong waves keep their latency, weak ones are shed first,
//! and every loss is counted with its reason. The medium is in process by default, or one over a network when a system
//! outgrows one process; the code is the same.
//!
//! ```
//! use aether_core::{Aether, Vibrator};
//!
//! #[tokio::main(flavor = "current_thread")]
//! async fn main() -> Result<(), Box<dyn std::error::Error>> {
//!     let aether = Aether::local();
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
//! This crate is the bus in process, and the seam to everything else: a service depends on the crate `aether`, which
//! connects over networks as well. The names that a service needs are here. The modules have the rest:
//!
//! - [`wave`]: limits, errors and the rarer parts of a wave.
//! - [`vibrator`]: the errors and accounts of emitting and receiving.
//! - [`inbox`]: the accounts of inboxes, and what implementors of media need of them.
//! - [`account`]: what every process on the medium lost, and why.
//! - [`echo`]: failed waves that come back, and dead letters.
//! - [`presence`]: who is there and what it hears.
//! - [`medium`]: the status of a medium, and what it takes to implement one.
//! - [`bus`]: subscriptions for libraries that extend the bus.
//! - [`clock`]: the clock that tests can pause.

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
#[cfg(fuzzing)]
#[doc(hidden)]
pub mod fuzzing;
pub mod inbox;
pub mod medium;
mod phase;
pub mod presence;
mod proof;
mod router;
mod source;
mod sync;
pub mod vibrator;
pub mod wave;

// The names that the author of a service writes, at most 45. All others are in the modules, and no name is at both.
pub use aether::{Aether, AetherBuilder};
pub use amplitude::{Amplitude, Floor, HalfLife};
pub use channel::{Channel, Pattern};
pub use echo::dead_letters::DeadLetters;
pub use echo::echoes::Echoes;
pub use echo::report::{Echo, EchoReason};
pub use inbox::ledger::{Ledger, ShedReason};
pub use inbox::options::{InboxControl, InboxOptions, ServeOrder, WhenFull};
pub use medium::connect::ConnectError;
pub use medium::errors::{AskError, ConfirmError, EmitError, FlushError, JoinError};
pub use medium::local::LocalOptions;
pub use phase::Phase;
pub use router::{Durability, Receipt};
pub use source::{Source, WaveId};
pub use vibrator::builder::{CreateError, VibratorBuilder};
pub use vibrator::emitter::Emitter;
pub use vibrator::handle::Vibrator;
pub use vibrator::receiver::Receiver;
pub use vibrator::tuner::Tuner;
pub use wave::body::Wave;
pub use wave::builder::WaveBuilder;
pub use wave::content::PayloadError;
pub use wave::error::WaveError;
pub use wave::kind::Kind;
pub use wave::metadata::Metadata;
pub use wave::reply::{Failure, FailureReason};
