//! The common arguments of the benchmarks and their parsers.

use std::time::Duration;

use aether_bench::{Address, DEFAULT_BYTES, LEAST_BYTES};
use aether_service::MediumArgs;

/// Duration, payload size, output format and medium.
#[derive(Debug, clap::Args)]
pub(crate) struct CommonArgs {
    /// The duration of each run, in seconds
    #[arg(long, value_name = "N", default_value = "3", value_parser = seconds, allow_negative_numbers = true)]
    pub(crate) seconds: Duration,

    /// The size of each message, in bytes
    #[arg(long, value_name = "N", default_value_t = DEFAULT_BYTES as u64, value_parser = bytes, allow_negative_numbers = true)]
    payload_bytes: u64,

    /// Print the result as one JSON document
    #[arg(long)]
    pub(crate) json: bool,

    #[command(flatten)]
    pub(super) medium: MediumArgs,
}

impl CommonArgs {
    pub(crate) fn payload_bytes(&self) -> usize {
        // At most a mebibyte.
        self.payload_bytes as usize
    }

    pub(crate) fn address(&self) -> Address {
        Address::from(&self.medium)
    }

    /// The address of the server, unless the medium is local.
    pub(crate) fn server(&self) -> Option<&str> {
        (!self.medium.is_local()).then_some(self.medium.medium.as_str())
    }
}

/// An invalid number.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NumberError {
    #[error("use a number of seconds above 0 and at most 3600")]
    Seconds,
    #[error("use a number above 0 and at most 1000: 1 is the capacity of the handler")]
    Load,
    #[error("use a share from 0 to 1, such as 0.05")]
    Share,
    #[error("use a whole number of bytes from {LEAST_BYTES} to 1048576")]
    Bytes,
    #[error("use a time such as 50us or 1ms, from 1us to 1s")]
    Service,
}

/// The number in `text`, if it is in the range.
fn number(
    text: &str,
    range: std::ops::RangeInclusive<f64>,
    otherwise: NumberError,
) -> Result<f64, NumberError> {
    text.parse().ok().filter(|number| range.contains(number)).ok_or(otherwise)
}

fn seconds(text: &str) -> Result<Duration, NumberError> {
    number(text, 0.001..=3600.0, NumberError::Seconds).map(Duration::from_secs_f64)
}

fn bytes(text: &str) -> Result<u64, NumberError> {
    let range = LEAST_BYTES as u64..=1 << 20;
    text.parse().ok().filter(|bytes| range.contains(bytes)).ok_or(NumberError::Bytes)
}

pub(crate) fn load(text: &str) -> Result<f64, NumberError> {
    number(text, 0.001..=1000.0, NumberError::Load)
}

pub(crate) fn share(text: &str) -> Result<f64, NumberError> {
    number(text, 0.0..=1.0, NumberError::Share)
}

pub(crate) fn service(text: &str) -> Result<Duration, NumberError> {
    let range = Duration::from_micros(1)..=Duration::from_secs(1);
    humantime::parse_duration(text).ok().filter(|time| range.contains(time)).ok_or(NumberError::Service)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_out_of_range_are_refused() {
        assert_eq!(seconds("0.5").unwrap(), Duration::from_millis(500));
        assert!((load("10").unwrap() - 10.0).abs() < f64::EPSILON);
        assert!(share("0").unwrap().abs() < f64::EPSILON);
        assert_eq!(service("50us").unwrap(), Duration::from_micros(50));
        for wrong in ["", "0", "-1", "NaN", "inf", "1e9", "x"] {
            assert!(
                seconds(wrong).is_err()
                    && bytes(wrong).is_err()
                    && load(wrong).is_err()
                    && service(wrong).is_err(),
                "{wrong}"
            );
        }
        for wrong in ["", "-0.1", "1.1", "NaN", "x"] {
            assert!(share(wrong).is_err(), "{wrong}");
        }
    }
}
