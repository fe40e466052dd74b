//! Consumers by the handle of a bus.

use aether_core::medium::ForeignError;
use aether_core::wave::ChannelError;
use aether_core::{Aether, Pattern};

use crate::consumer::{ConsumeError, Consumer, ConsumerOptions};
use crate::durable_log::DurableLog;

/// Why there is no consumer.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ResonateError {
    /// The bus has no log.
    #[error("this bus has no durable log: connect it with `connect` of a log")]
    NoLog,
    /// The pattern is not valid.
    #[error(transparent)]
    Invalid(#[from] ChannelError),
    /// The rules of this process do not let a name listen to the pattern of the consumer.
    #[error(transparent)]
    NotAllowed(Box<ForeignError>),
    /// The consumer cannot be opened.
    #[error(transparent)]
    Consumer(#[from] ConsumeError),
}

/// Listening to durable channels.
pub trait ResonateDurable {
    /// A consumer of a pattern, by its name, with the options of [`LogBuilder::consumers`](crate::LogBuilder::consumers), or
    /// with default options in JetStream. As [`DurableLog::consumer`]. Boundary rules know the consumer by its name, as
    /// they know vibrators.
    ///
    /// With a log in a folder it blocks, as [`Log::consumer`](crate::Log::consumer) does.
    ///
    /// # Errors
    /// [`ResonateError`]: the bus has no log, its rules do not allow it, or the consumer cannot be opened.
    fn resonate_durable<P>(&self, pattern: P, consumer: &str) -> Result<Consumer, ResonateError>
    where
        P: TryInto<Pattern>,
        ChannelError: From<P::Error>,
    {
        self.resonate_durable_with(pattern, consumer, |options| options)
    }

    /// The same with options that are made of these.
    ///
    /// # Errors
    /// As [`resonate_durable`](Self::resonate_durable).
    fn resonate_durable_with<P>(
        &self,
        pattern: P,
        consumer: &str,
        change: impl FnOnce(ConsumerOptions) -> ConsumerOptions,
    ) -> Result<Consumer, ResonateError>
    where
        P: TryInto<Pattern>,
        ChannelError: From<P::Error>;
}

impl ResonateDurable for Aether {
    fn resonate_durable_with<P>(
        &self,
        pattern: P,
        consumer: &str,
        change: impl FnOnce(ConsumerOptions) -> ConsumerOptions,
    ) -> Result<Consumer, ResonateError>
    where
        P: TryInto<Pattern>,
        ChannelError: From<P::Error>,
    {
        let log = DurableLog::of(self).ok_or(ResonateError::NoLog)?;
        let pattern = pattern.try_into().map_err(ChannelError::from)?;
        if let Some(guard) = self.guard() {
            guard
                .may_listen(consumer, &pattern)
                .map_err(|refusal| ResonateError::NotAllowed(Box::new(refusal)))?;
        }
        Ok(log.consumer::<Pattern>(consumer, pattern, change(log.consumer_options()))?)
    }
}
