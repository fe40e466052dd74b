//! Files of Aether's crates: those with secrets, which other users of the machine cannot use, and databases, which are
//! complete or absent.
//!
//! Called by whatever reads keys, passwords and configuration, and by stores on redb. It knows no format.

pub mod byte_order_mark;
#[cfg(feature = "corpus")]
#[doc(hidden)]
pub mod corpus;
#[cfg(feature = "disk")]
#[doc(hidden)]
pub mod disk;
#[doc(hidden)]
pub mod lock_file;
pub mod private_file;
#[cfg(feature = "redb")]
pub mod redb_file;
