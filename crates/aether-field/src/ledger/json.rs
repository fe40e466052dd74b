//! JSON without the white space between its parts.

/// The same JSON on one line. A number keeps its digits, which it would not as a number of this language.
pub(super) fn compact(json: &str) -> String {
    let (mut is_text, mut is_escaped) = (false, false);
    let mut keeps = |c: char| {
        let keeps = is_text || !matches!(c, ' ' | '\t' | '\n' | '\r');
        if is_escaped {
            is_escaped = false;
        } else if c == '"' {
            is_text = !is_text;
        } else {
            is_escaped = is_text && c == '\\';
        }
        keeps
    };
    json.chars().filter(|&c| keeps(c)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn white_space_in_texts_stays() {
        let json = "{ \"a b\" :\t[ 1.50 ,\n \"x \\\" y\\\\\" , \" \" ] }";
        assert_eq!(compact(json), "{\"a b\":[1.50,\"x \\\" y\\\\\",\" \"]}");
    }
}
