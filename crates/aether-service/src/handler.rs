//! Handlers: async functions whose arguments are extracted from a wave.
//!
//! Users write them, [`Service`](crate::Service) calls them. A handler is any `async fn` with up to six arguments that
//! implement [`FromWave`]: the wave, its payload as JSON, shared state, an emitter, an asker. Its return value is the
//! outcome ([`IntoOutcome`]) or the answer ([`IntoAnswer`]).

mod answer;
mod batch;
mod delivery;
mod echo;
mod extract;
mod payload;

pub use answer::{Answer, IntoAnswer, IntoOutcome};
pub use batch::BatchHandler;
pub use delivery::Delivery;
pub(crate) use delivery::Means;
pub use echo::EchoHandler;
pub use extract::{FromWave, Json, Rejection, State, Typed};
pub use payload::Payload;

/// An async function over extractors. It is implemented for all such functions, never by hand.
///
/// `Args` is the tuple of its arguments, which is an extractor itself. All arguments are extracted before the function
/// is called. If one cannot be extracted, the wave is rejected and the function is not called.
///
/// ```
/// use aether_service::{Json, Service, State};
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
///     .on("c", async |emitter: Emitter| emitter.emit_wave("told", &"c").await)
///     .state(3)
///     .on_query("d", question);
/// ```
///
/// The compiler rejects everything else, and names the mistake: an argument that cannot be extracted, missing state, a
/// payload that cannot be read, a value where none is sent.
///
/// ```compile_fail,E0277
/// # use aether_service::Service;
/// async fn takes_a_number(number: u32) {}
/// let service = Service::builder("service").on("a", takes_a_number);
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a handler",
    label = "not an async function of at most six arguments",
    note = "a handler is an `async fn`, or an async closure, of at most six arguments"
)]
pub trait Handler<Args> {
    /// The return type of the function.
    type Output: 'static;
    /// The future of the function.
    type Future: Future<Output = Self::Output> + 'static;

    /// Calls the function.
    fn call(&self, args: Args) -> Self::Future;
}

/// Functions of a number of arguments are handlers, and the tuple of these arguments is an extractor. The two are apart,
/// so that the compiler first counts the arguments and then names the one that is wrong.
macro_rules! handler {
    ($($arg:ident $value:ident),*) => {
        impl<F, Fut, $($arg),*> Handler<($($arg,)*)> for F
        where
            F: Fn($($arg),*) -> Fut,
            Fut: Future<Output: 'static> + 'static,
        {
            type Output = Fut::Output;
            type Future = Fut;

            fn call(&self, ($($value,)*): ($($arg,)*)) -> Fut {
                self($($value),*)
            }
        }

        impl<S, $($arg: FromWave<S>),*> FromWave<S> for ($($arg,)*) {
            #[allow(unused_variables, clippy::unused_unit, reason = "a handler without arguments")]
            fn from_wave(delivery: &Delivery, state: &S) -> Result<Self, Rejection> {
                Ok(($($arg::from_wave(delivery, state)?,)*))
            }

            #[allow(unused_mut, reason = "a handler without arguments")]
            fn payload() -> Option<Payload> {
                let mut payload = None;
                $(payload = payload.or_else(<$arg as FromWave<S>>::payload);)*
                payload
            }
        }
    };
}

handler!();
handler!(A a);
handler!(A a, B b);
handler!(A a, B b, C c);
handler!(A a, B b, C c, D d);
handler!(A a, B b, C c, D d, E e);
handler!(A a, B b, C c, D d, E e, G g);
