//! Durable handlers: which consumer of the log of the process feeds them, and how.

use std::num::NonZeroU32;

use aether_core::{Aether, Pattern};
use aether_log::{ConsumeError, Consumer, ConsumerOptions, Limit, ResonateDurable, Tenant};

use super::error::ServiceError;
use super::limits::Limits;

/// How a handler of [`ServiceBuilder::on_durable`](crate::ServiceBuilder::on_durable) reads the log.
///
/// ```
/// use std::num::NonZeroU32;
/// use std::time::Duration;
/// use aether_log::ConsumerOptions;
/// use aether_service::{Durable, Limits};
///
/// let options = ConsumerOptions::default().max_attempts(NonZeroU32::new(10).unwrap());
/// let durable = Durable::consumer("worker")
///     .options(options)
///     .limits(Limits::new().time_out(Duration::from_secs(30)))
///     .by_key(64); // 64 keys at once, each in order
/// # let _ = durable;
/// ```
#[derive(Debug, Clone)]
#[must_use = "options do nothing by themselves"]
pub struct Durable {
    pub(super) consumer: String,
    options: Option<ConsumerOptions>,
    pub(super) limits: Limits,
    by_key: bool,
    fair_by: Option<Tenant>,
    weights: Vec<(String, NonZeroU32)>,
    of_tenants: Vec<Limit>,
}

impl Durable {
    /// The consumer of this name: 1 to 64 letters, digits, '-' and '_'. All instances with a consumer of one name share
    /// its waves and its position, which survives restarts.
    pub fn consumer(name: &str) -> Self {
        Self {
            consumer: name.to_owned(),
            options: None,
            limits: Limits::new(),
            by_key: false,
            fair_by: None,
            weights: Vec::new(),
            of_tenants: Vec::new(),
        }
    }

    /// The options of the consumer, among them how often a wave is tried and how long it pauses in between. Default: the
    /// options that the log has for its consumers.
    pub fn options(mut self, options: ConsumerOptions) -> Self {
        self.options = Some(options);
        self
    }

    /// The limits of this handler, which has an account of its own. Retries and shedding do not apply: a wave waits in the
    /// log. Default: the limits of the service.
    pub fn limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    /// Handles `keys` waves at once, each of another key, and the waves of each key one after the other:
    /// [`ConsumerOptions::by_key`] with this [`Limits::concurrency`].
    pub fn by_key(mut self, keys: usize) -> Self {
        self.by_key = true;
        self.limits = self.limits.concurrency(keys);
        self
    }

    /// Divides the deliveries among the tenants of which waves wait: [`ConsumerOptions::fair_by`].
    pub fn fair_by(mut self, tenant: Tenant) -> Self {
        self.fair_by = Some(tenant);
        self
    }

    /// The weight of a tenant, for a handler that is [fair](Self::fair_by). Default: 1. [`Consumer::set_weight`] of the
    /// consumer of this name changes it while the service runs.
    pub fn weight(mut self, tenant: &str, weight: NonZeroU32) -> Self {
        self.weights.push((tenant.to_owned(), weight));
        self
    }

    /// Limits the waves of each tenant of [`fair_by`](Self::fair_by), in all instances together:
    /// [`ConsumerOptions::limit`].
    pub fn limit(mut self, limit: Limit) -> Self {
        self.of_tenants.push(limit);
        self
    }

    /// Opens the consumer.
    pub(super) async fn open(&self, aether: &Aether, pattern: &Pattern) -> Result<Consumer, ServiceError> {
        let (name, bus, heard) = (self.consumer.clone(), aether.clone(), pattern.clone());
        let (given, by_key, fair_by) = (self.options, self.by_key, self.fair_by);
        let limits = self.of_tenants.clone();
        // It opens files.
        let opened = aether_files::disk::spawn_blocking(move || {
            bus.resonate_durable_with(heard, &name, |of_log| {
                let options = given.unwrap_or(of_log);
                let options = if by_key { options.by_key() } else { options };
                let options = fair_by.map_or(options, |tenant| options.fair_by(tenant));
                limits.into_iter().fold(options, ConsumerOptions::limit)
            })
        });
        let refused =
            |source| ServiceError::Consumer { consumer: self.consumer.clone(), source: Box::new(source) };
        let consumer = match opened.await {
            Ok(opened) => opened.map_err(refused)?,
            Err(error) => match error.try_into_panic() {
                Ok(panic) => std::panic::resume_unwind(panic),
                Err(_) => return Err(refused(ConsumeError::ShutDown.into())),
            },
        };
        for (tenant, weight) in &self.weights {
            let set = consumer.set_weight(tenant, *weight);
            set.map_err(|source| ServiceError::Weight { consumer: self.consumer.clone(), source })?;
        }
        consumer.ready().await.map_err(|source| refused(source.into()))?;
        Ok(consumer)
    }
}
