//! Making a service: handlers, limits and layers, checked before anything is heard.

use std::sync::Arc;
use std::time::Duration;

use aether_core::{
    Aether, Channel, CreateError, InboxOptions, JoinError, Pattern, Vibrator, Wave, wave::ChannelError,
};
use futures_util::FutureExt;
use futures_util::future::ready;
use tower::layer::util::{Identity, Stack as Layers};
use tower::{BoxError, Layer};

use super::circuit::Circuit;
use super::limits::{Breaker, Limits, LimitsError};
use super::stack::{Dispatch, Handling, Route, Run, stack};
use super::{Service, ServiceTally};
use crate::handler::{Answer, Handler, IntoAnswer, IntoOutcome};
use crate::{Asker, AskerOptions, Resend};

/// Why a service did not start. Nothing is heard then.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ServiceError {
    /// A handler is for a pattern that is not valid.
    #[error("the handler number {number} is for {given:?}, which is no pattern")]
    Pattern {
        /// Which one, counting from 1 in the order of registration.
        number: usize,
        /// The pattern as given.
        given: String,
        /// What is wrong with it.
        source: ChannelError,
    },
    /// The name of a group is not valid.
    #[error("{given:?} is no name for a group")]
    Group {
        /// The name as given.
        given: String,
        /// What is wrong with it.
        source: ChannelError,
    },
    /// A group that no handler was registered in.
    #[error("the group {group} has no handlers: it holds for those that are registered after it")]
    EmptyGroup {
        /// The group.
        group: String,
    },
    /// No handler at all.
    #[error("the service has no handlers: use .on(pattern, handler) or .on_query(pattern, handler)")]
    NoHandlers,
    /// A handler that could never be called.
    #[error(
        "the handler for {pattern} can never be called: that for {by}, registered before it, takes all of its waves"
    )]
    Unreachable {
        /// The handler's pattern.
        pattern: Pattern,
        /// The pattern before it that covers it.
        by: Pattern,
    },
    /// Two patterns share channels, and not the group: their waves would be handled twice.
    #[error(
        "the handlers for {first} and {second} share channels and are not of one group: their waves would be handled twice"
    )]
    SharedChannels {
        /// The pattern registered first.
        first: Pattern,
        /// The other one.
        second: Pattern,
    },
    /// A limit that cannot be.
    #[error("a limit of the service is not allowed")]
    Limits(#[from] LimitsError),
    /// The vibrator could not be made.
    #[error("the service could not be made")]
    Create(#[from] CreateError),
    /// A pattern cannot be heard.
    #[error("the service cannot hear {pattern}")]
    Join {
        /// Which one.
        pattern: Pattern,
        /// Why.
        source: JoinError,
    },
    /// A layer failed for good while the service was running.
    #[error("a layer of the service broke down")]
    Layer(#[source] BoxError),
}

/// A service in the making. The first mistake is kept and reported by [`ServiceBuilder::build`].
///
/// `.state(..)` and `.group(..)` hold for the handlers that are registered after them; everything else for the whole
/// service.
#[must_use = "nothing is made before build()"]
pub struct ServiceBuilder<S = (), L = Identity> {
    name: String,
    state: S,
    group: Option<Arc<str>>,
    /// Whether the group has a handler yet.
    group_is_used: bool,
    routes: Vec<Route>,
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
            mistake: None,
            inbox: InboxOptions::default(),
            limits: Limits::default(),
            asking: AskerOptions::default(),
            layers: Identity::new(),
        }
    }
}

impl<S: Send + Sync + 'static, L> ServiceBuilder<S, L> {
    /// What handlers registered from here on get as [`State`](crate::State). Called again, those after it get the new
    /// one. Default: `()`.
    pub fn state<T>(self, state: T) -> ServiceBuilder<T, L> {
        let Self { name, group, group_is_used, routes, mistake, inbox, limits, asking, layers, .. } = self;
        ServiceBuilder { name, state, group, group_is_used, routes, mistake, inbox, limits, asking, layers }
    }

    /// Handlers registered from here on share the waves with the other instances of this group: each wave is handled by
    /// one of them. Called again, those after it are in the new group. Default: none, every instance handles every wave.
    pub fn group(mut self, name: &str) -> Self {
        self.check_group();
        match Channel::new(name) {
            Ok(group) => (self.group, self.group_is_used) = (Some(group.as_str().into()), false),
            Err(source) => self.note(ServiceError::Group { given: name.to_owned(), source }),
        }
        self
    }

    /// Handles the waves of a pattern. Of several patterns that match, the first one registered counts.
    ///
    /// An asker gets no answer from such a handler, unless it fails: it can give one itself, from the [`Wave`].
    pub fn on<P, H, Args>(self, pattern: P, handler: H) -> Self
    where
        P: AsRef<str>,
        S: Clone,
        H: Handler<Args, S, Output: IntoOutcome>,
    {
        let run = Self::run(handler, self.state.clone(), |output: H::Output| {
            output.into_outcome().map(|()| Answer::NONE)
        });
        self.route(pattern.as_ref(), run)
    }

    /// Answers the questions of a pattern: the handler's value is the answer, its error is told to the asker at once.
    /// Waves that nobody waits for an answer to are handled in the same way.
    pub fn on_query<P, H, Args>(self, pattern: P, handler: H) -> Self
    where
        P: AsRef<str>,
        S: Clone,
        H: Handler<Args, S, Output: IntoAnswer>,
    {
        let run = Self::run(handler, self.state.clone(), H::Output::into_answer);
        self.route(pattern.as_ref(), run)
    }

    fn run<H, Args>(
        handler: H,
        state: S,
        ended: impl Fn(H::Output) -> Result<Answer, BoxError> + Copy + Send + Sync + 'static,
    ) -> Box<Run>
    where
        H: Handler<Args, S>,
    {
        Box::new(move |delivery| match handler.call(delivery, &state) {
            Ok(handling) => async move { ended(handling.await) }.boxed(),
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

    /// How many waves are handled at a time. Further ones wait in the inbox, where the strongest is next. With 1, waves
    /// are handled one after the other. Default: 64.
    pub fn concurrency(mut self, waves: usize) -> Self {
        self.limits.concurrency = waves;
        self
    }

    /// How many waves are begun in each period at most. Further ones wait in the inbox. Default: no limit.
    pub fn rate(mut self, waves: u64, period: Duration) -> Self {
        self.limits.rate = Some((waves, period));
        self
    }

    /// How long the handling of a wave may take; after that the handler is ended where it awaits. Default: no limit.
    pub fn time_out(mut self, time: Duration) -> Self {
        self.limits.time_out = Some(time);
        self
    }

    /// Handles waves again whose handler failed, panicked or timed out. Such a wave is put back into the inbox half as
    /// strong, so that it waits behind fresh ones. Handlers must bear being called twice. Default: no retries.
    pub fn retry(mut self, resend: Resend) -> Self {
        self.limits.retry = Some(resend);
        self
    }

    /// Stops handling for a while when too much fails. Default: never.
    pub fn circuit_breaker(mut self, breaker: Breaker) -> Self {
        self.limits.breaker = Some(breaker);
        self
    }

    /// Refuses waves at once while the limits leave no room, instead of letting them wait in the inbox. For services
    /// whose askers would rather ask elsewhere than wait; it gives up the order by strength. Default: no.
    pub fn shed_when_busy(mut self) -> Self {
        self.limits.shed_when_busy = true;
        self
    }

    /// The bounds and the discipline of the inbox. Default: [`InboxOptions::interactive`].
    pub fn inbox(mut self, options: InboxOptions) -> Self {
        self.inbox = options;
        self
    }

    /// How handlers that take an [`Asker`] ask. Default: [`AskerOptions::default`].
    pub fn asking(mut self, options: AskerOptions) -> Self {
        self.asking = options;
        self
    }

    /// How long waves that are being handled at shutdown may go on. Default: 5 s.
    pub fn grace(mut self, grace: Duration) -> Self {
        self.limits.grace = grace;
        self
    }

    /// A tower layer around all handlers, inside of the limits and outside of circuit breaker and time-out. Of several,
    /// the first one is outermost, as in `tower::ServiceBuilder`.
    pub fn layer<N>(self, layer: N) -> ServiceBuilder<S, Layers<N, L>> {
        let Self { name, state, group, group_is_used, routes, mistake, inbox, limits, asking, layers } = self;
        let layers = Layers::new(layer, layers);
        ServiceBuilder { name, state, group, group_is_used, routes, mistake, inbox, limits, asking, layers }
    }

    /// Makes the service and lets it hear its channels. What comes before [`Service::run_until`] waits in its inbox.
    ///
    /// # Errors
    /// [`ServiceError`] says which handler, group, limit or option is wrong. Nothing is heard then.
    ///
    /// # Cancel safety
    /// Cancelled before completion, nothing is heard.
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
        Ok(Service { vibrator, heard, stack, circuit, limits: self.limits, tally: ServiceTally::default() })
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

/// Refuses handlers that contradict each other.
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
