//! Generated parts of a document: between `<!-- NAME: begin -->` and `<!-- NAME: end -->`.

/// A missing marker.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the document lacks the line {line:?}")]
pub struct MarkError {
    line: String,
}

/// The document with `text` between the markers of `name`.
///
/// # Errors
/// [`MarkError`] names the missing marker.
pub fn replaced(document: &str, name: &str, text: &str) -> Result<String, MarkError> {
    let (begin, end) = (format!("<!-- {name}: begin -->\n"), format!("<!-- {name}: end -->"));
    let missing = |line: &str| MarkError { line: line.trim_end().to_owned() };
    let (before, rest) = document.split_once(&begin).ok_or_else(|| missing(&begin))?;
    let (_, after) = rest.split_once(&end).ok_or_else(|| missing(&end))?;
    Ok(format!("{before}{begin}\n{}\n\n{end}{after}", text.trim()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_between_the_markers_changes() {
        let document = "a\n<!-- x: begin -->\nold\n<!-- x: end -->\nb\n";
        let new = replaced(document, "x", "new\n").unwrap();
        assert_eq!(new, "a\n<!-- x: begin -->\n\nnew\n\n<!-- x: end -->\nb\n");
        assert_eq!(replaced(&new, "x", "new").unwrap(), new, "again changes nothing");
    }

    #[test]
    fn a_missing_marker_is_named() {
        assert!(replaced("a", "x", "").unwrap_err().to_string().contains("<!-- x: begin -->"));
        let open = replaced("<!-- x: begin -->\n", "x", "").unwrap_err();
        assert!(open.to_string().contains("<!-- x: end -->"));
    }
}
