//! JSON text as it comes from clients and from other replicas: checked, compact, never rewritten.
//!
//! A value keeps the text of its writer but for white space, so numbers of any size and the order of the keys of an
//! object stay as they are.

use serde::de::IgnoredAny;
use serde_json::Value;
use serde_json::value::RawValue;

/// A text that is not a value of a field.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct NotJson;

/// The compact form of a value.
///
/// # Errors
/// [`NotJson`] if a string has half of a surrogate pair, a number is out of the range of 64-bit floats, or the value is
/// nested more than 127 deep. Readers in other languages refuse those.
pub(super) fn compact(value: &RawValue) -> Result<String, NotJson> {
    // The parse is for its errors only: `RawValue` checks neither escapes nor depth.
    serde_json::from_str::<Value>(value.get()).map_err(|_| NotJson)?;
    Ok(without_space(value.get()))
}

/// The text of a register, if it is JSON. Other replicas may have written anything.
pub(super) fn checked(value: &[u8]) -> Option<&str> {
    let text = std::str::from_utf8(value).ok()?;
    // Not `Value`: it would cost an allocation for each key, and text that this gateway did not write is rare.
    serde_json::from_str::<IgnoredAny>(text).ok()?;
    (!text.trim().is_empty()).then_some(text)
}

/// The JSON of a string.
pub(super) fn quoted(text: &str) -> String {
    // Fails only for maps whose keys are not strings.
    serde_json::to_string(text).unwrap_or_default()
}

fn without_space(json: &str) -> String {
    let mut compact = String::with_capacity(json.len());
    let (mut is_string, mut is_escaped) = (false, false);
    for character in json.chars() {
        if is_string {
            is_string = is_escaped || character != '"';
            is_escaped = !is_escaped && character == '\\';
        } else if matches!(character, ' ' | '\t' | '\n' | '\r') {
            continue;
        } else {
            is_string = character == '"';
        }
        compact.push(character);
    }
    compact
}

#[cfg(test)]
mod tests {
    use super::*;

    fn compacted(json: &str) -> Result<String, NotJson> {
        compact(serde_json::from_str(json).unwrap())
    }

    #[test]
    fn white_space_goes_and_everything_else_stays() {
        let json = "{ \"b\" : [ 1.0 , 12345678901234567890123 ],\n\t\"a\": \" \\\" x \\\\\" }";
        assert_eq!(compacted(json).unwrap(), r#"{"b":[1.0,12345678901234567890123],"a":" \" x \\"}"#);
    }

    #[test]
    fn what_other_readers_refuse_is_no_value() {
        let deep = "[".repeat(1000) + &"]".repeat(1000);
        for json in [r#""\ud800""#, r#"["\udc00x"]"#, "1e999", deep.as_str()] {
            assert_eq!(compacted(json), Err(NotJson), "{json:.20}");
        }
        assert_eq!(compacted(r#""\ud83d\ude00""#).unwrap(), r#""\ud83d\ude00""#);
    }

    #[test]
    fn bytes_that_are_no_json_are_found() {
        assert_eq!(checked(b"{\"a\":1}"), Some("{\"a\":1}"));
        for bytes in [&b""[..], b"NaN", b"{", b"\xff", b"1 2", b"\"a"] {
            assert_eq!(checked(bytes), None, "{bytes:?}");
        }
    }
}
