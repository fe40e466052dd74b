//! The arguments of a program that serves fields.

use std::path::{Path, PathBuf};
use std::str::FromStr;

use aether_core::Aether;
use aether_field::{Field, FieldError, JoinFieldError};

use super::FieldOptions;
use super::access::{Access, AccessError};
use super::limits::{LimitError, SecurityLimits};

/// The environment variable with a token that may read and write all fields.
const TOKEN: &str = "AETHER_FIELD_TOKEN";

/// Which fields are served over WebSocket and to whom, to be flattened into other arguments.
#[derive(Debug, Clone, Default, clap::Args)]
#[command(next_help_heading = "Fields over WebSocket")]
#[non_exhaustive]
pub struct FieldArgs {
    /// Serve this field at /field/NAME/ws, with a file also after a restart of all replicas; may be repeated
    #[arg(long = "field", value_name = "NAME[=FILE]")]
    pub fields: Vec<ServedField>,

    /// Who may read and write what: a JSON array of {"token", "field", "read", "write"}. The environment variable
    /// AETHER_FIELD_TOKEN is a token that may do everything. Without tokens, everybody who can connect may
    #[arg(long, value_name = "FILE", requires = "fields")]
    pub field_tokens: Option<PathBuf>,

    /// Let pages of this origin use the fields, such as https://shop.example; * stands for all; may be repeated
    #[arg(long, value_name = "ORIGIN", requires = "fields")]
    pub field_origin: Vec<String>,

    /// Set a limit, such as max_connections_per_source=1000; may be repeated
    #[arg(long, value_name = "NAME=VALUE", requires = "fields", value_parser = limit)]
    pub field_limit: Vec<String>,
}

/// A field that is served, and the file that keeps its replica.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ServedField {
    /// The name of the field.
    pub name: String,
    /// The file; `None` for a replica that is only in memory.
    pub store: Option<PathBuf>,
}

impl FromStr for ServedField {
    type Err = std::convert::Infallible;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (name, store) = text.split_once('=').map_or((text, None), |(name, path)| (name, Some(path)));
        Ok(Self { name: name.to_owned(), store: store.map(|path| Path::new(path).to_owned()) })
    }
}

fn limit(text: &str) -> Result<String, LimitError> {
    SecurityLimits::default().set(text).map(|()| text.to_owned())
}

/// Why the fields cannot be served.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FieldArgsError {
    /// A field cannot be joined.
    #[error("the field {name:?} cannot be served")]
    Join {
        /// Its name.
        name: String,
        /// Why not.
        source: JoinFieldError,
    },
    /// A field is named twice.
    #[error("the field {name:?} is named twice")]
    Twice {
        /// Its name.
        name: String,
    },
    /// The tokens cannot be used.
    #[error("the tokens of the fields cannot be used")]
    Access(#[from] AccessError),
    /// A limit cannot be set.
    #[error("a limit of the fields cannot be set")]
    Limit(#[from] LimitError),
    /// A field could not be stored when it was closed.
    #[error("the field {name:?} could not be closed")]
    Close {
        /// Its name.
        name: String,
        /// Why not.
        source: FieldError,
    },
}

/// The replicas that a program has joined for its gateway.
#[derive(Debug, Default)]
#[must_use]
pub struct JoinedFields(Vec<(String, Field)>);

impl FieldArgs {
    /// Joins the fields. Returns what the gateway needs, and the replicas, which are to be closed after it.
    ///
    /// # Errors
    /// [`FieldArgsError`] if a field cannot be joined, or the tokens cannot be read.
    ///
    /// # Cancel safety
    /// Cancelled before completion, the replicas that have joined leave.
    pub async fn join(&self, aether: &Aether) -> Result<(FieldOptions, JoinedFields), FieldArgsError> {
        let mut access = match &self.field_tokens {
            Some(path) => Access::load(path)?,
            None => Access::default(),
        };
        // A variable that is set to nothing stands for no token, as in the sync engine.
        if let Some(token) =
            std::env::var(TOKEN).ok().filter(|token| !token.is_empty() && !self.fields.is_empty())
        {
            access = access.token(&token)?;
        }
        let mut limits = SecurityLimits::default();
        for limit in &self.field_limit {
            limits.set(limit)?;
        }
        let mut options = FieldOptions::default().access(access).limits(limits);
        for origin in &self.field_origin {
            options = options.origin(origin);
        }
        let mut joined = JoinedFields::default();
        for ServedField { name, store } in &self.fields {
            if joined.0.iter().any(|(other, _)| other == name) {
                return Err(FieldArgsError::Twice { name: name.clone() });
            }
            let mut builder = Field::builder(name).replica("gateway");
            if let Some(store) = store {
                builder = builder.store(store);
            }
            let field = builder
                .join(aether)
                .await
                .map_err(|source| FieldArgsError::Join { name: name.clone(), source })?;
            options = options.field(name, field.clone());
            joined.0.push((name.clone(), field));
        }
        Ok((options, joined))
    }
}

impl JoinedFields {
    /// Leaves the fields, and waits until everything is stored.
    ///
    /// # Errors
    /// [`FieldArgsError::Close`] with the first field that could not be stored; the others are closed all the same.
    pub async fn close(self) -> Result<(), FieldArgsError> {
        let mut first = Ok(());
        for (name, field) in self.0 {
            let closed = field.close().await.map_err(|source| FieldArgsError::Close { name, source });
            first = first.and(closed);
        }
        first
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_field_is_named_with_or_without_a_file() {
        let field = |text: &str| text.parse::<ServedField>().unwrap();
        assert_eq!(field("home"), ServedField { name: "home".to_owned(), store: None });
        assert_eq!(field("home=/var/a=b").store.as_deref(), Some(Path::new("/var/a=b")));
    }
}
