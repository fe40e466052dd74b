//! Certificates: the chain of signatures from the root, or from an owner's first key, to its present key.

use bytes::Bytes;

use super::identity::Identity;
use super::public_key::PublicKey;
use super::seal::{Subject, stamp_bytes, stamp_of, statement};
use super::stamp::{Stamp, WriterId};
use super::trust::Trust;

/// The maximum number of links. An owner that rotated its key more often needs a certificate of the root, or a new
/// allow-list.
pub(super) const MAX_LINKS: usize = 64;

/// The bytes of one link: signer, serial, key, previous key, stamp, signature.
const LINK: usize = 1 + 8 + 32 + 32 + 20 + 64;

/// One step from a key to the next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Link {
    /// Signed by the root; otherwise by `previous`.
    pub(super) is_by_root: bool,
    /// Increases along the chain, and with every certificate of the root.
    pub(super) serial: u64,
    /// As bytes: whether they are a point is only looked at when a signature needs it.
    key: [u8; 32],
    /// The key before, or zeros. Its signatures made before `stamp` stay valid until the owner has signed those entries
    /// again.
    previous: [u8; 32],
    pub(super) stamp: Stamp,
    signature: [u8; 64],
}

impl Link {
    fn statement(&self, field: &str, owner: &str) -> Vec<u8> {
        let (signer, serial) = ([u8::from(self.is_by_root)], self.serial.to_be_bytes());
        let payload = [&signer[..], &serial, &self.key, &self.previous].concat();
        statement(Subject::Link, field, owner, "", self.stamp, &payload)
    }

    fn is_by(&self, signer: &PublicKey, field: &str, owner: &str) -> bool {
        signer.verifies(&self.statement(field, owner), &self.signature)
    }

    fn read(bytes: &[u8; LINK]) -> Option<Self> {
        let key = |from: usize| bytes[from..from + 32].try_into().ok();
        let is_by_root = match bytes[0] {
            0 => false,
            1 => true,
            _ => return None,
        };
        let serial = u64::from_be_bytes(bytes[1..9].try_into().ok()?);
        if serial == 0 {
            return None;
        }
        Some(Self {
            is_by_root,
            serial,
            key: key(9)?,
            previous: key(41)?,
            stamp: stamp_of(&bytes[73..93].try_into().ok()?),
            signature: bytes[93..].try_into().ok()?,
        })
    }

    fn write(&self, bytes: &mut Vec<u8>) {
        bytes.push(u8::from(self.is_by_root));
        bytes.extend_from_slice(&self.serial.to_be_bytes());
        bytes.extend_from_slice(&self.key);
        bytes.extend_from_slice(&self.previous);
        bytes.extend_from_slice(&stamp_bytes(self.stamp));
        bytes.extend_from_slice(&self.signature);
    }
}

/// The binding of an owner's name to its present key: signed by the root, and after a rotation by the key before. It
/// travels in the field, and whoever trusts its beginning trusts its end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Certificate {
    owner: String,
    pub(super) links: Vec<Link>,
}

impl Certificate {
    /// Binds a name to a key, signed by the root of a field.
    ///
    /// - `serial`: greater than the serial of the certificate before; 1 for the first one, also if 0 is given.
    /// - `previous`: the key before, if it was lost but not stolen: entries that it signed until `at` stay valid.
    ///   Without it, everything that other keys signed is void.
    /// - `at`: microseconds since 1970.
    #[must_use]
    pub fn issue(
        root: &Identity,
        field: &str,
        owner: &str,
        key: PublicKey,
        serial: u64,
        previous: Option<PublicKey>,
        at: u64,
    ) -> Self {
        let stamp = Stamp { micros: at, logical: 0, writer: WriterId(0) };
        let (serial, key) = (serial.max(1), *key.as_bytes());
        let previous = previous.map_or([0; 32], |key| *key.as_bytes());
        let link = Link { is_by_root: true, serial, key, previous, stamp, signature: [0; 64] };
        Self { owner: owner.to_owned(), links: vec![signed(link, root, field, owner)] }
    }

    /// The name that is bound.
    #[must_use]
    pub fn owner(&self) -> &str {
        &self.owner
    }

    /// The present key; `None` if its bytes are no key.
    #[must_use]
    pub fn key(&self) -> Option<PublicKey> {
        PublicKey::from_bytes(&self.links.last()?.key).ok()
    }

    /// The key before the present one, and the stamp until which it was valid.
    pub(super) fn previous(&self) -> Option<(PublicKey, Stamp)> {
        let last = self.links.last()?;
        Some((PublicKey::from_bytes(&last.previous).ok()?, last.stamp))
    }

    /// The serial of the present key.
    #[must_use]
    pub fn serial(&self) -> u64 {
        self.links.last().map_or(0, |link| link.serial)
    }

    /// The same with the next key, signed by the present one.
    pub(super) fn rotated(
        owner: &str,
        before: Option<&Self>,
        old: &Identity,
        new: PublicKey,
        field: &str,
        stamp: Stamp,
    ) -> Self {
        let mut links = before.map(|chain| chain.links.clone()).unwrap_or_default();
        let serial = links.last().map_or(0, |link| link.serial) + 1;
        let (key, previous) = (*new.as_bytes(), *old.public_key().as_bytes());
        let link = Link { is_by_root: false, serial, key, previous, stamp, signature: [0; 64] };
        links.push(signed(link, old, field, owner));
        Self { owner: owner.to_owned(), links }
    }

    pub(super) fn stamp(&self) -> Stamp {
        self.links.last().map(|link| link.stamp).unwrap_or_default()
    }

    /// The serial of the root's certificate with which it begins; 0 if it begins with a pinned key.
    pub(super) fn rank(&self) -> u64 {
        self.links.first().filter(|link| link.is_by_root).map_or(0, |link| link.serial)
    }

    pub(super) fn of(owner: &str, bytes: &[u8]) -> Option<Self> {
        let (links, rest) = bytes.as_chunks::<LINK>();
        if !rest.is_empty() || links.is_empty() || links.len() > MAX_LINKS {
            return None;
        }
        let links: Vec<_> = links.iter().map(Link::read).collect::<Option<_>>()?;
        let rises = links.is_sorted_by(|a, b| a.serial < b.serial && a.stamp < b.stamp);
        // The root begins a chain, and every other link follows the key before.
        let follows = links.windows(2).all(|two| !two[1].is_by_root && two[1].previous == two[0].key);
        (rises && follows).then(|| Self { owner: owner.to_owned(), links })
    }

    pub(super) fn to_bytes(&self) -> Bytes {
        let mut bytes = Vec::with_capacity(self.links.len() * LINK);
        self.links.iter().for_each(|link| link.write(&mut bytes));
        bytes.into()
    }

    /// The key that has to have signed the first link; `None` if this replica trusts none.
    pub(super) fn anchor(&self, trust: &Trust) -> Option<PublicKey> {
        let first = self.links.first()?;
        let pin =
            || trust.pins.get(self.owner.as_str()).filter(|pin| *pin.as_bytes() == first.previous).copied();
        if first.is_by_root { trust.root } else { pin() }
    }

    /// Whether the links after the first `known` ones are signed by the keys before them.
    pub(super) fn is_signed(&self, anchor: PublicKey, known: usize, field: &str) -> bool {
        let keys = self.links.iter().map(|link| PublicKey::from_bytes(&link.key).ok());
        let mut signed = self.links.iter().zip(std::iter::once(Some(anchor)).chain(keys)).skip(known);
        signed.all(|(link, signer)| signer.is_some_and(|signer| link.is_by(&signer, field, &self.owner)))
    }
}

fn signed(mut link: Link, by: &Identity, field: &str, owner: &str) -> Link {
    link.signature = by.sign(&link.statement(field, owner));
    link
}
