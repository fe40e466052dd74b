//! Waves that have their identity before they are emitted: a transactional outbox numbers them itself, so that a wave that
//! is sent again after a crash is still the same wave.

use std::time::Duration;

use super::{Origin, Wave};
use crate::clock::Moment;
use crate::source::WaveId;

impl Wave {
    /// The wave under this identity, as old as if it was emitted now, and part of what it follows from. For stores that
    /// number waves before they are emitted; [`Emitter::emit_identified`](crate::Emitter::emit_identified) emits it.
    ///
    /// The caller makes sure that no other wave has the identity: receivers and logs take two waves of one identity for
    /// copies of one.
    ///
    /// ```
    /// use aether_core::{Source, Wave, WaveId};
    ///
    /// let id = WaveId { source: Source::with_instance("shop", 7)?, sequence: 1 };
    /// let wave = Wave::builder("orders.created").text("a lamp").build()?.identified(id.clone(), None);
    /// assert_eq!(wave.id(), id);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn identified(mut self, id: WaveId, origin: Option<&Origin>) -> Self {
        self = self.unanswerable();
        if let Some(origin) = origin {
            self.inherit(origin);
        }
        let body = self.body.make_mut();
        (body.source, body.sequence) = (id.source, id.sequence);
        (body.age, body.since) = (Duration::ZERO, Some(Moment::now()));
        if let Some(extras) = &mut body.extras {
            (extras.heard_by, extras.failed, extras.proof) = (None, None, None);
        }
        self
    }
}

#[cfg(test)]
mod tests {
    use crate::source::{Source, WaveId};
    use crate::wave::{Origin, Wave};

    #[test]
    fn an_identity_changes_nothing_else_and_the_origin_is_inherited() {
        let source = Source::new("shop").unwrap();
        let id = |sequence| WaveId { source: source.clone(), sequence };
        let question = Wave::builder("orders.place").build().unwrap().identified(id(1), None);
        let wave = Wave::builder("orders.created").key("k").amplitude(0.9).text("a lamp").build().unwrap();
        let named = wave.clone().identified(id(2), Some(&Origin::from(&question)));
        assert_eq!((named.id(), named.cause(), named.root()), (id(2), Some(&id(1)), id(1)));
        assert_eq!(
            (named.key(), named.amplitude(), named.payload()),
            (wave.key(), wave.amplitude(), wave.payload())
        );
        assert_eq!(wave.sequence(), 0, "the clone of its author is unchanged");
    }
}
