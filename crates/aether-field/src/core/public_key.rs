//! Public keys, as text.

use std::fmt;
use std::str::FromStr;

use ed25519_dalek::{Signature, VerifyingKey};

/// The beginning of each message that is signed. Nothing that is signed in a field begins like this.
pub(super) const MESSAGE: &[u8] = b"\0\0\0\x16aether field 1 message";

/// An ed25519 public key that may sign. Its text is 64 hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct PublicKey(VerifyingKey);

/// The text or the bytes are no public key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PublicKeyError {
    /// The text is not 64 hexadecimal digits.
    #[error("a public key is 64 hexadecimal digits, as `aether field identity show` prints them")]
    Text,
    /// The bytes are no point of the curve, or one of so small an order that a signature proves nothing.
    #[error("these 32 bytes are no ed25519 public key")]
    Point,
}

impl PublicKey {
    /// A key from its 32 bytes.
    ///
    /// # Errors
    /// [`PublicKeyError::Point`].
    pub fn from_bytes(bytes: &[u8; 32]) -> Result<Self, PublicKeyError> {
        let key = VerifyingKey::from_bytes(bytes).map_err(|_| PublicKeyError::Point)?;
        if key.is_weak() { Err(PublicKeyError::Point) } else { Ok(Self(key)) }
    }

    /// Its 32 bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8; 32] {
        self.0.as_bytes()
    }

    /// The first 8 bytes: enough to find the key among the keys of an owner, before a signature is checked.
    pub(super) fn hint(&self) -> [u8; 8] {
        let mut hint = [0; 8];
        hint.copy_from_slice(&self.as_bytes()[..8]);
        hint
    }

    /// Whether this is the key that [signed](super::Identity::sign_message) a message.
    #[must_use]
    pub fn has_signed(&self, message: &[u8], signature: &[u8; 64]) -> bool {
        self.verifies(&[MESSAGE, message].concat(), signature)
    }

    /// Strict: one message has one valid signature, so nobody can make another change of the same meaning.
    pub(super) fn verifies(&self, statement: &[u8], signature: &[u8; 64]) -> bool {
        self.0.verify_strict(statement, &Signature::from_bytes(signature)).is_ok()
    }
}

impl From<VerifyingKey> for PublicKey {
    fn from(key: VerifyingKey) -> Self {
        Self(key)
    }
}

impl fmt::Display for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.as_bytes().iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PublicKey({self})")
    }
}

impl FromStr for PublicKey {
    type Err = PublicKeyError;

    fn from_str(text: &str) -> Result<Self, PublicKeyError> {
        Self::from_bytes(&bytes_of_hex(text).ok_or(PublicKeyError::Text)?)
    }
}

/// 32 bytes from 64 hexadecimal digits.
pub(crate) fn bytes_of_hex(text: &str) -> Option<[u8; 32]> {
    let mut bytes = [0; 32];
    if text.len() != 64 || !text.bytes().all(|digit| digit.is_ascii_hexdigit()) {
        return None;
    }
    for (at, byte) in bytes.iter_mut().enumerate() {
        *byte = u8::from_str_radix(text.get(2 * at..2 * at + 2)?, 16).ok()?;
    }
    Some(bytes)
}
