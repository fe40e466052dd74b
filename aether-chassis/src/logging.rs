//! Logging to stderr, set by `AETHER_LOG`.
//!
//! A program's main function calls it once. Libraries only use `tracing`. Stdout stays free for results.

use std::io::{IsTerminal, stderr};

use tracing_subscriber::EnvFilter;
use tracing_subscriber::util::SubscriberInitExt;

/// The environment variable with the filter, in the syntax of `tracing_subscriber::EnvFilter`: `debug`,
/// `aether_core=trace,warn`.
pub const FILTER_VARIABLE: &str = "AETHER_LOG";

/// The default filter: `info` for our own crates, `warn` for all others.
const DEFAULT_FILTER: &str = "warn,aether_core=info,aether_chassis=info,aether_gateway=info,\
    aether_service_alpha=info,aether_service_beta=info,aether_cli=info,aether=info";

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
    /// Logging is already set up.
    #[error("logging was set up twice")]
    Twice(#[from] tracing_subscriber::util::TryInitError),
}

/// Starts logging to stderr. Colours are used only on a terminal without `NO_COLOR` (see <https://no-color.org>).
///
/// # Errors
/// [`LoggingError`] if the filter in `AETHER_LOG` is not valid, or logging is already set up.
pub fn init() -> Result<(), LoggingError> {
    let filter = filter(std::env::var(FILTER_VARIABLE).ok())?;
    let colours = stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(stderr)
        .with_ansi(colours)
        .finish()
        .try_init()?;
    Ok(())
}

fn filter(given: Option<String>) -> Result<EnvFilter, LoggingError> {
    let filter = given.filter(|text| !text.is_empty()).unwrap_or_else(|| DEFAULT_FILTER.to_owned());
    EnvFilter::builder().parse(&filter).map_err(|source| LoggingError::Filter { filter, source })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wrong_filter_is_named_and_an_empty_one_means_the_default() {
        let error = filter(Some("aether=loud".to_owned())).unwrap_err();
        assert!(error.to_string().contains("AETHER_LOG=\"aether=loud\""), "{error}");
        let default = filter(None).unwrap().to_string();
        assert_eq!(filter(Some(String::new())).unwrap().to_string(), default);
        assert!(default.contains("aether_core=info") && default.contains("warn"), "{default}");
    }
}
