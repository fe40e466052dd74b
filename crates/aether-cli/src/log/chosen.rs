//! Which waves of a log a command takes, by its arguments.

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use aether_core::{Floor, Kind, Pattern};
use aether_log::store::{OpenError, View};
use aether_log::{LogReader, Replay, StoredWave, WaveFilter};
use aether_service::MediumArgs;

use super::keys::keys_of;
use super::progress::Progress;
use crate::error::{CommandError, LogError};
use crate::output::stderr_line;
use crate::values;

/// Which waves of a log.
#[derive(Debug, clap::Args)]
pub(super) struct Chosen {
    /// The folder of the log
    pub(super) folder: PathBuf,

    /// The pattern
    #[arg(default_value = ">")]
    pattern: Pattern,

    /// Begin at this position
    #[arg(long, value_name = "POSITION", default_value_t = 0)]
    from: u64,

    /// Begin with waves that were stored this long ago, or at this time: 10min, 2026-01-31T12:00:00Z
    #[arg(long, value_name = "TIME", value_parser = since)]
    since: Option<SystemTime>,

    /// Only the last N of these waves. Default of tail: 10
    #[arg(short = 'n', long, value_name = "N", value_parser = values::whole(1), allow_negative_numbers = true)]
    last: Option<u64>,

    /// Only waves of this kind
    #[arg(long)]
    kind: Option<Kind>,

    /// Only waves that are not weaker at their source, from 0 (all) to 1
    #[arg(long, value_name = "F", default_value = "0", value_parser = values::floor, allow_negative_numbers = true)]
    floor: Floor,

    /// Only waves of this source, by its name
    #[arg(long, value_name = "NAME")]
    source: Option<String>,

    /// Only waves with this key
    #[arg(long)]
    key: Option<String>,
}

fn since(text: &str) -> Result<SystemTime, &'static str> {
    let ago = |time: Duration| SystemTime::now().checked_sub(time);
    let ago = humantime::parse_duration(text).ok().and_then(ago);
    let at = || humantime::parse_rfc3339_weak(text).ok();
    ago.or_else(at)
        .ok_or("use a time that has passed, such as 10min, or an instant, such as 2026-01-31T12:00:00Z")
}

impl Chosen {
    fn filter(&self) -> WaveFilter {
        let filter = WaveFilter::default().pattern(self.pattern.clone()).floor(self.floor);
        let filter = self.kind.into_iter().fold(filter, WaveFilter::kind);
        let filter = self.source.iter().fold(filter, |filter, name| filter.source(name));
        let filter = self.key.iter().fold(filter, |filter, key| filter.key(key));
        self.since.into_iter().fold(filter, WaveFilter::since)
    }

    fn reader(&self, view: &View, keys: Option<&Path>) -> Result<LogReader, OpenError> {
        let reader = LogReader::new(view.cursor(self.from)).filtered(self.filter());
        match keys {
            Some(keys) => reader.keys(keys),
            None => Ok(reader),
        }
    }

    /// The last N of the waves, with `default` for N, or all. Two passes, so that any number takes no memory.
    pub(super) async fn waves(
        &self,
        view: &View,
        medium: &MediumArgs,
        default: Option<u64>,
    ) -> Result<Replay, CommandError> {
        let keys = keys_of(&self.folder, medium).map_err(LogError::from)?;
        let reader = || self.reader(view, keys.as_deref()).map_err(LogError::from);
        let mut waves = Replay::new(reader()?);
        let Some(last) = self.last.or(default) else { return Ok(waves) };
        let mut counted = Replay::new(reader()?);
        let mut count = 0_u64;
        while counted.next_wave().await.map_err(LogError::from)?.is_some() {
            count += 1;
        }
        for _ in 0..count.saturating_sub(last) {
            waves.next_wave().await.map_err(LogError::from)?;
        }
        Ok(waves)
    }

    /// Calls `each` with the waves in their order. Fails at the end if anything was damaged or not opened.
    pub(super) async fn each(
        &self,
        medium: &MediumArgs,
        default: Option<u64>,
        progress: Progress,
        speed: Option<f64>,
        mut each: impl AsyncFnMut(StoredWave) -> Result<(), CommandError>,
    ) -> Result<(), CommandError> {
        let view = View::open(&self.folder).map_err(LogError::from)?;
        let mut waves = self.waves(&view, medium, default).await?;
        if let Some(speed) = speed {
            waves = waves.speed(speed).map_err(LogError::from)?;
        }
        let extent = view.extent();
        progress.total(extent.last.saturating_sub(extent.first) + 1);
        while let Some(stored) = waves.next_wave().await.map_err(LogError::from)? {
            progress.reached(stored.position.saturating_sub(extent.first));
            each(stored).await?;
        }
        progress.end();
        check(&waves)
    }
}

/// Fails if anything was damaged or not opened, and names the place or the reason.
pub(super) fn check(waves: &Replay) -> Result<(), CommandError> {
    waves.damaged().iter().for_each(stderr_line);
    let unopened = print_unopened(waves);
    match (waves.damaged().len(), unopened) {
        (0, 0) => Ok(()),
        (0, waves) => Err(LogError::Unopened { waves }.into()),
        (places, _) => Err(LogError::Damaged { places }.into()),
    }
}

/// Names the reasons for waves that were not opened. Returns their number.
pub(super) fn print_unopened(waves: &Replay) -> u64 {
    for (reason, waves) in waves.unopened() {
        stderr_line(format_args!("{waves} waves were not opened: {reason}"));
    }
    waves.unopened().values().sum()
}
