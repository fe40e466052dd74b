//! References between the schemas of a description: they are checked, and renamed when descriptions are united.

use std::collections::BTreeMap;

use serde_json::Value;

use super::error::DescriptionError;

/// The part of a reference before the name of a schema.
pub(super) const SCHEMAS: &str = "#/components/schemas/";

/// The keywords with which a schema refers to another one, or changes what references mean.
const KEYWORDS: [&str; 6] = ["$ref", "$id", "id", "$dynamicRef", "$recursiveRef", "$anchor"];

/// Checks that a schema refers to nothing but these schemas.
pub(super) fn check_references(
    schema: &Value,
    schemas: &BTreeMap<String, Value>,
) -> Result<(), DescriptionError> {
    if !matches!(schema, Value::Object(_) | Value::Bool(_)) {
        return Err(DescriptionError::Schema);
    }
    check_inside(schema, schemas)
}

fn check_inside(value: &Value, schemas: &BTreeMap<String, Value>) -> Result<(), DescriptionError> {
    match value {
        Value::Object(members) => members.iter().try_for_each(|(key, value)| match value {
            Value::String(given) if KEYWORDS.contains(&key.as_str()) => {
                let name = given.strip_prefix(SCHEMAS).filter(|_| key == "$ref");
                match name.is_some_and(|name| schemas.contains_key(name)) {
                    true => Ok(()),
                    false => Err(DescriptionError::Reference { given: given.clone() }),
                }
            }
            value => check_inside(value, schemas),
        }),
        Value::Array(items) => items.iter().try_for_each(|item| check_inside(item, schemas)),
        _ => Ok(()),
    }
}

/// Renames the schemas that are referred to. A name for which there is no other one stays.
pub(super) fn rename(value: &mut Value, renamed: &impl Fn(&str) -> Option<String>) {
    match value {
        Value::Object(members) => {
            for (key, value) in members {
                match value {
                    Value::String(given) if key == "$ref" => {
                        if let Some(name) = given.strip_prefix(SCHEMAS).and_then(renamed) {
                            *given = format!("{SCHEMAS}{name}");
                        }
                    }
                    value => rename(value, renamed),
                }
            }
        }
        Value::Array(items) => items.iter_mut().for_each(|item| rename(item, renamed)),
        _ => {}
    }
}

/// Whether a value refers to one of these schemas.
pub(super) fn refers(value: &Value, to: &impl Fn(&str) -> bool) -> bool {
    match value {
        Value::Object(members) => members.iter().any(|(key, value)| match value {
            Value::String(given) if key == "$ref" => given.strip_prefix(SCHEMAS).is_some_and(to),
            value => refers(value, to),
        }),
        Value::Array(items) => items.iter().any(|item| refers(item, to)),
        _ => false,
    }
}
