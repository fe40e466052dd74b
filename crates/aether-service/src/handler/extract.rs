//! Extractors: the arguments of handlers, taken from a wave.

use std::error::Error;
use std::fmt;
use std::ops::Deref;

use aether::physics::Fringe;
use aether_core::{Emitter, Wave};
use schemars::JsonSchema;
use serde::de::DeserializeOwned;

use super::{Delivery, Payload};
use crate::Asker;

/// An extractor: a type that can be an argument of a handler.
///
/// Implement it for values that several handlers read in the same way, such as an order id in the coherence key.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be an argument of a handler in a service with the state `{S}`",
    label = "not an extractor for the state `{S}`",
    note = "use `Wave`, `Json<T>`, `State<{S}>`, `Emitter`, `Asker`, or implement `FromWave<S>`"
)]
pub trait FromWave<S>: Sized {
    /// Extracts the value.
    ///
    /// # Errors
    /// [`Rejection`] if the wave lacks it. The handler is then not called, the wave counts as rejected, and the asker
    /// receives the reason.
    fn from_wave(delivery: &Delivery, state: &S) -> Result<Self, Rejection>;

    /// The payload that it reads, for the [description](crate::description) of the service. `None`, the default, if it
    /// reads none.
    #[must_use]
    fn payload() -> Option<Payload> {
        None
    }
}

/// A wave that a handler cannot accept. It is never retried, because another attempt cannot help. A handler may also
/// return it as its error.
pub struct Rejection {
    text: String,
    source: Option<Box<dyn Error + Send + Sync>>,
}

impl Rejection {
    /// A rejection with its reason, which is sent to the asker.
    #[must_use]
    pub fn new(text: impl Into<String>) -> Self {
        Self { text: text.into(), source: None }
    }

    /// Like [`new`](Self::new), with the underlying error.
    #[must_use]
    pub fn caused_by(text: impl Into<String>, source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self { text: text.into(), source: Some(source.into()) }
    }
}

impl fmt::Display for Rejection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl fmt::Debug for Rejection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Rejection").field("text", &self.text).field("source", &self.source).finish()
    }
}

impl Error for Rejection {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        Some(self.source.as_deref()?)
    }
}

/// As an argument, the payload read as JSON. As the return value of a query handler, an answer written as JSON. The
/// [description](crate::description) of a service states no more than that; [`Typed`] adds the schema.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Json<T>(
    /// The value.
    pub T,
);

/// As [`Json`], for a type with a JSON schema, which is then in the [description](crate::description) of the service. Derive
/// `schemars::JsonSchema` for the type.
///
/// ```
/// use aether_service::{Service, Typed, schemars::{self, JsonSchema}};
/// use serde::{Deserialize, Serialize};
///
/// #[derive(Serialize, Deserialize, JsonSchema)]
/// struct Guest {
///     name: String,
/// }
///
/// let service = Service::builder("greeter").on_query("greet", async |Typed(guest): Typed<Guest>| {
///     Typed(format!("hello, {}", guest.name))
/// });
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Typed<T>(
    /// The value.
    pub T,
);

/// A clone of the state given to the service before the handler was registered. Share large or mutable state with an
/// `Arc`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct State<S>(
    /// The state.
    pub S,
);

impl<T> Deref for Typed<T> {
    type Target = T;
    fn deref(&self) -> &T {
        &self.0
    }
}

impl<T> Deref for Json<T> {
    type Target = T;
    fn deref(&self) -> &T {
        &self.0
    }
}

impl<S> Deref for State<S> {
    type Target = S;
    fn deref(&self) -> &S {
        &self.0
    }
}

impl<T: DeserializeOwned, S> FromWave<S> for Json<T> {
    fn from_wave(delivery: &Delivery, _: &S) -> Result<Self, Rejection> {
        let read = delivery.wave().json();
        read.map(Json).map_err(|error| Rejection::caused_by("the payload cannot be read", error))
    }

    fn payload() -> Option<Payload> {
        Some(Payload::of_type("application/json"))
    }
}

impl<T: DeserializeOwned + JsonSchema, S> FromWave<S> for Typed<T> {
    fn from_wave(delivery: &Delivery, state: &S) -> Result<Self, Rejection> {
        Json::from_wave(delivery, state).map(|Json(value)| Self(value))
    }

    fn payload() -> Option<Payload> {
        Some(Payload::json::<T>())
    }
}

impl<S: Clone> FromWave<S> for State<S> {
    fn from_wave(_: &Delivery, state: &S) -> Result<Self, Rejection> {
        Ok(Self(state.clone()))
    }
}

/// The wave itself.
impl<S> FromWave<S> for Wave {
    fn from_wave(delivery: &Delivery, _: &S) -> Result<Self, Rejection> {
        Ok(delivery.wave().clone())
    }
}

/// Emits under the name of the service. Everything it emits or asks names the wave as its cause, belongs to its request
/// and carries its baggage.
impl<S> FromWave<S> for Emitter {
    fn from_wave(delivery: &Delivery, _: &S) -> Result<Self, Rejection> {
        Ok(delivery.emitter().clone())
    }
}

/// Asks with retries. Every question names the wave as its cause, belongs to its request and carries its baggage.
impl<S> FromWave<S> for Asker {
    fn from_wave(delivery: &Delivery, _: &S) -> Result<Self, Rejection> {
        Ok(delivery.asker().clone())
    }
}

/// The fringe that a service reports to the handler of
/// [`on_fringe`](crate::ServiceBuilder::on_fringe).
impl<S> FromWave<S> for Fringe {
    fn from_wave(delivery: &Delivery, _: &S) -> Result<Self, Rejection> {
        let read = delivery.wave().json();
        read.map_err(|error| Rejection::caused_by("the wave carries no fringe", error))
    }

    fn payload() -> Option<Payload> {
        Some(Payload::of_type("application/json"))
    }
}

/// For a handler that deals with unreadable waves itself.
impl<T: FromWave<S>, S> FromWave<S> for Result<T, Rejection> {
    fn from_wave(delivery: &Delivery, state: &S) -> Result<Self, Rejection> {
        Ok(T::from_wave(delivery, state))
    }

    fn payload() -> Option<Payload> {
        T::payload()
    }
}
