//! Builds a service: handlers, limits and layers, checked before it subscribes.

use std::sync::Arc;
use std::time::Duration;

use aether_core::{
    Aether, CreateError, InboxOptions, JoinError, Pattern, Receiver, Vibrator, Wave, wave::ChannelError,
};
use tower::layer::util::{Identity, Stack as Layers};
use tower::{BoxError, Layer};

use super::circuit::Circuit;
use super::handlers::{HandlerSet, Handlers, check};
use super::limits::{Breaker, Limits, LimitsError};
use super::serve_loop::ServeLoop;
use super::stack::{Dispatch, Handling, stack};
use super::{Service, ServiceCounters};
use crate::handler::{Answer, Handler, IntoAnswer, IntoOutcome};
use crate::{Asker, AskerOptions, Resend, connecting};

/// Why a service could not be built or run. A service that was not built has no subscriptions.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ServiceError {
    /// The pattern of a handler is not valid.
    #[error("handler number {number} has an invalid pattern: {given:?}")]
    Pattern {
        /// The position of the handler in the order of registration in its set, from 1.
        number: usize,
        /// The pattern as given.
        given: String,
        /// What is wrong with it.
        source: ChannelError,
    },
    /// The name of a group is not valid.
    #[error("{given:?} is not a valid group name")]
    Group {
        /// The name as given.
        given: String,
        /// What is wrong with it.
        source: ChannelError,
    },
    /// A group without handlers.
    #[error("the group {group} has no handlers: it applies to handlers that are registered after it")]
    EmptyGroup {
        /// The group.
        group: String,
    },
    /// The service, or one of its sets of handlers, has no handlers.
    #[error(
        "the service or one of its sets has no handlers: use .on(pattern, handler) or .on_query(pattern, handler)"
    )]
    NoHandlers,
    /// A handler that could never be called.
    #[error(
        "the handler for {pattern} can never be called: the handler for {by}, registered before it, takes all of its waves"
    )]
    Unreachable {
        /// The handler's pattern.
        pattern: Pattern,
        /// The pattern before it that covers it.
        by: Pattern,
    },
    /// Two patterns share channels but not the group, so some waves would be handled twice.
    #[error(
        "the handlers for {first} and {second} share channels and are not in one group: some waves would be handled twice"
    )]
    SharedChannels {
        /// The pattern registered first.
        first: Pattern,
        /// The other one.
        second: Pattern,
    },
    /// Two sets of handlers share channels, so some waves would be handled twice.
    #[error(
        "the handlers for {first} and {second} share channels but are in different sets: some waves would be handled twice"
    )]
    SeparateLimits {
        /// The pattern registered first.
        first: Pattern,
        /// The other one.
        second: Pattern,
    },
    /// A limit is not valid.
    #[error("a limit of the service is not valid")]
    Limits(#[from] LimitsError),
    /// The vibrator could not be created.
    #[error("the service could not be created")]
    Create(#[from] CreateError),
    /// Subscribing to a pattern failed.
    #[error("the service cannot subscribe to {pattern}")]
    Join {
        /// The pattern.
        pattern: Pattern,
        /// Why.
        source: JoinError,
    },
    /// A layer failed permanently while the service was running.
    #[error("a layer of the service failed")]
    Layer(#[source] BoxError),
}

/// Builds a [`Service`]. [`ServiceBuilder::build`] reports the first invalid call.
///
/// `.state(..)` and `.group(..)` apply to handlers registered after them. All other options apply to the whole service;
/// [`handlers`](Self::handlers) adds handlers with limits of their own. [`Service`] shows the order of the layers.
#[must_use = "a builder does nothing before build()"]
pub struct ServiceBuilder<S = (), L = Identity> {
    name: String,
    /// The handlers that have no limits of their own.
    own: Handlers<S>,
    sets: Vec<HandlerSet>,
    inbox: InboxOptions,
    limits: Limits,
    grace: Duration,
    asking: AskerOptions,
    layers: L,
}

impl ServiceBuilder {
    pub(super) fn new(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            own: Handlers::new(),
            sets: Vec::new(),
            inbox: InboxOptions::default(),
            limits: Limits::default(),
            grace: Duration::from_secs(5),
            asking: AskerOptions::default(),
            layers: Identity::new(),
        }
    }
}

impl<S: Send + Sync + 'static, L> ServiceBuilder<S, L> {
    fn with_own<T>(self, change: impl FnOnce(Handlers<S>) -> Handlers<T>) -> ServiceBuilder<T, L> {
        let Self { name, own, sets, inbox, limits, grace, asking, layers } = self;
        ServiceBuilder { name, own: change(own), sets, inbox, limits, grace, asking, layers }
    }

    fn with_limits(mut self, change: impl FnOnce(Limits) -> Limits) -> Self {
        self.limits = change(self.limits);
        self
    }

    /// Sets the [`State`](crate::State) of handlers registered after this call. It can be called again for later
    /// handlers. Default: `()`.
    pub fn state<T>(self, state: T) -> ServiceBuilder<T, L> {
        self.with_own(|own| own.state(state))
    }

    /// Puts handlers registered after this call into a group: of all instances in the group, one handles each wave. It
    /// can be called again for later handlers. Default: no group, every instance handles every wave.
    pub fn group(self, name: &str) -> Self {
        self.with_own(|own| own.group(name))
    }

    /// Handles the waves of a pattern. If several patterns match, the handler registered first is called.
    ///
    /// Such a handler sends an asker only its failures. It can answer by itself with the [`Wave`].
    pub fn on<P, H, Args>(self, pattern: P, handler: H) -> Self
    where
        P: AsRef<str>,
        S: Clone,
        H: Handler<Args, S, Output: IntoOutcome>,
    {
        self.with_own(|own| own.on(pattern, handler))
    }

    /// Answers the questions of a pattern. The handler's value is the answer; its error is sent to the asker at once.
    /// Waves that expect no answer are handled in the same way.
    pub fn on_query<P, H, Args>(self, pattern: P, handler: H) -> Self
    where
        P: AsRef<str>,
        S: Clone,
        H: Handler<Args, S, Output: IntoAnswer>,
    {
        self.with_own(|own| own.on_query(pattern, handler))
    }

    /// Adds handlers with limits, layers and an inbox of their own. While they are slow, or their circuit breaker is
    /// open, the other handlers go on. Two sets must not share channels. `.state(..)` and `.group(..)` of this builder
    /// do not apply to them; its limits are their defaults, and its layers go around them as well.
    ///
    /// On a [roster](aether_core::presence::Roster) each set is listed by itself, under the name of the service.
    pub fn handlers<T: Send + Sync + 'static>(mut self, handlers: Handlers<T>) -> Self {
        self.sets.push(handlers.into_set());
        self
    }

    /// [`Limits::concurrency`] of the service.
    pub fn concurrency(self, waves: usize) -> Self {
        self.with_limits(|limits| limits.concurrency(waves))
    }

    /// [`Limits::rate`] of the service.
    pub fn rate(self, waves: u64, period: Duration) -> Self {
        self.with_limits(|limits| limits.rate(waves, period))
    }

    /// [`Limits::time_out`] of the service.
    pub fn time_out(self, time: Duration) -> Self {
        self.with_limits(|limits| limits.time_out(time))
    }

    /// [`Limits::retry`] of the service.
    pub fn retry(self, resend: Resend) -> Self {
        self.with_limits(|limits| limits.retry(resend))
    }

    /// [`Limits::circuit_breaker`] of the service.
    pub fn circuit_breaker(self, breaker: Breaker) -> Self {
        self.with_limits(|limits| limits.circuit_breaker(breaker))
    }

    /// [`Limits::shed_when_busy`] of the service.
    pub fn shed_when_busy(self) -> Self {
        self.with_limits(|limits| limits.shed_when_busy(true))
    }

    /// The options of the inbox. Default: [`InboxOptions::interactive`].
    pub fn inbox(mut self, options: InboxOptions) -> Self {
        self.inbox = options;
        self
    }

    /// The options of the [`Asker`] that handlers can take. Default: [`AskerOptions::default`].
    pub fn asking(mut self, options: AskerOptions) -> Self {
        self.asking = options;
        self
    }

    /// The grace period: how long running handlers may continue at shutdown. Default: 5 s.
    pub fn grace(mut self, grace: Duration) -> Self {
        self.grace = grace;
        self
    }

    /// Adds a tower layer around all handlers, inside of the limits and outside of circuit breaker and time-out. The
    /// first layer is outermost, as in `tower::ServiceBuilder`. Each set of [`handlers`](Self::handlers) is wrapped by
    /// itself: a layer that limits a rate does so for each set.
    pub fn layer<N>(self, layer: N) -> ServiceBuilder<S, Layers<N, L>> {
        let Self { name, own, sets, inbox, limits, grace, asking, layers } = self;
        let layers = Layers::new(layer, layers);
        ServiceBuilder { name, own, sets, inbox, limits, grace, asking, layers }
    }

    /// Creates the service and subscribes to its patterns. Waves that arrive before [`Service::run_until`] wait in its
    /// inboxes.
    ///
    /// # Errors
    /// [`ServiceError`] names the invalid handler, group, limit or option. No subscription remains.
    ///
    /// # Cancel safety
    /// Cancelled before completion, no subscription remains.
    pub async fn build(self, aether: &Aether) -> Result<Service, ServiceError>
    where
        L: Layer<Handling>,
        L::Service: tower::Service<Wave, Response = Answer> + Send + 'static,
        <L::Service as tower::Service<Wave>>::Error: Into<BoxError>,
        <L::Service as tower::Service<Wave>>::Future: Send + 'static,
    {
        let Self { name, own, sets: more, inbox, limits, grace, asking, layers } = self;
        let mut sets = vec![own.into_set()];
        // A service may have all of its handlers in sets of their own.
        if sets[0].routes.is_empty() && sets[0].mistake.is_none() && !more.is_empty() {
            sets.clear();
        }
        sets.extend(more);
        for set in &mut sets {
            if let Some(mistake) = set.mistake.take() {
                return Err(mistake);
            }
        }
        check(&sets)?;
        let in_force = sets.iter().map(|set| set.limits.in_force(&limits)).collect::<Result<Vec<_>, _>>()?;
        let counters = ServiceCounters::default();
        let (mut emitter, mut asker, mut loops, mut hears) = (None, None, Vec::new(), Vec::new());
        for (set, limits) in sets.into_iter().zip(in_force) {
            let vibrator = Vibrator::builder(&name).inbox(set.inbox.unwrap_or_else(|| inbox.clone()));
            let receiver = match &emitter {
                None => {
                    let (main, receiver) = vibrator.create(aether).await?.split();
                    asker = Some(Asker::new(main.clone(), asking.clone()));
                    emitter = Some(main);
                    receiver
                }
                Some(main) => vibrator.create_beside(main).await?,
            };
            let (Some(emitter), Some(asker)) = (&emitter, &asker) else { continue };
            let heard: Vec<_> =
                set.routes.iter().map(|route| (route.pattern.clone(), route.group.clone())).collect();
            let circuit = limits.breaker.map(Circuit::new);
            let dispatch = Dispatch::new(set.routes, emitter.clone(), asker.clone());
            let stack = stack(dispatch, &limits, circuit.as_ref(), &set.layers, &layers);
            join(&receiver, &heard).await?;
            hears.extend(heard.iter().map(|(pattern, group)| match group {
                Some(group) => format!("{pattern} (group {group})"),
                None => pattern.to_string(),
            }));
            loops.push(ServeLoop {
                heard: heard.into_iter().map(|(pattern, _)| pattern).collect(),
                emitter: emitter.clone(),
                counters: counters.clone(),
                receiver,
                stack,
                circuit,
                limits,
            });
        }
        // There is at least one set.
        let emitter = emitter.ok_or(ServiceError::NoHandlers)?;
        connecting::log_changes(aether);
        Ok(Service { emitter, loops, grace, counters, hears: hears.join(", ") })
    }
}

/// Subscribes to the patterns of a set of handlers.
async fn join(receiver: &Receiver, heard: &[(Pattern, Option<Arc<str>>)]) -> Result<(), ServiceError> {
    for (pattern, group) in heard {
        let joined = match group {
            Some(group) => receiver.resonate_in_group(pattern, group).await,
            None => receiver.resonate_on(pattern).await,
        };
        joined.map_err(|source| ServiceError::Join { pattern: pattern.clone(), source })?;
    }
    Ok(())
}
