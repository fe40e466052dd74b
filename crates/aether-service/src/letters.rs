//! Dead letters over the bus: a service answers questions about the letters of its process.
//!
//! [`ServiceBuilder::with_letters`](crate::ServiceBuilder::with_letters) makes a service answer; `aether letters` asks.
//! Each process that answers has a channel of its own, `aether.letters.STORE`, so a question reaches the process that
//! keeps the letter, and a [roster](aether_core::presence::Roster) shows who answers. The questions are
//! [`LetterQuery`], the answers [`LetterAnswer`], both as JSON.
//!
//! A process that was connected with a [durable log](aether_log::DurableLog) answers for the waves that its consumers
//! have given up, too, as for another store. Where the log is in a folder it forgets a consumer on request.
//!
//! Nothing is authenticated: every client that may publish there can read, send again and drop letters.
//!
//! ```
//! # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! use aether_service::letters::{LetterAnswer, LetterFilter, LetterQuery, channel_of};
//! use aether_service::{CancellationToken, Service};
//! use aether_core::{Aether, Kind, Wave};
//!
//! let aether = Aether::local();
//! let service = Service::builder("stock").on("stock.*", async || {}).with_letters().build(&aether).await?;
//! let shutdown = CancellationToken::new();
//! let running = tokio::spawn(service.run_until(shutdown.clone()));
//!
//! let shop = aether.emitter("shop")?;
//! shop.emit(Wave::builder("paint.order").kind(Kind::Command).build()?).await?; // nobody hears it
//! let question = LetterQuery::Ls { filter: LetterFilter::default(), after: 0 };
//! let answer = shop.ask_wave(channel_of(aether.dead_letters().store()), &question).await?;
//! let LetterAnswer::Letters { letters, .. } = answer.json()? else { panic!() };
//! assert_eq!((letters[0].channel.as_str(), letters[0].reason.as_str()), ("paint.order", "no_resonator"));
//! shutdown.cancel();
//! # running.await??;
//! # Ok(()) }
//! ```

mod answering;
mod durable;
mod kept;

pub(crate) use answering::{Clerk, answer};
pub(crate) use durable::{LogClerk, answer_of_log};
pub use durable::{record_of_log, store_of_log, store_of_stream};
pub use kept::KeptLetters;

use std::collections::{BTreeMap, HashMap};
use std::time::SystemTime;

use aether_core::echo::{DeadLetter, LetterId};
use aether_core::presence::Roster;
use aether_core::wave::ChannelError;
use aether_core::{Pattern, Wave};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};

use crate::Rejection;
use crate::age::age_ms;
use crate::jobs::{JobAnswer, JobQuery};

/// The pattern of all channels on which services answer questions about their letters.
pub const CHANNELS: &str = "aether.letters.*";

/// The size beyond which no name of a vibrator is added to the names of one store, in bytes.
const MOST_NAMES: usize = 256;

/// The maximum number of letters in one answer: about 1 KB each.
const PAGE: usize = 128;

/// The largest payload that [`LetterQuery::Show`] returns, in bytes.
pub const MAX_SHOWN_PAYLOAD: usize = 256 << 10;

/// The channel on which the process with this store of letters answers.
#[must_use]
pub fn channel_of(store: u64) -> String {
    format!("aether.letters.{store:x}")
}

/// The store that answers on a channel.
#[must_use]
pub fn store_of(channel: &str) -> Option<u64> {
    u64::from_str_radix(channel.strip_prefix("aether.letters.")?, 16).ok()
}

/// The stores that the vibrators of a roster answer for, with the names of their services. Where announcements are
/// proven, the first store of each signer comes first, then the second: so a program that announces stores without end
/// does not hide the stores of others from readers that ask a bounded number.
#[must_use]
pub fn stores(roster: &Roster) -> Vec<(u64, String)> {
    let mut stores: BTreeMap<u64, (u64, String)> = BTreeMap::new();
    for announced in roster.vibrators() {
        let name = announced.vibrator.name();
        for store in announced.heard.iter().filter_map(|heard| store_of(heard.pattern.as_str())) {
            let (_, names) = stores.entry(store).or_insert_with(|| (announced.principal, String::new()));
            if names.len() < MOST_NAMES && !names.split('+').any(|other| other == name) {
                *names = if names.is_empty() { name.to_owned() } else { format!("{names}+{name}") };
            }
        }
    }
    let mut turns: HashMap<u64, usize> = HashMap::new();
    let mut in_turn: Vec<_> = stores
        .into_iter()
        .map(|(store, (principal, names))| {
            let turn = turns.entry(principal).or_default();
            *turn += 1;
            (*turn, store, names)
        })
        .collect();
    in_turn.sort_by_key(|(turn, ..)| *turn);
    in_turn.into_iter().map(|(_, store, names)| (store, names)).collect()
}

/// Which letters are meant.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct LetterFilter {
    /// Letters whose wave's channel matches this pattern.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub channel: Option<String>,
    /// Letters that were kept at least this many milliseconds ago.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub older_ms: Option<u64>,
    /// Letters that were kept at most this many milliseconds ago.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub newer_ms: Option<u64>,
}

impl LetterFilter {
    /// Whether a wave that was kept at a time is meant. A clock that was set back makes its age zero.
    ///
    /// # Errors
    /// [`ChannelError`] if `channel` is not a pattern.
    pub fn matching(self) -> Result<impl Fn(&Wave, SystemTime) -> bool + Send + use<>, ChannelError> {
        let Self { channel, older_ms, newer_ms } = self;
        let channel = channel.as_deref().map(Pattern::new).transpose()?;
        Ok(move |wave: &Wave, at| {
            let age = age_ms(at);
            channel.as_ref().is_none_or(|pattern| pattern.matches(wave.channel()))
                && older_ms.is_none_or(|older| age >= older)
                && newer_ms.is_none_or(|newer| age <= newer)
        })
    }
}

/// A question about dead letters, as JSON: `{"op":"show","id":"1f9a3c5b7d2e4f60-17"}`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "op", rename_all = "snake_case")]
#[non_exhaustive]
pub enum LetterQuery {
    /// The letters, the oldest first.
    Ls {
        /// Which of them.
        #[serde(flatten)]
        filter: LetterFilter,
        /// Only letters with higher numbers than this: the next page begins after the last letter of the one before.
        #[serde(default)]
        after: u64,
    },
    /// One letter with its payload and its attempts.
    Show {
        /// Its id.
        id: String,
    },
    /// Send one letter again, and remove it.
    Replay {
        /// Its id.
        id: String,
    },
    /// Remove one letter.
    Drop {
        /// Its id.
        id: String,
    },
    /// Forget a consumer of a durable log, with its position. Only the store of a log does.
    Forget {
        /// Its name.
        consumer: String,
    },
    /// A question about the queues of the process. The store of its letters in memory answers.
    Jobs(JobQuery),
}

/// The answer to a [`LetterQuery`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "answer", rename_all = "snake_case")]
#[non_exhaustive]
pub enum LetterAnswer {
    /// To `ls`: one page.
    Letters {
        /// At most 128 letters.
        letters: Vec<LetterRecord>,
        /// Whether there are more after the last one.
        more: bool,
    },
    /// To `show`.
    Letter(Box<LetterRecord>),
    /// To `replay`: the letter was sent again and removed.
    Replayed {
        /// The id of the letter.
        id: String,
        /// The id of the new wave.
        wave: String,
    },
    /// To `drop`.
    Dropped {
        /// The id of the letter.
        id: String,
    },
    /// To `forget`.
    Forgotten {
        /// The name of the consumer.
        consumer: String,
    },
    /// To `jobs`.
    Jobs(JobAnswer),
    /// The letter, or the consumer, does not exist any more.
    Gone {
        /// The id of the letter, or the name of the consumer.
        id: String,
        /// Details for people.
        hint: String,
    },
    /// The letter could not be sent again and stays, or the consumer is in use.
    NotSent {
        /// The id of the letter, or the name of the consumer.
        id: String,
        /// Details for people.
        hint: String,
    },
}

/// A failed attempt in a [`LetterRecord`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AttemptRecord {
    /// The number of the attempt, from 0.
    pub attempt: u8,
    /// When it failed, in milliseconds before the answer.
    pub age_ms: u64,
    /// Why.
    pub error: String,
}

/// A dead letter as JSON. The last fields are in the answer to `show` only.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LetterRecord {
    /// The id of the letter.
    pub id: String,
    /// The channel of the wave.
    pub channel: String,
    /// The kind of the wave.
    pub kind: String,
    /// The amplitude of the first attempt.
    pub amplitude: f32,
    /// The coherence key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// The id of the wave.
    pub wave: String,
    /// Why it failed: an [`EchoReason`](aether_core::EchoReason).
    pub reason: String,
    /// Details for people.
    pub hint: String,
    /// The vibrator that failed to handle it, or `-`.
    pub by: String,
    /// The number of attempts by anybody, including handlers, retries and attempts before a replay.
    pub attempts: u32,
    /// When it was kept, in milliseconds before the answer.
    pub age_ms: u64,
    /// The size of the payload.
    pub bytes: usize,
    /// The cause of the wave.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cause: Option<String>,
    /// The metadata of the wave.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub metadata: Vec<(String, String)>,
    /// The media type of the payload.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub content_type: Option<String>,
    /// The payload in base64, if it has at most [`MAX_SHOWN_PAYLOAD`] bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub payload: Option<String>,
    /// The attempts at handling it that failed, the last one included.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub failed: Vec<AttemptRecord>,
}

impl LetterRecord {
    /// The record that `ls` lists.
    pub(crate) fn of(letter: &DeadLetter) -> Self {
        Self {
            reason: letter.reason.to_string(),
            hint: letter.hint.clone(),
            by: letter.by.clone(),
            attempts: letter.attempts,
            age_ms: age_ms(letter.at),
            ..Self::of_wave(letter.id, &letter.wave)
        }
    }

    /// The record that `show` shows.
    pub(crate) fn whole(letter: &DeadLetter) -> Self {
        let failed = letter.failed.iter().map(|failed| AttemptRecord {
            attempt: failed.attempt,
            age_ms: age_ms(failed.at),
            error: failed.error.clone(),
        });
        Self::of(letter).with_whole(&letter.wave, failed.collect())
    }

    /// The record of the wave, without the failure.
    fn of_wave(id: LetterId, wave: &Wave) -> Self {
        Self {
            id: id.to_string(),
            channel: wave.channel().to_string(),
            kind: wave.kind().to_string(),
            amplitude: wave.amplitude().as_f32(),
            key: wave.key().map(str::to_owned),
            wave: wave.id().to_string(),
            reason: String::new(),
            hint: String::new(),
            by: String::new(),
            attempts: 0,
            age_ms: 0,
            bytes: wave.payload().len(),
            cause: None,
            metadata: Vec::new(),
            content_type: None,
            payload: None,
            failed: Vec::new(),
        }
    }

    /// Adds what only `show` shows.
    fn with_whole(self, wave: &Wave, failed: Vec<AttemptRecord>) -> Self {
        let payload = Some(wave.payload()).filter(|payload| payload.len() <= MAX_SHOWN_PAYLOAD);
        Self {
            cause: wave.cause().map(ToString::to_string),
            metadata: wave.metadata().iter().map(|(name, value)| (name.into(), value.into())).collect(),
            content_type: Some(wave.content_type().as_str().to_owned()),
            payload: payload.map(|payload| STANDARD.encode(payload)),
            failed,
            ..self
        }
    }
}

/// The filter of a question.
fn read_filter(filter: LetterFilter) -> Result<impl Fn(&Wave, SystemTime) -> bool + Send + use<>, Rejection> {
    filter.matching().map_err(|error| Rejection::caused_by("the pattern is not valid", error))
}

/// The id in a question.
fn read_id(id: &str) -> Option<LetterId> {
    id.parse().ok()
}
