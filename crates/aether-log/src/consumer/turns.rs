//! Waves that may be delivered now: in the order of their ranks, or divided among tenants.

use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::sync::Arc;

use crate::consumer::error::WeightError;
use crate::consumer::options::ConsumerOptions;
use crate::consumer::shares::{Rank, Shares};

/// Waves without a tenant are of the one without a name.
fn name(tenant: Option<&Arc<str>>) -> &str {
    tenant.map_or("", |tenant| tenant)
}

#[derive(Debug)]
pub(super) enum Turns<T> {
    Ranked(BTreeMap<Rank, T>),
    Shared(Shares<T>),
}

impl<T> Turns<T> {
    pub(super) fn new(options: &ConsumerOptions) -> Self {
        match options.fair_by {
            Some(_) => Self::Shared(Shares::new(options.limit)),
            None => Self::Ranked(BTreeMap::new()),
        }
    }

    pub(super) fn shares_mut(&mut self) -> Option<&mut Shares<T>> {
        match self {
            Self::Ranked(_) => None,
            Self::Shared(shares) => Some(shares),
        }
    }

    pub(super) fn set_weight(&mut self, tenant: &str, weight: NonZeroU32) -> Result<(), WeightError> {
        self.shares_mut().ok_or(WeightError::NotFair)?.set_weight(tenant, weight)
    }

    /// Adds a wave of a tenant. Returns the one in whose place it is.
    pub(super) fn insert(&mut self, tenant: Option<&Arc<str>>, rank: Rank, wave: T) -> Option<T> {
        match self {
            Self::Ranked(waves) => waves.insert(rank, wave),
            Self::Shared(shares) => shares.insert(&tenant.cloned().unwrap_or_default(), rank, wave),
        }
    }

    pub(super) fn remove(&mut self, tenant: Option<&Arc<str>>, rank: Rank) -> Option<T> {
        match self {
            Self::Ranked(waves) => waves.remove(&rank),
            Self::Shared(shares) => shares.remove(name(tenant), rank),
        }
    }

    /// Takes out the wave of this position. It looks at all.
    pub(super) fn remove_at(&mut self, position: u64) -> Option<T> {
        match self {
            Self::Ranked(waves) => {
                let rank = waves.keys().copied().find(|(_, at)| *at == position)?;
                waves.remove(&rank)
            }
            Self::Shared(shares) => shares.remove_at(position),
        }
    }

    /// Changes the rank of a wave. False if it is not here.
    pub(super) fn rerank(&mut self, tenant: Option<&Arc<str>>, from: Rank, to: Rank) -> bool {
        let waves = match self {
            Self::Ranked(waves) => Some(waves),
            Self::Shared(shares) => shares.of_mut(name(tenant)),
        };
        let moved = waves.and_then(|waves| waves.remove(&from).map(|wave| waves.insert(to, wave)));
        moved.is_some()
    }

    /// The rank of the next wave.
    pub(super) fn next(&mut self) -> Option<Rank> {
        match self {
            Self::Ranked(waves) => waves.first_key_value().map(|(rank, _)| *rank),
            Self::Shared(shares) => shares.next(),
        }
    }

    /// Takes the next wave.
    pub(super) fn take(&mut self) -> Option<(Rank, T)> {
        match self {
            Self::Ranked(waves) => waves.pop_first(),
            Self::Shared(shares) => shares.take(),
        }
    }

    pub(super) fn len(&self) -> usize {
        match self {
            Self::Ranked(waves) => waves.len(),
            Self::Shared(shares) => shares.len(),
        }
    }

    /// The next waves, about in order.
    pub(super) fn next_mut(&mut self, most: usize) -> impl Iterator<Item = &mut T> {
        let (ranked, shared) = match self {
            Self::Ranked(waves) => (Some(waves), None),
            Self::Shared(shares) => (None, Some(shares)),
        };
        let ranked = ranked.into_iter().flat_map(BTreeMap::values_mut);
        ranked.chain(shared.into_iter().flat_map(move |shares| shares.next_mut(most))).take(most)
    }

    /// Takes out all.
    #[cfg(feature = "jetstream")]
    pub(super) fn drain(&mut self) -> impl Iterator<Item = T> + use<T> {
        let (ranked, shared) = match self {
            Self::Ranked(waves) => (Some(std::mem::take(waves).into_values()), None),
            Self::Shared(shares) => (None, Some(shares.drain())),
        };
        ranked.into_iter().flatten().chain(shared.into_iter().flatten())
    }
}
