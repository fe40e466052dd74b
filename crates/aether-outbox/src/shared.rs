//! The state that the handles of a store share.

use std::sync::atomic::AtomicBool;

use aether_core::Source;

use crate::held::Guarded;
use crate::memory::Horizon;

#[derive(Debug)]
pub(crate) struct Shared<B> {
    pub(crate) guarded: Guarded<B>,
    pub(crate) source: Source,
    pub(crate) limits: Limits,
    pub(crate) has_relay: AtomicBool,
}

#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    pub(crate) once: Horizon,
    pub(crate) max_waiting: u64,
}
