//! Replicas on a medium.

mod builder;
mod error;
mod field;
mod listening;
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

pub use builder::FieldBuilder;
pub use error::{FieldError, JoinFieldError};
pub use field::Field;
pub use peers::Peer;
pub use presence::{Presence, PresenceError, PresenceUpdate, PresenceWatch};
pub use shared::FieldStatus;
#[cfg(feature = "store")]
pub use store::StoreError;
pub use submission::{Page, PageEntry, PageStart};
pub use superseded::{Superseded, SupersededValues};
pub use watch::{Names, Update, UpdateKind, Watch};
