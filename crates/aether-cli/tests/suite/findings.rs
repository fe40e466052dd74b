//! The output of `aether doctor --json`, for the tests of `aether lan` as well.

use serde_json::Value;

/// The findings of one check, as (status, text, remedy).
pub(crate) fn findings<'a>(report: &'a Value, check: &str) -> Vec<(&'a str, &'a str, &'a str)> {
    let text = |finding: &'a Value, key| finding[key].as_str().unwrap_or_default();
    let all = report["checks"].as_array().unwrap();
    let of_check = all.iter().filter(|finding| finding["check"] == check);
    of_check
        .map(|finding| (text(finding, "status"), text(finding, "text"), text(finding, "remedy")))
        .collect()
}
