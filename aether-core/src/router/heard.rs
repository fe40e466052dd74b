//! The pattern and group of one subscription.

use std::sync::Arc;

use crate::channel::Pattern;

/// A subscription as others see it: a pattern and an optional group.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Heard {
    /// The pattern.
    pub pattern: Pattern,
    /// The group whose members share the waves, if any.
    pub group: Option<Arc<str>>,
}
