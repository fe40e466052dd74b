//! The bytes of a sealed frame, without state: which key, which nonce, what is encrypted and what is authenticated.
//!
//! ```text
//! ae 54 48 81 | key id (8, big-endian) | nonce (24) | encrypted ... | tag (16)
//! encrypted:    sender (8) | counter (8) | sealed at (8) | length of the reply address (2) | reply address | frame
//! associated:   the first 12 bytes | address
//! ```

use bytes::Bytes;
use chacha20poly1305::aead::inout::InOutBuf;
use chacha20poly1305::{AeadInOut as _, Tag, XNonce};
use smallvec::SmallVec;

use super::error::SealError;
use super::key::{KeyId, SealKey};
use super::role::Role;
use crate::wire::{MAGIC, SEALED_VERSION};

const NONCE_BYTES: usize = 24;
const TAG_BYTES: usize = 16;
/// Magic, version and key id.
const HEADER: usize = MAGIC.len() + 1 + 8;
const ENCRYPTED_AT: usize = HEADER + NONCE_BYTES;
/// Sender, counter, sealed at, and the length of the reply address.
const INNER: usize = 8 + 8 + 8 + 2;

/// Associated data of this size, the header and an address of 116 bytes, need no allocation.
const USUAL_ASSOCIATED: usize = 128;

/// What a sealed frame says about itself, besides the frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Envelope<'a> {
    /// Drawn for each connection.
    pub(super) sender: u64,
    /// Of the frames of this sender.
    pub(super) counter: u64,
    /// The clock of the sender in microseconds since 1970.
    pub(super) sealed_micros: u64,
    /// Where the sender waits for an answer, or empty.
    pub(super) reply: &'a str,
}

/// An authentic message.
#[derive(Debug)]
pub(super) struct Unsealed {
    pub(super) sender: u64,
    pub(super) counter: u64,
    pub(super) sealed_micros: u64,
    /// The reply address, and behind it the frame.
    rest: Bytes,
    reply: usize,
}

impl Unsealed {
    /// Where the sender waits for an answer, or empty.
    pub(super) fn reply(&self) -> Bytes {
        self.rest.slice(..self.reply)
    }

    pub(super) fn frame(&self) -> Bytes {
        self.rest.slice(self.reply..)
    }
}

/// How many bytes sealing adds to a frame with a reply address of this length.
#[must_use]
pub const fn overhead(reply_bytes: usize) -> usize {
    ENCRYPTED_AT + INNER + reply_bytes + TAG_BYTES
}

/// Whether a message says that it is a sealed frame.
#[must_use]
pub fn is_sealed(message: &[u8]) -> bool {
    message.starts_with(&MAGIC) && message.get(MAGIC.len()) == Some(&SEALED_VERSION)
}

/// The id of the key with which a message says that it is sealed. Nothing proves it.
#[must_use]
pub fn sealed_key(message: &[u8]) -> Option<KeyId> {
    let id = message.get(MAGIC.len() + 1..)?.first_chunk()?;
    is_sealed(message).then(|| KeyId(u64::from_be_bytes(*id)))
}

/// Seals a frame for an address, with a nonce that the caller has drawn for it alone.
pub(super) fn seal(
    key: &SealKey,
    role: Role,
    address: &str,
    envelope: Envelope<'_>,
    frame: &[u8],
    draw: impl FnOnce(&mut [u8; NONCE_BYTES]) -> Result<(), SealError>,
) -> Result<Bytes, SealError> {
    let Envelope { sender, counter, sealed_micros, reply } = envelope;
    let reply_length = u16::try_from(reply.len()).map_err(|_| SealError::Reply { bytes: reply.len() })?;
    let mut out = Vec::with_capacity(overhead(reply.len()) + frame.len());
    out.extend_from_slice(&MAGIC);
    out.push(SEALED_VERSION);
    out.extend_from_slice(&key.id().0.to_be_bytes());
    out.extend_from_slice(&[0; NONCE_BYTES]);
    for number in [sender, counter, sealed_micros] {
        out.extend_from_slice(&number.to_le_bytes());
    }
    out.extend_from_slice(&reply_length.to_le_bytes());
    out.extend_from_slice(reply.as_bytes());
    out.extend_from_slice(frame);
    // Drawn last: a copy of this process made before has no nonce yet, and one made after it has the same plain text.
    let mut nonce = [0; NONCE_BYTES];
    draw(&mut nonce)?;
    out[HEADER..ENCRYPTED_AT].copy_from_slice(&nonce);
    let associated = associated(&out[..HEADER], address);
    let encrypted = InOutBuf::from(&mut out[ENCRYPTED_AT..]);
    let tag = key.cipher(role).encrypt_inout_detached(&XNonce::from(nonce), &associated, encrypted);
    // Cannot fail below 256 GiB.
    let tag = tag.map_err(|_| SealError::NoRandomness)?;
    out.extend_from_slice(&tag);
    Ok(out.into())
}

/// Opens a message that is sealed with this key, if it is authentic. Whether it is a replay is not checked.
pub(super) fn open(key: &SealKey, role: Role, address: &str, message: &[u8]) -> Option<Unsealed> {
    let encrypted = message.len().checked_sub(ENCRYPTED_AT + TAG_BYTES).filter(|bytes| *bytes >= INNER)?;
    let (header, rest) = message.split_at(HEADER);
    let nonce = XNonce::from(*rest.first_chunk::<NONCE_BYTES>()?);
    let tag = Tag::from(*rest.last_chunk::<TAG_BYTES>()?);
    let mut plain = rest[NONCE_BYTES..NONCE_BYTES + encrypted].to_vec();
    let associated = associated(header, address);
    let buffer = InOutBuf::from(&mut plain[..]);
    key.cipher(role).decrypt_inout_detached(&nonce, &associated, buffer, &tag).ok()?;
    let number = |at: usize| plain[at..].first_chunk().map(|bytes| u64::from_le_bytes(*bytes));
    let (sender, counter, sealed_micros) = (number(0)?, number(8)?, number(16)?);
    let reply = usize::from(u16::from_le_bytes(*plain[24..].first_chunk()?));
    let is_text = plain[INNER..].get(..reply).is_some_and(|reply| std::str::from_utf8(reply).is_ok());
    let rest = Bytes::from(plain).slice(INNER..);
    is_text.then_some(Unsealed { sender, counter, sealed_micros, rest, reply })
}

fn associated(header: &[u8], address: &str) -> SmallVec<[u8; USUAL_ASSOCIATED]> {
    let mut associated = SmallVec::from_slice(header);
    associated.extend_from_slice(address.as_bytes());
    associated
}
