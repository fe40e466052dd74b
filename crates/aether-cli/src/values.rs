//! Parsers of argument values: amplitudes, times, phases, rates, payloads, names.
//!
//! Each value is checked when it is parsed, so that an error names the allowed values before the command connects.

use std::str::FromStr;
use std::time::Duration;

use aether_core::{
    Amplitude, Floor, Phase, Source, Wave, WaveError,
    wave::{AmplitudeError, PhaseError, SourceError},
};
use serde_json::value::RawValue;

/// An invalid argument value.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ValueError {
    #[error("not a number: use an amplitude from 2.4e-10 to 1.0 (0.5 is normal)")]
    AmplitudeNumber,
    #[error(transparent)]
    Amplitude(#[from] AmplitudeError),
    #[error("use \"assert\", \"retract\" or a number of radians")]
    PhaseWord,
    #[error(transparent)]
    Phase(#[from] PhaseError),
    #[error("use a number with a unit, such as 500ms, 2s or 1m30s")]
    Time,
    #[error("the time must be longer than zero")]
    NoTime,
    #[error("use a number with a unit, such as 500ms, 8s or 1m30s, or never")]
    HalfLife,
    #[error("use a number above 0 and at most {} waves a second", Rate::MOST)]
    Rate,
    #[error("not JSON, {0}. Quote it for the shell: '{{\"sku\":\"lamp\"}}', or '\"text\"' for a text")]
    Json(serde_json::Error),
    #[error(transparent)]
    Name(#[from] SourceError),
    #[error("use a whole number from {least} to {}", u64::MAX)]
    Whole { least: u64 },
    #[error(transparent)]
    Key(#[from] WaveError),
    #[error("use a name and a value, such as tenant=7")]
    Header,
}

pub(crate) fn amplitude(text: &str) -> Result<Amplitude, ValueError> {
    let number: f32 = text.parse().map_err(|_| ValueError::AmplitudeNumber)?;
    Ok(Amplitude::new(number)?)
}

pub(crate) fn floor(text: &str) -> Result<Floor, ValueError> {
    let number: f32 = text.parse().map_err(|_| ValueError::AmplitudeNumber)?;
    Ok(Floor::new(number)?)
}

pub(crate) fn phase(text: &str) -> Result<Phase, ValueError> {
    match text {
        "assert" => Ok(Phase::ASSERT),
        "retract" => Ok(Phase::RETRACT),
        _ => Ok(Phase::new(text.parse().map_err(|_| ValueError::PhaseWord)?)?),
    }
}

/// A time longer than zero.
pub(crate) fn time(text: &str) -> Result<Duration, ValueError> {
    let time = humantime::parse_duration(text).map_err(|_| ValueError::Time)?;
    if time.is_zero() { Err(ValueError::NoTime) } else { Ok(time) }
}

/// The name of a vibrator.
pub(crate) fn name(text: &str) -> Result<String, ValueError> {
    Source::new(text)?;
    Ok(text.to_owned())
}

/// A whole number of at least `least`.
pub(crate) fn whole(least: u64) -> impl Fn(&str) -> Result<u64, ValueError> + Clone {
    move |text| text.parse().ok().filter(|number| *number >= least).ok_or(ValueError::Whole { least })
}

/// A coherence key.
pub(crate) fn key(text: &str) -> Result<String, ValueError> {
    // The builder checks keys.
    Wave::builder("key").key(text).build()?;
    Ok(text.to_owned())
}

/// A header: its name and its value.
pub(crate) fn header(text: &str) -> Result<(String, String), ValueError> {
    let (name, value) = text.split_once('=').ok_or(ValueError::Header)?;
    // The builder checks headers.
    Wave::builder("header").metadata(name, value).build()?;
    Ok((name.to_owned(), value.to_owned()))
}

/// The half-life of an amplitude.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum HalfLife {
    Never,
    Time(Duration),
}

impl FromStr for HalfLife {
    type Err = ValueError;
    fn from_str(text: &str) -> Result<Self, ValueError> {
        match (text, time(text)) {
            ("never", _) => Ok(Self::Never),
            (_, Ok(half_life)) => Ok(Self::Time(half_life)),
            (_, Err(ValueError::NoTime)) => Err(ValueError::NoTime),
            _ => Err(ValueError::HalfLife),
        }
    }
}

/// A rate in waves a second.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Rate(pub(crate) f64);

impl Rate {
    const MOST: f64 = 1e6;
}

impl FromStr for Rate {
    type Err = ValueError;
    fn from_str(text: &str) -> Result<Self, ValueError> {
        match text.parse() {
            // Smaller rates would have periods beyond the range of Duration.
            Ok(rate) if (1e-9..=Self::MOST).contains(&rate) => Ok(Self(rate)),
            _ => Err(ValueError::Rate),
        }
    }
}

/// One JSON document, kept verbatim.
pub(crate) fn json(text: &str) -> Result<Box<RawValue>, ValueError> {
    serde_json::from_str(text).map_err(ValueError::Json)
}

/// The payload argument.
#[derive(Debug, Clone)]
pub(crate) enum PayloadArg {
    Json(Box<RawValue>),
    /// One document per line of stdin.
    Stdin,
}

impl FromStr for PayloadArg {
    type Err = ValueError;
    fn from_str(text: &str) -> Result<Self, ValueError> {
        if text == "-" { Ok(Self::Stdin) } else { json(text).map(Self::Json) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_read() {
        assert_eq!(amplitude("1").unwrap(), Amplitude::FULL);
        assert_eq!(floor("0").unwrap(), Floor::OPEN);
        assert_eq!(phase("retract").unwrap(), Phase::RETRACT);
        assert_eq!(phase("0").unwrap(), Phase::ASSERT);
        assert_eq!(header("tenant=a=b").unwrap(), ("tenant".to_owned(), "a=b".to_owned()));
        assert_eq!((whole(0)("0").unwrap(), whole(1)("1").unwrap()), (0, 1));
        assert_eq!(time("1m30s").unwrap(), Duration::from_secs(90));
        assert_eq!("never".parse::<HalfLife>().unwrap(), HalfLife::Never);
        assert_eq!("8s".parse::<HalfLife>().unwrap(), HalfLife::Time(Duration::from_secs(8)));
        assert_eq!("2.5".parse::<Rate>().unwrap(), Rate(2.5));
        assert!(matches!("-".parse().unwrap(), PayloadArg::Stdin));
        let PayloadArg::Json(kept) = "{\"b\":1e2,  \"a\":0}".parse().unwrap() else { panic!() };
        assert_eq!(kept.get(), "{\"b\":1e2,  \"a\":0}");
    }

    #[test]
    fn errors_name_the_allowed_values() {
        let texts = [
            (amplitude("2").unwrap_err(), "from 2.4e-10 to 1.0"),
            (amplitude("loud").unwrap_err(), "from 2.4e-10 to 1.0"),
            (amplitude("NaN").unwrap_err(), "from 2.4e-10 to 1.0"),
            (floor("-1").unwrap_err(), "from 2.4e-10 to 1.0"),
            (phase("upside down").unwrap_err(), "retract"),
            (phase("inf").unwrap_err(), "finite"),
            (time("2").unwrap_err(), "500ms"),
            (time("0s").unwrap_err(), "longer than zero"),
            ("soon".parse::<HalfLife>().unwrap_err(), "never"),
            ("0s".parse::<HalfLife>().unwrap_err(), "longer than zero"),
            ("0".parse::<Rate>().unwrap_err(), "above 0"),
            ("NaN".parse::<Rate>().unwrap_err(), "above 0"),
            ("{lamp}".parse::<PayloadArg>().unwrap_err(), "line 1 column 2"),
            (name("").unwrap_err(), "1 to 128 bytes"),
            (whole(1)("0").unwrap_err(), "from 1 to 18446744073709551615"),
            (whole(0)("-1").unwrap_err(), "from 0 to 18446744073709551615"),
            (header("tenant").unwrap_err(), "tenant=7"),
            (key("").unwrap_err(), "use 1 to 255"),
            (key(&"k".repeat(256)).unwrap_err(), "use 1 to 255"),
        ];
        for (error, allowed) in texts {
            assert!(error.to_string().contains(allowed), "{error}");
        }
    }
}
