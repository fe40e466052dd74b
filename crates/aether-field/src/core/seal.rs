//! Seals: what is signed, and how a signature travels with a value. `docs/protocol/field-owned.md` has the bytes.

use bytes::Bytes;

use super::entry::Digest;
use super::identity::Identity;
use super::public_key::PublicKey;
use super::stamp::{Stamp, WriterId};

/// The subject of a signature. The first part of every statement names it, so a signature of one kind is not valid for
/// another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Subject {
    Value,
    Removal,
    Floor,
    Link,
    Beat,
}

impl Subject {
    const fn domain(self) -> &'static [u8] {
        match self {
            Self::Value => b"aether field 1 value",
            Self::Removal => b"aether field 1 removal",
            Self::Floor => b"aether field 1 floor",
            Self::Link => b"aether field 1 certificate",
            Self::Beat => b"aether field 1 beat",
        }
    }
}

/// The bytes that are signed: each part with its length before it, so no two statements have the same bytes.
pub(super) fn statement(
    subject: Subject,
    field: &str,
    owner: &str,
    name: &str,
    stamp: Stamp,
    payload: &[u8],
) -> Vec<u8> {
    let stamp = stamp_bytes(stamp);
    let parts: [&[u8]; 6] =
        [subject.domain(), field.as_bytes(), owner.as_bytes(), name.as_bytes(), &stamp, payload];
    let mut bytes = Vec::with_capacity(parts.iter().map(|part| 4 + part.len()).sum());
    for part in parts {
        bytes.extend_from_slice(&u32::try_from(part.len()).unwrap_or(u32::MAX).to_be_bytes());
        bytes.extend_from_slice(part);
    }
    bytes
}

pub(super) fn stamp_bytes(stamp: Stamp) -> [u8; 20] {
    let mut bytes = [0; 20];
    bytes[..8].copy_from_slice(&stamp.micros.to_be_bytes());
    bytes[8..12].copy_from_slice(&stamp.logical.to_be_bytes());
    bytes[12..].copy_from_slice(&stamp.writer.0.to_be_bytes());
    bytes
}

pub(super) fn stamp_of(bytes: &[u8; 20]) -> Stamp {
    let (micros, rest) = bytes.split_at(8);
    let (logical, writer) = rest.split_at(4);
    let number = |part: &[u8]| part.iter().fold(0_u64, |sum, &byte| sum << 8 | u64::from(byte));
    Stamp {
        micros: number(micros),
        logical: u32::try_from(number(logical)).unwrap_or(u32::MAX),
        writer: WriterId(number(writer)),
    }
}

/// The bytes of a seal before the payload.
pub(super) const OVERHEAD: usize = 1 + 8 + 64;

/// An entry's value with its signature: a kind, a hint at the key, the signature, and the payload.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Seal {
    pub(super) subject: Subject,
    pub(super) hint: [u8; 8],
    pub(super) signature: [u8; 64],
    pub(super) payload: Bytes,
}

impl Seal {
    pub(super) fn of(bytes: &Bytes) -> Option<Self> {
        let subject = match bytes.first()? {
            0 => Subject::Removal,
            1 => Subject::Value,
            2 => Subject::Floor,
            _ => return None,
        };
        let hint = bytes.get(1..9)?.try_into().ok()?;
        let signature = bytes.get(9..OVERHEAD)?.try_into().ok()?;
        let payload = bytes.slice(OVERHEAD..);
        // A removal and a floor say nothing more.
        (subject == Subject::Value || payload.is_empty()).then_some(Self {
            subject,
            hint,
            signature,
            payload,
        })
    }

    pub(super) fn to_bytes(&self) -> Bytes {
        let kind = match self.subject {
            Subject::Removal => 0,
            Subject::Value => 1,
            Subject::Floor | Subject::Link | Subject::Beat => 2,
        };
        [&[kind][..], &self.hint, &self.signature, &self.payload].concat().into()
    }

    /// Signs a value, a removal, or a floor.
    pub(super) fn sign(
        subject: Subject,
        identity: &Identity,
        field: &str,
        name: &str,
        stamp: Stamp,
        payload: Bytes,
    ) -> Self {
        let statement = statement(subject, field, identity.name(), name, stamp, &payload);
        let (hint, signature) = (identity.public_key().hint(), identity.sign(&statement));
        Self { subject, hint, signature, payload }
    }

    pub(super) fn is_by(&self, key: &PublicKey, field: &str, owner: &str, name: &str, stamp: Stamp) -> bool {
        key.verifies(&statement(self.subject, field, owner, name, stamp, &self.payload), &self.signature)
    }
}

/// The statement of an owner's replica about itself, which it signs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Presence<'a> {
    /// The writer of its changes.
    pub writer: WriterId,
    /// The name of the replica.
    pub replica: &'a str,
    /// Microseconds since 1970. It increases with each statement of this writer, so that a recorded one has no effect.
    pub number: u64,
    /// The digest of its state.
    pub digest: Digest,
    /// It asks the others for theirs.
    pub asks: bool,
    /// It leaves.
    pub leaves: bool,
}

impl Presence<'_> {
    /// The signature of an owner.
    #[must_use]
    pub fn sign(&self, identity: &Identity, field: &str) -> [u8; 64] {
        identity.sign(&self.statement(field, identity.name()))
    }

    pub(super) fn statement(&self, field: &str, owner: &str) -> Vec<u8> {
        let flags = u8::from(self.asks) | u8::from(self.leaves) << 1;
        let payload = [&self.number.to_be_bytes()[..], &[flags], &self.digest.to_bytes()].concat();
        let stamp = Stamp { writer: self.writer, ..Stamp::default() };
        statement(Subject::Beat, field, owner, self.replica, stamp, &payload)
    }
}
