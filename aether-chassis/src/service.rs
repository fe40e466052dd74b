//! A service: handlers on a vibrator, behind limits.
//!
//! Made by a program with [`Service::builder`] and run until it shall end. It takes waves out of one inbox, strongest
//! first, only when there is room to handle them; calls the handler of each in a task of its own; answers, counts and
//! reports. What is not handled here is durability: a wave that was taken by a process that dies is gone.
//!
//! ```
//! use aether_chassis::{CancellationToken, Json, Service, State};
//! use aether_core::{Aether, Emitter, EmitError, Vibrator, Wave};
//!
//! async fn reserve(State(prefix): State<&'static str>, Json(order): Json<u32>, emitter: Emitter) -> Result<Json<String>, EmitError> {
//!     emitter.emit_wave("stock.reserved", &order).await?; // names the question as its cause, by itself
//!     Ok(Json(format!("{prefix}-{order}")))               // the answer
//! }
//!
//! # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let aether = Aether::local();
//! let service = Service::builder("stock")
//!     .state("shelf")
//!     .group("stock") // of several instances one handles each wave
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
mod failure;
mod limits;
mod log_throttle;
pub(crate) mod panics;
mod report;
mod stack;

pub use builder::{ServiceBuilder, ServiceError};
pub use limits::{Breaker, LimitsError};
pub use report::{ServiceReport, ServiceTally};
pub use stack::Handling;

use std::fmt;
use std::future::pending;
use std::sync::Arc;
use std::time::Duration;

use aether_core::{Emitter, Pattern, Vibrator, Wave};
use futures_util::FutureExt;
use tokio::task::coop::unconstrained;
use tokio::task::{JoinError, JoinSet};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;

use attempt::{Again, Attempt, Desk};
use circuit::{Admission, Circuit};
use failure::{Cause, CircuitOpen};
use limits::Limits;
use log_throttle::LogThrottle;
use report::Outcome;
use stack::{Stack, call};

/// How long handlers that were told to end may take to let go; one that blocks its thread does not even then.
const LETTING_GO: Duration = Duration::from_millis(100);

/// A service, ready: its channels are heard, and what comes waits in its inbox until it runs.
#[must_use = "waves wait until run_until() handles them"]
pub struct Service {
    vibrator: Vibrator,
    heard: Vec<Pattern>,
    stack: Stack,
    circuit: Option<Circuit>,
    limits: Limits,
    tally: ServiceTally,
}

/// What happens next in a running service.
enum Next {
    /// There is room, or a wave to be handled.
    Go,
    Handle(Wave),
    Ended(Result<Option<Again>, JoinError>),
    ShutDown,
}

impl Service {
    /// A service in the making, under the name of its vibrator.
    pub fn builder(name: &str) -> ServiceBuilder {
        ServiceBuilder::new(name)
    }

    /// Emits under the name of the service, for what is not caused by a wave, such as a timer. Handlers have their own,
    /// as an argument.
    #[must_use]
    pub fn emitter(&self) -> Emitter {
        self.vibrator.emitter()
    }

    /// The running account, which can be read at any time, also after the service has ended.
    #[must_use]
    pub fn tally(&self) -> ServiceTally {
        self.tally.clone()
    }

    /// Handles waves until `shutdown` is cancelled or the medium was closed. Then it hears no more, lets what is being
    /// handled go on for the grace of its options, and tells the askers of the rest that it is gone. The report says
    /// what became of every wave.
    ///
    /// # Errors
    /// [`ServiceError::Layer`] if a layer of the user failed for good; the account is in the tally.
    ///
    /// # Cancel safety
    /// Cancelled before completion, the service has ended: handlers are ended where they await, and counted as
    /// abandoned in the tally.
    pub async fn run_until(mut self, shutdown: CancellationToken) -> Result<ServiceReport, ServiceError> {
        let desk = Arc::new(Desk {
            emitter: self.vibrator.emitter(),
            log_throttle: LogThrottle::default(),
            retry: self.limits.retry.clone(),
            closing: CancellationToken::new(),
            over: CancellationToken::new(),
        });
        let mut tasks = JoinSet::new();
        let served = self.serve(&desk, &mut tasks, &shutdown).await;
        desk.closing.cancel();
        self.drain(&desk, &mut tasks).await;
        served.map(|()| self.tally.report())
    }

    async fn serve(
        &mut self,
        desk: &Arc<Desk>,
        tasks: &mut JoinSet<Option<Again>>,
        shutdown: &CancellationToken,
    ) -> Result<(), ServiceError> {
        // Without a circuit breaker every wave is admitted, and a service that sheds asks when it has one.
        let circuit = self.circuit.clone().filter(|_| !self.limits.shed_when_busy);
        let mut admission = None;
        loop {
            // Room first, then a wave: what has to wait waits in the inbox, where a stronger one overtakes it.
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
                Next::Handle(wave) => self.handle(wave, admission.take(), desk, tasks, shutdown).await?,
            }
        }
    }

    /// Starts the handling of a wave.
    async fn handle(
        &mut self,
        wave: Wave,
        mut admission: Option<Admission>,
        desk: &Arc<Desk>,
        tasks: &mut JoinSet<Option<Again>>,
        shutdown: &CancellationToken,
    ) -> Result<(), ServiceError> {
        if let Some(resend) = self.limits.retry.as_ref().filter(|_| wave.attempt() == 0) {
            resend.budget.deposit();
        }
        let attempt = Attempt { desk: Arc::clone(desk), wave: wave.clone(), open: self.tally.open() };
        if let Some(circuit) = self.circuit.as_ref().filter(|_| self.limits.shed_when_busy) {
            admission = circuit.try_admission();
            if admission.is_none() {
                attempt.fail(Cause::of(Box::new(CircuitOpen))).await;
                return Ok(());
            }
        }
        // Once more, as the room may have been found long ago: a layer that sheds decides now. Rarely, as when a layer of
        // the user has changed its mind meanwhile, it waits here.
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

    /// Puts a wave that is to be handled again back into the inbox.
    fn take_back(&self, ended: Result<Option<Again>, JoinError>) {
        match ended {
            Ok(Some(again)) => self.vibrator.put_back(again.into_wave()),
            Ok(None) => {}
            // Something panicked where it should not. The wave was counted when its task unwound.
            Err(error) => {
                tracing::error!(service = self.vibrator.source().name(), %error, "a task broke down")
            }
        }
    }

    /// Lets what is in flight end, and counts what is left.
    async fn drain(&mut self, desk: &Arc<Desk>, tasks: &mut JoinSet<Option<Again>>) {
        for pattern in &self.heard {
            // It was heard, so it is valid.
            let _ = self.vibrator.detune(pattern);
        }
        let grace = self.limits.grace;
        let orderly = async {
            // Unconstrained, or tokio would end the loop after some waves to let others run.
            while let Some(Some(wave)) = unconstrained(self.vibrator.receive()).now_or_never() {
                let attempt = Attempt { desk: Arc::clone(desk), wave, open: self.tally.open() };
                attempt.fail(Cause::shut_down(Outcome::Left)).await;
            }
            settle(tasks).await;
        };
        if timeout(grace, orderly).await.is_err() {
            desk.over.cancel();
            if timeout(LETTING_GO, settle(tasks)).await.is_err() {
                tasks.abort_all();
            }
        }
        let (service, report) = (self.vibrator.source().name(), self.tally.report());
        if report.left + report.abandoned + report.in_flight > 0 {
            tracing::warn!(service, %report, "the service has ended with waves that it did not handle");
        } else {
            tracing::debug!(service, %report, "the service has ended");
        }
    }
}

/// Waits until an admission does not hold any more: the circuit has opened since.
async fn revoked(circuit: Option<&Circuit>, admission: Option<&Admission>) {
    match (circuit, admission) {
        (Some(circuit), Some(Admission::Closed)) => circuit.opened().await,
        _ => pending().await,
    }
}

/// Waits until all handlings have ended; nothing is tried again.
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
            .field("report", &self.tally.report())
            .finish_non_exhaustive()
    }
}
