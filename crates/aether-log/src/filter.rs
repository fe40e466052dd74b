//! Which waves of a log somebody wants: by channel, kind, amplitude, source, key and time.

use std::time::SystemTime;

use aether_core::{Floor, Kind, Pattern};

use crate::stored_wave::StoredWave;

/// Which waves of a log are wanted. The default takes all; each condition narrows it.
///
/// ```
/// use aether_core::{Kind, Pattern};
/// use aether_log::WaveFilter;
///
/// let commands = WaveFilter::default().pattern(Pattern::new("orders.>")?).kind(Kind::Command).key("17");
/// # let _ = commands;
/// # Ok::<(), aether_core::wave::ChannelError>(())
/// ```
#[derive(Debug, Clone, Default)]
pub struct WaveFilter {
    pub(crate) pattern: Option<Pattern>,
    kind: Option<Kind>,
    floor: Option<Floor>,
    source: Option<String>,
    key: Option<String>,
    since: Option<SystemTime>,
}

impl WaveFilter {
    /// Only waves of channels that match. Others are passed over without being decoded.
    #[must_use]
    pub fn pattern(mut self, pattern: Pattern) -> Self {
        self.pattern = Some(pattern);
        self
    }

    /// Only waves of this kind.
    #[must_use]
    pub fn kind(mut self, kind: Kind) -> Self {
        self.kind = Some(kind);
        self
    }

    /// Only waves that were not weaker than this at their source.
    #[must_use]
    pub fn floor(mut self, floor: Floor) -> Self {
        self.floor = Some(floor).filter(|floor| !floor.is_open());
        self
    }

    /// Only waves of sources with this name.
    #[must_use]
    pub fn source(mut self, name: impl Into<String>) -> Self {
        self.source = Some(name.into());
        self
    }

    /// Only waves with this key.
    #[must_use]
    pub fn key(mut self, key: impl Into<String>) -> Self {
        self.key = Some(key.into());
        self
    }

    /// Only waves that were stored at this time or later.
    #[must_use]
    pub fn since(mut self, at: SystemTime) -> Self {
        self.since = Some(at);
        self
    }

    /// Whether a wave is wanted, apart from its channel.
    pub(crate) fn takes(&self, stored: &StoredWave) -> bool {
        let wave = &stored.wave;
        self.since.is_none_or(|since| stored.at >= since)
            && self.kind.is_none_or(|kind| kind == wave.kind())
            && self.floor.is_none_or(|floor| Floor::at(wave.amplitude()) >= floor)
            && self.source.as_deref().is_none_or(|name| name == wave.source().name())
            && self.key.as_deref().is_none_or(|key| Some(key) == wave.key())
    }
}
