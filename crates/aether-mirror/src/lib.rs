//! Folders that are the same on every machine.
//!
//! A [`Mirror`] keeps a folder the same as the folders of all other mirrors of a [`Field`](aether_field::Field). Each file
//! has a register; a small file is in it, and a larger one is fetched in blocks from any mirror that has it, each checked by
//! its hash. A file appears when it is whole. Of two versions of which neither was made from the other the later one gets
//! the name, and the other one is kept beside as `name (conflict, machine, time)`.
//!
//! ```
//! use aether_core::Aether;
//! use aether_field::Field;
//! use aether_mirror::{Mirror, MirrorEvent, MirrorOptions};
//!
//! # #[tokio::main(flavor = "multi_thread", worker_threads = 2)]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let (hall_folder, kitchen_folder) = (tempfile::tempdir()?, tempfile::tempdir()?);
//! let aether = Aether::local();
//! let hall = Field::builder("home").replica("hall").join(&aether).await?;
//! let kitchen = Field::builder("home").replica("kitchen").join(&aether).await?;
//!
//! let here = Mirror::start(&aether, &hall, &hall_folder, MirrorOptions::default().machine("hall")).await?;
//! let there = Mirror::start(&aether, &kitchen, &kitchen_folder, MirrorOptions::default()).await?;
//! let mut events = there.events();
//!
//! std::fs::write(hall_folder.path().join("notes.txt"), "buy a lamp")?;
//! let written = events.next().await.expect("the mirror runs");
//! assert_eq!(written, MirrorEvent::Written { path: "notes.txt".into(), machine: "hall".into() });
//! assert_eq!(std::fs::read_to_string(kitchen_folder.path().join("notes.txt"))?, "buy a lamp");
//! assert_eq!(here.stop().await?.sent, 1);
//! # Ok(())
//! # }
//! ```
//!
//! It extends the bus by its public interface, and knows no medium.

mod account;
mod blocks;
mod conflict;
mod decide;
mod disk;
mod due;
mod engine;
mod error;
mod folder;
mod hash;
mod memory;
mod mirror;
mod options;
mod path;
mod place;
mod quiet;
mod status;
mod taking;
mod version;
mod waiting;
mod watches;

pub use account::MirrorEvents;
pub use error::MirrorError;
pub use mirror::Mirror;
pub use options::MirrorOptions;
pub use status::{MirrorEvent, MirrorStatus, RefusedReason};
