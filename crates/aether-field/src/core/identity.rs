//! Identities: an owner's name and its secret key.

use std::fmt;

use ed25519_dalek::{Signer as _, SigningKey};
use smol_str::SmolStr;
use zeroize::Zeroizing;

use super::public_key::{MESSAGE, PublicKey};

/// The name of an owner and its secret ed25519 key. The key is cleared from memory when the last clone is dropped, and
/// `Debug` does not show it.
#[derive(Clone)]
pub struct Identity {
    name: SmolStr,
    key: SigningKey,
    public: PublicKey,
}

/// The operating system gave no random bytes.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the operating system gives no random bytes for a key")]
pub struct RandomError(#[source] getrandom::Error);

impl Identity {
    /// A new identity, from random bytes of the operating system.
    ///
    /// # Errors
    /// [`RandomError`] if the operating system gives none.
    pub fn generate(name: &str) -> Result<Self, RandomError> {
        let mut secret = Zeroizing::new([0; 32]);
        getrandom::fill(secret.as_mut_slice()).map_err(RandomError)?;
        Ok(Self::from_secret(name, &secret))
    }

    /// An identity from a secret of 32 random bytes.
    #[must_use]
    pub fn from_secret(name: &str, secret: &[u8; 32]) -> Self {
        let key = SigningKey::from_bytes(secret);
        Self { name: name.into(), public: key.verifying_key().into(), key }
    }

    /// The name of the owner.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The public key. Others need it to know the owner: give it to them.
    #[must_use]
    pub const fn public_key(&self) -> PublicKey {
        self.public
    }

    #[cfg(feature = "replica")]
    pub(crate) fn secret(&self) -> Zeroizing<[u8; 32]> {
        Zeroizing::new(self.key.to_bytes())
    }

    /// Signs a message of a program. In a field the signature counts for nothing.
    #[must_use]
    pub fn sign_message(&self, message: &[u8]) -> [u8; 64] {
        self.sign(&[MESSAGE, message].concat())
    }

    pub(super) fn sign(&self, statement: &[u8]) -> [u8; 64] {
        self.key.sign(statement).to_bytes()
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Identity")
            .field("name", &self.name)
            .field("public", &self.public)
            .finish_non_exhaustive()
    }
}
