//! The state that libraries keep with an [`Aether`](crate::Aether), keyed by type.
//!
//! The `Aether` drops it with itself and does not look inside. A lookup takes a lock and compares a few type ids; it is not on a wave's path.

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
    fn each_type_has_one_value_which_is_dropped_with_the_map() {
        let extensions = ExtensionMap::default();
        let first = extensions.get_or_insert_with(|| Mutex::new(1_u32));
        assert_eq!(*extensions.get_or_insert_with(|| "another type"), "another type");
        *first.lock() = 2;
        let again = extensions.get_or_insert_with(|| Mutex::new(3_u32));
        assert_eq!(*again.lock(), 2);
        drop(again);
        drop(extensions);
        assert_eq!(Arc::strong_count(&first), 1);
    }
}
