//! Outages: silences that were reported, and the streams that each explains.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::timeline::Moment;

/// A stream whose silence is noticed later than this after the report is reported by itself.
const JOINABLE: Duration = Duration::from_secs(120);

/// Streams that fell silent together.
#[derive(Debug)]
pub(super) struct Outage {
    /// The slots of the streams that are still silent, among them the named one.
    pub(super) streams: Vec<u32>,
    /// The number of streams that fell silent.
    pub(super) fell_silent: usize,
    /// Whether streams of more than one source did.
    pub(super) of_several_sources: bool,
    /// The last sign of life of the named stream, and the last moment at which it can have stopped.
    pub(super) silent_since: Moment,
    pub(super) stopped_before: Moment,
    pub(super) reported: Moment,
}

impl Outage {
    /// Whether other streams may still fall silent because of it.
    pub(super) fn spreads(&self, now: Moment) -> bool {
        self.of_several_sources && now.since(self.reported) <= JOINABLE
    }

    /// Whether a stream that stopped between two moments may have stopped together with these.
    pub(super) fn may_include(&self, from: Moment, to: Moment) -> bool {
        from <= self.stopped_before && self.silent_since <= to
    }
}

/// The open outages by the slot of the named stream. A stream is in at most one.
pub(super) type Outages = BTreeMap<u32, Outage>;
