//! The list of signers: which keys a process believes, and which names each may use.
//!
//! Each line of its text is a name and a public key. A name may have several keys, for a rotation, and a key several names.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use super::signing_error::{MAX_SIGNERS, SignersError};
use super::signing_key::PublicKey;
use aether_core::medium::{Named, Proof};
use aether_core::wave::SignerId;

/// The names that keys may use: `shop`, all that begin with `sensor-`, or all (`*`). They are names of
/// vibrators, of emitters and of programs, which sign their accounts.
///
/// ```
/// use aether_seal::{SigningKey, Signers};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let (shop, sensors) = (SigningKey::generate()?, SigningKey::generate()?);
/// let signers = Signers::new().allow("shop", shop.public_key())?.allow("sensor-*", sensors.public_key())?;
/// assert!(signers.permits("sensor-7", sensors.id()) && !signers.permits("shop", sensors.id()));
/// # Ok(()) }
/// ```
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Signers(Vec<(Named, PublicKey)>);

/// A key of the list, ready for use.
#[derive(Debug, Clone)]
pub(super) struct KnownSigner {
    pub(super) key: PublicKey,
    pub(super) proof: Proof,
}

/// The keys of the list by the ids that frames name.
pub(super) type KnownSigners = HashMap<SignerId, KnownSigner>;

fn named(name: &str) -> Result<Named, SignersError> {
    Named::parse(name).ok_or_else(|| SignersError::Name { name: name.to_owned() })
}

/// Refuses two keys with one id. Ids have 64 bits, so an attacker can find a key whose id is on a long list; frames that it
/// signs would be taken for frames of the other, whichever comes first.
fn one_key_for_each_id(
    entries: &[(Named, PublicKey)],
    id: impl Fn(&PublicKey) -> SignerId,
) -> Result<(), SignersError> {
    let mut known: HashMap<SignerId, &(Named, PublicKey)> = HashMap::new();
    for entry in entries {
        let signer = id(&entry.1);
        let first = known.entry(signer).or_insert(entry);
        if first.1 != entry.1 {
            let [first, second] = [&first.0, &entry.0].map(ToString::to_string);
            return Err(SignersError::SameId { first, second, signer });
        }
    }
    Ok(())
}

impl Signers {
    /// A list of nobody, with which everything is refused.
    #[must_use]
    pub const fn new() -> Self {
        Self(Vec::new())
    }

    /// Lets a key use a name. `sensor-*` means all names that begin so, `*` for all.
    ///
    /// # Errors
    /// [`SignersError`] if the text cannot be a name, or if there are 10,000 entries.
    pub fn allow(mut self, name: &str, key: PublicKey) -> Result<Self, SignersError> {
        let entry = (named(name)?, key);
        if self.0.len() >= MAX_SIGNERS {
            return Err(SignersError::TooMany);
        }
        if !self.0.contains(&entry) {
            self.0.push(entry);
        }
        Ok(self)
    }

    /// Reads the text of a list: lines of a name and a public key. Empty lines and lines that begin with `#` are comments.
    ///
    /// # Errors
    /// [`SignersError`] with the number of the first line that is wrong.
    pub fn parse(text: &str) -> Result<Self, SignersError> {
        let (mut signers, mut known) = (Self::new(), HashSet::new());
        for (number, line) in (1..).zip(text.lines()) {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            // Names may have spaces, keys have none.
            let (name, key) =
                line.rsplit_once(char::is_whitespace).ok_or(SignersError::Line { line: number })?;
            let key: PublicKey = key.parse().map_err(|source| SignersError::Key { line: number, source })?;
            let named = named(name.trim_end())?;
            if signers.0.len() >= MAX_SIGNERS {
                return Err(SignersError::TooMany);
            }
            if known.insert((named.clone(), key)) {
                signers.0.push((named, key));
            }
        }
        one_key_for_each_id(&signers.0, PublicKey::id)?;
        Ok(signers)
    }

    /// Whether a key may use a name.
    #[must_use]
    pub fn permits(&self, name: &str, signer: SignerId) -> bool {
        self.0.iter().any(|(named, key)| named.names(name) && key.id() == signer)
    }

    /// The names, each as it was written, and their keys.
    pub fn entries(&self) -> impl Iterator<Item = (String, PublicKey)> {
        self.0.iter().map(|(named, key)| (named.to_string(), *key))
    }

    /// Whether nobody is on the list.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether a key is on the list.
    #[must_use]
    pub fn knows(&self, signer: SignerId) -> bool {
        self.0.iter().any(|(_, key)| key.id() == signer)
    }

    pub(super) fn known(&self, misnamed: &Arc<AtomicU64>) -> KnownSigners {
        let mut names: HashMap<SignerId, (PublicKey, Vec<Named>)> = HashMap::new();
        for (named, key) in &self.0 {
            let (first, names) = names.entry(key.id()).or_insert_with(|| (*key, Vec::new()));
            // A text with two keys of one id was refused. Of a list that was made otherwise the first key counts.
            if first == key {
                names.push(named.clone());
            }
        }
        let known = names.into_iter().map(|(id, (key, names))| {
            let proof = Proof::new(id, names, Arc::clone(misnamed));
            (id, KnownSigner { key, proof })
        });
        known.collect()
    }
}

/// The text of the list.
impl fmt::Display for Signers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|(named, key)| writeln!(f, "{named} {key}"))
    }
}

impl fmt::Debug for Signers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.0.iter().map(|(named, key)| (named.to_string(), key.id()))).finish()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::signing_key::SigningKey;
    use super::*;

    fn key(number: u8) -> PublicKey {
        SigningKey::from_secret([number; 32]).public_key()
    }

    #[test]
    fn a_list_binds_names_to_keys_and_keys_to_names() {
        let text = format!(
            "# ours\n\nshop {}\n  shop\t{}\n the till {}\nsensor-* {}\n",
            key(1),
            key(2),
            key(1),
            key(3)
        );
        let signers = Signers::parse(&text).unwrap();
        for (name, number, is_permitted) in [
            ("shop", 1, true),
            ("shop", 2, true),
            ("shop", 3, false),
            ("the till", 1, true),
            ("the till", 2, false),
            ("sensor-17", 3, true),
            ("sensor", 3, false),
            ("shop", 4, false),
        ] {
            assert_eq!(signers.permits(name, key(number).id()), is_permitted, "{name} {number}");
        }
        assert_eq!(Signers::parse(&signers.to_string()), Ok(signers.clone()));
        let misnamed = Arc::default();
        let known = signers.known(&misnamed);
        assert_eq!(known.len(), 3);
        let first = &known[&key(1).id()];
        assert!(
            first.proof.permits("shop")
                && first.proof.permits("the till")
                && !first.proof.permits("sensor-1")
        );
        assert!(signers.knows(key(3).id()) && !signers.knows(key(4).id()));
    }

    #[test]
    fn a_wrong_line_is_named_with_what_is_wrong() {
        let (good, secret) = (key(1), "aether-signing-key-1:BwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwc");
        for (text, says) in [
            (format!("shop {good}\nbilling"), "line 2"),
            (format!("\nshop {}", &good.to_string()[..40]), "line 2"),
            (format!("shop {secret}"), "line 1"),
            (format!("a*b {good}"), "\"a*b\""),
            (format!("{} {good}", "x".repeat(200)), "cannot be a name"),
        ] {
            let error = Signers::parse(&text).unwrap_err();
            let error = format!(
                "{error} {}",
                std::error::Error::source(&error).map(ToString::to_string).unwrap_or_default()
            );
            assert!(error.contains(says) && !error.contains("BwcH"), "{error}");
        }
    }

    #[test]
    fn two_keys_with_one_id_are_refused() {
        let entry = |name: &str, number| (Named::parse(name).unwrap(), key(number));
        let entries = [entry("shop", 1), entry("till", 1), entry("billing", 2)];
        assert_eq!(one_key_for_each_id(&entries, PublicKey::id), Ok(()));
        let error = one_key_for_each_id(&entries, |_| SignerId(7)).unwrap_err();
        let (first, second) = ("shop".to_owned(), "billing".to_owned());
        assert_eq!(error, SignersError::SameId { first, second, signer: SignerId(7) });
    }

    proptest! {
        /// No text makes it panic, and what it reads it writes.
        #[test]
        fn any_text_is_read_or_refused(text in "(?s)([a-z*#@ \\t]{0,8}( |\\t)(aether-signer-1:[A-Za-z0-9_-]{0,50})?\\n?.{0,9}){0,5}") {
            if let Ok(signers) = Signers::parse(&text) {
                prop_assert_eq!(Signers::parse(&signers.to_string()), Ok(signers));
            }
        }

        #[test]
        fn what_is_listed_is_read_back(names in prop::collection::vec("[ -)+-~]{1,20}[*]?", 0..20), number in 1..9_u8) {
            let mut signers = Signers::new();
            for name in names.iter().map(|name| name.trim()).filter(|name| !name.is_empty() && !name.starts_with('#')) {
                signers = signers.allow(name, key(number)).unwrap();
            }
            prop_assert_eq!(Signers::parse(&signers.to_string()), Ok(signers));
        }
    }
}
