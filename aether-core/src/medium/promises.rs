//! The capabilities of a medium.

/// The capabilities of a medium, as data.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Promises {
    /// Waves of one source, channel and amplitude arrive in the order in which they were emitted.
    pub ordered: bool,
    /// Accepted waves survive the end of the process. No medium promises this yet.
    pub durable: bool,
    /// Each wave reaches exactly one member of each group.
    pub groups: bool,
    /// It does so also while members come and go. If false, a wave reaches exactly one member while the membership is
    /// stable, and at most one while it changes: a wave on its way to a process that dies is lost.
    pub exact_groups: bool,
    /// Waves reach vibrators in other processes.
    pub crosses_processes: bool,
    /// Commands and queries, and other waves whose source [asked](crate::WaveBuilder::echo), are returned to their
    /// source if they have no receiver except observers.
    pub reflects_unheard: bool,
    /// Emitters wait for receivers whose options request it, wherever the receivers are. A plain emitting loop loses
    /// nothing when its receiver is slower but not stuck.
    pub back_pressure: bool,
    /// The medium knows immediately whether a channel has any receivers except observers. A question without a receiver
    /// fails with [`AskError::NoResonator`](super::AskError::NoResonator), and `notify` returns [`Reach::NoListener`](super::Reach::NoListener).
    pub detects_unheard: bool,
    /// The maximum size of a wave on this medium in bytes: its payload in process, its frame over a network.
    pub max_payload: usize,
}

impl Promises {
    /// For implementors of media: ordered, with groups, detects and reflects unheard waves, not durable, and with
    /// back-pressure only in process. A medium that promises less sets the field to false.
    #[must_use]
    pub const fn new(crosses_processes: bool, max_payload: usize) -> Self {
        Self {
            ordered: true,
            durable: false,
            groups: true,
            exact_groups: true,
            crosses_processes,
            reflects_unheard: true,
            back_pressure: !crosses_processes,
            detects_unheard: true,
            max_payload,
        }
    }

    /// What both of two media promise.
    #[must_use]
    pub fn both(self, other: Self) -> Self {
        Self {
            ordered: self.ordered && other.ordered,
            durable: self.durable && other.durable,
            groups: self.groups && other.groups,
            exact_groups: self.exact_groups && other.exact_groups,
            crosses_processes: self.crosses_processes && other.crosses_processes,
            reflects_unheard: self.reflects_unheard && other.reflects_unheard,
            back_pressure: self.back_pressure && other.back_pressure,
            detects_unheard: self.detects_unheard && other.detects_unheard,
            max_payload: self.max_payload.min(other.max_payload),
        }
    }
}
