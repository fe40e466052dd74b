//! Protocol 0.4 of the sync engine, as its published clients speak it. No socket and no clock.
//!
//! Messages are JSON objects in text frames; `docs/protocol/field-websocket.md` has them all. Bad input is dropped and
//! counted, and the connection stays.

use std::borrow::Cow;
use std::collections::HashMap;
use std::fmt::Write as _;

use aether_field::Names;
use aether_field::core::Operation;
use bytes::Bytes;
use serde_json::value::RawValue;
use sha1::{Digest as _, Sha1};

use super::counts::Refused;
use super::effect::{Announcement, Close, Effect, Since, Subscription, Write};
use super::json;
use super::limits::SecurityLimits;
use super::selection::Selection;
use super::slot::{Content, Slot};
use crate::access::{FieldAccess, Rights};

/// One connection.
#[derive(Debug)]
pub(super) struct Session {
    field: String,
    id: String,
    access: FieldAccess,
    limits: SecurityLimits,
    rights: Option<Rights>,
    token: Option<String>,
}

impl Session {
    pub(super) fn new(field: &str, id: &str, access: FieldAccess, limits: SecurityLimits) -> Self {
        Self { field: field.to_owned(), id: id.to_owned(), access, limits, rights: None, token: None }
    }

    pub(super) const fn is_admitted(&self) -> bool {
        self.rights.is_some()
    }

    /// The connection is open. The token is the one of the URL.
    pub(super) fn open(&mut self, token: Option<&str>) -> Vec<Effect> {
        match (self.access.rights(&self.field, token), token) {
            (Ok(rights), _) => self.admit(rights, token),
            (Err(_), Some(_)) => turned_away(),
            (Err(_), None) => Vec::new(),
        }
    }

    /// The client has not authenticated in time.
    pub(super) fn timed_out() -> Vec<Effect> {
        vec![Effect::Count(Refused::Handshake), Effect::Close(Close::AUTH_FAILED)]
    }

    /// A message has come.
    pub(super) fn receive(&mut self, text: &str) -> Vec<Effect> {
        let Some(rights) = &self.rights else {
            let token = self.message(text).ok().filter(|fields| kind(fields).as_deref() == Some("auth"));
            let token = token.and_then(|fields| string(fields.get("token")?));
            return self.authenticate(token.as_deref());
        };
        match self.read(text, rights) {
            Ok(effect) => effect.into_iter().collect(),
            Err(refused) => vec![Effect::Count(refused)],
        }
    }

    fn authenticate(&mut self, token: Option<&str>) -> Vec<Effect> {
        match token.map(|token| self.access.rights(&self.field, Some(token))) {
            Some(Ok(rights)) => self.admit(rights, token),
            Some(Err(_)) | None => turned_away(),
        }
    }

    /// Looks up the rights of the token again: they may have changed, or the token may be gone.
    pub(super) fn check_rights(&self) -> Vec<Effect> {
        let Some(rights) = &self.rights else { return Vec::new() };
        match self.access.rights(&self.field, self.token.as_deref()) {
            Ok(present) if present == *rights => Vec::new(),
            // It connects again, and gets what it may read now.
            Ok(_) => vec![Effect::Close(Close::RIGHTS_CHANGED)],
            Err(_) => turned_away(),
        }
    }

    fn admit(&mut self, rights: Rights, token: Option<&str>) -> Vec<Effect> {
        let selection = Selection::readable(&[Names::of("*")], &[], &rights);
        (self.rights, self.token) = (Some(rights.clone()), token.map(str::to_owned));
        let subscription = Subscription { selection, since: Since::Start, presence: Some(true) };
        vec![
            Effect::Admit { writer: None, rights, token: token.map(str::to_owned) },
            Effect::Reply(hello(&self.id)),
            Effect::Subscribe(subscription),
        ]
    }

    fn message<'a>(&self, text: &'a str) -> Result<HashMap<Cow<'a, str>, &'a RawValue>, Refused> {
        if text.len() > self.limits.max_message_bytes {
            return Err(Refused::Message);
        }
        serde_json::from_str(text).map_err(|_| Refused::Json)
    }

    fn read(&self, text: &str, rights: &Rights) -> Result<Option<Effect>, Refused> {
        let fields = self.message(text)?;
        let write = |operation| Ok(Some(Effect::Write(Write { operation, about: None })));
        match kind(&fields).as_deref() {
            Some("presence") => {
                let coordinate = |name| fields.get(name).map_or(Some(0), |value| integer(value));
                let (Some(x), Some(y)) = (coordinate("x"), coordinate("y")) else {
                    return Err(Refused::Json);
                };
                let Some(about) = rights.of_participant() else { return Err(Refused::Right) };
                let value = format!(r#"{{"x":{x},"y":{y}}}"#);
                Ok(Some(Effect::Announce(None, Some(Announcement { about, value }))))
            }
            Some("set") => {
                let key = self.key(&fields, rights)?;
                let value = fields.get("value").map_or(Ok("null".to_owned()), |value| json::compact(value));
                let value = value.map_err(|_| Refused::Json)?;
                if value.len() > self.limits.max_value_bytes {
                    return Err(Refused::Value);
                }
                // A field holds no null: a key without a value is absent.
                if value == "null" {
                    return write(Operation::Delete { key });
                }
                write(Operation::Set { key, value: Bytes::from(value) })
            }
            Some("delete") => write(Operation::Delete { key: self.key(&fields, rights)? }),
            // Further auth messages, and the messages of later versions.
            Some(_) => Ok(None),
            None => Err(Refused::Json),
        }
    }

    fn key(&self, fields: &HashMap<Cow<'_, str>, &RawValue>, rights: &Rights) -> Result<String, Refused> {
        let key = fields.get("key").and_then(|key| string(key)).ok_or(Refused::Key)?;
        if key.is_empty() || key.len() > self.limits.max_key_bytes {
            return Err(Refused::Key);
        }
        if !rights.may_write(&key) {
            return Err(Refused::Right);
        }
        Ok(key.into_owned())
    }
}

fn turned_away() -> Vec<Effect> {
    vec![Effect::Count(Refused::Token), Effect::Close(Close::AUTH_FAILED)]
}

fn kind<'a>(fields: &HashMap<Cow<'a, str>, &'a RawValue>) -> Option<Cow<'a, str>> {
    string(fields.get("type")?)
}

fn string(value: &RawValue) -> Option<Cow<'_, str>> {
    serde_json::from_str(value.get()).map(Cow::Owned).ok()
}

/// Whole numbers, and what the published server makes into one: fractions without their fraction, numbers as text, and
/// truth values.
fn integer(value: &RawValue) -> Option<i64> {
    match serde_json::from_str(value.get()).ok()? {
        serde_json::Value::Number(number) => {
            let whole = number.as_f64().map(f64::trunc).filter(|whole| whole.abs() < 9.0e15);
            number.as_i64().or_else(|| whole.map(|whole| whole as i64))
        }
        serde_json::Value::String(text) => text.trim().parse().ok(),
        serde_json::Value::Bool(truth) => Some(truth.into()),
        _ => None,
    }
}

/// The colour of a client: the same at all gateways.
fn colour(id: &str) -> String {
    let digest = Sha1::digest(id.as_bytes());
    let hue = (u32::from(digest[0]) << 16 | u32::from(digest[1]) << 8 | u32::from(digest[2])) % 360;
    format!("hsl({hue}, 78%, 62%)")
}

fn hello(id: &str) -> String {
    format!(r#"{{"type":"hello","id":{},"color":"{}"}}"#, json::quoted(id), colour(id))
}

/// The message of a change. Counters and sets have none.
pub(super) fn change(slot: &Slot, content: &Content) -> Option<String> {
    let (Slot::Register(name), Content::Register { value, .. }) = (slot, content) else { return None };
    let key = json::quoted(name);
    match value {
        Some(value) => Some(format!(r#"{{"type":"set","key":{key},"value":{}}}"#, json::checked(value)?)),
        None => Some(deleted(name)),
    }
}

/// The message of a key that has no value.
pub(super) fn deleted(key: &str) -> String {
    format!(r#"{{"type":"delete","key":{}}}"#, json::quoted(key))
}

/// The message of a participant, if it is one that has a place on a page: with `x` and `y`.
pub(super) fn presence(id: &str, value: Option<&[u8]>) -> Option<String> {
    let quoted = json::quoted(id);
    let Some(value) = value else {
        return Some(format!(r#"{{"type":"presence-leave","id":{quoted}}}"#));
    };
    let fields: HashMap<Cow<'_, str>, &RawValue> = serde_json::from_slice(value).ok()?;
    let (x, y) = (integer(fields.get("x")?)?, integer(fields.get("y")?)?);
    let colour = colour(id);
    Some(format!(r#"{{"type":"presence","id":{quoted},"color":"{colour}","x":{x},"y":{y}}}"#))
}

/// A snapshot, which grows by one register after the other.
#[derive(Debug)]
pub(super) struct Snapshot(String);

impl Snapshot {
    pub(super) fn new() -> Self {
        Self(r#"{"type":"snapshot","data":{"#.to_owned())
    }

    /// Returns whether the value is JSON. Nothing is added otherwise.
    pub(super) fn add(&mut self, name: &str, value: &[u8]) -> bool {
        let Some(value) = json::checked(value) else { return false };
        let comma = if self.0.ends_with('{') { "" } else { "," };
        // Writing to a string does not fail.
        let _ = write!(self.0, "{comma}{}:{value}", json::quoted(name));
        true
    }

    pub(super) fn finish(mut self) -> String {
        self.0.push_str("}}");
        self.0
    }
}

#[cfg(test)]
#[path = "v04/tests.rs"]
mod tests;
