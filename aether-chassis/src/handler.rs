//! Handlers: async functions that a service calls with what they ask for.
//!
//! Written by users, called by [`Service`](crate::Service). A handler is any `async fn` of up to six arguments that can
//! be taken from a wave ([`FromWave`]): the raw wave, its payload as JSON, shared state, an emitter, an asker. What it
//! returns says how it ended ([`IntoOutcome`]), or is the answer ([`IntoAnswer`]).

mod answer;
mod delivery;
mod extract;

pub use answer::{Answer, IntoAnswer, IntoOutcome};
pub use delivery::Delivery;
pub use extract::{FromWave, Json, Rejection, State};

/// An async function over extractors; implemented for all of them, never by hand.
///
/// `Args` is the tuple of its arguments, `S` the state of the service. The arguments are taken before the function
/// starts; if one cannot be, the wave is rejected and the function is not called.
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
/// What cannot be an argument, and state that was not given, is found by the compiler:
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
    message = "`{Self}` is no handler",
    label = "not an async function over extractors",
    note = "a handler is an `async fn` of at most six arguments, each of which implements `FromWave<S>` for the state S \
            of the service: `Wave`, `Json<T>`, `State<S>`, `Emitter`, `Asker`",
    note = "`State<S>` can only be taken where `.state(S)` stands before `.on(..)`",
    note = "its future must be `Send`: it may not hold an `Rc` or the guard of a std lock across an `.await`"
)]
pub trait Handler<Args, S>: Send + Sync + 'static {
    /// What the function returns in the end.
    type Output: 'static;
    /// The function on its way.
    type Future: Future<Output = Self::Output> + Send + 'static;

    /// Takes the arguments out of the wave and calls the function.
    ///
    /// # Errors
    /// [`Rejection`] if an argument cannot be taken from this wave.
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
