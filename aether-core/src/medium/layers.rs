//! Layers: media around the one that an address names.

use std::fmt;
use std::sync::Arc;

use super::Medium;

type Layer = Arc<dyn Fn(Arc<dyn Medium>) -> Arc<dyn Medium> + Send + Sync>;

/// Layers, the innermost first.
#[derive(Clone, Default)]
pub(crate) struct Layers(Vec<Layer>);

impl Layers {
    pub(crate) fn push(
        &mut self,
        layer: impl Fn(Arc<dyn Medium>) -> Arc<dyn Medium> + Send + Sync + 'static,
    ) {
        self.0.push(Arc::new(layer));
    }

    /// The medium with all layers around it.
    pub(crate) fn around(&self, medium: Arc<dyn Medium>) -> Arc<dyn Medium> {
        self.0.iter().fold(medium, |medium, layer| layer(medium))
    }
}

impl fmt::Debug for Layers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Layers").field("layers", &self.0.len()).finish()
    }
}
