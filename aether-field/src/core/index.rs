//! The sorted identities of a state, for reconciliation.

use std::sync::Arc;

use negentropy::{Id, NegentropyStorageVector};

use super::entry::ChangeId;

/// The sorted identities of a state at one moment. Building it costs about 50 ns an entry; it is kept until the state
/// changes.
#[derive(Debug, Default)]
pub(super) struct Index(Option<Arc<NegentropyStorageVector>>);

impl Index {
    pub(super) fn is_outdated(&mut self) {
        self.0 = None;
    }

    pub(super) fn get_or_build(
        &mut self,
        ids: impl Iterator<Item = ChangeId>,
    ) -> Arc<NegentropyStorageVector> {
        let build = || {
            let mut storage = NegentropyStorageVector::new();
            for (time, id) in ids.map(ChangeId::to_item) {
                // Fails only when sealed.
                let _ = storage.insert(time, Id::from_byte_array(id));
            }
            let _ = storage.seal();
            Arc::new(storage)
        };
        Arc::clone(self.0.get_or_insert_with(build))
    }
}
