//! Unique waves: a name by which a durable log recognises a second one.

use super::Wave;

/// The metadata entry with the name of a [unique](crate::WaveBuilder::unique) wave.
pub const UNIQUE: &str = "aether-unique";

impl Wave {
    /// The name by which the wave is [unique](crate::WaveBuilder::unique) on its channel.
    #[must_use]
    pub fn unique(&self) -> Option<&str> {
        if self.is_bare() { None } else { self.metadata().value(UNIQUE) }
    }

    /// Whether only a durable log can do what the wave asks for: keep it until later, or find a second one.
    pub(crate) fn needs_log(&self) -> bool {
        self.unique().is_some() || self.due_later().is_some()
    }
}
