//! The bytes of a sealed frame, without state: which key, which nonce, what is encrypted, authenticated and signed.
//!
//! ```text
//! ae 54 48 81 | key id (8, big-endian) | nonce (24) | encrypted ... | tag (16)
//! encrypted:    sender (8) | counter (8) | sealed at (8) | length of the reply address (2) | reply address | frame
//! associated:   the first 12 bytes | address
//!
//! signed:       ae 54 48 82 | ..., and at the end of what is encrypted: signer (8, big-endian) | signature (64)
//! ```

use bytes::Bytes;
use sha2::{Digest as _, Sha256};
use smallvec::SmallVec;

use super::cipher::{NONCE_BYTES, TAG_BYTES};
use super::error::SealError;
use super::key::{KeyId, SealKey};
use super::role::Role;
use super::signing_key::{SIGNATURE_BYTES, SigningKey};
use aether_core::wave::SignerId;
use aether_link::wire::{MAGIC, SEALED_VERSION, SIGNED_VERSION, is_sealed};

/// Magic, version and key id.
const HEADER: usize = MAGIC.len() + 1 + 8;
const ENCRYPTED_AT: usize = HEADER + NONCE_BYTES;
/// Sender, counter, sealed at, and the length of the reply address.
const INNER: usize = 8 + 8 + 8 + 2;
/// The id of the signer, and the signature.
const SIGNED: usize = 8 + SIGNATURE_BYTES;

/// What is signed begins with it, so that no signature for another purpose is one of a frame.
const STATEMENT: &[u8; 18] = b"aether-signature-1";
const STATEMENT_BYTES: usize = STATEMENT.len() + 32;

/// Associated data of this size, the header and an address of 116 bytes, need no allocation.
const USUAL_ASSOCIATED: usize = 128;

/// The claims of a sealed frame about itself, besides the frame.
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
    /// Not verified.
    pub(super) signature: Option<FrameSignature>,
    /// The inner part, without the signature.
    inner: Bytes,
    reply: usize,
}

/// The claimed signer of a frame, and the signature.
#[derive(Debug, Clone, Copy)]
pub(super) struct FrameSignature {
    pub(super) signer: SignerId,
    pub(super) bytes: [u8; SIGNATURE_BYTES],
}

impl Unsealed {
    /// Where the sender waits for an answer, or empty.
    pub(super) fn reply(&self) -> Bytes {
        self.inner.slice(INNER..INNER + self.reply)
    }

    pub(super) fn frame(&self) -> Bytes {
        self.inner.slice(INNER + self.reply..)
    }

    /// The statement that the signature of this message must be for.
    pub(super) fn statement(&self, role: Role, address: &str, message: &[u8]) -> [u8; STATEMENT_BYTES] {
        statement(role, address, &message[..HEADER.min(message.len())], &self.inner)
    }
}

/// How many bytes sealing adds to a frame with a reply address of this length. A signature adds
/// [`SIGNATURE_OVERHEAD`].
#[must_use]
pub const fn overhead(reply_bytes: usize) -> usize {
    ENCRYPTED_AT + INNER + reply_bytes + TAG_BYTES
}

/// How many bytes a signature adds to a sealed frame.
pub const SIGNATURE_OVERHEAD: usize = SIGNED;

/// The id of the key with which a message claims to be sealed. Nothing proves it.
#[must_use]
pub fn sealed_key(message: &[u8]) -> Option<KeyId> {
    let id = message.get(MAGIC.len() + 1..)?.first_chunk()?;
    is_sealed(message).then(|| KeyId(u64::from_be_bytes(*id)))
}

/// Seals a frame for an address, with a nonce that the caller has drawn for it alone, and signs it if there is a key for
/// that.
pub(super) fn seal(
    (key, signing_key): (&SealKey, Option<&SigningKey>),
    role: Role,
    address: &str,
    envelope: Envelope<'_>,
    frame: &[u8],
    draw: impl FnOnce(&mut [u8; NONCE_BYTES]) -> Result<(), SealError>,
) -> Result<Bytes, SealError> {
    let Envelope { sender, counter, sealed_micros, reply } = envelope;
    let reply_length = u16::try_from(reply.len()).map_err(|_| SealError::Reply { bytes: reply.len() })?;
    let signed_bytes = if signing_key.is_some() { SIGNED } else { 0 };
    let mut out = Vec::with_capacity(overhead(reply.len()) + frame.len() + signed_bytes);
    out.extend_from_slice(&MAGIC);
    out.push(if signing_key.is_some() { SIGNED_VERSION } else { SEALED_VERSION });
    out.extend_from_slice(&key.id().0.to_be_bytes());
    out.extend_from_slice(&[0; NONCE_BYTES]);
    for number in [sender, counter, sealed_micros] {
        out.extend_from_slice(&number.to_le_bytes());
    }
    out.extend_from_slice(&reply_length.to_le_bytes());
    out.extend_from_slice(reply.as_bytes());
    out.extend_from_slice(frame);
    if let Some(signing_key) = signing_key {
        let statement = statement(role, address, &out[..HEADER], &out[ENCRYPTED_AT..]);
        out.extend_from_slice(&signing_key.id().0.to_be_bytes());
        out.extend_from_slice(&signing_key.sign(&statement));
    }
    // Drawn last: a copy of this process made before has no nonce yet, and one made after it has the same plain text.
    let mut nonce = [0; NONCE_BYTES];
    draw(&mut nonce)?;
    out[HEADER..ENCRYPTED_AT].copy_from_slice(&nonce);
    let associated = associated(&out[..HEADER], address);
    let tag = key.cipher(role).encrypt(&nonce, &associated, &mut out[ENCRYPTED_AT..]);
    // Cannot fail below 256 GiB.
    let tag = tag.ok_or(SealError::NoRandomness)?;
    out.extend_from_slice(&tag);
    Ok(out.into())
}

/// Opens a message that is sealed with this key, if it is authentic. Whether it is a replay is not checked, nor a signature.
pub(super) fn open(key: &SealKey, role: Role, address: &str, message: &[u8]) -> Option<Unsealed> {
    let is_signed = is_sealed(message).then(|| message[MAGIC.len()] == SIGNED_VERSION)?;
    let signed_bytes = if is_signed { SIGNED } else { 0 };
    let encrypted = message.len().checked_sub(ENCRYPTED_AT + TAG_BYTES);
    let encrypted = encrypted.filter(|bytes| *bytes >= INNER + signed_bytes)?;
    let (header, rest) = message.split_at(HEADER);
    let (nonce, rest) = rest.split_first_chunk()?;
    let mut plain = rest.to_vec();
    key.cipher(role).decrypt(nonce, &associated(header, address), &mut plain)?;
    let signature = is_signed.then(|| read_signature(&plain)).flatten();
    plain.truncate(encrypted - signed_bytes);
    let number = |at: usize| plain[at..].first_chunk().map(|bytes| u64::from_le_bytes(*bytes));
    let (sender, counter, sealed_micros) = (number(0)?, number(8)?, number(16)?);
    let reply = usize::from(u16::from_le_bytes(*plain[24..].first_chunk()?));
    let is_text = plain[INNER..].get(..reply).is_some_and(|reply| std::str::from_utf8(reply).is_ok());
    let inner = Bytes::from(plain);
    is_text.then_some(Unsealed { sender, counter, sealed_micros, signature, inner, reply })
}

/// The signature at the end of an inner part.
fn read_signature(plain: &[u8]) -> Option<FrameSignature> {
    let (signer, bytes) = plain.last_chunk::<SIGNED>()?.split_first_chunk()?;
    Some(FrameSignature { signer: SignerId(u64::from_be_bytes(*signer)), bytes: bytes.try_into().ok()? })
}

fn associated(header: &[u8], address: &str) -> SmallVec<[u8; USUAL_ASSOCIATED]> {
    let mut associated = SmallVec::from_slice(header);
    associated.extend_from_slice(address.as_bytes());
    associated
}

/// What is signed: everything that is sealed, and what the seal binds. Hashed once, because a signature hashes its message
/// twice. The lengths in front of role and address keep each input apart from all others.
fn statement(role: Role, address: &str, header: &[u8], inner: &[u8]) -> [u8; STATEMENT_BYTES] {
    let mut digest = Sha256::new();
    for part in [role.label(), address.as_bytes()] {
        digest.update((part.len() as u64).to_le_bytes());
        digest.update(part);
    }
    digest.update(header);
    digest.update(inner);
    let mut statement = [0; STATEMENT_BYTES];
    statement[..STATEMENT.len()].copy_from_slice(STATEMENT);
    statement[STATEMENT.len()..].copy_from_slice(&digest.finalize());
    statement
}
