//! Watches the resident memory of the process, and hints at a leak: memory that grows while no more waves wait.
//!
//! [`run`](crate::run) starts it with the runtime. It reads one small file every few seconds, and takes no part in handling.
//! Linux only; elsewhere nothing is watched.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use aether_core::medium::Connection;
use aether_core::{Aether, Ledger};
use parking_lot::Mutex;
use tokio::time::{MissedTickBehavior, interval};

/// How many readings make a window. Only the least of a window counts, so that bursts are no growth.
const READINGS: usize = 10;
/// How many windows in a row have to grow.
const WINDOWS: usize = 6;
/// The least growth over all windows: caches that fill and arenas of the allocator stay below.
const LEAST_GROWTH: u64 = 16 << 20;
/// Growth below this share of the first reading does not count as a leak, either: 1/8.
const LEAST_SHARE: u64 = 8;
/// How long a panic waits for a thread that reads the accounts, which takes microseconds.
const KEEP_PATIENCE: Duration = Duration::from_millis(100);

/// The buses of this process, whose queued waves explain memory. They are not kept alive before a panic.
#[derive(Clone, Default)]
pub(crate) struct Buses(Arc<Mutex<Vec<Connection>>>, Arc<Mutex<Vec<Aether>>>);

impl Buses {
    pub(crate) fn add(&self, bus: Connection) {
        let mut buses = self.0.lock();
        // Those that were dropped make room.
        buses.retain(|bus| bus.aether().is_some());
        buses.push(bus);
    }

    /// The waves that wait in all inboxes.
    pub(crate) fn queued(&self) -> u64 {
        self.accounts().iter().map(|ledger| ledger.queued).sum()
    }

    /// The accounts of all buses, as they are now.
    pub(crate) fn accounts(&self) -> Vec<Ledger> {
        self.0.lock().iter().filter_map(Connection::ledger).collect()
    }

    /// Keeps all buses alive from now on, so that their accounts can be read although the program that owns them
    /// unwinds. Called by the hook of a panic, which can happen anywhere, also where this thread reads the accounts: so it
    /// waits for other threads for a moment only.
    pub(crate) fn keep(&self) {
        let (buses, kept) = (self.0.try_lock_for(KEEP_PATIENCE), self.1.try_lock_for(KEEP_PATIENCE));
        if let (Some(buses), Some(mut kept)) = (buses, kept) {
            kept.extend(buses.iter().filter_map(Connection::aether));
        }
    }
}

/// A reading.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Reading {
    /// The resident memory in bytes.
    pub(crate) resident: u64,
    /// The waves that wait.
    pub(crate) queued: u64,
}

/// Memory has grown in every window, and no more waves wait than before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct LeakHint {
    pub(crate) from: u64,
    pub(crate) to: u64,
}

impl fmt::Display for LeakHint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "from {} to {} MiB", self.from >> 20, self.to >> 20)
    }
}

/// Finds growth that queued waves do not explain.
#[derive(Debug, Default)]
pub(crate) struct LeakDetector {
    readings: Vec<Reading>,
    /// The least readings of the last windows, oldest first.
    windows: Vec<Reading>,
}

impl LeakDetector {
    /// Takes a reading. After a hint it starts over, so a leak is hinted at again while it goes on.
    pub(crate) fn note(&mut self, reading: Reading) -> Option<LeakHint> {
        self.readings.push(reading);
        if self.readings.len() < READINGS {
            return None;
        }
        let least = Reading {
            resident: self.readings.iter().map(|reading| reading.resident).min()?,
            queued: self.readings.iter().map(|reading| reading.queued).min()?,
        };
        self.readings.clear();
        self.windows.push(least);
        if self.windows.len() <= WINDOWS {
            return None;
        }
        let hint = self.hint();
        if hint.is_some() {
            self.windows.clear();
        } else {
            self.windows.remove(0);
        }
        hint
    }

    fn hint(&self) -> Option<LeakHint> {
        let (first, last) = (self.windows.first()?, self.windows.last()?);
        let grows = self.windows.windows(2).all(|pair| pair[1].resident > pair[0].resident);
        let growth = last.resident.saturating_sub(first.resident);
        let is_much = growth >= LEAST_GROWTH && growth >= first.resident / LEAST_SHARE;
        // More that waits is an overload, which its own accounts show.
        let is_flat = last.queued <= first.queued.saturating_add(first.queued / 4).saturating_add(64);
        (grows && is_much && is_flat).then_some(LeakHint { from: first.resident, to: last.resident })
    }
}

/// Reads the memory every `period` and logs hints, for ever.
pub(crate) async fn watch(buses: Buses, period: Duration) {
    let mut detector = LeakDetector::default();
    let mut ticks = interval(period);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let Some(resident) = resident() else { return };
        let queued = buses.queued();
        if let Some(hint) = detector.note(Reading { resident, queued }) {
            let over = period * u32::try_from(READINGS * WINDOWS).unwrap_or(u32::MAX);
            tracing::warn!(
                resident_bytes = resident,
                queued,
                "the memory of this process grew {hint} within {over:?} although no more waves wait: handlers or their \
                 state may keep what they no longer need"
            );
        }
    }
}

/// The resident memory of this process in bytes.
#[cfg(target_os = "linux")]
fn resident() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok().map(|kilobytes| kilobytes << 10)
}

#[cfg(not(target_os = "linux"))]
const fn resident() -> Option<u64> {
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    /// How often it hints at a leak in two hundred readings.
    fn hints(reading: impl Fn(u64) -> Reading) -> usize {
        let mut detector = LeakDetector::default();
        (0..200).filter_map(|number| detector.note(reading(number))).count()
    }

    #[test]
    fn buses_are_kept_although_another_thread_reads_their_accounts() {
        let (buses, aether) = (Buses::default(), Aether::local());
        buses.add(aether.connection());
        let (reads, is_read) = std::sync::mpsc::channel();
        let other = buses.clone();
        let reading = std::thread::spawn(move || {
            let _accounts = other.0.lock();
            reads.send(()).unwrap();
            std::thread::sleep(KEEP_PATIENCE / 10);
        });
        is_read.recv().unwrap();
        buses.keep();
        reading.join().unwrap();
        drop(aether);
        assert_eq!(buses.accounts().len(), 1);
        // This thread itself has it, and does not wait for ever.
        let _accounts = buses.0.lock();
        buses.keep();
    }

    #[test]
    fn growth_without_waves_that_wait_is_hinted_at_again_and_again() {
        assert_eq!(hints(|number| Reading { resident: 100 * MIB + number * MIB, queued: 3 }), 2);
        // Bursts between do not hide it.
        let bursty =
            |number| Reading { resident: 100 * MIB + number * MIB + (number % 7) * 50 * MIB, queued: 0 };
        assert!(hints(bursty) >= 1);
    }

    #[test]
    fn what_is_no_leak_is_not_hinted_at() {
        let flat = |_| Reading { resident: 100 * MIB, queued: 0 };
        let saw = |number: u64| Reading { resident: 100 * MIB + (number % 10) * 20 * MIB, queued: 0 };
        // It fills its caches, and then stays.
        let warms_up = |number: u64| Reading { resident: (100 + number.min(40)) * MIB, queued: 0 };
        let slow = |number: u64| Reading { resident: 100 * MIB + number * (MIB / 100), queued: 0 };
        // An overload: what waits explains the memory.
        let queues = |number: u64| Reading { resident: 100 * MIB + number * MIB, queued: number * 1000 };
        for (name, hinted) in [
            ("flat", hints(flat)),
            ("saw", hints(saw)),
            ("warm", hints(warms_up)),
            ("slow", hints(slow)),
            ("queue", hints(queues)),
        ] {
            assert_eq!(hinted, 0, "{name}");
        }
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn the_memory_of_this_process_is_read() {
        let before = resident().unwrap();
        let filled = vec![1_u8; 64 << 20];
        assert!(resident().unwrap() > before + (32 << 20) && filled[12_345] == 1);
    }
}
