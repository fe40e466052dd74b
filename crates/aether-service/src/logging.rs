//! Logging to stderr, set by `AETHER_LOG`, or by the section `[log]` of a configuration.
//!
//! A program's main function calls it once. Libraries only use `tracing`. Stdout stays free for results. A line that is
//! written within a sampled trace has its ids.

mod format;
mod line_queue;
mod why_broken;

use std::io::{IsTerminal, stderr};
use std::sync::OnceLock;
use std::time::Duration;

use tracing::Dispatch;
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Registry, reload};

pub use format::LogFormat;
pub(crate) use format::set_format;
use format::{Lines, Times};
use line_queue::{LineQueue, LineWriter};
use why_broken::WhyBroken;

#[cfg(feature = "otlp")]
use crate::telemetry;

/// The environment variable with the filter: a level, or pairs of a target and a level, or both: `debug`,
/// `aether_core=trace,warn`. See `tracing_subscriber::filter::Targets`.
pub const FILTER_VARIABLE: &str = "AETHER_LOG";

/// The default filter: `info` for all crates, so also for the author's. This crate logs the connection of NATS, with
/// the losses.
pub(crate) const DEFAULT_FILTER: &str = "info,async_nats=warn";

/// Why logging did not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LoggingError {
    /// The filter is not valid.
    #[error(
        "{FILTER_VARIABLE}={filter:?} is not a filter: use a level such as debug, or pairs such as aether_core=trace"
    )]
    Filter {
        /// The filter as given.
        filter: String,
        /// What is wrong with it.
        source: tracing_subscriber::filter::ParseError,
    },
    /// The filter asks for spans or fields, which are not filtered.
    #[error(
        "{FILTER_VARIABLE}={filter:?} has brackets: use a level such as debug, or pairs such as aether_core=trace"
    )]
    Brackets {
        /// The filter as given.
        filter: String,
    },
    /// Another subscriber is installed already.
    #[error("a subscriber for logs is installed already: leave that to `run`, or pass yours to `run_with`")]
    Twice(#[from] tracing_subscriber::util::TryInitError),
}

/// How long the end of a program waits for the reader of its log.
pub(crate) const FLUSH_PATIENCE: Duration = Duration::from_secs(1);

/// The lines that wait for stderr.
static LINES: LineQueue = LineQueue::new();

/// Starts logging to stderr. Colours are used only on a terminal without `NO_COLOR` (see <https://no-color.org>).
///
/// Lines are written by a thread of their own, so that a stderr that nobody reads blocks nothing else: at most 2 MiB of
/// lines wait, further ones are left out and counted. [`run`](crate::run) waits for the last ones; a program that does
/// not use it calls [`flush`] at its end.
///
/// # Errors
/// [`LoggingError`] if the filter in `AETHER_LOG` is not valid, or a subscriber is installed already.
pub fn init() -> Result<(), LoggingError> {
    let colours = stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    let (filter, handle) = reload::Layer::new(WhyBroken(env_filter()?));
    let lines = tracing_subscriber::fmt::layer().with_writer(|| LineWriter(&LINES)).with_ansi(colours);
    let lines = lines.with_timer(Times).map_event_format(Lines);
    #[cfg(feature = "otlp")]
    init_with(tracing_subscriber::registry().with(telemetry::late_layer()).with(filter).with(lines))?;
    #[cfg(not(feature = "otlp"))]
    init_with(tracing_subscriber::registry().with(filter).with(lines))?;
    // Only one subscriber is ever installed.
    let _ = FILTER.set(handle);
    LINES.start();
    Ok(())
}

/// Waits until the lines that were logged are on stderr, at most for a time. Returns whether they are: not if nobody
/// reads it. Does nothing for a subscriber of the author.
pub fn flush(patience: Duration) -> bool {
    LINES.flush(patience)
}

/// The subscriber that the filter is a layer of.
#[cfg(feature = "otlp")]
type Filtered = tracing_subscriber::layer::Layered<reload::Layer<telemetry::LateLayer, Registry>, Registry>;
#[cfg(not(feature = "otlp"))]
type Filtered = Registry;

/// The filter of the subscriber that [`init`] has installed.
static FILTER: OnceLock<reload::Handle<WhyBroken, Filtered>> = OnceLock::new();

/// Whether the filter can be replaced.
pub(crate) fn has_filter() -> bool {
    FILTER.get().is_some()
}

/// Replaces the filter of the subscriber that [`init`] has installed. Changes nothing for a subscriber of the author, or
/// if the filter is the same.
pub(crate) fn set_filter(filter: &str) {
    let Some((handle, filter)) = FILTER.get().zip(parse_filter(filter).ok()) else { return };
    let is_new = handle.with_current(|current| current.0.to_string() != filter.to_string()).unwrap_or(true);
    if is_new && let Err(error) = handle.reload(WhyBroken(filter)) {
        tracing::error!(error = crate::error_chain(&error), "the filter of the log was not changed");
    }
}

/// Nothing is logged by the subscriber of [`init`] until it is dropped.
#[derive(Debug)]
#[must_use = "dropping it ends the silence"]
pub struct Silence(Option<String>);

/// Stops the log while a program draws on the terminal to which the log goes. Does nothing if stderr is not a terminal,
/// or for a subscriber of the author.
pub fn silence_terminal() -> Silence {
    let handle = FILTER.get().filter(|_| stderr().is_terminal());
    let before = handle.and_then(|handle| handle.with_current(|filter| filter.0.to_string()).ok());
    if before.is_some() {
        set_filter("off");
        flush(FLUSH_PATIENCE);
    }
    Silence(before)
}

impl Drop for Silence {
    fn drop(&mut self) {
        if let Some(before) = &self.0 {
            set_filter(before);
        }
    }
}

/// Starts logging with a subscriber of one's own, such as one that writes JSON. [`env_filter`] reads `AETHER_LOG` for it.
///
/// # Errors
/// [`LoggingError::Twice`] if a subscriber is installed already.
pub fn init_with(subscriber: impl Into<Dispatch>) -> Result<(), LoggingError> {
    Ok(subscriber.try_init()?)
}

/// The filter in `AETHER_LOG`. Default: `info` for all crates. The span around each handling, with the wave,
/// its cause and the root of its request, has the target `aether::handling` and the level `debug`:
/// `info,aether::handling=debug` switches it on.
///
/// # Errors
/// [`LoggingError::Filter`] if the filter is not valid.
pub fn env_filter() -> Result<Targets, LoggingError> {
    filter(std::env::var(FILTER_VARIABLE).ok())
}

fn filter(given: Option<String>) -> Result<Targets, LoggingError> {
    parse_filter(given.as_deref().filter(|text| !text.is_empty()).unwrap_or(DEFAULT_FILTER))
}

pub(crate) fn parse_filter(filter: &str) -> Result<Targets, LoggingError> {
    // Otherwise they would be the name of a target.
    if filter.contains(['[', ']', '{', '}']) {
        return Err(LoggingError::Brackets { filter: filter.to_owned() });
    }
    let refuse = |source| LoggingError::Filter { filter: filter.to_owned(), source };
    let targets: Targets = filter.parse().map_err(refuse)?;
    // At this level the client repeats the connection, and the answers to deliberate requests.
    let is_usual = targets.default_level() == Some(LevelFilter::INFO) && !filter.contains("async_nats");
    Ok(if is_usual { targets.with_target("async_nats", LevelFilter::WARN) } else { targets })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wrong_filter_is_named_and_an_empty_one_means_the_default() {
        let error = filter(Some("aether=loud".to_owned())).unwrap_err();
        assert!(error.to_string().contains("AETHER_LOG=\"aether=loud\""), "{error}");
        let error = filter(Some("[handling]=debug".to_owned())).unwrap_err();
        assert!(error.to_string().contains("has brackets"), "{error}");
        let default = filter(None).unwrap().to_string();
        assert_eq!(filter(Some(String::new())).unwrap().to_string(), default);
        assert_eq!(default, "async_nats=warn,info");
        assert_eq!(filter(Some("info".to_owned())).unwrap().to_string(), default);
        let asked = filter(Some("info,async_nats=info".to_owned())).unwrap().to_string();
        assert!(asked.contains("async_nats=info"), "{asked}");
        assert_eq!(filter(Some("debug".to_owned())).unwrap().to_string(), "debug");
    }
}
