//! A service: handlers on a vibrator, behind limits.
//!
//! A program makes it with [`Service::builder`] and runs it until shutdown. It takes waves out of one inbox, strongest
//! first and only when there is room to handle them. It calls the handler of each wave, answers, counts and reports. It is
//! not durable: a wave that was taken by a process that dies is lost.
//!
//! A handler that is quick is polled in the task of its set, without a task of its own. If it is then pending, it goes on
//! in a task. A handler whose first poll takes longer than 20 us, because it computes or blocks, begins in a task, so that
//! several run on several processors.
//!
//! ```
//! use aether_service::{CancellationToken, Json, Service, State};
//! use aether_core::{Aether, Emitter, EmitError, Vibrator, Wave};
//!
//! async fn reserve(State(prefix): State<&'static str>, Json(order): Json<u32>, emitter: Emitter) ->
//! Result<Json<String>, EmitError> {
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

mod about;
mod accounting;
mod attempt;
mod batch_loop;
mod builder;
mod cancelled;
mod circuit;
mod corroboration;
mod durable;
mod durable_batch_loop;
mod durable_loop;
mod echo_loop;
mod error;
mod failure;
mod failure_log;
mod handlers;
mod lane;
mod lanes;
mod letter_sets;
mod limits;
mod live_rate;
mod log_throttle;
pub(crate) mod panics;
mod pauses;
mod report;
mod serve_loop;
mod span;
mod stack;

pub use builder::ServiceBuilder;
pub use durable::Durable;
pub use error::ServiceError;
pub use handlers::Handlers;
pub use limits::{Breaker, Limits, LimitsError};
pub(crate) use live_rate::{LiveRate, RateLayer};
pub use report::{ServiceCounters, ServiceReport};
pub use stack::Handling;

use std::fmt;
use std::panic::resume_unwind;
use std::sync::Arc;
use std::time::Duration;

use aether_core::echo::EchoesError;
use aether_core::{Echoes, Emitter, Pattern, Source};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::description::{self, Description};
use crate::service_manager;

use accounting::Accounted;
use batch_loop::BatchLoop;
use circuit::Circuit;
use corroboration::Corroborator;
use durable_batch_loop::DurableBatchLoop;
use durable_loop::DurableLoop;
use echo_loop::EchoLoop;
use limits::LimitsInForce;
use serve_loop::{Ending, ServeLoop};

/// A service that is ready to run. It is already subscribed; waves wait in its inboxes until it runs.
///
/// Its own handlers are one set; [`ServiceBuilder::handlers`] adds others. Each set has an inbox and this stack:
///
/// ```text
/// inbox ─▶ shed when busy ▸ rate ▸ concurrency ▸ layers of the service ▸ layers of the set
///   ▲                                          ▸ circuit breaker ▸ time-out ▸ handler ─▶ answer
///   │                                                                           │
///   └── half as strong, after a pause, if the retry budget covers it ◀── failed ┘
///                                           otherwise: log, and the asker or the source
/// ```
///
/// A wave leaves its inbox when all of the stack has room for it, the circuit breaker included. Until then it waits
/// there, where a stronger wave overtakes it. The limits of a set say nothing about the other sets.
#[must_use = "waves wait until run_until() handles them"]
pub struct Service {
    emitter: Emitter,
    /// One for each set of handlers.
    loops: Vec<SetLoop>,
    echoes: Option<EchoLoop>,
    corroborators: Vec<Corroborator>,
    grace: Duration,
    counters: ServiceCounters,
    description: Arc<Description>,
    /// Its part of the account and of the readiness of the process.
    accounted: Accounted,
    /// Patterns and groups, for the log.
    hears: String,
}

/// The loop of a set.
enum SetLoop {
    /// Each wave has a call of its handler.
    Each(ServeLoop),
    Batches(BatchLoop),
    Durable(DurableLoop),
    DurableBatches(DurableBatchLoop),
}

impl SetLoop {
    async fn run(self, ending: Ending) -> Result<(), ServiceError> {
        match self {
            Self::Each(set) => set.run(ending).await,
            Self::Batches(set) => set.run(ending).await,
            Self::Durable(set) => set.run(ending).await,
            Self::DurableBatches(set) => set.run(ending).await,
        }
    }

    /// The circuit breaker of the set, if it has one, with the patterns that the set hears.
    fn circuit(&self) -> Option<(Circuit, String)> {
        let (circuit, heard) = match self {
            Self::Each(set) => (&set.circuit, &set.heard),
            Self::Batches(set) => (&set.circuit, &set.heard),
            Self::Durable(set) => (&set.circuit, &set.heard),
            Self::DurableBatches(set) => (&set.circuit, &set.heard),
        };
        let heard: Vec<_> = heard.iter().map(Pattern::as_str).collect();
        Some((circuit.clone()?, heard.join(", ")))
    }

    const fn limits(&self) -> &LimitsInForce {
        match self {
            Self::Each(set) => &set.limits,
            Self::Batches(set) => &set.limits,
            Self::Durable(set) => &set.limits,
            Self::DurableBatches(set) => &set.limits,
        }
    }
}

impl Service {
    /// A builder for a service. Its vibrator has the same name.
    pub fn builder(name: &str) -> ServiceBuilder {
        ServiceBuilder::new(name)
    }

    /// An emitter under the name of the service, for waves that no other wave caused, such as the waves of a timer.
    /// Handlers take their own as an argument.
    #[must_use]
    pub fn emitter(&self) -> Emitter {
        self.emitter.clone()
    }

    /// The echoes of the waves that the service emits, from now on, for a task of its own:
    /// [`Emitter::echoes`]. [`ServiceBuilder::on_echo`] hands them to a handler instead.
    ///
    /// # Errors
    /// [`EchoesError::Taken`] if the service has a handler of echoes, or an earlier stream still exists;
    /// [`EchoesError::Join`] if the medium is closed.
    ///
    /// # Cancel safety
    /// Cancelled before completion, nobody listens.
    pub async fn echoes(&self) -> Result<Echoes, EchoesError> {
        self.emitter.echoes().await
    }

    /// The live counters of the service. They can be read at any time, also after the service has ended.
    #[must_use]
    pub fn counters(&self) -> ServiceCounters {
        self.counters.clone()
    }

    /// The messages that the service receives, answers and emits.
    #[must_use]
    pub fn description(&self) -> &Description {
        &self.description
    }

    /// The [description](crate::description) as an AsyncAPI 3.1 document.
    #[must_use]
    pub fn asyncapi(&self) -> serde_json::Value {
        let Description { service, version, summary, .. } = &*self.description;
        description::asyncapi(service, version, summary, std::slice::from_ref(&*self.description))
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
    pub async fn run_until(self, shutdown: CancellationToken) -> Result<ServiceReport, ServiceError> {
        let Self {
            emitter,
            loops,
            echoes,
            corroborators,
            grace,
            counters,
            accounted: _accounted,
            hears,
            description: _,
        } = self;
        let mut running =
            Running { service: emitter.source().clone(), counters: counters.clone(), ended: false };
        tracing::info!(service = %emitter.source(), hears, "the service started");
        service_manager::ready();
        // One set that ends, for whatever reason, ends the others.
        let ending = Ending { shutdown: shutdown.child_token(), closing: CancellationToken::new(), grace };
        let mut corroborating = JoinSet::new();
        for corroborator in corroborators {
            corroborating.spawn(corroborator.run(ending.shutdown.clone()));
        }
        let (echoes_over, mut hears_echoes) = (CancellationToken::new(), JoinSet::new());
        if let Some(echoes) = echoes {
            hears_echoes.spawn(echoes.serve(echoes_over.clone(), grace));
        }
        let mut loops = loops.into_iter();
        let first = loops.next();
        // Each further set has a task of its own: in one task, a busy set would use up the cooperative budget of all.
        let mut others: JoinSet<_> = loops.map(|set| set.run(ending.clone())).collect();
        let mut served = match first {
            Some(first) => first.run(ending).await,
            None => Ok(()),
        };
        while let Some(ended) = others.join_next().await {
            match ended {
                Ok(other) => served = served.and(other),
                Err(error) if error.is_panic() => resume_unwind(error.into_panic()),
                // The runtime is shutting down.
                Err(_) => {}
            }
        }
        // Last, because the waves of the handlers may have failed.
        echoes_over.cancel();
        while hears_echoes.join_next().await.is_some() {}
        running.ended = true;
        let (service, report) = (emitter.source(), counters.report());
        if report.left + report.abandoned + report.in_flight > 0 {
            tracing::warn!(%service, %report, "the service ended with unhandled waves");
        } else {
            tracing::info!(%service, %report, "the service ended");
        }
        served.map(|()| report)
    }
}

/// A service that runs. Dropped before it has ended, it logs how many handlers are ended in the middle.
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

impl fmt::Debug for Service {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Service")
            .field("source", self.emitter.source())
            .field("sets", &self.loops.iter().map(SetLoop::limits).collect::<Vec<_>>())
            .field("report", &self.counters.report())
            .finish_non_exhaustive()
    }
}
