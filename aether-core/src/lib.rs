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
//! - `conformance`: what every [`Medium`] must pass, and a real NATS server for tests.

mod aether;
mod amplitude;
mod channel;
mod clock;
#[cfg(feature = "conformance")]
pub mod conformance;
mod echo;
mod floors;
mod hopping;
mod inbox;
mod medium;
mod phase;
pub mod physics;
mod router;
mod source;
mod vibrator;
mod wave;
pub mod wire;

// In the order in which a wave goes through them.
pub use aether::{Aether, AetherBuilder, ConnectError, Connection, Wire, WireError, without_secrets};
pub use amplitude::{Amplitude, AmplitudeError, Expiry, Floor, HalfLife, HalfLifeError, LEVELS, Signal};
pub use channel::{Channel, ChannelError, MAX_NAME_BYTES, MAX_TOKENS, Pattern};
pub use echo::{
    DeadLetter, DeadLetterCounts, DeadLetters, Echo, EchoLedger, EchoReason, Echoes, EchoesError, ReplayError,
};
pub use floors::{Announcement, Heard, Roster};
pub use hopping::{
    ClockError, ClockKeeper, Hop, HopAccount, HopBuilder, HopError, HopJoinError, HopView, MIN_KEY_BYTES,
};
pub use inbox::{Inbox, InboxOptions, InboxOptionsError, Ledger, OnShed, Order, ShedReason, WhenFull};
pub use medium::{AskError, EmitError, FlushError, JoinError, Medium, MediumStatus, Promises, Reach};
pub use phase::{Phase, PhaseError};
pub use router::{Carried, InboxReport, Offered, Receipt, Router, Subscription, Waiting};
pub use source::{MAX_SOURCE_BYTES, Source, SourceError, WaveId};
pub use vibrator::{
    CreateError, Emitter, EmitterAccount, Fringes, HopEmitError, HoppingEmitter, InterfereError,
    ObserveError, PhysicsObserver, Vibrator, VibratorBuilder,
};
pub use wave::{
    ATTEMPTS, ContentType, ContentTypeError, FAILURE, Failure, FailureReason, FailureReasonError, Kind,
    KindError, MAX_HINT_BYTES, MAX_HOPS, MAX_KEY_BYTES, MAX_METADATA_BYTES, MAX_METADATA_ENTRIES, Metadata,
    MetadataError, PayloadError, ReplyError, ReplyPath, Wave, WaveBuilder, WaveError,
};
