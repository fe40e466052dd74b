//! The tower stack of a set of handlers with layers: from the outside in, and the dispatch to handlers at the bottom.
//!
//! A set needs it where its author asked for layers, a rate, or shedding when busy. The handlers of any other set are
//! called directly (`lanes.rs`).
//!
//! ```text
//! shed when busy ▸ rate ▸ concurrency ▸ layers of the service ▸ layers of the set ▸ circuit breaker ▸ time-out ▸ handler
//! ```
//!
//! Each set of handlers has a stack of its own.
//!
//! Here the circuit breaker only counts results. Admission happens before a wave is received (`serve_loop.rs`).
//!
//! Limits apply back-pressure: without room, waves wait in the inbox, strongest first, and an overfull inbox sheds the
//! weakest. Only `shed when busy` refuses waves instead.

use std::future::poll_fn;
use std::panic::AssertUnwindSafe;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use aether_core::{Pattern, Wave};
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use tower::limit::{ConcurrencyLimitLayer, RateLimitLayer};
use tower::load_shed::LoadShedLayer;
use tower::timeout::TimeoutLayer;
use tower::util::{BoxCloneSyncService, BoxService, MapErrLayer};
use tower::{BoxError, Layer, Service as _, ServiceBuilder};

use super::circuit::{Circuit, Watched};
use super::failure::Panicked;
use super::lane::Run;
use super::limits::LimitsInForce;
use super::panics::{self, caught_in};
use crate::Rejection;
use crate::handler::{Answer, Delivery, Means, Payload};

/// The service that user layers wrap: the handlers with their time-out and circuit breaker, as a tower service from a
/// wave to an answer.
pub type Handling = BoxCloneSyncService<Wave, Answer, BoxError>;

/// The whole stack, with the limits.
pub(super) type Stack = BoxService<Wave, Answer, BoxError>;

/// A layer of the user, type-erased.
pub(super) type Wrap = dyn Fn(Handling) -> Handling + Send + Sync;

/// A handler and its channels.
pub(super) struct Route {
    pub(super) pattern: Pattern,
    pub(super) group: Option<Arc<str>>,
    pub(super) run: Arc<dyn Run>,
    /// The payload that the handler reads.
    pub(super) takes: Payload,
    /// The payload of its answer, for a handler of questions.
    pub(super) answers: Option<Payload>,
}

/// The bottom of the stack: calls the handler of a wave and catches its panics.
#[derive(Clone)]
pub(super) struct Dispatch {
    routes: Arc<[Route]>,
    means: Arc<Means>,
}

impl Dispatch {
    pub(super) fn new(routes: Vec<Route>, means: Arc<Means>) -> Self {
        Self { routes: routes.into(), means }
    }
}

impl tower::Service<Wave> for Dispatch {
    type Response = Answer;
    type Error = BoxError;
    type Future = BoxFuture<'static, Result<Answer, BoxError>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, wave: Wave) -> Self::Future {
        let (routes, delivery) = (Arc::clone(&self.routes), Delivery::with(wave, Arc::clone(&self.means)));
        let handled = async move {
            match routes.iter().find(|route| route.pattern.matches(delivery.wave().channel())) {
                Some(route) => route.run.call(&delivery).await,
                None => Err(Rejection::new("no handler for this channel").into()),
            }
        };
        // Panics are caught here as well, so that the circuit breaker counts them as failures.
        Box::pin(caught(handled))
    }
}

/// Turns a panic into an error. The service itself holds no lock, so a panic leaves only the handler's own data half
/// written.
pub(super) async fn caught<T>(handling: impl Future<Output = Result<T, BoxError>>) -> Result<T, BoxError> {
    let mut handled = pin!(AssertUnwindSafe(handling).catch_unwind());
    let handled = poll_fn(|context| panics::handling(|| handled.as_mut().poll(context))).await;
    handled.unwrap_or_else(|panic| Err(Box::new(Panicked::new(&*panic))))
}

/// Calls a ready stack. A panic in a user layer fails this wave, not the service.
pub(super) fn call(
    stack: &mut Stack,
    wave: Wave,
) -> impl Future<Output = Result<Answer, BoxError>> + Send + use<> {
    let called = caught_in(|| stack.call(wave));
    caught(async move { called?.await })
}

/// Whether a stack has room. A panic in a user layer is an error of that layer.
pub(super) fn poll_ready(stack: &mut Stack, context: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
    caught_in(|| stack.poll_ready(context)).unwrap_or_else(|panicked| Poll::Ready(Err(panicked.into())))
}

/// Wraps the handlers of a set in their layers and in the layers of the service.
pub(super) fn stack<L>(
    dispatch: Dispatch,
    limits: &LimitsInForce,
    circuit: Option<&Circuit>,
    layers_of_set: &[Box<Wrap>],
    layers: &L,
) -> Stack
where
    L: Layer<Handling>,
    L::Service: tower::Service<Wave, Response = Answer> + Send + 'static,
    <L::Service as tower::Service<Wave>>::Error: Into<BoxError>,
    <L::Service as tower::Service<Wave>>::Future: Send + 'static,
{
    let timed = ServiceBuilder::new().option_layer(limits.time_out.map(TimeoutLayer::new)).service(dispatch);
    let handling = match circuit {
        Some(circuit) => Handling::new(Watched::new(timed, circuit.clone())),
        None => Handling::new(timed),
    };
    let handling = layers_of_set.iter().rev().fold(handling, |handling, wrap| wrap(handling));
    let layered = ServiceBuilder::new().layer(MapErrLayer::new(Into::into)).service(layers.layer(handling));
    let fixed_rate = limits.rate.filter(|_| limits.live_rate.is_none());
    let limited = ServiceBuilder::new()
        .option_layer(limits.live_rate.clone())
        .option_layer(fixed_rate.map(|(waves, period)| RateLimitLayer::new(waves, period)))
        .layer(ConcurrencyLimitLayer::new(limits.concurrency))
        .service(layered);
    if limits.shed_when_busy { Stack::new(LoadShedLayer::new().layer(limited)) } else { Stack::new(limited) }
}
