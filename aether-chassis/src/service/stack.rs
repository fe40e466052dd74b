//! The tower stack of a service: its layers, from the outside in, and the dispatch to handlers at the bottom.
//!
//! ```text
//! shed when busy ▸ rate limit ▸ concurrency limit ▸ layers of the user ▸ circuit breaker ▸ time-out ▸ handler
//! ```
//!
//! The circuit breaker counts here how handlings end. Whether a wave is admitted is asked before it is received
//! (`service.rs`).
//!
//! Limits push back: while they have no room, waves wait in the inbox, where the strongest is next and what is too much
//! is shed by strength. Only `shed when busy` turns that into a refusal.

use std::future::poll_fn;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use aether_core::{Emitter, Pattern, Wave};
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use tower::limit::{ConcurrencyLimitLayer, RateLimitLayer};
use tower::load_shed::LoadShedLayer;
use tower::timeout::TimeoutLayer;
use tower::util::{BoxCloneSyncService, BoxService, MapErrLayer};
use tower::{BoxError, Layer, Service as _, ServiceBuilder};

use super::circuit::{Circuit, Watched};
use super::failure::Panicked;
use super::limits::Limits;
use super::panics;
use crate::handler::{Answer, Delivery};
use crate::{Asker, Rejection};

/// What layers of the user wrap: the handlers of a service with their time-out and circuit breaker, as a tower service
/// from a wave to an answer.
pub type Handling = BoxCloneSyncService<Wave, Answer, BoxError>;

/// Everything, with the limits around it.
pub(super) type Stack = BoxService<Wave, Answer, BoxError>;

/// A handler with all of its types forgotten but for what goes in and comes out.
pub(super) type Run = dyn Fn(&Delivery) -> BoxFuture<'static, Result<Answer, BoxError>> + Send + Sync;

/// A handler and the channels it is for.
pub(super) struct Route {
    pub(super) pattern: Pattern,
    pub(super) group: Option<Arc<str>>,
    pub(super) run: Box<Run>,
}

/// The bottom of the stack: calls the handler of a wave, and catches its panics.
#[derive(Clone)]
pub(super) struct Dispatch {
    routes: Arc<[Route]>,
    emitter: Emitter,
    asker: Asker,
}

impl Dispatch {
    pub(super) fn new(routes: Vec<Route>, emitter: Emitter, asker: Asker) -> Self {
        Self { routes: routes.into(), emitter, asker }
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
        let (routes, delivery) = (Arc::clone(&self.routes), Delivery::new(wave, &self.emitter, &self.asker));
        let handled = async move {
            match routes.iter().find(|route| route.pattern.matches(delivery.wave().channel())) {
                Some(route) => (route.run)(&delivery).await,
                None => Err(Rejection::new("no handler is for this channel").into()),
            }
        };
        // Here and not only around the whole stack, so that the circuit breaker sees it as a failure.
        Box::pin(caught(handled))
    }
}

/// The outcome of a handling, a panic being one of them. What is left half done by a panic is behind the locks of
/// whoever panicked; the service itself holds none.
async fn caught(handling: impl Future<Output = Result<Answer, BoxError>>) -> Result<Answer, BoxError> {
    let mut handled = pin!(AssertUnwindSafe(handling).catch_unwind());
    let handled = poll_fn(|context| panics::handling(|| handled.as_mut().poll(context))).await;
    handled.unwrap_or_else(|panic| Err(Box::new(Panicked::new(&*panic))))
}

/// Calls a stack that is ready. A layer of the user that panics costs this wave, and not the service.
pub(super) fn call(
    stack: &mut Stack,
    wave: Wave,
) -> impl Future<Output = Result<Answer, BoxError>> + Send + use<> {
    let called = catch_unwind(AssertUnwindSafe(|| stack.call(wave)));
    caught(async move {
        match called {
            Ok(handling) => handling.await,
            Err(panic) => Err(Box::new(Panicked::new(&*panic)) as BoxError),
        }
    })
}

/// Puts the layers around the handlers.
pub(super) fn stack<L>(dispatch: Dispatch, limits: &Limits, circuit: Option<&Circuit>, layers: &L) -> Stack
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
    let layered = ServiceBuilder::new().layer(MapErrLayer::new(Into::into)).service(layers.layer(handling));
    let limited = ServiceBuilder::new()
        .option_layer(limits.rate.map(|(waves, period)| RateLimitLayer::new(waves, period)))
        .layer(ConcurrencyLimitLayer::new(limits.concurrency))
        .service(layered);
    if limits.shed_when_busy { Stack::new(LoadShedLayer::new().layer(limited)) } else { Stack::new(limited) }
}
