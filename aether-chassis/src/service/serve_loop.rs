//! The loop that serves one set of handlers: takes waves out of its inbox, when there is room, and starts their handlers.
//!
//! [`Service::run_until`](super::Service::run_until) runs one for each set. It decides when a wave is received; the
//! stack decides how it is handled, and `attempt.rs` what becomes of it.

use std::future::pending;
use std::sync::Arc;
use std::time::Duration;

use aether_core::{Emitter, Pattern, Receiver, Wave};
use futures_util::FutureExt;
use tokio::task::coop::unconstrained;
use tokio::task::{JoinError, JoinSet};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;

use super::ServiceCounters;
use super::attempt::{Again, Attempt, HandlerContext};
use super::circuit::{Admission, Circuit};
use super::error::ServiceError;
use super::failure::{Cause, CircuitOpen};
use super::failure_log::FailureLog;
use super::limits::LimitsInForce;
use super::report::Outcome;
use super::stack::{Stack, call};

/// How long cancelled handlers may take to end. A handler that blocks its thread does not end even then.
const LETTING_GO: Duration = Duration::from_millis(100);

/// One set of handlers with its inbox.
pub(super) struct ServeLoop {
    /// That of the service.
    pub(super) emitter: Emitter,
    pub(super) receiver: Receiver,
    pub(super) heard: Vec<Pattern>,
    pub(super) stack: Stack,
    pub(super) circuit: Option<Circuit>,
    pub(super) limits: LimitsInForce,
    pub(super) counters: ServiceCounters,
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

/// The next step of a running service.
enum Next {
    /// There is room to handle a wave.
    Go,
    Handle(Wave),
    Ended(Result<Option<Again>, JoinError>),
    ShutDown,
}

impl ServeLoop {
    /// Handles waves until the service ends, then waits for running handlers and accounts for the remaining waves.
    pub(super) async fn run(mut self, ending: Ending) -> Result<(), ServiceError> {
        // Also where this panics or is cancelled.
        let _ends_the_others = ending.shutdown.clone().drop_guard();
        let context = Arc::new(HandlerContext {
            emitter: self.emitter.clone(),
            failures: FailureLog::new(&self.heard),
            retry: self.limits.retry.clone(),
            closing: ending.closing,
            over: CancellationToken::new(),
        });
        // Ends with this.
        let mut counting = JoinSet::new();
        let counted = Arc::clone(&context);
        counting.spawn(async move { counted.failures.log_counts(counted.emitter.source().name()).await });
        let mut tasks = JoinSet::new();
        let served = self.serve(&context, &mut tasks, &ending.shutdown).await;
        ending.shutdown.cancel();
        context.closing.cancel();
        self.drain(ending.grace, &context, &mut tasks).await;
        context.failures.log_rest(context.emitter.source().name());
        served
    }

    async fn serve(
        &mut self,
        context: &Arc<HandlerContext>,
        tasks: &mut JoinSet<Option<Again>>,
        shutdown: &CancellationToken,
    ) -> Result<(), ServiceError> {
        // Without a circuit breaker every wave is admitted. A service that sheds asks for admission when it has
        // received a wave.
        let circuit = self.circuit.clone().filter(|_| !self.limits.shed_when_busy);
        let mut admission = None;
        loop {
            // Wait for room before receiving: waves wait in the inbox, where a stronger one can overtake them.
            let next = tokio::select! {
                biased;
                () = shutdown.cancelled() => Next::ShutDown,
                Some(ended) = tasks.join_next() => Next::Ended(ended),
                ready = self.stack.ready() => ready.map(|_| Next::Go).map_err(ServiceError::Layer)?,
            };
            let next = match (next, &circuit) {
                (Next::Go, Some(circuit)) if admission.is_none() => tokio::select! {
                    biased;
                    () = shutdown.cancelled() => Next::ShutDown,
                    Some(ended) = tasks.join_next() => Next::Ended(ended),
                    admitted = circuit.admission() => {
                        admission = Some(admitted);
                        Next::Go
                    }
                },
                (next, _) => next,
            };
            let next = match next {
                Next::Go => tokio::select! {
                    biased;
                    () = shutdown.cancelled() => Next::ShutDown,
                    Some(ended) = tasks.join_next() => Next::Ended(ended),
                    () = revoked(circuit.as_ref(), admission.as_ref()) => {
                        admission = None;
                        continue;
                    }
                    wave = self.receiver.receive() => wave.map_or(Next::ShutDown, Next::Handle),
                },
                other => other,
            };
            match next {
                Next::Go => {}
                Next::Ended(ended) => self.take_back(ended),
                Next::ShutDown => return Ok(()),
                Next::Handle(wave) => self.handle(wave, admission.take(), context, tasks, shutdown).await?,
            }
        }
    }

    /// Starts the handling of a wave.
    async fn handle(
        &mut self,
        wave: Wave,
        mut admission: Option<Admission>,
        context: &Arc<HandlerContext>,
        tasks: &mut JoinSet<Option<Again>>,
        shutdown: &CancellationToken,
    ) -> Result<(), ServiceError> {
        if let Some(resend) = self.limits.retry.as_ref().filter(|_| wave.attempt() == 0) {
            resend.budget.deposit();
        }
        let attempt = Attempt::new(context, wave.clone(), self.counters.open());
        if let Some(circuit) = self.circuit.as_ref().filter(|_| self.limits.shed_when_busy) {
            admission = circuit.try_admission();
            if admission.is_none() {
                attempt.fail(Cause::of(Box::new(CircuitOpen))).await;
                return Ok(());
            }
        }
        // Check readiness again, because the first check may be long ago: a layer that sheds decides now. This rarely
        // waits, for example when a user layer is no longer ready.
        let ready = tokio::select! {
            biased;
            ready = self.stack.ready() => ready.map(|_| true).map_err(ServiceError::Layer),
            () = shutdown.cancelled() => Ok(false),
        };
        match ready {
            Ok(true) => {
                let handling = attempt.span.in_scope(|| call(&mut self.stack, wave));
                tasks.spawn(attempt.run(async move {
                    let handled = handling.await;
                    drop(admission);
                    handled
                }));
                Ok(())
            }
            Ok(false) => {
                attempt.fail(Cause::shut_down(Outcome::Left)).await;
                Ok(())
            }
            Err(error) => {
                attempt.fail(Cause::shut_down(Outcome::Abandoned)).await;
                Err(error)
            }
        }
    }

    /// Puts a wave that will be retried back into the inbox.
    fn take_back(&self, ended: Result<Option<Again>, JoinError>) {
        match ended {
            Ok(Some(again)) => self.receiver.put_back(again.into_wave()),
            Ok(None) => {}
            // A panic outside of handlers and layers. The wave was counted when its task unwound.
            Err(error) => {
                tracing::error!(service = self.emitter.source().name(), %error, "a task panicked")
            }
        }
    }

    /// Waits for running handlers, and counts the remaining waves.
    async fn drain(
        &mut self,
        grace: Duration,
        context: &Arc<HandlerContext>,
        tasks: &mut JoinSet<Option<Again>>,
    ) {
        for pattern in &self.heard {
            // The pattern was subscribed, so it is valid.
            let _ = self.receiver.detune(pattern);
        }
        let orderly = async {
            // Unconstrained: otherwise tokio's cooperative budget would end the loop early.
            while let Some(Some(wave)) = unconstrained(self.receiver.receive()).now_or_never() {
                let attempt = Attempt::new(context, wave, self.counters.open());
                attempt.fail(Cause::shut_down(Outcome::Left)).await;
            }
            settle(tasks).await;
        };
        if timeout(grace, orderly).await.is_err() {
            context.over.cancel();
            if timeout(LETTING_GO, settle(tasks)).await.is_err() {
                tasks.abort_all();
            }
        }
    }
}

/// Waits until the circuit opens, which revokes the admission.
async fn revoked(circuit: Option<&Circuit>, admission: Option<&Admission>) {
    match (circuit, admission) {
        (Some(circuit), Some(Admission::Closed)) => circuit.opened().await,
        _ => pending().await,
    }
}

/// Waits until all attempts have ended. Nothing is retried.
async fn settle(tasks: &mut JoinSet<Option<Again>>) {
    while let Some(ended) = tasks.join_next().await {
        if let Ok(Some(again)) = ended {
            again.give_up().await;
        }
    }
}
