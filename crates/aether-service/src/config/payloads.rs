//! The setting `[border] schemas`: JSON schemas of payloads, in files.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use aether::rules::{SchemaError, Schemas};
use aether_files::byte_order_mark;
use serde::{Deserialize, Serialize};

use super::list::List;
use super::quantity::QuantityError;

/// A file with a JSON schema, for the payloads of a pattern of channels. As text `PATTERN: FILE`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SchemaFile {
    pattern: String,
    file: PathBuf,
}

impl SchemaFile {
    pub(super) fn into_path(self) -> PathBuf {
        self.file
    }
}

impl FromStr for SchemaFile {
    type Err = QuantityError;
    fn from_str(text: &str) -> Result<Self, QuantityError> {
        let parts = text.split_once(':').map(|(pattern, file)| (pattern.trim(), file.trim()));
        match parts.filter(|(pattern, file)| !pattern.is_empty() && !file.is_empty()) {
            Some((pattern, file)) => Ok(Self { pattern: pattern.to_owned(), file: file.into() }),
            None => {
                Err(QuantityError::new(text, "PATTERN: FILE, such as orders.created: schemas/order.json"))
            }
        }
    }
}

impl fmt::Display for SchemaFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.pattern, self.file.display())
    }
}

/// A schema cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SchemaFileError {
    /// The file cannot be read.
    #[error("cannot read {}: {source}", file.display())]
    Read {
        /// The file.
        file: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// The file is not JSON.
    #[error("{} is not JSON: {source}", file.display())]
    Json {
        /// The file.
        file: PathBuf,
        /// Where not.
        source: serde_json::Error,
    },
    /// It is not a schema, or the pattern is not valid.
    #[error(transparent)]
    Schema(#[from] SchemaError),
}

/// Schemas that were read and compiled. Two are equal if they name the same files with the same content.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(try_from = "List<SchemaFile>", into = "List<SchemaFile>")]
pub struct PayloadSchemas {
    files: Vec<SchemaFile>,
    /// In the order of the files.
    contents: Vec<serde_json::Value>,
    compiled: Option<Schemas>,
}

impl PayloadSchemas {
    /// The schemas; `None` if there are none.
    #[must_use]
    pub fn compiled(&self) -> Option<Schemas> {
        self.compiled.clone()
    }
}

impl PartialEq for PayloadSchemas {
    fn eq(&self, other: &Self) -> bool {
        (&self.files, &self.contents) == (&other.files, &other.contents)
    }
}

impl TryFrom<List<SchemaFile>> for PayloadSchemas {
    type Error = SchemaFileError;
    fn try_from(List(files): List<SchemaFile>) -> Result<Self, SchemaFileError> {
        let read = |SchemaFile { file, .. }: &SchemaFile| {
            let text =
                std::fs::read(file).map_err(|source| SchemaFileError::Read { file: file.clone(), source })?;
            serde_json::from_slice::<serde_json::Value>(byte_order_mark::without(&text))
                .map_err(|source| SchemaFileError::Json { file: file.clone(), source })
        };
        let contents = files.iter().map(read).collect::<Result<Vec<_>, _>>()?;
        let patterns = files.iter().map(|file| file.pattern.as_str());
        let compiled = if files.is_empty() { None } else { Some(Schemas::new(patterns.zip(&contents))?) };
        Ok(Self { files, contents, compiled })
    }
}

impl From<PayloadSchemas> for List<SchemaFile> {
    fn from(list: PayloadSchemas) -> Self {
        Self(list.files)
    }
}

#[cfg(test)]
mod tests {
    use crate::config::BorderSettings;

    #[test]
    fn schemas_are_read_from_their_files_and_each_mistake_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let file = |name: &str, text: &str| {
            let path = folder.path().join(name);
            std::fs::write(&path, text).unwrap();
            path.display().to_string()
        };
        let read = |line: String| toml::from_str::<BorderSettings>(&format!("schemas = [{line:?}]"));
        let good = format!("orders.>: {}", file("good.json", r#"{"type": "object"}"#));
        let settings = read(good).unwrap();
        assert!(settings.schemas.compiled().is_some());
        let again: BorderSettings = toml::from_str(&toml::to_string(&settings).unwrap()).unwrap();
        assert_eq!(again, settings);
        file("good.json", r#"{"type": "array"}"#);
        let changed: BorderSettings = toml::from_str(&toml::to_string(&settings).unwrap()).unwrap();
        assert_ne!(changed, settings);
        for (line, problem) in [
            ("orders.>".to_owned(), "PATTERN: FILE"),
            (format!("a: {}/missing.json", folder.path().display()), "cannot read"),
            (format!("a: {}", file("text.json", "{")), "text.json is not JSON"),
            (format!("a: {}", file("wrong.json", r#"{"type": 7}"#)), "does not compile at /type"),
            (format!("a..b: {}", file("good.json", "true")), "is not a pattern of channels"),
        ] {
            let error = read(line).unwrap_err().to_string();
            assert!(error.contains(problem), "{error}");
        }
    }
}
