//! The areas of a store, and how their keys and numbers are written.

/// Version, source, counts.
pub(crate) const ABOUT: &str = "aether.about";
/// The waves that wait to be relayed, by number.
pub(crate) const WAVES: &str = "aether.waves";
/// The waves that no bus takes, by number, with the reason.
pub(crate) const REFUSED: &str = "aether.refused";
/// The areas of waves that were handled once.
pub(crate) const ONCE: &str = "aether.once";
/// And of the keys of jobs that were done once.
pub(crate) const KEYS: &str = "aether.once.keys";
/// Where projections have come to, by name.
pub(crate) const PROJECTIONS: &str = "aether.projections";

/// The area of a service's own table.
pub(crate) fn own(table: &str) -> String {
    format!("own.{table}")
}

/// The area of the sagas of a name.
pub(crate) fn saga(name: &str) -> String {
    format!("aether.saga.{name}")
}

/// A number as a key: big-endian, so that keys and numbers have the same order.
pub(crate) const fn key(number: u64) -> [u8; 8] {
    number.to_be_bytes()
}

/// The number in the first eight bytes.
pub(crate) fn number(bytes: &[u8]) -> Option<u64> {
    bytes.first_chunk().map(|bytes| u64::from_be_bytes(*bytes))
}

/// Whether a text can name a projection or sagas.
pub(crate) fn is_name(name: &str) -> bool {
    let is_allowed = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
    (1..=64).contains(&name.len()) && name.bytes().all(is_allowed)
}
