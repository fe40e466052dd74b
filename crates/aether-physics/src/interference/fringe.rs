//! Fringes: the results of interference.

use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use aether_core::{Channel, WaveId};

/// A fringe: the sum of the claims about one key has crossed a threshold. Ordinary term: a corroborated alert, or its
/// end.
///
/// It can be written and read with serde, as the payload of a wave say.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Fringe {
    /// The identity of the alert: the latest claim of those that made it rise. The fringe that closes the alert has the
    /// same, and all detectors that have heard the same claims derive the same.
    #[serde(serialize_with = "as_text", deserialize_with = "from_text")]
    pub id: WaveId,
    /// The channel of the claims.
    #[serde(serialize_with = "as_text", deserialize_with = "from_text")]
    pub channel: Channel,
    /// The coherence key of the claims. Where several keys rose at once, the first of them.
    #[serde(serialize_with = "as_text", deserialize_with = "shared_text")]
    pub key: Arc<str>,
    /// The keys of the alert that are lit after the change, the first ones of them if there are more than 64. Of an alert
    /// that ends, the key that fell last.
    #[serde(default)]
    pub keys: Vec<String>,
    /// The number of keys that are lit after the change: 0 when the alert ends.
    #[serde(default)]
    pub lit: usize,
    /// The amplitude of their sum, in [0, 1).
    pub amplitude: f32,
    /// The agreement of the claims, from 0 (they cancel) to 1.
    pub coherence: f32,
    /// The number of credible sources that assert it: see [`Resultant::sources`].
    pub sources: usize,
    /// The change.
    pub kind: FringeKind,
    /// The claims at the moment of the change, oldest first: one of each source, at most
    /// [`Interfere::max_sources`](super::Interfere::max_sources).
    pub claims: Vec<FringeClaim>,
}

/// One of the claims that made a fringe.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct FringeClaim {
    /// The wave that made the claim, with its source.
    #[serde(serialize_with = "as_text", deserialize_with = "from_text")]
    pub wave: WaveId,
    /// The cause of that wave, if it named one.
    #[serde(default, serialize_with = "as_optional_text", deserialize_with = "from_optional_text")]
    pub cause: Option<WaveId>,
    /// The root of its request, if that is neither the wave nor its cause.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        serialize_with = "as_optional_text",
        deserialize_with = "from_optional_text"
    )]
    pub root: Option<WaveId>,
    /// Whether it asserts the key. Otherwise it retracts it, or is silent about it.
    pub asserts: bool,
}

impl FringeClaim {
    /// The root of the request of the claim: see [`Wave::root`](aether_core::Wave::root).
    #[must_use]
    pub fn request(&self) -> &WaveId {
        self.root.as_ref().or(self.cause.as_ref()).unwrap_or(&self.wave)
    }
}

/// A change of a fringe.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum FringeKind {
    /// Enough sources assert it strongly enough: open the alert.
    Rise,
    /// More keys rose at once, by the same sources, or some of them fell: the alert goes on. Reported at most once in a
    /// fifteenth of the window.
    Changed,
    /// It was retracted or has decayed, as have all keys that rose with it: close the alert.
    Fall,
    /// It had risen, and its key was forgotten to make room for others.
    Forgotten,
}

/// The sum of the claims about one key at one moment.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub struct Resultant {
    /// In [0, 1): 0.75 for two assertions of 0.5, 0 for an assertion and a retraction.
    pub amplitude: f32,
    /// The agreement of the claims, from 0 (they cancel) to 1.
    pub coherence: f32,
    /// The number of credible sources that assert. A source counts for three windows after its claim, unless it asserts
    /// about a fifth of all keys or more.
    pub sources: usize,
}

fn as_text<S: Serializer>(value: &impl ToString, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&value.to_string())
}

fn as_optional_text<S: Serializer>(value: &Option<WaveId>, serializer: S) -> Result<S::Ok, S::Error> {
    value.as_ref().map(ToString::to_string).serialize(serializer)
}

fn from_text<'de, D: Deserializer<'de>, T>(deserializer: D) -> Result<T, D::Error>
where
    T: std::str::FromStr<Err: std::fmt::Display>,
{
    String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
}

fn from_optional_text<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<WaveId>, D::Error> {
    let text = Option::<String>::deserialize(deserializer)?;
    text.map(|text| text.parse()).transpose().map_err(de::Error::custom)
}

fn shared_text<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Arc<str>, D::Error> {
    String::deserialize(deserializer).map(Arc::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fringe_is_written_as_documented() {
        let protocol = include_str!("../../../../docs/protocol/README.md");
        let documented = protocol.lines().find(|line| line.starts_with("{\"id\":\"")).unwrap();
        let fringe: Fringe = serde_json::from_str(documented).unwrap();
        assert_eq!((fringe.id.sequence, fringe.kind, fringe.claims.len()), (9, FringeKind::Rise, 2));
        assert_eq!(fringe.claims[1].cause.as_ref().unwrap().source.name(), "deploy");
        assert_eq!(serde_json::to_string(&fringe).unwrap(), documented);
        let [first, second] = &*fringe.claims else { panic!("{fringe:?}") };
        assert_eq!((first.request(), Some(second.request())), (&first.wave, second.cause.as_ref()));
        let rooted = documented.replace("deploy@3f/1\"", "deploy@3f/1\",\"root\":\"shop@4f/2\"");
        let fringe: Fringe = serde_json::from_str(&rooted).unwrap();
        assert_eq!(fringe.claims[1].request().to_string(), "shop@4f/2");
        assert_eq!(serde_json::to_string(&fringe).unwrap(), rooted);
        for wrong in [("rome@2f/9", "rome"), ("probes.down", "probes..down"), ("rise", "soar")] {
            let text = documented.replace(wrong.0, wrong.1);
            assert!(serde_json::from_str::<Fringe>(&text).is_err(), "{text}");
        }
    }
}
