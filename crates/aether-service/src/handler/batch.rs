//! Handlers of batches: many waves in one call.

use super::{Delivery, FromWave, Rejection, State};

/// An async function over many waves at once, for [`ServiceBuilder::on_batch`](crate::ServiceBuilder::on_batch). It is
/// implemented for all such functions, never by hand.
///
/// Its last argument is a `Vec<T>` with one item for each wave, where `T` is any extractor ([`FromWave`]) or a tuple of
/// them: `Vec<Json<Order>>`, `Vec<(Wave, Json<Order>)>`, `Vec<(Json<Order>, Emitter)>`. An emitter names the wave of its own
/// item as the cause. A function of two arguments takes the [`State`] first.
///
/// ```compile_fail,E0277
/// # use aether_service::Service;
/// async fn takes_one(wave: aether_core::Wave) {}
/// let service = Service::builder("service").on_batch("a", 64, takes_one);
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a handler of batches",
    label = "not an async function of a `Vec<T>`, or of a `State<S>` and a `Vec<T>`",
    note = "T is an extractor, such as `Wave` or `Json<Order>`, or a tuple of extractors"
)]
pub trait BatchHandler<Args, S>: Send + Sync + 'static {
    /// The item that the function makes of each wave.
    type Item: FromWave<S> + Send + 'static;
    /// The return type of the function.
    type Output: 'static;
    /// The future of the function.
    type Future: Future<Output = Self::Output> + Send + 'static;

    /// Calls the function.
    fn call(&self, items: Vec<Self::Item>, state: &S) -> Self::Future;

    /// The item of a wave.
    ///
    /// # Errors
    /// [`Rejection`] if it cannot be extracted. The function is then called without it.
    fn item(&self, delivery: &Delivery, state: &S) -> Result<Self::Item, Rejection> {
        Self::Item::from_wave(delivery, state)
    }
}

impl<F, Fut, T, S> BatchHandler<(Vec<T>,), S> for F
where
    F: Fn(Vec<T>) -> Fut + Send + Sync + 'static,
    Fut: Future<Output: 'static> + Send + 'static,
    T: FromWave<S> + Send + 'static,
{
    type Item = T;
    type Output = Fut::Output;
    type Future = Fut;

    fn call(&self, items: Vec<T>, _: &S) -> Fut {
        self(items)
    }
}

impl<F, Fut, T, S> BatchHandler<(State<S>, Vec<T>), S> for F
where
    F: Fn(State<S>, Vec<T>) -> Fut + Send + Sync + 'static,
    Fut: Future<Output: 'static> + Send + 'static,
    T: FromWave<S> + Send + 'static,
    S: Clone,
{
    type Item = T;
    type Output = Fut::Output;
    type Future = Fut;

    fn call(&self, items: Vec<T>, state: &S) -> Fut {
        self(State(state.clone()), items)
    }
}
