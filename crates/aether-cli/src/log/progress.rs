//! A bar on stderr that shows how far a command is, on a terminal only.

use std::io::{self, IsTerminal};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// A bar. Dropped, it is erased.
#[derive(Debug)]
pub(super) struct Progress(ProgressBar);

impl Progress {
    /// A bar for a command that prints waves: none on a terminal that shows them.
    pub(super) fn beside_output() -> Self {
        if io::stdout().is_terminal() { Self::hidden() } else { Self::shown() }
    }

    pub(super) fn hidden() -> Self {
        Self(ProgressBar::hidden())
    }

    /// A bar, if stderr is a terminal.
    pub(super) fn shown() -> Self {
        let bar = ProgressBar::with_draw_target(Some(0), ProgressDrawTarget::stderr());
        let style = ProgressStyle::with_template("{wide_bar} {percent:>3} %  {eta} left");
        Self(bar.with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar())))
    }

    pub(super) fn total(&self, total: u64) {
        self.0.set_length(total);
    }

    pub(super) fn reached(&self, place: u64) {
        self.0.set_position(place);
    }

    pub(super) fn end(&self) {
        self.0.finish_and_clear();
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.end();
    }
}
