//! Handlers of echoes: what a service does when one of its own waves failed.

use aether_core::Echo;

use super::{Delivery, FromWave, Rejection};

/// An async function over an [`Echo`] and extractors, for
/// [`ServiceBuilder::on_echo`](crate::ServiceBuilder::on_echo). It is implemented for all such functions, never by hand.
///
/// The extractors see the wave that failed, as far as the echo carries it ([`Echo::to_wave`]): an `Emitter` names it as
/// the cause of what it emits, and `Json<T>` reads its payload, if that was
/// [asked for](aether_core::wave::EchoRequest::payload).
///
/// ```compile_fail,E0277
/// # use aether_service::Service;
/// async fn takes_no_echo(wave: aether_core::Wave) {}
/// let service = Service::builder("service").on_echo(takes_no_echo);
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a handler of echoes",
    label = "not an async function that takes an `Echo` first",
    note = "a handler of echoes is an `async fn` whose first argument is an `Echo`; up to five extractors follow"
)]
pub trait EchoHandler<Args, S>: Send + Sync + 'static {
    /// The return type of the function.
    type Output: 'static;
    /// The future of the function.
    type Future: Future<Output = Self::Output> + Send + 'static;

    /// Extracts the arguments and calls the function.
    ///
    /// # Errors
    /// [`Rejection`] if an argument cannot be extracted.
    fn call(&self, echo: Echo, delivery: &Delivery, state: &S) -> Result<Self::Future, Rejection>;
}

macro_rules! echo_handler {
    ($($arg:ident),*) => {
        impl<F, Fut, S, $($arg),*> EchoHandler<($($arg,)*), S> for F
        where
            F: Fn(Echo, $($arg),*) -> Fut + Send + Sync + 'static,
            Fut: Future + Send + 'static,
            $($arg: FromWave<S>,)*
        {
            type Output = Fut::Output;
            type Future = Fut;

            #[allow(unused_variables, reason = "a handler of the echo alone")]
            fn call(&self, echo: Echo, delivery: &Delivery, state: &S) -> Result<Fut, Rejection> {
                Ok(self(echo, $($arg::from_wave(delivery, state)?),*))
            }
        }
    };
}

echo_handler!();
echo_handler!(A);
echo_handler!(A, B);
echo_handler!(A, B, C);
echo_handler!(A, B, C, D);
echo_handler!(A, B, C, D, E);
