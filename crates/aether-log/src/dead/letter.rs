//! A dead letter, and how it is written: what it is about, and the whole wave.

use std::time::{Duration, SystemTime};

use aether_core::Channel;
use aether_link::wire::is_sealed;
use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::error::DeadError;
use crate::sealing::{NotSealed, Sealing, Unopened};
use crate::store::{Cursor, Item, Record};
use crate::stored_wave::{StoredWave, frame, identity, read_frame};

/// A failed attempt at handling a wave.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Attempt {
    /// When it failed, in microseconds since 1970.
    pub micros: u64,
    /// The error of the handler.
    pub error: String,
}

/// The subject of a letter. The wave follows in the record.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct About {
    pub(super) consumer: String,
    pub(super) position: u64,
    stored_micros: u64,
    attempts: u32,
    failed: Vec<Attempt>,
}

/// A wave that a consumer has given up.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct DeadWave {
    /// The number of the letter, which never changes.
    pub number: u64,
    /// The consumer that gave it up.
    pub consumer: String,
    /// The wave, and its position in the log.
    pub stored: StoredWave,
    /// When it was given up.
    pub at: SystemTime,
    /// The number of attempts by anybody: those before a replay included.
    pub attempts: u32,
    /// The attempts that failed, the last one included: at most [`MAX_FAILED`], the first and the latest ones.
    pub failed: Vec<Attempt>,
}

/// The last error of a wave that was cancelled.
pub(crate) const CANCELLED: &str = "cancelled";

impl DeadWave {
    /// Whether it was [cancelled](crate::Consumer::cancel), and not given up after failures.
    #[must_use]
    pub fn is_cancelled(&self) -> bool {
        self.failed.last().is_some_and(|last| last.error == CANCELLED)
    }
}

/// The maximum number of failed attempts that a letter lists.
pub const MAX_FAILED: usize = 16;

/// The content of a letter. Those attempts are its consumer's; there may have been others before a replay.
pub(super) fn written(
    consumer: &str,
    stored: &StoredWave,
    channel: Option<&Channel>,
    attempts: u32,
    failed: &[Attempt],
) -> Bytes {
    let since = stored.at.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let stored_micros = u64::try_from(since.as_micros()).unwrap_or(u64::MAX);
    let (consumer, position) = (consumer.to_owned(), stored.position);
    let attempts = attempts.saturating_add(stored.wave.attempts() - 1);
    let about = About { consumer, position, stored_micros, attempts, failed: failed.to_vec() };
    // Writing to memory does not fail; a wave that came out of a log fits into a frame.
    let mut body = postcard::to_allocvec(&about).unwrap_or_default();
    let now = tokio::time::Instant::now().into_std();
    body.extend_from_slice(&frame(&stored.wave, channel, now).unwrap_or_default());
    body.into()
}

/// The place for which a letter is sealed.
fn address(name: &[u8]) -> String {
    format!("letter {}", String::from_utf8_lossy(name))
}

/// The content of a letter as it is stored in a folder. Before a sealed one is what a reader without keys needs.
pub(super) fn sealed_letter(channel: &str, body: Bytes, sealing: &Sealing) -> Result<Bytes, NotSealed> {
    if !sealing.has_keys() {
        return Ok(body);
    }
    let about =
        postcard::take_from_bytes::<About>(&body).map(|(about, _)| About { failed: Vec::new(), ..about });
    let mut sealed = about.and_then(|about| postcard::to_allocvec(&about)).unwrap_or_default();
    sealed.extend_from_slice(&sealing.seal(&address(channel.as_bytes()), body)?);
    Ok(sealed.into())
}

/// Whether a letter is sealed; `None` if the record is none. The record of a removal is a number alone.
pub(crate) fn is_sealed_letter(record: &Record) -> Option<bool> {
    postcard::take_from_bytes::<About>(&record.body).ok().map(|(_, rest)| is_sealed(rest))
}

/// The content of a letter in a folder, opened if it is sealed. `None` if this version cannot read it.
fn opened(record: &Record, sealing: &Sealing) -> Result<Option<Bytes>, Unopened> {
    let Ok((_, rest)) = postcard::take_from_bytes::<About>(&record.body) else { return Ok(None) };
    let rest = record.body.slice_ref(rest);
    let opened = sealing.open(&address(&record.name), &rest)?;
    // A frame is behind what it is about; a seal is around both.
    Ok(Some(if is_sealed(&rest) { opened.frame } else { record.body.clone() }))
}

pub(super) fn about(record: &Record) -> Option<About> {
    postcard::take_from_bytes::<About>(&record.body).ok().map(|(about, _)| about)
}

/// The identity of the wave of a letter that was written before letters had it beside the wave.
pub(super) fn decoded_identity(record: &Record) -> u128 {
    letter(record, &record.body).map_or(0, |letter| identity(&letter.stored.wave))
}

fn letter(record: &Record, body: &Bytes) -> Option<DeadWave> {
    read_letter(record.position, record.micros, Some(&record.name), body)
}

pub(super) fn read_letter(number: u64, micros: u64, name: Option<&[u8]>, body: &Bytes) -> Option<DeadWave> {
    let (about, rest) = postcard::take_from_bytes::<About>(body).ok()?;
    let frame = body.slice(body.len() - rest.len()..);
    let mut stored = read_frame(about.position, micros, name, &frame).ok()?;
    stored.at = SystemTime::UNIX_EPOCH + Duration::from_micros(about.stored_micros);
    let at = SystemTime::UNIX_EPOCH + Duration::from_micros(micros);
    let About { consumer, attempts, failed, .. } = about;
    Some(DeadWave { number, consumer, stored, at, attempts, failed })
}

/// Reads the letter at which a cursor is.
pub(super) fn read(number: u64, mut at: Cursor, sealing: &Sealing) -> Result<DeadWave, DeadError> {
    let unknown = || DeadError::Unknown { number };
    match at.next_item()? {
        Some(Item::Record(record)) if record.position == number => {
            let body = opened(&record, sealing).map_err(|source| DeadError::Unopened { number, source })?;
            body.and_then(|body| letter(&record, &body)).ok_or_else(unknown)
        }
        _ => Err(unknown()),
    }
}
