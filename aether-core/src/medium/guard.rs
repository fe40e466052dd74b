//! The seam of what checks the waves of a process: rules of who may emit and hear what, schemas of payloads.

use std::any::Any;
use std::fmt::Debug;
use std::sync::Arc;

use super::{ForeignError, Medium};
use crate::channel::Pattern;
use crate::router::{ArrivalFilter, Router, Subscription};
use crate::wave::Wave;

/// Called with each subscription that a guard ends.
pub type OnRevoked = Box<dyn Fn(&Subscription) + Send + Sync>;

/// Checks what a process emits and hears, and what arrives for it. [`AetherBuilder::guard`](crate::AetherBuilder::guard) puts
/// it around all layers.
pub trait Guard: ArrivalFilter + Any + Debug {
    /// Whether an identity may listen to all channels of a pattern, for what is heard without a subscription of a medium, such
    /// as a durable consumer. A refusal is counted.
    ///
    /// # Errors
    /// The reason.
    fn may_listen(&self, identity: &str, pattern: &Pattern) -> Result<(), ForeignError>;

    /// Checks a wave that was not delivered by a medium, such as one that a durable consumer has read, as if it had arrived now. A
    /// refusal is counted, and the wave must not be delivered.
    ///
    /// # Errors
    /// The reason.
    fn admit_stored(&self, wave: &mut Wave) -> Result<(), ForeignError>;

    /// The medium with the guard around it, which refuses what may not be emitted or heard. It calls `on_revoked` with each
    /// subscription that it ends later.
    fn around(&self, medium: Arc<dyn Medium>, router: Arc<Router>, on_revoked: OnRevoked) -> Arc<dyn Medium>;
}
