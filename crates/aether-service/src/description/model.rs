//! A description as data: what a service announces, and what is read from others.
//!
//! It is smaller than AsyncAPI, and every part can be checked. `asyncapi.rs` makes the document of one or several.

use std::collections::BTreeMap;

use aether_core::{Channel, Pattern};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::error::DescriptionError;
use super::references::check_references;

/// The largest description, in bytes as JSON: a quarter of what a NATS server takes by default.
pub const MAX_BYTES: usize = 256 << 10;

const MAX_NAME: usize = 128;
const MAX_SUMMARY: usize = 1024;

/// The messages that a service receives, answers and emits.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Description {
    /// The name of the service.
    pub service: String,
    /// Its version.
    pub version: String,
    /// Its purpose, in a sentence or two.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub summary: String,
    /// The messages that it receives and sends.
    #[serde(default)]
    pub operations: Vec<Operation>,
    /// The schemas that messages refer to as `#/components/schemas/NAME`: JSON Schema, draft 7.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub schemas: BTreeMap<String, Value>,
}

/// The direction of an operation, as the service sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Action {
    /// A handler of the service receives the waves.
    Receive,
    /// The service emits the waves.
    Send,
}

impl Action {
    /// The word for it in AsyncAPI.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Receive => "receive",
            Self::Send => "send",
        }
    }
}

/// The messages that a service receives or emits on the channels of a pattern.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Operation {
    /// The direction.
    pub action: Action,
    /// The pattern of the channels.
    pub pattern: String,
    /// The group that shares the waves.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group: Option<String>,
    /// The payload of the waves.
    pub message: Message,
    /// The payload of the answers, for questions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reply: Option<Message>,
}

/// A payload. Without a schema it is any of its media type; without that, any at all.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Message {
    /// The media type.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub content_type: Option<String>,
    /// The JSON schema.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub schema: Option<Value>,
}

impl Description {
    /// Reads a description that others wrote, and checks it.
    ///
    /// # Errors
    /// [`DescriptionError`] names what is not allowed.
    pub fn read(json: &[u8]) -> Result<Self, DescriptionError> {
        check_size(json.len())?;
        let description: Self = serde_json::from_slice(json)?;
        description.checked()
    }

    /// Returns the description if it is valid: bounded texts, valid patterns, and schemas that refer to each other only.
    ///
    /// # Errors
    /// [`DescriptionError`] names what is not allowed.
    pub fn checked(self) -> Result<Self, DescriptionError> {
        check_size(serde_json::to_vec(&self)?.len())?;
        check_length("the name of the service", &self.service, 1, MAX_NAME)?;
        check_length("the version", &self.version, 1, MAX_NAME)?;
        check_length("the summary", &self.summary, 0, MAX_SUMMARY)?;
        for operation in &self.operations {
            let refused = |source| DescriptionError::Pattern { given: operation.pattern.clone(), source };
            Pattern::new(&operation.pattern).map_err(refused)?;
            if let Some(group) = &operation.group {
                let refused = |source| DescriptionError::Pattern { given: group.clone(), source };
                Channel::new(group.as_str()).map_err(refused)?;
            }
            for message in [Some(&operation.message), operation.reply.as_ref()].into_iter().flatten() {
                if let Some(content_type) = &message.content_type {
                    check_length("a media type", content_type, 1, MAX_NAME)?;
                }
                if let Some(schema) = &message.schema {
                    check_references(schema, &self.schemas)?;
                }
            }
        }
        for (name, schema) in &self.schemas {
            let is_allowed = |char: char| char.is_ascii_alphanumeric() || matches!(char, '.' | '-' | '_');
            check_length("the name of a schema", name, 1, MAX_NAME)?;
            if !name.chars().all(is_allowed) {
                return Err(DescriptionError::SchemaName { name: name.clone() });
            }
            check_references(schema, &self.schemas)?;
        }
        Ok(self)
    }
}

const fn check_size(bytes: usize) -> Result<(), DescriptionError> {
    if bytes <= MAX_BYTES { Ok(()) } else { Err(DescriptionError::TooLarge { bytes, most: MAX_BYTES }) }
}

const fn check_length(
    what: &'static str,
    text: &str,
    least: usize,
    most: usize,
) -> Result<(), DescriptionError> {
    let bytes = text.len();
    if bytes >= least && bytes <= most {
        Ok(())
    } else {
        Err(DescriptionError::Length { what, bytes, least, most })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn read(change: impl FnOnce(&mut Value)) -> Result<Description, DescriptionError> {
        let mut value = json!({
            "service": "stock", "version": "1",
            "operations": [{
                "action": "receive", "pattern": "stock.*", "group": "stock",
                "message": { "content_type": "application/json", "schema": { "$ref": "#/components/schemas/Order" } },
            }],
            "schemas": { "Order": { "type": "object", "properties": { "next": { "$ref": "#/components/schemas/Order" } } } },
        });
        change(&mut value);
        Description::read(&serde_json::to_vec(&value).unwrap())
    }

    #[test]
    fn a_description_is_read_as_it_was_written() {
        let description = read(|_| {}).unwrap();
        assert_eq!(Description::read(&serde_json::to_vec(&description).unwrap()).unwrap(), description);
    }

    #[test]
    fn hostile_descriptions_are_refused_with_the_reason() {
        use DescriptionError as Error;
        let schema = |schema: Value| read(|value| value["operations"][0]["message"]["schema"] = schema);
        for elsewhere in [
            "http://evil.example/s.json",
            "#/info/title",
            "#/components/schemas/Missing",
            "file:///etc/passwd",
        ] {
            assert!(
                matches!(schema(json!({ "$ref": elsewhere })), Err(Error::Reference { .. })),
                "{elsewhere}"
            );
            assert!(matches!(
                schema(json!({ "items": [{ "$ref": elsewhere }] })),
                Err(Error::Reference { .. })
            ));
        }
        // It would change what the references mean.
        assert!(matches!(schema(json!({ "$id": "http://evil.example/" })), Err(Error::Reference { .. })));
        assert!(matches!(schema(json!("text")), Err(Error::Schema)));
        assert!(matches!(read(|value| value["service"] = json!("")), Err(Error::Length { .. })));
        assert!(matches!(
            read(|value| value["summary"] = json!("x".repeat(2000))),
            Err(Error::Length { .. })
        ));
        assert!(matches!(
            read(|value| value["operations"][0]["pattern"] = json!("a..b")),
            Err(Error::Pattern { .. })
        ));
        assert!(matches!(
            read(|value| value["operations"][0]["action"] = json!("steal")),
            Err(Error::Unreadable(_))
        ));
        let name = |value: &mut Value| value["schemas"]["a/../b"] = json!({});
        assert!(matches!(read(name), Err(Error::SchemaName { .. })));
        let large = vec![b' '; MAX_BYTES + 1];
        assert!(matches!(Description::read(&large), Err(Error::TooLarge { .. })));
        // Deeper than the reader follows, so that it cannot exhaust the stack.
        let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
        assert!(matches!(Description::read(deep.as_bytes()), Err(Error::Unreadable(_))));
    }
}
