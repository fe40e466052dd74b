//! Takes the prose out of files: comments and texts of Rust, paragraphs of Markdown.

/// A comment line with more columns is wide. rustfmt takes care of code.
const MAX_COLUMNS: usize = 125;

/// The words of a paragraph, a comment or a string literal, with their lines. A span of code is one word.
pub(crate) type Passage = Vec<(usize, String)>;

/// The prose of one file.
#[derive(Debug, Default)]
pub(crate) struct Prose {
    pub(crate) passages: Vec<Passage>,
    /// The lines with a wide comment. A line with a URL is none, because it cannot be broken.
    pub(crate) wide: Vec<usize>,
}

/// Comments, and string literals of more than one word.
pub(crate) fn of_rust(source: &str) -> Prose {
    let lines: Vec<&str> = source.lines().collect();
    let mut prose = Prose::default();
    let mut comments = Paragraphs::default();
    let mut rest = source;
    let mut line = 1;
    while let Some(first) = rest.chars().next() {
        let length = if rest.starts_with("//") {
            let comment = rest.lines().next().unwrap_or_default();
            comments.add(line, comment.trim_start_matches(['/', '!']));
            let whole = lines.get(line - 1).copied().unwrap_or_default();
            if whole.chars().count() > MAX_COLUMNS && !whole.contains("://") {
                prose.wide.push(line);
            }
            comment.len()
        } else if rest.starts_with("/*") {
            let length = rest.find("*/").map_or(rest.len(), |end| end + 2);
            for (number, text) in (line..).zip(rest[..length].lines()) {
                comments.add(number, text.trim_matches(['/', '*', ' ']));
            }
            length
        } else if let Some((text, length)) = literal(rest) {
            let words = words(line, &text);
            if words.len() > 1 {
                prose.passages.push(words);
            }
            length
        } else if first == '\'' {
            quoted(rest)
        } else if first.is_alphanumeric() || first == '_' {
            rest.find(|next: char| !next.is_alphanumeric() && next != '_').unwrap_or(rest.len())
        } else {
            first.len_utf8()
        };
        line += rest[..length].matches('\n').count();
        rest = &rest[length..];
    }
    prose.passages.extend(comments.finish());
    prose
}

/// The paragraphs, headings, items and rows outside of code blocks.
pub(crate) fn of_markdown(source: &str) -> Prose {
    let mut paragraphs = Paragraphs::default();
    for (number, text) in (1..).zip(source.lines()) {
        paragraphs.add(number, text);
    }
    Prose { passages: paragraphs.finish(), wide: Vec::new() }
}

/// The text of the string literal at the start, and the length of the literal.
fn literal(rest: &str) -> Option<(String, usize)> {
    let prefix = rest.len() - rest.trim_start_matches(['b', 'c', 'r']).len();
    let after = &rest[prefix..];
    if prefix > 2 || !after.starts_with(['"', '#']) {
        return None;
    }
    if rest[..prefix].ends_with('r') {
        let hashes = after.len() - after.trim_start_matches('#').len();
        let text = after[hashes..].strip_prefix('"')?;
        let end = text.find(&format!("\"{}", "#".repeat(hashes)))?;
        return Some((text[..end].to_owned(), prefix + hashes + 1 + end + 1 + hashes));
    }
    let text = after.strip_prefix('"')?;
    let mut chars = text.char_indices();
    let mut value = String::new();
    loop {
        match chars.next()? {
            (end, '"') => return Some((value, prefix + 1 + end + 1)),
            // A broken line counts; other escapes do not matter to words.
            (_, '\\') => value.push(if chars.next()?.1 == '\n' { '\n' } else { ' ' }),
            (_, other) => value.push(other),
        }
    }
}

/// The length of the character literal at the start, or of the apostrophe of a lifetime.
fn quoted(rest: &str) -> usize {
    let mut chars = rest.char_indices().skip(1);
    match (chars.next(), chars.next()) {
        (Some((_, '\\')), Some((escaped, _))) => {
            rest[escaped + 1..].find('\'').map_or(1, |end| escaped + end + 2)
        }
        (Some(_), Some((end, '\''))) => end + 1,
        _ => 1,
    }
}

/// Joins lines to paragraphs.
#[derive(Default)]
struct Paragraphs {
    done: Vec<Passage>,
    open: Passage,
    last: usize,
    is_code: bool,
}

impl Paragraphs {
    fn add(&mut self, number: usize, text: &str) {
        if number != self.last + 1 {
            self.is_code = false;
            self.close();
        }
        self.last = number;
        let text = text.trim();
        if text.starts_with("```") {
            self.is_code = !self.is_code;
            return self.close();
        }
        if self.is_code || text.is_empty() {
            return self.close();
        }
        let number_ends = text.trim_start_matches(|digit: char| digit.is_ascii_digit());
        if text.starts_with(['-', '*', '#', '|', '>']) || number_ends.starts_with(". ") {
            self.close();
        }
        self.open.extend(words(number, text));
    }

    fn close(&mut self) {
        if !self.open.is_empty() {
            self.done.push(std::mem::take(&mut self.open));
        }
    }

    fn finish(mut self) -> Vec<Passage> {
        self.close();
        self.done
    }
}

/// The words of a text that begins in a line.
fn words(line: usize, text: &str) -> Passage {
    let mut words = Vec::new();
    for (number, text) in (line..).zip(text.lines()) {
        // Every second part is code.
        let prose = text.split('`').enumerate().map(|(n, part)| if n % 2 == 0 { part } else { "`" });
        let prose: String = prose.collect();
        words.extend(prose.split_whitespace().map(|word| (number, word.to_owned())));
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(prose: Prose) -> Vec<String> {
        let text =
            |passage: &Passage| passage.iter().map(|(_, word)| word.as_str()).collect::<Vec<_>>().join(" ");
        prose.passages.iter().map(text).collect()
    }

    #[test]
    fn comments_and_texts_of_rust_are_prose() {
        let source = r##"
//! First line,
//! second line.
//!
//! ```
//! let code = "no prose here";
//! ```
fn f<'a>(x: &'a str) -> char {
    // Uses `some code` here.
    println!("a \"text\" of \
              two lines", 'x', '"', '\'', "word");
    r#"a raw "text""#; /* a block */
    '\n'
}
"##;
        assert_eq!(
            texts(of_rust(source)),
            ["a text of two lines", "a raw \"text\"", "First line, second line.", "Uses ` here.", "a block"]
        );
    }

    #[test]
    fn words_know_their_lines() {
        let prose = of_rust("let a = \"x\n y\";\n// one\n// two\n");
        let lines: Vec<_> = prose.passages.concat().into_iter().collect();
        let expected = [(1, "x"), (2, "y"), (3, "one"), (4, "two")];
        assert_eq!(lines, expected.map(|(line, word)| (line, word.to_owned())));
    }

    #[test]
    fn wide_comments_are_found_and_urls_excused() {
        let long = "x".repeat(MAX_COLUMNS);
        let source = format!("// {long}\nlet a = 1;\n// https://{long}\n    let b = \"{long}\";\n");
        assert_eq!(of_rust(&source).wide, [1]);
    }

    #[test]
    fn items_and_rows_of_markdown_are_passages_of_their_own() {
        let source = "# Title\nText\ngoes on.\n- item\n  goes on\n| a | b |\n\n```\ncode\n```\n";
        assert_eq!(texts(of_markdown(source)), ["# Title Text goes on.", "- item goes on", "| a | b |"]);
    }
}
