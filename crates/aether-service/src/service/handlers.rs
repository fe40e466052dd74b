//! Sets of handlers: what a service hears, and what handles it.
//!
//! A [`ServiceBuilder`](super::ServiceBuilder) has one set of its own, and takes further ones with limits of their own.
//! Nothing here touches the bus.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

use aether::physics::Interfere;
use aether_core::wave::ChannelError;
use aether_core::{Channel, InboxOptions, Pattern, Wave};
use futures_util::FutureExt;
use tower::util::MapErrLayer;
use tower::{BoxError, Layer, ServiceBuilder};

use super::batch_loop::Batches;
use super::corroboration::Corroboration;
use super::durable::Durable;
use super::error::ServiceError;
use super::lane::{Run, erased};
use super::limits::{Limits, LimitsError, LimitsInForce};
use super::stack::{Handling, Route, Wrap};
use crate::handler::{Answer, BatchHandler, Delivery, FromWave, Handler, IntoAnswer, IntoOutcome, Payload};

/// A set of handlers with limits of its own, for [`ServiceBuilder::handlers`](crate::ServiceBuilder::handlers). Ordinary
/// term: a bulkhead.
///
/// It has an inbox, a concurrency, a rate, a time-out, retries, a circuit breaker and layers of its own. So while these
/// handlers are slow, or their circuit breaker is open, the other handlers of the service go on. `.state(..)` and
/// `.group(..)` apply to handlers registered after them.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use std::time::Duration;
/// use aether_service::{Breaker, Handlers, Limits, Service};
/// use aether_core::Aether;
///
/// async fn page() -> Result<(), std::io::Error> {
///     Err(std::io::Error::other("the pager is broken"))
/// }
/// async fn status() -> &'static str {
///     "on duty"
/// }
///
/// let service = Service::builder("notifier")
///     .time_out(Duration::from_secs(5)) // for all handlers that have no time-out of their own
///     .on_query("notifier.status", status)
///     .handlers(
///         Handlers::new()
///             .on("alerts.*", page)
///             .limits(Limits::new().concurrency(2).circuit_breaker(Breaker::default().failures(3))),
///     )
///     .build(&Aether::local())
///     .await?;
/// # drop(service);
/// # Ok(()) }
/// ```
#[must_use = "handlers do nothing before a service has them"]
pub struct Handlers<S = ()> {
    state: S,
    group: Option<Arc<str>>,
    /// Whether the group has a handler yet.
    group_is_used: bool,
    set: HandlerSet,
}

/// A pattern and the group that shares its waves, if there is one.
pub(super) type Heard = (Pattern, Option<Arc<str>>);

/// The parts of the set of handlers of any state.
#[derive(Default)]
pub(super) struct HandlerSet {
    pub(super) routes: Vec<Route>,
    /// A handler of batches is alone in its set.
    pub(super) batches: Option<(Heard, Batches)>,
    /// A durable handler is alone in its set.
    pub(super) durable: Option<Durable>,
    pub(super) fringes: Vec<Corroboration>,
    pub(super) limits: Limits,
    /// The first is outermost.
    pub(super) layers: Vec<Box<Wrap>>,
    pub(super) inbox: Option<InboxOptions>,
    /// The first invalid call.
    pub(super) mistake: Option<ServiceError>,
}

impl Handlers {
    /// A set without handlers.
    pub fn new() -> Self {
        Self { state: (), group: None, group_is_used: true, set: HandlerSet::default() }
    }
}

impl Default for Handlers {
    fn default() -> Self {
        Self::new()
    }
}

impl<S: Send + Sync + 'static> Handlers<S> {
    /// Sets the [`State`](crate::State) of handlers registered after this call. It can be called again for later
    /// handlers. Default: `()`.
    pub fn state<T>(self, state: T) -> Handlers<T> {
        let Self { group, group_is_used, set, .. } = self;
        Handlers { state, group, group_is_used, set }
    }

    /// Puts handlers registered after this call into a group: of all instances in the group, one handles each wave. It
    /// can be called again for later handlers. Default: no group, every instance handles every wave.
    pub fn group(mut self, name: &str) -> Self {
        self.check_group();
        match Channel::new(name) {
            Ok(group) => (self.group, self.group_is_used) = (Some(group.as_str().into()), false),
            Err(source) => self.set.note(ServiceError::Group { given: name.to_owned(), source }),
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
        let run = run(handler, self.state.clone(), |output: H::Output| {
            output.into_outcome().map(|()| Answer::NONE)
        });
        self.route(pattern.as_ref(), run, Args::payload(), None)
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
        let run = run(handler, self.state.clone(), H::Output::into_answer);
        self.route(pattern.as_ref(), run, Args::payload(), Some(H::Output::payload()))
    }

    /// Adds up the claims of a pattern, and handles each fringe like any other wave: with the extractors, limits, retries
    /// and dead letters of the service. Take the [`Fringe`](aether::physics::Fringe) as an argument.
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
    /// use aether_service::Service;
    /// use aether::physics::{Fringe, FringeKind, Interfere};
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
                self.set.fringes.push(corroboration);
                self.on(reports.as_str(), handler)
            }
            Err(source) => {
                self.set.note_pattern(given, source);
                self
            }
        }
    }

    fn route(
        mut self,
        pattern: &str,
        run: Arc<dyn Run>,
        takes: Option<Payload>,
        answers: Option<Payload>,
    ) -> Self {
        self.group_is_used = true;
        let takes = takes.unwrap_or(Payload::ANY);
        match Pattern::new(pattern) {
            Ok(pattern) => {
                self.set.routes.push(Route { pattern, group: self.group.clone(), run, takes, answers });
            }
            Err(source) => self.set.note_pattern(pattern, source),
        }
        self
    }

    /// The limits of this set. Default: the limits of the service.
    pub fn limits(mut self, limits: Limits) -> Self {
        self.set.limits = limits;
        self
    }

    /// The options of the inbox of this set. Default: the options of the service.
    pub fn inbox(mut self, options: InboxOptions) -> Self {
        self.set.inbox = Some(options);
        self
    }

    /// Adds a tower layer around the handlers of this set, inside of the layers of the service and outside of circuit
    /// breaker and time-out. The first layer is outermost, as in `tower::ServiceBuilder`.
    pub fn layer<L>(mut self, layer: L) -> Self
    where
        L: Layer<Handling> + Send + Sync + 'static,
        L::Service: tower::Service<Wave, Response = Answer> + Clone + Send + Sync + 'static,
        <L::Service as tower::Service<Wave>>::Error: Into<BoxError> + 'static,
        <L::Service as tower::Service<Wave>>::Future: Send + 'static,
    {
        self.set.layers.push(Box::new(move |handling| {
            let layered = layer.layer(handling);
            Handling::new(ServiceBuilder::new().layer(MapErrLayer::new(Into::into)).service(layered))
        }));
        self
    }

    /// A set with one handler of batches, which has the state and the group of this one.
    pub(super) fn batches<P, H, Args>(&mut self, pattern: P, most: usize, handler: H) -> HandlerSet
    where
        P: AsRef<str>,
        S: Clone,
        Args: 'static,
        H: BatchHandler<Args, S, Output: IntoOutcome>,
    {
        self.group_is_used = true;
        let mut set = HandlerSet::default();
        match Pattern::new(pattern.as_ref()) {
            Ok(pattern) if most == 0 => set.note(ServiceError::EmptyBatch { pattern }),
            Ok(pattern) => {
                let batches = Batches::new(most, handler, self.state.clone());
                set.batches = Some(((pattern, self.group.clone()), batches));
            }
            Err(source) => set.note_pattern(pattern.as_ref(), source),
        }
        set
    }

    /// A set with one durable handler, which has the state of this one.
    pub(super) fn durable<P, H, Args>(&mut self, pattern: P, durable: Durable, handler: H) -> HandlerSet
    where
        P: AsRef<str>,
        S: Clone,
        Args: FromWave<S>,
        H: Handler<Args, Output: IntoOutcome, Future: Send> + Send + Sync + 'static,
    {
        let state = self.state.clone();
        let mut set = Handlers { state, group: None, group_is_used: true, set: HandlerSet::default() }
            .on(pattern, handler)
            .limits(durable.limits.clone())
            .set;
        set.durable = Some(durable);
        set
    }

    pub(super) fn state_value(&self) -> &S {
        &self.state
    }

    /// The set without its state.
    pub(super) fn into_set(mut self) -> HandlerSet {
        self.check_group();
        self.set
    }

    fn check_group(&mut self) {
        if let (Some(group), false) = (&self.group, self.group_is_used) {
            let group = group.to_string();
            self.set.note(ServiceError::EmptyGroup { group });
        }
    }
}

impl HandlerSet {
    /// The patterns of all handlers.
    pub(super) fn heard(&self) -> Vec<Heard> {
        let routes = self.routes.iter().map(|route| (route.pattern.clone(), route.group.clone()));
        routes.chain(self.batches.iter().map(|(heard, _)| heard.clone())).collect()
    }

    /// The limits in a service with the limits `service`.
    pub(super) fn limits_in_force(&self, service: &Limits) -> Result<LimitsInForce, LimitsError> {
        let limits = self.limits.in_force(service)?;
        Ok(match self.durable {
            // The log keeps what waits, and has retries of its own.
            Some(_) => LimitsInForce { shed_when_busy: false, retry: None, ..limits },
            None => limits,
        })
    }

    fn note(&mut self, mistake: ServiceError) {
        self.mistake.get_or_insert(mistake);
    }

    /// The pattern of the next handler is not valid.
    fn note_pattern(&mut self, given: &str, source: ChannelError) {
        let number = self.routes.len() + 1;
        self.note(ServiceError::Pattern { number, given: given.to_owned(), source });
    }
}

/// A handler with its state, as the stack calls it.
pub(super) fn run<H, Args, S>(
    handler: H,
    state: S,
    ended: impl Fn(H::Output) -> Result<Answer, BoxError> + Copy + Send + Sync + 'static,
) -> Arc<dyn Run>
where
    Args: FromWave<S>,
    H: Handler<Args, Future: Send> + Send + Sync + 'static,
    S: Send + Sync + 'static,
{
    // Not an async block, which would hold the future of the handler twice.
    erased(move |delivery: &Delivery| Ok(handler.call(Args::from_wave(delivery, &state)?).map(ended)))
}

/// Refuses handlers that conflict, in a set and between sets.
pub(super) fn check(sets: &[HandlerSet]) -> Result<(), ServiceError> {
    let mut elsewhere: Vec<Heard> = Vec::new();
    let mut consumers = BTreeSet::new();
    for set in sets {
        // A consumer hears what others hear as well.
        if let Some(durable) = &set.durable {
            if !consumers.insert(&durable.consumer) {
                return Err(ServiceError::SharedConsumer { consumer: durable.consumer.clone() });
            }
            continue;
        }
        let heard = set.heard();
        if heard.is_empty() {
            return Err(ServiceError::NoHandlers);
        }
        for (place, (pattern, group)) in heard.iter().enumerate() {
            for (other, other_group) in &heard[..place] {
                let (first, second) = (other.clone(), pattern.clone());
                if other.covers(pattern) {
                    return Err(ServiceError::Unreachable { pattern: second, by: first });
                }
                if other_group != group && other.overlaps(pattern) {
                    return Err(ServiceError::SharedChannels { first, second });
                }
            }
            if let Some((other, _)) = elsewhere.iter().find(|(other, _)| other.overlaps(pattern)) {
                let (first, second) = (other.clone(), pattern.clone());
                return Err(ServiceError::SeparateLimits { first, second });
            }
        }
        elsewhere.extend(heard);
    }
    Ok(())
}

impl<S> fmt::Debug for Handlers<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let patterns: Vec<_> = self.set.routes.iter().map(|route| route.pattern.as_str()).collect();
        f.debug_struct("Handlers")
            .field("patterns", &patterns)
            .field("limits", &self.set.limits)
            .finish_non_exhaustive()
    }
}
