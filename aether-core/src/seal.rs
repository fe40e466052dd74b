//! Sealed frames: end-to-end authenticated encryption with keys that the broker does not have. Feature `seal`.
//!
//! A medium over a network seals each frame as a whole ([`Sealer::seal`]) and opens it at the receiver
//! ([`Sealer::open`]): one nonce and one tag, however many waves the frame has. Who has no key of the set can neither
//! read a frame, nor alter it, nor make one, nor move it to another address or [`Role`]; and who repeats one is refused
//! by the [`ReplayGuard`]. The broker still sees addresses, sizes, times and who connects.
//!
//! The cipher is XChaCha20-Poly1305. Each frame has a nonce of 192 bits from the operating system, drawn when the frame
//! is complete. Nothing is kept from which a nonce is made, so neither a restart nor a fork can repeat one. A virtual
//! machine that is cloned while it runs has a kernel that draws anew, if it is told (vmgenid, Linux 5.18 and later); in case
//! it is not, the time of sealing is mixed in. Two of 2^80 frames under one key share a nonce with a probability of 2^-33
//! (birthday bound, n^2 / 2^193); a million frames a second reach 2^80 in 38 billion years. `protocol/sealed.md` describes
//! the bytes.
//!
//! This module knows no broker and no subscription. Sources: RFC 8439 and draft-irtf-cfrg-xchacha (the cipher), RFC 5869
//! (keys for each purpose), RFC 6479 (the replay window).
//!
//! ```
//! use aether_core::seal::{ReplayGuard, Role, SealKeys, Sealer};
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

mod codec;
mod error;
mod file;
mod key;
mod keys;
mod refusals;
mod replay;
mod role;
mod sealer;
mod source;

pub use codec::{is_sealed, overhead, sealed_key};
pub use error::SealError;
pub use file::SealKeysError;
#[cfg(feature = "lan")]
pub(crate) use file::read_private;
pub use key::KeyId;
pub use keys::{KeyUse, SealKeys};
pub use refusals::{Refusal, Refusals};
pub use replay::{FRESH, ReplayGuard};
pub use role::Role;
pub use sealer::{Opened, Sealer};
pub use source::KeySource;

#[cfg(test)]
mod tests;
