//! A wave being delivered to a handler, with an emitter and an asker.

use aether_core::{Emitter, Wave};

use crate::Asker;

/// The source of a handler's arguments.
#[derive(Debug, Clone)]
pub struct Delivery {
    wave: Wave,
    emitter: Emitter,
    asker: Asker,
}

impl Delivery {
    /// Delivers a wave by hand, for tests of extractors and handlers. What is emitted and asked names the wave as its
    /// cause.
    #[must_use]
    pub fn new(wave: Wave, emitter: &Emitter, asker: &Asker) -> Self {
        let id = wave.id();
        Self { emitter: emitter.caused_by(id.clone()), asker: asker.caused_by(id), wave }
    }

    /// The wave being handled.
    #[must_use]
    pub fn wave(&self) -> &Wave {
        &self.wave
    }

    /// Emits under the name of the service. Emitted waves name this wave as their cause.
    #[must_use]
    pub fn emitter(&self) -> &Emitter {
        &self.emitter
    }

    /// Asks under the name of the service. Questions name this wave as their cause.
    #[must_use]
    pub fn asker(&self) -> &Asker {
        &self.asker
    }
}
