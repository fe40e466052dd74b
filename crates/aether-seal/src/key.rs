//! One key, its id, and the keys for each role that are derived from it (HKDF-SHA-256, RFC 5869).

use std::fmt;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hkdf::Hkdf;
use sha2::Sha256;
use zeroize::Zeroizing;

use super::cipher::{Cipher, KEY_BYTES};
use super::error::SealError;
use super::role::Role;

/// The text form begins with it, so that scanners for secrets can find keys.
const TEXT: &str = "aether-key-1:";
const SALT: &[u8] = b"aether-seal-1";
const ID_LABEL: &[u8] = b"id";
/// A proof about a node of a local network that only holders of the key can make.
const NODE_LABEL: &[u8] = b"node";

/// The public name of a key, which is derived from it and tells nothing about it. Shown as 16 hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct KeyId(pub u64);

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl fmt::Debug for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A key. Its memory is overwritten when the last clone is dropped; `Debug` shows the id.
#[derive(Clone)]
pub(super) struct SealKey(Arc<KeyParts>);

struct KeyParts {
    secret: Zeroizing<[u8; KEY_BYTES]>,
    id: KeyId,
    /// One for each role, in the order of [`Role::ALL`].
    ciphers: [Cipher; Role::ALL.len()],
}

impl SealKey {
    pub(super) fn generate() -> Result<Self, SealError> {
        let mut secret = Zeroizing::new([0; KEY_BYTES]);
        getrandom::fill(&mut *secret).map_err(|_| SealError::NoRandomness)?;
        Ok(Self::new(secret))
    }

    pub(super) fn new(secret: Zeroizing<[u8; KEY_BYTES]>) -> Self {
        let hkdf = Hkdf::<Sha256>::new(Some(SALT), &*secret);
        let mut id = [0; 8];
        // Cannot fail: HKDF-SHA-256 outputs up to 8160 bytes.
        let _ = hkdf.expand(ID_LABEL, &mut id);
        let ciphers = Role::ALL.map(|role| {
            let mut key = Zeroizing::new([0; KEY_BYTES]);
            let _ = hkdf.expand(role.label(), &mut *key);
            Cipher::new(key)
        });
        Self(Arc::new(KeyParts { secret, id: KeyId(u64::from_be_bytes(id)), ciphers }))
    }

    /// Reads the text form.
    pub(super) fn read(text: &str) -> Option<Self> {
        let mut secret = Zeroizing::new([0; KEY_BYTES]);
        let length = URL_SAFE_NO_PAD.decode_slice(text.strip_prefix(TEXT)?, &mut *secret).ok()?;
        (length == KEY_BYTES).then(|| Self::new(secret))
    }

    /// Appends the text form. The caller reserves room, so that no part of the secret stays behind in memory.
    pub(super) fn write(&self, text: &mut Zeroizing<String>) {
        text.push_str(TEXT);
        let mut encoded = Zeroizing::new([0; KEY_BYTES.div_ceil(3) * 4]);
        let length =
            URL_SAFE_NO_PAD.encode_slice(self.0.secret.as_slice(), &mut *encoded).unwrap_or_default();
        text.push_str(std::str::from_utf8(&encoded[..length]).unwrap_or_default());
    }

    pub(super) fn id(&self) -> KeyId {
        self.0.id
    }

    /// A proof about a node that only holders of this key can make: it tells them that the node has the key, and others
    /// nothing.
    pub(super) fn proof_of(&self, node: u64) -> u64 {
        let hkdf = Hkdf::<Sha256>::new(Some(SALT), &*self.0.secret);
        let mut proof = [0; 8];
        let _ = hkdf.expand_multi_info(&[NODE_LABEL, &node.to_be_bytes()], &mut proof);
        u64::from_be_bytes(proof)
    }

    pub(super) fn cipher(&self, role: Role) -> &Cipher {
        &self.0.ciphers[role.index()]
    }
}

/// Two keys with one id are one key: ids are drawn from 2^64 by a hash.
impl PartialEq for SealKey {
    fn eq(&self, other: &Self) -> bool {
        self.id() == other.id()
    }
}

impl Eq for SealKey {}

impl fmt::Debug for SealKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0.id)
    }
}
