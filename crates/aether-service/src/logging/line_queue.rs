//! The lines of the log that wait for stderr: bounded, and written by a thread of its own.
//!
//! A write to a pipe that nobody reads blocks its thread. Workers of the runtime log, and so does the handler that ends
//! the process at a signal: neither may depend on the reader. Lines that find no room are left out and counted; the
//! count is a line of the log when the reader is back.

use std::io::{self, Write};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use parking_lot::{Condvar, Mutex};

/// The most bytes that wait, beside as many that are being written.
const MOST: usize = 1 << 20;

/// Lines that wait to be written.
#[derive(Debug, Default)]
pub(super) struct LineQueue {
    waiting: Mutex<Waiting>,
    /// There is something to write.
    filled: Condvar,
    /// Everything is written.
    emptied: Condvar,
    has_thread: AtomicBool,
}

#[derive(Debug, Default)]
struct Waiting {
    bytes: Vec<u8>,
    /// The number of lines that found no room so far.
    left_out: u64,
    is_writing: bool,
}

impl LineQueue {
    pub(super) const fn new() -> Self {
        Self {
            waiting: Mutex::new(Waiting { bytes: Vec::new(), left_out: 0, is_writing: false }),
            filled: Condvar::new(),
            emptied: Condvar::new(),
            has_thread: AtomicBool::new(false),
        }
    }

    /// Starts the thread that writes. Without one, lines are written at once.
    pub(super) fn start(&'static self) {
        let writing = move || self.write_to(io::stderr());
        let started = std::thread::Builder::new().name("log".to_owned()).spawn(writing);
        self.has_thread.store(started.is_ok(), Ordering::Relaxed);
    }

    /// Adds a line, or counts it if there is no room.
    fn add(&self, line: &[u8]) {
        let mut waiting = self.waiting.lock();
        if waiting.bytes.len() + line.len() > MOST {
            waiting.left_out += 1;
            return;
        }
        waiting.bytes.extend_from_slice(line);
        drop(waiting);
        self.filled.notify_one();
    }

    /// Writes lines as they come, until the process ends.
    fn write_to(&self, mut to: impl Write) {
        let (mut bytes, mut told) = (Vec::new(), 0);
        loop {
            let left_out = {
                let mut waiting = self.waiting.lock();
                waiting.is_writing = false;
                while waiting.bytes.is_empty() {
                    self.emptied.notify_all();
                    self.filled.wait(&mut waiting);
                }
                waiting.is_writing = true;
                bytes.clear();
                std::mem::swap(&mut bytes, &mut waiting.bytes);
                waiting.left_out
            };
            // There is nobody to tell about a closed stderr.
            let _ = to.write_all(&bytes).and_then(|()| to.flush());
            if left_out > told {
                let lines = left_out - std::mem::replace(&mut told, left_out);
                tracing::warn!(lines, "lines of the log were left out, because nobody read it");
            }
        }
    }

    /// Waits until all lines are written, at most for a time. Returns whether they are.
    pub(super) fn flush(&self, patience: Duration) -> bool {
        let mut waiting = self.waiting.lock();
        if !self.has_thread.load(Ordering::Relaxed) {
            return true;
        }
        let has_lines = |waiting: &mut Waiting| waiting.is_writing || !waiting.bytes.is_empty();
        !self.emptied.wait_while_for(&mut waiting, has_lines, patience).timed_out()
    }
}

/// Adds each line that is written to it.
#[derive(Debug)]
pub(super) struct LineWriter(pub(super) &'static LineQueue);

impl Write for LineWriter {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        if !self.0.has_thread.load(Ordering::Relaxed) {
            return io::stderr().write(line);
        }
        self.0.add(line);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::mpsc;

    use super::*;

    /// A reader that takes nothing until it is let go.
    struct Pipe {
        reads: mpsc::Receiver<()>,
        written: Arc<Mutex<Vec<u8>>>,
    }

    impl Write for Pipe {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            // An error means that it is open for ever.
            let _ = self.reads.recv();
            self.written.lock().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn lines_that_nobody_reads_are_bounded_and_block_nobody() {
        let queue: &'static LineQueue = Box::leak(Box::default());
        queue.has_thread.store(true, Ordering::Relaxed);
        let (reader, reads) = mpsc::channel();
        let written = Arc::<Mutex<Vec<u8>>>::default();
        let pipe = Pipe { reads, written: Arc::clone(&written) };
        std::thread::spawn(move || queue.write_to(pipe));
        let line = [b'x'; 1024];
        for _ in 0..10_000 {
            LineWriter(queue).write_all(&line).unwrap();
        }
        assert!(!queue.flush(Duration::from_millis(1)), "nobody reads");
        assert!(queue.waiting.lock().bytes.len() <= MOST);
        drop(reader);
        assert!(queue.flush(Duration::from_secs(120)));
        let lines = written.lock().len() / line.len();
        assert!(lines <= 2 * MOST / line.len(), "{lines}");
        assert_eq!(lines as u64 + queue.waiting.lock().left_out, 10_000);
    }
}
