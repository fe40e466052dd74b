//! The two text formats of metrics: selects one for a scrape, and converts between them.
//!
//! The metrics are written as OpenMetrics 1.0, which Prometheus requests with an `Accept` header. Other clients get the
//! older Prometheus text format 0.0.4, which every metrics reader supports. Pure: text in, text out.

/// A text format of metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exposition {
    /// OpenMetrics 1.0.
    OpenMetrics,
    /// Prometheus text 0.0.4.
    Prometheus,
}

impl Exposition {
    /// The format that the values of an `Accept` header prefer. Equal preference goes to OpenMetrics where the header
    /// names it, and to the Prometheus format otherwise.
    pub fn negotiate<'a>(accept: impl IntoIterator<Item = &'a str>) -> Self {
        let mut open_metrics = Preference::default();
        let mut prometheus = Preference::default();
        for range in accept.into_iter().flat_map(|value| value.split(',')) {
            let Some(range) = Range::parse(range) else { continue };
            match range.media_type.as_str() {
                "application/openmetrics-text" if range.version_is(&["1.0.0"]) => {
                    open_metrics.take(range.quality, 2);
                }
                "text/plain" if range.version_is(&["0.0.4"]) => prometheus.take(range.quality, 2),
                "application/*" => open_metrics.take(range.quality, 1),
                "text/*" => prometheus.take(range.quality, 1),
                "*/*" => {
                    open_metrics.take(range.quality, 0);
                    prometheus.take(range.quality, 0);
                }
                _ => {}
            }
        }
        let is_named = open_metrics.specificity == Some(2) && open_metrics.quality > 0.0;
        let is_preferred = open_metrics.quality > prometheus.quality;
        if is_preferred || (is_named && open_metrics.quality >= prometheus.quality) {
            Self::OpenMetrics
        } else {
            Self::Prometheus
        }
    }

    /// The content type of an answer in this format.
    #[must_use]
    pub const fn content_type(self) -> &'static str {
        match self {
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
            Self::Prometheus => "text/plain; version=0.0.4; charset=utf-8",
        }
    }

    /// Converts OpenMetrics text to this format.
    #[must_use]
    pub fn write(self, open_metrics: String) -> String {
        match self {
            Self::OpenMetrics => open_metrics,
            Self::Prometheus => prometheus_text(&open_metrics),
        }
    }
}

/// The preference for a format: the quality given by the most specific range.
#[derive(Debug, Default)]
struct Preference {
    quality: f32,
    specificity: Option<u8>,
}

impl Preference {
    fn take(&mut self, quality: f32, specificity: u8) {
        if self.specificity < Some(specificity) {
            *self = Self { quality, specificity: Some(specificity) };
        } else if self.specificity == Some(specificity) {
            self.quality = self.quality.max(quality);
        }
    }
}

/// One entry of an `Accept` header.
#[derive(Debug)]
struct Range {
    media_type: String,
    version: Option<String>,
    quality: f32,
}

impl Range {
    fn parse(text: &str) -> Option<Self> {
        let mut parts = text.split(';').map(str::trim);
        let media_type = parts.next().filter(|name| !name.is_empty())?.to_ascii_lowercase();
        let mut range = Self { media_type, version: None, quality: 1.0 };
        for (name, value) in parts.filter_map(|part| part.split_once('=')) {
            let value = value.trim().trim_matches('"');
            match name.trim().to_ascii_lowercase().as_str() {
                "q" => range.quality = value.parse().ok().filter(|q| (0.0..=1.0).contains(q))?,
                "version" => range.version = Some(value.to_owned()),
                _ => {}
            }
        }
        Some(range)
    }

    /// Whether the range accepts one of these versions.
    fn version_is(&self, known: &[&str]) -> bool {
        self.version.as_deref().is_none_or(|version| known.contains(&version))
    }
}

/// Converts OpenMetrics text to Prometheus text 0.0.4. In that format the comments of counters and infos use the same
/// names as the value lines, infos are gauges, and there are no units and no end mark. Value lines are identical.
fn prometheus_text(open_metrics: &str) -> String {
    let mut text = String::with_capacity(open_metrics.len());
    let mut help = None;
    for line in open_metrics.lines() {
        if let Some(comment) = line.strip_prefix("# HELP ") {
            // The help precedes the type, and the type decides its name.
            help = Some(comment);
        } else if let Some(comment) = line.strip_prefix("# TYPE ") {
            let (name, sort) = comment.rsplit_once(' ').unwrap_or((comment, "untyped"));
            let (suffix, sort) = match sort {
                "counter" => ("_total", "counter"),
                "info" => ("_info", "gauge"),
                "unknown" => ("", "untyped"),
                other => ("", other),
            };
            if let Some((of, help)) = help.take().and_then(|comment| comment.split_once(' ')) {
                text.extend(["# HELP ", of, suffix, " ", help, "\n"]);
            }
            text.extend(["# TYPE ", name, suffix, " ", sort, "\n"]);
        } else if !line.starts_with('#') {
            text.extend([line, "\n"]);
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_requested_format_is_used() {
        use Exposition::{OpenMetrics, Prometheus};
        let prometheus_2_42 = "application/openmetrics-text;version=1.0.0,\
             application/openmetrics-text;version=0.0.1;q=0.75,text/plain;version=0.0.4;q=0.5,*/*;q=0.1";
        let prometheus_3 = "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.5,\
             application/openmetrics-text;version=0.0.1;q=0.4,text/plain;version=1.0.0;q=0.3,\
             text/plain;version=0.0.4;q=0.2,*/*;q=0.1";
        let cases = [
            (prometheus_2_42, OpenMetrics),
            (prometheus_3, OpenMetrics),
            ("application/openmetrics-text", OpenMetrics),
            ("Application/OpenMetrics-Text; Version=\"1.0.0\"", OpenMetrics),
            ("application/openmetrics-text, text/plain", OpenMetrics),
            ("application/*", OpenMetrics),
            ("text/plain;q=0, */*", OpenMetrics),
            ("", Prometheus),
            ("*/*", Prometheus),
            ("text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8", Prometheus),
            ("text/plain", Prometheus),
            ("text/plain;version=0.0.4;q=0.5,*/*;q=0.1", Prometheus),
            ("application/openmetrics-text;q=0.3,text/plain;q=0.7", Prometheus),
            ("application/openmetrics-text;version=9.0.0", Prometheus),
            ("application/openmetrics-text;q=0", Prometheus),
            ("application/openmetrics-text;q=0,*/*", Prometheus),
            ("application/openmetrics-text;q=NaN", Prometheus),
            (";;,=,q=1,;q=", Prometheus),
        ];
        for (accept, expected) in cases {
            assert_eq!(Exposition::negotiate([accept]), expected, "{accept}");
        }
        assert_eq!(Exposition::negotiate([]), Prometheus);
        assert_eq!(Exposition::negotiate(["text/plain;q=0.2", prometheus_2_42]), OpenMetrics);
    }

    #[test]
    fn counters_and_infos_are_named_in_full_without_units_and_end_mark() {
        let open_metrics = "# HELP a_build What runs\n# TYPE a_build info\na_build_info{version=\"1\"} 1\n\
             # HELP a_seen_bytes Size\n# TYPE a_seen_bytes counter\n# UNIT a_seen_bytes bytes\n\
             a_seen_bytes_total{channel=\"# TYPE x counter\"} 3\n\
             # HELP a_ready Ready\n# TYPE a_ready gauge\na_ready 1\n# EOF\n";
        let prometheus = "# HELP a_build_info What runs\n# TYPE a_build_info gauge\na_build_info{version=\"1\"} 1\n\
             # HELP a_seen_bytes_total Size\n# TYPE a_seen_bytes_total counter\n\
             a_seen_bytes_total{channel=\"# TYPE x counter\"} 3\n\
             # HELP a_ready Ready\n# TYPE a_ready gauge\na_ready 1\n";
        assert_eq!(Exposition::Prometheus.write(open_metrics.to_owned()), prometheus);
        assert_eq!(Exposition::OpenMetrics.write(open_metrics.to_owned()), open_metrics);
    }
}
