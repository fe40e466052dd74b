//! Which waves a client wants.

use aether_core::{Kind, Pattern, Wave};
use serde::Deserialize;

/// A filter as a client writes it, in JSON or in a query.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct FilterDraft {
    pub(crate) pattern: Option<String>,
    pub(crate) kinds: Vec<String>,
    pub(crate) source: Option<String>,
    pub(crate) min_amplitude: Option<f32>,
    /// The maximum number of waves a second; the others count as missed.
    pub(crate) per_second: Option<u32>,
}

/// A filter.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Filter {
    pattern: Pattern,
    /// None for all.
    kinds: Vec<Kind>,
    source: Option<String>,
    min_amplitude: f32,
}

/// Why a filter is not valid.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub(crate) enum FilterError {
    #[error("{0:?} is not a pattern of channels such as orders.* or orders.>")]
    Pattern(String),
    #[error("{0:?} is not a kind: use event, command, query, response or broadcast")]
    Kind(String),
    #[error("a minimum amplitude of {0} is not allowed: use 0 to 1")]
    Amplitude(f32),
    #[error("a rate of 0 waves a second is not allowed: leave per_second out to get all")]
    Rate,
    #[error("{name} takes a number, not {value:?}")]
    Number { name: &'static str, value: String },
    #[error("there is no parameter {0:?}; use pattern, kind, source, min_amplitude and per_second")]
    Name(String),
}

impl FilterDraft {
    /// Reads a query such as `pattern=orders.>&kind=event&min_amplitude=0.5`. `kind` may be there several times.
    pub(crate) fn of_query(query: &str) -> Result<Self, FilterError> {
        let mut draft = Self::default();
        for (name, value) in form_urlencoded::parse(query.as_bytes()) {
            match &*name {
                "pattern" => draft.pattern = Some(value.into_owned()),
                "kind" => draft.kinds.push(value.into_owned()),
                "source" => draft.source = Some(value.into_owned()),
                "min_amplitude" => draft.min_amplitude = Some(number("min_amplitude", &value)?),
                "per_second" => draft.per_second = Some(number("per_second", &value)?),
                _ => return Err(FilterError::Name(name.into_owned())),
            }
        }
        Ok(draft)
    }

    pub(crate) fn filter(&self) -> Result<Filter, FilterError> {
        let pattern = match self.pattern.as_deref().filter(|pattern| !pattern.is_empty()) {
            None => Pattern::everything(),
            Some(text) => Pattern::new(text).map_err(|_| FilterError::Pattern(text.to_owned()))?,
        };
        let kind = |text: &String| text.parse().map_err(|_| FilterError::Kind(text.clone()));
        let kinds = self.kinds.iter().map(kind).collect::<Result<_, _>>()?;
        let min_amplitude = self.min_amplitude.unwrap_or_default();
        if !(0.0..=1.0).contains(&min_amplitude) {
            return Err(FilterError::Amplitude(min_amplitude));
        }
        if self.per_second == Some(0) {
            return Err(FilterError::Rate);
        }
        let source = self.source.clone().filter(|source| !source.is_empty());
        Ok(Filter { pattern, kinds, source, min_amplitude })
    }
}

fn number<T: std::str::FromStr>(name: &'static str, value: &str) -> Result<T, FilterError> {
    value.parse().map_err(|_| FilterError::Number { name, value: value.to_owned() })
}

impl Filter {
    pub(crate) fn matches(&self, wave: &Wave) -> bool {
        self.pattern.matches(wave.channel())
            && (self.kinds.is_empty() || self.kinds.contains(&wave.kind()))
            && self.source.as_ref().is_none_or(|source| wave.source().name() == source)
            && wave.amplitude().as_f32() >= self.min_amplitude
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matches(query: &str) -> bool {
        let wave = Wave::builder("orders.created").kind(Kind::Command).amplitude(0.7).build().unwrap();
        FilterDraft::of_query(query).unwrap().filter().unwrap().matches(&wave)
    }

    #[test]
    fn a_wave_must_match_every_part() {
        for query in ["", "pattern=orders.*", "kind=event&kind=command", "min_amplitude=0.69", "pattern=%3E"]
        {
            assert!(matches(query), "{query}");
        }
        for query in ["pattern=orders", "kind=event", "min_amplitude=0.71", "source=shop"] {
            assert!(!matches(query), "{query}");
        }
    }

    #[test]
    fn an_error_says_what_is_allowed() {
        let error = |query: &str| match FilterDraft::of_query(query) {
            Err(error) => error.to_string(),
            Ok(draft) => draft.filter().unwrap_err().to_string(),
        };
        assert!(error("pattern=a..b").contains("orders.>"));
        assert!(error("kind=wave").contains("broadcast"));
        assert!(error("min_amplitude=2").contains("0 to 1") && error("min_amplitude=x").contains("number"));
        assert!(error("per_second=0").contains("leave per_second out"));
        assert!(error("patern=a").contains("use pattern"));
    }
}
