//! Names of consumers, snapshots and streams.

/// Whether a text can name one, on every file system that a folder or a server uses: 1 to 64 letters, digits, `-` and `_`.
pub(crate) fn is_name(name: &str) -> bool {
    let is_allowed = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
    (1..=64).contains(&name.len()) && name.bytes().all(is_allowed)
}
