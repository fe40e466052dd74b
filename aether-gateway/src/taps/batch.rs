//! Waves that go to clients together, written once for all of them.

use std::sync::{Arc, OnceLock};

use aether_core::Wave;
use axum::extract::ws::Utf8Bytes;
use bytes::Bytes;

use super::record;

/// A wave that was observed, and its JSON once somebody needs it.
#[derive(Debug)]
pub(crate) struct Seen {
    pub(super) wave: Wave,
    json: OnceLock<String>,
}

/// Waves in the order of their arrival. Each text is written by the first client that sends it; the others share it.
#[derive(Debug)]
pub(crate) struct Batch {
    waves: Vec<Arc<Seen>>,
    /// For the first number of a subscription that was asked for. Most clients use the same.
    message: OnceLock<(u64, Utf8Bytes)>,
    events: OnceLock<Bytes>,
}

impl Seen {
    pub(super) fn new(wave: &Wave) -> Arc<Self> {
        Arc::new(Self { wave: wave.clone().unanswerable(), json: OnceLock::new() })
    }

    pub(crate) fn json(&self) -> &str {
        self.json.get_or_init(|| record::json(&self.wave, record::MAX_SHOWN))
    }
}

impl Batch {
    pub(super) fn new(waves: Vec<Arc<Seen>>) -> Self {
        Self { waves, message: OnceLock::new(), events: OnceLock::new() }
    }

    pub(super) fn len(&self) -> usize {
        self.waves.len()
    }

    /// A message of `/ws` for the subscription of this number.
    pub(crate) fn message(&self, id: u64, missed: u64) -> Utf8Bytes {
        if missed > 0 {
            return message(id, missed, &self.waves);
        }
        let (of, shared) = self.message.get_or_init(|| (id, message(id, 0, &self.waves)));
        if *of == id { shared.clone() } else { message(id, 0, &self.waves) }
    }

    /// Events of `/waves`.
    pub(crate) fn events(&self) -> Bytes {
        let write = || {
            let mut text = String::new();
            for wave in &self.waves {
                text.push_str("event: wave\ndata: ");
                // JSON on one line: a payload may be written over several.
                text.extend(wave.json().chars().filter(|character| !matches!(character, '\n' | '\r')));
                text.push_str("\n\n");
            }
            text.into()
        };
        self.events.get_or_init(write).clone()
    }
}

/// A message of `/ws` with these waves, or with none.
pub(crate) fn message(id: u64, missed: u64, waves: &[Arc<Seen>]) -> Utf8Bytes {
    let mut text = format!(r#"{{"op":"waves","id":{id},"missed":{missed},"waves":["#);
    text.reserve(waves.iter().map(|wave| wave.json().len() + 1).sum::<usize>() + 2);
    for (at, wave) in waves.iter().enumerate() {
        if at > 0 {
            text.push(',');
        }
        text.push_str(wave.json());
    }
    text.push_str("]}");
    text.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clients_with_the_same_number_share_the_bytes_of_a_message() {
        let batch = Batch::new(vec![Seen::new(&Wave::from_bytes("a", "1").unwrap())]);
        let (one, two) = (batch.message(1, 0), batch.message(1, 0));
        assert_eq!(one.as_str().as_ptr(), two.as_str().as_ptr());
        assert_eq!(batch.events().as_ptr(), batch.events().as_ptr());
        for (id, missed) in [(2, 0), (1, 7)] {
            let own: serde_json::Value = serde_json::from_str(&batch.message(id, missed)).unwrap();
            assert_eq!((&own["id"], &own["missed"]), (&id.into(), &missed.into()));
            assert_eq!(own["waves"][0]["channel"], "a");
        }
        assert!(one.contains(r#""id":1,"missed":0"#));
    }
}
