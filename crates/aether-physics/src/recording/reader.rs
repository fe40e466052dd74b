//! Reads a recording.

use std::io::{self, BufReader, Read};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use flate2::read::GzDecoder;

use super::entry::{Fault, RecordedEntry};
use super::fields::Fields;
use super::{MAGIC, MAX_ENTRY, MAX_NAMES, MAX_PATTERNS, RecordingError, VERSION, flag, tag};
use aether_core::wave::{ATTEMPTS, Body, ContentType, Extras, FAILURE, Signal};
use aether_core::{Amplitude, Channel, FailureReason, HalfLife, Kind, Pattern, Phase, Source, Wave, WaveId};

/// Reads a recording: an iterator over its entries and their times since its beginning. After an error it ends.
///
/// Memory is bounded, whatever the file holds.
#[derive(Debug)]
pub struct RecordingReader<R: Read> {
    file: BufReader<GzDecoder<R>>,
    started_at: SystemTime,
    /// The number of uncompressed bytes read.
    offset: u64,
    at: Duration,
    channels: Vec<Channel>,
    sources: Vec<(Source, u64)>,
    keys: Vec<Box<str>>,
    /// Scratch memory for an entry.
    entry: Vec<u8>,
    is_done: bool,
}

impl<R: Read> RecordingReader<R> {
    /// Reads the beginning of a recording.
    ///
    /// # Errors
    /// [`RecordingError::NotARecording`] and [`RecordingError::Version`] for a file of another kind or of a later
    /// version, [`RecordingError::Io`] if it cannot be read.
    pub fn new(file: R) -> Result<Self, RecordingError> {
        let mut file = BufReader::new(GzDecoder::new(file));
        let mut header = [0; MAGIC.len() + 1 + 8];
        file.read_exact(&mut header).map_err(|source| match source.kind() {
            io::ErrorKind::UnexpectedEof | io::ErrorKind::InvalidInput | io::ErrorKind::InvalidData => {
                RecordingError::NotARecording
            }
            _ => RecordingError::Io { offset: 0, source },
        })?;
        let mut fields = Fields(&header);
        if fields.bytes(MAGIC.len()) != Some(MAGIC) {
            return Err(RecordingError::NotARecording);
        }
        let version = fields.byte().unwrap_or_default();
        if version != VERSION {
            return Err(RecordingError::Version { found: version });
        }
        let micros = fields.0.try_into().map(u64::from_le_bytes).unwrap_or_default();
        let started_at = SystemTime::UNIX_EPOCH.checked_add(Duration::from_micros(micros));
        Ok(Self {
            file,
            started_at: started_at.unwrap_or(SystemTime::UNIX_EPOCH),
            offset: header.len() as u64,
            at: Duration::ZERO,
            channels: Vec::new(),
            sources: Vec::new(),
            keys: Vec::new(),
            entry: Vec::new(),
            is_done: false,
        })
    }

    /// The time of the wall clock at the beginning of the recording.
    #[must_use]
    pub fn started_at(&self) -> SystemTime {
        self.started_at
    }

    /// The next entry for the user; `None` at the end.
    fn read(&mut self) -> Result<Option<RecordedEntry>, RecordingError> {
        loop {
            let Some(length) = self.length()? else { return Ok(None) };
            let offset = self.offset;
            let damaged = |what| RecordingError::Damaged { offset, what };
            if length > MAX_ENTRY {
                return Err(damaged("an entry is too long"));
            }
            let mut entry = std::mem::take(&mut self.entry);
            entry.resize(length, 0);
            self.file.read_exact(&mut entry).map_err(|error| self.failed(error))?;
            let taken = self.take(Fields(&entry)).ok_or(damaged("an entry makes no sense"))?;
            self.offset += length as u64;
            self.entry = entry;
            if taken.is_some() {
                return Ok(taken);
            }
        }
    }

    /// The length of the next entry; `None` at the end of the file.
    fn length(&mut self) -> Result<Option<usize>, RecordingError> {
        let mut bytes = Vec::with_capacity(4);
        loop {
            let mut byte = [0];
            match self.file.read(&mut byte) {
                Ok(0) if bytes.is_empty() => return Ok(None),
                Ok(0) => return Err(RecordingError::Torn { offset: self.offset }),
                Ok(_) => bytes.push(byte[0]),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(self.failed(error)),
            }
            if byte[0] < 0x80 || bytes.len() == 10 {
                let length = Fields(&bytes).index();
                let what = "the length of an entry makes no sense";
                let length = length.ok_or(RecordingError::Damaged { offset: self.offset, what })?;
                self.offset += bytes.len() as u64;
                return Ok(Some(length));
            }
        }
    }

    fn failed(&self, source: io::Error) -> RecordingError {
        let offset = self.offset;
        match source.kind() {
            io::ErrorKind::UnexpectedEof => RecordingError::Torn { offset },
            io::ErrorKind::InvalidInput | io::ErrorKind::InvalidData => {
                RecordingError::Damaged { offset, what: "the compression or its checksum is wrong" }
            }
            _ => RecordingError::Io { offset, source },
        }
    }

    /// Takes an entry in. `None` if it makes no sense, `Some(None)` if it is not for the user.
    fn take(&mut self, mut fields: Fields<'_>) -> Option<Option<RecordedEntry>> {
        let tag = fields.byte()?;
        let has_room = self.channels.len() + self.sources.len() + self.keys.len() < MAX_NAMES;
        match tag {
            tag::CHANNEL if has_room => self.channels.push(Channel::new(fields.text()?).ok()?),
            tag::SOURCE if has_room => {
                let instance = u64::from_le_bytes(fields.bytes(8)?.try_into().ok()?);
                self.sources.push((Source::with_instance(fields.text()?, instance).ok()?, 0));
            }
            tag::KEY if has_room => self.keys.push(fields.text()?.into()),
            tag::CHANNEL | tag::SOURCE | tag::KEY => return None,
            tag::FORGET => {
                self.channels.clear();
                self.sources.clear();
                self.keys.clear();
            }
            tag::WAVE | tag::LOST | tag::PAUSED | tag::LINK | tag::TUNED | tag::FAULT => {
                self.at = self.at.saturating_add(Duration::from_nanos(fields.number()?));
                return self.entry(tag, fields).map(Some);
            }
            // Of a later version.
            _ => {}
        }
        Some(None)
    }

    fn entry(&mut self, tag: u8, mut fields: Fields<'_>) -> Option<RecordedEntry> {
        Some(match tag {
            tag::WAVE => RecordedEntry::Wave(self.wave(fields)?),
            tag::LOST => RecordedEntry::Lost {
                waves: fields.number()?,
                within: Duration::from_nanos(fields.number()?),
            },
            tag::PAUSED => RecordedEntry::Paused { lasted: Duration::from_nanos(fields.number()?) },
            tag::LINK => RecordedEntry::Link { connected: fields.byte()? != 0 },
            tag::TUNED => {
                let vibrator = fields.text()?.to_owned();
                let count = fields.index().filter(|count| *count <= MAX_PATTERNS)?;
                let patterns =
                    (0..count).map(|_| Pattern::new(fields.text()?).ok()).collect::<Option<_>>()?;
                RecordedEntry::Tuned { vibrator, patterns }
            }
            _ => {
                let (kind, service) = (fields.text()?.to_owned(), fields.text()?.to_owned());
                RecordedEntry::Fault { fault: Fault { kind, service }, begins: fields.byte()? != 0 }
            }
        })
    }

    fn wave(&mut self, mut fields: Fields<'_>) -> Option<Wave> {
        let channel = self.channels.get(fields.index()?)?.clone();
        let WaveId { source, sequence } = self.id(&mut fields)?;
        let flags = fields.byte()?;
        let has = |bit| flags & bit != 0;
        let kind = *Kind::ALL.get(usize::from(flags & flag::KIND))?;
        let age = Duration::from_nanos(fields.number()?);
        let amplitude = Amplitude::from_loss(u16::try_from(fields.number()?).ok()?);
        let mut signal = Signal::new(amplitude, HalfLife::from_class(fields.byte()?)?);
        let mut extras = Extras::default();
        if has(flag::KEY) {
            extras.key = Some(self.keys.get(fields.index()?)?.clone());
        }
        if has(flag::CAUSE) {
            extras.cause = Some(self.id(&mut fields)?);
        }
        let phase = if has(flag::PHASE) { f32::from_le_bytes(fields.four()?) } else { 0.0 };
        if has(flag::RARE) {
            (extras.attempt, signal.hops) = (fields.byte()?, fields.byte()?);
            let failure = fields.byte()?;
            if failure > 0 {
                let reason = FailureReason::ALL.get(usize::from(failure - 1))?;
                extras.metadata.push(FAILURE, reason.as_str()).ok()?;
            }
            let attempts = fields.number()?;
            if attempts > 1 {
                extras.metadata.push(ATTEMPTS, &attempts.to_string()).ok()?;
            }
        }
        Some(Wave::from_body(Body {
            source,
            sequence,
            channel,
            kind,
            signal,
            phase: Phase::new(phase).ok()?,
            age,
            since: None,
            content_type: ContentType::Bytes,
            payload: Bytes::copy_from_slice(&fields.four()?),
            extras: extras.boxed(),
        }))
    }

    fn id(&mut self, fields: &mut Fields<'_>) -> Option<WaveId> {
        let (source, sequence) = self.sources.get_mut(fields.index()?)?;
        *sequence = sequence.wrapping_add_signed(fields.signed()?);
        Some(WaveId { source: source.clone(), sequence: *sequence })
    }
}

impl<R: Read> Iterator for RecordingReader<R> {
    type Item = Result<(Duration, RecordedEntry), RecordingError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.is_done {
            return None;
        }
        let read = self.read();
        self.is_done = !matches!(read, Ok(Some(_)));
        Some(read.transpose()?.map(|entry| (self.at, entry)))
    }
}
