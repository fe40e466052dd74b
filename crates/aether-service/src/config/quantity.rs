//! Values of settings that have a unit or a range: times, sizes, counts, and what can be off.

use std::fmt;
use std::marker::PhantomData;
use std::str::FromStr;
use std::time::Duration;

use serde::de::{self, IntoDeserializer, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A time with its unit: `500ms`, `30s`, `1m 30s`, or `0`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Time(pub Duration);

/// A number of bytes with its unit: `64 MiB`, `512KiB`, `10 MB`; at least 1 byte, and below 1 EiB.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Size(u64);

/// A whole number from `LEAST` to `MOST`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Count<const LEAST: u64, const MOST: u64>(u64);

/// A setting that can be switched off with `off`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum OrOff<T> {
    /// `off`.
    #[default]
    Off,
    /// A value.
    On(T),
}

/// A text that is not a quantity. It states what is allowed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{given:?} is not allowed: use {allowed}")]
pub struct QuantityError {
    given: String,
    allowed: &'static str,
}

impl QuantityError {
    pub(super) fn new(given: impl fmt::Display, allowed: &'static str) -> Self {
        Self { given: given.to_string(), allowed }
    }
}

const TIME: &str = "a number with a unit, such as 500ms, 30s or 5m, or 0";
const SIZE: &str = "a number of bytes above zero and below 1 EiB with a unit, such as 64 MiB or 512 KiB";

impl FromStr for Time {
    type Err = QuantityError;
    fn from_str(text: &str) -> Result<Self, QuantityError> {
        if text == "0" {
            return Ok(Self(Duration::ZERO));
        }
        humantime::parse_duration(text).map(Self).map_err(|_| QuantityError::new(text, TIME))
    }
}

impl fmt::Display for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_zero() { f.write_str("0") } else { humantime::format_duration(self.0).fmt(f) }
    }
}

impl Size {
    /// More than any memory; the arithmetic of `bytesize` ends not far above.
    const MOST: u64 = (1 << 60) - 1;

    /// A size in bytes, at least 1 and below 1 EiB.
    #[must_use]
    pub const fn new(bytes: u64) -> Option<Self> {
        if bytes == 0 || bytes > Self::MOST { None } else { Some(Self(bytes)) }
    }

    /// The size in bytes; the largest `usize` on machines whose memory is smaller.
    #[must_use]
    pub fn bytes(self) -> usize {
        self.0.try_into().unwrap_or(usize::MAX)
    }
}

impl FromStr for Size {
    type Err = QuantityError;
    fn from_str(text: &str) -> Result<Self, QuantityError> {
        // A number alone would leave the unit to the reader's memory.
        let has_unit = text.ends_with(|last: char| last.is_ascii_alphabetic());
        let size = text.parse::<bytesize::ByteSize>().ok().filter(|_| has_unit);
        size.and_then(|size| Self::new(size.as_u64())).ok_or_else(|| QuantityError::new(text, SIZE))
    }
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let units = [(30, "GiB"), (20, "MiB"), (10, "KiB")];
        let whole = units.into_iter().find(|(bits, _)| self.0.trailing_zeros() >= *bits);
        match whole {
            Some((bits, unit)) => write!(f, "{} {unit}", self.0 >> bits),
            None => write!(f, "{} B", self.0),
        }
    }
}

impl<const LEAST: u64, const MOST: u64> Count<LEAST, MOST> {
    /// A count within the range.
    #[must_use]
    pub const fn new(count: u64) -> Option<Self> {
        if count >= LEAST && count <= MOST { Some(Self(count)) } else { None }
    }

    /// The least count.
    pub const LEAST: Self = Self(LEAST);

    /// The number as a byte; 255 if it is larger.
    #[must_use]
    pub fn as_u8(self) -> u8 {
        self.0.try_into().unwrap_or(u8::MAX)
    }

    /// The number.
    #[must_use]
    pub const fn get(self) -> u64 {
        self.0
    }

    /// The number, for a count in memory.
    #[must_use]
    pub fn as_usize(self) -> usize {
        self.0.try_into().unwrap_or(usize::MAX)
    }
}

impl<const LEAST: u64, const MOST: u64> Serialize for Count<LEAST, MOST> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u64(self.0)
    }
}

impl<'de, const LEAST: u64, const MOST: u64> Deserialize<'de> for Count<LEAST, MOST> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Whole<const LEAST: u64, const MOST: u64>;
        impl<const LEAST: u64, const MOST: u64> Visitor<'_> for Whole<LEAST, MOST> {
            type Value = Count<LEAST, MOST>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "a whole number from {LEAST} to {MOST}")
            }
            fn visit_i64<E: de::Error>(self, given: i64) -> Result<Self::Value, E> {
                let count = u64::try_from(given).ok().and_then(Count::new);
                count.ok_or_else(|| E::invalid_value(de::Unexpected::Signed(given), &self))
            }
            fn visit_u64<E: de::Error>(self, given: u64) -> Result<Self::Value, E> {
                Count::new(given).ok_or_else(|| E::invalid_value(de::Unexpected::Unsigned(given), &self))
            }
        }
        deserializer.deserialize_any(Whole)
    }
}

/// Reads a value that is written as text.
pub(super) fn from_text<'de, T, D>(deserializer: D, allowed: &'static str) -> Result<T, D::Error>
where
    T: FromStr<Err: fmt::Display>,
    D: Deserializer<'de>,
{
    struct Text<T>(&'static str, PhantomData<T>);
    impl<T: FromStr<Err: fmt::Display>> Visitor<'_> for Text<T> {
        type Value = T;
        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            write!(f, "a text: {}", self.0)
        }
        fn visit_str<E: de::Error>(self, text: &str) -> Result<T, E> {
            text.parse().map_err(E::custom)
        }
    }
    deserializer.deserialize_any(Text(allowed, PhantomData))
}

macro_rules! as_text {
    ($type:ty, $allowed:expr) => {
        impl Serialize for $type {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }
        impl<'de> Deserialize<'de> for $type {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                from_text(deserializer, $allowed)
            }
        }
    };
}
as_text!(Time, TIME);
as_text!(Size, SIZE);

impl<T> OrOff<T> {
    /// The value, unless it is off.
    pub fn on(self) -> Option<T> {
        match self {
            Self::Off => None,
            Self::On(value) => Some(value),
        }
    }
}

impl<T: Serialize> Serialize for OrOff<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Off => serializer.serialize_str("off"),
            Self::On(value) => value.serialize(serializer),
        }
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for OrOff<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Either<T>(PhantomData<T>);
        impl<'de, T: Deserialize<'de>> Visitor<'de> for Either<T> {
            type Value = OrOff<T>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("\"off\" or a value")
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<Self::Value, E> {
                match text {
                    "off" => Ok(OrOff::Off),
                    _ => T::deserialize(text.into_deserializer()).map(OrOff::On).map_err(or_off),
                }
            }
            fn visit_i64<E: de::Error>(self, given: i64) -> Result<Self::Value, E> {
                T::deserialize(given.into_deserializer()).map(OrOff::On).map_err(or_off)
            }
            fn visit_f64<E: de::Error>(self, given: f64) -> Result<Self::Value, E> {
                T::deserialize(given.into_deserializer()).map(OrOff::On).map_err(or_off)
            }
            fn visit_bool<E: de::Error>(self, given: bool) -> Result<Self::Value, E> {
                T::deserialize(given.into_deserializer()).map(OrOff::On).map_err(or_off)
            }
        }
        deserializer.deserialize_any(Either(PhantomData))
    }
}

fn or_off<E: de::Error>(error: E) -> E {
    // Errors of toml end with a line break, and only the first line of a mistake is shown.
    E::custom(format_args!("{}, or \"off\"", error.to_string().trim_end()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read<T: de::DeserializeOwned>(value: impl Into<toml::Value>) -> Result<T, String> {
        value.into().try_into().map_err(|error: toml::de::Error| error.message().to_owned())
    }

    #[test]
    fn quantities_are_read_with_units_and_written_as_they_are_read() {
        for (text, millis) in [("0", 0), ("500ms", 500), ("1m 30s", 90_000)] {
            let time: Time = read(text).unwrap();
            assert_eq!(time.0.as_millis(), millis);
            assert_eq!(time.to_string().parse::<Time>().unwrap(), time);
        }
        for (text, bytes, written) in
            [("64 MiB", 64 << 20, "64 MiB"), ("10kB", 10_000, "10000 B"), ("3KiB", 3072, "3 KiB")]
        {
            let size: Size = read(text).unwrap();
            assert_eq!((size.bytes(), size.to_string().as_str()), (bytes, written));
            assert_eq!(written.parse::<Size>().unwrap(), size);
        }
    }

    #[test]
    fn a_wrong_quantity_is_refused_with_what_is_allowed() {
        for wrong in ["", "5", "soon", "-1s", "1e999s"] {
            assert!(read::<Time>(wrong).unwrap_err().contains("such as 500ms"), "{wrong}");
        }
        for wrong in ["", "64", "0 B", "-1 KiB", "many MiB", "99999999999999 PiB"] {
            assert!(read::<Size>(wrong).is_err(), "{wrong}");
        }
        assert!(read::<Time>(5).unwrap_err().contains("such as 500ms"));
        for wrong in [-1, 0, 9] {
            assert!(
                read::<Count<1, 8>>(wrong).unwrap_err().contains("a whole number from 1 to 8"),
                "{wrong}"
            );
        }
        assert!(read::<Count<1, 8>>(2.5).unwrap_err().contains("a whole number from 1 to 8"));
        assert!(read::<Count<1, 8>>("2").unwrap_err().contains("a whole number from 1 to 8"));
    }

    #[test]
    fn what_can_be_off_is_off_or_a_value() {
        assert_eq!(read("off"), Ok(OrOff::<Time>::Off));
        assert_eq!(read("1s"), Ok(OrOff::On(Time(Duration::from_secs(1)))));
        assert_eq!(read::<OrOff<Count<1, 8>>>(3).unwrap().on().unwrap().get(), 3);
        assert!(read::<OrOff<Count<1, 8>>>("3").unwrap_err().contains("or \"off\""));
        let refused = read::<OrOff<Time>>("never").unwrap_err();
        assert!(refused.lines().next().is_some_and(|line| line.ends_with(", or \"off\"")), "{refused:?}");
    }
}
