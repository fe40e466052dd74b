//! The frame: the encoding of waves on a network.
//!
//! Versioned and binary, with one or more waves of one channel; specified for other languages in `docs/protocol/README.md`.
//! Media call [`encode_at`] and [`decode`]; nothing here depends on brokers or sockets. A frame is accepted or rejected
//! as a whole: [`decode`] never panics, allocates no more than the input justifies, and skips unknown extension fields.

mod decode;
mod encode;
mod reader;

pub use decode::{Frame, SHARED_FROM, decode, is_frame, is_sealed};
pub use encode::encode_bounded;
pub use encode::{
    EncodeError, MAX_POSITION, Sender, encode, encode_at, frame_bound, record_bound, record_growth,
};

use aether_core::wave::{
    BaggageError, ChannelError, MetadataError, PhaseError, SourceError, TraceContextError,
};

/// The first three bytes of a frame. No UTF-8 text begins with 0xAE, so JSON and plain text are never mistaken for a
/// frame.
pub const MAGIC: [u8; 3] = [0xAE, b'T', b'H'];
/// The version written by this code, and the only one it reads.
pub const VERSION: u8 = 1;
/// The version byte of a sealed frame, which the feature `seal` writes and reads.
pub const SEALED_VERSION: u8 = 0x81;
/// The version byte of a sealed frame that is also signed.
pub const SIGNED_VERSION: u8 = 0x82;

/// Magic, version, node (u64), sent (u64).
const FIXED_HEADER: usize = 3 + 1 + 8 + 8;
/// Source index (u16), kind, loss (u16), half-life class, hops, content type.
const FIXED_RECORD: usize = 2 + 1 + 2 + 1 + 1 + 1;

/// The maximum kept by [`ContentType::new`](aether_core::wave::ContentType::new).
const MAX_CONTENT_TYPE_BYTES: usize = 255;

/// Tags of the extension fields of a frame.
mod frame_tag {
    pub(super) const POSITION: u64 = 1;
}

/// Tags of the extension fields of a wave, in the order of writing.
mod tag {
    pub(super) const PHASE: u64 = 1;
    pub(super) const KEY: u64 = 2;
    pub(super) const CAUSE: u64 = 3;
    pub(super) const METADATA: u64 = 4;
    pub(super) const CONTENT_TYPE: u64 = 5;
    pub(super) const ROOT: u64 = 6;
    pub(super) const BAGGAGE: u64 = 7;
    pub(super) const TRACE: u64 = 8;
}

/// Codes of the content types.
mod content {
    pub(super) const BYTES: u8 = 0;
    pub(super) const JSON: u8 = 1;
    pub(super) const TEXT: u8 = 2;
    pub(super) const OTHER: u8 = 255;
}

/// A frame's position in the *stream* of its sender on its channel: all waves sent there, numbered from 0 in the order
/// of sending, without those shed before. A missing number tells the receiver that a wave was lost on the way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Position {
    /// The number of the stream. Each new stream of a sender has a higher number than its earlier ones. A sender that
    /// has to forget a channel begins a new stream there.
    pub stream: u64,
    /// The number of the first wave of this frame; in a frame without waves, the number of the next wave.
    pub first: u64,
    /// The age of the stream at the time of sending, in microseconds.
    pub age_micros: u64,
}

/// Why bytes are not a valid frame. Offsets count from the start of the frame.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FrameError {
    /// The magic bytes are missing.
    #[error("not a frame: it begins with {found:02x?} and not with ae 54 48")]
    Magic {
        /// The first bytes, up to three.
        found: Vec<u8>,
    },
    /// An unsupported version.
    #[error("frame version {found} is not supported: this build reads version {VERSION}")]
    Version {
        /// The version of the frame.
        found: u8,
    },
    /// A sealed frame, which was not opened.
    #[error("the frame is sealed: this process has no keys, or an inner frame is sealed again")]
    Sealed,
    /// A source has a name that the signer of the frame may not use.
    #[error("the signer of the frame may not use the name {name:?}")]
    Misnamed {
        /// The name of the source.
        name: String,
    },
    /// The frame ends early, or a length exceeds what is left.
    #[error("{field} is cut off at byte {at}")]
    Truncated {
        /// The field being read.
        field: &'static str,
        /// Where the enclosing frame, record or field ends.
        at: usize,
    },
    /// Extra bytes after the last wave, or after the content of an extension field.
    #[error("{bytes} bytes are left over after {field}")]
    LeftOver {
        /// The last item read.
        field: &'static str,
        /// The number of extra bytes.
        bytes: usize,
    },
    /// A varint of more than 64 bits, or not in its shortest form.
    #[error("the number at byte {at} ({field}) is not a varint of at most 64 bits in its shortest form")]
    Varint {
        /// The field being read.
        field: &'static str,
        /// The byte offset.
        at: usize,
    },
    /// Neither waves nor a position, or no sources for its waves.
    #[error("the frame holds no {what}: at least one is needed")]
    Empty {
        /// Waves or sources.
        what: &'static str,
    },
    /// An undefined value.
    #[error("{field} {value} at byte {at} is not defined: use {allowed}")]
    Value {
        /// The field.
        field: &'static str,
        /// Its value.
        value: u64,
        /// The byte offset.
        at: usize,
        /// The defined values.
        allowed: &'static str,
    },
    /// Text that is not UTF-8.
    #[error("{field} at byte {at} is not UTF-8")]
    Utf8 {
        /// The field.
        field: &'static str,
        /// The byte offset.
        at: usize,
    },
    /// Neither the frame nor its address names a channel, or the two differ.
    #[error("the frame's channel {frame:?} and its address {address:?} do not name one channel")]
    Address {
        /// The channel in the frame; empty if there is none.
        frame: String,
        /// The channel of the address; empty if there is none.
        address: String,
    },
    /// The channel is invalid.
    #[error("invalid channel")]
    Channel(#[from] ChannelError),
    /// A source is invalid.
    #[error("invalid source")]
    Source(#[from] SourceError),
    /// A phase is not finite.
    #[error("invalid phase")]
    Phase,
    /// A text above its maximum length.
    #[error("{field} at byte {at} has {bytes} bytes: at most {max_bytes} are allowed")]
    TooLong {
        /// The field.
        field: &'static str,
        /// Its length in bytes.
        bytes: usize,
        /// The maximum length in bytes.
        max_bytes: usize,
        /// The byte offset.
        at: usize,
    },
    /// An extension field that is out of order or repeated.
    #[error("extension tag {tag} at byte {at} follows tag {before}: tags must be strictly increasing")]
    TagOrder {
        /// The tag.
        tag: u64,
        /// The previous tag.
        before: u64,
        /// The byte offset.
        at: usize,
    },
    /// The metadata are invalid.
    #[error("invalid metadata")]
    Metadata(#[from] MetadataError),
    /// The baggage is invalid.
    #[error("invalid baggage")]
    Baggage(#[from] BaggageError),
    /// The trace context is invalid.
    #[error("invalid trace context")]
    Trace(#[from] TraceContextError),
    /// The names of the baggage do not rise.
    #[error("the baggage at byte {at} is not sorted by name, or a name is repeated")]
    BaggageOrder {
        /// The byte offset of the name.
        at: usize,
    },
    /// The content type is invalid.
    #[error("invalid content type at byte {at}")]
    ContentType {
        /// The byte offset.
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
