//! The contents of a wave, shared by its handles. A body whose last handle is gone is filled again by a later wave.
//!
//! The pool: in a stream of waves one thread makes the bodies and another drops them. An allocator has to hand such
//! memory from thread to thread; glibc's takes 350 instructions and a lock for that. Here each thread keeps a few
//! bodies, and batches of them go from thread to thread by way of a shared stock. A kept body refers to nothing: it
//! is cleared first.
//!
//! What is kept is bounded: 128 bodies a thread and 4096 in the stock, 0.8 MiB. The stock gives back to the allocator
//! what nobody took from it for a while. Source of the design: J. Bonwick and J. Adams, "Magazines and Vmem", USENIX
//! 2001.

use std::cell::RefCell;
use std::ops::Deref;
use std::sync::Arc;
use std::thread::LocalKey;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use futures_util::future::BoxFuture;
use parking_lot::Mutex;
use triomphe::UniqueArc;

use super::metadata::Request;
use super::trace_context::TraceContext;
use super::{ContentType, Kind, Metadata, ReplyError};
use crate::amplitude::{Amplitude, Signal};
use crate::channel::Channel;
use crate::clock::Moment;
use crate::phase::Phase;
use crate::proof::Proof;
use crate::source::{Sequencer, Source, WaveId};

/// A wave: one message in flight. Cloning it bumps one reference count.
#[derive(Clone)]
pub struct Wave {
    /// Behind a pointer, because a wave is moved many times on its way. Stored inline it measured slower.
    pub(super) body: SharedBody,
}

/// The path back to the asker. A medium makes one for each question it carries; for implementors of media.
pub trait ReplyPath: Send + Sync + 'static {
    /// Carries the answer. Ok means that it was handed to the asker (in process) or to the broker's client.
    fn carry(&self, reply: Wave) -> BoxFuture<'_, Result<(), ReplyError>>;
}

/// The contents of a wave, for decoders: [`Wave::from_body`] makes the wave. All handles of the wave share them.
#[derive(Clone)]
pub struct Body {
    /// Its emitter.
    pub source: Source,
    /// Its number among the waves of its source.
    pub sequence: u64,
    /// Where it was emitted.
    pub channel: Channel,
    /// Its kind, such as an event.
    pub kind: Kind,
    /// Its amplitude and how fast that decays.
    pub signal: Signal,
    /// Its place in a cycle.
    pub phase: Phase,
    /// The age at `since`, or the final age if the wave was never emitted.
    pub age: Duration,
    /// When this node emitted the wave or received it from a medium.
    pub since: Option<Moment>,
    /// The type of the payload.
    pub content_type: ContentType,
    /// The payload.
    pub payload: Bytes,
    /// Rarely used parts, boxed so that most waves do not pay for them.
    pub extras: Option<Box<Extras>>,
}

/// The parts that most waves leave out.
#[derive(Clone, Default)]
pub struct Extras {
    /// The ordering key.
    pub key: Option<Box<str>>,
    /// The wave from which this one follows.
    pub cause: Option<WaveId>,
    /// The root and the baggage of its request. The waves that one handler emits share them.
    pub request: Option<Arc<Request>>,
    /// The trace context, which differs from wave to wave.
    pub trace: Option<TraceContext>,
    /// The author's own names and values.
    pub metadata: Metadata,
    /// The way back to the asker of a question.
    pub reply_path: Option<Arc<dyn ReplyPath>>,
    /// The vibrator that received the question; its answer is sent under that name.
    pub(crate) heard_by: Option<Arc<Sequencer>>,
    /// How many times it was sent before.
    pub attempt: u8,
    /// The attempts that failed, if there were any.
    pub(crate) failed: Option<Arc<FailedAttempts>>,
    /// The proven signer of the frame in which it arrived.
    pub(crate) proof: Option<Proof>,
}

thread_local! {
    static KEPT: Kept<Body> = const { Kept::new(Vec::new()) };
}

static STOCK: Stock<Body> = Stock::new();

/// The signal of an event whose author chose nothing else.
const PLAIN: Signal =
    Signal { amplitude: Amplitude::NORMAL, half_life: Kind::Event.default_half_life(), hops: 0 };

/// The reference counts in front of what is shared.
const COUNTS: usize = 2 * size_of::<usize>();

impl Body {
    /// The body of a wave of default values, without content.
    const fn blank() -> Self {
        Self {
            source: Source::none(),
            sequence: 0,
            channel: Channel::none(),
            kind: Kind::Event,
            signal: PLAIN,
            phase: Phase::ASSERT,
            age: Duration::ZERO,
            since: None,
            content_type: ContentType::Bytes,
            payload: Bytes::new(),
            extras: None,
        }
    }

    /// Drops everything that the body refers to. Plain values stay.
    #[inline]
    fn clear(&mut self) {
        self.payload = Bytes::new();
        if self.extras.is_some() {
            self.extras = None;
        }
        if matches!(self.content_type, ContentType::Other(_)) {
            self.content_type = ContentType::Bytes;
        }
        if self.channel.is_shared() {
            self.channel = Channel::none();
        }
        if self.source.is_shared() {
            self.source = Source::none();
        }
    }

    /// Approximate memory used, in bytes.
    #[inline]
    pub(super) fn weight(&self) -> usize {
        const BODY: usize = size_of::<Body>() + COUNTS;
        let extras = self.extras.as_ref().map_or(0, |extras| extras.weight());
        let content_type = match &self.content_type {
            ContentType::Other(media_type) => COUNTS + media_type.len(),
            _ => 0,
        };
        BODY + self.payload.len() + content_type + extras
    }
}

impl Extras {
    /// Not inlined, so that [`Body::weight`] is, which every inbox calls twice for each wave.
    #[inline(never)]
    fn weight(&self) -> usize {
        let key = self.key.as_ref().map_or(0, |key| key.len());
        let cause = self.cause.as_ref().map_or(0, |cause| COUNTS + cause.source.weight());
        let request = self.request.as_ref().map_or(0, |request| COUNTS + request.weight());
        let trace = self.trace.as_ref().map_or(0, TraceContext::weight);
        let failed = self.failed.as_ref().map_or(0, |failed| failed.weight());
        size_of::<Self>() + key + cause + request + trace + self.metadata.weight() + failed
    }

    /// `None` if all parts are empty.
    pub fn boxed(self) -> Option<Box<Self>> {
        let empty = self.key.is_none()
            && self.cause.is_none()
            && self.request.is_none()
            && self.trace.is_none()
            && self.metadata.is_empty()
            && self.reply_path.is_none()
            && self.attempt == 0
            && self.failed.is_none()
            && self.proof.is_none();
        (!empty).then(|| Box::new(self))
    }
}

/// The body of an empty handle, which exists only while a handle is dropped.
static BLANK: Body = Body::blank();

/// A handle of a body. Ordinary term: a reference count. This kind of `Arc` has no weak count, which saves two atomic
/// operations a wave.
#[derive(Clone)]
pub(super) struct SharedBody(Option<triomphe::Arc<Body>>);

impl SharedBody {
    pub(super) fn new(body: Body) -> Self {
        let body = match STOCK.take(&KEPT) {
            Some(mut spare) => {
                *spare = body;
                spare.shareable()
            }
            None => triomphe::Arc::new(body),
        };
        Self(Some(body))
    }

    /// The body of an event of normal amplitude. Written in place: a body made on the stack would be copied.
    #[inline]
    pub(super) fn plain(channel: Channel, payload: Bytes, content_type: ContentType) -> Self {
        let mut spare = STOCK.take(&KEPT).unwrap_or_else(|| triomphe::UniqueArc::new(Body::blank()));
        let body = &mut *spare;
        body.source = Source::none();
        body.sequence = 0;
        body.channel = channel;
        body.kind = Kind::Event;
        body.signal = PLAIN;
        body.phase = Phase::ASSERT;
        body.age = Duration::ZERO;
        body.since = None;
        body.content_type = content_type;
        body.payload = payload;
        Self(Some(spare.shareable()))
    }

    /// Changes the body. One with other handles is copied first.
    #[inline]
    pub(super) fn update(&mut self, change: impl FnOnce(&mut Body)) {
        match self.0.as_mut().and_then(triomphe::Arc::get_mut) {
            Some(body) => change(body),
            None => self.update_copy(change),
        }
    }

    #[cold]
    #[inline(never)]
    fn update_copy(&mut self, change: impl FnOnce(&mut Body)) {
        change(self.make_mut());
    }

    /// Mutable access. A body with other handles is copied first.
    pub(super) fn make_mut(&mut self) -> &mut Body {
        triomphe::Arc::make_mut(self.0.get_or_insert_with(|| triomphe::Arc::new(Body::blank())))
    }
}

impl Deref for SharedBody {
    type Target = Body;
    #[inline]
    fn deref(&self) -> &Body {
        match &self.0 {
            Some(body) => body,
            None => &BLANK,
        }
    }
}

impl Drop for SharedBody {
    #[inline]
    fn drop(&mut self) {
        if let Some(body) = self.0.take()
            && let Ok(mut last) = triomphe::Arc::try_unique(body)
        {
            // Clearing can run code of others, which may drop other waves.
            last.clear();
            STOCK.keep(&KEPT, last);
        }
    }
}

/// The number of bodies that move between a thread and the stock at once.
const BATCH: usize = 64;
/// The number of bodies that a thread keeps.
const KEPT_BY_THREAD: usize = 2 * BATCH;
/// The number of bodies in the stock: enough for an inbox of 1024 waves that eight threads fill and empty in turns, and
/// more than an emitter that waits for room gets at once.
const KEPT_IN_STOCK: usize = 4096;
/// Bodies that stayed in the stock during this many visits, which serve 32,768 waves, are freed.
const VISITS: u32 = 512;

/// The bodies that one thread keeps.
pub(super) type Kept<T> = RefCell<Vec<UniqueArc<T>>>;

/// The bodies that no thread keeps.
pub(super) struct Stock<T>(Mutex<Stocked<T>>);

struct Stocked<T> {
    bodies: Vec<UniqueArc<T>>,
    /// The smallest number of bodies since the surplus was last given back.
    least: usize,
    visits: u32,
}

impl<T> Stocked<T> {
    /// Ends a visit. Returns the surplus, to be dropped outside of the lock.
    fn end_visit(&mut self) -> Vec<UniqueArc<T>> {
        self.least = self.least.min(self.bodies.len());
        self.visits += 1;
        if self.visits < VISITS {
            return Vec::new();
        }
        self.visits = 0;
        let surplus = self.bodies.drain(..self.least).collect();
        self.least = self.bodies.len();
        surplus
    }
}

impl<T> Stock<T> {
    pub(super) const fn new() -> Self {
        Self(Mutex::new(Stocked { bodies: Vec::new(), least: 0, visits: 0 }))
    }

    /// A kept body, if there is one.
    #[inline]
    pub(super) fn take(&self, kept: &'static LocalKey<Kept<T>>) -> Option<UniqueArc<T>> {
        kept.try_with(|kept| {
            let mut kept = kept.try_borrow_mut().ok()?;
            kept.pop().or_else(|| self.refill(&mut kept))
        })
        .ok()?
    }

    #[cold]
    #[inline(never)]
    fn refill(&self, kept: &mut Vec<UniqueArc<T>>) -> Option<UniqueArc<T>> {
        let mut stock = self.0.lock();
        let left = stock.bodies.len().saturating_sub(BATCH);
        kept.extend(stock.bodies.drain(left..));
        let surplus = stock.end_visit();
        drop(stock);
        drop(surplus);
        kept.pop()
    }

    /// Keeps a body for a later wave, or frees it if enough are kept. It was cleared before: it refers to nothing.
    #[inline]
    pub(super) fn keep(&self, kept: &'static LocalKey<Kept<T>>, body: UniqueArc<T>) {
        // While a thread ends, nothing is kept.
        let _ = kept.try_with(|kept| {
            if let Ok(mut kept) = kept.try_borrow_mut() {
                if kept.len() >= KEPT_BY_THREAD {
                    self.store(&mut kept);
                }
                kept.push(body);
            }
        });
    }

    #[cold]
    #[inline(never)]
    fn store(&self, kept: &mut Vec<UniqueArc<T>>) {
        let mut stock = self.0.lock();
        let room = KEPT_IN_STOCK.saturating_sub(stock.bodies.len());
        stock.bodies.extend(kept.drain(..BATCH.min(room)));
        let surplus = stock.end_visit();
        drop(stock);
        drop(surplus);
        // The stock is full: these are freed.
        kept.truncate(KEPT_BY_THREAD - BATCH);
    }
}

/// The maximum number of failed attempts of one wave that are kept: the first ones and the latest.
const MAX_FAILED_ATTEMPTS: usize = 32;

/// An attempt at handling a wave that failed.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct FailedAttempt {
    /// The number of the attempt, from 0: [`Wave::attempt`](crate::Wave::attempt).
    pub attempt: u8,
    /// When it failed, by the clock of this machine.
    pub at: SystemTime,
    /// Why: one line of at most [`MAX_HINT_BYTES`](super::MAX_HINT_BYTES) bytes.
    pub error: String,
}

/// The earlier attempts of a wave that is tried again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct FailedAttempts {
    /// The amplitude of the first attempt.
    first: Amplitude,
    attempts: Vec<FailedAttempt>,
}

impl FailedAttempt {
    pub(crate) fn now(attempt: u8, error: String) -> Self {
        Self { attempt, at: crate::clock::wall_time(), error }
    }

    pub(crate) fn weight(&self) -> usize {
        size_of::<Self>() + self.error.len()
    }
}

impl FailedAttempts {
    pub(super) const fn new(first: Amplitude) -> Self {
        Self { first, attempts: Vec::new() }
    }

    /// Adds an attempt. Without room it replaces the latest one.
    pub(super) fn push(&mut self, failed: FailedAttempt) {
        self.attempts.truncate(MAX_FAILED_ATTEMPTS - 1);
        self.attempts.push(failed);
    }

    pub(super) const fn first(&self) -> Amplitude {
        self.first
    }

    pub(super) fn attempts(&self) -> &[FailedAttempt] {
        &self.attempts
    }

    pub(super) fn weight(&self) -> usize {
        size_of::<Self>() + self.attempts.iter().map(FailedAttempt::weight).sum::<usize>()
    }
}
