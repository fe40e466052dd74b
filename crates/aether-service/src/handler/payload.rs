//! The payloads that a handler takes and answers, for the description of its service.
//!
//! Extractors and answers tell it ([`FromWave::payload`](super::FromWave::payload),
//! [`IntoAnswer::payload`](super::IntoAnswer::payload)); [`description`](crate::description) writes it down. It takes
//! no part in handling.

use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator};

/// A kind of payload: its media type, and its JSON schema where the type has one.
#[derive(Clone, Copy)]
pub struct Payload {
    content_type: Option<&'static str>,
    schema: Option<fn(&mut SchemaGenerator) -> Schema>,
}

impl Payload {
    /// Any payload.
    pub const ANY: Self = Self { content_type: None, schema: None };

    /// JSON with the schema of a type.
    #[must_use]
    pub fn json<T: JsonSchema>() -> Self {
        Self { content_type: Some("application/json"), schema: Some(|schemas| schemas.subschema_for::<T>()) }
    }

    /// A payload of a media type, without a schema.
    #[must_use]
    pub const fn of_type(content_type: &'static str) -> Self {
        Self { content_type: Some(content_type), schema: None }
    }

    pub(crate) const fn content_type(&self) -> Option<&'static str> {
        self.content_type
    }

    /// The schema, whose definitions the generator keeps.
    pub(crate) fn schema(&self, schemas: &mut SchemaGenerator) -> Option<Schema> {
        self.schema.map(|schema| schema(schemas))
    }
}

impl fmt::Debug for Payload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Payload")
            .field("content_type", &self.content_type)
            .field("has_schema", &self.schema.is_some())
            .finish()
    }
}
