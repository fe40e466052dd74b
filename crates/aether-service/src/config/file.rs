//! One file of a configuration: its values with their lines, or all that is wrong with its text.

use std::fs::File;
use std::io::{ErrorKind, Read};
use std::path::Path;
use std::sync::Arc;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::mistake::{Mistake, Origin, Problem};

/// Far above any configuration that a person writes.
pub(super) const MAX_BYTES: u64 = 1 << 20;

/// A value of a layer, before it is checked.
#[derive(Debug, Clone)]
pub(super) struct Entry {
    /// The names from the section inwards.
    pub(super) path: Vec<String>,
    pub(super) value: Raw,
    pub(super) origin: Origin,
}

/// A value as its layer has it.
#[derive(Debug, Clone)]
pub(super) enum Raw {
    /// With a type of its own, from a file.
    Typed(toml::Value),
    /// Text whose type follows from the setting, from the environment or an argument.
    Text(String),
}

/// The values of a layer.
#[derive(Debug, Clone, Default)]
pub(super) struct Layer {
    pub(super) entries: Vec<Entry>,
    pub(super) mistakes: Vec<Mistake>,
}

/// Reads a file. `None` if it does not exist.
pub(super) fn read(path: &Path) -> Option<Layer> {
    let at = |line| Origin::File { path: path.to_owned(), line };
    let refuse = |problem| {
        let mistakes = vec![Mistake { origin: at(1), problem }];
        Some(Layer { entries: Vec::new(), mistakes })
    };
    let text = match read_text(path) {
        Ok(Ok(text)) => text,
        Ok(Err(bytes)) => return refuse(Problem::TooLarge { bytes }),
        Err(error) if error.kind() == ErrorKind::NotFound => return None,
        Err(error) => return refuse(Problem::Unreadable { source: Arc::new(error) }),
    };
    let (spans, errors) = DeTable::parse_recoverable(&text);
    if !errors.is_empty() {
        let mistake = |error: &toml::de::Error| {
            let line = error.span().map_or(1, |span| line_of(&text, span.start));
            let reason = error.message().split_whitespace().collect::<Vec<_>>().join(" ");
            Mistake { origin: at(line), problem: Problem::Syntax { reason } }
        };
        return Some(Layer { entries: Vec::new(), mistakes: errors.iter().map(mistake).collect() });
    }
    // It has been parsed, so this cannot fail.
    let values = text.parse::<toml::Table>().unwrap_or_default();
    let mut layer = Layer::default();
    let mut path = Vec::new();
    collect(spans.get_ref(), &values, &mut path, &mut |path, value, offset| {
        let origin = at(line_of(&text, offset));
        layer.entries.push(Entry { path: path.to_vec(), value: Raw::Typed(value.clone()), origin });
    });
    // The order in which somebody reads it. TOML's tables are sorted by name.
    layer.entries.sort_by_key(|entry| match entry.origin {
        Origin::File { line, .. } => line,
        _ => 0,
    });
    Some(layer)
}

/// The text of a file, or its size if it is too large. The length that the system reports is not trusted.
fn read_text(path: &Path) -> std::io::Result<Result<String, u64>> {
    let file = File::open(path)?;
    let reported = file.metadata()?.len();
    let mut bytes = Vec::new();
    file.take(MAX_BYTES + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > MAX_BYTES {
        return Ok(Err(reported.max(bytes.len() as u64)));
    }
    String::from_utf8(bytes).map(Ok).map_err(|error| std::io::Error::new(ErrorKind::InvalidData, error))
}

/// Visits each value with the names that lead to it and the position of its name. Empty sections are visited as well.
fn collect(
    spans: &DeTable<'_>,
    values: &toml::Table,
    path: &mut Vec<String>,
    visit: &mut impl FnMut(&[String], &toml::Value, usize),
) {
    for (name, span) in spans {
        let Some(value) = values.get(name.get_ref().as_ref()) else { continue };
        path.push(name.get_ref().to_string());
        match (span.get_ref(), value) {
            (DeValue::Table(inner), toml::Value::Table(table)) if !table.is_empty() => {
                collect(inner, table, path, visit);
            }
            _ => visit(path, value, Spanned::span(name).start),
        }
        path.pop();
    }
}

fn line_of(text: &str, offset: usize) -> usize {
    1 + text.bytes().take(offset).filter(|byte| *byte == b'\n').count()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_text_as_file(text: &str) -> Layer {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("default.toml");
        std::fs::write(&path, text).unwrap();
        read(&path).unwrap()
    }

    #[test]
    fn every_value_has_its_line() {
        let layer =
            read_text_as_file("# first\n[inbox]\nfloor = 0.1\n\nmax_waves = 5\n[a.b]\nc = { d = 1 }\n[e]\n");
        let entries: Vec<_> = layer
            .entries
            .iter()
            .map(|entry| {
                let Origin::File { line, .. } = entry.origin else { panic!("{entry:?}") };
                (entry.path.join("."), line)
            })
            .collect();
        let expected = [("inbox.floor", 3), ("inbox.max_waves", 5), ("a.b.c.d", 7), ("e", 8)];
        assert_eq!(entries, expected.map(|(key, line)| (key.to_owned(), line)));
    }

    #[test]
    fn every_mistake_in_the_text_has_its_line() {
        let layer = read_text_as_file("[inbox]\nfloor = \nmax_waves = 5\nmax_waves = 6\norder = 'x\n");
        let lines: Vec<_> = layer.mistakes.iter().map(ToString::to_string).collect();
        assert!(layer.entries.is_empty());
        for line in [":2: ", ":4: ", ":5: "] {
            assert!(lines.iter().any(|mistake| mistake.contains(line)), "{line} {lines:?}");
        }
    }

    #[test]
    fn what_is_no_text_or_too_long_is_refused_and_what_is_missing_is_nothing() {
        let folder = tempfile::tempdir().unwrap();
        assert!(read(&folder.path().join("default.toml")).is_none());
        let is_refused = |bytes: &[u8], reason: &str| {
            let path = folder.path().join("file");
            std::fs::write(&path, bytes).unwrap();
            let layer = read(&path).unwrap();
            assert!(layer.entries.is_empty() && layer.mistakes[0].to_string().contains(reason), "{layer:?}");
        };
        is_refused(b"a = '\xff'", "cannot be read");
        is_refused(&vec![b'#'; MAX_BYTES as usize + 1], "1048577 bytes");
        let folder_as_file = read(folder.path()).unwrap();
        assert!(folder_as_file.mistakes[0].to_string().contains("cannot be read"));
    }
}
