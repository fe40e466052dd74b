//! The limits that go with a grant.

/// The limits of what an identity emits on a channel: the strictest of all rules that grant it.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
#[non_exhaustive]
pub struct Limits {
    /// The largest amplitude.
    pub max_amplitude: Option<f32>,
    /// The amplitude to which stronger waves are weakened.
    pub clamp_amplitude: Option<f32>,
    /// The largest payload in bytes.
    pub max_payload: Option<usize>,
    /// The largest number of waves a second of each name.
    pub max_rate: Option<u32>,
    /// The greatest nesting depth of JSON.
    pub max_depth: Option<usize>,
}

/// The smaller of two limits, of which each may be missing.
fn least<T: PartialOrd>(a: Option<T>, b: Option<T>) -> Option<T> {
    match (a, b) {
        (Some(a), Some(b)) => Some(if b < a { b } else { a }),
        (a, b) => a.or(b),
    }
}

impl Limits {
    pub(super) fn stricter(self, other: Self) -> Self {
        Self {
            max_amplitude: least(self.max_amplitude, other.max_amplitude),
            clamp_amplitude: least(self.clamp_amplitude, other.clamp_amplitude),
            max_payload: least(self.max_payload, other.max_payload),
            max_rate: least(self.max_rate, other.max_rate),
            max_depth: least(self.max_depth, other.max_depth),
        }
    }
}
