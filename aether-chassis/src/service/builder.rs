//! Builds a service: handlers, limits and layers, checked before it subscribes.

use std::sync::Arc;
use std::time::Duration;

use aether_core::physics::{Interfere, InterfereError};
use aether_core::{
    Aether, Channel, CreateError, InboxOptions, JoinError, Pattern, Vibrator, Wave, wave::ChannelError,
};
use futures_util::FutureExt;
use futures_util::future::ready;
use tower::layer::util::{Identity, Stack as Layers};
use tower::{BoxError, Layer};

use super::circuit::Circuit;
use super::corroboration::Corroboration;
use super::limits::{Breaker, Limits, LimitsError};
use super::stack::{Dispatch, Handling, Route, Run, stack};
use super::{Service, ServiceCounters};
use crate::handler::{Answer, FromWave, Handler, IntoAnswer, IntoOutcome};
use crate::{Asker, AskerOptions, Resend};

/// Why a service could not be built or run. A service that was not built has no subscriptions.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ServiceError {
    /// The pattern of a handler is not valid.
    #[error("handler number {number} has an invalid pattern: {given:?}")]
    Pattern {
        /// The position of the handler in the order of registration, from 1.
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
    /// The service has no handlers.
    #[error("the service has no handlers: use .on(pattern, handler) or .on_query(pattern, handler)")]
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
    /// A limit is not valid.
    #[error(transparent)]
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
    /// The claims of a pattern cannot be added up.
    #[error("the service cannot add up the claims of {pattern}")]
    Interfere {
        /// The pattern.
        pattern: Pattern,
        /// Why.
        source: InterfereError,
    },
    /// A layer failed permanently while the service was running.
    #[error("a layer of the service failed")]
    Layer(#[source] BoxError),
}

/// Builds a [`Service`]. [`ServiceBuilder::build`] reports the first invalid call.
///
/// `.state(..)` and `.group(..)` apply to handlers registered after them. All other options apply to the whole service.
#[must_use = "a builder does nothing before build()"]
pub struct ServiceBuilder<S = (), L = Identity> {
    name: String,
    state: S,
    group: Option<Arc<str>>,
    /// Whether the group has a handler yet.
    group_is_used: bool,
    routes: Vec<Route>,
    fringes: Vec<Corroboration>,
    mistake: Option<ServiceError>,
    inbox: InboxOptions,
    limits: Limits,
    asking: AskerOptions,
    layers: L,
}

impl ServiceBuilder {
    pub(super) fn new(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            state: (),
            group: None,
            group_is_used: true,
            routes: Vec::new(),
            fringes: Vec::new(),
            mistake: None,
            inbox: InboxOptions::default(),
            limits: Limits::default(),
            asking: AskerOptions::default(),
            layers: Identity::new(),
        }
    }
}

impl<S: Send + Sync + 'static, L> ServiceBuilder<S, L> {
    /// Sets the [`State`](crate::State) of handlers registered after this call. It can be called again for later
    /// handlers. Default: `()`.
    pub fn state<T>(self, state: T) -> ServiceBuilder<T, L> {
        let Self {
            name, group, group_is_used, routes, fringes, mistake, inbox, limits, asking, layers, ..
        } = self;
        ServiceBuilder {
            name,
            state,
            group,
            group_is_used,
            routes,
            fringes,
            mistake,
            inbox,
            limits,
            asking,
            layers,
        }
    }

    /// Puts handlers registered after this call into a group: of all instances in the group, one handles each wave. It
    /// can be called again for later handlers. Default: no group, every instance handles every wave.
    pub fn group(mut self, name: &str) -> Self {
        self.check_group();
        match Channel::new(name) {
            Ok(group) => (self.group, self.group_is_used) = (Some(group.as_str().into()), false),
            Err(source) => self.note(ServiceError::Group { given: name.to_owned(), source }),
        }
        self
    }

    /// Handles the waves of a pattern. If several patterns match, the handler registered first is called.
    ///
    /// Such a handler sends an asker only its failures. It can answer by itself with the [`Wave`].
    pub fn on<P, H, Args>(self, pattern: P, handler: H) -> Self
    where
        P: AsRef<str>,
        S: Clone,
        Args: FromWave<S>,
        H: Handler<Args, Output: IntoOutcome, Future: Send> + Send + Sync + 'static,
    {
        let run = Self::run(handler, self.state.clone(), |output: H::Output| {
            output.into_outcome().map(|()| Answer::NONE)
        });
        self.route(pattern.as_ref(), run)
    }

    /// Answers the questions of a pattern. The handler's value is the answer; its error is sent to the asker at once.
    /// Waves that expect no answer are handled in the same way.
    pub fn on_query<P, H, Args>(self, pattern: P, handler: H) -> Self
    where
        P: AsRef<str>,
        S: Clone,
        Args: FromWave<S>,
        H: Handler<Args, Output: IntoAnswer, Future: Send> + Send + Sync + 'static,
    {
        let run = Self::run(handler, self.state.clone(), H::Output::into_answer);
        self.route(pattern.as_ref(), run)
    }

    /// Adds up the claims of a pattern, and handles each fringe like any other wave: with the extractors, limits, retries
    /// and dead letters of the service. Take the [`Fringe`](aether_core::physics::Fringe) as an argument.
    ///
    /// Every instance of the service hears all claims, as an observer. In a group one of the instances reports a fringe,
    /// and one handles it. If that instance ends, the next takes its place: at once when it ends in an orderly way; five
    /// seconds later, for each instance before it, when claims or reports were lost or it crashed. An instance that joins
    /// a running group leaves alerts that are open already to the others. A fringe is reported twice if a report takes
    /// longer than five seconds, or while the instances do not know of each other yet. Without a group every instance
    /// handles every fringe.
    ///
    /// The report is a command on a channel `fringes.GROUP.PATTERN`, caused by the last claim.
    ///
    /// ```
    /// use aether_chassis::Service;
    /// use aether_core::physics::{Fringe, FringeKind, Interfere};
    ///
    /// async fn alert(fringe: Fringe) {
    ///     match fringe.kind {
    ///         FringeKind::Rise => println!("{} is down, by {} probes", fringe.key, fringe.sources),
    ///         _ => println!("{} is back", fringe.key),
    ///     }
    /// }
    /// let service = Service::builder("pager")
    ///     .group("pager")
    ///     .on_fringe("probes.*", Interfere::by_key().sources(2).rise(0.7), alert);
    /// ```
    pub fn on_fringe<P, H, Args>(mut self, pattern: P, options: Interfere, handler: H) -> Self
    where
        P: AsRef<str>,
        S: Clone,
        Args: FromWave<S>,
        H: Handler<Args, Output: IntoOutcome, Future: Send> + Send + Sync + 'static,
    {
        let given = pattern.as_ref();
        let claims = Pattern::new(given);
        match claims.and_then(|claims| Corroboration::new(claims, options, self.group.clone())) {
            Ok(corroboration) => {
                let reports = corroboration.reports.clone();
                self.fringes.push(corroboration);
                self.on(reports.as_str(), handler)
            }
            Err(source) => {
                let number = self.routes.len() + 1;
                self.note(ServiceError::Pattern { number, given: given.to_owned(), source });
                self
            }
        }
    }

    fn run<H, Args>(
        handler: H,
        state: S,
        ended: impl Fn(H::Output) -> Result<Answer, BoxError> + Copy + Send + Sync + 'static,
    ) -> Box<Run>
    where
        Args: FromWave<S>,
        H: Handler<Args, Future: Send> + Send + Sync + 'static,
    {
        Box::new(move |delivery| match Args::from_wave(delivery, &state) {
            Ok(args) => {
                let handling = handler.call(args);
                async move { ended(handling.await) }.boxed()
            }
            Err(rejection) => ready(Err(rejection.into())).boxed(),
        })
    }

    fn route(mut self, pattern: &str, run: Box<Run>) -> Self {
        self.group_is_used = true;
        match Pattern::new(pattern) {
            Ok(pattern) => self.routes.push(Route { pattern, group: self.group.clone(), run }),
            Err(source) => {
                let number = self.routes.len() + 1;
                self.note(ServiceError::Pattern { number, given: pattern.to_owned(), source });
            }
        }
        self
    }

    /// The maximum number of waves handled at a time. Others wait in the inbox, strongest first. With 1, waves are
    /// handled one after the other. Default: 64.
    pub fn concurrency(mut self, waves: usize) -> Self {
        self.limits.concurrency = waves;
        self
    }

    /// The maximum number of waves started per period. Others wait in the inbox. Default: no limit.
    pub fn rate(mut self, waves: u64, period: Duration) -> Self {
        self.limits.rate = Some((waves, period));
        self
    }

    /// The time-out of a handler. After it the handler is cancelled at its await point. Default: no limit.
    pub fn time_out(mut self, time: Duration) -> Self {
        self.limits.time_out = Some(time);
        self
    }

    /// Retries waves whose handler failed, panicked or timed out. Such a wave returns to the inbox at half its
    /// strength, so that it waits behind fresh ones. Handlers must be idempotent. Default: no retries.
    pub fn retry(mut self, resend: Resend) -> Self {
        self.limits.retry = Some(resend);
        self
    }

    /// Pauses handling after too many failures. Default: no circuit breaker.
    pub fn circuit_breaker(mut self, breaker: Breaker) -> Self {
        self.limits.breaker = Some(breaker);
        self
    }

    /// Refuses waves at once while the limits leave no room, instead of letting them wait in the inbox. This suits
    /// services whose askers prefer another instance to waiting. It gives up the order by strength. Default: off.
    pub fn shed_when_busy(mut self) -> Self {
        self.limits.shed_when_busy = true;
        self
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
        self.limits.grace = grace;
        self
    }

    /// Adds a tower layer around all handlers, inside of the limits and outside of circuit breaker and time-out. The
    /// first layer is outermost, as in `tower::ServiceBuilder`.
    pub fn layer<N>(self, layer: N) -> ServiceBuilder<S, Layers<N, L>> {
        let Self {
            name,
            state,
            group,
            group_is_used,
            routes,
            fringes,
            mistake,
            inbox,
            limits,
            asking,
            layers,
        } = self;
        let layers = Layers::new(layer, layers);
        ServiceBuilder {
            name,
            state,
            group,
            group_is_used,
            routes,
            fringes,
            mistake,
            inbox,
            limits,
            asking,
            layers,
        }
    }

    /// Creates the service and subscribes to its patterns. Waves that arrive before [`Service::run_until`] wait in its
    /// inbox.
    ///
    /// # Errors
    /// [`ServiceError`] names the invalid handler, group, limit or option. No subscription remains.
    ///
    /// # Cancel safety
    /// Cancelled before completion, no subscription remains.
    pub async fn build(mut self, aether: &Aether) -> Result<Service, ServiceError>
    where
        L: Layer<Handling>,
        L::Service: tower::Service<Wave, Response = Answer> + Send + 'static,
        <L::Service as tower::Service<Wave>>::Error: Into<BoxError>,
        <L::Service as tower::Service<Wave>>::Future: Send + 'static,
    {
        self.check_group();
        if let Some(mistake) = self.mistake {
            return Err(mistake);
        }
        check(&self.routes)?;
        self.limits.check()?;
        let vibrator = Vibrator::builder(&self.name).inbox(self.inbox).create(aether).await?;
        let heard: Vec<_> =
            self.routes.iter().map(|route| (route.pattern.clone(), route.group.clone())).collect();
        let asker = Asker::new(vibrator.emitter(), self.asking);
        let dispatch = Dispatch::new(self.routes, vibrator.emitter(), asker);
        let circuit = self.limits.breaker.map(Circuit::new);
        let stack = stack(dispatch, &self.limits, circuit.as_ref(), &self.layers);
        for (pattern, group) in &heard {
            let joined = match group {
                Some(group) => vibrator.resonate_in_group(pattern, group).await,
                None => vibrator.resonate_on(pattern).await,
            };
            joined.map_err(|source| ServiceError::Join { pattern: pattern.clone(), source })?;
        }
        let heard = heard.into_iter().map(|(pattern, _)| pattern).collect();
        let mut corroborators = Vec::with_capacity(self.fringes.len());
        for corroboration in self.fringes {
            corroborators.push(corroboration.start(&vibrator, aether).await?);
        }
        Ok(Service {
            vibrator,
            heard,
            corroborators,
            stack,
            circuit,
            limits: self.limits,
            counters: ServiceCounters::default(),
        })
    }

    fn check_group(&mut self) {
        if let (Some(group), false) = (&self.group, self.group_is_used) {
            let group = group.to_string();
            self.note(ServiceError::EmptyGroup { group });
        }
    }

    fn note(&mut self, mistake: ServiceError) {
        self.mistake.get_or_insert(mistake);
    }
}

/// Refuses handlers that conflict.
fn check(routes: &[Route]) -> Result<(), ServiceError> {
    if routes.is_empty() {
        return Err(ServiceError::NoHandlers);
    }
    for (at, route) in routes.iter().enumerate() {
        for before in &routes[..at] {
            let (first, second) = (before.pattern.clone(), route.pattern.clone());
            if before.pattern.covers(&route.pattern) {
                return Err(ServiceError::Unreachable { pattern: second, by: first });
            }
            if before.group != route.group && before.pattern.overlaps(&route.pattern) {
                return Err(ServiceError::SharedChannels { first, second });
            }
        }
    }
    Ok(())
}
