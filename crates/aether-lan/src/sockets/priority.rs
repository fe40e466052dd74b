//! The priority of Zenoh that a lane takes.

use zenoh::qos::Priority;

use crate::lane::Lane;

pub(super) const fn priority_of(lane: Lane) -> Priority {
    match lane.number() {
        1 => Priority::RealTime,
        2 => Priority::InteractiveHigh,
        3 => Priority::InteractiveLow,
        4 => Priority::DataHigh,
        5 => Priority::Data,
        6 => Priority::DataLow,
        _ => Priority::Background,
    }
}
