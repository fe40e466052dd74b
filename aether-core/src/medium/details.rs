//! What single media know beyond the status that every medium has.

use std::any::Any;

/// Values that media have added, of types of their own; see [`Medium::details`](super::Medium::details).
#[derive(Debug, Default)]
pub struct Details(Vec<Box<dyn Any + Send + Sync>>);

impl Details {
    /// Adds a value.
    pub fn add<T: Send + Sync + 'static>(&mut self, value: T) {
        self.0.push(Box::new(value));
    }

    /// The values of one type, in the order in which they were added.
    pub(crate) fn into_values<T: Send + Sync + 'static>(self) -> Vec<T> {
        self.0.into_iter().filter_map(|value| value.downcast().ok()).map(|value| *value).collect()
    }
}
