//! How deeply JSON is nested, without reading it.

/// Some parsers pass over it.
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// The place of the first bracket that is nested more deeply than allowed, as an offset in bytes. Arrays and objects nest; a
/// payload that does not begin with one of them, a byte order mark aside, is not nested JSON, and has no depth.
pub(super) fn too_deep(payload: &[u8], most: usize) -> Option<usize> {
    let text = payload.strip_prefix(BYTE_ORDER_MARK).unwrap_or(payload);
    let begins = text.iter().find(|byte| !byte.is_ascii_whitespace());
    if !matches!(begins, Some(b'[' | b'{')) {
        return None;
    }
    let (mut depth, mut is_text, mut is_escaped) = (0_usize, false, false);
    for (place, byte) in payload.iter().enumerate() {
        match byte {
            _ if is_escaped => is_escaped = false,
            b'\\' if is_text => is_escaped = true,
            b'"' => is_text = !is_text,
            b'[' | b'{' if !is_text => {
                depth += 1;
                if depth > most {
                    return Some(place);
                }
            }
            b']' | b'}' if !is_text => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn brackets_nest_unless_they_are_text() {
        for (payload, depth) in [
            ("", 0),
            ("17", 0),
            (r#""[[[""#, 0),
            ("[]", 1),
            ("[[],[]]", 2),
            (r#" {"a":{"b":[1]}}"#, 3),
            (r#"{"[[\\":"\"[{"}"#, 1),
        ] {
            assert_eq!(too_deep(payload.as_bytes(), depth), None, "{payload}");
            assert!(depth == 0 || too_deep(payload.as_bytes(), depth - 1).is_some(), "{payload}");
        }
        assert_eq!(too_deep(br#"{"a":[[1]]}"#, 2), Some(6));
        assert_eq!(too_deep(&[b'['; 1 << 20], 32), Some(32));
        assert_eq!(too_deep("\u{feff} [[1]]".as_bytes(), 1), Some(5));
    }

    fn value() -> impl Strategy<Value = serde_json::Value> {
        let leaf =
            prop_oneof![any::<i32>().prop_map(Into::into), r#"[\[\]{}"\\a]{0,8}"#.prop_map(Into::into)];
        leaf.prop_recursive(6, 64, 4, |inner| {
            let named = prop::collection::vec(("[\"\\\\\\[{]{0,3}", inner.clone()), 0..4);
            prop_oneof![
                prop::collection::vec(inner, 0..4).prop_map(serde_json::Value::from),
                named.prop_map(|named| serde_json::Value::Object(named.into_iter().collect())),
            ]
        })
    }

    fn depth(value: &serde_json::Value) -> usize {
        let inside = |depths: &mut dyn Iterator<Item = usize>| 1 + depths.max().unwrap_or(0);
        match value {
            serde_json::Value::Array(values) => inside(&mut values.iter().map(depth)),
            serde_json::Value::Object(values) => inside(&mut values.values().map(depth)),
            _ => 0,
        }
    }

    proptest! {
        #[test]
        fn the_depth_is_that_of_the_parsed_value(value in value()) {
            let (text, depth) = (value.to_string(), depth(&value));
            prop_assert_eq!(too_deep(text.as_bytes(), depth), None);
            prop_assert!(depth == 0 || too_deep(text.as_bytes(), depth - 1).is_some());
        }
    }
}
