//! One line of text for a wave, as failure messages print it.

use std::fmt::Write as _;
use std::time::Duration;

use aether_core::{Phase, Wave, WaveId};

/// The longest payload or metadata value that is printed, in characters.
const MAX_CHARS: usize = 120;

/// A point in time as seconds with milliseconds.
pub(crate) fn seconds(at: Duration) -> String {
    format!("{:.3} s", at.as_secs_f64())
}

/// Kind, channel, source, amplitude and the rarer parts of a wave.
pub(crate) fn described(wave: &Wave, source: &str, cause: Option<&str>) -> String {
    let mut line = format!(
        "{:<8}  {:<24}  from {source:<12}  {:.2}",
        wave.kind().as_str(),
        wave.channel().as_str(),
        wave.amplitude().as_f32()
    );
    // Writing to a String cannot fail.
    if wave.phase() != Phase::ASSERT {
        let _ = match wave.phase() == Phase::RETRACT {
            true => write!(line, "  retracts"),
            false => write!(line, "  phase={:.2}", wave.phase().radians()),
        };
    }
    if let Some(key) = wave.key() {
        let _ = write!(line, "  key={key}");
    }
    if let Some(cause) = cause {
        let _ = write!(line, "  because of {cause}");
    }
    for (name, value) in wave.metadata().iter() {
        let _ = write!(line, "  {name}={}", clipped(value));
    }
    let payload = payload(wave);
    if !payload.is_empty() {
        let _ = write!(line, "  {payload}");
    }
    line
}

/// The payload as text, or its length if it is not text.
pub(crate) fn payload(wave: &Wave) -> String {
    match wave.text() {
        Ok(text) if !text.contains(char::is_control) => clipped(text),
        _ => format!("<{} bytes>", wave.payload().len()),
    }
}

fn clipped(text: &str) -> String {
    match text.char_indices().nth(MAX_CHARS) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

/// The id of a wave without the random number of its source: `shop/3`.
pub(crate) fn short_id(id: &WaveId) -> String {
    format!("{}/{}", id.source.name(), id.sequence)
}

/// One line of a failure message.
pub(crate) fn seen_line(wave: &Wave, at: Duration) -> String {
    let cause = wave.cause().map(short_id);
    format!("{:>10}  {}", seconds(at), described(wave, &short_id(&wave.id()), cause.as_deref()).trim_end())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_payload_is_clipped_and_a_binary_one_is_counted() {
        let text = Wave::builder("a").text("ä".repeat(200)).build().unwrap();
        assert_eq!(payload(&text), format!("{}…", "ä".repeat(120)));
        let bytes = Wave::builder("a").bytes(vec![0, 159, 146]).build().unwrap();
        assert_eq!(payload(&bytes), "<3 bytes>");
    }
}
