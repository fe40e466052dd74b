//! A wave as a medium read it from a message that is no frame.

use std::time::Duration;

use bytes::Bytes;

use super::{Baggage, Body, ContentType, Extras, Kind, Metadata, Request, TraceContext, Wave};
use crate::amplitude::Signal;
use crate::channel::Channel;
use crate::clock::{Instant, moment_of};
use crate::phase::Phase;
use crate::source::WaveId;

/// The parts of a wave that came over a network, for media whose messages are not only frames. Frames are read by
/// `wire::decode` of `aether-link`.
///
/// ```
/// use std::time::{Duration, Instant};
/// use aether_core::medium::Received;
/// use aether_core::{Channel, Source, WaveId};
///
/// let id = WaveId { source: Source::with_instance("shop", 7)?, sequence: 1 };
/// let mut received = Received::new(id, Channel::new("orders.created")?, "a lamp", Instant::now());
/// received.age = Duration::from_millis(3);
/// let wave = received.into_wave();
/// assert_eq!((wave.source().name(), wave.text()?), ("shop", "a lamp"));
/// assert!(wave.age() >= Duration::from_millis(3));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Received {
    /// The identity of the wave.
    pub id: WaveId,
    /// Where it was emitted.
    pub channel: Channel,
    /// Default: an event.
    pub kind: Kind,
    /// Default: half of the full amplitude, with the half-life of an event.
    pub signal: Signal,
    /// Default: it asserts.
    pub phase: Phase,
    /// The age of the wave when it was received. Default: zero.
    pub age: Duration,
    /// When it was received. It ages from then on.
    pub at: Instant,
    /// Default: bytes.
    pub content_type: ContentType,
    /// The content.
    pub payload: Bytes,
    /// The partition key, if it has one: 1 to [`MAX_KEY_BYTES`](crate::wave::MAX_KEY_BYTES) bytes.
    pub key: Option<String>,
    /// What caused it.
    pub cause: Option<WaveId>,
    /// The root of its request. Default: the cause, or the wave itself.
    pub root: Option<WaveId>,
    /// Default: none.
    pub baggage: Baggage,
    /// Where it stands in a distributed trace. Default: what the metadata say, if anything.
    pub trace: Option<TraceContext>,
    /// Default: none.
    pub metadata: Metadata,
}

impl Received {
    /// A wave with default values for all else.
    #[must_use]
    pub fn new(id: WaveId, channel: Channel, payload: impl Into<Bytes>, at: Instant) -> Self {
        let kind = Kind::Event;
        Self {
            id,
            channel,
            kind,
            signal: Signal::new(crate::amplitude::Amplitude::default(), kind.default_half_life()),
            phase: Phase::default(),
            age: Duration::ZERO,
            at,
            content_type: ContentType::default(),
            payload: payload.into(),
            key: None,
            cause: None,
            root: None,
            baggage: Baggage::default(),
            trace: None,
            metadata: Metadata::default(),
        }
    }

    /// The wave.
    #[must_use]
    pub fn into_wave(self) -> Wave {
        let itself = self.cause.as_ref().unwrap_or(&self.id);
        let root = self.root.filter(|root| root != itself);
        let WaveId { source, sequence } = self.id;
        Wave::from_body(Body {
            source,
            sequence,
            channel: self.channel,
            kind: self.kind,
            signal: self.signal,
            phase: self.phase,
            age: self.age,
            since: Some(moment_of(self.at)),
            content_type: self.content_type,
            payload: self.payload,
            extras: Extras {
                key: self.key.map(Into::into),
                cause: self.cause,
                request: Request::of(root, self.baggage),
                trace: self.trace,
                metadata: self.metadata,
                ..Extras::default()
            }
            .boxed(),
        })
    }
}

impl Wave {
    /// The same wave with another payload, for media that change payloads on the way, such as those that corrupt them in
    /// tests. Its source is no longer proven.
    #[must_use]
    pub fn with_payload(mut self, payload: impl Into<Bytes>) -> Self {
        let body = self.body.make_mut();
        body.payload = payload.into();
        if let Some(extras) = &mut body.extras {
            extras.proof = None;
        }
        self
    }
}
