//! Who signed a frame that has arrived, as far as a list of signers proves it.
//!
//! Only the crate `aether-seal` makes a proof, when it has verified a signature. Media give it to the waves of the frame
//! ([`Wave::prove`](crate::Wave::prove)), and the parts of the framework that read names from payloads ask the wave. This
//! module knows neither keys nor bytes, so that waves can carry a proof in builds without cryptography.

use std::fmt;
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::named::Named;
use crate::shares::UNPROVEN;

/// The public name of a key that signs, which is derived from it. Shown as 16 hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SignerId(pub u64);

impl fmt::Display for SignerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl fmt::Debug for SignerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The signature of a frame was verified with a key of the list of signers. A clone bumps a reference count.
#[derive(Clone)]
pub struct Proof(Arc<Permit>);

/// A process by the number that it drew for itself, and the principal that has proven to be it. For tables of media whose keys
/// are numbers in frames: a principal cannot use the numbers of another, nor take its room.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct NodeId {
    /// Who has signed, by [`Proof::own`]; 0 where nothing is proven.
    pub principal: u64,
    /// The number of the process.
    pub number: u64,
}

/// A process of which nothing is proven.
impl From<u64> for NodeId {
    fn from(number: u64) -> Self {
        Self { principal: UNPROVEN, number }
    }
}

/// Whose waves are counted together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Rated<'a> {
    /// All keys that may use this name.
    Name(&'a str),
    /// One key.
    Signer(SignerId),
}

/// A key of the list, and what it is allowed.
struct Permit {
    signer: SignerId,
    names: Box<[Named]>,
    principal: u64,
    /// Counts uses of other names by all signers.
    misnamed: Arc<AtomicU64>,
}

/// Nobody else can compute which numbers fall together.
static HASHER: LazyLock<RandomState> = LazyLock::new(RandomState::new);

impl Proof {
    /// For what verifies signatures: a signer that may use these names. Uses of other names are counted in `misnamed`.
    #[must_use]
    pub fn new(signer: SignerId, mut names: Vec<Named>, misnamed: Arc<AtomicU64>) -> Self {
        names.sort_unstable();
        names.dedup();
        let principal = HASHER.hash_one(&names);
        Self(Arc::new(Permit { signer, names: names.into(), principal, misnamed }))
    }

    /// The key that signed.
    #[must_use]
    pub fn signer(&self) -> SignerId {
        self.0.signer
    }

    /// Whether the signer may use the name.
    #[must_use]
    pub fn permits(&self, name: &str) -> bool {
        self.0.names.iter().any(|named| named.names(name))
    }

    /// The same. A name that it may not use is counted as refused.
    pub fn permits_or_counts(&self, name: &str) -> bool {
        let is_permitted = self.permits(name);
        if !is_permitted {
            let signer = self.signer();
            if self.0.misnamed.fetch_add(1, Ordering::Relaxed) == 0 {
                tracing::warn!(name, %signer, "refused a name that its signer may not use; later ones are only counted");
            } else {
                tracing::debug!(name, %signer, "refused a name that its signer may not use");
            }
        }
        is_permitted
    }

    /// What has a rate of its own: a name that the list has, with whatever key, and otherwise the key. A key that is listed with
    /// `sensor-*` may use any number of names.
    pub fn rated<'a>(&self, name: &'a str) -> Rated<'a> {
        let is_listed = |named: &Named| matches!(named, Named::Exactly(listed) if listed == name);
        if self.0.names.iter().any(is_listed) { Rated::Name(name) } else { Rated::Signer(self.signer()) }
    }

    /// All keys with the same names are one principal, so a sender that changes its key stays the same.
    pub fn principal(&self) -> u64 {
        self.0.principal
    }

    /// A number that a sender drew for itself, such as that of its process, as one that no other principal can use.
    #[must_use]
    pub fn own(&self, number: u64) -> NodeId {
        NodeId { principal: self.principal(), number }
    }
}

impl fmt::Debug for Proof {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Proof").field("signer", &self.0.signer).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn proof(signer: u64, names: &[&str]) -> (Proof, Arc<AtomicU64>) {
        let misnamed = Arc::<AtomicU64>::default();
        let names = names.iter().map(|name| Named::parse(name).unwrap()).collect();
        (Proof::new(SignerId(signer), names, Arc::clone(&misnamed)), misnamed)
    }

    #[test]
    fn a_signer_may_use_its_names_and_others_are_counted() {
        let (proof, misnamed) = proof(1, &["shop", "sensor-*"]);
        assert!(proof.permits_or_counts("shop") && proof.permits_or_counts("sensor-7"));
        assert_eq!(misnamed.load(Ordering::Relaxed), 0);
        assert!(!proof.permits_or_counts("shop2") && !proof.permits_or_counts("sensor"));
        assert!(!proof.permits("-"));
        assert_eq!(misnamed.load(Ordering::Relaxed), 2);
    }

    #[test]
    fn the_numbers_of_a_sender_stay_when_its_key_changes_and_are_nobody_elses() {
        let (old, _) = proof(1, &["shop", "till"]);
        let (new, _) = proof(2, &["till", "shop", "shop"]);
        let (other, _) = proof(3, &["till"]);
        assert_eq!(old.own(7), new.own(7));
        assert_ne!(old.own(7), other.own(7));
        assert_ne!(old.own(7), old.own(8));
        assert_ne!(old.own(7), NodeId::from(7));
    }
}
