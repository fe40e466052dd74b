//! XChaCha20-Poly1305 (draft-irtf-cfrg-xchacha-03): the ChaCha20-Poly1305 of ring (RFC 8439), with a key for each nonce that
//! HChaCha20 derives.

use chacha20::{R20, hchacha};
use ring::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, Nonce, UnboundKey};
use zeroize::Zeroizing;

pub(super) const KEY_BYTES: usize = 32;
pub(super) const NONCE_BYTES: usize = 24;
pub(super) const TAG_BYTES: usize = 16;
/// The bytes of a nonce from which the key is derived.
const DERIVED_FROM: usize = 16;

/// A key for many nonces. Its memory is overwritten when it is dropped; the memory of keys for one nonce is not.
pub(super) struct Cipher(Zeroizing<[u8; KEY_BYTES]>);

impl Cipher {
    pub(super) fn new(key: Zeroizing<[u8; KEY_BYTES]>) -> Self {
        Self(key)
    }

    /// Encrypts in place, and returns the tag. `None` above 256 GiB, the bound of ChaCha20.
    pub(super) fn encrypt(
        &self,
        nonce: &[u8; NONCE_BYTES],
        associated: &[u8],
        plain: &mut [u8],
    ) -> Option<[u8; TAG_BYTES]> {
        let (key, nonce) = self.for_one(nonce)?;
        let tag = key.seal_in_place_separate_tag(nonce, Aad::from(associated), plain).ok()?;
        tag.as_ref().try_into().ok()
    }

    /// Decrypts what the tag at its end proves to be authentic, and cuts the tag off. `None` if it is not; the bytes
    /// are then of no use.
    pub(super) fn decrypt(
        &self,
        nonce: &[u8; NONCE_BYTES],
        associated: &[u8],
        encrypted: &mut Vec<u8>,
    ) -> Option<()> {
        let (key, nonce) = self.for_one(nonce)?;
        let bytes = key.open_in_place(nonce, Aad::from(associated), encrypted).ok()?.len();
        encrypted.truncate(bytes);
        Some(())
    }

    /// The key for one nonce, and what is left of the nonce.
    fn for_one(&self, nonce: &[u8; NONCE_BYTES]) -> Option<(LessSafeKey, Nonce)> {
        let (first, rest) = nonce.split_first_chunk::<DERIVED_FROM>()?;
        let key = hchacha::<R20>((&*self.0).into(), first.into());
        let key = UnboundKey::new(&CHACHA20_POLY1305, &key).ok()?;
        let mut nonce = [0; 12];
        nonce[4..].copy_from_slice(rest);
        Some((LessSafeKey::new(key), Nonce::assume_unique_for_key(nonce)))
    }
}
