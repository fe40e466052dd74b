//! Replicas on a medium.

mod after;
mod builder;
mod error;
mod field;
mod importing;
mod listening;
mod peers;
mod publishing;
mod shared;
#[cfg(feature = "store")]
mod store;
mod superseded;
mod syncing;
mod watch;
mod wire;

pub use after::{AFTER, After, AfterError};
pub use builder::FieldBuilder;
pub use error::{FieldError, JoinFieldError};
pub use field::Field;
pub use importing::Imported;
pub use peers::Peer;
pub use shared::FieldStatus;
#[cfg(feature = "store")]
pub use store::{DamagedRecord, Salvage, StoreCheck, StoreError, check_store};
pub use superseded::{Superseded, SupersededValues};
pub use watch::{Update, UpdateKind, Watch};
