//! The state that all parts of a consumer in JetStream share.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use aether_core::Pattern;
use parking_lot::Mutex;

use super::complaints::Complaints;
use super::window::StreamWindow;
use crate::consumer::options::ConsumerOptions;
use crate::dead::StreamLetters;
use crate::jetstream::{Connection, Parts, Subjects};

/// The parts of a consumer that its deliveries need as well.
#[derive(Debug)]
pub(crate) struct StreamShared {
    pub(super) name: String,
    pub(super) pattern: Pattern,
    pub(super) options: ConsumerOptions,
    pub(super) ack_wait: Duration,
    pub(super) connection: Arc<Connection>,
    pub(super) subjects: Subjects,
    pub(super) letters: Arc<StreamLetters>,
    pub(super) window: StreamWindow,
    pub(super) parts: Parts,
    pub(super) complaints: Mutex<Complaints>,
    /// Acknowledgements that nobody has waited for.
    pub(super) unconfirmed: AtomicU64,
}
