//! Keys that sign what a process sends, and the public keys by which others know it (Ed25519, RFC 8032).

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ed25519_dalek::{Signature, Signer as _, VerifyingKey};
use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

use super::error::SealError;
use aether_core::wave::SignerId;

/// The text forms begin with these, so that scanners for secrets can find keys, and nobody lists a secret one.
const SECRET_TEXT: &str = "aether-signing-key-1:";
const PUBLIC_TEXT: &str = "aether-signer-1:";
const ID_LABEL: &[u8] = b"aether-signer-id-1";
const KEY_BYTES: usize = 32;
const ENCODED: usize = KEY_BYTES.div_ceil(3) * 4;
pub(super) const SIGNATURE_BYTES: usize = 64;

/// A key that signs what a process sends. Others know it by its [public key](Self::public_key). Its memory is overwritten
/// when the last clone is dropped; `Debug` shows the id.
#[derive(Clone)]
pub struct SigningKey(Arc<SigningParts>);

struct SigningParts {
    key: ed25519_dalek::SigningKey,
    id: SignerId,
}

/// The public key of a signer. Its text is `aether-signer-1:` and 43 letters.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct PublicKey(VerifyingKey);

/// A text or bytes that are no public key of a signer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PublicKeyError {
    /// Not the text of a public key.
    #[error("a public key is {PUBLIC_TEXT} and 43 letters, as `aether keys show` prints it")]
    Text,
    /// No point of the curve, or one of so small an order that a signature proves nothing.
    #[error("these 32 bytes are no Ed25519 public key")]
    Point,
}

impl SigningKey {
    /// A new key.
    ///
    /// # Errors
    /// [`SealError::NoRandomness`].
    pub fn generate() -> Result<Self, SealError> {
        let mut secret = Zeroizing::new([0; KEY_BYTES]);
        getrandom::fill(&mut *secret).map_err(|_| SealError::NoRandomness)?;
        Ok(Self::new(&secret))
    }

    /// The key of these 32 bytes, which must be secret and random. For tests and for keys that come from elsewhere.
    #[must_use]
    pub fn from_secret(secret: [u8; 32]) -> Self {
        Self::new(&Zeroizing::new(secret))
    }

    fn new(secret: &Zeroizing<[u8; KEY_BYTES]>) -> Self {
        let key = ed25519_dalek::SigningKey::from_bytes(secret);
        let id = PublicKey(key.verifying_key()).id();
        Self(Arc::new(SigningParts { key, id }))
    }

    /// Reads the text form.
    pub(super) fn read(text: &str) -> Option<Self> {
        let mut secret = Zeroizing::new([0; KEY_BYTES]);
        let length = URL_SAFE_NO_PAD.decode_slice(text.strip_prefix(SECRET_TEXT)?, &mut *secret).ok()?;
        (length == KEY_BYTES).then(|| Self::new(&secret))
    }

    /// Appends the text form. The caller reserves room, so that no part of the secret stays behind in memory.
    pub(super) fn write(&self, text: &mut Zeroizing<String>) {
        text.push_str(SECRET_TEXT);
        let secret = Zeroizing::new(self.0.key.to_bytes());
        let mut encoded = Zeroizing::new([0; ENCODED]);
        let length = URL_SAFE_NO_PAD.encode_slice(secret.as_slice(), &mut *encoded).unwrap_or_default();
        text.push_str(std::str::from_utf8(&encoded[..length]).unwrap_or_default());
    }

    /// The key by which others know it.
    #[must_use]
    pub fn public_key(&self) -> PublicKey {
        PublicKey(self.0.key.verifying_key())
    }

    /// The id of the public key.
    #[must_use]
    pub fn id(&self) -> SignerId {
        self.0.id
    }

    pub(super) fn sign(&self, statement: &[u8]) -> [u8; SIGNATURE_BYTES] {
        self.0.key.sign(statement).to_bytes()
    }
}

/// Two keys with one id are one key.
impl PartialEq for SigningKey {
    fn eq(&self, other: &Self) -> bool {
        self.id() == other.id()
    }
}

impl Eq for SigningKey {}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SigningKey({})", self.id())
    }
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

    /// Its id, which frames name.
    #[must_use]
    pub fn id(&self) -> SignerId {
        let digest = Sha256::new_with_prefix(ID_LABEL).chain_update(self.as_bytes()).finalize();
        SignerId(digest[..8].iter().fold(0, |id, byte| id << 8 | u64::from(*byte)))
    }

    /// Strict: one statement has one valid signature of a key, and all implementations agree on it.
    pub(super) fn verifies(&self, statement: &[u8], signature: &[u8; SIGNATURE_BYTES]) -> bool {
        self.0.verify_strict(statement, &Signature::from_bytes(signature)).is_ok()
    }
}

impl fmt::Display for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{PUBLIC_TEXT}{}", URL_SAFE_NO_PAD.encode(self.as_bytes()))
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
        let mut bytes = [0; KEY_BYTES];
        let encoded = text.strip_prefix(PUBLIC_TEXT).ok_or(PublicKeyError::Text)?;
        match URL_SAFE_NO_PAD.decode_slice(encoded, &mut bytes) {
            Ok(KEY_BYTES) => Self::from_bytes(&bytes),
            _ => Err(PublicKeyError::Text),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_read_back_from_their_text_and_show_no_secret() {
        let key = SigningKey::generate().unwrap();
        let mut text = Zeroizing::new(String::new());
        key.write(&mut text);
        assert_eq!(SigningKey::read(&text).unwrap().public_key(), key.public_key());
        let shown = format!("{key:?}");
        assert!(
            shown.contains(&key.id().to_string()) && !shown.contains(&text[SECRET_TEXT.len()..]),
            "{shown}"
        );
        let public = key.public_key();
        assert_eq!(public.to_string().parse(), Ok(public));
        assert_eq!(public.to_string().len(), PUBLIC_TEXT.len() + 43);
        assert!(SigningKey::read(&public.to_string()).is_none());
        assert_eq!(text.parse::<PublicKey>(), Err(PublicKeyError::Text), "a secret key is not listed");
    }

    #[test]
    fn what_is_no_key_is_refused() {
        for text in
            ["", "aether-signer-1:", "aether-signer-1:AAAA", "BwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwc"]
        {
            assert_eq!(text.parse::<PublicKey>(), Err(PublicKeyError::Text), "{text}");
        }
        // The neutral element, for which anybody can sign anything, and no point at all.
        let mut neutral = [0; 32];
        neutral[0] = 1;
        assert_eq!(PublicKey::from_bytes(&neutral), Err(PublicKeyError::Point));
        assert_eq!(PublicKey::from_bytes(&[2; 32]), Err(PublicKeyError::Point));
    }

    /// RFC 8032, section 7.1, test 2.
    #[test]
    fn signatures_are_those_of_the_standard() {
        let hex = |text: &str| -> Vec<u8> {
            (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap()).collect()
        };
        let secret = hex("4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb");
        let key = SigningKey::from_secret(secret.try_into().unwrap());
        let public = hex("3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c");
        assert_eq!(key.public_key().as_bytes()[..], public);
        let signature = hex(
            "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00",
        );
        assert_eq!(key.sign(&[0x72])[..], signature);
        assert!(key.public_key().verifies(&[0x72], &key.sign(&[0x72])));
        assert!(!key.public_key().verifies(&[0x73], &key.sign(&[0x72])));
    }
}
