//! Which waves a probe waits for: a pattern, and conditions on what it matches.

use std::fmt;
use std::sync::Arc;

use aether_core::{Channel, Kind, Pattern, Phase, Wave, WaveId};
use serde::Serialize;
use serde_json::Value;

use crate::wave_line;

/// Returns what a wave has in place of what is wanted.
type Test = Arc<dyn Fn(&Wave) -> Result<(), String> + Send + Sync>;

/// Selects waves by their channel and contents. A `&str` is a pattern without conditions.
///
/// ```
/// use aether_core::Kind;
/// use aether_testing::Matcher;
///
/// let matcher = Matcher::on("orders.*").kind(Kind::Event).key("17").json(&serde_json::json!({ "sku": "lamp" }));
/// assert_eq!(matcher.to_string(), r#"orders.* where kind is event, key is "17", payload is {"sku":"lamp"}"#);
/// ```
#[derive(Clone)]
#[must_use = "a matcher does nothing by itself: give it to a probe"]
pub struct Matcher {
    pattern: Pattern,
    conditions: Vec<Condition>,
}

#[derive(Clone)]
struct Condition {
    wanted: String,
    test: Test,
}

impl Matcher {
    /// Selects the waves whose channel matches a pattern, such as `orders.*` or `orders.>`; `*` alone matches all.
    ///
    /// # Panics
    /// If the pattern is invalid.
    #[track_caller]
    pub fn on(pattern: impl AsRef<str>) -> Self {
        let pattern = pattern.as_ref();
        let pattern =
            Pattern::new(pattern).unwrap_or_else(|error| panic!("{pattern:?} is not a pattern: {error}"));
        Self { pattern, conditions: Vec::new() }
    }

    /// Only waves of this kind.
    pub fn kind(self, kind: Kind) -> Self {
        self.when(format!("kind is {kind}"), move |wave| {
            same(wave.kind(), kind, |kind| format!("kind is {kind}"))
        })
    }

    /// Only waves with this coherence key.
    pub fn key(self, key: &str) -> Self {
        let wanted = key.to_owned();
        self.when(format!("key is {key:?}"), move |wave| match wave.key() {
            Some(key) => same(key, &*wanted, |key| format!("key is {key:?}")),
            None => Err("it has no key".to_owned()),
        })
    }

    /// Only waves from vibrators or services of this name.
    pub fn source(self, name: &str) -> Self {
        let wanted = name.to_owned();
        self.when(format!("source is {name}"), move |wave| {
            same(wave.source().name(), &*wanted, |name| format!("source is {name}"))
        })
    }

    /// Only waves whose payload is this value as JSON. The order of fields does not matter.
    ///
    /// # Panics
    /// If the value cannot be written as JSON.
    #[track_caller]
    pub fn json(self, payload: &impl Serialize) -> Self {
        let wanted = match serde_json::to_value(payload) {
            Ok(value) => value,
            Err(error) => panic!("the wanted payload cannot be written as JSON: {error}"),
        };
        self.when(format!("payload is {wanted}"), move |wave| match wave.json::<Value>() {
            Ok(value) => same(value, wanted.clone(), |value| format!("payload is {value}")),
            Err(_) => Err(format!("payload is not JSON: {}", wave_line::payload(wave))),
        })
    }

    /// Only waves whose payload is this text.
    pub fn text(self, text: &str) -> Self {
        let wanted = text.to_owned();
        self.when(format!("payload is {text:?}"), move |wave| match wave.text() {
            Ok(text) => same(text, &*wanted, |text| format!("payload is {text:?}")),
            Err(_) => Err(format!("payload is not text: {}", wave_line::payload(wave))),
        })
    }

    /// Only waves that this one caused.
    pub fn caused_by(self, cause: &WaveId) -> Self {
        let wanted = cause.clone();
        self.when(format!("cause is {}", wave_line::short_id(cause)), move |wave| match wave.cause() {
            Some(cause) if *cause == wanted => Ok(()),
            Some(cause) => Err(format!("cause is {}", wave_line::short_id(cause))),
            None => Err("it has no cause".to_owned()),
        })
    }

    /// Only waves with this metadata entry.
    pub fn metadata(self, name: &str, value: &str) -> Self {
        let (wanted_name, wanted) = (name.to_owned(), value.to_owned());
        self.when(format!("metadata {name} is {value:?}"), move |wave| {
            match wave.metadata().value(&wanted_name) {
                Some(value) => same(value, &*wanted, |value| format!("metadata {wanted_name} is {value:?}")),
                None => Err(format!("it has no metadata {wanted_name}")),
            }
        })
    }

    /// Only waves that retract a claim.
    pub fn retracting(self) -> Self {
        self.when("it retracts".to_owned(), |wave| match wave.phase() == Phase::RETRACT {
            true => Ok(()),
            false => Err("it asserts".to_owned()),
        })
    }

    /// Only waves that pass a test. `wanted` describes it in failure messages, for example `quantity is above 3`.
    pub fn that(self, wanted: &str, test: impl Fn(&Wave) -> bool + Send + Sync + 'static) -> Self {
        let not = format!("not that {wanted}");
        self.when(wanted.to_owned(), move |wave| if test(wave) { Ok(()) } else { Err(not.clone()) })
    }

    fn when(
        mut self,
        wanted: String,
        test: impl Fn(&Wave) -> Result<(), String> + Send + Sync + 'static,
    ) -> Self {
        self.conditions.push(Condition { wanted, test: Arc::new(test) });
        self
    }

    /// Whether a wave is selected.
    #[must_use]
    pub fn matches(&self, wave: &Wave) -> bool {
        self.pattern.matches(wave.channel())
            && self.conditions.iter().all(|condition| (condition.test)(wave).is_ok())
    }

    pub(crate) fn pattern(&self) -> &Pattern {
        &self.pattern
    }

    /// Why a wave is nearly selected: its channel fits and a condition does not, or its channel differs in one token.
    pub(crate) fn near_miss(&self, wave: &Wave) -> Option<String> {
        if self.pattern.matches(wave.channel()) {
            let differences: Vec<_> =
                self.conditions.iter().filter_map(|condition| (condition.test)(wave).err()).collect();
            return (!differences.is_empty()).then(|| differences.join(", "));
        }
        let (wanted, channel): (Vec<_>, Vec<_>) =
            (self.pattern.tokens().collect(), wave.channel().tokens().collect());
        let apart =
            wanted.iter().zip(&channel).filter(|(wanted, token)| !["*", ">", *token].contains(*wanted));
        let is_close = match wanted.len().abs_diff(channel.len()) {
            0 => wanted.len() > 1 && apart.count() == 1,
            1 => apart.count() == 0,
            _ => false,
        };
        is_close.then(|| format!("channel is {}", wave.channel()))
    }
}

fn same<T: PartialEq>(found: T, wanted: T, shown: impl FnOnce(T) -> String) -> Result<(), String> {
    if found == wanted { Ok(()) } else { Err(shown(found)) }
}

impl From<&str> for Matcher {
    #[track_caller]
    fn from(pattern: &str) -> Self {
        Self::on(pattern)
    }
}

impl From<String> for Matcher {
    #[track_caller]
    fn from(pattern: String) -> Self {
        Self::on(pattern)
    }
}

impl From<Pattern> for Matcher {
    fn from(pattern: Pattern) -> Self {
        Self { pattern, conditions: Vec::new() }
    }
}

impl From<&Channel> for Matcher {
    fn from(channel: &Channel) -> Self {
        Pattern::from(channel).into()
    }
}

impl fmt::Display for Matcher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.pattern)?;
        for (number, condition) in self.conditions.iter().enumerate() {
            let word = if number == 0 { " where " } else { ", " };
            write!(f, "{word}{}", condition.wanted)?;
        }
        Ok(())
    }
}

impl fmt::Debug for Matcher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Matcher({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wave(channel: &str) -> Wave {
        Wave::builder(channel).key("7").json([1, 2]).build().unwrap()
    }

    #[test]
    fn a_near_miss_names_every_condition_that_failed() {
        let matcher = Matcher::on("orders.*").key("8").kind(Kind::Command).json(&[1, 2]);
        assert_eq!(matcher.near_miss(&wave("orders.made")).unwrap(), r#"key is "7", kind is event"#);
        assert!(!matcher.matches(&wave("orders.made")));
    }

    #[test]
    fn a_channel_that_differs_in_one_token_is_near_and_others_are_not() {
        let matcher = Matcher::on("orders.*.made");
        for (channel, near) in [
            ("orders.eu.maed", true),
            ("orders.eu", true),
            ("orders.eu.made.again", true),
            ("stock.eu.low", false),
            ("orders", false),
        ] {
            assert_eq!(matcher.near_miss(&wave(channel)).is_some(), near, "{channel}");
        }
        assert!(Matcher::on("orders").near_miss(&wave("stock")).is_none());
        assert!(
            matcher.near_miss(&wave("orders.eu.made")).is_none() && matcher.matches(&wave("orders.eu.made"))
        );
    }
}
