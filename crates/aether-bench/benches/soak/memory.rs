//! Checks that the memory of a process stays flat by comparing the second half of the run with the first.

use std::path::PathBuf;

use aether_bench::median;

/// Growth up to this factor counts as flat.
const TOLERANCE: f64 = 1.10;

/// The fewest periods after the warm-up that give meaningful medians of the two halves.
const LEAST: usize = 6;

/// The resident memory of one process in bytes, by period.
pub(crate) struct Memory {
    status: PathBuf,
    /// The peak of each period.
    pub(crate) peaks: Vec<u64>,
}

impl Memory {
    pub(crate) fn of(process: u32) -> Self {
        Self { status: format!("/proc/{process}/status").into(), peaks: vec![0] }
    }

    pub(crate) fn next_period(&mut self) {
        self.peaks.push(0);
    }

    /// Takes a sample. Returns `None` if the system does not provide the figure.
    pub(crate) fn sample(&mut self) -> Option<u64> {
        let status = std::fs::read_to_string(&self.status).ok()?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
        let resident = line.trim().strip_suffix(" kB")?.parse::<u64>().ok()? * 1024;
        let peak = self.peaks.last_mut()?;
        *peak = resident.max(*peak);
        Some(resident)
    }

    /// The ratio of the median peak in the second half of the periods to that in the first, excluding the warm-up.
    /// Medians are used because single peaks vary by a tenth from period to period, regardless of order. The warm-up
    /// is the first two periods: in the second, the server was down for the first time, and the queues took the
    /// memory that an outage needs. `None` if there are too few periods.
    pub(crate) fn growth(&self) -> Option<f64> {
        let periods = self.peaks.get(2..)?;
        if periods.len() < LEAST {
            return None;
        }
        let (earlier, later) = periods.split_at(periods.len() / 2);
        let of = |half: &[u64]| median(half.iter().map(|&peak| peak as f64));
        let growth = of(later) / of(earlier);
        growth.is_finite().then_some(growth)
    }

    pub(crate) fn is_flat(&self) -> Option<bool> {
        self.growth().map(|growth| growth <= TOLERANCE)
    }
}
