//! The size of a backup.

/// The size of a backup.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Backup {
    /// The number of its files.
    pub files: usize,
    /// The size of all of them.
    pub bytes: u64,
}
