//! Replicas on a medium.

mod after;
mod builder;
mod clock;
mod clock_trouble;
mod clocks;
mod error;
mod field;
mod identity;
mod importing;
mod listening;
mod overtaken;
mod owner;
mod peer;
mod peers;
mod presence;
mod publishing;
mod shared;
#[cfg(feature = "store")]
mod store;
mod submission;
mod superseded;
mod syncing;
mod watch;
mod wire;

pub use after::{AFTER, After, AfterError};
pub use builder::FieldBuilder;
pub use clock::{ClockOffset, ClockTrouble};
pub use clocks::{ReplicaClock, replica_clocks};
pub use error::{FieldError, JoinFieldError};
pub use field::Field;
pub use identity::IdentityError;
pub use importing::Imported;
pub use owner::{Own, Owner};
pub use peer::{Peer, PeerEvent, PeerEvents};
pub use presence::{Presence, PresenceError, PresenceUpdate, PresenceWatch};
pub use shared::FieldStatus;
#[cfg(feature = "store")]
pub use store::{DamagedRecord, Restamped, Salvage, StoreCheck, StoreError, check_store, restamp_store};
pub use submission::{Page, PageEntry, PageStart};
pub use superseded::{Superseded, SupersededValues};
pub use watch::{Names, Update, UpdateKind, Watch};
