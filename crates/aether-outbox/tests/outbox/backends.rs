//! A backend of another crate: a map in memory, whole and broken.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use aether_outbox::{Backend, BackendFault, OpenError, Row, Rows, Store, StoreError, check_backend};
use parking_lot::{Mutex, MutexGuard};

use crate::stage::make_order;

type Map = BTreeMap<(String, Vec<u8>), Vec<u8>>;

#[derive(Debug, Clone, Default)]
struct Memory {
    rows: Arc<Mutex<Map>>,
    /// A dropped transaction stays.
    is_broken: bool,
}

struct MemoryRows<'a> {
    kept: MutexGuard<'a, Map>,
    changed: Mutex<Map>,
    is_broken: bool,
}

impl Backend for Memory {
    type Rows<'a> = MemoryRows<'a>;

    fn begin(&self) -> Result<MemoryRows<'_>, StoreError> {
        let kept = self.rows.lock();
        let changed = Mutex::new(kept.clone());
        Ok(MemoryRows { kept, changed, is_broken: self.is_broken })
    }

    fn path(&self) -> &Path {
        Path::new("memory")
    }
}

impl Rows for MemoryRows<'_> {
    fn get(&self, area: &str, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        Ok(self.changed.lock().get(&(area.to_owned(), key.to_vec())).cloned())
    }

    fn put(&self, area: &str, key: &[u8], value: &[u8]) -> Result<(), StoreError> {
        self.changed.lock().insert((area.to_owned(), key.to_vec()), value.to_vec());
        Ok(())
    }

    fn remove(&self, area: &str, key: &[u8]) -> Result<bool, StoreError> {
        Ok(self.changed.lock().remove(&(area.to_owned(), key.to_vec())).is_some())
    }

    fn scan(&self, area: &str, key: &[u8], most: usize) -> Result<Vec<Row>, StoreError> {
        let changed = self.changed.lock();
        let rows = changed.range((area.to_owned(), key.to_vec())..);
        let rows = rows.take_while(|((of, _), _)| of == area).take(most);
        Ok(rows.map(|((_, key), value)| (key.clone(), value.clone())).collect())
    }

    fn count(&self, area: &str) -> Result<u64, StoreError> {
        Ok(self.scan(area, &[], usize::MAX)?.len() as u64)
    }

    fn clear(&self, area: &str) -> Result<(), StoreError> {
        self.changed.lock().retain(|(of, _), _| of != area);
        Ok(())
    }

    fn commit(mut self) -> Result<(), StoreError> {
        *self.kept = self.changed.lock().clone();
        Ok(())
    }
}

impl Drop for MemoryRows<'_> {
    fn drop(&mut self) {
        if self.is_broken {
            *self.kept = self.changed.lock().clone();
        }
    }
}

#[test]
fn a_backend_of_another_crate_keeps_a_store() {
    let memory = Memory::default();
    let checked = Memory::default();
    check_backend(|| Ok::<_, OpenError>(checked.clone())).unwrap();
    for expected in [1, 2] {
        let store = Store::builder("shop").open_with(memory.clone()).unwrap();
        assert_eq!(make_order(&store), expected);
        assert_eq!((store.ledger().waiting, store.path()), (expected, Path::new("memory")));
    }
    let other = Store::builder("mail").open_with(memory).unwrap_err();
    assert!(matches!(other, OpenError::OtherName { .. }), "{other}");
}

#[test]
fn a_backend_that_keeps_what_was_dropped_is_found() {
    let broken = Memory { is_broken: true, ..Memory::default() };
    let fault = check_backend(|| Ok(broken.clone())).unwrap_err();
    let dropped = "a transaction that is dropped has changed nothing";
    assert!(matches!(fault, BackendFault::Broken { required } if required == dropped), "{fault}");
}
