//! A wave on its way into a handler, with the means to act on it.

use aether_core::{Emitter, Wave};

use crate::Asker;

/// What the arguments of a handler are taken from.
#[derive(Debug, Clone)]
pub struct Delivery {
    wave: Wave,
    emitter: Emitter,
    asker: Asker,
}

impl Delivery {
    pub(crate) fn new(wave: Wave, emitter: &Emitter, asker: &Asker) -> Self {
        let id = wave.id();
        Self { emitter: emitter.caused_by(id.clone()), asker: asker.caused_by(id), wave }
    }

    /// The wave that is handled.
    #[must_use]
    pub fn wave(&self) -> &Wave {
        &self.wave
    }

    /// Emits under the name of the service; what it emits names the wave as its cause.
    #[must_use]
    pub fn emitter(&self) -> &Emitter {
        &self.emitter
    }

    /// Asks under the name of the service; what it asks names the wave as its cause.
    #[must_use]
    pub fn asker(&self) -> &Asker {
        &self.asker
    }
}
