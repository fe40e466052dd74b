//! Whether the memory of a process stays flat: the later half of the run against the earlier one.

use std::path::PathBuf;

use aether_bench::median;

/// How much more is still flat.
const TOLERANCE: f64 = 1.10;

/// The fewest periods after the warm-up of which the halves have medians that say anything.
const LEAST: usize = 6;

/// The resident memory of one process, in bytes, by periods.
pub(crate) struct Memory {
    status: PathBuf,
    /// The highest of each period.
    pub(crate) peaks: Vec<u64>,
}

impl Memory {
    pub(crate) fn of(process: u32) -> Self {
        Self { status: format!("/proc/{process}/status").into(), peaks: vec![0] }
    }

    pub(crate) fn next_period(&mut self) {
        self.peaks.push(0);
    }

    /// Takes a sample. `None` where the system does not tell.
    pub(crate) fn sample(&mut self) -> Option<u64> {
        let status = std::fs::read_to_string(&self.status).ok()?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
        let resident = line.trim().strip_suffix(" kB")?.parse::<u64>().ok()? * 1024;
        let peak = self.peaks.last_mut()?;
        *peak = resident.max(*peak);
        Some(resident)
    }

    /// By how much the median peak of the later half of the periods exceeds that of the earlier half, without the
    /// warm-up. Medians, because single peaks differ by a tenth from period to period, whatever their order. The
    /// warm-up are the first two: in the second the server was away for the first time, and queues took the memory
    /// that an outage needs. `None` if there are too few.
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
