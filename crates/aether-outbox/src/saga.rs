//! Sagas: work of several steps that ends completely, or is undone, also through crashes.
//!
//! A saga is a state and a course of [`Step`]s. The state is written after each step, in one transaction with the waves
//! and changes of the step. A step that fails, panics or takes too long is made again, and at last the steps before it
//! are undone in the opposite order. After a crash each saga goes on with the step that was interrupted. So a step may
//! be made more than once: its effects outside of the store have to be repeatable, and its effects by [`Run::change`]
//! and [`Run::emit`] happen once.
//!
//! A definition of steps has a [version](SagaBuilder::version), which a saga keeps until it ends. A saga that this
//! program has no definition for does not go on, and the others do.
//!
//! ```
//! # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! use std::time::Duration;
//!
//! use aether_core::Wave;
//! use aether_log::Log;
//! use aether_outbox::{Run, Sagas, Step, StepError, Store};
//!
//! # let folder = tempfile::tempdir()?; let folder = folder.path();
//! let log = Log::builder(folder.join("log")).open()?;
//! let store = Store::builder("shop").open(folder.join("shop.redb"))?;
//! let orders = Sagas::builder("orders")
//!     .step(Step::new("pay", |run: Run<String>| async move { Ok(run) }).within(Duration::from_secs(5)))
//!     .step(Step::new("ship", |mut run: Run<String>| async move {
//!         run.state.push_str(", shipped");
//!         run.emit(Wave::builder("orders.shipped").text(run.state.clone()).build()?);
//!         Ok(run)
//!     }))
//!     .open(&store, &log)?;
//! let runner = orders.spawn()?;
//!
//! let change = store.begin()?;
//! assert!(orders.start(&change, "order-17", &"a lamp".to_owned())?);
//! change.commit()?;
//! let ledger = orders.wait_for(|ledger| ledger.running == 0).await;
//! assert_eq!((ledger.started, ledger.completed), (1, 1));
//! println!("{}", runner.close(Duration::from_secs(1)).await);
//! # Ok(()) }
//! ```

mod course;
mod error;
mod ledger;
mod operating;
mod record;
mod runner;
mod sagas;
mod shared;
mod standing;
mod step;

pub use error::SagaError;
pub use ledger::SagaLedger;
pub use record::StuckSaga;
pub use runner::SagaRunner;
pub use sagas::{SagaBuilder, Sagas};
pub use standing::{Standing, StandingSaga};
pub use step::{Run, Step, StepError};
