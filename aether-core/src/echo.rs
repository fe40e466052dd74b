//! Reflection: a command or query that failed comes back to its source. Ordinary terms: error return, dead letter.
//!
//! The router, the inboxes, the outbox and [`Emitter::reflect`](crate::Emitter::reflect) report failures to the
//! `Reflector` of their [`Aether`](crate::Aether); that one tells the source, whose [`Vibrator`](crate::Vibrator)
//! takes its echoes from an [`Echoes`], or keeps the wave in the [`DeadLetters`]. This file says what an echo is and
//! how it is written on the reserved channel of its source. It neither queues nor sends.

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
    /// Nobody hears its channel.
    NoResonator,
    /// Its receiver refused it: trying again will not help.
    Rejected,
    /// Its receiver failed at it.
    HandlerFailed,
    /// It decayed below the noise floor while it waited.
    Expired,
    /// It was dropped on purpose: an inbox or an outbox was full, it was below the noise floor, it waited too long, or
    /// the receiver went away.
    Shed,
    /// It was relayed from medium to medium as often as is allowed.
    TooFar,
}

impl EchoReason {
    /// The lower-case name, as it travels and as used in metrics: `no_resonator`, `rejected`, `handler_failed`,
    /// `expired`, `shed`, `too_far`.
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

/// An echo: one or more waves that failed for one reason, told to their source. Ordinary term: an error return.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Echo {
    /// The wave; of several the first.
    pub of: WaveId,
    /// Where that wave was sent.
    pub channel: Channel,
    /// Why it was not handled.
    pub reason: EchoReason,
    /// What else is known, for people: one line of at most [`MAX_HINT_BYTES`] bytes.
    pub hint: String,
    /// The name of the vibrator that could not handle it; `-` where there was none.
    pub by: String,
    /// How many failures of this reason it stands for. Above 1 where so many came at once that they were merged.
    pub count: u64,
}

/// The name of a failure's place where it was at no vibrator.
pub(crate) const NOBODY: &str = "-";

impl Echo {
    /// The echo of one wave.
    pub(crate) fn new(wave: &Wave, reason: EchoReason, hint: &str, by: &str) -> Self {
        let hint = shortened(hint).into_owned();
        Self { of: wave.id(), channel: wave.channel().clone(), reason, hint, by: by.to_owned(), count: 1 }
    }
}

/// One line that fits.
fn shortened(hint: &str) -> Cow<'_, str> {
    let hint = &hint[..hint.floor_char_boundary(MAX_HINT_BYTES)];
    if hint.contains(char::is_control) {
        Cow::Owned(hint.replace(char::is_control, " "))
    } else {
        Cow::Borrowed(hint)
    }
}

/// Where a source hears its echoes: a channel for each instance.
pub(crate) fn channel_of(instance: u64) -> Result<Channel, crate::wave::ChannelError> {
    Channel::with_reserved(&format!("_aether.echo.{instance:x}"))
}

pub(crate) fn pattern_of(instance: u64) -> Result<Pattern, crate::wave::ChannelError> {
    channel_of(instance).map(|channel| Pattern::from(&channel))
}

/// An echo as it is written, in JSON: see `protocol/README.md`.
#[derive(Serialize, Deserialize)]
struct EchoRecord<'a> {
    of: Cow<'a, str>,
    channel: Cow<'a, str>,
    reason: EchoReason,
    hint: Cow<'a, str>,
    by: Cow<'a, str>,
    count: u64,
}

/// Echoes of one source as the payload of one wave.
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
    // A list of texts and numbers can always be written.
    serde_json::to_vec(&written).unwrap_or_default()
}

/// The echoes in a payload; nothing if it is malformed. A payload is taken whole or refused whole.
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
    fn the_payload_is_written_as_the_protocol_says() {
        let protocol = include_str!("../../protocol/README.md");
        assert!(protocol.contains(DOCUMENTED), "protocol/README.md shows this payload");
        let echoes = read(DOCUMENTED.as_bytes()).unwrap();
        let [echo] = &*echoes else { panic!("{echoes:?}") };
        assert_eq!((echo.of.sequence, echo.reason, echo.count), (17, EchoReason::Shed, 3));
        assert_eq!(write(&echoes), DOCUMENTED.as_bytes());
    }

    #[test]
    fn what_is_malformed_is_refused_whole() {
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
    fn the_reasons_are_written_as_they_are_named() {
        use EchoReason::*;
        for reason in [NoResonator, Rejected, HandlerFailed, Expired, Shed, TooFar] {
            assert_eq!(serde_json::to_value(reason).unwrap(), reason.as_str());
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_back(hints in prop::collection::vec(any::<String>(), 0..5), count in 1..u64::MAX) {
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
        fn whatever_comes_is_read_or_refused(payload in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = read(&payload);
        }
    }
}
