//! The loop that serves a handler of batches: takes what waits in its inbox, and calls the handler once for all of it.
//!
//! [`Service::run_until`](super::Service::run_until) runs one for each handler of batches. One batch is handled at a time;
//! meanwhile the next one collects in the inbox, in order of strength, so a batch is as large as the handler is slow.

use std::error::Error;
use std::fmt;
use std::future::poll_fn;
use std::sync::Arc;
use std::time::Duration;

use aether_core::{Emitter, Pattern, Receiver, Wave};
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tower::BoxError;
use tower::timeout::error::Elapsed;

use super::attempt::{Again, Attempt, HandlerContext};
use super::circuit::{Admission, Circuit};
use super::error::ServiceError;
use super::failure::EndedInTheMiddle;
use super::limits::LimitsInForce;
use super::panics::caught_in;
use super::pauses::{Pauses, unless_panicked};
use super::report::{LoopAccount, Outcome};
use super::serve_loop::{Ending, detune, fail_the_rest, settle};
use super::stack::caught;
use crate::Rejection;
use crate::handler::{Answer, BatchHandler, Delivery, IntoOutcome, Means};

/// A batch as it is handed to its handler: the items of waves that could be read, and the future of the handler.
type Calling = BoxFuture<'static, Result<(), BoxError>>;

/// Collects the items of a batch, then calls the handler. Type-erased.
pub(super) trait Collect: Send {
    /// Adds the item of a wave.
    fn add(&mut self, delivery: &Delivery) -> Result<(), Rejection>;

    /// Calls the handler with the items that were added. They are gone then.
    fn call(&mut self) -> Calling;
}

/// A handler with its state and the items of the next call.
struct Collector<H: BatchHandler<Args, S>, Args, S> {
    handler: H,
    state: S,
    items: Vec<H::Item>,
}

impl<H, Args, S> Collect for Collector<H, Args, S>
where
    H: BatchHandler<Args, S, Output: IntoOutcome>,
    S: Send + 'static,
{
    fn add(&mut self, delivery: &Delivery) -> Result<(), Rejection> {
        self.items.push(self.handler.item(delivery, &self.state)?);
        Ok(())
    }

    fn call(&mut self) -> Calling {
        let handling = self.handler.call(std::mem::take(&mut self.items), &self.state);
        async move { handling.await.into_outcome() }.boxed()
    }
}

/// A handler of batches, and the most waves that it takes at once.
pub(super) struct Batches {
    pub(super) most: usize,
    collect: Box<dyn Collect>,
}

impl Batches {
    pub(super) fn new<H, Args, S>(most: usize, handler: H, state: S) -> Self
    where
        H: BatchHandler<Args, S, Output: IntoOutcome>,
        Args: 'static,
        S: Send + 'static,
    {
        Self { most, collect: Box::new(Collector { handler, state, items: Vec::new() }) }
    }

    /// Adds the item of a wave to the next batch.
    ///
    /// # Errors
    /// A rejection, or the panic of an extractor. The circuit has learnt of it.
    pub(super) fn add(
        &mut self,
        wave: Wave,
        means: &Arc<Means>,
        circuit: Option<&Circuit>,
    ) -> Result<(), BoxError> {
        let delivery = Delivery::with(wave, Arc::clone(means));
        let error: BoxError = match caught_in(|| self.collect.add(&delivery)) {
            Ok(Ok(())) => return Ok(()),
            Ok(Err(rejection)) => rejection.into(),
            Err(panicked) => panicked.into(),
        };
        let handled = Err(error);
        if let Some(circuit) = circuit {
            circuit.watch().ended(&handled);
        }
        handled.map(drop)
    }

    /// Calls the handler with what was added, within its time-out and the grace period of the service.
    pub(super) async fn call(
        &mut self,
        time_out: Option<Duration>,
        ending: &Ending,
        context: &HandlerContext,
    ) -> Result<Answer, BoxError> {
        let handling = caught(async { self.collect.call().await });
        let timed = async {
            match time_out {
                Some(time_out) => {
                    timeout(time_out, handling).await.unwrap_or_else(|_| Err(Box::new(Elapsed::new())))
                }
                None => handling.await,
            }
        };
        let grace_is_over = async {
            ending.shutdown.cancelled().await;
            sleep(ending.grace).await;
            context.over.cancel();
        };
        tokio::select! {
            biased;
            handled = timed => handled.map(|()| Answer::NONE),
            () = grace_is_over => Err(Box::new(EndedInTheMiddle)),
        }
    }
}

/// A handler of batches with its inbox.
pub(super) struct BatchLoop {
    /// The emitter of the service.
    pub(super) emitter: Emitter,
    pub(super) receiver: Receiver,
    pub(super) heard: Vec<Pattern>,
    pub(super) batches: Batches,
    pub(super) means: Arc<Means>,
    pub(super) circuit: Option<Circuit>,
    pub(super) limits: LimitsInForce,
    pub(super) account: LoopAccount,
}

/// The failure of a batch, and so of each of its waves.
#[derive(Debug, Clone)]
pub(super) struct BatchFailed {
    waves: usize,
    cause: Arc<dyn Error + Send + Sync>,
}

impl BatchFailed {
    pub(super) fn of(waves: usize, cause: BoxError) -> Self {
        Self { waves, cause: cause.into() }
    }
}

impl fmt::Display for BatchFailed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the batch of {} waves failed", self.waves)
    }
}

/// By hand, because an `Arc` as the source would hide the type of the error in it.
impl Error for BatchFailed {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        Some(&*self.cause)
    }
}

impl BatchLoop {
    /// Handles waves until the service ends, then accounts for those that are left.
    pub(super) async fn run(mut self, ending: Ending) -> Result<(), ServiceError> {
        // Also where this panics or is cancelled.
        let _ends_the_others = ending.shutdown.clone().drop_guard();
        let (context, _counting) = HandlerContext::begin(
            &self.emitter,
            &self.heard,
            self.limits.retry.clone(),
            ending.closing.clone(),
        );
        // Failed waves until they are reported.
        let (mut failing, mut pauses) = (JoinSet::new(), Pauses::default());
        let mut waves = Vec::with_capacity(self.batches.most.min(1024));
        loop {
            tokio::select! {
                biased;
                () = ending.shutdown.cancelled() => break,
                Some(ended) = failing.join_next() => {
                    if let Some(again) = unless_panicked(ended).flatten() {
                        pauses.begin(again);
                    }
                }
                wave = poll_fn(|waking| pauses.poll_ended(waking)) => self.receiver.put_back(wave),
                admission = Self::next(&mut self.receiver, self.circuit.as_ref(), &mut waves, self.batches.most),
                    if pauses.leave_room_beside(failing.len()) =>
                {
                    if waves.is_empty() {
                        break;
                    }
                    self.handle(&mut waves, &context, &ending, &mut failing).await;
                    drop(admission);
                }
            }
        }
        ending.shutdown.cancel();
        context.closing.cancel();
        self.drain(ending.grace, &context, &mut failing, &mut pauses).await;
        context.failures.log_rest(context.emitter.source().name());
        Ok(())
    }

    /// Waits until the circuit breaker admits a batch, then for waves. None means that the inbox is closed.
    ///
    /// Cancel safety: cancelled before completion, no wave was taken.
    async fn next(
        receiver: &mut Receiver,
        circuit: Option<&Circuit>,
        waves: &mut Vec<Wave>,
        most: usize,
    ) -> Option<Admission> {
        let admission = match circuit {
            Some(circuit) => Some(circuit.admission().await),
            None => None,
        };
        receiver.receive_many(waves, most).await;
        admission
    }

    /// Calls the handler once, and settles each wave by what it returned. Waves that cannot be read are rejected alone, and
    /// those whose extractor panics fail alone.
    async fn handle(
        &mut self,
        waves: &mut Vec<Wave>,
        context: &Arc<HandlerContext>,
        ending: &Ending,
        failing: &mut JoinSet<Option<Again>>,
    ) {
        let mut attempts = Vec::with_capacity(waves.len());
        for wave in waves.drain(..) {
            if let Some(resend) = self.limits.retry.as_ref().filter(|_| wave.attempt() == 0) {
                resend.budget.deposit();
            }
            self.account.open();
            let waited = self.account.waited(&wave);
            let attempt = Attempt::new(context, wave.clone(), self.account.hand_over(waited));
            match self.batches.add(wave, &self.means, self.circuit.as_ref()) {
                Ok(()) => attempts.push(attempt),
                Err(error) => drop(failing.spawn(attempt.conclude(Err(error)))),
            }
        }
        if attempts.is_empty() {
            return;
        }
        let watching = self.circuit.as_ref().map(Circuit::watch);
        let handled = self.batches.call(self.limits.time_out, ending, context).await;
        if let Some(watching) = watching {
            watching.ended(&handled);
        }
        match handled {
            Ok(_) => attempts.into_iter().for_each(|attempt| {
                attempt.span.ended(Outcome::Succeeded.as_str(), None);
                attempt.open.time(&attempt.wave);
                attempt.open.settle(Outcome::Succeeded);
            }),
            Err(error) => {
                let failed = BatchFailed::of(attempts.len(), error);
                for attempt in attempts {
                    failing.spawn(attempt.conclude(Err(Box::new(failed.clone()))));
                }
            }
        }
    }

    /// Counts the remaining waves, and waits until all failures are reported.
    async fn drain(
        &mut self,
        grace: Duration,
        context: &Arc<HandlerContext>,
        failing: &mut JoinSet<Option<Again>>,
        pauses: &mut Pauses,
    ) {
        detune(&self.receiver, &self.heard);
        let orderly = async {
            fail_the_rest(&mut self.receiver, &mut self.account, context).await;
            settle(failing, pauses).await;
        };
        if timeout(grace, orderly).await.is_err() {
            failing.abort_all();
            pauses.abort();
        }
    }
}
