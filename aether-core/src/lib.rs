//! Aether: a message bus on which what matters gets through.
//!
//! Services are [`Vibrator`]s. They emit [`Wave`]s (messages) on [`Channel`]s (subjects) and never know each other.
//! Each wave has an amplitude (importance): under overload the strong waves keep their latency, the weak ones are shed
//! first, and every loss is counted with its reason. The medium is in process by default and NATS where a system
//! outgrows one process; the code is the same.
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
//! # Features
//! - `nats` (default): the NATS medium.
//! - `physics` (default): detectors that find patterns in the traffic, and an observer that runs them.
//! - `hopping`: channels whose subject changes from slot to slot, by a key.
//! - `link`: what every medium over a network needs, for implementors; part of `nats`.
//! - `conformance`: what every [`Medium`] must pass.
//! - `nats-server`: the same, and a real NATS server for tests.

mod aether;
mod amplitude;
mod bus;
mod channel;
mod clock;
#[cfg(feature = "conformance")]
pub mod conformance;
mod echo;
mod extensions;
#[cfg(feature = "hopping")]
mod hopping;
pub mod inbox;
pub mod medium;
mod phase;
#[cfg(feature = "physics")]
pub mod physics;
mod presence;
mod router;
mod source;
mod vibrator;
mod wave;
pub mod wire;

// In the order in which a wave goes through them.
pub use aether::{Aether, AetherBuilder, Connection};
pub use amplitude::{Amplitude, AmplitudeError, Expiry, Floor, HalfLife, HalfLifeError, LEVELS, Signal};
pub use channel::{Channel, ChannelError, MAX_NAME_BYTES, MAX_TOKENS, Pattern};
pub use echo::{
    DeadLetter, DeadLetterCounts, DeadLetters, Echo, EchoLedger, EchoReason, Echoes, EchoesError, ReplayError,
};
#[cfg(feature = "hopping")]
pub use hopping::{
    ClockError, ClockKeeper, Hop, HopAccount, HopBuilder, HopEmitError, HopError, HopJoinError, HopView,
    HoppingEmitter, MIN_KEY_BYTES,
};
pub use inbox::{Inbox, InboxOptions, InboxOptionsError, Ledger, OnShed, ServeOrder, ShedReason, WhenFull};
pub use medium::{
    AskError, ConnectError, EmitError, FlushError, JoinError, Medium, MediumStatus, Promises, Reach, Wire,
    WireError, without_secrets,
};
pub use phase::{Phase, PhaseError};
#[cfg(feature = "physics")]
pub use physics::{Fringes, InterfereError, ObserveError, PhysicsObserver};
pub use presence::{Announcement, Roster};
pub use router::{Carried, Heard, InboxReport, Offered, Receipt, Router, Subscription, Waiting};
pub use source::{MAX_SOURCE_BYTES, Source, SourceError, WaveId};
pub use vibrator::{CreateError, Emitter, EmitterAccount, Vibrator, VibratorBuilder};
pub use wave::{
    ATTEMPTS, ContentType, ContentTypeError, FAILURE, Failure, FailureReason, FailureReasonError, Kind,
    KindError, MAX_HINT_BYTES, MAX_HOPS, MAX_KEY_BYTES, MAX_METADATA_BYTES, MAX_METADATA_ENTRIES, Metadata,
    MetadataError, PayloadError, ReplyError, ReplyPath, Wave, WaveBuilder, WaveError,
};
