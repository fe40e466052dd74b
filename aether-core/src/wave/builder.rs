//! Builder for waves.

use std::time::{Duration, SystemTime};

use bytes::Bytes;
use serde::Serialize;

use super::{
    Baggage, Body, ContentType, DUE, ECHO, EchoRequest, Extras, Kind, MAX_KEY_BYTES, Metadata, Origin,
    Request, TraceContext, UNIQUE, Wave, WaveError,
};
use crate::amplitude::{Amplitude, HalfLife, Signal};
use crate::channel::{Channel, ChannelError};
use crate::clock::{Moment, wall_time};
use crate::phase::Phase;
use crate::source::{Source, WaveId};

/// A builder for a wave. The first error is kept and reported by [`WaveBuilder::build`].
#[derive(Debug)]
#[must_use = "no wave is made before build()"]
pub struct WaveBuilder {
    channel: Result<Channel, WaveError>,
    kind: Kind,
    amplitude: Amplitude,
    half_life: Option<HalfLife>,
    phase: Phase,
    key: Option<Box<str>>,
    cause: Option<WaveId>,
    root: Option<WaveId>,
    baggage: Baggage,
    trace: Option<TraceContext>,
    metadata: Metadata,
    content_type: ContentType,
    payload: Bytes,
}

impl WaveBuilder {
    pub(super) fn new(channel: Result<Channel, ChannelError>) -> Self {
        Self {
            channel: channel.map_err(WaveError::from),
            kind: Kind::Event,
            amplitude: Amplitude::NORMAL,
            half_life: None,
            phase: Phase::ASSERT,
            key: None,
            cause: None,
            root: None,
            baggage: Baggage::NONE,
            trace: None,
            metadata: Metadata::default(),
            content_type: ContentType::Bytes,
            payload: Bytes::new(),
        }
    }

    /// Keeps the first error.
    fn note<T, E: Into<WaveError>>(&mut self, result: Result<T, E>) -> Option<T> {
        match result {
            Ok(value) => Some(value),
            Err(error) => {
                if self.channel.is_ok() {
                    self.channel = Err(error.into());
                }
                None
            }
        }
    }

    /// Sets the purpose of the wave. Default: event.
    pub fn kind(mut self, kind: Kind) -> Self {
        self.kind = kind;
        self
    }

    /// Sets the importance, in (0, 1]; takes an [`Amplitude`] or a number. Default: 0.5.
    pub fn amplitude<A>(mut self, amplitude: A) -> Self
    where
        A: TryInto<Amplitude>,
        WaveError: From<A::Error>,
    {
        if let Some(amplitude) = self.note(amplitude.try_into()) {
            self.amplitude = amplitude;
        }
        self
    }

    /// Sets the time in which the amplitude halves, rounded to the nearest class (see [`HalfLife::nearest`]). Default:
    /// 8 s for events and broadcasts, never for the others.
    pub fn half_life(mut self, half_life: Duration) -> Self {
        self.half_life = self.note(HalfLife::nearest(half_life)).or(self.half_life);
        self
    }

    /// Keeps the amplitude constant over time.
    pub fn never_decays(mut self) -> Self {
        self.half_life = Some(HalfLife::NEVER);
        self
    }

    /// Sets whether the wave asserts or retracts a claim; takes a [`Phase`] or radians. Default: asserts.
    pub fn phase<P>(mut self, phase: P) -> Self
    where
        P: TryInto<Phase>,
        WaveError: From<P::Error>,
    {
        if let Some(phase) = self.note(phase.try_into()) {
            self.phase = phase;
        }
        self
    }

    /// Sets the coherence key: the entity that the wave is about, such as the id of one order; at most
    /// [`MAX_KEY_BYTES`] bytes. Default: none.
    pub fn key(mut self, key: &str) -> Self {
        if key.is_empty() || key.len() > MAX_KEY_BYTES {
            self.note::<(), _>(Err(WaveError::Key { bytes: key.len() }));
        } else {
            self.key = Some(key.into());
        }
        self
    }

    /// Sets the cause: the wave being handled when this one is emitted. Default: none.
    pub fn cause(mut self, cause: WaveId) -> Self {
        self.cause = Some(cause);
        self
    }

    /// Sets the root of the request that the wave belongs to, such as the id of a wave on another bus. Default: inherited
    /// from the emitter; a wave that nothing caused is its own root.
    pub fn root(mut self, root: WaveId) -> Self {
        self.root = Some(root);
        self
    }

    /// Makes the wave an answer to another one: what it caused, in the same request.
    pub(super) fn answering(mut self, question: &Wave) -> Self {
        self.cause = Some(question.id());
        self.root = Some(question.root());
        self.baggage = question.baggage().clone();
        self.trace = question.trace_context();
        self
    }

    /// Makes the wave part of a distributed trace, such as the trace of an HTTP request that it follows from. The trace
    /// of the emitter replaces it, if there is one. Default: the trace of the emitter.
    pub fn trace_context(mut self, context: TraceContext) -> Self {
        self.trace = Some(context);
        self
    }

    /// Adds a header; see [`Metadata::push`] for its limits.
    pub fn metadata(mut self, name: &str, value: &str) -> Self {
        let result = self.metadata.push(name, value);
        self.note(result);
        self
    }

    /// Makes the wave one for later: it is delivered at this time of day, by the clock of the log. A time that has
    /// passed is now. The last call of this and of [`after`](Self::after) counts.
    ///
    /// Only a durable log keeps waves for later, so the channel has to be a durable one, or
    /// [`EmitError::NotKept`](crate::EmitError::NotKept) hands the wave back. When the time has come, the wave is stored
    /// in the log as others are, and its consumers get it; receivers that listen live do not. A question is asked at
    /// once.
    pub fn at(mut self, due: SystemTime) -> Self {
        let metadata = self.metadata.due_at(due);
        if let Some(metadata) = self.note(metadata) {
            self.metadata = metadata;
        }
        self
    }

    /// Makes the wave one for later: it is delivered after this time. Otherwise as [`at`](Self::at).
    pub fn after(self, time: Duration) -> Self {
        let now = wall_time();
        self.at(now.checked_add(time).unwrap_or(now))
    }

    /// Makes the wave the only one of this name on its channel: a durable log that has stored one stores no second one,
    /// and nobody hears it. The [receipt](crate::Receipt) then has the position of the first one, and
    /// [`is_copy`](crate::medium::Stored::is_copy).
    ///
    /// A log in a folder remembers its last waves (`StoreOptions::remembered_ids`, 65,536 by default), one in JetStream
    /// for a time (`JetStreamOptions::duplicate_window`, two minutes by default). Whether the first wave was handled
    /// does not matter. On a channel that no log keeps, [`EmitError::NotKept`](crate::EmitError::NotKept) hands the wave
    /// back. A wave for later cannot be unique; a schedule has a key.
    pub fn unique(mut self, name: &str) -> Self {
        let metadata = self.metadata.replaced(UNIQUE, name);
        if let Some(metadata) = self.note(metadata) {
            self.metadata = metadata;
        }
        self
    }

    /// Asks for an echo if the wave fails, also if it is an event or a broadcast. Default: an echo without payload for
    /// commands and queries, and none for other kinds. It travels as the metadata entry [`ECHO`]; the first call
    /// counts.
    pub fn echo(self, request: EchoRequest) -> Self {
        self.metadata(ECHO, request.written())
    }

    /// Sets a payload of bytes.
    pub fn bytes(mut self, payload: impl Into<Bytes>) -> Self {
        self.payload = payload.into();
        self
    }

    /// Sets a payload of text; the content type becomes `text/plain`.
    pub fn text(mut self, payload: impl Into<String>) -> Self {
        self.payload = payload.into().into();
        self.content_type = ContentType::Text;
        self
    }

    /// Sets a payload of JSON; the content type becomes `application/json`.
    pub fn json(mut self, payload: impl Serialize) -> Self {
        if let Some(payload) = self.note(serde_json::to_vec(&payload)) {
            self.payload = payload.into();
            self.content_type = ContentType::Json;
        }
        self
    }

    /// Sets the media type of a payload of bytes, such as `application/cbor`. Call it after the payload.
    pub fn content_type(mut self, media_type: &str) -> Self {
        if let Some(content_type) = self.note(ContentType::new(media_type)) {
            self.content_type = content_type;
        }
        self
    }

    /// Builds the wave.
    ///
    /// # Errors
    /// The first error of any earlier call.
    pub fn build(self) -> Result<Wave, WaveError> {
        let Self { key, cause, root, baggage, trace, metadata, .. } = self;
        if metadata.value(UNIQUE).is_some() && metadata.value(DUE).is_some() {
            return Err(WaveError::UniqueLater);
        }
        let root = root.filter(|root| cause.as_ref() != Some(root));
        let request = Request::of(root, baggage);
        let extras = Extras { key, cause, request, trace, metadata, ..Extras::default() };
        Ok(Wave::from_body(Body {
            source: Source::none(),
            sequence: 0,
            channel: self.channel?,
            kind: self.kind,
            signal: Signal::new(
                self.amplitude,
                self.half_life.unwrap_or_else(|| self.kind.default_half_life()),
            ),
            phase: self.phase,
            age: Duration::ZERO,
            since: None,
            content_type: self.content_type,
            payload: self.payload,
            extras: extras.boxed(),
        }))
    }
}

/// Builds the wave, so that what emits or asks takes a builder as well.
impl TryFrom<WaveBuilder> for Wave {
    type Error = WaveError;
    fn try_from(builder: WaveBuilder) -> Result<Self, WaveError> {
        builder.build()
    }
}

impl From<std::convert::Infallible> for WaveError {
    fn from(never: std::convert::Infallible) -> Self {
        match never {}
    }
}

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
    use super::*;
    use crate::source::{Source, WaveId};
    use crate::wave::{Origin, Wave};

    #[test]
    fn the_first_mistake_is_reported() {
        let error = Wave::builder("orders").amplitude(2.0).half_life(Duration::ZERO).build().unwrap_err();
        assert!(matches!(error, WaveError::Amplitude(_)));
        assert!(error.to_string().contains("from 2.4e-10 to 1.0"));
        assert!(matches!(Wave::builder("a b").amplitude(2.0).build(), Err(WaveError::Channel(_))));
        assert!(matches!(Wave::builder("a").key("").build(), Err(WaveError::Key { bytes: 0 })));
        assert!(matches!(Wave::builder("a").phase(f32::NAN).build(), Err(WaveError::Phase(_))));
        assert!(matches!(Wave::builder("a").metadata("a b", "").build(), Err(WaveError::Metadata(_))));
        assert!(matches!(Wave::builder("a").content_type("").build(), Err(WaveError::ContentType(_))));
        let not_json = std::collections::HashMap::from([((1, 2), 3)]);
        assert!(matches!(Wave::builder("a").json(&not_json).build(), Err(WaveError::Json(_))));
    }

    #[test]
    fn the_half_life_follows_the_kind_unless_it_is_given() {
        let of = |builder: WaveBuilder| builder.build().unwrap().half_life();
        assert_eq!(of(Wave::builder("a")), HalfLife::EIGHT_SECONDS);
        assert_eq!(of(Wave::builder("a").kind(Kind::Command)), HalfLife::NEVER);
        assert_eq!(of(Wave::builder("a").never_decays()), HalfLife::NEVER);
        let second = Duration::from_secs(1);
        assert_eq!(
            of(Wave::builder("a").half_life(second).kind(Kind::Query)).duration(),
            Some(Duration::from_millis(1024))
        );
    }

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
