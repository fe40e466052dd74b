//! The messages of the gateway.

use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

use aether_field::core::{Count, Operation, Stamp};
use aether_field::{Names, PageEntry, SupersededValues};
use axum::extract::ws::Utf8Bytes;
use base64::Engine as _;
use bytes::Bytes;
use serde_json::json;

use super::version;
use crate::access::Rights;
use crate::field::effect::Outcome;
use crate::field::json::{checked, quoted};
use crate::field::limits::{REQUESTS_PER_MESSAGE, SecurityLimits};
use crate::field::selection::Selection;
use crate::field::slot::{Content, Slot};

/// The first message. `time` is in microseconds since 1970.
pub(super) fn hello(field: &str, id: &str, time: u64, rights: &Rights, limits: &SecurityLimits) -> String {
    json!({
        "type": "hello",
        "protocol": 1,
        "field": field,
        "id": id,
        "time": time as f64 / 1000.0,
        "read": texts(&rights.read),
        "write": texts(&rights.write),
        "limits": {
            "max_message_bytes": limits.max_message_bytes,
            "max_key_bytes": limits.max_key_bytes,
            "max_value_bytes": limits.max_value_bytes,
            "max_patterns": limits.max_patterns,
            "messages_per_second": limits.messages_per_second,
            "messages_burst": limits.messages_burst,
            "requests_per_message": REQUESTS_PER_MESSAGE,
        },
    })
    .to_string()
}

/// The rights of the client have changed.
pub(super) fn rights(rights: &Rights) -> String {
    json!({ "type": "token", "read": texts(&rights.read), "write": texts(&rights.write) }).to_string()
}

fn texts(names: &[Names]) -> Vec<String> {
    names.iter().map(Names::to_string).collect()
}

/// The answer to a ping. `time` is in microseconds since 1970.
pub(super) fn pong(id: Option<u64>, time: u64) -> String {
    json!({ "type": "pong", "id": id, "time": time as f64 / 1000.0 }).to_string()
}

/// A write is refused, or a message that has no number.
pub(in crate::field) fn refused(
    op: Option<u64>,
    code: &str,
    message: &str,
    retry_after: Option<Duration>,
) -> String {
    let mut reply = json!({ "type": "refused", "code": code, "message": message });
    if let Some(op) = op {
        reply["op"] = op.into();
    }
    if let Some(after) = retry_after {
        reply["retry_after_ms"] = (after.as_secs_f64() * 1000.0).ceil().into();
    }
    reply.to_string()
}

/// The outcome of a write: the acknowledgement and, if it lost, the present entry. A client that may not read the key
/// does not get the value.
pub(in crate::field) fn outcome(
    op: u64,
    operation: &Operation,
    outcome: &Outcome,
    may_read: bool,
) -> Vec<String> {
    match outcome {
        Outcome::Applied { version } => vec![ack(op, *version)],
        // Only writes without an identity have this outcome.
        Outcome::Unchanged => Vec::new(),
        Outcome::Lost { version, value, winner } => {
            let value = value.as_ref().filter(|_| may_read);
            vec![ack(op, *version), superseded_by(operation, *version, value, *winner)]
        }
        Outcome::Refused { code, message } => vec![refused(Some(op), code, message, None)],
    }
}

/// The outcome of an entry that its owner has signed.
pub(in crate::field) fn submitted(op: u64, outcome: &Outcome) -> Option<String> {
    match outcome {
        Outcome::Applied { version } => Some(ack(op, *version)),
        Outcome::Refused { code, message } => Some(refused(Some(op), code, message, None)),
        Outcome::Unchanged | Outcome::Lost { .. } => None,
    }
}

fn ack(op: u64, version: Stamp) -> String {
    format!(r#"{{"type":"ack","op":{op},"version":"{}"}}"#, version::write(version))
}

/// A write that was acknowledged has lost against a later one.
pub(in crate::field) fn superseded(values: &SupersededValues, may_read: bool) -> String {
    let SupersededValues { name, lost, lost_stamp, winner, stamp, .. } = values;
    let key = name.clone();
    let operation = match lost {
        Some(value) => Operation::Set { key, value: value.clone() },
        None => Operation::Delete { key },
    };
    superseded_by(&operation, *lost_stamp, winner.as_ref().filter(|_| may_read), *stamp)
}

fn superseded_by(
    operation: &Operation,
    version: Stamp,
    winner: Option<&Bytes>,
    winner_version: Option<Stamp>,
) -> String {
    // Writing to a string does not fail.
    let mut text = r#"{"type":"superseded""#.to_owned();
    let is_register = match operation {
        Operation::Insert { key, member: bytes } | Operation::Discard { key, member: bytes } => {
            let _ = write!(text, r#","set":{},"member":{}"#, quoted(key), member(bytes));
            false
        }
        Operation::Set { key, .. } | Operation::Delete { key } | Operation::Count { key, .. } => {
            let _ = write!(text, r#","key":{}"#, quoted(key));
            true
        }
    };
    let _ = write!(text, r#","version":"{}""#, version::write(version));
    if let Operation::Set { value, .. } = operation
        && let Some(lost) = checked(value)
    {
        let _ = write!(text, r#","lost":{lost}"#);
    }
    if let Some(winner) = winner.filter(|_| is_register).and_then(|winner| checked(winner)) {
        let _ = write!(text, r#","value":{winner}"#);
    }
    if let Some(version) = winner_version {
        let _ = write!(text, r#","by":"{}""#, version::write(version));
    }
    text.push('}');
    text
}

/// A write is on the disk of the gateway.
pub(in crate::field) fn durable(op: u64) -> String {
    format!(r#"{{"type":"durable","op":{op}}}"#)
}

/// A write is in the field, but not on the disk of the gateway.
pub(in crate::field) fn not_durable(op: u64, message: &str) -> String {
    json!({ "type": "not-durable", "op": op, "message": message }).to_string()
}

/// The answer to a subscription.
pub(in crate::field) fn subscribed(resumed: bool, epoch: &str, revision: u64) -> String {
    format!(r#"{{"type":"subscribed","resumed":{resumed},"epoch":"{epoch}","revision":{revision}}}"#)
}

/// The entry of a slot; `None` if the value of another replica is not JSON.
pub(in crate::field) fn entry(slot: &Slot, content: &Content) -> Option<String> {
    match (slot, content) {
        (Slot::Register(name), Content::Register { value, version }) => {
            end_of_register(format!(r#"{{"key":{}"#, quoted(name)), value.as_ref(), *version)
        }
        (Slot::Owned(owner, name), Content::Register { value, version }) => {
            let text = format!(r#"{{"owner":{},"key":{}"#, quoted(owner), quoted(name));
            end_of_register(text, value.as_ref(), *version)
        }
        (Slot::Counter(name), Content::Counter { sum }) => Some(counter(name, *sum, None)),
        (Slot::Member(name, bytes), Content::Member { version }) => {
            let (name, member, present) = (quoted(name), member(bytes), version.is_some());
            let version = version.map(|version| format!(r#","version":"{}""#, version::write(version)));
            let version = version.unwrap_or_default();
            Some(format!(r#"{{"set":{name},"member":{member},"present":{present}{version}}}"#))
        }
        _ => None,
    }
}

/// The entry of a counter, and how much of its sum the client itself has added.
pub(in crate::field) fn counter(name: &str, sum: i128, own: Option<Count>) -> String {
    let own =
        own.map_or_else(String::new, |Count { up, down }| format!(r#","own":{{"up":{up},"down":{down}}}"#));
    format!(r#"{{"counter":{},"sum":{sum}{own}}}"#, quoted(name))
}

/// The value and the version of a register.
fn end_of_register(mut text: String, value: Option<&Bytes>, version: Option<Stamp>) -> Option<String> {
    if let Some(value) = value {
        let _ = write!(text, r#","value":{}"#, checked(value)?);
    }
    if let Some(version) = version {
        let _ = write!(text, r#","version":"{}""#, version::write(version));
    }
    text.push('}');
    Some(text)
}

/// The entry of a page of the field.
pub(in crate::field) fn page_entry(entry: &PageEntry) -> Option<String> {
    let (slot, content) = match entry {
        PageEntry::Register { name, value, stamp } => (
            Slot::Register(name.into()),
            Content::Register { value: Some(value.clone()), version: Some(*stamp) },
        ),
        PageEntry::Counter { name, sum } => (Slot::Counter(name.into()), Content::Counter { sum: *sum }),
        PageEntry::Member { name, member, stamp } => {
            (Slot::Member(name.into(), member.clone()), Content::Member { version: Some(*stamp) })
        }
        PageEntry::Owned { owner, name, value, stamp } => (
            Slot::Owned(owner.into(), name.into()),
            Content::Register { value: Some(value.clone()), version: Some(*stamp) },
        ),
        _ => return None,
    };
    self::entry(&slot, &content)
}

fn member(bytes: &Bytes) -> String {
    match std::str::from_utf8(bytes) {
        Ok(text) => quoted(text),
        Err(_) => format!(r#"{{"base64":"{}"}}"#, base64::engine::general_purpose::STANDARD.encode(bytes)),
    }
}

/// Changes. Afterwards the client knows everything up to this revision.
pub(in crate::field) fn changes(epoch: &str, revision: u64, entries: &[Utf8Bytes]) -> String {
    let mut text = format!(r#"{{"type":"changes","epoch":"{epoch}","revision":{revision},"entries":["#);
    join(&mut text, entries.iter().map(Utf8Bytes::as_str));
    text.push_str("]}");
    text
}

/// Nothing has changed, but the client may now resume from here.
pub(in crate::field) fn cursor(epoch: &str, revision: u64) -> String {
    format!(r#"{{"type":"cursor","epoch":"{epoch}","revision":{revision}}}"#)
}

/// A part of a snapshot: whether it is the first, how many entries were sent with it, and how many the whole has at
/// most. The last part has the cursor. `only` is what is read, if it is not the whole subscription.
pub(in crate::field) fn snapshot(
    entries: &[String],
    (is_first, sent, at_most): (bool, u64, u64),
    cursor: Option<&(Arc<str>, u64)>,
    only: Option<&Selection>,
) -> String {
    let done = cursor.is_some();
    let mut text =
        format!(r#"{{"type":"snapshot","first":{is_first},"sent":{sent},"at_most":{at_most},"done":{done}"#);
    if let Some(only) = only {
        let (patterns, owners) = only.patterns();
        let _ = write!(text, r#","patterns":{},"owners":{}"#, json!(patterns), json!(owners));
    }
    if let Some((epoch, revision)) = cursor {
        let _ = write!(text, r#","epoch":"{epoch}","revision":{revision}"#);
    }
    text.push_str(r#","entries":["#);
    join(&mut text, entries.iter().map(String::as_str));
    text.push_str("]}");
    text
}

/// A participant has come, changed, or left. It is about these names, of those that the client may read.
pub(in crate::field) fn presence(id: &str, value: Option<&[u8]>, about: &[Names]) -> Option<String> {
    let id = quoted(id);
    Some(match value {
        Some(value) => {
            let (patterns, value) = (json!(texts(about)), checked(value)?);
            format!(r#"{{"type":"presence","id":{id},"patterns":{patterns},"value":{value}}}"#)
        }
        None => format!(r#"{{"type":"presence-leave","id":{id}}}"#),
    })
}

fn join<'a>(to: &mut String, entries: impl Iterator<Item = &'a str>) {
    for (at, entry) in entries.enumerate() {
        if at > 0 {
            to.push(',');
        }
        to.push_str(entry);
    }
}
