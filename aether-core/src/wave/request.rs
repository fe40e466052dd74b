//! What all waves of a request have in common.

use std::sync::Arc;

use super::Baggage;
use crate::source::WaveId;

/// What all waves of a request have in common.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Request {
    /// Left out if it is the cause or, without a cause, the wave itself.
    pub root: Option<WaveId>,
    /// The names and values that follow the request.
    pub baggage: Baggage,
}

impl Request {
    /// What these two parts make: `None` if both parts are empty.
    pub fn of(root: Option<WaveId>, baggage: Baggage) -> Option<Arc<Self>> {
        (root.is_some() || !baggage.is_empty()).then(|| Arc::new(Self { root, baggage }))
    }

    /// Approximate memory used, in bytes.
    pub(super) fn weight(&self) -> usize {
        size_of::<Self>() + self.root.as_ref().map_or(0, |root| root.source.weight()) + self.baggage.weight()
    }
}
