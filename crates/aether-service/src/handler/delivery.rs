//! A wave being delivered to a handler, with an emitter and an asker.

use std::sync::{Arc, OnceLock};

use aether_core::{Emitter, Wave};

use crate::{Asker, telemetry};

/// The source of a handler's arguments.
///
/// The emitter and the asker follow from the wave. They are made when they are first asked for, because most handlers
/// take neither.
#[derive(Debug, Clone)]
pub struct Delivery {
    wave: Wave,
    means: Arc<Means>,
    emitter: OnceLock<Emitter>,
    asker: OnceLock<Asker>,
}

/// The common part of the deliveries of a service.
#[derive(Debug)]
pub(crate) struct Means {
    emitter: Emitter,
    asker: Asker,
}

impl Means {
    pub(crate) fn new(emitter: Emitter, asker: Asker) -> Arc<Self> {
        Arc::new(Self { emitter, asker })
    }
}

impl Delivery {
    /// Delivers a wave by hand, for tests of extractors and handlers. What is emitted and asked follows from the wave:
    /// see [`Emitter::following`].
    #[must_use]
    pub fn new(wave: Wave, emitter: &Emitter, asker: &Asker) -> Self {
        Self::with(wave, Means::new(emitter.clone(), asker.clone()))
    }

    pub(crate) const fn with(wave: Wave, means: Arc<Means>) -> Self {
        Self { wave, means, emitter: OnceLock::new(), asker: OnceLock::new() }
    }

    /// The wave being handled.
    #[must_use]
    pub fn wave(&self) -> &Wave {
        &self.wave
    }

    pub(crate) fn into_wave(self) -> Wave {
        self.wave
    }

    /// Emits under the name of the service. Emitted waves name this wave as their cause, belong to its request and carry
    /// its baggage.
    #[must_use]
    pub fn emitter(&self) -> &Emitter {
        self.emitter.get_or_init(|| telemetry::joined(self.means.emitter.following(&self.wave)))
    }

    /// Asks under the name of the service. Questions inherit the same.
    #[must_use]
    pub fn asker(&self) -> &Asker {
        self.asker.get_or_init(|| self.means.asker.with_emitter(self.emitter().clone()))
    }
}
