//! The frame: how waves are written for a network.
//!
//! Versioned and binary, one to many waves of one channel, described for other languages in `protocol/README.md`.
//! Media call [`encode_at`] and [`decode`]; nothing here knows of brokers or sockets. A frame is taken whole or refused
//! whole: [`decode`] never panics, allocates no more than the input justifies, and skips extension fields that it
//! does not know.

mod decode;
mod encode;

pub use crate::clock::micros_since_1970;
pub use decode::{Frame, SHARED_FROM, decode, is_frame};
pub use encode::{
    EncodeError, MAX_POSITION, Sender, encode, encode_at, frame_bound, record_bound, record_growth,
};

use crate::channel::ChannelError;
use crate::phase::PhaseError;
use crate::source::SourceError;
use crate::wave::MetadataError;

/// The first three bytes of a frame. 0xAE begins no UTF-8 text, so no JSON or plain text is taken for a frame.
pub const MAGIC: [u8; 3] = [0xAE, b'T', b'H'];
/// The version this code writes, and the only one it reads.
pub const VERSION: u8 = 1;

/// Magic, version, node (u64), sent (u64).
const FIXED_HEADER: usize = 3 + 1 + 8 + 8;
/// Source index (u16), kind, loss (u16), half-life class, hops, content type.
const FIXED_RECORD: usize = 2 + 1 + 2 + 1 + 1 + 1;

/// What [`ContentType::new`](crate::ContentType::new) keeps at most.
const MAX_CONTENT_TYPE_BYTES: usize = 255;

/// Tags of the extension fields of a frame.
mod frame_tag {
    pub(super) const POSITION: u64 = 1;
}

/// Tags of the extension fields of a wave, in the order in which they are written.
mod tag {
    pub(super) const PHASE: u64 = 1;
    pub(super) const KEY: u64 = 2;
    pub(super) const CAUSE: u64 = 3;
    pub(super) const METADATA: u64 = 4;
    pub(super) const CONTENT_TYPE: u64 = 5;
}

/// Codes of the content types.
mod content {
    pub(super) const BYTES: u8 = 0;
    pub(super) const JSON: u8 = 1;
    pub(super) const TEXT: u8 = 2;
    pub(super) const OTHER: u8 = 255;
}

/// Where a frame stands in the *stream* of its sender on its channel: all waves that the sender sent there, numbered
/// from 0 in the order of sending, what it shed before left out. A receiver that misses a number knows that the wave was
/// lost on the way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Position {
    /// Which of its streams: each that the sender begins has a higher number than those before it. A sender that has to
    /// forget a channel begins a new stream there.
    pub stream: u64,
    /// The number of the first wave of this frame; in a frame without waves, the number that the next one will have.
    pub first: u64,
    /// How long ago, at the moment of sending, the sender began the stream, in microseconds.
    pub age_micros: u64,
}

/// Why bytes are not a frame. Offsets count from the start of the frame.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FrameError {
    /// Does not begin with the magic bytes.
    #[error("not a frame: it begins with {found:02x?} and not with ae 54 48")]
    Magic {
        /// The first bytes, up to three.
        found: Vec<u8>,
    },
    /// A version this code does not read.
    #[error("frame version {found} is not known: this build reads version {VERSION}")]
    Version {
        /// The version of the frame.
        found: u8,
    },
    /// Ends in the middle, or claims to hold more than it does.
    #[error("{field} is cut off at byte {at}")]
    Truncated {
        /// What was being read.
        field: &'static str,
        /// Where the frame, the record or the field that holds it ends.
        at: usize,
    },
    /// Bytes after the last wave, or after what an extension field holds.
    #[error("{bytes} bytes are left over after {field}")]
    LeftOver {
        /// What had been read.
        field: &'static str,
        /// How many.
        bytes: usize,
    },
    /// A number of more than 64 bits, or longer than it need be.
    #[error("the number at byte {at} ({field}) is not a varint of at most 64 bits in its shortest form")]
    Varint {
        /// What was being read.
        field: &'static str,
        /// Where.
        at: usize,
    },
    /// No waves and no position, or no sources for its waves.
    #[error("the frame holds no {what}: at least one is needed")]
    Empty {
        /// Waves or sources.
        what: &'static str,
    },
    /// A value outside of what is defined.
    #[error("{field} {value} at byte {at} is not defined: use {allowed}")]
    Value {
        /// Which field.
        field: &'static str,
        /// Its value.
        value: u64,
        /// Where.
        at: usize,
        /// What is defined.
        allowed: &'static str,
    },
    /// Text that is not UTF-8.
    #[error("{field} at byte {at} is not UTF-8")]
    Utf8 {
        /// Which field.
        field: &'static str,
        /// Where.
        at: usize,
    },
    /// Neither the frame nor its address names a channel, or they differ.
    #[error("the frame's channel {frame:?} and its address {address:?} do not name one channel")]
    Address {
        /// The channel in the frame; empty if it names none.
        frame: String,
        /// The channel of the address; empty if it names none.
        address: String,
    },
    /// The channel is not valid.
    #[error("invalid channel")]
    Channel(#[from] ChannelError),
    /// A source is not valid.
    #[error("invalid source")]
    Source(#[from] SourceError),
    /// A phase is not finite.
    #[error("invalid phase")]
    Phase,
    /// A text that is longer than is allowed.
    #[error("{field} at byte {at} has {bytes} bytes: at most {max_bytes} are allowed")]
    TooLong {
        /// Which field.
        field: &'static str,
        /// Its size.
        bytes: usize,
        /// The largest size.
        max_bytes: usize,
        /// Where.
        at: usize,
    },
    /// An extension field that does not stand in the order of the tags, or stands there twice.
    #[error("extension tag {tag} at byte {at} follows tag {before}: tags rise, and each occurs once")]
    TagOrder {
        /// The tag.
        tag: u64,
        /// The tag before it.
        before: u64,
        /// Where.
        at: usize,
    },
    /// The metadata are not valid.
    #[error("invalid metadata")]
    Metadata(#[from] MetadataError),
    /// The content type is not valid.
    #[error("invalid content type at byte {at}")]
    ContentType {
        /// Where.
        at: usize,
    },
}

impl From<PhaseError> for FrameError {
    fn from(_: PhaseError) -> Self {
        Self::Phase
    }
}

#[cfg(test)]
mod tests;
