//! The address of a trace in another tool, as the settings name it.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Where a trace is shown: an `http` or `https` URL with `{trace}` in place of the id, such as
/// `https://grafana.example/explore/trace/{trace}`. The pages of the gateway link to it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct TraceUrl(String);

/// A text that cannot be read as such an address.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is not the address of a trace: use an http or https URL with {{trace}} in it, such as https://jaeger.example/trace/{{trace}}"
)]
pub struct TraceUrlError(String);

/// The place of the id.
const PLACE: &str = "{trace}";

impl TraceUrl {
    /// The address, with `{trace}` in it.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for TraceUrl {
    type Err = TraceUrlError;

    fn from_str(text: &str) -> Result<Self, TraceUrlError> {
        let rest = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://"));
        // The id is part of a path or a query, never of the host.
        let is_after_host = |rest: &str| {
            rest.find(['/', '?', '#'])
                .is_some_and(|end| end > 0 && !rest[..end].contains(PLACE) && rest.contains(PLACE))
        };
        let is_plain = text.chars().all(|char| char.is_ascii_graphic() && char != '\\');
        if is_plain && rest.is_some_and(is_after_host) {
            Ok(Self(text.to_owned()))
        } else {
            Err(TraceUrlError(text.to_owned()))
        }
    }
}

impl TryFrom<String> for TraceUrl {
    type Error = TraceUrlError;

    fn try_from(text: String) -> Result<Self, TraceUrlError> {
        text.parse()
    }
}

impl From<TraceUrl> for String {
    fn from(url: TraceUrl) -> Self {
        url.0
    }
}

impl fmt::Display for TraceUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_an_http_url_with_a_place_for_the_id_behind_its_host_is_taken() {
        for good in ["https://jaeger.example/trace/{trace}", "http://127.0.0.1:3000/explore?id={trace}&x=1"] {
            assert_eq!(good.parse::<TraceUrl>().unwrap().as_str(), good);
        }
        for bad in [
            "javascript:alert({trace})",
            "https://jaeger.example/trace/",
            "https://{trace}/x",
            "https:///x/{trace}",
            "https://a b/{trace}",
            "//jaeger.example/{trace}",
            "",
        ] {
            assert!(bad.parse::<TraceUrl>().unwrap_err().to_string().contains("{trace}"), "{bad}");
        }
    }
}
