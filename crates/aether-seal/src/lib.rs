//! Sealed frames: end-to-end authenticated encryption with keys that the broker does not have. Feature `seal`.
//!
//! A medium over a network seals each frame as a whole ([`Sealer::seal`]) and opens it at the receiver
//! ([`Sealer::open`]): one nonce and one tag, however many waves the frame has. Without a key of the set nobody can
//! read a frame, alter it, make one, or move it to another address or [`Role`]; and the [`ReplayGuard`] refuses a
//! repeated one. The broker still sees addresses, sizes, times and who connects.
//!
//! All that have the keys can speak in any name. With a [`SigningKey`] a process also signs each frame (Ed25519), inside of
//! the seal: one signature, however many waves. A process with a list of [`Signers`] refuses what nobody on it signed, and
//! each name that its signer may not use; then [`Wave::proven_source`](aether_core::Wave::proven_source) names the emitter.
//!
//! The cipher is XChaCha20-Poly1305. Each frame has a nonce of 192 bits from the operating system, drawn when the frame
//! is complete. Nothing is kept from which a nonce is made, so neither a restart nor a fork can repeat one. A virtual
//! machine that is cloned while it runs has a kernel that draws again, if it learns of it (vmgenid, Linux 5.18 and
//! later); in case it does not, the time of sealing is mixed in. Two of 2^80 frames under one key share a nonce with a
//! probability of 2^-33 (birthday bound, n^2 / 2^193); a million frames a second reach 2^80 in 38 billion years.
//! `docs/protocol/sealed.md` describes the bytes.
//!
//! This module knows no broker and no subscription. Sources: RFC 8439 and draft-irtf-cfrg-xchacha (the cipher), RFC 5869
//! (keys for each purpose), RFC 6479 (the replay window), RFC 8032 (signatures).
//!
//! ```
//! use aether_seal::{ReplayGuard, Role, SealKeys, Sealer};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let keys = SealKeys::generate()?;
//! let (here, there) = (Sealer::new(keys.clone())?, Sealer::new(keys)?);
//! let sealed = here.seal(Role::Waves, "aether.orders", "", b"a frame")?;
//! let mut guard: ReplayGuard = there.guard();
//! let opened = there.open(Role::Waves, "aether.orders", &sealed, &mut guard)?;
//! assert_eq!(&opened.frame[..], b"a frame");
//! // A second time it is a replay; on another address it is a forgery.
//! assert!(there.open(Role::Waves, "aether.orders", &sealed, &mut guard).is_err());
//! assert!(there.open(Role::Waves, "aether.refunds", &sealed, &mut there.guard()).is_err());
//! # Ok(()) }
//! ```

mod cipher;
mod codec;
mod error;
mod file;
mod file_or;
mod followed;
mod key;
mod keys;
mod refusals;
mod replay;
mod role;
mod seal_options;
mod seal_options_error;
mod sealer;
mod signers;
mod signing_error;
mod signing_file;
mod signing_key;

pub use aether_core::medium::Proof;
pub use aether_core::wave::SignerId;
pub use aether_link::wire::is_sealed;
pub use codec::{SIGNATURE_OVERHEAD, overhead, sealed_key};
pub use error::SealError;
pub use file::SealKeysError;
pub use file::read_private;
pub use file_or::{FileOr, KeySource};
pub use followed::FollowedSealer;
pub use key::KeyId;
pub use keys::{KeyUse, SealKeys};
pub use refusals::{Refusal, Refusals, missing_keys, unknown_signers};
pub use replay::{FRESH, ReplayGuard};
pub use role::Role;
pub use seal_options::SealOptions;
pub use seal_options_error::SealOptionsError;
pub use sealer::{Opened, Sealer};
pub use signers::Signers;
pub use signing_error::{SignersError, SigningError};
pub use signing_key::{PublicKey, PublicKeyError, SigningKey};

/// Reads a text as each of the files with keys.
#[cfg(fuzzing)]
#[doc(hidden)]
pub fn fuzz_keys(text: &str) {
    if let Ok(Some(keys)) = SealKeys::parse(text) {
        let written = keys.written();
        assert!(matches!(SealKeys::parse(&written), Ok(Some(again)) if again == keys));
    }
    if let Some(key) = SigningKey::parse(text) {
        assert_eq!(SigningKey::parse(&key.written()).map(|key| key.id()), Some(key.id()));
    }
    if let Ok(signers) = Signers::parse(text) {
        assert_eq!(Signers::parse(&signers.to_string()), Ok(signers));
    }
}

#[cfg(test)]
mod tests;
