//! The loop that serves a durable handler: takes waves from a consumer of the log, when there is room, and starts the
//! handler, whose result decides the fate of the wave in the log.
//!
//! [`Service::run_until`](super::Service::run_until) runs one for each durable handler.

use std::future::poll_fn;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use aether_core::{Emitter, Pattern, Wave};
use aether_log::{AckError, ConsumeError, Consumer, Delivery};
use futures_util::future::BoxFuture;
use futures_util::stream::{self, BoxStream, FuturesUnordered};
use futures_util::{FutureExt, StreamExt};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until, timeout};
use tower::BoxError;

use super::attempt::HandlerContext;
use super::cancelled::Cancelled;
use super::circuit::{Admission, Admitting, Circuit};
use super::error::ServiceError;
use super::failure::Cause;
use super::lane::Started;
use super::limits::LimitsInForce;
use super::pauses::unless_panicked;
use super::report::{InFlight, LoopAccount, Outcome};
use super::serve_loop::{Ending, LETTING_GO, SetHandling, limited};
use super::span::HandlingSpan;
use super::stack::{call, poll_ready};
use crate::error_chain;
use crate::handler::Answer;

/// The first and the longest pause while the log cannot be read, or acknowledgements cannot be written.
const PAUSES: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(5));

/// How long a service that ends waits for the server to take back the waves that were not handled.
const GIVING_BACK: Duration = Duration::from_secs(1);

/// After this many waves in a row the loop lets other tasks run.
const IN_A_ROW: u32 = 128;

/// A durable handler with its consumer.
pub(super) struct DurableLoop {
    /// The emitter of the service.
    pub(super) emitter: Emitter,
    pub(super) consumer: Consumer,
    pub(super) heard: Vec<Pattern>,
    pub(super) handling: SetHandling,
    pub(super) circuit: Option<Circuit>,
    pub(super) limits: LimitsInForce,
    pub(super) account: LoopAccount,
}

/// The state of a loop while it runs.
struct DurablyServing {
    context: Arc<HandlerContext>,
    shutdown: Cancelled,
    /// Handlers that were pending. Each returns its delivery if it succeeded.
    tasks: JoinSet<Option<Delivery>>,
    /// Handled, and to be acknowledged at the end of the turn.
    done: Vec<Delivery>,
    /// Acknowledgements that are being written.
    acks: FuturesUnordered<BoxFuture<'static, Result<(), AckError>>>,
    /// The waves of the consumer.
    deliveries: BoxStream<'static, Result<Delivery, ConsumeError>>,
    admitting: Admitting,
    trouble: Trouble,
}

/// The pauses while the log cannot be read or written.
#[derive(Default)]
pub(super) struct Trouble {
    last: Duration,
    over: Option<BoxFuture<'static, ()>>,
}

/// A wave being handled.
pub(super) struct Job {
    pub(super) context: Arc<HandlerContext>,
    pub(super) consumer: Consumer,
    pub(super) delivery: Delivery,
    pub(super) open: InFlight,
    pub(super) span: HandlingSpan,
}

impl DurableLoop {
    /// Handles waves until the service ends, then waits for running handlers. A wave that is not handled then stays in the
    /// log, and no attempt is counted.
    pub(super) async fn run(mut self, ending: Ending) -> Result<(), ServiceError> {
        // Also where this panics or is cancelled.
        let _ends_the_others = ending.shutdown.clone().drop_guard();
        let (context, _counting) = HandlerContext::begin(&self.emitter, &self.heard, None, ending.closing);
        let mut serving = DurablyServing {
            context: Arc::clone(&context),
            shutdown: Cancelled::new(ending.shutdown.clone()),
            tasks: JoinSet::new(),
            done: Vec::new(),
            acks: FuturesUnordered::new(),
            deliveries: deliveries(self.consumer.clone()),
            admitting: Admitting::new(self.circuit.clone()),
            trouble: Trouble::default(),
        };
        let served = poll_fn(|waking| {
            serving.shutdown.register(waking);
            let polled = self.poll_serve(&mut serving, waking);
            serving.poll_acks(&self.consumer, waking);
            self.account.flush();
            polled
        });
        let served = served.await;
        ending.shutdown.cancel();
        context.closing.cancel();
        // Nothing was taken by it.
        serving.deliveries = stream::empty().boxed();
        if timeout(ending.grace, serving.settle()).await.is_err() {
            context.over.cancel();
            if timeout(LETTING_GO, serving.settle()).await.is_err() {
                serving.tasks.abort_all();
            }
        }
        context.failures.log_rest(context.emitter.source().name());
        give_back(self.consumer).await;
        served
    }

    fn poll_serve(
        &mut self,
        serving: &mut DurablyServing,
        context: &mut Context<'_>,
    ) -> Poll<Result<(), ServiceError>> {
        for _ in 0..IN_A_ROW {
            if serving.shutdown.is_cancelled() {
                return Poll::Ready(Ok(()));
            }
            while let Poll::Ready(Some(ended)) = serving.tasks.poll_join_next(context) {
                serving.done.extend(unless_panicked(ended).flatten());
            }
            ready!(serving.trouble.poll_over(context));
            ready!(self.poll_room(serving, context))?;
            let admission = ready!(serving.admitting.poll(context));
            match ready!(serving.deliveries.poll_next_unpin(context)) {
                Some(Ok(delivery)) => self.handle(delivery, admission, serving),
                None | Some(Err(ConsumeError::ShutDown)) => return Poll::Ready(Ok(())),
                Some(Err(error)) => serving.trouble.begin(&self.consumer, &error),
            }
        }
        context.waker().wake_by_ref();
        Poll::Pending
    }

    /// Ready if one more wave may be handled. A task that ends wakes the loop.
    fn poll_room(
        &mut self,
        serving: &DurablyServing,
        context: &mut Context<'_>,
    ) -> Poll<Result<(), ServiceError>> {
        match &mut self.handling {
            SetHandling::Lanes(_) if serving.tasks.len() < self.limits.concurrency => Poll::Ready(Ok(())),
            SetHandling::Lanes(_) => Poll::Pending,
            SetHandling::Stack(stack) => poll_ready(stack, context).map_err(ServiceError::Layer),
        }
    }

    /// Handles a wave, or starts a task that does.
    fn handle(&mut self, delivery: Delivery, admission: Option<Admission>, serving: &mut DurablyServing) {
        self.account.open();
        let (context, wave) = (Arc::clone(&serving.context), delivery.wave().clone());
        let (span, waited) = (context.span(&wave), self.account.waited(&wave));
        let job = |span, delivery, account: &LoopAccount| Job {
            context,
            consumer: self.consumer.clone(),
            delivery,
            open: account.hand_over(waited),
            span,
        };
        let lanes = match &mut self.handling {
            SetHandling::Lanes(lanes) => lanes,
            SetHandling::Stack(stack) => {
                let handling = span.in_scope(|| call(stack, wave));
                let job = job(span, delivery, &self.account);
                serving.tasks.spawn(job.run(async move {
                    let handled = handling.await;
                    drop(admission);
                    handled
                }));
                return;
            }
        };
        let watching = self.circuit.as_ref().map(Circuit::watch);
        let (wave, started) = span.in_scope(|| lanes.start(wave));
        match started {
            Started::Ended(handled) => {
                if let Some(watching) = watching {
                    watching.ended(&handled);
                }
                drop(admission);
                if handled.is_ok() {
                    span.ended(Outcome::Succeeded.as_str(), None);
                    self.account.time(&wave, waited);
                    self.account.succeeded();
                    serving.done.push(delivery);
                } else {
                    job(span, delivery, &self.account).settle(handled);
                }
            }
            Started::Pending(handling) => {
                let handling = limited(handling, self.limits.time_out, watching, admission);
                serving.tasks.spawn(job(span, delivery, &self.account).run(handling));
            }
        }
    }
}

/// The waves of a consumer, without end. A future of its own for each would take an allocation.
fn deliveries(consumer: Consumer) -> BoxStream<'static, Result<Delivery, ConsumeError>> {
    stream::unfold(consumer, |consumer| async move { Some((consumer.receive().await, consumer)) }).boxed()
}

/// Gives back what the consumer holds. Without an answer of the server it goes on behind the scenes.
pub(super) async fn give_back(consumer: Consumer) {
    let _ = timeout(GIVING_BACK, consumer.close()).await;
}

impl DurablyServing {
    /// Acknowledges what was handled, together, and looks at the acknowledgements before.
    fn poll_acks(&mut self, consumer: &Consumer, context: &mut Context<'_>) {
        self.acknowledge();
        while let Poll::Ready(Some(acknowledged)) = self.acks.poll_next_unpin(context) {
            match acknowledged {
                Ok(()) => self.trouble.end(),
                Err(error) => {
                    self.trouble.begin(consumer, &error);
                    // The loop waits for what it was waiting for, and pauses from the next turn on.
                    context.waker().wake_by_ref();
                }
            }
        }
    }

    fn acknowledge(&mut self) {
        if !self.done.is_empty() {
            self.acks.push(Delivery::ack_all(std::mem::take(&mut self.done)).boxed());
        }
    }

    /// Waits until all handlers have ended, and all acknowledgements are written.
    async fn settle(&mut self) {
        loop {
            self.acknowledge();
            tokio::select! {
                biased;
                Some(acknowledged) = self.acks.next() => {
                    if let Err(error) = acknowledged {
                        tracing::warn!(error = error_chain(&error), "an acknowledgement was not written");
                    }
                }
                Some(ended) = self.tasks.join_next() => {
                    self.done.extend(unless_panicked(ended).flatten());
                }
                else => return,
            }
        }
    }
}

impl Trouble {
    /// Pauses, for longer each time.
    pub(super) fn begin(&mut self, consumer: &Consumer, error: &(dyn std::error::Error + 'static)) {
        if self.over.is_some() {
            return;
        }
        self.last = if self.last.is_zero() { PAUSES.0 } else { (self.last * 2).min(PAUSES.1) };
        let (consumer, pause) = (consumer.name(), self.last);
        tracing::warn!(consumer, error = error_chain(error), ?pause, "the consumer pauses");
        self.over = Some(sleep_until(Instant::now() + self.last).boxed());
    }

    pub(super) fn end(&mut self) {
        self.last = Duration::ZERO;
    }

    pub(super) fn poll_over(&mut self, context: &mut Context<'_>) -> Poll<()> {
        if let Some(over) = &mut self.over {
            ready!(over.poll_unpin(context));
            self.over = None;
        }
        Poll::Ready(())
    }
}

impl Job {
    /// Waits for the handler. Returns the delivery if it is to be acknowledged.
    fn run(
        self,
        handling: impl Future<Output = Result<Answer, BoxError>>,
    ) -> impl Future<Output = Option<Delivery>> {
        let span = self.span.clone();
        span.around(async move {
            let over = self.context.over.clone();
            let handled = tokio::select! {
                biased;
                handled = handling => handled.map_err(Cause::of),
                () = over.cancelled() => Err(Cause::ended_in_the_middle()),
            };
            self.concluded(handled)
        })
    }

    /// Reports a handler that has ended. Returns the delivery if it is to be acknowledged.
    pub(super) fn settle(self, handled: Result<Answer, BoxError>) -> Option<Delivery> {
        let span = self.span.clone();
        span.in_scope(|| self.concluded(handled.map_err(Cause::of)))
    }

    /// Reports the result of the handler in the log of the consumer, in the account and in the log of the process.
    fn concluded(self, handled: Result<Answer, Cause>) -> Option<Delivery> {
        let Self { context, consumer, delivery, open, span } = self;
        open.time(delivery.wave());
        let cause = match handled {
            Ok(_) => {
                span.ended(Outcome::Succeeded.as_str(), None);
                open.settle(Outcome::Succeeded);
                return Some(delivery);
            }
            Err(cause) => cause,
        };
        let outcome = conclude(&context, &consumer, delivery, &cause);
        span.ended(outcome.as_str(), Some(&cause));
        open.settle(outcome);
        None
    }
}

/// Reports a failure to the consumer, and returns how it counts.
fn conclude(context: &HandlerContext, consumer: &Consumer, delivery: Delivery, cause: &Cause) -> Outcome {
    let (hint, wave): (_, Wave) = (cause.to_string(), delivery.wave().clone());
    let outcome = match cause.outcome {
        Outcome::Rejected | Outcome::Abandoned => cause.outcome,
        _ if !delivery.is_last_attempt() => Outcome::Retried,
        outcome => outcome,
    };
    let (service, attempt) = (context.emitter.source().name(), delivery.attempt());
    match outcome {
        Outcome::Retried => {
            let consumer = consumer.name();
            tracing::debug!(service, consumer, wave = %wave.id(), attempt, hint, "will be handled again");
            delivery.nack(&hint);
        }
        Outcome::Abandoned => delivery.release(),
        Outcome::Rejected => delivery.give_up(&hint),
        _ => delivery.nack(&hint),
    }
    if outcome != Outcome::Retried {
        context.failures.log(service, &wave, outcome, &hint);
    }
    outcome
}
