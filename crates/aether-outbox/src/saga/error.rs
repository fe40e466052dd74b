//! Why sagas cannot be opened or started.

use aether_log::DeadError;
use aether_log::store::AppendError;

use crate::error::StoreError;

/// Why sagas were not opened, started or continued.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SagaError {
    /// The name cannot name sagas or a step.
    #[error("{name:?} cannot name a {what}: use 1 to 64 letters, digits, '-' and '_'")]
    Name {
        /// The name.
        name: String,
        /// The kind of thing that it should name.
        what: &'static str,
    },
    /// Two steps have one name.
    #[error("two steps of the sagas {saga} are named {step}: a saga finds its step by the name")]
    SameStep {
        /// The name of the sagas.
        saga: String,
        /// The name of both steps.
        step: String,
    },
    /// A version has no steps.
    #[error("the sagas {saga} have no steps, or a version of them has none: add at least one")]
    NoSteps {
        /// The name of the sagas.
        saga: String,
    },
    /// The id cannot name a saga.
    #[error("{id:?} cannot name a saga: use 1 to 255 bytes")]
    Id {
        /// The id.
        id: String,
    },
    /// This program has no definition for the saga.
    #[error("the saga {id} of {saga} does not go on: {reason}")]
    Undefined {
        /// The name of the sagas.
        saga: String,
        /// The id of the saga.
        id: String,
        /// What is missing.
        reason: String,
    },
    /// A saga cannot be read: its state has another type.
    #[error("the saga {id} of {saga} cannot be read: its state has another type than this program's")]
    State {
        /// The name of the sagas.
        saga: String,
        /// The id of the saga.
        id: String,
        /// Where, and why.
        source: serde_json::Error,
    },
    /// The sagas are run already.
    #[error("the sagas {saga} are run already: one runner at a time")]
    Running {
        /// The name of the sagas.
        saga: String,
    },
    /// The saga does not stand still.
    #[error("the saga {id} of {saga} does not stand still: it is at work, or has ended")]
    NotStandingStill {
        /// The name of the sagas.
        saga: String,
        /// The id of the saga.
        id: String,
    },
    /// The store cannot be read or written.
    #[error("the sagas cannot be stored")]
    Store(#[from] StoreError),
    /// The dead letters cannot be written.
    #[error("the dead letter of the saga cannot be written")]
    Letter(#[from] AppendError),
    /// The dead letter of the saga stays.
    #[error("the saga goes on, and its dead letter stays")]
    Dead(#[from] DeadError),
}
