//! Writes that lost against concurrent ones.

use bytes::Bytes;
use tokio::sync::mpsc;

use crate::core::{Stamp, WriterId};

/// The number of losses that wait for [`Superseded::next`]. Beyond it they are counted in
/// [`FieldStatus`](super::FieldStatus) only.
pub(super) const KEPT: usize = 1024;

/// Whose losses a listener wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Losers {
    /// The writes of the replica.
    Own,
    /// The writes of all writers.
    All,
}

/// A write that lost against one whose writer had not seen it.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct SupersededValues {
    /// The name of the register.
    pub name: String,
    /// The lost value; `None` for a removal.
    pub lost: Option<Bytes>,
    /// When and by whom it was written.
    pub lost_stamp: Stamp,
    /// The present value; `None` for a removal, also for one so old that nobody keeps its mark.
    pub winner: Option<Bytes>,
    /// The stamp of the winner; `None` if nobody keeps it.
    pub stamp: Option<Stamp>,
}

impl SupersededValues {
    /// The writer that won, if known.
    #[must_use]
    pub fn by(&self) -> Option<WriterId> {
        self.stamp.map(|stamp| stamp.writer)
    }
}

/// Lost writes, each once.
#[derive(Debug)]
pub struct Superseded {
    pub(super) receiver: mpsc::Receiver<SupersededValues>,
}

impl Superseded {
    /// The next lost write; `None` when the field is closed. Cancel safe.
    pub async fn next(&mut self) -> Option<SupersededValues> {
        self.receiver.recv().await
    }
}
