//! The name of a job that is done once: the identity of a wave, or a key of the service's own.

use aether_core::WaveId;

use crate::area::{KEYS, ONCE, key};
use crate::error::StoreError;
use crate::table::check_name;

/// The name of a job that is done [once](crate::Transaction::once).
///
/// - **The identity of a wave**: a second delivery of this wave does nothing. A dead letter that is replayed keeps the
///   identity, so a job that was done is not done again by it, and a job that had failed is done. Only a letter whose
///   wave had to be signed by somebody else, or could not carry the number of its attempts, gets another identity.
/// - **A key**: the same job a second time does nothing, whichever wave asks for it: a user who presses a button twice, a
///   source that emits a wave again, a replay under another identity. The key names the job, as in
///   `"payment of order 17"`; a job that may be done again tomorrow has the day in its key.
///
/// Keys and identities are remembered apart, each within the bounds of
/// [`remember`](crate::StoreBuilder::remember), so a key is never taken for an identity.
///
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use aether_core::WaveId;
/// use aether_outbox::Store;
///
/// # let folder = tempfile::tempdir()?; let path = folder.path().join("shop.redb");
/// let store = Store::builder("shop").open(path)?;
/// let wave: WaveId = "till@7/1".parse()?;
/// let change = store.begin()?;
/// assert!(change.once(&wave)? && change.once("payment of order 17")?);
/// assert!(!change.once(&wave)? && !change.once("payment of order 17")?);
/// # Ok(()) }
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnceKey<'a> {
    /// The identity of a wave.
    Wave(&'a WaveId),
    /// A key of 1 to 512 bytes.
    Key(&'a str),
}

impl OnceKey<'_> {
    pub(crate) const fn area(&self) -> &'static str {
        match self {
            Self::Wave(_) => ONCE,
            Self::Key(_) => KEYS,
        }
    }

    pub(crate) fn bytes(&self) -> Result<Vec<u8>, StoreError> {
        match self {
            Self::Wave(id) if id.sequence == 0 => Err(StoreError::NoIdentity),
            Self::Wave(WaveId { source, sequence }) => {
                Ok([&key(source.instance())[..], &key(*sequence), source.name().as_bytes()].concat())
            }
            Self::Key(name) => check_name(name, "key").map(|()| name.as_bytes().to_vec()),
        }
    }
}

impl<'a> From<&'a WaveId> for OnceKey<'a> {
    fn from(id: &'a WaveId) -> Self {
        Self::Wave(id)
    }
}

impl<'a> From<&'a str> for OnceKey<'a> {
    fn from(key: &'a str) -> Self {
        Self::Key(key)
    }
}

impl<'a> From<&'a String> for OnceKey<'a> {
    fn from(key: &'a String) -> Self {
        Self::Key(key)
    }
}
