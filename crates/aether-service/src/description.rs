//! Descriptions of services: what each receives, answers and emits, with JSON schemas, as AsyncAPI 3.1.
//!
//! A service is described by its handlers: the patterns and groups that they are registered for, and the types of
//! [`Typed`](crate::Typed) arguments and answers. [`ServiceBuilder::emits`](crate::ServiceBuilder::emits) adds what it
//! emits. [`Service::asyncapi`](crate::Service::asyncapi) returns the document;
//! [`ServiceBuilder::describe`](crate::ServiceBuilder::describe) makes the service answer questions for it on the bus, on a
//! channel of its own, `aether.descriptions.ID`, which a [roster](aether_core::presence::Roster) shows. A [`Directory`] asks
//! all services that answer; `aether describe` and the gateway use it.
//!
//! Nothing is authenticated: any program that may publish can describe itself as it likes. What is read from others is
//! therefore bounded, and refers to nothing outside of itself.
//!
//! ```
//! # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! use aether_service::{Service, Typed};
//! use aether_core::Aether;
//!
//! let service = Service::builder("doubler")
//!     .on_query("double", async |Typed(number): Typed<u32>| Typed(2 * number))
//!     .emits::<String>("doubled")
//!     .describe("1.0.0", "Doubles numbers")
//!     .build(&Aether::local())
//!     .await?;
//! let document = service.asyncapi();
//! assert_eq!(document["asyncapi"], "3.1.0");
//! assert_eq!(document["channels"]["double"]["address"], "double");
//! # Ok(()) }
//! ```

mod answering;
mod asyncapi;
mod collected;
mod directory;
mod error;
mod model;
mod references;

pub(crate) use answering::{Announcer, answer};
pub use answering::{CHANNELS, DescriptionAnswer, channel_of, id_of};
pub use asyncapi::{ASYNCAPI_VERSION, asyncapi};
pub(crate) use collected::Collected;
pub use directory::{Described, Directory, Listing, RefusedDescriptions};
pub use error::DescriptionError;
pub use model::{Action, Description, MAX_BYTES, Message, Operation};
