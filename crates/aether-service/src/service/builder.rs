//! Builds a service: handlers, limits and layers, checked before it subscribes.

use std::sync::Arc;
use std::time::Duration;

use aether::physics::Interfere;
use aether_core::vibrator::EmissionRate;
use aether_core::{Aether, CreateError, InboxOptions, Receiver, Source, Vibrator, Wave};
use futures_util::FutureExt;
use futures_util::future::ready;
use schemars::JsonSchema;
use tower::layer::util::{Identity, Stack as Layers};
use tower::{BoxError, Layer};

use super::about::{About, describing};
use super::accounting::account;
use super::batch_loop::BatchLoop;
use super::circuit::{Admitting, Circuit};
use super::durable::Durable;
use super::durable_batch_loop::DurableBatchLoop;
use super::durable_loop::DurableLoop;
use super::echo_loop::{EchoLoop, RunEcho};
use super::error::ServiceError;
use super::handlers::{HandlerSet, Handlers, Heard, check};
use super::lanes::Lanes;
use super::letter_sets::{letters, letters_of_log};
use super::limits::{Breaker, Limits};
use super::log_throttle::LogThrottle;
use super::report::LoopAccount;
use super::serve_loop::{ServeLoop, SetHandling};
use super::stack::{Dispatch, Handling, stack};
use super::{Service, ServiceCounters, SetLoop};
use crate::handler::{
    Answer, BatchHandler, EchoHandler, FromWave, Handler, IntoAnswer, IntoOutcome, Means, Payload,
};
use crate::{Asker, AskerOptions, Resend, connecting};

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
    on_echo: Option<Box<RunEcho>>,
    with_letters: bool,
    about: About,
    emission: Option<EmissionRate>,
    layers: L,
    is_layered: bool,
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
            on_echo: None,
            with_letters: false,
            about: About::default(),
            emission: None,
            layers: Identity::new(),
            is_layered: false,
        }
    }
}

impl<S: Send + Sync + 'static, L> ServiceBuilder<S, L> {
    /// The same with other handlers without limits of their own, or other layers.
    fn with<T, N>(
        self,
        change: impl FnOnce(Handlers<S>) -> Handlers<T>,
        wrap: impl FnOnce(L) -> N,
    ) -> ServiceBuilder<T, N> {
        let Self {
            name,
            own,
            sets,
            inbox,
            limits,
            grace,
            asking,
            on_echo,
            with_letters,
            about,
            emission,
            layers,
            is_layered,
        } = self;
        ServiceBuilder {
            name,
            own: change(own),
            sets,
            inbox,
            limits,
            grace,
            asking,
            on_echo,
            with_letters,
            about,
            emission,
            layers: wrap(layers),
            is_layered,
        }
    }

    fn with_own<T>(self, change: impl FnOnce(Handlers<S>) -> Handlers<T>) -> ServiceBuilder<T, L> {
        self.with(change, |layers| layers)
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
        Args: FromWave<S>,
        H: Handler<Args, Output: IntoOutcome, Future: Send> + Send + Sync + 'static,
    {
        self.with_own(|own| own.on(pattern, handler))
    }

    /// Handles the waves of a pattern in batches of at most `most` waves: what has collected in the inbox while the last
    /// batch was handled, the strongest first. Under little load that is one wave, and no wave waits for a batch to fill.
    ///
    /// Such a handler has an inbox of its own. It handles one batch at a time, within the time-out, the circuit breaker and
    /// the retries of the service; the concurrency does not apply. A wave from which the item cannot be extracted is
    /// rejected alone. The result of the handler counts for each of the other waves: after an error all of them failed,
    /// and are tried again one by one if the service retries. It sends an asker only failures.
    ///
    /// ```
    /// use aether_service::{Json, Service, State};
    ///
    /// async fn store(State(table): State<&'static str>, rows: Vec<Json<u64>>) -> Result<(), std::io::Error> {
    ///     println!("{} rows into {table}", rows.len()); // one write for all of them
    ///     Ok(())
    /// }
    /// let service = Service::builder("archive").state("orders").on_batch("orders.*", 256, store);
    /// ```
    pub fn on_batch<P, H, Args>(mut self, pattern: P, most: usize, handler: H) -> Self
    where
        P: AsRef<str>,
        S: Clone,
        Args: 'static,
        H: BatchHandler<Args, S, Output: IntoOutcome>,
    {
        let set = self.own.batches(pattern, most, handler);
        self.sets.push(set);
        self
    }

    /// Handles the waves of a pattern from the durable log of the process, also those that were stored while no instance
    /// ran. The handler is one like any other: with the extractors, the concurrency, the rate, the time-out, the circuit
    /// breaker and the layers of the service, in its report, its metrics and its traces.
    ///
    /// A wave whose handler returns Ok is acknowledged. After an error, a panic or a time-out it is handled again, after a
    /// pause; when the consumer has [no attempt left](aether_log::ConsumerOptions::max_attempts) it becomes a dead letter
    /// with all attempts. A wave that is [rejected](crate::Rejection), for example because its payload cannot be read,
    /// becomes one at once. At a shutdown, a wave that is not handled within the grace period goes back to the log, and no
    /// attempt is counted. Handlers must be idempotent: after a crash a wave may be handled once more.
    ///
    /// The log is the one that the [`Aether`] was connected with, in a folder or in JetStream.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use aether_core::{AetherBuilder, Durability};
    /// use aether_log::Log;
    /// use aether_service::{Durable, Json, Service};
    ///
    /// async fn bill(Json(order): Json<u64>) -> Result<(), std::io::Error> {
    ///     println!("the bill for order {order}");
    ///     Ok(())
    /// }
    /// # let folder = tempfile::tempdir()?; let folder = folder.path();
    /// let log = Log::builder(folder).channels("orders.>", Durability::Stored)?.open()?;
    /// let aether = log.connect(AetherBuilder::new().url("local:")).await?;
    /// let service =
    ///     Service::builder("billing").on_durable("orders.>", Durable::consumer("billing"), bill).build(&aether).await?;
    /// # drop(service);
    /// # Ok(()) }
    /// ```
    pub fn on_durable<P, H, Args>(mut self, pattern: P, durable: Durable, handler: H) -> Self
    where
        P: AsRef<str>,
        S: Clone,
        Args: FromWave<S>,
        H: Handler<Args, Output: IntoOutcome, Future: Send> + Send + Sync + 'static,
    {
        let set = self.own.durable(pattern, durable, handler);
        self.sets.push(set);
        self
    }

    /// Handles the waves of a pattern from the durable log in batches of at most `most` waves: what waits in the log, so
    /// that one write of the handler does for all of it. The handler is one as of [`ServiceBuilder::on_batch`]; the fate of
    /// its waves is the one of [`ServiceBuilder::on_durable`].
    ///
    /// One batch is handled at a time, and acknowledged before the next one. After an error all waves of the batch have
    /// failed; each comes again alone, so that one that always fails takes no others with it.
    ///
    /// ```
    /// use aether_service::{Durable, Json, Service, State};
    ///
    /// async fn store(State(table): State<&'static str>, rows: Vec<Json<u64>>) -> Result<(), std::io::Error> {
    ///     println!("{} rows into {table}", rows.len()); // one write for all of them
    ///     Ok(())
    /// }
    /// let archive = Durable::consumer("archive");
    /// let service = Service::builder("archive").state("orders").on_durable_batch("orders.>", archive, 256, store);
    /// ```
    pub fn on_durable_batch<P, H, Args>(
        mut self,
        pattern: P,
        durable: Durable,
        most: usize,
        handler: H,
    ) -> Self
    where
        P: AsRef<str>,
        S: Clone,
        Args: 'static,
        H: BatchHandler<Args, S, Output: IntoOutcome>,
    {
        let mut set = self.own.batches(pattern, most, handler);
        set.limits = durable.limits.clone();
        set.durable = Some(durable);
        self.sets.push(set);
        self
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
        self.with_own(|own| own.on_query(pattern, handler))
    }

    /// Adds up the claims of a pattern, and handles each fringe like any other wave: [`Handlers::on_fringe`].
    pub fn on_fringe<P, H, Args>(self, pattern: P, options: Interfere, handler: H) -> Self
    where
        P: AsRef<str>,
        S: Clone,
        Args: FromWave<S>,
        H: Handler<Args, Output: IntoOutcome, Future: Send> + Send + Sync + 'static,
    {
        self.with_own(|own| own.on_fringe(pattern, options, handler))
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

    /// Handles the echoes of the waves that the service emits: commands and queries that failed, and waves of other
    /// kinds whose [`EchoRequest`](aether_core::wave::EchoRequest) asks for it. It sees the state that was set before.
    ///
    /// Echoes are handled one after the other, within the time-out of the service; under load they are
    /// [merged](aether_core::Echo::count). A handler that fails is logged and counted, and not called again for that
    /// echo. The last call counts. Default: failed waves of the service become dead letters where they fail.
    ///
    /// ```
    /// use aether_service::{Service, State};
    /// use aether_core::{Echo, Emitter, EmitError};
    ///
    /// async fn failed(echo: Echo, State(team): State<&'static str>, emitter: Emitter) -> Result<(), EmitError> {
    ///     let text = format!("{team}: {} failed: {} ({})", echo.channel, echo.hint, echo.key().unwrap_or("no key"));
    ///     emitter.emit_wave("alerts.failed", &text).await?; // its cause is the wave that failed
    ///     Ok(())
    /// }
    /// let service = Service::builder("shop").state("the shop team").on_echo(failed);
    /// ```
    pub fn on_echo<H, Args>(mut self, handler: H) -> Self
    where
        S: Clone,
        H: EchoHandler<Args, S, Output: IntoOutcome>,
    {
        let state = self.own.state_value().clone();
        self.on_echo = Some(Box::new(move |echo, delivery| match handler.call(echo, delivery, &state) {
            Ok(handling) => async move { handling.await.into_outcome() }.boxed(),
            Err(rejection) => ready(Err(rejection.into())).boxed(),
        }));
        self
    }

    /// Answers questions about the dead letters of this process on the bus: list, show, replay and drop, as `aether
    /// letters` asks them. The module [`letters`](crate::letters) describes them. They are handled by a set of their
    /// own, four at a time, and count in the report of the service. Of several services on one `Aether`, one answers.
    /// [`DeadLetters::keep_echoed`](aether_core::DeadLetters::keep_echoed) keeps more letters. With a
    /// [durable log](aether_log::Log) in a folder, the waves that its consumers have given up are among them. Default: no.
    ///
    /// With a durable log it also answers questions about the [queues](crate::jobs) of this process, which `aether jobs`
    /// asks: it lists, pauses, resumes, retries and cancels.
    ///
    /// Over NATS, nothing is authenticated: every client that may publish can read, replay and drop the letters.
    pub fn with_letters(mut self) -> Self {
        self.with_letters = true;
        self
    }

    /// Adds what the service emits on the channels of a pattern to its [description](crate::description). It emits with
    /// an [`Emitter`](aether_core::Emitter), which does not check this.
    pub fn emits<T: JsonSchema>(mut self, pattern: impl AsRef<str>) -> Self {
        self.about.emits.push((pattern.as_ref().to_owned(), Payload::json::<T>()));
        self
    }

    /// Sets the version and the summary of the [description](crate::description), and answers questions for it on the
    /// bus, as `aether describe` and the gateway ask them. They are handled by a set of their own and count in the report
    /// of the service. Default: the version `0.0.0`, no summary, and no answers.
    ///
    /// Cost: a subscription, an inbox of at most 64 waves, and a task. Over NATS every client that may publish can read it.
    pub fn describe(mut self, version: &str, summary: &str) -> Self {
        (self.about.version, self.about.summary) = (version.to_owned(), summary.to_owned());
        self.about.answers = true;
        self
    }

    /// The limits of the service, in place of those that were set before.
    pub(crate) fn limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
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

    /// Limits the emissions of the service, answers excluded:
    /// [`VibratorBuilder::rate`](aether_core::VibratorBuilder::rate). `None`, the default, means no limit.
    pub fn emission_rate(mut self, rate: Option<EmissionRate>) -> Self {
        self.emission = rate;
        self
    }

    /// Adds a tower layer around all handlers, inside of the limits and outside of circuit breaker and time-out. The
    /// first layer is outermost, as in `tower::ServiceBuilder`. Each set of [`handlers`](Self::handlers) is wrapped by
    /// itself: a layer that limits a rate does so for each set.
    pub fn layer<N>(mut self, layer: N) -> ServiceBuilder<S, Layers<N, L>> {
        self.is_layered = true;
        self.with(|own| own, |layers| Layers::new(layer, layers))
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
        let Self {
            name,
            own,
            sets: more,
            inbox,
            limits,
            grace,
            asking,
            on_echo,
            with_letters,
            about,
            emission,
            layers,
            is_layered,
        } = self;
        let mut sets = vec![own.into_set()];
        // A service may have all of its handlers in sets of their own.
        if sets[0].routes.is_empty() && sets[0].mistake.is_none() && (with_letters || !more.is_empty()) {
            sets.clear();
        }
        sets.extend(more);
        for set in &mut sets {
            if let Some(mistake) = set.mistake.take() {
                return Err(mistake);
            }
        }
        // A wrong name is an error of its own.
        Source::new(&name).map_err(CreateError::from)?;
        let description = Arc::new(about.describe(&name, &sets)?);
        if with_letters {
            sets.push(letters(&name, aether)?);
            sets.extend(letters_of_log(&name, aether)?);
        }
        if about.answers {
            sets.push(describing(&description));
        }
        check(&sets)?;
        let time_out = limits.in_force(&limits)?.time_out;
        let in_force: Vec<_> =
            sets.iter().map(|set| set.limits_in_force(&limits)).collect::<Result<_, _>>()?;
        for (set, limits) in sets.iter().zip(&in_force) {
            if let Some(((pattern, _), _)) = &set.batches
                && (is_layered || limits.need_a_stack())
            {
                return Err(ServiceError::LimitedBatches { pattern: pattern.clone() });
            }
        }
        let counters = ServiceCounters::default();
        let (mut emitter, mut asker, mut loops, mut hears) = (None, None, Vec::new(), Vec::new());
        let mut corroborators = Vec::new();
        for (set, limits) in sets.into_iter().zip(in_force) {
            let heard = set.heard();
            let vibrator = Vibrator::builder(&name).inbox(set.inbox.unwrap_or_else(|| inbox.clone()));
            let receiver = match &emitter {
                None => {
                    let vibrator = match &emission {
                        Some(rate) => vibrator.rate(rate.clone()),
                        None => vibrator,
                    };
                    let (main, receiver) = vibrator.create(aether).await?.split();
                    asker = Some(Asker::new(main.clone(), asking.clone()));
                    emitter = Some(main);
                    receiver
                }
                Some(main) => vibrator.create_beside(main).await?,
            };
            let (Some(emitter), Some(asker)) = (&emitter, &asker) else { continue };
            let circuit = limits.breaker.map(Circuit::new);
            let means = Means::new(emitter.clone(), asker.clone());
            let needs_a_stack = is_layered || !set.layers.is_empty() || limits.need_a_stack();
            let consumer = match &set.durable {
                Some(durable) => Some((&*durable.consumer, durable.open(aether, &heard[0].0).await?)),
                None => {
                    join(&receiver, &heard).await?;
                    None
                }
            };
            hears.extend(heard.iter().map(|(pattern, group)| match (group, &consumer) {
                (Some(group), _) => format!("{pattern} (group {group})"),
                (None, Some((name, _))) => format!("{pattern} (consumer {name})"),
                (None, None) => pattern.to_string(),
            }));
            let patterns = heard.into_iter().map(|(pattern, _)| pattern).collect();
            let (emitter, account) = (emitter.clone(), LoopAccount::new(counters.clone()));
            if let Some((_, batches)) = set.batches {
                let heard = patterns;
                loops.push(match consumer {
                    Some((_, consumer)) => SetLoop::DurableBatches(DurableBatchLoop {
                        emitter,
                        consumer,
                        heard,
                        batches,
                        means,
                        circuit,
                        limits,
                        account,
                    }),
                    None => SetLoop::Batches(BatchLoop {
                        emitter,
                        receiver,
                        heard,
                        batches,
                        means,
                        circuit,
                        limits,
                        account,
                    }),
                });
                continue;
            }
            let handling = if needs_a_stack {
                let dispatch = Dispatch::new(set.routes, means);
                SetHandling::Stack(stack(dispatch, &limits, circuit.as_ref(), &set.layers, &layers))
            } else {
                SetHandling::Lanes(Lanes::new(set.routes, means))
            };
            if let Some((_, consumer)) = consumer {
                let heard = patterns;
                let set = DurableLoop { emitter, consumer, heard, handling, circuit, limits, account };
                loops.push(SetLoop::Durable(set));
                continue;
            }
            for corroboration in set.fringes {
                corroborators.push(corroboration.start(&name, receiver.tuner(), aether).await?);
            }
            loops.push(SetLoop::Each(ServeLoop {
                emitter,
                receiver,
                heard: patterns,
                handling,
                admitting: Admitting::new(circuit.clone().filter(|_| !limits.shed_when_busy)),
                circuit,
                limits,
                account,
            }));
        }
        // There is at least one set.
        let (emitter, asker) = emitter.zip(asker).ok_or(ServiceError::NoHandlers)?;
        let echoes = match on_echo {
            Some(run) => {
                let (echoes, log_throttle) = (emitter.echoes().await?, LogThrottle::default());
                let (emitter, counters) = (emitter.clone(), counters.clone());
                Some(EchoLoop { echoes, run, emitter, asker, counters, time_out, log_throttle })
            }
            None => None,
        };
        connecting::log_changes(aether);
        let circuits = loops.iter().filter_map(SetLoop::circuit).collect();
        let accounted = account(aether, &name, counters.clone(), circuits);
        let hears = hears.join(", ");
        Ok(Service { emitter, loops, echoes, corroborators, grace, counters, description, accounted, hears })
    }
}

/// Subscribes to the patterns of a set of handlers.
async fn join(receiver: &Receiver, heard: &[Heard]) -> Result<(), ServiceError> {
    for (pattern, group) in heard {
        let joined = match group {
            Some(group) => receiver.resonate_in_group(pattern, group).await,
            None => receiver.resonate_on(pattern).await,
        };
        joined.map_err(|source| ServiceError::Join { pattern: pattern.clone(), source })?;
    }
    Ok(())
}
