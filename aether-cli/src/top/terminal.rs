//! The terminal in raw mode on its alternate screen. It is restored when this is dropped, and before a panic is printed.

use std::io;

use ratatui::{DefaultTerminal, Frame};

use crate::stdout_watchdog::writing;

pub(super) struct Terminal(DefaultTerminal);

impl Terminal {
    /// Takes the terminal over. From now on a panic restores it first.
    pub(super) fn open() -> io::Result<Self> {
        ratatui::try_init().map(Self)
    }

    pub(super) fn draw(&mut self, draw: impl FnOnce(&mut Frame<'_>)) -> io::Result<()> {
        writing(|| self.0.draw(draw)).map(drop)
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        // A terminal that has gone needs no restoring.
        let _ = ratatui::try_restore();
    }
}
