//! The signer of a frame that has arrived, as far as a list of signers proves it.
//!
//! Only the crate `aether-seal` makes a proof, when it has verified a signature. Media give it to the waves of the frame
//! ([`Wave::prove`](crate::Wave::prove)), and the parts of the framework that read names from payloads ask the wave. This
//! module knows neither keys nor bytes, so that waves can carry a proof in builds without cryptography.
//!
//! A bounded table that a network fills is shared by principals. Full, it takes from the principal that holds most of
//! it: one that makes up entries without end evicts its own, and one that holds less than the largest loses nothing.
//! Where nothing is proven everybody is one principal.

use std::collections::{BTreeSet, HashMap};
use std::fmt;
use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, LazyLock};

use crate::source::is_name;

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

/// A process by the number that it drew for itself, and the principal that has proven to be it. For tables of media
/// whose keys are numbers in frames: a principal cannot use the numbers of another, nor take its room.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct NodeId {
    /// The principal that signed, from [`Proof::own`]; 0 where nothing is proven.
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

    /// The unit that has a rate of its own: the name, with whatever key, if it is listed exactly for this signer,
    /// and otherwise the key. A key that is listed with `sensor-*` may use any number of names.
    pub fn rated<'a>(&self, name: &'a str) -> Rated<'a> {
        let is_listed = |named: &Named| matches!(named, Named::Exactly(listed) if listed == name);
        if self.0.names.iter().any(is_listed) { Rated::Name(name) } else { Rated::Signer(self.signer()) }
    }

    /// All keys with the same names are one principal, so a sender that changes its key stays the same.
    pub fn principal(&self) -> u64 {
        self.0.principal
    }

    /// A number that a sender drew for itself, such as its process number, together with its principal: no other
    /// principal can use the result.
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

/// The names that a rule or a signer is for.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Named {
    /// This name.
    Exactly(String),
    /// All names that begin with this.
    BeginningWith(String),
}

impl Named {
    /// `None` unless the text is a name, or the beginning of one and `*`.
    pub fn parse(text: &str) -> Option<Self> {
        match text.strip_suffix('*') {
            Some(start) if !start.contains('*') && (start.is_empty() || is_name(start)) => {
                Some(Self::BeginningWith(start.to_owned()))
            }
            None if is_name(text) && !text.contains('*') => Some(Self::Exactly(text.to_owned())),
            _ => None,
        }
    }

    /// Whether the name is one of these.
    #[must_use]
    pub fn names(&self, name: &str) -> bool {
        match self {
            Self::Exactly(exact) => exact == name,
            Self::BeginningWith(start) => name.starts_with(start.as_str()),
        }
    }

    /// Whether it names all that the other one names.
    pub fn covers(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Exactly(a), Self::Exactly(b)) => a == b,
            (Self::Exactly(_), Self::BeginningWith(_)) => false,
            (Self::BeginningWith(a), Self::Exactly(b) | Self::BeginningWith(b)) => b.starts_with(a.as_str()),
        }
    }

    /// Whether there is a name that both name.
    pub fn overlaps(&self, other: &Self) -> bool {
        self.covers(other) || other.covers(self)
    }
}

/// As it is parsed.
impl fmt::Display for Named {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exactly(name) => f.write_str(name),
            Self::BeginningWith(start) => write!(f, "{start}*"),
        }
    }
}

/// The principal of everything that nobody has proven.
pub const UNPROVEN: u64 = 0;

/// How much each principal holds: entries, or bytes. It only counts; tables keep their entries themselves.
#[derive(Debug, Default)]
pub struct ShareSizes {
    sizes: HashMap<u64, usize>,
    by_size: BTreeSet<(usize, u64)>,
}

impl ShareSizes {
    /// How much a principal holds.
    pub fn of(&self, principal: u64) -> usize {
        self.sizes.get(&principal).copied().unwrap_or_default()
    }

    /// Adds what a principal holds more.
    pub fn add(&mut self, principal: u64, more: usize) {
        self.set(principal, self.of(principal) + more);
    }

    /// Subtracts what a principal no longer holds.
    pub fn subtract(&mut self, principal: u64, less: usize) {
        self.set(principal, self.of(principal).saturating_sub(less));
    }

    fn set(&mut self, principal: u64, size: usize) {
        let before = match size {
            0 => self.sizes.remove(&principal),
            _ => self.sizes.insert(principal, size),
        };
        if let Some(before) = before {
            self.by_size.remove(&(before, principal));
        }
        if size > 0 {
            self.by_size.insert((size, principal));
        }
    }

    /// The principal that makes room for something new of `principal`: the one with the largest share, and itself if
    /// no other has more.
    pub fn gives_way_to(&self, principal: u64) -> u64 {
        match self.by_size.last() {
            Some((largest, holder)) if *largest > self.of(principal) => *holder,
            _ => principal,
        }
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

    #[test]
    fn the_largest_gives_way_and_itself_where_no_other_has_more() {
        let mut sizes = ShareSizes::default();
        assert_eq!(sizes.gives_way_to(1), 1, "nobody has anything");
        sizes.add(1, 3);
        sizes.add(2, 5);
        assert_eq!([1, 2, 3].map(|who| sizes.gives_way_to(who)), [2, 2, 2]);
        sizes.add(1, 2);
        assert_eq!([1, 2].map(|who| sizes.gives_way_to(who)), [1, 2], "both have most");
        sizes.subtract(2, 5);
        sizes.subtract(1, 1);
        assert_eq!((sizes.of(1), sizes.of(2), sizes.gives_way_to(2)), (4, 0, 1));
        sizes.subtract(1, 9);
        assert_eq!((sizes.of(1), sizes.gives_way_to(2)), (0, 2));
    }
}
