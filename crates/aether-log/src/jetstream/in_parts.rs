//! The content of the message of a wave that is larger than a message may be: where its parts are.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::store::{Entry, MAX_BODY};
use crate::stored_wave::{frame, read_frame};

/// The first four bytes, which neither a frame nor a dead letter begins with.
const MARK: [u8; 4] = [0xAE, b'T', b'P', 1];
/// More than a wave, its dead letter and their seals have. A message of a stranger makes no reader collect more.
const MAX_BYTES: u64 = MAX_BODY as u64 + (1 << 20);

/// Names the parts of a message, and what decides when a wave is delivered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct InParts {
    /// The number of the attempt at storing: parts of two attempts never mix.
    pub(super) number: u64,
    pub(super) parts: u32,
    pub(super) bytes: u64,
    pub(super) checksum: u32,
    /// The frame of the wave without its payload. Empty for a dead letter, of which nothing else is needed.
    pub(crate) head: Bytes,
}

impl InParts {
    /// Names no parts yet.
    pub(super) fn new(wave: &Entry) -> Self {
        let stored = read_frame(0, 0, Some(wave.name.as_bytes()), &wave.body).ok();
        let now = tokio::time::Instant::now().into_std();
        let head = stored.and_then(|stored| frame(&stored.wave.with_payload(Bytes::new()), None, now).ok());
        let head = head.unwrap_or_default();
        Self { number: fastrand::u64(..), parts: 0, bytes: 0, checksum: 0, head }
    }

    pub(super) fn write(&self) -> Bytes {
        // Writing to memory does not fail.
        postcard::to_extend(self, MARK.to_vec()).unwrap_or_default().into()
    }

    /// `None` for a message that is whole.
    pub(crate) fn read(body: &[u8]) -> Option<Self> {
        let read: Self = postcard::from_bytes(body.strip_prefix(&MARK)?).ok()?;
        (read.bytes <= MAX_BYTES).then_some(read)
    }
}
