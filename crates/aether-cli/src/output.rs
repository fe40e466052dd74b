//! Writes results to stdout: coloured on a terminal, plain elsewhere.
//!
//! `anstream` decides about colours: none when stdout is not a terminal or `NO_COLOR` is set.

use std::fmt::Display;
use std::io::{self, IsTerminal, Write};

use anstream::AutoStream;

use crate::stdout_watchdog::writing;

/// The writer of results.
#[derive(Debug)]
pub(crate) struct Output {
    stream: AutoStream<io::Stdout>,
    terminal: bool,
    /// Whether there is a status line at the bottom.
    has_status: bool,
}

/// Moves to the first column and clears the line.
const ERASE_LINE: &str = "\r\x1b[2K";

/// Writes a line to stderr and ignores a failure.
pub(crate) fn stderr_line(line: impl Display) {
    let _ = writeln!(io::stderr(), "{line}");
}

impl Output {
    pub(crate) fn stdout() -> Self {
        let stdout = io::stdout();
        let terminal = stdout.is_terminal();
        Self { stream: AutoStream::auto(stdout), terminal, has_status: false }
    }

    /// Whether stdout is a terminal.
    pub(crate) fn is_terminal(&self) -> bool {
        self.terminal
    }

    /// The width of the terminal in characters.
    pub(crate) fn columns(&self) -> Option<usize> {
        let (width, _) = terminal_size::terminal_size_of(io::stdout()).filter(|_| self.terminal)?;
        Some(usize::from(width.0))
    }

    /// Writes a line.
    pub(crate) fn line(&mut self, line: impl Display) -> io::Result<()> {
        self.erase_status()?;
        writing(|| writeln!(self.stream, "{line}"))
    }

    /// Redraws the status line at the bottom of a terminal. Elsewhere it is an ordinary line.
    pub(crate) fn status(&mut self, line: impl Display) -> io::Result<()> {
        if !self.terminal {
            return self.line(line);
        }
        self.erase_status()?;
        self.has_status = true;
        writing(|| {
            write!(self.stream, "{line}")?;
            self.stream.flush()
        })
    }

    /// Erases the status line.
    pub(crate) fn erase_status(&mut self) -> io::Result<()> {
        if !std::mem::take(&mut self.has_status) {
            return Ok(());
        }
        writing(|| write!(self.stream, "{ERASE_LINE}"))
    }

    /// Writes raw bytes.
    pub(crate) fn bytes(&mut self, bytes: &[u8]) -> io::Result<()> {
        let mut stdout = self.stream.as_inner().lock();
        writing(|| {
            stdout.write_all(bytes)?;
            stdout.flush()
        })
    }
}
