//! Per-handle state of optional parts of the crate, keyed by type.
//!
//! Each [`Aether`](crate::Aether), [`Vibrator`](crate::Vibrator) and [`Emitter`](crate::Emitter) has one, drops it with
//! itself and does not look inside. A lookup takes a lock and compares a few type ids; it is not on a wave's path.

use std::any::Any;
use std::fmt;
use std::sync::Arc;

use parking_lot::Mutex;

/// At most one value of each type. An empty map allocates nothing.
#[derive(Default)]
pub(crate) struct ExtensionMap {
    values: Mutex<Vec<Arc<dyn Any + Send + Sync>>>,
}

impl ExtensionMap {
    /// The value of this type, created on first use.
    pub(crate) fn get_or_insert_with<T: Any + Send + Sync>(&self, make: impl FnOnce() -> T) -> Arc<T> {
        let mut values = self.values.lock();
        let found = values.iter().find_map(|value| Arc::clone(value).downcast().ok());
        found.unwrap_or_else(|| {
            let value = Arc::new(make());
            values.push(Arc::clone(&value) as _);
            value
        })
    }

    /// Drops this map's references to all values.
    pub(crate) fn clear(&mut self) {
        self.values.get_mut().clear();
    }
}

impl fmt::Debug for ExtensionMap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ExtensionMap").field("values", &self.values.lock().len()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_type_has_one_value_which_is_dropped_with_the_slot() {
        let mut extensions = ExtensionMap::default();
        let first = extensions.get_or_insert_with(|| Mutex::new(1_u32));
        assert_eq!(*extensions.get_or_insert_with(|| "another type"), "another type");
        *first.lock() = 2;
        let again = extensions.get_or_insert_with(|| Mutex::new(3_u32));
        assert_eq!(*again.lock(), 2);
        drop(again);
        extensions.clear();
        assert_eq!(Arc::strong_count(&first), 1);
    }
}
