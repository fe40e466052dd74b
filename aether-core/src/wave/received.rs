//! A wave as a medium read it from a message that is not a frame.

use std::time::Duration;

use bytes::Bytes;

use super::{Baggage, Body, ContentType, Extras, Kind, Metadata, Request, TraceContext, Wave};
use crate::amplitude::Signal;
use crate::channel::Channel;
use crate::clock::{Instant, moment_of};
use crate::phase::Phase;
use crate::proof::{Proof, Rated, SignerId};
use crate::source::{Source, WaveId};

/// The parts of a wave that came over a network, for media whose messages are not only frames. Frames are read by
/// `wire::decode` of `aether-link`.
///
/// ```
/// use std::time::{Duration, Instant};
/// use aether_core::wave::Received;
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
    /// Its cause.
    pub cause: Option<WaveId>,
    /// The root of its request. Default: the cause, or the wave itself.
    pub root: Option<WaveId>,
    /// Default: none.
    pub baggage: Baggage,
    /// Its place in a distributed trace. Default: the trace context in the metadata, if there is one.
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

/// The source of a wave, proven: the frame in which the wave arrived was signed with a key, and the list of signers of this
/// process allows that key the name. [`Wave::proven_source`] is the only way to get one.
///
/// Only the name is proven. The signer may have made up the instance number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProvenSource<'a> {
    source: &'a Source,
    signer: SignerId,
}

impl<'a> ProvenSource<'a> {
    /// The name, which the signer may use.
    #[must_use]
    pub fn name(&self) -> &'a str {
        self.source.name()
    }

    /// The name with the instance number, which the signer has drawn.
    #[must_use]
    pub const fn source(&self) -> &'a Source {
        self.source
    }

    /// The key that signed.
    #[must_use]
    pub const fn signer(&self) -> SignerId {
        self.signer
    }
}

impl Wave {
    /// The source, if its name is proven; see the crate `aether-seal` and `docs/guide/sealing.md`.
    ///
    /// `None` for a wave that did not arrive over a medium with a list of signers: one of this process on the local medium,
    /// one that was read from a log in a folder or a recording, and every wave of a process without a list. `None` also for
    /// a copy of an answer that an observer hears, because the asker sends it, and for the framework's own waves on its
    /// reserved channels, which every signer may send.
    ///
    /// A wave that is emitted again is a new wave of this process, and no longer proven.
    #[must_use]
    pub fn proven_source(&self) -> Option<ProvenSource<'_>> {
        let proof = self.proof()?;
        (!self.source().is_framework())
            .then(|| ProvenSource { source: self.source(), signer: proof.signer() })
    }

    /// Notes who signed the frame in which the wave arrived. Returns whether the signer may use the name of the source;
    /// otherwise the wave is unchanged, must not be delivered, and is counted. For implementors of media.
    #[must_use]
    pub fn prove(&mut self, proof: &Proof) -> bool {
        // Every signer may send notices of the framework, and those are on its channels.
        let is_notice = self.source().is_framework() && self.channel().is_reserved();
        let is_permitted = is_notice || proof.permits_or_counts(self.source().name());
        if is_permitted {
            self.body.make_mut().extras.get_or_insert_default().proof = Some(proof.clone());
        }
        is_permitted
    }

    /// Like [`prove`](Self::prove), for a wave that one process sends for another: it stays unproven if the signer may not
    /// use the name, and nothing is counted. For implementors of media.
    pub fn prove_if_own(&mut self, proof: &Proof) {
        if proof.permits(self.source().name()) {
            self.body.make_mut().extras.get_or_insert_default().proof = Some(proof.clone());
        }
    }

    fn proof(&self) -> Option<&Proof> {
        self.body.extras.as_ref()?.proof.as_ref()
    }

    /// Whether the sender of this notice may speak for a vibrator or a program of this name. Everybody may if nothing is
    /// proven here. A name that the signer may not use is counted.
    pub(crate) fn speaks_for(&self, name: &str) -> bool {
        self.proof().is_none_or(|proof| proof.permits_or_counts(name))
    }

    /// The signer of the frame in which the wave arrived; `None` where nothing is proven.
    pub fn signer(&self) -> Option<SignerId> {
        self.proof().map(Proof::signer)
    }

    /// Whose waves it is counted with where there is a rate.
    pub fn rated(&self) -> Rated<'_> {
        let name = self.source().name();
        self.proof().map_or(Rated::Name(name), |proof| proof.rated(name))
    }

    /// A number for who sent the notice, which no other sender can take; 0 if nothing is proven here.
    pub(crate) fn principal(&self) -> u64 {
        self.proof().map_or(0, Proof::principal)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::*;
    use crate::channel::Channel;
    use crate::clock::Moment;
    use crate::proof::Named;
    use crate::source::{Sequencer, WaveId};
    use crate::wave::ContentType;

    fn proof(names: &[&str]) -> (Proof, Arc<AtomicU64>) {
        let misnamed = Arc::<AtomicU64>::default();
        let names = names.iter().map(|name| Named::parse(name).unwrap()).collect();
        (Proof::new(SignerId(17), names, Arc::clone(&misnamed)), misnamed)
    }

    fn wave_of(name: &str) -> Wave {
        let id = WaveId { source: Source::new(name).unwrap(), sequence: 1 };
        Wave::builder("orders.created").text("a lamp").build().unwrap().identified(id, None)
    }

    #[test]
    fn a_name_is_proven_only_if_its_signer_may_use_it() {
        let (shop, misnamed) = proof(&["shop"]);
        let mut wave = wave_of("shop");
        assert_eq!(wave.proven_source(), None);
        assert!(wave.prove(&shop));
        let proven = wave.proven_source().unwrap();
        assert_eq!((proven.name(), proven.signer(), proven.source()), ("shop", SignerId(17), wave.source()));
        assert!(wave.speaks_for("shop") && !wave.speaks_for("billing"));
        let mut forged = wave_of("billing");
        assert!(!forged.prove(&shop));
        assert_eq!((forged.proven_source(), misnamed.load(Ordering::Relaxed)), (None, 2));
        // A copy that an asker sends is heard, unproven.
        forged.prove_if_own(&shop);
        assert_eq!((forged.proven_source(), misnamed.load(Ordering::Relaxed)), (None, 2));
        assert!(forged.speaks_for("anybody"), "nothing is proven");
    }

    #[test]
    fn every_signer_may_send_notices_of_the_framework_which_prove_no_name() {
        let (shop, misnamed) = proof(&["shop"]);
        let sequencer = Sequencer::new(Source::framework());
        let channel = Channel::with_reserved("_aether.vibrators").unwrap();
        let mut notice = Wave::plain(channel, "x".into(), ContentType::Text).noticed(&sequencer);
        assert!(notice.prove(&shop));
        assert_eq!((notice.proven_source(), notice.principal() != 0), (None, true));
        assert!(!notice.speaks_for("billing"));
        assert_eq!(misnamed.load(Ordering::Relaxed), 1);
        // A wave of a service is none.
        let mut wave = Wave::from_bytes("orders", "x").unwrap().noticed(&sequencer);
        assert!(!wave.prove(&shop));
        assert_eq!((wave.principal(), misnamed.load(Ordering::Relaxed)), (0, 2));
    }

    #[test]
    fn a_proof_stays_with_what_was_heard_and_not_with_what_is_made_of_it() {
        let (shop, _) = proof(&["*"]);
        let mut wave = wave_of("shop");
        assert!(wave.prove(&shop));
        let is_proven = |wave: &Wave| wave.proven_source().is_some();
        assert!(is_proven(&wave.clone()) && is_proven(&wave.clone().unanswerable()));
        assert!(is_proven(&wave.relayed(Moment::now()).unwrap()) && is_proven(&wave.resent().unwrap()));
        let sequencer = Sequencer::new(Source::new("relay").unwrap());
        let mut again = wave.clone();
        again.stamp(&sequencer, Moment::now());
        let renamed =
            wave.clone().identified(WaveId { source: Source::new("bank").unwrap(), sequence: 1 }, None);
        assert!(!is_proven(&again) && !is_proven(&renamed) && is_proven(&wave));
        assert!(!is_proven(&wave.with_payload("another lamp")));
    }
}
