//! The wave: one message in flight.
//!
//! A service makes one with [`Wave::builder`], the emitter stamps it with its id and the time, a medium carries it and
//! an inbox queues it. A wave is immutable once emitted. Cloning it bumps one reference count, so a fan-out to a
//! thousand receivers shares one body. This file does not depend on any transport.
//!
//! ```
//! use aether_core::{Kind, Wave};
//! use std::time::Duration;
//!
//! let wave = Wave::builder("orders.created")
//!     .amplitude(0.9)
//!     .half_life(Duration::from_secs(2))
//!     .key("order-17")
//!     .json(&serde_json::json!({ "sku": "lamp", "quantity": 2 }))
//!     .build()?;
//! assert_eq!(wave.kind(), Kind::Event);
//! assert_eq!(wave.json::<serde_json::Value>()?["sku"], "lamp");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

pub(crate) mod body;
pub(crate) mod builder;
pub(crate) mod content;
mod due;
pub(crate) mod error;
pub(crate) mod kind;
pub(crate) mod metadata;
mod origin;
mod received;
pub(crate) mod reply;
mod retry;
mod trace_context;
mod unique;

pub use crate::amplitude::{AmplitudeError, Expiry, HalfLifeError, LEVELS, STEPS_PER_OCTAVE, Signal};
pub use crate::channel::{ChannelError, MAX_NAME_BYTES, MAX_TOKENS};
pub use crate::phase::PhaseError;
pub use crate::proof::SignerId;
pub use crate::source::{MAX_SOURCE_BYTES, SourceError};
pub(crate) use body::Wave;
pub use body::{Body, Extras, FailedAttempt, ReplyPath};
pub(crate) use builder::WaveBuilder;
pub(crate) use content::PayloadError;
pub use content::{ContentType, ContentTypeError};
pub use due::DUE;
pub(crate) use error::WaveError;
pub use error::{MAX_HINT_BYTES, MAX_KEY_BYTES, ReplyError};
pub(crate) use kind::Kind;
pub use kind::KindError;
pub(crate) use metadata::Metadata;
pub use metadata::{
    Baggage, BaggageError, ECHO, EchoRequest, MAX_BAGGAGE_BYTES, MAX_BAGGAGE_ENTRIES, MAX_METADATA_BYTES,
    MAX_METADATA_ENTRIES, MetadataError, Request,
};
pub use origin::Origin;
pub use received::{ProvenSource, Received};
pub use reply::{FAILURE, FailureReasonError};
pub(crate) use reply::{Failure, FailureReason};
pub use retry::ATTEMPTS;
pub use trace_context::{MAX_TRACESTATE_BYTES, TRACEPARENT, TRACESTATE, TraceContext, TraceContextError};
pub use unique::UNIQUE;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::clock::{Instant, Moment, moment_of};
use bytes::Bytes;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::amplitude::{Amplitude, Floor, HalfLife};
use crate::channel::Channel;
use crate::phase::Phase;
use crate::source::{Sequencer, Source, WaveId};
use body::SharedBody;

/// The maximum number of relays between media.
pub const MAX_HOPS: u8 = 10;

impl Wave {
    /// Starts a wave for a channel. Errors, an invalid channel included, are reported by [`WaveBuilder::build`].
    pub fn builder<C>(channel: C) -> WaveBuilder
    where
        C: TryInto<Channel>,
        ChannelError: From<C::Error>,
    {
        WaveBuilder::new(into_channel(channel))
    }

    /// Makes an event of normal amplitude with a JSON payload, by value or by reference.
    ///
    /// # Errors
    /// [`WaveError`] if the channel is invalid or the value cannot be written as JSON.
    pub fn new<C>(channel: C, payload: impl Serialize) -> Result<Self, WaveError>
    where
        C: TryInto<Channel>,
        ChannelError: From<C::Error>,
    {
        let payload = serde_json::to_vec(&payload)?;
        Ok(Self::plain(into_channel(channel)?, payload.into(), ContentType::Json))
    }

    /// Makes an event of normal amplitude with a payload of bytes.
    ///
    /// # Errors
    /// [`WaveError`] if the channel is invalid.
    pub fn from_bytes<C>(channel: C, payload: impl Into<Bytes>) -> Result<Self, WaveError>
    where
        C: TryInto<Channel>,
        ChannelError: From<C::Error>,
    {
        Ok(Self::plain(into_channel(channel)?, payload.into(), ContentType::Bytes))
    }

    /// Makes an event with default values, bypassing the builder.
    #[inline]
    pub fn plain(channel: Channel, payload: Bytes, content_type: ContentType) -> Self {
        Self { body: SharedBody::plain(channel, payload, content_type) }
    }

    /// A wave with these contents, for decoders.
    #[must_use]
    pub fn from_body(body: Body) -> Self {
        Self { body: SharedBody::new(body) }
    }

    /// The identity; `-@0/0` until the wave is emitted.
    #[must_use]
    pub fn id(&self) -> WaveId {
        WaveId { source: self.body.source.clone(), sequence: self.body.sequence }
    }

    /// The vibrator that emitted the wave, by its own words: [`proven_source`](Self::proven_source) is proven.
    #[must_use]
    pub fn source(&self) -> &Source {
        &self.body.source
    }

    /// The sequence number given by the source, counting from 1; 0 until the wave is emitted.
    #[must_use]
    pub fn sequence(&self) -> u64 {
        self.body.sequence
    }

    /// The channel it was sent to.
    #[must_use]
    pub fn channel(&self) -> &Channel {
        &self.body.channel
    }

    /// The purpose of the wave, such as event or command.
    #[must_use]
    pub fn kind(&self) -> Kind {
        self.body.kind
    }

    /// The amplitude at the source, which is never rewritten in flight, except by rules that demand it.
    #[must_use]
    pub fn amplitude(&self) -> Amplitude {
        self.body.signal.amplitude
    }

    /// The current amplitude: the amplitude at the source less decay and path loss. A number in [0, 1].
    #[must_use]
    pub fn amplitude_now(&self) -> f32 {
        self.body.signal.amplitude_at(self.age())
    }

    /// The time in which the amplitude halves.
    #[must_use]
    pub fn half_life(&self) -> HalfLife {
        self.body.signal.half_life
    }

    /// The number of relays between media so far.
    #[must_use]
    pub fn hops(&self) -> u8 {
        self.body.signal.hops
    }

    /// Amplitude, half-life and hops as one value to compute with.
    #[must_use]
    pub fn signal(&self) -> Signal {
        self.body.signal
    }

    /// The time since the wave was emitted: the residence times at all nodes plus the estimated transit. The clocks of
    /// different machines are never compared.
    #[must_use]
    pub fn age(&self) -> Duration {
        self.age_at(Moment::now())
    }

    /// The time since the wave was emitted in this process or arrived in it; zero for a wave that did neither. While it is
    /// received for the first time, that is how long it waited. Its [age](Self::age) is this and its
    /// [age on arrival](Self::age_on_arrival).
    #[must_use]
    pub fn residence(&self) -> Duration {
        self.body.since.map_or(Duration::ZERO, |since| Moment::now().saturating_duration_since(since))
    }

    /// How old the wave was when it arrived in this process: its residence in all processes before, and the transit
    /// between them. Zero for a wave of this process.
    #[must_use]
    pub fn age_on_arrival(&self) -> Duration {
        self.body.age
    }

    /// The age at a moment.
    #[must_use]
    pub fn age_at(&self, now: Moment) -> Duration {
        let here = self.body.since.map_or(Duration::ZERO, |since| now.saturating_duration_since(since));
        self.body.age.saturating_add(here)
    }

    /// Like [`Wave::age`], at an instant given by the caller; for implementors of media.
    #[must_use]
    pub fn age_when(&self, now: Instant) -> Duration {
        // A wave that was never emitted here does not age here, and converting an instant can cost two readings of clocks.
        if self.body.since.is_some() { self.age_at(moment_of(now)) } else { self.body.age }
    }

    /// Whether a receiver with this floor hears the wave now. The clock is not read for a wave that never decays.
    #[inline]
    pub(crate) fn audible_at(&self, now: impl FnOnce() -> Moment, floor: Floor) -> bool {
        if floor.is_open() {
            return true;
        }
        if self.body.signal.half_life == HalfLife::NEVER {
            return self.body.signal.reaches(floor);
        }
        self.body.signal.audible(self.age_at(now()), floor)
    }

    /// Whether the wave asserts or retracts a claim.
    #[must_use]
    pub fn phase(&self) -> Phase {
        self.body.phase
    }

    /// The coherence key: the entity that the wave is about, such as one order.
    #[must_use]
    pub fn key(&self) -> Option<&str> {
        self.body.extras.as_ref()?.key.as_deref()
    }

    /// The wave that was being handled when this one was emitted.
    #[must_use]
    pub fn cause(&self) -> Option<&WaveId> {
        self.body.extras.as_ref()?.cause.as_ref()
    }

    /// Headers, in the order in which they were added.
    #[must_use]
    pub fn metadata(&self) -> &Metadata {
        static NONE: Metadata = Metadata::NONE;
        self.body.extras.as_ref().map_or(&NONE, |extras| &extras.metadata)
    }

    /// The request of its source for an echo if it fails.
    #[must_use]
    pub fn echo_request(&self) -> Option<EchoRequest> {
        self.body.extras.as_ref()?.metadata.echo_request()
    }

    /// The media type of the payload.
    #[must_use]
    pub fn content_type(&self) -> &ContentType {
        &self.body.content_type
    }

    /// The payload. Cloning it bumps a reference count.
    #[must_use]
    pub fn payload(&self) -> &Bytes {
        &self.body.payload
    }

    /// Parses the payload as JSON, regardless of its content type.
    ///
    /// # Errors
    /// [`PayloadError::Json`] with the position of the first error.
    pub fn json<T: DeserializeOwned>(&self) -> Result<T, PayloadError> {
        content::read_json(&self.body.payload, &self.body.content_type)
    }

    /// Reads the payload as UTF-8 text.
    ///
    /// # Errors
    /// [`PayloadError::Utf8`] with the offset of the first invalid byte.
    pub fn text(&self) -> Result<&str, PayloadError> {
        content::read_text(&self.body.payload)
    }

    /// Approximate memory used by the wave, in bytes. The byte bounds of an inbox are in these units.
    #[must_use]
    #[inline]
    pub fn weight(&self) -> usize {
        self.body.weight()
    }

    /// Gives the wave its identity and emission time. If its author kept a clone, the wave is copied first and the
    /// clone stays unchanged.
    #[inline]
    pub fn stamp(&mut self, sequencer: &Sequencer, now: Moment) {
        let sequence = sequencer.next();
        self.body.update(|body| {
            body.source.clone_from(sequencer.source());
            body.sequence = sequence;
            body.age = Duration::ZERO;
            body.since = Some(now);
            if let Some(extras) = &mut body.extras {
                extras.heard_by = None;
                extras.failed = None;
                extras.proof = None;
            }
        });
    }

    /// Takes back the sequence number after the wave was refused. The wave counts as never emitted again.
    pub(crate) fn unstamp(&mut self, sequencer: &Sequencer) {
        if self.body.source == *sequencer.source() {
            sequencer.take_back(self.body.sequence);
        }
        let body = self.body.make_mut();
        body.source = Source::none();
        body.sequence = 0;
        body.since = None;
    }

    /// Whether the wave has no rarely used parts.
    #[inline]
    pub fn is_bare(&self) -> bool {
        self.body.extras.is_none()
    }

    /// Whether a failure returns the wave to its source as an echo: it is a command or query, or its source asked
    /// ([`WaveBuilder::echo`]), and it was emitted on a channel that is not the framework's.
    #[must_use]
    pub fn reflects(&self) -> bool {
        self.wants_echo() && self.body.sequence != 0 && !self.body.channel.is_reserved()
    }

    /// Whether a failure of the wave is reported to its source. A response answers a wave and is never reflected.
    #[inline]
    pub(crate) fn wants_echo(&self) -> bool {
        let kind = self.body.kind;
        kind.reflects() || (kind != Kind::Response && self.echo_request().is_some())
    }

    /// Moves the wave to another channel. Its identity and all else stay.
    #[inline]
    pub fn move_to(&mut self, channel: &Channel) {
        self.body.make_mut().channel.clone_from(channel);
    }

    /// Gives the wave another amplitude. Its half-life and its hops stay.
    pub fn weaken_to(&mut self, amplitude: Amplitude) {
        self.body.make_mut().signal.amplitude = amplitude;
    }

    /// Turns the wave into a notice of the framework: stamped, and of full amplitude. For libraries that extend the
    /// [bus](crate::bus).
    #[must_use]
    pub fn noticed(self, sequencer: &Sequencer) -> Self {
        self.noticed_at(Amplitude::FULL, sequencer)
    }

    /// Like [`Wave::noticed`], with another amplitude.
    pub fn noticed_at(mut self, amplitude: Amplitude, sequencer: &Sequencer) -> Self {
        self.body.make_mut().signal = Signal::new(amplitude, HalfLife::NEVER);
        self.stamp(sequencer, Moment::now());
        self
    }

    /// Makes the wave a question whose answers take this path. For implementors of media.
    #[must_use]
    pub fn with_reply_path(mut self, path: Arc<dyn ReplyPath>) -> Self {
        self.body.make_mut().extras.get_or_insert_default().reply_path = Some(path);
        self
    }

    /// A copy for observers, which cannot be answered. It does not keep the reply path open either.
    #[must_use]
    pub fn unanswerable(mut self) -> Self {
        if self.is_question() {
            let body = self.body.make_mut();
            body.extras = body
                .extras
                .take()
                .and_then(|extras| Extras { reply_path: None, heard_by: None, ..*extras }.boxed());
        }
        self
    }

    /// Whether an asker waits for an answer. See [`Wave::expects_reply`] for whether this handle can be answered.
    #[must_use]
    pub fn is_question(&self) -> bool {
        self.reply_path().is_some()
    }

    fn reply_path(&self) -> Option<&Arc<dyn ReplyPath>> {
        self.body.extras.as_ref()?.reply_path.as_ref()
    }

    /// Records which vibrator received this handle, if it expects an answer. Other handles are unchanged. For libraries
    /// that read an [`Inbox`](crate::inbox::Inbox) themselves.
    #[inline]
    #[must_use]
    pub fn heard_by(mut self, sequencer: &Arc<Sequencer>) -> Self {
        self.note_hearer(sequencer);
        self
    }

    /// Like [`Wave::heard_by`], in place.
    #[inline]
    pub(crate) fn note_hearer(&mut self, sequencer: &Arc<Sequencer>) {
        if !self.is_bare() && self.is_question() {
            self.body.make_mut().extras.get_or_insert_default().heard_by = Some(Arc::clone(sequencer));
        }
    }

    fn was_heard_by(&self) -> Option<&Arc<Sequencer>> {
        self.body.extras.as_ref()?.heard_by.as_ref()
    }
}

pub(crate) fn into_channel<C>(channel: C) -> Result<Channel, ChannelError>
where
    C: TryInto<Channel>,
    ChannelError: From<C::Error>,
{
    channel.try_into().map_err(ChannelError::from)
}

impl fmt::Debug for Wave {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Wave")
            .field("id", &format_args!("{}", self.id()))
            .field("kind", &self.kind())
            .field("channel", &self.channel().as_str())
            .field("amplitude", &self.amplitude())
            .field("payload_bytes", &self.payload().len())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
