//! JSON schemas of payloads, each for a pattern of channels.

use std::sync::Arc;

use jsonschema::Validator;

use super::refusal::Refusal;
use aether_core::wave::ChannelError;
use aether_core::{Pattern, Wave};

/// The number of characters of a problem that are kept: it quotes the payload.
const MOST: usize = 200;

/// Schemas cannot be used. Schemas count from 1.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SchemaError {
    /// The pattern is not valid.
    #[error("schema {schema}: {pattern:?} is not a pattern of channels")]
    Pattern {
        /// The number of the schema.
        schema: usize,
        /// The text.
        pattern: String,
        /// What is wrong with it.
        source: ChannelError,
    },
    /// It is not a JSON schema, or refers to something outside of it.
    #[error("schema {schema}, for {pattern}, does not compile at {place}: {problem}")]
    Schema {
        /// The number of the schema.
        schema: usize,
        /// The channels that it is for.
        pattern: String,
        /// The place in the schema, as a JSON pointer (RFC 6901).
        place: String,
        /// What is wrong with it.
        problem: String,
    },
}

/// The form of payloads by channel: JSON schemas of draft 2020-12, or of the one that `$schema` names. Nothing is
/// fetched: a schema may only refer to parts of itself. A clone bumps a reference count.
#[derive(Debug, Clone)]
pub struct Schemas {
    schemas: Arc<[(Pattern, Validator)]>,
}

impl Schemas {
    /// Compiles schemas: pairs of a pattern of channels and the schema of what is emitted and asked there. All that match a
    /// channel count.
    ///
    /// # Errors
    /// [`SchemaError`] names the first schema that cannot be used, and the place in it.
    pub fn new<'a>(
        schemas: impl IntoIterator<Item = (&'a str, &'a serde_json::Value)>,
    ) -> Result<Self, SchemaError> {
        let compile = |(index, (pattern, schema)): (usize, (&str, &serde_json::Value))| {
            let number = index + 1;
            let named = || pattern.to_owned();
            let channels = Pattern::new(pattern).map_err(|source| SchemaError::Pattern {
                schema: number,
                pattern: named(),
                source,
            })?;
            let validator = jsonschema::validator_for(schema).map_err(|error| SchemaError::Schema {
                schema: number,
                pattern: named(),
                place: place(error.instance_path().as_str()),
                problem: clipped(&error),
            })?;
            Ok((channels, validator))
        };
        let schemas = schemas.into_iter().enumerate().map(compile).collect::<Result<_, _>>()?;
        Ok(Self { schemas })
    }

    pub(super) fn check(&self, wave: &Wave) -> Result<(), Refusal> {
        let mut matching =
            self.schemas.iter().filter(|(pattern, _)| pattern.matches(wave.channel())).peekable();
        // Nothing is read where no schema applies.
        if matching.peek().is_none() {
            return Ok(());
        }
        let misfit = |place, problem| Refusal::Misfit { channel: wave.channel().to_string(), place, problem };
        let payload = serde_json::from_slice(wave.payload()).map_err(|error| {
            misfit(format!("line {}, column {}", error.line(), error.column()), clipped(&error))
        })?;
        match matching.find_map(|(_, schema)| schema.validate(&payload).err()) {
            Some(error) => Err(misfit(place(error.instance_path().as_str()), clipped(&error))),
            None => Ok(()),
        }
    }
}

fn place(pointer: &str) -> String {
    if pointer.is_empty() { "the whole".to_owned() } else { pointer.to_owned() }
}

fn clipped(problem: &impl std::fmt::Display) -> String {
    let text = problem.to_string();
    match text.char_indices().nth(MOST) {
        Some((end, _)) => format!("{}...", &text[..end]),
        None => text,
    }
}
