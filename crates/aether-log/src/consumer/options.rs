//! How a consumer reads.

use std::num::{NonZeroU32, NonZeroUsize};
use std::time::Duration;

use aether_core::Durability;

use crate::consumer::error::ConsumeError;
use crate::consumer::limit::Limit;
use crate::consumer::tenant::Tenant;

/// Where a consumer begins that is used for the first time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum Start {
    /// At the first wave of the log.
    #[default]
    First,
    /// Behind the last wave of the log.
    New,
    /// At a position.
    Position(u64),
}

/// Options of a consumer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ConsumerOptions {
    pub(super) start: Start,
    pub(super) window: NonZeroUsize,
    pub(super) max_in_flight: NonZeroUsize,
    pub(super) max_attempts: NonZeroU32,
    pub(super) first_pause: Duration,
    pub(super) longest_pause: Duration,
    pub(super) acknowledgements: Durability,
    pub(super) ageing: Duration,
    pub(super) by_key: bool,
    pub(super) fair_by: Option<Tenant>,
    pub(super) limit: Limit,
}

impl Default for ConsumerOptions {
    fn default() -> Self {
        Self {
            start: Start::First,
            window: NonZeroUsize::new(65_536).unwrap_or(NonZeroUsize::MIN),
            max_in_flight: NonZeroUsize::new(1024).unwrap_or(NonZeroUsize::MIN),
            max_attempts: NonZeroU32::new(5).unwrap_or(NonZeroU32::MIN),
            first_pause: Duration::from_millis(100),
            longest_pause: Duration::from_secs(30),
            acknowledgements: Durability::Stored,
            ageing: Duration::from_secs(10),
            by_key: false,
            fair_by: None,
            limit: Limit::default(),
        }
    }
}

impl ConsumerOptions {
    /// Where it begins when it is used for the first time. Default: at the first wave.
    #[must_use]
    pub fn start(mut self, start: Start) -> Self {
        self.start = start;
        self
    }

    /// How many waves it looks ahead, so that a strong one overtakes weaker ones before it. Default: 65,536. Cost: about
    /// 150 bytes for each wave that waits, and up to 8 MiB of their contents. Behind a full window, the log is looked at
    /// again when an eighth of it is free.
    #[must_use]
    pub fn window(mut self, waves: NonZeroUsize) -> Self {
        self.window = waves;
        self
    }

    /// How many deliveries may be unacknowledged at once, by all consumers of the name together. Default: 1024.
    ///
    /// A wave that failed is overtaken while it pauses, except [by key](Self::by_key) by others of its key.
    #[must_use]
    pub fn max_in_flight(mut self, deliveries: NonZeroUsize) -> Self {
        self.max_in_flight = deliveries;
        self
    }

    /// After how many failures a wave becomes a dead letter. Default: 5. An attempt that ends with the process counts;
    /// the wave is then delivered alone, so that it is clear which wave ended the process. In JetStream it counts from
    /// the third such end on.
    #[must_use]
    pub fn max_attempts(mut self, attempts: NonZeroU32) -> Self {
        self.max_attempts = attempts;
        self
    }

    /// The pause before the second attempt, which doubles with each further one, and its maximum. Default: 100 ms, and 30 s.
    #[must_use]
    pub fn pauses(mut self, first: Duration, longest: Duration) -> Self {
        (self.first_pause, self.longest_pause) = (first, longest);
        self
    }

    /// The level that an acknowledgement reaches before [`Delivery::ack`](crate::Delivery::ack) returns:
    /// [`Durability::Stored`], the default, survives the end of the process, and after a power cut the waves of about
    /// the last half minute may come once more; with [`Durability::Synced`] they do not. Cost of the latter: a sync of
    /// the disk for each group of acknowledgements. A lower level counts as the default.
    #[must_use]
    pub fn acknowledgements(mut self, level: Durability) -> Self {
        self.acknowledgements = level.max(Durability::Stored);
        self
    }

    /// How long a wave is overtaken by stronger ones: this time for each level that it is weaker, where four levels are
    /// half the amplitude. Default: 10 s. So a wave of amplitude 0.5 is overtaken by waves of amplitude 1.0 for 40 s after
    /// it was stored, and then is as urgent as they are. Zero is the order of the log.
    #[must_use]
    pub fn ageing(mut self, time_a_level: Duration) -> Self {
        self.ageing = time_a_level;
        self
    }

    /// Delivers the waves of each [key](aether_core::Wave::key) one after the other, in the order of the log: the next one
    /// when the one before is acknowledged or given up, also while it pauses after a failure. Different keys, and waves
    /// without a key, are delivered at once as before. A key is as urgent as the strongest of its waves in the window.
    /// Default: no.
    ///
    /// In JetStream also across the processes of the consumer: one of them handles at a time, and another one takes over
    /// when it ends ([`Consumer::close`](crate::Consumer::close)), or has been silent for
    /// [`ack_wait`](crate::JetStreamOptions::ack_wait). The new one begins when everything that was in flight at the old
    /// one has come back or is acknowledged. A handler that still runs in a process that was silent for this long may
    /// overlap with the next attempt elsewhere. Waves behind a held key fill the [window](Self::window), here at most 8192
    /// waves; while it is full, other keys wait as well. A wave that is sealed with a key that a process does not have
    /// holds nothing. The servers must be NATS 2.11 or newer, and a consumer that was made without this is
    /// [refused](crate::JetStreamError::OtherSettings).
    #[must_use]
    pub fn by_key(mut self) -> Self {
        self.by_key = true;
        self
    }

    /// Divides the deliveries among the tenants of which waves wait: in the ratio of their
    /// [weights](crate::Consumer::set_weight), whatever each of them emits and however strong. A tenant that had nothing
    /// waiting gets no more for that later. Of a tenant, the strongest wave comes first, as before. Default: no.
    ///
    /// [By key](Self::by_key) as well, a wave that waits for others of its key counts when it is delivered, and for its own
    /// tenant. The tenants are the ones of the [window](Self::window): a wave behind more waves than that is not seen yet.
    /// In JetStream each process has a window of its own, of at most 8192 waves.
    #[must_use]
    pub fn fair_by(mut self, tenant: Tenant) -> Self {
        self.fair_by = Some(tenant);
        self
    }

    /// Limits the deliveries to each tenant of [`fair_by`](Self::fair_by), by all workers of the consumer together. Called
    /// once for a rate and once for waves in flight, both count. A wave over the limit waits: no attempt is counted, and
    /// waves of other tenants are delivered meanwhile. By key it holds its key. Default: no limit.
    ///
    /// One process counts at a time: the one that has the folder open. In JetStream one process of the consumer handles at a
    /// time, with all that is described at [`by_key`](Self::by_key). A process that begins delivers nothing for one period
    /// of the rate, because it does not know what was delivered before it: so 1 wave in 90 s is better than 960 in a day.
    ///
    /// Waves over a limit stay in the [window](Self::window); while they fill it, other tenants wait as well. 65,536 tenants
    /// are counted, and further ones wait until one of these had nothing delivered for a period, and has nothing in flight.
    #[must_use]
    pub fn limit(mut self, limit: Limit) -> Self {
        self.limit = self.limit.and(limit);
        self
    }

    /// A limit needs tenants.
    pub(super) fn check(&self) -> Result<(), ConsumeError> {
        if self.limit.is_some() && self.fair_by.is_none() { Err(ConsumeError::NoTenants) } else { Ok(()) }
    }

    /// Whether one process handles at a time.
    #[cfg(feature = "jetstream")]
    pub(super) const fn is_pinned(&self) -> bool {
        self.by_key || self.limit.is_some()
    }

    /// The pause after this many failures. A wave that has no attempt left does not wait to become a letter.
    pub(super) fn pause_after(&self, failures: u32) -> Duration {
        if failures >= self.max_attempts.get() {
            return Duration::ZERO;
        }
        let doubled = 2_u32.saturating_pow(failures.saturating_sub(1));
        self.first_pause.saturating_mul(doubled).min(self.longest_pause)
    }
}
