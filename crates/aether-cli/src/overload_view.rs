//! `aether up --overload`: the effect of an overload, in words and numbers.
//!
//! `aether_bench::Flood` makes the overload; the view prints these texts.

use std::fmt;

use aether_bench::{Flood, FloodError, Flow, Loss, latency, percent};
use aether_core::Aether;

/// A running overload.
pub(crate) struct OverloadView {
    flood: Flood,
    times: f64,
}

/// The counts since the last look.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Look {
    strong: Flow,
    weak: Flow,
}

/// The total counts.
#[derive(Debug, Clone, Copy)]
pub(crate) struct OverloadSums {
    strong: Flow,
    weak: Flow,
}

#[derive(Debug, thiserror::Error)]
#[error("use a number above 0 and at most 1000: 1 is the capacity of the handler")]
pub(crate) struct TimesError;

/// Parses the load, in multiples of the handler's capacity.
pub(crate) fn times(text: &str) -> Result<f64, TimesError> {
    text.parse().ok().filter(|times| (0.001..=1000.0).contains(times)).ok_or(TimesError)
}

impl OverloadView {
    pub(crate) async fn start(aether: &Aether, times: f64) -> Result<Self, FloodError> {
        Ok(Self { flood: Flood::start(aether, times).await?, times })
    }

    /// The line before the first look.
    pub(crate) fn announcement(&self) -> String {
        let (times, capacity) = (self.times, self.flood.capacity());
        format!(
            "overload: a handler can take {capacity:.0} waves a second and is offered {times} times that, 5 % of them \
             strong (amplitude 1.0, the others 0.25)"
        )
    }

    pub(crate) fn look(&mut self) -> Look {
        let [strong, weak] = self.flood.look();
        Look { strong, weak }
    }

    pub(crate) async fn end(self) -> Result<OverloadSums, FloodError> {
        let [strong, weak] = self.flood.end().await?;
        Ok(OverloadSums { strong, weak })
    }
}

impl fmt::Display for Look {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let flow = |flow: &Flow| {
            format!(
                "{} offered, {} lost, {} kept, p99 {}",
                flow.offered,
                flow.lost.sum(),
                percent(flow.kept_percent()),
                latency(flow.p99_us)
            )
        };
        write!(f, "strong: {} | weak: {}", flow(&self.strong), flow(&self.weak))
    }
}

/// Two sums and the latencies.
impl fmt::Display for OverloadSums {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sum = |f: &mut fmt::Formatter<'_>, name: &str, flow: &Flow| {
            write!(f, "{name}: {} offered = {} delivered", flow.offered, flow.delivered)?;
            for loss in [Loss::Refused, Loss::Full, Loss::Sojourn] {
                write!(f, " + {} {}", flow.lost.of(loss), loss.as_str())?;
            }
            let told = flow.lost.of(Loss::Refused) + flow.lost.of(Loss::Full) + flow.lost.of(Loss::Sojourn);
            write!(f, " + {} closed + {} on the way", flow.lost.sum() - told, flow.waiting())
        };
        sum(f, "strong", &self.strong)?;
        writeln!(f)?;
        sum(f, "weak", &self.weak)?;
        writeln!(f)?;
        write!(f, "p99: strong {}, weak {}", latency(self.strong.p99_us), latency(self.weak.p99_us))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_numbers_above_zero() {
        assert!((times("10").unwrap() - 10.0).abs() < f64::EPSILON);
        for wrong in ["0", "-1", "NaN", "1e9", "x", ""] {
            assert!(times(wrong).is_err(), "{wrong}");
        }
    }
}
