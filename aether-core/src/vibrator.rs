//! The vibrator: the handle a service holds to emit and to receive.
//!
//! A [`Vibrator`] is an [`Emitter`], which can be cloned and handed around, and a [`Receiver`] with one inbox, however
//! many patterns it is tuned to. [`Vibrator::split`] takes them apart. A [`Tuner`] changes what a receiver hears while
//! another task owns it.
//!
//! ```
//! use aether_core::{Aether, Vibrator};
//!
//! # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let aether = Aether::local();
//! let mut stock = Vibrator::create("stock", &aether).await?;
//! stock.resonate_on("orders.*").await?;
//!
//! let shop = Vibrator::create("shop", &aether).await?;
//! shop.emit_wave("orders.created", &"a lamp").await?;
//!
//! let wave = stock.receive().await.expect("the medium is open");
//! assert_eq!(wave.json::<String>()?, "a lamp");
//! assert_eq!(wave.source().name(), "shop");
//! # Ok(()) }
//! ```

mod ask;
mod batch;
pub(crate) mod builder;
mod derived;
pub(crate) mod emitter;
pub(crate) mod handle;
mod pace;
pub(crate) mod receiver;
mod tracer;
pub(crate) mod tuner;

pub use crate::emission::{EmissionRate, EmissionRateError};
pub use ask::Question;
pub use batch::{BatchReceipt, EmitAllError};
pub(crate) use emitter::Emitter;
pub use emitter::EmitterAccount;
pub(crate) use handle::Vibrator;
pub(crate) use receiver::Receiver;
pub use receiver::TryReceiveError;
pub use tracer::{Emission, EmitSpan, EmitTracer, TracerInstalled, set_emit_tracer};
pub(crate) use tuner::Tuner;
