//! What a wave passes on to the waves that follow from it: its identity as their cause, the root of the request, and the
//! baggage.
//!
//! Emitters keep an [`Origin`] and give it to what they emit; answers and replayed dead letters take theirs from the wave
//! itself. The root of a request is its first wave. It is stored only where the cause is another wave, so neither the
//! first wave nor those that it caused directly take more memory or bytes.

use super::{Baggage, Wave};
use crate::source::WaveId;

/// What the waves that follow from something inherit: their cause, the root of the request, and the baggage. Made from a
/// [`Wave`] or an [`Echo`](crate::Echo); see [`Emitter::following`](crate::Emitter::following).
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Origin {
    pub(crate) cause: Option<WaveId>,
    pub(crate) root: Option<WaveId>,
    pub(crate) baggage: Baggage,
}

impl Origin {
    /// The same with another cause. The root stays, and is the cause if there was none.
    pub(crate) fn caused_by(self, cause: WaveId) -> Self {
        let root = self.root.or_else(|| Some(cause.clone()));
        Self { cause: Some(cause), root, baggage: self.baggage }
    }
}

impl From<&Wave> for Origin {
    fn from(wave: &Wave) -> Self {
        Self { cause: Some(wave.id()), root: Some(wave.root()), baggage: wave.baggage().clone() }
    }
}

impl Wave {
    /// The root: the first wave of the request that this wave belongs to. All waves that follow from each other have the
    /// same, so it finds them in logs and on the bus.
    ///
    /// It is the root that the wave was [given](crate::WaveBuilder::root) or inherited; otherwise its cause; and its own
    /// id if nothing caused it.
    #[must_use]
    pub fn root(&self) -> WaveId {
        match &self.body.extras {
            Some(extras) => {
                extras.root.as_ref().or(extras.cause.as_ref()).cloned().unwrap_or_else(|| self.id())
            }
            None => self.id(),
        }
    }

    /// The root, if it is neither the cause nor the wave itself.
    pub(crate) fn stored_root(&self) -> Option<&WaveId> {
        self.body.extras.as_ref()?.root.as_ref()
    }

    /// The author's own names and values that follow the request.
    #[must_use]
    pub fn baggage(&self) -> &Baggage {
        static NONE: Baggage = Baggage::NONE;
        self.body.extras.as_ref().map_or(&NONE, |extras| &extras.baggage)
    }

    /// Makes this wave one of the request. A cause and a root that its author set stay. Its own baggage, which it has if it
    /// was received before, stays if the origin has none.
    pub(crate) fn inherit(&mut self, origin: &Origin) {
        let extras = triomphe::Arc::make_mut(&mut self.body).extras.get_or_insert_default();
        if extras.cause.is_none() {
            extras.cause.clone_from(&origin.cause);
        }
        if extras.root.is_none() && origin.root != extras.cause {
            extras.root.clone_from(&origin.root);
        }
        if !origin.baggage.is_empty() {
            extras.baggage = origin.baggage.clone();
        }
    }

    /// The same wave as a part of the request with this root, unless it is part of one already. An `Asker` gives the
    /// repetitions of a question the root of the first attempt.
    #[must_use]
    pub fn in_request(mut self, root: &WaveId) -> Self {
        let extras = triomphe::Arc::make_mut(&mut self.body).extras.get_or_insert_default();
        if extras.root.is_none() && extras.cause.is_none() {
            extras.root = Some(root.clone());
        }
        self
    }
}
