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
    /// Delivers a wave by hand, for tests of extractors and handlers. What is emitted and asked follows from the wave:
    /// see [`Emitter::following`].
    #[must_use]
    pub fn new(wave: Wave, emitter: &Emitter, asker: &Asker) -> Self {
        let emitter = emitter.following(&wave);
        Self { asker: asker.with_emitter(emitter.clone()), emitter, wave }
    }

    /// The wave being handled.
    #[must_use]
    pub fn wave(&self) -> &Wave {
        &self.wave
    }

    /// Emits under the name of the service. Emitted waves name this wave as their cause, belong to its request and carry
    /// its baggage.
    #[must_use]
    pub fn emitter(&self) -> &Emitter {
        &self.emitter
    }

    /// Asks under the name of the service. Questions inherit the same.
    #[must_use]
    pub fn asker(&self) -> &Asker {
        &self.asker
    }
}
