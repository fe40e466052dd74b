//! By what the waves of a consumer are divided among tenants.

use std::sync::Arc;

use aether_core::Wave;

/// The property of waves that names their tenants, for [`ConsumerOptions::fair_by`](crate::ConsumerOptions::fair_by).
/// Waves without it belong to one tenant, whose name is empty.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Tenant {
    /// The [key](Wave::key) of the wave.
    Key,
    /// The name of its source.
    Source,
    /// A token of its channel, counted from 0: in `jobs.acme.resize`, token 1 is `acme`.
    Token(u8),
    /// An entry of its metadata, by name.
    Entry(&'static str),
}

impl Tenant {
    /// The tenant of a wave.
    pub(super) fn of(self, wave: &Wave) -> Option<Arc<str>> {
        let tenant = match self {
            Self::Key => wave.key(),
            Self::Source => Some(wave.source().name()),
            Self::Token(number) => wave.channel().as_str().split('.').nth(number.into()),
            Self::Entry(name) => wave.metadata().value(name),
        };
        tenant.map(Arc::from)
    }
}
