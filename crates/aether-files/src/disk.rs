//! The disk, as stores see it: writing and syncing, which a simulation replaces, and work beside a program, which a
//! simulation runs in order.
//!
//! Called by the stores of our crates. Reading, and names of files, go to the operating system directly.

mod bell;
mod worker;

pub use bell::Bell;
pub use worker::{Worker, pause, spawn_blocking};

use std::cell::RefCell;
use std::fmt;
use std::fs::File;
use std::io::{self, Write};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// The operations that make files last. The default methods call the operating system.
pub trait Disk: fmt::Debug + Send + Sync {
    /// Writes the beginning of these bytes at the place of the file, and returns how many.
    ///
    /// # Errors
    /// As [`Write::write`].
    fn write(&self, mut file: &File, bytes: &[u8]) -> io::Result<usize> {
        file.write(bytes)
    }

    /// Writes these bytes at an offset.
    ///
    /// # Errors
    /// As [`Write::write_all`].
    fn write_at(&self, file: &File, bytes: &[u8], offset: u64) -> io::Result<()> {
        write_at(file, bytes, offset)
    }

    /// Sets the length of a file.
    ///
    /// # Errors
    /// As [`File::set_len`].
    fn set_len(&self, file: &File, length: u64) -> io::Result<()> {
        file.set_len(length)
    }

    /// Returns when the disk has confirmed contents and length.
    ///
    /// # Errors
    /// As [`File::sync_data`].
    fn sync_data(&self, file: &File) -> io::Result<()> {
        file.sync_data()
    }

    /// The same, and for the times of the file as well.
    ///
    /// # Errors
    /// As [`File::sync_all`].
    fn sync_all(&self, file: &File) -> io::Result<()> {
        file.sync_all()
    }

    /// Returns when the disk has confirmed the names in a folder.
    ///
    /// # Errors
    /// As [`File::sync_all`].
    fn sync_folder(&self, folder: &Path) -> io::Result<()> {
        // Other systems have no such operation.
        if cfg!(unix) { File::open(folder)?.sync_all() } else { Ok(()) }
    }

    /// How long the next operation takes, in a simulation.
    fn takes(&self) -> Option<Duration> {
        None
    }

    /// Whether the simulated process has ended without its stores: they do nothing more.
    fn is_gone(&self) -> bool {
        false
    }
}

#[cfg(unix)]
fn write_at(file: &File, bytes: &[u8], offset: u64) -> io::Result<()> {
    std::os::unix::fs::FileExt::write_all_at(file, bytes, offset)
}

#[cfg(windows)]
fn write_at(file: &File, bytes: &[u8], offset: u64) -> io::Result<()> {
    std::os::windows::fs::FileExt::seek_write(file, bytes, offset).map(drop)
}

/// The disk of the machine.
#[derive(Debug)]
struct Machine;

impl Disk for Machine {}

thread_local! {
    static SIMULATED: RefCell<Option<Arc<dyn Disk>>> = const { RefCell::new(None) };
}

/// Gives this thread a disk in place of the machine's, or takes it away. For a simulator, whose processes share a thread.
pub fn simulate(disk: Option<Arc<dyn Disk>>) {
    SIMULATED.set(disk);
}

/// Whether a simulated process runs on this thread.
#[must_use]
pub fn is_simulated() -> bool {
    SIMULATED.with_borrow(Option::is_some)
}

/// The disk of this thread.
#[must_use]
pub fn current() -> Arc<dyn Disk> {
    SIMULATED.with_borrow(Clone::clone).unwrap_or_else(|| Arc::new(Machine))
}

/// Makes an empty file, or empties one. A simulated disk has to read it as well.
///
/// # Errors
/// As [`File::create`].
pub fn create(path: &Path) -> io::Result<File> {
    File::options().read(true).write(true).create(true).truncate(true).open(path)
}

/// Writes a file through a disk.
#[derive(Debug)]
pub struct Writing<'a> {
    /// The disk.
    pub disk: &'a dyn Disk,
    /// The file.
    pub file: &'a File,
}

impl Write for Writing<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.disk.write(self.file, bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
