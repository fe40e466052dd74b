//! Writes descriptions as one AsyncAPI document.
//!
//! The keys are names that AsyncAPI allows, made from channels and services. References lead to keys of this document only.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value, json};

use super::model::{Action, Description, Message, Operation};
use super::references::rename;

/// The version of AsyncAPI.
pub const ASYNCAPI_VERSION: &str = "3.1.0";

/// The AsyncAPI document of several services, or of one. Equal descriptions, as of the instances of a service, are written
/// once. Patterns become addresses with a parameter for each wildcard, and are repeated as `x-aether-pattern`.
#[must_use]
pub fn asyncapi(title: &str, version: &str, summary: &str, descriptions: &[Description]) -> Value {
    let mut document = Document::default();
    let mut written: Vec<&Description> = Vec::new();
    for description in descriptions {
        if !written.contains(&description) {
            document.add(description, descriptions.len() > 1);
            written.push(description);
        }
    }
    let mut info = json!({ "title": title, "version": version });
    if !summary.is_empty() {
        info["description"] = json!(summary);
    }
    if written.len() > 1 {
        let services: BTreeSet<_> =
            written.iter().map(|service| format!("{} {}", service.service, service.version)).collect();
        info["x-aether-services"] = json!(services);
    }
    json!({
        "asyncapi": ASYNCAPI_VERSION,
        "info": info,
        "defaultContentType": "application/json",
        "channels": document.channels,
        "operations": document.operations,
        "components": { "schemas": document.schemas },
    })
}

#[derive(Default)]
struct Document {
    channels: Map<String, Value>,
    /// The keys of the channels by pattern.
    keys: BTreeMap<String, String>,
    operations: Map<String, Value>,
    schemas: Map<String, Value>,
}

impl Document {
    fn add(&mut self, description: &Description, is_one_of_several: bool) {
        let service = key(&description.service);
        let mut renamed: BTreeMap<&str, String> = BTreeMap::new();
        for name in description.schemas.keys() {
            let wanted = if is_one_of_several { format!("{service}.{name}") } else { name.clone() };
            let name_here = unused(&self.schemas, wanted);
            // Taken, so that the next one gets another name.
            self.schemas.insert(name_here.clone(), Value::Null);
            renamed.insert(name, name_here);
        }
        let rename = |mut schema: Value| {
            rename(&mut schema, &|name| renamed.get(name).cloned());
            schema
        };
        for (name, schema) in &description.schemas {
            self.schemas.insert(renamed[name.as_str()].clone(), rename(schema.clone()));
        }
        for operation in &description.operations {
            self.operation(&service, operation, &rename);
        }
    }

    fn operation(&mut self, service: &str, operation: &Operation, rename: &impl Fn(Value) -> Value) {
        let channel = self.channel(&operation.pattern);
        let name = format!("{service}.{}.{channel}", operation.action.as_str());
        let name = unused(&self.operations, name);
        let message = self.message(&channel, &name, &operation.message, rename);
        let mut written = json!({
            "action": operation.action.as_str(),
            "channel": { "$ref": format!("#/channels/{channel}") },
            "messages": [{ "$ref": message }],
        });
        if let Some(group) = operation.group.as_ref().filter(|_| operation.action == Action::Receive) {
            written["bindings"] = json!({ "nats": { "queue": group, "bindingVersion": "0.1.0" } });
        }
        if let Some(reply) = &operation.reply {
            // The address of the asker is known when it asks.
            let way_back = unused(&self.channels, format!("{channel}.reply"));
            self.channels.insert(way_back.clone(), json!({ "address": null, "messages": {} }));
            let message = self.message(&way_back, &format!("{name}.reply"), reply, rename);
            written["reply"] = json!({ "channel": { "$ref": format!("#/channels/{way_back}") }, "messages": [{ "$ref": message }] });
        }
        self.operations.insert(name, written);
    }

    /// The key of the channel of a pattern.
    fn channel(&mut self, pattern: &str) -> String {
        if let Some(key) = self.keys.get(pattern) {
            return key.clone();
        }
        let (mut parameters, mut address, mut wildcards) = (Map::new(), Vec::new(), 0);
        for token in pattern.split('.') {
            let (name, description) = match token {
                "*" => {
                    wildcards += 1;
                    (format!("token{wildcards}"), "One token.")
                }
                ">" => ("rest".to_owned(), "One token or more, separated by dots."),
                token => {
                    address.push(token.to_owned());
                    continue;
                }
            };
            address.push(format!("{{{name}}}"));
            parameters.insert(name, json!({ "description": description }));
        }
        let mut channel =
            json!({ "address": address.join("."), "messages": {}, "x-aether-pattern": pattern });
        if !parameters.is_empty() {
            channel["parameters"] = Value::Object(parameters);
        }
        let key = unused(&self.channels, key(&address.join(".")));
        self.channels.insert(key.clone(), channel);
        self.keys.insert(pattern.to_owned(), key.clone());
        key
    }

    /// Adds a message to a channel, and returns the reference to it.
    fn message(
        &mut self,
        channel: &str,
        name: &str,
        message: &Message,
        rename: &impl Fn(Value) -> Value,
    ) -> String {
        let mut written = json!({ "name": name });
        if let Some(content_type) = &message.content_type {
            written["contentType"] = json!(content_type);
        }
        if let Some(schema) = &message.schema {
            written["payload"] = rename(schema.clone());
        }
        self.channels[channel]["messages"][name] = written;
        format!("#/channels/{channel}/messages/{name}")
    }
}

/// A key for a name: what AsyncAPI does not allow becomes an underscore.
fn key(name: &str) -> String {
    let key =
        |char: char| if char.is_ascii_alphanumeric() || matches!(char, '.' | '-' | '_') { char } else { '_' };
    name.chars().filter(|char| !matches!(char, '{' | '}')).map(key).collect()
}

/// The name, or with a number if there is one already.
fn unused(taken: &Map<String, Value>, name: String) -> String {
    if !taken.contains_key(&name) {
        return name;
    }
    let mut number = 2_usize;
    loop {
        let other = format!("{name}_{number}");
        if !taken.contains_key(&other) {
            return other;
        }
        number += 1;
    }
}
