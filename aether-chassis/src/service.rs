//! A service: handlers on a vibrator, behind limits.
//!
//! A program makes it with [`Service::builder`] and runs it until shutdown. It takes waves out of one inbox, strongest
//! first and only when there is room to handle them. It calls the handler of each wave in a separate task, answers,
//! counts and reports. It is not durable: a wave that was taken by a process that dies is lost.
//!
//! ```
//! use aether_chassis::{CancellationToken, Json, Service, State};
//! use aether_core::{Aether, Emitter, EmitError, Vibrator, Wave};
//!
//! async fn reserve(State(prefix): State<&'static str>, Json(order): Json<u32>, emitter: Emitter) -> Result<Json<String>, EmitError> {
//!     emitter.emit_wave("stock.reserved", &order).await?; // names the question as its cause
//!     Ok(Json(format!("{prefix}-{order}")))               // the answer
//! }
//!
//! # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let aether = Aether::local();
//! let service = Service::builder("stock")
//!     .state("shelf")
//!     .group("stock") // one of several instances handles each wave
//!     .on_query("stock.reserve", reserve)
//!     .build(&aether)
//!     .await?;
//! let shutdown = CancellationToken::new();
//! let running = tokio::spawn(service.run_until(shutdown.clone()));
//!
//! let shop = Vibrator::create("shop", &aether).await?;
//! assert_eq!(shop.ask_wave("stock.reserve", &17).await?.json::<String>()?, "shelf-17");
//! shutdown.cancel();
//! let report = running.await??;
//! assert_eq!((report.received, report.succeeded), (1, 1));
//! # Ok(()) }
//! ```

mod attempt;
mod builder;
mod circuit;
mod corroboration;
mod failure;
mod limits;
mod log_throttle;
pub(crate) mod panics;
mod report;
mod stack;

pub use builder::{ServiceBuilder, ServiceError};
pub use limits::{Breaker, LimitsError};
pub use report::{ServiceCounters, ServiceReport};
pub use stack::Handling;

use std::fmt;
use std::future::pending;
use std::sync::Arc;
use std::time::Duration;

use aether_core::{Emitter, Pattern, Source, Vibrator, Wave};
use futures_util::FutureExt;
use tokio::task::coop::unconstrained;
use tokio::task::{JoinError, JoinSet};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;

use attempt::{Again, Attempt, HandlerContext};
use circuit::{Admission, Circuit};
use corroboration::Corroborator;
use failure::{Cause, CircuitOpen};
use limits::Limits;
use log_throttle::LogThrottle;
use report::Outcome;
use stack::{Stack, call};

/// How long cancelled handlers may take to end. A handler that blocks its thread does not end even then.
const LETTING_GO: Duration = Duration::from_millis(100);

/// A service that is ready to run. It is already subscribed; waves wait in its inbox until it runs.
#[must_use = "waves wait until run_until() handles them"]
pub struct Service {
    vibrator: Vibrator,
    heard: Vec<Pattern>,
    corroborators: Vec<Corroborator>,
    stack: Stack,
    circuit: Option<Circuit>,
    limits: Limits,
    counters: ServiceCounters,
}

/// The next step of a running service.
enum Next {
    /// There is room to handle a wave.
    Go,
    Handle(Wave),
    Ended(Result<Option<Again>, JoinError>),
    ShutDown,
}

impl Service {
    /// A builder for a service. The name is that of its vibrator.
    pub fn builder(name: &str) -> ServiceBuilder {
        ServiceBuilder::new(name)
    }

    /// An emitter under the name of the service, for waves that no other wave caused, such as those of a timer.
    /// Handlers take their own as an argument.
    #[must_use]
    pub fn emitter(&self) -> Emitter {
        self.vibrator.emitter()
    }

    /// The live counters of the service. They can be read at any time, also after the service has ended.
    #[must_use]
    pub fn counters(&self) -> ServiceCounters {
        self.counters.clone()
    }

    /// Handles waves until `shutdown` is cancelled or the medium is closed. Then it unsubscribes, lets running handlers
    /// finish within the grace period of its options, and sends a failure to the askers of all remaining waves. The
    /// report accounts for every wave.
    ///
    /// # Errors
    /// [`ServiceError::Layer`] if a user layer failed permanently. The counters keep the account.
    ///
    /// # Cancel safety
    /// Cancelled before completion, the service has ended. Handlers are ended in the middle, at their next await
    /// point, and count as abandoned.
    pub async fn run_until(mut self, shutdown: CancellationToken) -> Result<ServiceReport, ServiceError> {
        let context = Arc::new(HandlerContext {
            emitter: self.vibrator.emitter(),
            log_throttle: LogThrottle::default(),
            retry: self.limits.retry.clone(),
            closing: CancellationToken::new(),
            over: CancellationToken::new(),
        });
        let mut running = Running {
            service: self.vibrator.source().clone(),
            counters: self.counters.clone(),
            ended: false,
        };
        let corroborators = std::mem::take(&mut self.corroborators);
        let corroborating: JoinSet<()> = corroborators.into_iter().map(Corroborator::run).collect();
        let mut tasks = JoinSet::new();
        let served = self.serve(&context, &mut tasks, &shutdown).await;
        drop(corroborating);
        context.closing.cancel();
        self.drain(&context, &mut tasks).await;
        running.ended = true;
        served.map(|()| self.counters.report())
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
                    wave = self.vibrator.receive() => wave.map_or(Next::ShutDown, Next::Handle),
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
        let attempt =
            Attempt { context: Arc::clone(context), wave: wave.clone(), open: self.counters.open() };
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
                let handling = call(&mut self.stack, wave);
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
            Ok(Some(again)) => self.vibrator.put_back(again.into_wave()),
            Ok(None) => {}
            // A panic outside of handlers and layers. The wave was counted when its task unwound.
            Err(error) => {
                tracing::error!(service = self.vibrator.source().name(), %error, "a task panicked")
            }
        }
    }

    /// Waits for running handlers, and counts the remaining waves.
    async fn drain(&mut self, context: &Arc<HandlerContext>, tasks: &mut JoinSet<Option<Again>>) {
        for pattern in &self.heard {
            // The pattern was subscribed, so it is valid.
            let _ = self.vibrator.detune(pattern);
        }
        let grace = self.limits.grace;
        let orderly = async {
            // Unconstrained: otherwise tokio's cooperative budget would end the loop early.
            while let Some(Some(wave)) = unconstrained(self.vibrator.receive()).now_or_never() {
                let attempt = Attempt { context: Arc::clone(context), wave, open: self.counters.open() };
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
        let (service, report) = (self.vibrator.source().name(), self.counters.report());
        if report.left + report.abandoned + report.in_flight > 0 {
            tracing::warn!(service, %report, "the service ended with unhandled waves");
        } else {
            tracing::debug!(service, %report, "the service ended");
        }
    }
}

/// A service that runs. Dropped before it has ended, it logs how many handlers end in the middle.
struct Running {
    service: Source,
    counters: ServiceCounters,
    ended: bool,
}

impl Drop for Running {
    fn drop(&mut self) {
        let handlers = self.counters.report().in_flight;
        if !self.ended && handlers > 0 {
            let service = self.service.name();
            tracing::warn!(
                service,
                handlers,
                "the service was dropped: its handlers are ended in the middle"
            );
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

impl fmt::Debug for Service {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Service")
            .field("vibrator", &self.vibrator)
            .field("limits", &self.limits)
            .field("report", &self.counters.report())
            .finish_non_exhaustive()
    }
}
