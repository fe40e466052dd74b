//! Times and sizes of logs, within bounds.

use std::time::Duration;

use aether_log::store::StoreOptions;
use serde::{Deserialize, Serialize};

use super::quantity::{QuantityError, Size, Time};

/// The size of a segment unless it is set.
pub(super) const SEGMENT: Size = Size::new(64 << 20).unwrap();
const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);
const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// A value that is read as one type and checked as another.
macro_rules! checked {
    ($(#[$doc:meta])* $name:ident($inner:ty), $from:ty, $check:expr, $back:expr, $allowed:literal) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(pub $inner);

        impl TryFrom<String> for $name {
            type Error = QuantityError;
            fn try_from(text: String) -> Result<Self, QuantityError> {
                let check: fn($from) -> Option<$inner> = $check;
                let value = text.parse::<$from>().ok().and_then(check);
                value.map(Self).ok_or_else(|| QuantityError::new(&text, $allowed))
            }
        }

        impl From<$name> for String {
            fn from(value: $name) -> Self {
                let back: fn($inner) -> $from = $back;
                back(value.0).to_string()
            }
        }
    };
}

checked! {
    /// How long waves are gathered, at most 1 s.
    CommitWindow(Duration), Time,
    |Time(time)| StoreOptions::default().commit_window(time).is_ok().then_some(time),
    Time,
    "a time from 0 to 1s"
}
checked! {
    /// How long an acknowledgement is waited for, from 1 s to a day.
    AckWait(Duration), Time,
    |Time(time)| (SECOND..=DAY).contains(&time).then_some(time),
    Time,
    "a time from 1s to 1d"
}
checked! {
    /// How long copies are recognised: longer than an emit tries again, which is 30 s.
    DuplicateWindow(Duration), Time,
    |Time(time)| (MINUTE..=DAY).contains(&time).then_some(time),
    Time,
    "a time from 1m to 1d"
}
checked! {
    /// How often rules are applied, at least 1 s.
    CleanUpInterval(Duration), Time,
    |Time(time)| (time >= SECOND).then_some(time),
    Time,
    "a time of at least 1s"
}
checked! {
    /// The size of a segment, from 4 KiB to 1 GiB.
    SegmentSize(u64), Size,
    |size| Some(size.bytes() as u64).filter(|bytes| StoreOptions::default().segment_bytes(*bytes).is_ok()),
    |bytes| Size::new(bytes).unwrap_or(SEGMENT),
    "a size from 4 KiB to 1 GiB"
}
