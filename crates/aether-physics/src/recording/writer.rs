//! Writes a recording.

use std::hash::{BuildHasher, RandomState};
use std::io::{self, Write};
use std::time::{Duration, SystemTime};

use flate2::Compression;
use flate2::write::GzEncoder;
use hashbrown::HashMap;

use super::entry::{Fault, RecordedEntry};
use super::fields::{put_number, put_signed, put_text};
use super::{MAGIC, MAX_NAMES, MAX_PATTERNS, VERSION, flag, tag};
use aether_core::clock::Instant;
use aether_core::{Channel, Kind, Pattern, Source, Wave};

/// Writes a recording. Memory is bounded, however many names there are.
///
/// A writer that is dropped without [`RecordingWriter::finish`] leaves a torn file, of which everything up to the last
/// [`RecordingWriter::flush`] can be read.
#[derive(Debug)]
pub struct RecordingWriter<W: Write> {
    file: GzEncoder<W>,
    /// The time of the last entry.
    at: Instant,
    channels: HashMap<Channel, u64>,
    sources: HashMap<Source, SourceEntry>,
    keys: HashMap<Box<str>, u64>,
    /// The key of the content hashes.
    contents: RandomState,
    /// Scratch memory for an entry.
    entry: Vec<u8>,
    waves: u64,
}

#[derive(Debug)]
struct SourceEntry {
    number: u64,
    /// The last sequence number, to which the next one is relative.
    sequence: u64,
}

impl<W: Write> RecordingWriter<W> {
    /// Begins a recording at an instant, and at the same time of the wall clock. Writes are buffered.
    ///
    /// # Errors
    /// The error of the file.
    pub fn new(file: W, start: Instant, started_at: SystemTime) -> io::Result<Self> {
        let mut file = GzEncoder::new(file, Compression::default());
        file.write_all(MAGIC)?;
        let since_1970 = started_at.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let micros = u64::try_from(since_1970.as_micros()).unwrap_or(u64::MAX);
        file.write_all(&[VERSION])?;
        file.write_all(&micros.to_le_bytes())?;
        Ok(Self {
            file,
            at: start,
            channels: HashMap::new(),
            sources: HashMap::new(),
            keys: HashMap::new(),
            contents: RandomState::new(),
            entry: Vec::new(),
            waves: 0,
        })
    }

    /// Records a wave that is observed at `now`. A time before the last entry counts as the time of that entry. Waves of the
    /// framework are skipped, as the detectors skip them.
    ///
    /// # Errors
    /// The error of the file. The recording is torn then.
    pub fn wave(&mut self, wave: &Wave, now: Instant) -> io::Result<()> {
        let hash = self.contents.hash_one((wave.content_type().as_str(), wave.payload())) as u32;
        self.write_wave(wave, hash.to_le_bytes(), now)
    }

    fn write_wave(&mut self, wave: &Wave, content: [u8; 4], now: Instant) -> io::Result<()> {
        if wave.channel().is_reserved() {
            return Ok(());
        }
        self.forget_if_full()?;
        let channel = self.channel(wave.channel())?;
        let (source, sequence) = self.source(wave.source(), wave.sequence())?;
        let key = wave.key().map(|key| self.key(key)).transpose()?;
        let cause = wave.cause().map(|cause| self.source(&cause.source, cause.sequence)).transpose()?;
        let attempts = wave.attempts();
        let failure = wave.failure().map_or(0, |failure| failure.reason as u8 + 1);
        let is_rare = wave.attempt() > 0 || attempts > 1 || wave.hops() > 0 || failure > 0;
        let phase = wave.phase().radians();
        let kind = Kind::ALL.iter().position(|kind| *kind == wave.kind()).unwrap_or_default() as u8;
        let flags = kind
            | if key.is_some() { flag::KEY } else { 0 }
            | if cause.is_some() { flag::CAUSE } else { 0 }
            | if phase != 0.0 { flag::PHASE } else { 0 }
            | if is_rare { flag::RARE } else { 0 };

        self.begin(tag::WAVE, now);
        let entry = &mut self.entry;
        put_number(entry, channel);
        put_number(entry, source);
        put_signed(entry, sequence);
        entry.push(flags);
        put_number(entry, nanos(wave.age_when(now)));
        put_number(entry, wave.amplitude().loss().into());
        entry.push(wave.half_life().class());
        if let Some(key) = key {
            put_number(entry, key);
        }
        if let Some((source, sequence)) = cause {
            put_number(entry, source);
            put_signed(entry, sequence);
        }
        if phase != 0.0 {
            entry.extend_from_slice(&phase.to_le_bytes());
        }
        if is_rare {
            entry.extend_from_slice(&[wave.attempt(), wave.hops(), failure]);
            put_number(entry, attempts.into());
        }
        entry.extend_from_slice(&content);
        self.waves += 1;
        self.end()
    }

    /// Records that waves were lost on their way to the observer, in the given time before `now`.
    ///
    /// # Errors
    /// As [`RecordingWriter::wave`].
    pub fn lost(&mut self, waves: u64, within: Duration, now: Instant) -> io::Result<()> {
        self.begin(tag::LOST, now);
        put_number(&mut self.entry, waves);
        put_number(&mut self.entry, nanos(within));
        self.end()
    }

    /// Records that the observer did not run in the given time before `now`.
    ///
    /// # Errors
    /// As [`RecordingWriter::wave`].
    pub fn paused(&mut self, lasted: Duration, now: Instant) -> io::Result<()> {
        self.begin(tag::PAUSED, now);
        put_number(&mut self.entry, nanos(lasted));
        self.end()
    }

    /// Records that the observer's connection was lost or made again.
    ///
    /// # Errors
    /// As [`RecordingWriter::wave`].
    pub fn link(&mut self, connected: bool, now: Instant) -> io::Result<()> {
        self.begin(tag::LINK, now);
        self.entry.push(connected.into());
        self.end()
    }

    /// Records the subscriptions of the vibrators of one name. Of more than 256 patterns the first are recorded.
    ///
    /// # Errors
    /// As [`RecordingWriter::wave`].
    pub fn tuned(&mut self, vibrator: &str, patterns: &[Pattern], now: Instant) -> io::Result<()> {
        let patterns = &patterns[..patterns.len().min(MAX_PATTERNS)];
        self.begin(tag::TUNED, now);
        put_text(&mut self.entry, vibrator);
        put_number(&mut self.entry, patterns.len() as u64);
        for pattern in patterns {
            put_text(&mut self.entry, pattern.as_str());
        }
        self.end()
    }

    /// Notes the truth: a fault begins or ends. For programs that make faults to measure the detectors.
    ///
    /// # Errors
    /// As [`RecordingWriter::wave`].
    pub fn fault(&mut self, fault: &Fault, begins: bool, now: Instant) -> io::Result<()> {
        self.begin(tag::FAULT, now);
        put_text(&mut self.entry, &fault.kind);
        put_text(&mut self.entry, &fault.service);
        self.entry.push(begins.into());
        self.end()
    }

    /// Copies an entry that was read from another recording. The content hashes are kept, so one recording must not be
    /// copied together from several.
    ///
    /// # Errors
    /// As [`RecordingWriter::wave`].
    pub fn copy(&mut self, entry: &RecordedEntry, now: Instant) -> io::Result<()> {
        match entry {
            RecordedEntry::Wave(wave) => {
                let content = wave.payload().first_chunk().copied().unwrap_or_default();
                self.write_wave(wave, content, now)
            }
            RecordedEntry::Lost { waves, within } => self.lost(*waves, *within, now),
            RecordedEntry::Paused { lasted } => self.paused(*lasted, now),
            RecordedEntry::Link { connected } => self.link(*connected, now),
            RecordedEntry::Tuned { vibrator, patterns } => self.tuned(vibrator, patterns, now),
            RecordedEntry::Fault { fault, begins } => self.fault(fault, *begins, now),
        }
    }

    /// The number of waves recorded so far.
    #[must_use]
    pub fn waves(&self) -> u64 {
        self.waves
    }

    /// The file. What is still in the writer's buffer is not in it.
    pub fn get_ref(&self) -> &W {
        self.file.get_ref()
    }

    /// Writes everything recorded so far to the file. Each call costs about ten bytes, so call it once a second at most.
    ///
    /// # Errors
    /// As [`RecordingWriter::wave`].
    pub fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }

    /// Ends the recording and returns the file.
    ///
    /// # Errors
    /// As [`RecordingWriter::wave`].
    pub fn finish(self) -> io::Result<W> {
        let mut file = self.file.finish()?;
        file.flush()?;
        Ok(file)
    }

    fn begin(&mut self, tag: u8, now: Instant) {
        self.entry.clear();
        self.entry.push(tag);
        put_number(&mut self.entry, nanos(now.saturating_duration_since(self.at)));
        self.at = self.at.max(now);
    }

    fn end(&mut self) -> io::Result<()> {
        let mut length = Vec::with_capacity(4);
        put_number(&mut length, self.entry.len() as u64);
        self.file.write_all(&length)?;
        self.file.write_all(&self.entry)
    }

    /// Makes room for the names of one more wave: a channel, two sources and a key.
    fn forget_if_full(&mut self) -> io::Result<()> {
        if self.channels.len() + self.sources.len() + self.keys.len() + 4 <= MAX_NAMES {
            return Ok(());
        }
        self.channels.clear();
        self.sources.clear();
        self.keys.clear();
        self.entry.clear();
        self.entry.push(tag::FORGET);
        self.end()
    }

    fn channel(&mut self, channel: &Channel) -> io::Result<u64> {
        if let Some(number) = self.channels.get(channel) {
            return Ok(*number);
        }
        let number = self.channels.len() as u64;
        self.channels.insert(channel.clone(), number);
        self.define(tag::CHANNEL, None, channel.as_str())?;
        Ok(number)
    }

    /// The number of a source, and the difference from its last sequence number.
    fn source(&mut self, source: &Source, sequence: u64) -> io::Result<(u64, i64)> {
        if let Some(entry) = self.sources.get_mut(source) {
            let before = std::mem::replace(&mut entry.sequence, sequence);
            return Ok((entry.number, sequence.wrapping_sub(before) as i64));
        }
        let number = self.sources.len() as u64;
        self.sources.insert(source.clone(), SourceEntry { number, sequence });
        self.define(tag::SOURCE, Some(source.instance()), source.name())?;
        Ok((number, sequence as i64))
    }

    fn key(&mut self, key: &str) -> io::Result<u64> {
        if let Some(number) = self.keys.get(key) {
            return Ok(*number);
        }
        let number = self.keys.len() as u64;
        self.keys.insert(key.into(), number);
        self.define(tag::KEY, None, key)?;
        Ok(number)
    }

    fn define(&mut self, tag: u8, instance: Option<u64>, name: &str) -> io::Result<()> {
        self.entry.clear();
        self.entry.push(tag);
        if let Some(instance) = instance {
            self.entry.extend_from_slice(&instance.to_le_bytes());
        }
        put_text(&mut self.entry, name);
        self.end()
    }
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}
