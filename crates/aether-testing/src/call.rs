//! Calling a handler or an extractor in a unit test, without a service.

use std::panic::Location;

use aether_core::{Aether, Kind, Vibrator, Wave, WaveBuilder};
use aether_service::{Asker, AskerOptions, Delivery, FromWave, Handler, IntoAnswer, Rejection};
use serde::Serialize;
use tower::BoxError;

use crate::matcher::Matcher;

/// Calls a handler that takes no state with a wave. [`Call`] has options.
///
/// ```
/// use aether_service::Json;
/// use aether_core::{EmitError, Emitter, Wave};
///
/// async fn confirm(Json(order): Json<u32>, emitter: Emitter) -> Result<(), EmitError> {
///     emitter.emit_wave("orders.confirmed", &order).await?;
///     Ok(())
/// }
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() {
/// let called = aether_testing::call(confirm, Wave::new("orders.created", &17).unwrap()).await;
/// assert!(called.returned.unwrap().is_ok());
/// assert_eq!(called.emitted[0].channel().as_str(), "orders.confirmed");
/// # }
/// ```
///
/// # Panics
/// If the wave cannot be emitted: its channel is reserved, or it is too large.
#[track_caller]
pub fn call<H, Args>(handler: H, wave: Wave) -> impl Future<Output = Called<H::Output>>
where
    H: Handler<Args>,
    Args: FromWave<()>,
{
    Call::new(wave).run(handler)
}

/// Extracts one argument of a handler from a wave, for tests of extractors.
///
/// ```
/// use aether_service::{Delivery, FromWave, Rejection};
/// use aether_core::Wave;
///
/// struct OrderId(String);
/// impl<S> FromWave<S> for OrderId {
///     fn from_wave(delivery: &Delivery, _: &S) -> Result<Self, Rejection> {
///         let key = delivery.wave().key().ok_or_else(|| Rejection::new("no order in the key"))?;
///         Ok(Self(key.to_owned()))
///     }
/// }
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() {
/// let wave = Wave::builder("orders.created").key("17").build().unwrap();
/// assert_eq!(aether_testing::extract::<OrderId, _>(wave, &()).await.unwrap().0, "17");
/// # }
/// ```
///
/// # Errors
/// [`Rejection`] of the extractor.
///
/// # Panics
/// As [`call`].
#[track_caller]
pub fn extract<T, S>(wave: Wave, state: &S) -> impl Future<Output = Result<T, Rejection>>
where
    T: FromWave<S>,
{
    crate::follow_tokio();
    let at = Location::caller();
    async move {
        let stage = Stage::set(wave, Vec::new(), at).await;
        T::from_wave(&stage.delivery, state)
    }
}

/// A call of a handler: the wave, the state, and the answers to what the handler asks.
#[derive(Debug)]
#[must_use = "nothing happens before run()"]
pub struct Call<S = ()> {
    wave: Wave,
    state: S,
    answers: Vec<(Matcher, Vec<u8>)>,
}

/// The result of a call.
#[derive(Debug)]
#[non_exhaustive]
pub struct Called<T> {
    /// The return value of the handler, or why an argument could not be extracted.
    pub returned: Result<T, Rejection>,
    /// The waves that it emitted, asked and answered by hand, in that order in time. Each names the wave as its cause.
    pub emitted: Vec<Wave>,
}

impl<T: IntoAnswer> Called<T> {
    /// The answer of a query handler as a wave: its payload, content type and metadata.
    ///
    /// # Errors
    /// The error that the handler returned, its [`Rejection`], or that the answer cannot be written.
    pub fn answer(self) -> Result<Wave, BoxError> {
        let answer = self.returned?.into_answer()?;
        let wave =
            answer.into_wave().map_or_else(|| Ok(Wave::builder("answer")), Ok::<WaveBuilder, BoxError>)?;
        Ok(wave.kind(Kind::Response).build()?)
    }
}

impl Call {
    /// A call with this wave.
    pub fn new(wave: Wave) -> Self {
        crate::follow_tokio();
        Self { wave, state: (), answers: Vec::new() }
    }
}

impl<S> Call<S> {
    /// Sets the state that the handler extracts. Default: `()`.
    pub fn state<T>(self, state: T) -> Call<T> {
        Call { wave: self.wave, state, answers: self.answers }
    }

    /// Answers what the handler asks on a pattern with this value as JSON. The first pattern that matches counts; a
    /// question that none matches fails at once with `NoResonator`.
    ///
    /// # Panics
    /// If the pattern is invalid or the value cannot be written as JSON.
    #[track_caller]
    pub fn answer(mut self, pattern: &str, payload: &impl Serialize) -> Self {
        match serde_json::to_vec(payload) {
            Ok(bytes) => self.answers.push((Matcher::on(pattern), bytes)),
            Err(error) => panic!("the answer on {pattern} cannot be written as JSON: {error}"),
        }
        self
    }

    /// Calls the handler.
    ///
    /// # Panics
    /// As [`call`], and if the handler panics.
    ///
    /// # Cancel safety
    /// Cancelled before completion, the handler ends at its next await point.
    #[track_caller]
    pub fn run<H, Args>(self, handler: H) -> impl Future<Output = Called<H::Output>>
    where
        H: Handler<Args>,
        Args: FromWave<S>,
    {
        let at = Location::caller();
        async move {
            let mut stage = Stage::set(self.wave, self.answers, at).await;
            let returned = match Args::from_wave(&stage.delivery, &self.state) {
                Ok(args) => Ok(handler.call(args).await),
                Err(rejection) => Err(rejection),
            };
            Called { returned, emitted: stage.emitted() }
        }
    }
}

/// A bus in process with a receiver for one wave.
struct Stage {
    delivery: Delivery,
    observer: Vibrator,
    _handler: Vibrator,
    answering: Option<tokio::task::AbortHandle>,
}

impl Stage {
    async fn set(wave: Wave, answers: Vec<(Matcher, Vec<u8>)>, at: &Location<'_>) -> Self {
        match Self::try_set(wave, answers).await {
            Ok(stage) => stage,
            Err(error) => panic!("the wave cannot be delivered ({at}): {error}"),
        }
    }

    async fn try_set(wave: Wave, answers: Vec<(Matcher, Vec<u8>)>) -> Result<Self, BoxError> {
        let aether = Aether::local();
        let mut handler = Vibrator::create("handler", &aether).await?;
        handler.resonate_on(wave.channel()).await?;
        let caller = Vibrator::create("caller", &aether).await?.emitter();
        let is_query = wave.kind() == Kind::Query;
        match is_query {
            // The asker waits for as long as the stage exists; dropping the runtime or the answer ends it.
            true => drop(tokio::spawn(async move { caller.ask(wave).await })),
            false => drop(caller.emit(wave).await?),
        }
        let wave = handler.receive().await.ok_or("the bus was closed")?;
        handler.detune(wave.channel())?;
        let inbox = aether_core::InboxOptions::default().order(aether_core::ServeOrder::Arrival);
        let observer = Vibrator::builder("observer").inbox(inbox).observe().create(&aether).await?;
        observer.resonate_on("*").await?;
        let answering = match answers.is_empty() {
            true => None,
            false => Some(answering(&aether, answers).await?),
        };
        let emitter = handler.emitter();
        let asker = Asker::new(emitter.clone(), AskerOptions::default());
        Ok(Self { delivery: Delivery::new(wave, &emitter, &asker), observer, _handler: handler, answering })
    }

    /// The waves that the handler emitted, asked and answered.
    fn emitted(&mut self) -> Vec<Wave> {
        let handler = self.delivery.emitter().source();
        std::iter::from_fn(|| self.observer.try_receive().ok())
            .filter(|wave| wave.source() == handler)
            .collect()
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        if let Some(answering) = &self.answering {
            answering.abort();
        }
    }
}

/// Answers questions in a task of its own.
async fn answering(
    aether: &Aether,
    answers: Vec<(Matcher, Vec<u8>)>,
) -> Result<tokio::task::AbortHandle, BoxError> {
    let mut answerer = Vibrator::create("answerer", aether).await?;
    for (matcher, _) in &answers {
        answerer.resonate_on(matcher.pattern()).await?;
    }
    let task = tokio::spawn(async move {
        while let Some(question) = answerer.receive().await {
            let answer = answers.iter().find(|(matcher, _)| matcher.matches(&question));
            if let Some((_, payload)) = answer {
                // An asker that gave up has its reason.
                let _ = question.reply_bytes(payload.clone()).await;
            }
        }
    });
    Ok(task.abort_handle())
}
