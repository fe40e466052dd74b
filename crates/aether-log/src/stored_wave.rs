//! A wave as a record, and back.

use std::time::{Duration, Instant, SystemTime};

use aether_core::clock::micros_since_1970;
use aether_core::wave::DUE;
use aether_core::{Channel, Wave, WaveId};
use aether_link::wire::{EncodeError, FrameError, Sender, decode, encode};
use bytes::Bytes;
use sha2::{Digest as _, Sha256};

use crate::sealing::{NotSealed, Sealing, Unopened};
use crate::store::{Entry, MAX_BODY, Record};

/// The kind of the records that hold waves.
pub(crate) const WAVE: u8 = 1;
/// The metadata entry with the key of the schedule that a wave comes from.
pub const SCHEDULE: &str = "aether-schedule";
/// The largest payload of a wave that is stored: a record has room for it, for what else belongs to the wave, and for the
/// failures in its dead letter.
pub(crate) const MAX_PAYLOAD: usize = MAX_BODY - (128 << 10);
/// Larger frames are copied before they are read, because a large payload would keep the whole chunk of the file alive.
const SHARED: usize = 4096;

/// A wave of a log.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct StoredWave {
    /// Its position in the log.
    pub position: u64,
    /// When it was stored, by the clock of this machine. It never goes back within a log.
    pub at: SystemTime,
    /// The wave, as old as it is now: the time in the log counts, by the clock of this machine.
    pub wave: Wave,
}

/// The identity of a wave for finding a second copy of it. A wave that was given up and is sent again does not count as
/// a copy, although it is the same wave.
pub(crate) fn identity(wave: &Wave) -> u128 {
    let id = u128::from(wave.source().instance()) << 64 | u128::from(wave.sequence());
    match wave.attempts() {
        1 => id,
        // Far from the identities of other waves of the source.
        attempts => id ^ u128::from(attempts).wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835),
    }
}

/// The identity by which the log finds a second one: of a unique wave, its channel and name.
fn stored_identity(wave: &Wave) -> u128 {
    let Some(name) = wave.unique().filter(|_| wave.attempts() == 1) else { return identity(wave) };
    let named = Sha256::new().chain_update(wave.channel().as_str()).chain_update([0]).chain_update(name);
    let digest: [u8; 32] = named.finalize().into();
    digest.first_chunk().map_or(0, |bytes| u128::from_le_bytes(*bytes))
}

/// The record of a wave.
pub(crate) fn entry(wave: &Wave) -> Result<Entry, EncodeError> {
    let now = tokio::time::Instant::now().into_std();
    let body = frame(wave, None, now)?;
    let (level, id) = (wave.signal().level(), stored_identity(wave));
    Ok(Entry { kind: WAVE, level, id, name: wave.channel().as_str().to_owned(), body })
}

/// The place of a wave in a folder, for which it is sealed. Without keys it is not asked for.
fn address(name: &[u8], sealing: &Sealing) -> String {
    match sealing.has_keys() {
        true => format!("wave {}", String::from_utf8_lossy(name)),
        false => String::new(),
    }
}

/// The record of a wave as it is stored in a folder.
pub(crate) fn sealed(entry: Entry, sealing: &Sealing) -> Result<Entry, NotSealed> {
    let body = sealing.seal(&address(entry.name.as_bytes(), sealing), entry.body)?;
    Ok(Entry { body, ..entry })
}

/// The record of a wave of a schedule that was due at this time, in microseconds since 1970. The content stays as it is,
/// sealed or not. The identity alone tells one time from the next, and [`delivered`] gives it to the wave.
pub(crate) fn fired_entry(stored: &Entry, due: u64) -> Entry {
    Entry { id: stored.id & !u128::from(u64::MAX) | u128::from(due), ..stored.clone() }
}

/// A wave as the record of this identity delivers it.
fn delivered(wave: Wave, id: u128) -> Wave {
    let own = identity(&wave);
    let is_fired = own != id && own >> 64 == id >> 64;
    match is_fired && !wave.is_bare() && wave.metadata().value(SCHEDULE).is_some() {
        // The lower half of the identity is the time.
        true => fired(wave.clone(), id as u64, id as u64).unwrap_or(wave),
        false => wave,
    }
}

/// Whether a server has delivered the wave of a schedule: it copies the stored one each time. The position tells one from
/// the next.
fn is_of_server(wave: &Wave) -> bool {
    !wave.is_bare() && wave.metadata().value(SCHEDULE).is_some() && wave.due().is_none()
}

/// The wave of a schedule, as it is delivered. The source belongs to the schedule alone, so any number does.
fn fired(wave: Wave, sequence: u64, due: u64) -> Option<Wave> {
    let id = WaveId { source: wave.source().clone(), sequence };
    wave.identified(id, None).with_entry(DUE, &due.to_string()).ok()
}

/// The frame names the channel only if one is given: a record or a subject has it beside the frame.
pub(crate) fn frame(
    wave: &Wave,
    channel: Option<&Channel>,
    now: std::time::Instant,
) -> Result<Bytes, EncodeError> {
    // The frame is read by this log only. Its position and time are in the record.
    encode(Sender { node: 0, sent_micros: 0 }, channel, std::slice::from_ref(wave), now)
}

/// Why a record has no wave that can be delivered.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Unread {
    /// It was not opened.
    #[error(transparent)]
    Unopened(#[from] Unopened),
    /// Its content cannot be read as a wave.
    #[error(transparent)]
    Frame(#[from] FrameError),
}

/// The wave of a record, without counting what cannot be opened; `None` also if it cannot be read.
pub(crate) fn peek(record: &Record, sealing: &Sealing) -> Option<Wave> {
    let frame = (record.kind == WAVE)
        .then(|| sealing.peek(&address(&record.name, sealing), &record.body))
        .flatten()?;
    Some(read_frame(record.position, record.micros, Some(&record.name), &frame).ok()?.wave)
}

/// The wave of a frame, which a server may deliver for a schedule. Without a name, the frame has it.
pub(crate) fn read_frame(
    position: u64,
    micros: u64,
    name: Option<&[u8]>,
    frame: &Bytes,
) -> Result<StoredWave, FrameError> {
    Decoder::default().read_delivered(position, micros, name, frame)
}

/// How many waves are decoded with one reading of the clocks.
const WAVES_A_READING: u32 = 1024;

/// Decodes one wave after the other, with what they share: the channel of the last one, and a reading of the clocks.
#[derive(Debug, Default)]
pub(crate) struct Decoder {
    channel: Option<Channel>,
    /// Both clocks at one moment. A wave that was stored before has the same age by an old reading, because its age grows
    /// from there.
    clocks: Option<(Instant, u64)>,
    reused: u32,
}

impl Decoder {
    /// The wave of a record; `None` if the record is none of a wave.
    pub(crate) fn read(&mut self, record: &Record, sealing: &Sealing) -> Option<Result<StoredWave, Unread>> {
        (record.kind == WAVE).then(|| {
            let opened = sealing.open(&address(&record.name, sealing), &record.body)?;
            let mut stored =
                self.read_frame(record.position, record.micros, Some(&record.name), &opened.frame)?;
            stored.wave = delivered(stored.wave, record.id);
            Ok(stored)
        })
    }

    /// As [`read_frame`].
    pub(crate) fn read_delivered(
        &mut self,
        position: u64,
        micros: u64,
        name: Option<&[u8]>,
        frame: &Bytes,
    ) -> Result<StoredWave, FrameError> {
        let mut stored = self.read_frame(position, micros, name, frame)?;
        if is_of_server(&stored.wave)
            && let Some(fired) = fired(stored.wave.clone(), position, micros)
        {
            stored.wave = fired;
        }
        Ok(stored)
    }

    fn read_frame(
        &mut self,
        position: u64,
        micros: u64,
        name: Option<&[u8]>,
        frame: &Bytes,
    ) -> Result<StoredWave, FrameError> {
        let channel = name.map(|name| self.channel(name)).transpose()?;
        let frame = if frame.len() > SHARED { Bytes::copy_from_slice(frame) } else { frame.clone() };
        let (now, now_micros) = self.clocks(micros);
        let kept = Duration::from_micros(now_micros.saturating_sub(micros));
        let mut waves = decode(&frame, channel.as_ref(), now, |_| kept)?.waves;
        let at = SystemTime::UNIX_EPOCH.checked_add(Duration::from_micros(micros));
        let wave = waves.pop().ok_or(FrameError::Empty { what: "waves" })?;
        Ok(StoredWave { position, at: at.unwrap_or(SystemTime::UNIX_EPOCH), wave })
    }

    /// The channel of this name: as a rule, the channel of the last wave.
    fn channel(&mut self, name: &[u8]) -> Result<Channel, FrameError> {
        match &self.channel {
            Some(channel) if channel.as_str().as_bytes() == name => Ok(channel.clone()),
            _ => {
                let utf8 = |_| FrameError::Utf8 { field: "channel", at: 0 };
                let channel = Channel::with_reserved(std::str::from_utf8(name).map_err(utf8)?)?;
                Ok(self.channel.insert(channel).clone())
            }
        }
    }

    /// A reading of the clocks that is not before this time, unless the clock itself is.
    fn clocks(&mut self, micros: u64) -> (Instant, u64) {
        self.reused += 1;
        match self.clocks {
            Some(clocks) if clocks.1 >= micros && self.reused < WAVES_A_READING => clocks,
            _ => {
                self.reused = 0;
                *self.clocks.insert((tokio::time::Instant::now().into_std(), micros_since_1970()))
            }
        }
    }
}
