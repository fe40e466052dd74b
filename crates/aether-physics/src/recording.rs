//! Recordings: the traffic of a bus as a file, from which the detectors can be run again.
//!
//! [`RecordingWriter`] writes to any [`std::io::Write`] and [`RecordingReader`] reads from any [`std::io::Read`], entry by
//! entry, in bounded memory. [`RecordingPlayer`] feeds a [`PhysicsEngine`](super::PhysicsEngine) from a reader, in virtual
//! time. `aether record` makes recordings, and `aether physics --replay` plays them.
//!
//! **No payload is in a recording.** In its place is a hash of four bytes, with a random key that is thrown away with
//! the writer. So equal contents are equal within one recording, and a short payload cannot be guessed from its hash. A
//! wave that is read has the hash as its payload. Names are recorded as they are: channels, sources, coherence keys. Other
//! metadata than the reason of a failure and the number of attempts is left out.
//!
//! **The format** is gzip, so `gunzip` shows it and the checksum at its end proves that it is whole. Inside is a sequence
//! of entries, each with its length in front, so a reader can skip entries of a later version. Names are written once and
//! referred to by a number. Times are differences in nanoseconds. A wave takes 10 to 20 bytes of the file.
//!
//! ```
//! use aether_core::Wave;
//! use aether_physics::{RecordedEntry, RecordingReader, RecordingWriter};
//! use std::time::{Duration, Instant, SystemTime};
//!
//! let start = Instant::now();
//! let mut writer = RecordingWriter::new(Vec::new(), start, SystemTime::now())?;
//! writer.wave(&Wave::builder("orders.created").key("17").build()?, start + Duration::from_secs(1))?;
//! let file = writer.finish()?;
//!
//! let mut reader = RecordingReader::new(&file[..])?;
//! let (at, RecordedEntry::Wave(wave)) = reader.next().expect("an entry")? else { panic!("a wave") };
//! assert_eq!((at, wave.channel().as_str(), wave.key()), (Duration::from_secs(1), "orders.created", Some("17")));
//! assert!(reader.next().is_none());
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod entry;
mod fields;
mod player;
mod reader;
mod writer;

use std::io;

pub use entry::{Fault, RecordedEntry};
pub use player::{Played, RecordingPlayer};
pub use reader::RecordingReader;
pub use writer::RecordingWriter;

/// The first bytes inside the compression.
const MAGIC: &[u8; 8] = b"aetherec";
/// The version of the format.
const VERSION: u8 = 1;
/// The maximum length of one entry, in bytes: more than 256 patterns of the greatest length.
const MAX_ENTRY: usize = 128 << 10;
/// The maximum number of names that are referred to by number. Beyond it, writer and reader forget all and begin again.
const MAX_NAMES: usize = 1 << 15;
/// The maximum number of patterns of one vibrator.
const MAX_PATTERNS: usize = 256;

/// Why a recording cannot be read. The entries before the error are valid.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RecordingError {
    /// The file is not a recording.
    #[error("this is not a recording of `aether record`")]
    NotARecording,
    /// The recording is of a version that this program does not know.
    #[error("the recording has version {found}, and this program reads version {VERSION}: use a newer one")]
    Version {
        /// The version.
        found: u8,
    },
    /// The file ends in the middle: its writer was killed, or the file was cut off.
    #[error("the recording ends too early, after {offset} bytes of entries; the entries before are complete")]
    Torn {
        /// The number of uncompressed bytes before the end.
        offset: u64,
    },
    /// The file is damaged.
    #[error("the recording is damaged after {offset} bytes of entries: {what}")]
    Damaged {
        /// The number of uncompressed bytes before the damage.
        offset: u64,
        /// What is wrong.
        what: &'static str,
    },
    /// The file cannot be read.
    #[error("the recording cannot be read after {offset} bytes of entries")]
    Io {
        /// The number of uncompressed bytes before the failure.
        offset: u64,
        /// The error of the operating system.
        source: io::Error,
    },
}

/// The kinds of entries, by their first byte.
mod tag {
    pub(super) const CHANNEL: u8 = 1;
    pub(super) const SOURCE: u8 = 2;
    pub(super) const KEY: u8 = 3;
    pub(super) const FORGET: u8 = 4;
    pub(super) const WAVE: u8 = 5;
    pub(super) const LOST: u8 = 6;
    pub(super) const PAUSED: u8 = 7;
    pub(super) const LINK: u8 = 8;
    pub(super) const TUNED: u8 = 9;
    pub(super) const FAULT: u8 = 10;
}

/// The bits of a wave's flags; the lowest three are its kind.
mod flag {
    pub(super) const KIND: u8 = 0b111;
    pub(super) const KEY: u8 = 1 << 3;
    pub(super) const CAUSE: u8 = 1 << 4;
    pub(super) const PHASE: u8 = 1 << 5;
    pub(super) const RARE: u8 = 1 << 6;
}

#[cfg(test)]
mod tests;
