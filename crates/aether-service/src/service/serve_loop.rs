//! The loop that serves one set of handlers: takes waves out of its inbox, when there is room, and starts their handlers.
//!
//! [`Service::run_until`](super::Service::run_until) runs one for each set. It decides when a wave is received; the
//! stack decides how it is handled, and `attempt.rs` what becomes of it.

use std::future::poll_fn;
use std::sync::Arc;
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use aether_core::{Emitter, Pattern, Receiver, Wave};
use futures_util::future::BoxFuture;
use futures_util::{FutureExt, StreamExt};
use tokio::task::JoinSet;
use tokio::task::coop::unconstrained;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tower::timeout::error::Elapsed;

use super::attempt::{Again, Attempt, HandlerContext};
use super::cancelled::Cancelled;
use super::circuit::{Admission, Admitting, Circuit, Watching};
use super::error::ServiceError;
use super::failure::{Cause, CircuitOpen};
use super::lane::{Handled, Started};
use super::lanes::Lanes;
use super::limits::LimitsInForce;
use super::pauses::{Pauses, unless_panicked};
use super::report::{LoopAccount, Outcome};
use super::stack::{Stack, call, caught, poll_ready};

/// How long cancelled handlers may take to end. A handler that blocks its thread does not end even then.
pub(super) const LETTING_GO: Duration = Duration::from_millis(100);

/// One set of handlers with its inbox.
pub(super) struct ServeLoop {
    /// The emitter of the service.
    pub(super) emitter: Emitter,
    pub(super) receiver: Receiver,
    pub(super) heard: Vec<Pattern>,
    pub(super) handling: SetHandling,
    pub(super) circuit: Option<Circuit>,
    /// Without the circuit breaker if the service sheds when busy: it asks when it has received a wave.
    pub(super) admitting: Admitting,
    pub(super) limits: LimitsInForce,
    pub(super) account: LoopAccount,
}

/// How the sets of a service end.
#[derive(Clone)]
pub(super) struct Ending {
    /// Cancelled by the owner of the service, and by the first set that ends.
    pub(super) shutdown: CancellationToken,
    /// Cancelled when the first set has ended. Nothing is retried afterwards.
    pub(super) closing: CancellationToken,
    pub(super) grace: Duration,
}

/// How the waves of a set are handled.
pub(super) enum SetHandling {
    /// Directly.
    Lanes(Lanes),
    /// Through layers of tower.
    Stack(Stack),
}

/// The state of a loop while it runs.
struct Serving {
    context: Arc<HandlerContext>,
    /// Handlers that were pending, and failed waves until they are reported.
    tasks: JoinSet<Option<Again>>,
    pauses: Pauses,
    shutdown: Cancelled,
}

impl ServeLoop {
    /// Handles waves until the service ends, then waits for running handlers and accounts for the remaining waves.
    pub(super) async fn run(mut self, ending: Ending) -> Result<(), ServiceError> {
        // Also where this panics or is cancelled.
        let _ends_the_others = ending.shutdown.clone().drop_guard();
        let (context, _counting) =
            HandlerContext::begin(&self.emitter, &self.heard, self.limits.retry.clone(), ending.closing);
        let shutdown = Cancelled::new(ending.shutdown.clone());
        let (tasks, pauses) = (JoinSet::new(), Pauses::default());
        let mut serving = Serving { context: Arc::clone(&context), tasks, pauses, shutdown };
        let served = poll_fn(|waking| {
            serving.shutdown.register(waking);
            let polled = self.poll_serve(&mut serving, waking);
            self.account.flush();
            polled
        });
        let served = served.await;
        ending.shutdown.cancel();
        context.closing.cancel();
        self.drain(ending.grace, &context, &mut serving).await;
        context.failures.log_rest(context.emitter.source().name());
        served
    }

    /// Handles waves until the service ends. It never waits with a wave in its hands: it takes one when there is room to
    /// handle it, so that all others wait in the inbox, where a stronger one can overtake them.
    fn poll_serve(
        &mut self,
        serving: &mut Serving,
        context: &mut Context<'_>,
    ) -> Poll<Result<(), ServiceError>> {
        loop {
            if serving.shutdown.is_cancelled() {
                return Poll::Ready(Ok(()));
            }
            while let Poll::Ready(Some(ended)) = serving.tasks.poll_join_next(context) {
                if let Some(again) = unless_panicked(ended).flatten() {
                    serving.pauses.begin(again);
                }
            }
            while let Poll::Ready(wave) = serving.pauses.poll_ended(context) {
                self.receiver.put_back(wave);
            }
            ready!(self.poll_room(serving, context))?;
            let admission = ready!(self.admitting.poll(context));
            match ready!(self.receiver.poll_next_unpin(context)) {
                Some(wave) => self.handle(wave, admission, serving),
                None => return Poll::Ready(Ok(())),
            }
        }
    }

    /// Ready if one more wave may be handled. A task or a pause that ends wakes the loop.
    fn poll_room(&mut self, serving: &Serving, context: &mut Context<'_>) -> Poll<Result<(), ServiceError>> {
        let (running, most) = (serving.tasks.len(), self.limits.concurrency);
        // With a stack, those beyond the concurrency have ended and are being reported.
        let has_room = serving.pauses.leave_room_beside(running.saturating_sub(most));
        match &mut self.handling {
            _ if !has_room => Poll::Pending,
            SetHandling::Lanes(_) if running < most => Poll::Ready(Ok(())),
            SetHandling::Lanes(_) => Poll::Pending,
            SetHandling::Stack(stack) => poll_ready(stack, context).map_err(ServiceError::Layer),
        }
    }

    /// Handles a wave, or starts a task that does.
    fn handle(&mut self, wave: Wave, mut admission: Option<Admission>, serving: &mut Serving) {
        let Serving { context, tasks, .. } = serving;
        if let Some(resend) = self.limits.retry.as_ref().filter(|_| wave.attempt() == 0) {
            resend.budget.deposit();
        }
        self.account.open();
        let stack = match &mut self.handling {
            SetHandling::Lanes(_) => return self.handle_directly(wave, admission, serving),
            SetHandling::Stack(stack) => stack,
        };
        let waited = self.account.waited(&wave);
        let attempt = Attempt::new(context, wave.clone(), self.account.hand_over(waited));
        if let Some(circuit) = self.circuit.as_ref().filter(|_| self.limits.shed_when_busy) {
            admission = circuit.try_admission();
            if admission.is_none() {
                tasks.spawn(attempt.conclude(Err(Box::new(CircuitOpen))));
                return;
            }
        }
        let handling = attempt.span.in_scope(|| call(stack, wave));
        tasks.spawn(attempt.run(async move {
            let handled = handling.await;
            drop(admission);
            handled
        }));
    }

    /// Calls the handler of a wave without a stack. If it ends at once and there is nothing to answer, that is all.
    fn handle_directly(&mut self, wave: Wave, admission: Option<Admission>, serving: &mut Serving) {
        let Serving { context, tasks, pauses, .. } = serving;
        let SetHandling::Lanes(lanes) = &mut self.handling else { return };
        let (span, watching) = (context.span(&wave), self.circuit.as_ref().map(Circuit::watch));
        let waited = self.account.waited(&wave);
        let (wave, started) = span.in_scope(|| lanes.start(wave));
        let attempt = |wave, span, account: &LoopAccount| Attempt {
            context: Arc::clone(context),
            wave,
            open: account.hand_over(waited),
            span,
        };
        match started {
            Started::Ended(handled) => {
                if let Some(watching) = watching {
                    watching.ended(&handled);
                }
                drop(admission);
                if handled.as_ref().is_ok_and(|answer| answer.is_none() || !wave.expects_reply()) {
                    span.ended(Outcome::Succeeded.as_str(), None);
                    self.account.time(&wave, waited);
                    return self.account.succeeded();
                }
                let mut concluding = attempt(wave, span, &self.account).conclude(handled).boxed();
                match concluding.poll_unpin(&mut Context::from_waker(Waker::noop())) {
                    Poll::Ready(Some(again)) => pauses.begin(again),
                    Poll::Ready(None) => {}
                    Poll::Pending => drop(tasks.spawn(concluding)),
                }
            }
            Started::Pending(handling) => {
                let handling = limited(handling, self.limits.time_out, watching, admission);
                tasks.spawn(attempt(wave, span, &self.account).run(handling));
            }
        }
    }

    /// Waits for running handlers, and counts the remaining waves.
    async fn drain(
        &mut self,
        grace: Duration,
        context: &Arc<HandlerContext>,
        Serving { tasks, pauses, .. }: &mut Serving,
    ) {
        detune(&self.receiver, &self.heard);
        let orderly = async {
            fail_the_rest(&mut self.receiver, &mut self.account, context).await;
            settle(tasks, pauses).await;
        };
        if timeout(grace, orderly).await.is_err() {
            context.over.cancel();
            if timeout(LETTING_GO, settle(tasks, pauses)).await.is_err() {
                tasks.abort_all();
                pauses.abort();
            }
        }
    }
}

/// A handler in a task, with what goes around it where there is no stack.
pub(super) async fn limited(
    handling: BoxFuture<'static, Handled>,
    time_out: Option<Duration>,
    watching: Option<Watching>,
    admission: Option<Admission>,
) -> Handled {
    let handling = caught(handling);
    let handled = match time_out {
        Some(time_out) => timeout(time_out, handling).await.unwrap_or_else(|_| Err(Box::new(Elapsed::new()))),
        None => handling.await,
    };
    if let Some(watching) = watching {
        watching.ended(&handled);
    }
    drop(admission);
    handled
}

/// Ends the subscriptions of a set, so that no more waves arrive.
pub(super) fn detune(receiver: &Receiver, heard: &[Pattern]) {
    for pattern in heard {
        // The pattern was subscribed, so it is valid.
        let _ = receiver.detune(pattern);
    }
}

/// Fails the waves that wait in an inbox of a service that ends.
pub(super) async fn fail_the_rest(
    receiver: &mut Receiver,
    account: &mut LoopAccount,
    context: &Arc<HandlerContext>,
) {
    // Unconstrained: otherwise tokio's cooperative budget would end the loop early.
    while let Some(Some(wave)) = unconstrained(receiver.receive()).now_or_never() {
        account.open();
        let attempt = Attempt::new(context, wave, account.hand_over(None));
        attempt.fail(Cause::shut_down(Outcome::Left)).await;
    }
}

/// Waits until all attempts have ended. Nothing is retried.
pub(super) async fn settle(tasks: &mut JoinSet<Option<Again>>, pauses: &mut Pauses) {
    pauses.give_up().await;
    while let Some(ended) = tasks.join_next().await {
        if let Some(again) = unless_panicked(ended).flatten() {
            again.give_up().await;
        }
    }
}
