//! Handlers: async functions whose arguments are extracted from a wave.
//!
//! Users write them, [`Service`](crate::Service) calls them. A handler is any `async fn` with up to six arguments that
//! implement [`FromWave`]: the wave, its payload as JSON, shared state, an emitter, an asker. Its return value is the
//! outcome ([`IntoOutcome`]) or the answer ([`IntoAnswer`]).

mod answer;
mod delivery;
mod echo;
mod extract;

pub use answer::{Answer, IntoAnswer, IntoOutcome};
pub use delivery::Delivery;
pub use echo::EchoHandler;
pub use extract::{FromWave, Json, Rejection, State};

/// An async function over extractors. It is implemented for all such functions, never by hand.
///
/// `Args` is the tuple of its arguments, `S` the state of the service. All arguments are extracted before the function
/// is called. If one cannot be extracted, the wave is rejected and the function is not called.
///
/// ```
/// use aether_chassis::{Json, Service, State};
/// use aether_core::{Emitter, Wave};
///
/// async fn nothing() {}
/// async fn fallible(wave: Wave) -> Result<(), std::str::Utf8Error> {
///     std::str::from_utf8(wave.payload()).map(drop)
/// }
/// async fn question(State(factor): State<u32>, Json(number): Json<u32>) -> Json<u32> {
///     Json(factor * number)
/// }
/// let service = Service::builder("service")
///     .on("a", nothing)
///     .on("b", fallible)
///     .on("c", async |emitter: Emitter| emitter.emit_wave("told", &"c").await.map(drop))
///     .state(3)
///     .on_query("d", question);
/// ```
///
/// The compiler rejects invalid arguments and missing state:
///
/// ```compile_fail,E0277
/// # use aether_chassis::Service;
/// async fn takes_a_number(number: u32) {}
/// let service = Service::builder("service").on("a", takes_a_number);
/// ```
///
/// ```compile_fail,E0277
/// # use aether_chassis::{Service, State};
/// async fn takes_state(State(number): State<u32>) {}
/// let service = Service::builder("service").state("text").on("a", takes_state);
/// ```
///
/// ```compile_fail,E0277
/// # use aether_chassis::Service;
/// async fn returns_a_value() -> u32 { 1 }
/// let service = Service::builder("service").on("a", returns_a_value);
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a handler",
    label = "not an async function over extractors",
    note = "a handler is an `async fn` of at most six arguments, each of which implements `FromWave<S>` for the state S \
            of the service: `Wave`, `Json<T>`, `State<S>`, `Emitter`, `Asker`",
    note = "`State<S>` needs a call of `.state(S)` before `.on(..)`",
    note = "its future must be `Send`: it must not hold an `Rc` or the guard of a std lock across an `.await`"
)]
pub trait Handler<Args, S>: Send + Sync + 'static {
    /// What the function returns.
    type Output: 'static;
    /// The future of the function.
    type Future: Future<Output = Self::Output> + Send + 'static;

    /// Extracts the arguments from the wave and calls the function.
    ///
    /// # Errors
    /// [`Rejection`] if an argument cannot be extracted from this wave.
    fn call(&self, delivery: &Delivery, state: &S) -> Result<Self::Future, Rejection>;
}

macro_rules! handler {
    ($($arg:ident),*) => {
        impl<F, Fut, S, $($arg),*> Handler<($($arg,)*), S> for F
        where
            F: Fn($($arg),*) -> Fut + Send + Sync + 'static,
            Fut: Future + Send + 'static,
            $($arg: FromWave<S>,)*
        {
            type Output = Fut::Output;
            type Future = Fut;

            #[allow(unused_variables, reason = "a handler without arguments")]
            fn call(&self, delivery: &Delivery, state: &S) -> Result<Fut, Rejection> {
                Ok(self($($arg::from_wave(delivery, state)?),*))
            }
        }
    };
}

handler!();
handler!(A);
handler!(A, B);
handler!(A, B, C);
handler!(A, B, C, D);
handler!(A, B, C, D, E);
handler!(A, B, C, D, E, G);
