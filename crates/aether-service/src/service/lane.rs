//! Handlers as a loop calls them: a handler that is quick is polled in place, any other one in a task of its own.
//!
//! The loop of a set owns the lanes, one for each handler. A handler that ends at its first poll needs no task and no
//! allocation: its future lies in a box that the next wave uses again. A handler that is pending takes the box along
//! into a task.
//!
//! A handler that computes or blocks for long would keep the other handlers of its set waiting, and the processors idle.
//! So a handler begins in tasks of its own. Once its first polls were quick, it is polled in place, where one poll in
//! [`SAMPLED_EACH`] is timed; when one takes long, it is back in tasks.

use std::marker::PhantomData;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::{BoxFuture, Either, Pending, pending, ready};
use tokio::time::Instant;
use tower::BoxError;

use super::panics::caught_in;
use crate::Rejection;
use crate::handler::{Answer, Delivery};

/// The outcome of a wave in its handler.
pub(super) type Handled = Result<Answer, BoxError>;

/// A first poll that takes this long is not quick. A task costs about 2 us, so a handler of this length loses little by
/// having one.
const SLOW_POLL: Duration = Duration::from_micros(20);

/// After this many quick first polls in a row a handler is polled in place.
const QUICK_POLLS: u32 = 8;

/// In place, one first poll in this many is timed. Reading the clock takes as long as a small handler.
const SAMPLED_EACH: u32 = 8;

/// A type-erased handler with its state.
pub(super) trait Run: Send + Sync {
    /// Calls the handler.
    fn call(&self, delivery: &Delivery) -> BoxFuture<'static, Handled>;

    /// A lane for the loop of a set.
    fn lane(self: Arc<Self>) -> Box<dyn Lane>;
}

/// A handler that is polled in place.
pub(super) trait Lane: Send {
    /// Calls the handler and polls it once. The waker is none that wakes: a pending handler is polled again at once, in
    /// its task.
    fn start(&mut self, delivery: &Delivery) -> Started;
}

/// A handler after its first poll.
pub(super) enum Started {
    Ended(Handled),
    Pending(BoxFuture<'static, Handled>),
}

/// Wraps a function from a delivery to the future of a handler.
pub(super) fn erased<M, F>(call: M) -> Arc<dyn Run>
where
    M: Fn(&Delivery) -> Result<F, Rejection> + Send + Sync + 'static,
    F: Future<Output = Handled> + Send + 'static,
{
    Arc::new(Typed { call, _future: PhantomData })
}

struct Typed<M, F> {
    call: M,
    _future: PhantomData<fn() -> F>,
}

impl<M, F> Run for Typed<M, F>
where
    M: Fn(&Delivery) -> Result<F, Rejection> + Send + Sync + 'static,
    F: Future<Output = Handled> + Send + 'static,
{
    fn call(&self, delivery: &Delivery) -> BoxFuture<'static, Handled> {
        match (self.call)(delivery) {
            Ok(handling) => handling.boxed(),
            Err(rejection) => ready(Err(rejection.into())).boxed(),
        }
    }

    fn lane(self: Arc<Self>) -> Box<dyn Lane> {
        Box::new(TypedLane { handler: self, place: None })
    }
}

/// A place for the future of a handler; pending while it is empty.
type Place<F> = Either<F, Pending<Handled>>;

struct TypedLane<M, F> {
    handler: Arc<Typed<M, F>>,
    /// The box that the last handler did not take along.
    place: Option<Pin<Box<Place<F>>>>,
}

impl<M, F> Lane for TypedLane<M, F>
where
    M: Fn(&Delivery) -> Result<F, Rejection> + Send + Sync + 'static,
    F: Future<Output = Handled> + Send + 'static,
{
    fn start(&mut self, delivery: &Delivery) -> Started {
        let start = || {
            let handling = match (self.handler.call)(delivery) {
                Ok(handling) => Either::Left(handling),
                Err(rejection) => return Started::Ended(Err(rejection.into())),
            };
            // Taken out, so that a handler that panics drops the box with its future.
            let mut place = match self.place.take() {
                Some(mut place) => {
                    place.set(handling);
                    place
                }
                None => Box::pin(handling),
            };
            match place.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
                Poll::Ready(handled) => {
                    place.set(Either::Right(pending()));
                    self.place = Some(place);
                    Started::Ended(handled)
                }
                Poll::Pending => Started::Pending(place),
            }
        };
        caught_in(start).unwrap_or_else(|panicked| Started::Ended(Err(panicked.into())))
    }
}

/// Whether a handler is polled in place, by how long its first polls took.
#[derive(Debug, Default)]
pub(super) struct Quickness {
    /// Quick first polls in a row that were timed.
    quick: AtomicU32,
}

impl Quickness {
    pub(super) fn is_shown(&self) -> bool {
        self.quick.load(Ordering::Relaxed) >= QUICK_POLLS
    }

    /// Takes note of the duration of a first poll.
    pub(super) fn note(&self, took: Duration) {
        if took >= SLOW_POLL {
            self.quick.store(0, Ordering::Relaxed);
        } else if !self.is_shown() {
            self.quick.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Times the first poll of a handler in a task.
    pub(super) async fn timed<T>(self: Arc<Self>, handling: impl Future<Output = T>) -> T {
        let mut handling = std::pin::pin!(handling);
        let mut is_first = true;
        std::future::poll_fn(move |context| {
            if !std::mem::take(&mut is_first) {
                return handling.as_mut().poll(context);
            }
            let began = Instant::now();
            let polled = handling.as_mut().poll(context);
            self.note(began.elapsed());
            polled
        })
        .await
    }
}

/// Chooses the first polls in place that are timed.
#[derive(Debug, Default)]
pub(super) struct Sampling {
    polls: u32,
}

impl Sampling {
    /// Runs a first poll, and times one in a fixed number.
    pub(super) fn timed<T>(&mut self, quickness: &Quickness, poll: impl FnOnce() -> T) -> T {
        self.polls = self.polls.wrapping_add(1);
        if !self.polls.is_multiple_of(SAMPLED_EACH) {
            return poll();
        }
        let began = Instant::now();
        let polled = poll();
        quickness.note(began.elapsed());
        polled
    }
}
