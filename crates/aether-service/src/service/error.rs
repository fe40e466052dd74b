//! Why a service could not be built or run.

use aether::physics::InterfereError;
use aether_core::echo::EchoesError;
use aether_core::{CreateError, JoinError, Pattern, wave::ChannelError};
use aether_log::{ResonateError, WeightError};
use tower::BoxError;

use super::limits::LimitsError;
use crate::description::DescriptionError;

/// Why a service could not be built or run. A service that was not built has no subscriptions.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ServiceError {
    /// The pattern of a handler is not valid.
    #[error("handler number {number} has an invalid pattern: {given:?}")]
    Pattern {
        /// The position of the handler in the order of registration in its set, from 1.
        number: usize,
        /// The pattern as given.
        given: String,
        /// What is wrong with it.
        source: ChannelError,
    },
    /// The name of a group is not valid.
    #[error("{given:?} is not a valid group name")]
    Group {
        /// The name as given.
        given: String,
        /// What is wrong with it.
        source: ChannelError,
    },
    /// A group without handlers.
    #[error("the group {group} has no handlers: it applies to handlers that are registered after it")]
    EmptyGroup {
        /// The group.
        group: String,
    },
    /// The service, or one of its sets of handlers, has no handlers.
    #[error(
        "the service or one of its sets has no handlers: use .on(pattern, handler) or .on_query(pattern, handler)"
    )]
    NoHandlers,
    /// A batch of no waves.
    #[error("the handler of batches for {pattern} takes 0 waves at once: use at least 1")]
    EmptyBatch {
        /// The handler's pattern.
        pattern: Pattern,
    },
    /// Limits that count single waves apply to a handler of batches.
    #[error(
        "the handler of batches for {pattern} is in a service with a rate, layers or shedding when busy, which count single waves: give these to a set of the other handlers"
    )]
    LimitedBatches {
        /// The handler's pattern.
        pattern: Pattern,
    },
    /// A handler that could never be called.
    #[error(
        "the handler for {pattern} can never be called: the handler for {by}, registered before it, takes all of its waves"
    )]
    Unreachable {
        /// The handler's pattern.
        pattern: Pattern,
        /// The pattern before it that covers it.
        by: Pattern,
    },
    /// Two patterns share channels but not the group, so some waves would be handled twice.
    #[error(
        "the handlers for {first} and {second} share channels and are not in one group: some waves would be handled twice"
    )]
    SharedChannels {
        /// The pattern registered first.
        first: Pattern,
        /// The other one.
        second: Pattern,
    },
    /// Two sets of handlers share channels, so some waves would be handled twice.
    #[error(
        "the handlers for {first} and {second} share channels but are in different sets: some waves would be handled twice"
    )]
    SeparateLimits {
        /// The pattern registered first.
        first: Pattern,
        /// The other one.
        second: Pattern,
    },
    /// A durable handler has no consumer.
    #[error("the durable handler cannot have the consumer {consumer}")]
    Consumer {
        /// The name of the consumer.
        consumer: String,
        /// Why.
        source: Box<ResonateError>,
    },
    /// A tenant of a durable handler has no weight.
    #[error("the weights of the tenants of the consumer {consumer} cannot be set")]
    Weight {
        /// The name of the consumer.
        consumer: String,
        /// Why.
        source: WeightError,
    },
    /// Two durable handlers would share the waves of one consumer.
    #[error("two durable handlers have the consumer {consumer}: give each one a name of its own")]
    SharedConsumer {
        /// The name of the consumer.
        consumer: String,
    },
    /// The pattern of waves that the service emits is not valid.
    #[error("the service cannot emit on {given:?}")]
    Emits {
        /// The pattern as given.
        given: String,
        /// What is wrong with it.
        source: ChannelError,
    },
    /// The description of the service is not valid.
    #[error("the service cannot be described")]
    Description(#[from] DescriptionError),
    /// A limit is not valid.
    #[error(transparent)]
    Limits(#[from] LimitsError),
    /// The vibrator could not be created.
    #[error("the service could not be created")]
    Create(#[from] CreateError),
    /// The service cannot receive the echoes of its waves.
    #[error("the service cannot receive echoes")]
    Echoes(#[from] EchoesError),
    /// Subscribing to a pattern failed.
    #[error("the service cannot subscribe to {pattern}")]
    Join {
        /// The pattern.
        pattern: Pattern,
        /// Why.
        source: JoinError,
    },
    /// The claims of a pattern cannot be added up.
    #[error("the service cannot add up the claims of {pattern}")]
    Interfere {
        /// The pattern.
        pattern: Pattern,
        /// Why.
        source: InterfereError,
    },
    /// A layer failed permanently while the service was running.
    #[error("a layer of the service failed")]
    Layer(#[source] BoxError),
}
