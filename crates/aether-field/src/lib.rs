//! Shared state on the Aether message bus that converges whatever is lost.
//!
//! Waves carry events; a field holds the present state. Every process that joins a [`Field`] has a replica of it: reads
//! are local, writes are local and travel as waves, and changes lost on the way are found and exchanged. Registers hold
//! values (the last writer wins, and a losing writer is notified), counters and sets lose no concurrent addition, and
//! nothing removed comes back.
//!
#![cfg_attr(feature = "replica", doc = "```")]
#![cfg_attr(not(feature = "replica"), doc = "```ignore")]
//! use aether_core::Aether;
//! use aether_field::Field;
//!
//! #[tokio::main(flavor = "current_thread")]
//! async fn main() -> Result<(), Box<dyn std::error::Error>> {
//!     let aether = Aether::local();
//!     let hall = Field::builder("home").replica("hall").join(&aether).await?;
//!     let kitchen = Field::builder("home").replica("kitchen").join(&aether).await?;
//!
//!     let mut lamps = kitchen.watch("lamp/*");
//!     hall.set("lamp/1", &"on")?;
//!     let update = lamps.next().await.expect("the field is open");
//!     assert_eq!(update.name(), "lamp/1");
//!     assert_eq!(kitchen.get::<String>("lamp/1")?.as_deref(), Some("on"));
//!     Ok(())
//! }
//! ```
//!
//! # Features
//! - `replica` (default): replicas on a medium. Without it the crate is the pure [`core`].
//! - `store` (default): replicas that are kept in a file.

#![warn(clippy::disallowed_methods)]

pub mod core;
#[cfg(feature = "replica")]
pub mod ledger;
#[cfg(feature = "replica")]
mod replica;

#[cfg(feature = "replica")]
pub use replica::{
    AFTER, After, AfterError, ClockOffset, ClockTrouble, Field, FieldBuilder, FieldError, FieldStatus,
    IdentityError, Imported, JoinFieldError, Names, Own, Owner, Page, PageEntry, PageStart, Peer, PeerEvent,
    PeerEvents, Presence, PresenceError, PresenceUpdate, PresenceWatch, ReplicaClock, Superseded,
    SupersededValues, Update, UpdateKind, Watch, replica_clocks,
};
#[cfg(feature = "store")]
pub use replica::{DamagedRecord, Restamped, Salvage, StoreCheck, StoreError, check_store, restamp_store};

pub use crate::core::{Certificate, Identity, PublicKey, Trust};
