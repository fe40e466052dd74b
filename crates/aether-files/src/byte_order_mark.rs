//! The byte order mark with which some editors and shells begin a text in UTF-8. It does not belong to the text.

/// The bytes of a text without it.
#[must_use]
pub fn without(text: &[u8]) -> &[u8] {
    text.strip_prefix("\u{feff}".as_bytes()).unwrap_or(text)
}

/// Removes it from a text in place.
pub fn remove(text: &mut String) {
    if text.starts_with('\u{feff}') {
        text.drain(..'\u{feff}'.len_utf8());
    }
}
