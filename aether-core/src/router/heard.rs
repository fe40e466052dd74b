//! What one subscription hears.

use std::sync::Arc;

use crate::channel::Pattern;

/// A pattern that a vibrator is tuned to.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Heard {
    /// The channels.
    pub pattern: Pattern,
    /// The group whose members share the waves, if it is one.
    pub group: Option<Arc<str>>,
}
