//! Dead letters as text and as JSON.

use std::fmt::Write as _;
use std::time::Duration;

use aether_core::Wave;
use aether_service::letters::LetterRecord;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use crate::record::{Payload, printable};

/// A letter in a list.
pub(super) fn listed(as_json: bool, service: &str, letter: &LetterRecord) -> String {
    if as_json { json(service, letter) } else { line(service, letter) }
}

/// A letter as one JSON object, with its payload as JSON, text or bytes.
pub(super) fn json(service: &str, letter: &LetterRecord) -> String {
    // Texts and numbers can always be written.
    let mut value = serde_json::to_value(letter).unwrap_or_default();
    if let Value::Object(fields) = &mut value {
        if !service.is_empty() {
            fields.insert("service".to_owned(), service.into());
        }
        if letter.payload.is_some() {
            fields.remove("payload");
        }
    }
    let mut text = value.to_string();
    if let Some(payload) = payload(letter)
        && let Ok(payload) = serde_json::to_string(&Payload::of(&payload))
        && text.pop().is_some()
    {
        // Appended as it is, so that long numbers keep their digits.
        let _ = write!(text, ",\"payload\":{payload}}}");
    }
    text
}

/// A letter as one line for people.
pub(super) fn line(service: &str, letter: &LetterRecord) -> String {
    let LetterRecord { id, amplitude, channel, reason, by, hint, age_ms, .. } = letter;
    let (service, by, hint) = (safe(service), safe(by), safe(hint));
    let (id, channel, reason) = (safe(id), safe(channel), safe(reason));
    let age = age(*age_ms);
    format!("{id}  {age:<9} {amplitude:<5.3} {channel:<22} {reason:<14} {service}: {hint} ({by})")
}

/// A letter with all it has, for people.
pub(super) fn whole(letter: &LetterRecord) -> String {
    let mut text = String::new();
    let mut field = |name: &str, value: &str| {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "{name:<10} {}", safe(value));
    };
    field("letter", &letter.id);
    field("channel", &letter.channel);
    field("kind", &letter.kind);
    field("amplitude", &format!("{:.3}", letter.amplitude));
    field("wave", &letter.wave);
    if let Some(key) = &letter.key {
        field("key", key);
    }
    if let Some(cause) = &letter.cause {
        field("cause", cause);
    }
    for (name, value) in &letter.metadata {
        field("metadata", &format!("{name}: {value}"));
    }
    field("kept", &format!("{} ago, attempts: {}", age(letter.age_ms), letter.attempts));
    field("failed", &format!("{} by {}: {}", letter.reason, letter.by, letter.hint));
    for failed in &letter.failed {
        field("attempt", &format!("{} failed {} ago: {}", failed.attempt, age(failed.age_ms), failed.error));
    }
    let payload = match payload(letter) {
        Some(wave) => Payload::of(&wave).to_string(),
        None => format!("of {} bytes is too large to be shown", letter.bytes),
    };
    field("payload", &payload);
    text.pop();
    text
}

pub(super) fn replayed(as_json: bool, id: &str, wave: &str) -> String {
    if as_json {
        json!({ "id": id, "wave": wave }).to_string()
    } else {
        format!("{} {}", safe(id), safe(wave))
    }
}

pub(super) fn dropped(as_json: bool, id: &str) -> String {
    if as_json { json!({ "id": id }).to_string() } else { safe(id) }
}

/// A wave with the payload of a letter.
fn payload(letter: &LetterRecord) -> Option<Wave> {
    let bytes = STANDARD.decode(letter.payload.as_ref()?).ok()?;
    let wave = Wave::builder("a").bytes(bytes);
    match &letter.content_type {
        Some(content_type) => wave.content_type(content_type),
        None => wave,
    }
    .build()
    .ok()
}

pub(crate) fn safe(text: &str) -> String {
    printable(text, usize::MAX)
}

/// With two units at most: `2m 3s`.
pub(crate) fn age(millis: u64) -> String {
    let age = match millis {
        0..1000 => Duration::from_millis(millis),
        1000..3_600_000 => Duration::from_secs(millis / 1000),
        _ => Duration::from_secs(millis / 60_000 * 60),
    };
    humantime::format_duration(age).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn letter() -> LetterRecord {
        let mut fields = json!({
            "id": "1f-17", "channel": "orders.pay", "kind": "command", "amplitude": 0.9, "wave": "shop@1/7",
            "reason": "handler_failed", "hint": "no\u{1b}[2J card", "by": "till", "attempts": 2, "age_ms": 123_456,
            "bytes": 24, "content_type": "application/json",
            "failed": [{ "attempt": 0, "age_ms": 124_000, "error": "timed out" }],
        });
        fields["payload"] = STANDARD.encode("{\"n\":12345678901234567890.10}").into();
        serde_json::from_value(fields).unwrap()
    }

    #[test]
    fn json_keeps_the_digits_of_the_payload_and_names_the_service() {
        let text = json("till", &letter());
        assert!(text.contains("\"payload\":{\"n\":12345678901234567890.10}}"), "{text}");
        let value: Value = serde_json::from_str(&text).unwrap();
        assert_eq!((&value["service"], &value["id"]), (&json!("till"), &json!("1f-17")));
        let listed = LetterRecord { payload: None, failed: Vec::new(), ..letter() };
        let value: Value = serde_json::from_str(&json("till", &listed)).unwrap();
        assert!(value.get("payload").is_none() && value.get("failed").is_none());
    }

    #[test]
    fn text_is_for_people_and_cannot_control_the_terminal() {
        let line = line("till", &letter());
        assert!(line.starts_with("1f-17  2m 3s") && line.contains("no\\u{1b}[2J card"), "{line}");
        let whole = whole(&letter());
        assert!(whole.contains("attempt    0 failed 2m 4s ago: timed out"), "{whole}");
        assert!(!whole.contains('\u{1b}'));
        assert_eq!((age(250), age(7_260_000)), ("250ms".to_owned(), "2h 1m".to_owned()));
    }
}
