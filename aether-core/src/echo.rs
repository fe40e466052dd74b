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
use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::channel::{Channel, Pattern};
use crate::source::WaveId;
use crate::wave::{Baggage, MAX_HINT_BYTES, Origin, Wave};

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
    /// The root of the request to which that wave belongs: [`Wave::root`].
    pub root: WaveId,
    /// The baggage of that wave.
    pub baggage: Baggage,
    /// The number of failures it stands for. Above 1 if echoes were merged under load.
    pub count: u64,
}

/// Used as [`Echo::by`] if no vibrator was involved.
pub(crate) const NOBODY: &str = "-";

impl Echo {
    /// The echo of one wave.
    pub(crate) fn new(wave: &Wave, reason: EchoReason, hint: &str, by: &str) -> Self {
        let hint = shortened(hint).into_owned();
        Self {
            of: wave.id(),
            channel: wave.channel().clone(),
            reason,
            hint,
            by: by.to_owned(),
            root: wave.root(),
            baggage: wave.baggage().clone(),
            count: 1,
        }
    }
}

/// For what follows from a failure: the wave that failed is the cause.
impl From<&Echo> for Origin {
    fn from(echo: &Echo) -> Self {
        Self::new(echo.of.clone(), echo.root.clone(), echo.baggage.clone())
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
    /// Left out if it is the wave itself.
    #[serde(default, borrow, skip_serializing_if = "Option::is_none")]
    root: Option<Cow<'a, str>>,
    #[serde(default, borrow, skip_serializing_if = "BTreeMap::is_empty")]
    baggage: BTreeMap<Cow<'a, str>, Cow<'a, str>>,
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
            root: (echo.root != echo.of).then(|| echo.root.to_string().into()),
            baggage: echo.baggage.iter().map(|(name, value)| (name.into(), value.into())).collect(),
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
            let of: WaveId = echo.of.parse().ok()?;
            let root = echo.root.map_or(Ok(of.clone()), |root| root.parse()).ok()?;
            Some(Echo {
                of,
                channel: Channel::with_reserved(&echo.channel).ok()?,
                reason: echo.reason,
                hint: shortened(&echo.hint).into_owned(),
                by: shortened(&echo.by).into_owned(),
                root,
                baggage: Baggage::of(echo.baggage.iter().map(|(name, value)| (&**name, &**value))).ok()?,
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
            &DOCUMENTED.replace("3}", "3,\"root\":\"alpha\"}"),
            &DOCUMENTED.replace("3}", "3,\"baggage\":{\"a b\":\"c\"}}"),
        ];
        for bad in cases {
            assert_eq!(read(bad.as_bytes()), None, "{bad}");
        }
    }

    #[test]
    fn root_and_baggage_travel_with_an_echo_and_what_follows_from_it_inherits_them() {
        const FOLLOWED: &str = r#"[{"of":"beta@2a/300","channel":"stock.reserve","reason":"rejected","hint":"no lamp","by":"stock","count":1,"root":"alpha@1f9a3c5b7d2e4f60/17","baggage":{"tenant":"acme"}}]"#;
        let protocol = include_str!("../../protocol/README.md");
        assert!(protocol.contains(FOLLOWED), "protocol/README.md shows this payload");
        let echoes = read(FOLLOWED.as_bytes()).unwrap();
        assert_eq!(write(&echoes), FOLLOWED.as_bytes());
        let origin = Origin::from(&echoes[0]);
        assert_eq!(origin.cause().unwrap().to_string(), "beta@2a/300");
        assert_eq!(origin.root().unwrap().to_string(), "alpha@1f9a3c5b7d2e4f60/17");
        assert_eq!(origin.baggage().value("tenant"), Some("acme"));
        let old = read(DOCUMENTED.as_bytes()).unwrap();
        assert_eq!((&old[0].root, old[0].baggage.len()), (&old[0].of, 0), "of an older version");
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
