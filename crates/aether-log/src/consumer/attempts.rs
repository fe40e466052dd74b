//! Attempts that were begun, so that one that ends the process is counted.
//!
//! A small file beside the journal with a slot for each delivery that can be in flight. Before a wave is delivered, its
//! position and the number of the attempt are written there, which the system keeps when the process ends. After a
//! restart, an attempt that is neither settled nor failed by the journal has ended with the process.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;
use std::sync::Arc;

use aether_files::disk::{self, Disk};

use crate::store::OpenError;

/// The file, in the folder of the consumer.
pub(crate) const FILE: &str = "attempts";
/// Position (u64), number of the attempt (u32), checksum (u32).
const SLOT: usize = 16;
/// The number of slots that are written at the beginning: 64 KiB.
const ROOM: u32 = 4096;

/// The error of an attempt that ended with its process.
pub(super) const ENDED: &str = "the process ended during the attempt";

/// The table. The window knows which of its slots are free; what is in one stays until it is used again.
#[derive(Debug)]
pub(super) struct Attempts {
    disk: Arc<dyn Disk>,
    file: File,
}

/// Where an attempt is noted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Slot(u32);

impl Slot {
    /// The slots of this many attempts at once, the last one first.
    pub(super) fn all(attempts: usize) -> Vec<Self> {
        (0..slots(attempts)).rev().map(Self).collect()
    }

    fn at(self) -> u64 {
        u64::from(self.0) * SLOT as u64
    }
}

fn slots(attempts: usize) -> u32 {
    u32::try_from(attempts).unwrap_or(u32::MAX)
}

fn slot_bytes(position: u64, attempt: u32) -> [u8; SLOT] {
    let mut bytes = [0; SLOT];
    bytes[..8].copy_from_slice(&position.to_le_bytes());
    bytes[8..12].copy_from_slice(&attempt.to_le_bytes());
    let checksum = crc32fast::hash(&bytes[..12]);
    bytes[12..].copy_from_slice(&checksum.to_le_bytes());
    bytes
}

/// What is in a slot; `None` in an empty one, or in one that was not written whole.
fn read_slot(bytes: &[u8]) -> Option<(u64, u32)> {
    let position = u64::from_le_bytes(bytes.get(..8)?.try_into().ok()?);
    let attempt = u32::from_le_bytes(bytes.get(8..12)?.try_into().ok()?);
    (attempt > 0 && slot_bytes(position, attempt) == bytes).then_some((position, attempt))
}

impl Attempts {
    /// The attempts that the last process began: positions, and the numbers of the attempts.
    pub(super) fn last(folder: &Path) -> Result<Vec<(u64, u32)>, OpenError> {
        let (path, mut bytes) = (folder.join(FILE), Vec::new());
        match File::open(&path).and_then(|mut file| file.read_to_end(&mut bytes)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(OpenError::io(&path, "read", error)),
            _ => Ok(bytes.chunks_exact(SLOT).filter_map(read_slot).collect()),
        }
    }

    /// Begins with an empty table for this many attempts at once.
    pub(super) fn begin(folder: &Path, attempts: usize) -> Result<Self, OpenError> {
        let path = folder.join(FILE);
        let disk = disk::current();
        let written = disk::create(&path).and_then(|file| {
            // Room for a note is there before the disk is full. A file for more slots grows with those that are used.
            disk.write_at(&file, &vec![0; SLOT * slots(attempts).min(ROOM) as usize], 0)?;
            Ok(file)
        });
        let file = written.map_err(|source| OpenError::io(&path, "write", source))?;
        Ok(Self { disk, file })
    }

    /// Notes that an attempt begins.
    pub(super) fn note(&self, slot: Slot, position: u64, attempt: u32) -> io::Result<()> {
        self.disk.write_at(&self.file, &slot_bytes(position, attempt), slot.at())
    }

    /// The attempt has not taken place. If that cannot be noted, it counts when the process ends.
    pub(super) fn forget(&self, slot: Slot) {
        if let Err(error) = self.disk.write_at(&self.file, &[0; SLOT], slot.at()) {
            tracing::warn!(%error, "that an attempt has not taken place cannot be noted");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attempts_are_read_back_and_one_that_was_not_written_whole_is_not() {
        let folder = tempfile::tempdir().unwrap();
        assert!(Attempts::last(folder.path()).unwrap().is_empty());
        let attempts = Attempts::begin(folder.path(), 3).unwrap();
        let mut free = Slot::all(3);
        let (first, second) = (free.pop().unwrap(), free.pop().unwrap());
        for (slot, position, attempt) in [(first, 7, 1), (second, 9, 4), (first, 8, 2)] {
            attempts.note(slot, position, attempt).unwrap();
        }
        assert_eq!(Attempts::last(folder.path()).unwrap(), [(8, 2), (9, 4)], "the slot is used again");
        attempts.forget(first);
        assert_eq!(Attempts::last(folder.path()).unwrap(), [(9, 4)]);
        attempts.note(first, 8, 2).unwrap();
        attempts.note(free.pop().unwrap(), 10, 1).unwrap();
        assert!(free.is_empty());
        let path = folder.path().join(FILE);
        let mut bytes = std::fs::read(&path).unwrap();
        for bit in 0..SLOT * 8 {
            bytes[bit / 8] ^= 1 << (bit % 8);
            std::fs::write(&path, &bytes).unwrap();
            assert_eq!(Attempts::last(folder.path()).unwrap(), [(9, 4), (10, 1)], "bit {bit}");
            bytes[bit / 8] ^= 1 << (bit % 8);
        }
    }
}
