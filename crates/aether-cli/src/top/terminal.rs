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

#[cfg(unix)]
#[cfg(test)]
mod tests {
    use super::*;
    use portable_pty::{CommandBuilder, PtySize, native_pty_system};
    use std::io::Read;
    use std::num::NonZeroU16;

    #[test]
    #[ignore = "the next test runs it in a terminal of its own"]
    fn panics_while_it_draws() {
        let _terminal = Terminal::open().unwrap();
        panic!("on purpose");
    }

    #[test]
    fn a_panic_is_printed_on_the_restored_terminal() {
        let pair = native_pty_system().openpty(PtySize::default()).unwrap();
        let mut command = CommandBuilder::new(std::env::current_exe().unwrap());
        let name = "top::terminal::tests::panics_while_it_draws";
        command.args(["--exact", name, "--ignored", "--nocapture"]);
        // A backtrace would move the message off the screen.
        command.env("RUST_BACKTRACE", "0");
        let mut child = pair.slave.spawn_command(command).unwrap();
        drop(pair.slave);
        let mut output = pair.master.try_clone_reader().unwrap();
        let (rows, columns) = (NonZeroU16::new(24).unwrap(), NonZeroU16::new(80).unwrap());
        let (mut terminal, mut bytes) = (vt100::Parser::new(rows, columns, 200), [0; 4096]);
        let mut was_taken_over = false;
        while let Ok(read @ 1..) = output.read(&mut bytes) {
            for byte in &bytes[..read] {
                terminal.process(&[*byte]);
                was_taken_over |= terminal.screen().alternate_screen();
            }
        }
        assert!(!child.wait().unwrap().success());
        let screen = terminal.screen();
        assert!(was_taken_over && !screen.alternate_screen() && !screen.hide_cursor());
        assert!(screen.contents().contains("on purpose"), "{}", screen.contents());
    }
}
