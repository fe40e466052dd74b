//! The layers of a program's configuration, and the values that they make together.
//!
//! The crate `config` merges the layers and keeps the origin of each value. The checks come before: of one value after
//! the other, so that every mistake is found and has its line.

use std::fmt;
use std::path::{Path, PathBuf};

use config::{Map, Source, Value, ValueKind};

#[cfg(feature = "schema")]
use super::file::Raw;
use super::file::{self, Entry, Layer};
#[cfg(feature = "schema")]
use super::list::List;
use super::mistake::{ConfigError, Mistake, Origin, Problem};
#[cfg(feature = "schema")]
use super::payloads::SchemaFile;
use super::schema::{NoSection, Schema, Section, put};
use super::settings::Settings;

/// The file that every profile begins with.
const DEFAULT_FILE: &str = "default.toml";

/// The sources of a configuration. The environment and the arguments are read once, files are read again.
#[derive(Debug, Clone)]
pub(super) struct Sources {
    pub(super) schema: Schema,
    /// `None` if there are no files.
    pub(super) folder: Option<PathBuf>,
    pub(super) profile: Option<String>,
    /// The limits of the machine.
    pub(super) below_files: Layer,
    /// The environment, then the arguments.
    pub(super) above_files: Vec<Layer>,
}

/// A setting with its value and where that comes from.
#[derive(Clone, PartialEq)]
#[non_exhaustive]
pub struct Setting {
    /// The name, such as `inbox.floor`.
    pub key: String,
    /// The value as TOML, or `***` for a secret.
    pub value: String,
    /// Where it comes from: `built-in`, a file with its line, a variable or an argument.
    pub origin: String,
    /// Whether a change applies while the program runs.
    pub is_live: bool,
    /// The value itself, also of a secret, to notice changes.
    pub(super) typed: toml::Value,
}

/// Without the value of a secret.
impl fmt::Debug for Setting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} = {} ({})", self.key, self.value, self.origin)
    }
}

/// The values of a configuration that was checked.
#[derive(Clone)]
pub(super) struct Values {
    pub(super) table: toml::Table,
    /// Read from the table once: files that it names may change.
    shared: Box<Settings>,
    pub(super) settings: Vec<Setting>,
    /// The files that were read.
    pub(super) files: Vec<PathBuf>,
    /// Sections of programs other than this one, which were not checked.
    pub(super) others: Vec<String>,
}

impl Sources {
    /// The files in the order of their layers.
    pub(super) fn files(&self) -> Vec<PathBuf> {
        let Some(folder) = &self.folder else { return Vec::new() };
        let profile = self.profile.as_ref().map(|profile| folder.join(format!("{profile}.toml")));
        std::iter::once(folder.join(DEFAULT_FILE)).chain(profile).collect()
    }

    /// Reads the files and checks all layers. `before` are the files that were there at the last reading.
    pub(super) fn read(&self, before: &[PathBuf]) -> Result<Values, ConfigError> {
        let (mut layers, mut mistakes, mut files) = (vec![self.below_files.clone()], Vec::new(), Vec::new());
        for path in self.files() {
            let origin = Origin::File { path: path.clone(), line: 1 };
            match file::read(&path) {
                Some(layer) => {
                    layers.push(layer);
                    files.push(path);
                }
                None if before.contains(&path) => mistakes.push(Mistake { origin, problem: Problem::Gone }),
                None => {}
            }
        }
        if let (Some(folder), Some(profile)) = (&self.folder, &self.profile)
            && before.is_empty()
            && !files.iter().any(|file| file.ends_with(format!("{profile}.toml")))
        {
            let origin = Origin::File { path: folder.clone(), line: 1 };
            let problem = Problem::NoProfile { profile: profile.clone(), profiles: profiles(folder) };
            mistakes.push(Mistake { origin, problem });
        }
        layers.extend(self.above_files.iter().cloned());
        let (mut checked, mut others) = (Vec::new(), Vec::new());
        for layer in layers {
            mistakes.extend(layer.mistakes);
            let mut entries = Vec::new();
            for entry in layer.entries {
                match self.schema.check(&entry) {
                    Some(Ok(value)) => entries.push((entry, value)),
                    Some(Err(mistake)) => mistakes.push(mistake),
                    None => others.push(entry.path.iter().take(2).cloned().collect::<Vec<_>>().join(".")),
                }
            }
            checked.push(entries);
        }
        if !mistakes.is_empty() {
            return Err(ConfigError { mistakes });
        }
        others.sort();
        others.dedup();
        self.merged(checked, files, others)
    }

    /// The files that layers name for schemas, as far as they can be read, also in a version with mistakes: a mistake
    /// may be in one of these files.
    #[cfg(feature = "schema")]
    pub(super) fn schema_files(&self) -> Vec<PathBuf> {
        let of_files = self.files();
        let layers = of_files.iter().filter_map(|path| file::read(path));
        let layers = layers.chain(self.above_files.iter().cloned());
        let entries = layers.flat_map(|layer| layer.entries);
        entries
            .filter(|entry| entry.path == ["border", "schemas"])
            .flat_map(|entry| named(entry.value))
            .collect()
    }

    fn merged(
        &self,
        layers: Vec<Vec<(Entry, toml::Value)>>,
        files: Vec<PathBuf>,
        others: Vec<String>,
    ) -> Result<Values, ConfigError> {
        let defaults = Merged(tree(self.schema.defaults(), &Origin::BuiltIn.to_string()));
        let mut builder = config::Config::builder().add_source(defaults);
        for layer in layers {
            let mut map = Map::new();
            for (entry, value) in layer {
                let value = with_origin(&value, &entry.origin.to_string());
                insert(&mut map, &entry.path, value);
            }
            builder = builder.add_source(Merged(map));
        }
        // No source of these can fail, and nothing is converted here.
        let merged = builder.build().and_then(|config| config.collect()).unwrap_or_default();
        let (mut table, mut settings) = (toml::Table::new(), Vec::new());
        let mut add = |path: &[String], value: &Value| {
            let (key, typed) = (path.join("."), plain_value(value));
            settings.push(Setting {
                value: self.shown(&key, &typed),
                origin: value.origin().unwrap_or_default().to_owned(),
                is_live: self.schema.is_live(&key),
                typed: typed.clone(),
                key,
            });
            put(&mut table, path, typed);
        };
        walk(&merged, &mut Vec::new(), &mut add);
        settings.sort_by(|a, b| a.key.cmp(&b.key));
        let mut shared = table.clone();
        shared.remove(super::schema::SERVICE);
        // Each value was checked by its type, but a file that it names may have changed since.
        match toml::Value::Table(shared).try_into() {
            Ok(shared) => Ok(Values { table, shared: Box::new(shared), settings, files, others }),
            Err(error) => {
                let (key, reason) = ("border.schemas".to_owned(), error.to_string());
                let origin = Origin::File { path: files.first().cloned().unwrap_or_default(), line: 1 };
                Err(ConfigError {
                    mistakes: vec![Mistake { origin, problem: Problem::Value { key, reason } }],
                })
            }
        }
    }

    fn shown(&self, key: &str, value: &toml::Value) -> String {
        match value {
            _ if self.schema.is_secret(key) => "***".to_owned(),
            // An address may hold a password.
            toml::Value::String(text) if text.contains('@') => {
                toml::Value::String(aether_core::medium::without_secrets(text)).to_string()
            }
            value => value.to_string(),
        }
    }
}

impl Values {
    /// The settings that every program has.
    pub(super) fn settings(&self) -> Settings {
        (*self.shared).clone()
    }

    /// The section of a program; its defaults if the program did not name the section.
    pub(super) fn section<S: Section>(&self) -> S {
        let services = self.table.get(super::schema::SERVICE).and_then(toml::Value::as_table);
        let section = services.and_then(|services| services.get(S::NAME)).cloned();
        // Each value was checked by this type.
        section.and_then(|section| section.try_into().ok()).unwrap_or_default()
    }
}

impl Default for Sources {
    fn default() -> Self {
        let schema = Schema::new().with::<NoSection>();
        Self { schema, folder: None, profile: None, below_files: Layer::default(), above_files: Vec::new() }
    }
}

/// The files of a value of `border.schemas`.
#[cfg(feature = "schema")]
fn named(value: Raw) -> Vec<PathBuf> {
    let value = match value {
        Raw::Typed(value) => value,
        Raw::Text(text) => toml::from_str(&format!("schemas = {text}"))
            .ok()
            .and_then(|mut table: toml::Table| table.remove("schemas"))
            .unwrap_or(toml::Value::String(text)),
    };
    let files = value.try_into::<List<SchemaFile>>().unwrap_or_default();
    files.0.into_iter().map(SchemaFile::into_path).collect()
}

/// The profiles that have a file.
fn profiles(folder: &Path) -> Vec<String> {
    let files = std::fs::read_dir(folder).into_iter().flatten().filter_map(Result::ok);
    let names = files.filter_map(|file| file.file_name().into_string().ok());
    let mut profiles: Vec<_> = names
        .filter(|name| name != DEFAULT_FILE)
        .filter_map(|name| Some(name.strip_suffix(".toml")?.to_owned()))
        .collect();
    profiles.sort();
    profiles
}

/// A layer for the crate `config`.
#[derive(Debug, Clone)]
struct Merged(Map<String, Value>);

impl Source for Merged {
    fn clone_into_box(&self) -> Box<dyn Source + Send + Sync> {
        Box::new(self.clone())
    }

    fn collect(&self) -> Result<Map<String, Value>, config::ConfigError> {
        Ok(self.0.clone())
    }
}

fn tree(table: &toml::Table, origin: &str) -> Map<String, Value> {
    table.iter().map(|(name, value)| (name.clone(), with_origin(value, origin))).collect()
}

fn with_origin(value: &toml::Value, origin: &str) -> Value {
    let kind = match value {
        toml::Value::String(text) => ValueKind::String(text.clone()),
        toml::Value::Integer(number) => ValueKind::I64(*number),
        toml::Value::Float(number) => ValueKind::Float(*number),
        toml::Value::Boolean(is_so) => ValueKind::Boolean(*is_so),
        toml::Value::Datetime(time) => ValueKind::String(time.to_string()),
        toml::Value::Array(values) => {
            ValueKind::Array(values.iter().map(|value| with_origin(value, origin)).collect())
        }
        toml::Value::Table(table) => ValueKind::Table(tree(table, origin)),
    };
    Value::new(Some(&origin.to_owned()), kind)
}

fn insert(map: &mut Map<String, Value>, path: &[String], value: Value) {
    match path {
        [] => {}
        [last] => {
            map.insert(last.clone(), value);
        }
        [first, rest @ ..] => {
            let section =
                map.entry(first.clone()).or_insert_with(|| Value::new(None, ValueKind::Table(Map::new())));
            if let ValueKind::Table(inner) = &mut section.kind {
                insert(inner, rest, value);
            }
        }
    }
}

fn plain_value(value: &Value) -> toml::Value {
    match &value.kind {
        ValueKind::Boolean(is_so) => (*is_so).into(),
        ValueKind::I64(number) => (*number).into(),
        ValueKind::Float(number) => (*number).into(),
        ValueKind::Array(values) => toml::Value::Array(values.iter().map(plain_value).collect()),
        ValueKind::Table(table) => {
            toml::Value::Table(table.iter().map(|(name, value)| (name.clone(), plain_value(value))).collect())
        }
        ValueKind::String(text) => text.clone().into(),
        // `with_origin` makes none of the others.
        other => other.to_string().into(),
    }
}

fn walk(map: &Map<String, Value>, path: &mut Vec<String>, visit: &mut impl FnMut(&[String], &Value)) {
    for (name, value) in map {
        path.push(name.clone());
        match &value.kind {
            ValueKind::Table(inner) => walk(inner, path, visit),
            _ => visit(path, value),
        }
        path.pop();
    }
}
