//! The view of `aether up`: current waves and the state of the orders.
//!
//! On a terminal the status line is redrawn at the bottom; elsewhere it is printed once a second. The gateway adds each
//! wave to a frame, which never blocks. Writing happens in the command's own task, so a slow terminal delays no
//! service.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use aether_core::{Aether, Wave};
use aether_gateway::{Gateway, Insight, Observed};
use aether_service::{CancellationToken, Received};
use aether_service_alpha::{OrderCounters, OrderSummary};
use aether_service_beta::StockSummary;
use anstyle::Style;
use parking_lot::Mutex;
use tokio::time::{Instant, MissedTickBehavior};

use crate::frame::{Frame, Taken};
use crate::output::Output;
#[cfg(feature = "bench")]
use crate::overload_view::OverloadView;
use crate::record::printable;

/// The duration of a frame.
const MOMENT: Duration = Duration::from_millis(500);
/// The maximum number of waves shown per frame.
const LINES: usize = 6;
/// The maximum number of payload characters without a terminal.
const CHARACTERS: usize = 80;
/// The approximate width of a line before the payload.
const MARGIN: usize = 52;
/// The number of frames per status line without a terminal.
const FRAMES_A_STANDING: u32 = 2;

/// The service map is shown after this many frames, and again at the end.
const FRAMES_TO_THE_MAP: u32 = 10;

const FAINT: Style = Style::new().dimmed();

/// A view before the start.
pub(crate) struct View {
    output: Output,
    frame: Arc<Mutex<Frame>>,
    aether: Aether,
}

/// A running view.
pub(crate) struct Showing {
    view: View,
    observed: Arc<Observed>,
    insight: Option<Arc<Insight>>,
    started: Instant,
    frames: u32,
}

impl View {
    pub(crate) fn of_stdout(aether: &Aether) -> Self {
        let output = Output::stdout();
        let characters =
            output.columns().map_or(CHARACTERS, |columns| columns.saturating_sub(MARGIN).max(16));
        let frame = Arc::new(Mutex::new(Frame::new(LINES, characters)));
        Self { output, frame, aether: aether.clone() }
    }

    /// The callback that adds a wave to the next frame.
    pub(crate) fn noting(&self) -> impl FnMut(&Wave) + Send + 'static {
        let frame = Arc::clone(&self.frame);
        move |wave| frame.lock().note(wave)
    }

    /// Prints the address of the gateway and starts the view.
    pub(crate) fn begin(mut self, gateway: &Gateway) -> io::Result<Showing> {
        self.output.line(gateway.announcement())?;
        let (observed, insight) = (gateway.observed(), gateway.insight());
        Ok(Showing { view: self, observed, insight, started: Instant::now(), frames: 0 })
    }
}

impl Showing {
    /// Shows frames and the status line until `done` is cancelled.
    pub(crate) async fn watch(
        &mut self,
        counters: &OrderCounters,
        done: &CancellationToken,
    ) -> io::Result<()> {
        let mut moments = tokio::time::interval(MOMENT);
        moments.set_missed_tick_behavior(MissedTickBehavior::Delay);
        moments.reset();
        loop {
            tokio::select! {
                () = done.cancelled() => return Ok(()),
                _ = moments.tick() => {
                    self.show_frame()?;
                    self.frames += 1;
                    if self.frames == FRAMES_TO_THE_MAP {
                        self.show_map()?;
                    }
                    if self.view.output.is_terminal() || self.frames.is_multiple_of(FRAMES_A_STANDING) {
                        self.show_standing(counters.summary())?;
                    }
                }
            }
        }
    }

    /// Shows an overload, one line a second, until `done` is cancelled. The waves of the order system are not shown; on
    /// a terminal the status line is.
    #[cfg(feature = "bench")]
    pub(crate) async fn watch_overload(
        &mut self,
        overload: &mut OverloadView,
        counters: &OrderCounters,
        done: &CancellationToken,
    ) -> io::Result<()> {
        self.view.output.line(overload.announcement())?;
        let mut seconds = tokio::time::interval(MOMENT * FRAMES_A_STANDING);
        seconds.set_missed_tick_behavior(MissedTickBehavior::Delay);
        seconds.reset();
        loop {
            tokio::select! {
                () = done.cancelled() => return Ok(()),
                _ = seconds.tick() => {
                    let elapsed = self.started.elapsed().as_secs();
                    let output = &mut self.view.output;
                    output.line(format_args!("{elapsed:>4} s | {}", overload.look()))?;
                    if output.is_terminal() {
                        self.show_standing(counters.summary())?;
                    }
                }
            }
        }
    }

    /// Shows the last waves and the final sums. All services and the gateway have ended.
    pub(crate) fn end(
        &mut self,
        orders: OrderSummary,
        stock: StockSummary,
        overload: Option<String>,
    ) -> io::Result<()> {
        match &overload {
            None => self.show_frame()?,
            Some(sums) => self.view.output.line(sums)?,
        }
        self.show_map()?;
        let output = &mut self.view.output;
        output.line(orders)?;
        output.line(stock)?;
        output.line(Received::of(self.view.aether.ledger()))?;
        output.line(format_args!(
            "observed by the gateway: {} waves in {:.1?}",
            self.observed.waves(),
            self.started.elapsed()
        ))
    }

    fn show_frame(&mut self) -> io::Result<()> {
        let Taken { lines, more } = self.view.frame.lock().take();
        for line in lines {
            self.view.output.line(line)?;
        }
        if more > 0 {
            self.view.output.line(format_args!("{FAINT}      … {more} more{FAINT:#}"))?;
        }
        Ok(())
    }

    fn show_map(&mut self) -> io::Result<()> {
        let report = self.insight.as_ref().and_then(|insight| insight.report());
        let edges = report.as_deref().map_or(&[][..], |report| &report.map.edges);
        let output = &mut self.view.output;
        output.line(format_args!(
            "service map: {} edges found in {:.1?}",
            edges.len(),
            self.started.elapsed()
        ))?;
        for edge in edges {
            output.line(format_args!("  {edge}"))?;
        }
        Ok(())
    }

    fn show_standing(&mut self, orders: OrderSummary) -> io::Result<()> {
        let OrderSummary { created, completed, refused, compensated, in_flight, .. } = orders;
        let standing = format!(
            "{} s | {created} orders: {completed} completed, {refused} refused, {compensated} compensated, \
             {in_flight} in flight | {} waves, {:.0}/s, {} lost",
            self.started.elapsed().as_secs(),
            self.observed.waves(),
            self.observed.waves_per_second(),
            self.view.aether.ledger().lost(),
        );
        // A wrapped line could not be redrawn.
        let width = self.view.output.columns().map_or(usize::MAX, |columns| columns.saturating_sub(2));
        self.view.output.status(printable(&standing, width))
    }
}
