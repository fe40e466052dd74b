//! Reflection: a command or query that failed is reported to its source. Ordinary terms: error return, dead letter.
//!
//! The router, the inboxes, the outbox and [`Emitter::reflect`](crate::Emitter::reflect) report failures to the
//! `Reflector` of their [`Aether`](crate::Aether). The reflector notifies the source, whose
//! [`Vibrator`](crate::Vibrator) receives its echoes from an [`Echoes`], or keeps the wave in the [`DeadLetters`]. This
//! file defines echoes and their encoding on the reserved channel of their source. It neither queues nor sends.

mod coalescing_queue;
mod dead_letters;
mod echoes;
mod mailbox;
mod reflector;

pub use dead_letters::{DeadLetter, DeadLetterCounts, DeadLetters, ReplayError};
pub use echoes::{Echoes, EchoesError};
pub(crate) use mailbox::EchoMailbox;
pub use reflector::EchoLedger;
pub(crate) use reflector::{Reflector, reflecting};

use std::borrow::Cow;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::channel::{Channel, Pattern};
use crate::source::WaveId;
use crate::wave::{MAX_HINT_BYTES, Wave};

/// Why a wave was not handled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum EchoReason {
    /// Its channel has no receiver.
    NoResonator,
    /// Its receiver rejected it; a retry will not help.
    Rejected,
    /// Its handler failed.
    HandlerFailed,
    /// It decayed below the noise floor while it waited.
    Expired,
    /// It was dropped on purpose: an inbox or outbox was full, it was below the noise floor, it waited too long, or the
    /// receiver left.
    Shed,
    /// It reached the maximum number of relays between media.
    TooFar,
}

impl EchoReason {
    /// The lower-case name, used on the wire and in metrics: `no_resonator`, `rejected`, `handler_failed`, `expired`,
    /// `shed`, `too_far`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::NoResonator => "no_resonator",
            Self::Rejected => "rejected",
            Self::HandlerFailed => "handler_failed",
            Self::Expired => "expired",
            Self::Shed => "shed",
            Self::TooFar => "too_far",
        }
    }
}

impl fmt::Display for EchoReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// An echo: a report to the source that one or more of its waves failed for one reason. Ordinary term: an error return.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Echo {
    /// The wave that failed; the first, if there were several.
    pub of: WaveId,
    /// The channel of that wave.
    pub channel: Channel,
    /// Why it was not handled.
    pub reason: EchoReason,
    /// Details for people: one line of at most [`MAX_HINT_BYTES`] bytes.
    pub hint: String,
    /// The name of the vibrator that failed to handle it; `-` if there was none.
    pub by: String,
    /// The number of failures it stands for. Above 1 if echoes were merged under load.
    pub count: u64,
}

/// Used as [`Echo::by`] if no vibrator was involved.
pub(crate) const NOBODY: &str = "-";

impl Echo {
    /// The echo of one wave.
    pub(crate) fn new(wave: &Wave, reason: EchoReason, hint: &str, by: &str) -> Self {
        let hint = shortened(hint).into_owned();
        Self { of: wave.id(), channel: wave.channel().clone(), reason, hint, by: by.to_owned(), count: 1 }
    }
}

/// The hint as one line, cut to the maximum length.
fn shortened(hint: &str) -> Cow<'_, str> {
    let hint = &hint[..hint.floor_char_boundary(MAX_HINT_BYTES)];
    if hint.contains(char::is_control) {
        Cow::Owned(hint.replace(char::is_control, " "))
    } else {
        Cow::Borrowed(hint)
    }
}

/// The channel on which a source receives its echoes, one for each instance.
pub(crate) fn channel_of(instance: u64) -> Result<Channel, crate::wave::ChannelError> {
    Channel::with_reserved(&format!("_aether.echo.{instance:x}"))
}

pub(crate) fn pattern_of(instance: u64) -> Result<Pattern, crate::wave::ChannelError> {
    channel_of(instance).map(|channel| Pattern::from(&channel))
}

/// The JSON encoding of an echo; see `protocol/README.md`.
#[derive(Serialize, Deserialize)]
struct EchoRecord<'a> {
    of: Cow<'a, str>,
    channel: Cow<'a, str>,
    reason: EchoReason,
    hint: Cow<'a, str>,
    by: Cow<'a, str>,
    count: u64,
}

/// Encodes echoes of one source as the payload of one wave.
pub(crate) fn write<'a>(echoes: impl IntoIterator<Item = &'a Echo>) -> Vec<u8> {
    let written: Vec<_> = echoes
        .into_iter()
        .map(|echo| EchoRecord {
            of: echo.of.to_string().into(),
            channel: echo.channel.as_str().into(),
            reason: echo.reason,
            hint: (&*echo.hint).into(),
            by: (&*echo.by).into(),
            count: echo.count,
        })
        .collect();
    // Text and numbers can always be encoded.
    serde_json::to_vec(&written).unwrap_or_default()
}

/// Decodes the echoes of a payload. `None` if any part is malformed.
pub(crate) fn read(payload: &[u8]) -> Option<Vec<Echo>> {
    let written: Vec<EchoRecord<'_>> = serde_json::from_slice(payload).ok()?;
    written
        .into_iter()
        .map(|echo| {
            Some(Echo {
                of: echo.of.parse().ok()?,
                channel: Channel::with_reserved(&echo.channel).ok()?,
                reason: echo.reason,
                hint: shortened(&echo.hint).into_owned(),
                by: shortened(&echo.by).into_owned(),
                count: echo.count.max(1),
            })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const DOCUMENTED: &str = r#"[{"of":"alpha@1f9a3c5b7d2e4f60/17","channel":"stock.reserve","reason":"shed","hint":"the inbox was full","by":"stock","count":3}]"#;

    #[test]
    fn the_payload_is_encoded_as_documented() {
        let protocol = include_str!("../../protocol/README.md");
        assert!(protocol.contains(DOCUMENTED), "protocol/README.md shows this payload");
        let echoes = read(DOCUMENTED.as_bytes()).unwrap();
        let [echo] = &*echoes else { panic!("{echoes:?}") };
        assert_eq!((echo.of.sequence, echo.reason, echo.count), (17, EchoReason::Shed, 3));
        assert_eq!(write(&echoes), DOCUMENTED.as_bytes());
    }

    #[test]
    fn a_malformed_payload_is_rejected_as_a_whole() {
        let cases = [
            "",
            "{}",
            "[{}]",
            "[1]",
            "null",
            &DOCUMENTED.replace("shed", "bored"),
            &DOCUMENTED.replace("/17", ""),
            &DOCUMENTED.replace("stock.reserve", "stock..reserve"),
            &DOCUMENTED.replace("3}", "-3}"),
        ];
        for bad in cases {
            assert_eq!(read(bad.as_bytes()), None, "{bad}");
        }
    }

    #[test]
    fn reasons_are_encoded_by_name() {
        use EchoReason::*;
        for reason in [NoResonator, Rejected, HandlerFailed, Expired, Shed, TooFar] {
            assert_eq!(serde_json::to_value(reason).unwrap(), reason.as_str());
        }
    }

    proptest! {
        #[test]
        fn encoded_payloads_are_read_back(hints in prop::collection::vec(any::<String>(), 0..5), count in 1..u64::MAX) {
            let wave = crate::wave::Wave::from_bytes("a.b", "x").unwrap();
            let echoes: Vec<_> = hints
                .iter()
                .map(|hint| Echo { count, ..Echo::new(&wave, EchoReason::Rejected, hint, "by") })
                .collect();
            for echo in &echoes {
                prop_assert!(echo.hint.len() <= MAX_HINT_BYTES && !echo.hint.contains(char::is_control));
            }
            prop_assert_eq!(read(&write(&echoes)), Some(echoes));
        }

        #[test]
        fn arbitrary_payloads_are_read_or_rejected(payload in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = read(&payload);
        }
    }
}
