//! A setting with several values.

use std::fmt;
use std::marker::PhantomData;
use std::str::FromStr;

use serde::de::{self, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Several values, each written as text: an array of TOML, such as `["a", "b"]`. A variable of the environment or `--set`
/// may give one text with commas instead, such as `a, b`; an empty text gives no values.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct List<T>(pub Vec<T>);

impl<T> Default for List<T> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<T> FromIterator<T> for List<T> {
    fn from_iter<I: IntoIterator<Item = T>>(values: I) -> Self {
        Self(values.into_iter().collect())
    }
}

impl<T: fmt::Display> List<T> {
    /// The array of TOML for [`Loader::given`](super::Loader::given), so that a value may have a comma; `None` without
    /// values, so that an argument that was not given replaces nothing.
    #[must_use]
    pub fn as_argument(&self) -> Option<String> {
        let array = || toml::Value::Array(self.0.iter().map(|value| value.to_string().into()).collect());
        (!self.0.is_empty()).then(|| array().to_string())
    }
}

impl<T: fmt::Display> Serialize for List<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.0.iter().map(ToString::to_string))
    }
}

impl<'de, T: FromStr<Err: fmt::Display>> Deserialize<'de> for List<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Values<T>(PhantomData<T>);
        impl<'de, T: FromStr<Err: fmt::Display>> Visitor<'de> for Values<T> {
            type Value = List<T>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an array of texts in quotes, such as [\"a\", \"b\"]")
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<Self::Value, E> {
                // An array that came as text is read as one.
                if text.trim_start().starts_with('[') {
                    return Err(E::invalid_value(de::Unexpected::Str(text), &self));
                }
                let values = text.split(',').map(str::trim).filter(|value| !value.is_empty());
                let parsed = values.map(str::parse).collect::<Result<_, _>>().map(List);
                parsed.map_err(|error| match text.contains(',') {
                    true => E::custom(format_args!(
                        "{error} (the text was split at its commas; write a value that has one as [\"{}\"])",
                        text.trim()
                    )),
                    false => E::custom(error),
                })
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut array: A) -> Result<Self::Value, A::Error> {
                let mut values = Vec::new();
                while let Some(text) = array.next_element::<String>()? {
                    values.push(text.parse().map_err(de::Error::custom)?);
                }
                Ok(List(values))
            }
        }
        deserializer.deserialize_any(Values(PhantomData))
    }
}

#[cfg(test)]
mod tests {
    use super::super::quantity::Time;
    use super::*;

    #[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
    struct Times {
        times: List<Time>,
    }

    fn read(value: &str) -> Result<Vec<String>, String> {
        let read: Result<Times, _> = toml::from_str(&format!("times = {value}"));
        let times = read.map_err(|error| error.message().to_owned())?;
        Ok(times.times.0.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn values_stand_in_an_array_or_between_commas() {
        assert_eq!(read(r#"["1s", "2m"]"#), Ok(vec!["1s".to_owned(), "2m".to_owned()]));
        assert_eq!(read(r#"" 1s, 2m,""#), Ok(vec!["1s".to_owned(), "2m".to_owned()]));
        assert_eq!(read("\"\""), Ok(vec![]));
        let written = toml::to_string(&Times { times: List(vec![Time::default()]) }).unwrap();
        assert_eq!(toml::from_str::<Times>(&written).unwrap().times.0, [Time::default()]);
    }

    #[test]
    fn one_wrong_value_is_named_with_what_is_allowed() {
        assert!(read(r#"["1s", "2 MO"]"#).unwrap_err().contains("such as 500ms"));
        assert!(read(r#""1s,x""#).unwrap_err().contains("\"x\" is not allowed"));
        let split = read(r#""1s, x""#).unwrap_err();
        assert!(split.contains("split at its commas") && split.contains("[\"1s, x\"]"), "{split}");
        assert!(!read(r#""x""#).unwrap_err().contains("commas"));
        assert!(read("5").unwrap_err().contains("an array of texts in quotes"));
    }

    #[test]
    fn an_argument_keeps_commas_and_without_values_there_is_none() {
        let list: List<String> = ["a,b".to_owned(), "c\"".to_owned()].into_iter().collect();
        let text = list.as_argument().unwrap();
        let value = format!("value = {text}").parse::<toml::Table>().unwrap();
        assert_eq!(value["value"].as_array().unwrap().len(), 2);
        assert_eq!(List::<String>::default().as_argument(), None);
    }
}
