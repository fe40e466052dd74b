//! Collects the operations of a service and the schemas of their types.
//!
//! A type may be read from other JSON than it is written as (defaults, skipped fields), so there are two sets of schemas:
//! of what the service reads and of what it writes. Where they differ, the name of the latter ends in `.written`.

use std::collections::{BTreeMap, BTreeSet};

use schemars::SchemaGenerator;
use schemars::generate::SchemaSettings;
use serde_json::Value;

use super::model::{Action, Description, Message, Operation};
use super::references::{refers, rename};
use crate::handler::Payload;

/// The operations of a service, with the schemas of their types.
pub(crate) struct Collected {
    read: SchemaGenerator,
    written: SchemaGenerator,
    operations: Vec<Operation>,
}

impl Collected {
    pub(crate) fn new() -> Self {
        // AsyncAPI reads schemas as draft 7.
        let settings = || {
            SchemaSettings::draft07()
                .with(|settings| settings.definitions_path = "/components/schemas".into())
        };
        Self {
            read: settings().for_deserialize().into_generator(),
            written: settings().for_serialize().into_generator(),
            operations: Vec::new(),
        }
    }

    /// A handler.
    pub(crate) fn receives(
        &mut self,
        pattern: &str,
        group: Option<&str>,
        takes: Payload,
        answers: Option<Payload>,
    ) {
        let message = message_of(&mut self.read, takes);
        let reply = answers.map(|answers| message_of(&mut self.written, answers));
        let (pattern, group) = (pattern.to_owned(), group.map(str::to_owned));
        self.operations.push(Operation { action: Action::Receive, pattern, group, message, reply });
    }

    /// Adds the messages that the service emits by itself.
    pub(crate) fn sends(&mut self, pattern: &str, payload: Payload) {
        let message = message_of(&mut self.written, payload);
        let pattern = pattern.to_owned();
        self.operations.push(Operation { action: Action::Send, pattern, group: None, message, reply: None });
    }

    /// The description. It is not checked.
    pub(crate) fn describe(mut self, service: &str, version: &str, summary: &str) -> Description {
        let mut schemas = definitions(&mut self.read);
        let mut written = definitions(&mut self.written);
        let different = different(&schemas, &written);
        let renamed = |name: &str| different.contains(name).then(|| format!("{name}.written"));
        written.values_mut().for_each(|schema| rename(schema, &renamed));
        for operation in &mut self.operations {
            let own = (operation.action == Action::Send).then_some(&mut operation.message);
            for message in own.into_iter().chain(&mut operation.reply) {
                message.schema.iter_mut().for_each(|schema| rename(schema, &renamed));
            }
        }
        schemas.extend(written.into_iter().map(|(name, schema)| (renamed(&name).unwrap_or(name), schema)));
        let (service, version, summary) = (service.to_owned(), version.to_owned(), summary.to_owned());
        Description { service, version, summary, operations: self.operations, schemas }
    }
}

fn message_of(schemas: &mut SchemaGenerator, payload: Payload) -> Message {
    let schema = payload.schema(schemas).map(|mut schema| {
        schemas.transforms_mut().for_each(|transform| transform.transform(&mut schema));
        schema.to_value()
    });
    Message { content_type: payload.content_type().map(str::to_owned), schema }
}

/// The schemas of all types, with names that AsyncAPI allows.
fn definitions(schemas: &mut SchemaGenerator) -> BTreeMap<String, Value> {
    schemas.take_definitions(true).into_iter().collect()
}

/// The names of the schemas that are written otherwise than they are read, and of those that refer to them.
fn different(read: &BTreeMap<String, Value>, written: &BTreeMap<String, Value>) -> BTreeSet<String> {
    let differs = |(name, schema): &(&String, &Value)| read.get(*name).is_some_and(|other| other != *schema);
    let mut different: BTreeSet<String> =
        written.iter().filter(differs).map(|(name, _)| name.clone()).collect();
    loop {
        let refers = |(name, schema): &(&String, &Value)| {
            read.contains_key(*name)
                && !different.contains(*name)
                && refers(schema, &|to| different.contains(to))
        };
        let more: Vec<_> = written.iter().filter(refers).map(|(name, _)| name.clone()).collect();
        if more.is_empty() {
            return different;
        }
        different.extend(more);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use schemars::JsonSchema;
    use serde_json::json;

    #[derive(JsonSchema, serde::Serialize, serde::Deserialize)]
    struct Inner {
        #[serde(default)]
        optional: u32,
    }

    #[derive(JsonSchema, serde::Serialize, serde::Deserialize)]
    struct Outer {
        inner: Inner,
        next: Option<Box<Outer>>,
    }

    #[test]
    fn a_type_that_is_written_otherwise_than_read_has_two_schemas() {
        let mut collected = Collected::new();
        collected.receives("a.*", Some("g"), Payload::json::<Outer>(), Some(Payload::json::<Outer>()));
        collected.sends("b", Payload::json::<Vec<u8>>());
        let description = collected.describe("s", "1", "").checked().unwrap();
        let names: Vec<_> = description.schemas.keys().map(String::as_str).collect();
        assert_eq!(names, ["Inner", "Inner.written", "Outer", "Outer.written"]);
        // A field with a default need not be sent, and is always written.
        assert_eq!(description.schemas["Inner"].get("required"), None);
        assert_eq!(description.schemas["Inner.written"]["required"], json!(["optional"]));
        let reply = description.operations[0].reply.as_ref().unwrap().schema.as_ref().unwrap();
        assert_eq!(reply["$ref"], "#/components/schemas/Outer.written");
        assert_eq!(
            description.schemas["Outer.written"]["properties"]["inner"]["$ref"],
            "#/components/schemas/Inner.written"
        );
        assert_eq!(description.operations[1].message.schema.as_ref().unwrap()["type"], "array");
    }

    #[test]
    fn a_type_that_is_written_as_it_is_read_has_one_schema() {
        #[derive(JsonSchema, serde::Serialize, serde::Deserialize)]
        struct Same {
            id: String,
        }
        let mut collected = Collected::new();
        collected.receives("a", None, Payload::json::<Same>(), Some(Payload::json::<Same>()));
        assert_eq!(collected.describe("s", "1", "").checked().unwrap().schemas.len(), 1);
    }
}
