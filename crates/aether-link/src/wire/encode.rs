//! Encoding of frames.

use std::collections::BTreeMap;

use aether_core::clock::{Instant, Moment, moment_of};
use bytes::{BufMut, Bytes};
use smallvec::SmallVec;

use super::{
    FIXED_HEADER, FIXED_RECORD, MAGIC, MAX_CONTENT_TYPE_BYTES, Position, VERSION, content, frame_tag, tag,
};
use aether_core::wave::{
    ContentType, MAX_BAGGAGE_BYTES, MAX_BAGGAGE_ENTRIES, MAX_KEY_BYTES, MAX_METADATA_BYTES,
    MAX_METADATA_ENTRIES, MAX_SOURCE_BYTES, MAX_TRACESTATE_BYTES, TraceContext,
};
use aether_core::{Channel, Phase, Source, Wave, WaveId};

/// The sender of a frame and the time of sending, from which receivers estimate the transit time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sender {
    /// A random number drawn when the sending process joined the medium.
    pub node: u64,
    /// The sender's wall clock in microseconds since 1970. Only differences are used.
    pub sent_micros: u64,
}

/// Why waves cannot be encoded as one frame. Nothing was written.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum EncodeError {
    /// Neither waves nor a position.
    #[error("a frame holds at least one wave, or a position")]
    Empty,
    /// Waves of different channels.
    #[error("a frame holds waves of one channel: wave {index} is for {found} and not for {expected}")]
    Channel {
        /// The index of the wave, from 0.
        index: usize,
        /// The channel of the frame.
        expected: Channel,
        /// The channel of the wave.
        found: Channel,
    },
    /// More sources than a record can refer to.
    #[error(
        "a frame holds waves of at most 65536 sources: write those from wave {index} on as another frame"
    )]
    Sources {
        /// The index of the first wave whose source does not fit, from 0.
        index: usize,
    },
    /// A wave too large for the length field.
    #[error("wave {index} has {bytes} bytes: a frame takes waves of less than 4 GiB")]
    TooLarge {
        /// The index of the wave, from 0.
        index: usize,
        /// Its maximum size in bytes.
        bytes: usize,
    },
}

/// Encodes waves of one channel as one frame. The channel itself is written only if `channel` is given; a medium whose
/// addresses name the channel can omit it.
///
/// `now` is the time of sending: the age of each wave is written as of then.
///
/// # Errors
/// [`EncodeError`] if the waves do not fit into one frame. One wave of less than 4 GiB always fits.
pub fn encode(
    sender: Sender,
    channel: Option<&Channel>,
    waves: &[Wave],
    now: Instant,
) -> Result<Bytes, EncodeError> {
    encode_at(sender, None, channel, waves, now)
}

/// Like [`encode`], with the frame's position in the sender's stream. With a position there may be no waves: such a
/// frame only reports the position.
///
/// # Errors
/// As [`encode`].
pub fn encode_at(
    sender: Sender,
    position: Option<Position>,
    channel: Option<&Channel>,
    waves: &[Wave],
    now: Instant,
) -> Result<Bytes, EncodeError> {
    if waves.is_empty() && position.is_none() {
        return Err(EncodeError::Empty);
    }
    let expected = channel.or_else(|| waves.first().map(Wave::channel));
    let mut bound = frame_bound(channel);
    for (index, wave) in waves.iter().enumerate() {
        if let Some(expected) = expected.filter(|expected| *expected != wave.channel()) {
            let (expected, found) = (expected.clone(), wave.channel().clone());
            return Err(EncodeError::Channel { index, expected, found });
        }
        let bytes = record_bound(wave);
        if u32::try_from(bytes).is_err() {
            return Err(EncodeError::TooLarge { index, bytes });
        }
        bound += bytes;
    }
    encode_bounded(sender, position, channel, waves, bound, now)
}

/// Like [`encode_at`], for waves that are known to be of one channel and to take at most `bound` bytes, less than 4 GiB.
pub fn encode_bounded(
    sender: Sender,
    position: Option<Position>,
    channel: Option<&Channel>,
    waves: &[Wave],
    bound: usize,
    now: Instant,
) -> Result<Bytes, EncodeError> {
    let mut sources = Sources::default();
    let mut indices: SmallVec<[u16; 64]> = SmallVec::with_capacity(waves.len());
    for (index, wave) in waves.iter().enumerate() {
        indices.push(sources.index_of(wave.source()).ok_or(EncodeError::Sources { index })?);
    }

    let mut out = Vec::with_capacity(bound);
    out.put_slice(&MAGIC);
    out.put_u8(VERSION);
    out.put_u64_le(sender.node);
    out.put_u64_le(sender.sent_micros);
    put_bytes(&mut out, channel.map_or("", Channel::as_str).as_bytes());
    put_varint(&mut out, sources.table.len() as u64);
    for source in sources.table {
        out.put_u64_le(source.instance());
        put_bytes(&mut out, source.name().as_bytes());
    }
    match position {
        None => out.put_u16_le(0),
        Some(position) => put_position(&mut out, position),
    }
    put_varint(&mut out, waves.len() as u64);
    let now = moment_of(now);
    for (wave, index) in waves.iter().zip(indices) {
        put_record(&mut out, wave, index, now);
    }
    Ok(out.into())
}

fn put_position(out: &mut Vec<u8>, position: Position) {
    let Position { stream, first, age_micros } = position;
    let length = varint_len(stream) + varint_len(first) + varint_len(age_micros);
    out.put_u16_le((1 + bytes_len(length)) as u16);
    put_varint(out, frame_tag::POSITION);
    put_varint(out, length as u64);
    put_varint(out, stream);
    put_varint(out, first);
    put_varint(out, age_micros);
}

/// The distinct sources of a frame, in the order of their first wave.
#[derive(Default)]
struct Sources<'a> {
    table: SmallVec<[&'a Source; 4]>,
    /// The index of each source in the table; empty while the table is short. A tree and not a hash map: a source is
    /// hashed by its instance alone, and a peer whose waves are relayed could make all instances collide.
    places: BTreeMap<(u64, &'a str), u16>,
}

impl<'a> Sources<'a> {
    /// Up to this many sources a linear search is as fast.
    const SEARCHED: usize = 16;

    /// The index of a source, which is added if it is new; `None` if the table is full.
    fn index_of(&mut self, source: &'a Source) -> Option<u16> {
        let place = (source.instance(), source.name());
        let found = if self.places.is_empty() || self.table.last() == Some(&source) {
            // Searched from the back, because waves of one source come in runs.
            self.table.iter().rposition(|known| *known == source).and_then(|index| u16::try_from(index).ok())
        } else {
            self.places.get(&place).copied()
        };
        if found.is_some() {
            return found;
        }
        let index = u16::try_from(self.table.len()).ok()?;
        self.table.push(source);
        if !self.places.is_empty() {
            self.places.insert(place, index);
        } else if self.table.len() > Self::SEARCHED {
            let known = self.table.iter().map(|source| (source.instance(), source.name()));
            self.places = known.zip(0..=u16::MAX).collect();
        }
        Some(index)
    }
}

fn put_record(out: &mut Vec<u8>, wave: &Wave, source: u16, now: Moment) {
    let start = out.len();
    let [source_low, source_high] = source.to_le_bytes();
    let [loss_low, loss_high] = wave.amplitude().loss().to_le_bytes();
    let kind = wave.kind().code();
    let content_code = match wave.content_type() {
        ContentType::Bytes => content::BYTES,
        ContentType::Json => content::JSON,
        ContentType::Text => content::TEXT,
        _ => content::OTHER,
    };
    let (half_life, hops) = (wave.half_life().class(), wave.hops());
    let fixed: [u8; FIXED_RECORD] =
        [source_low, source_high, kind, loss_low, loss_high, half_life, hops, content_code];
    // Assembled on the stack: one copy into the frame in place of many small ones.
    let (mut head, mut end) = ([0; 4 + FIXED_RECORD + 2 * MAX_VARINT + 2], 4 + FIXED_RECORD);
    head[4..end].copy_from_slice(&fixed);
    end += write_varint(&mut head[end..], wave.sequence());
    end += write_varint(&mut head[end..], age_micros(wave, now));
    // The lengths of the record and of its extensions are filled in later.
    end += 2;
    out.put_slice(&head[..end]);
    let extensions = out.len() - 2;
    if !is_plain(wave) {
        put_extensions(out, wave);
        // Cannot truncate: see MAX_EXTENSIONS.
        let length = (out.len() - extensions - 2) as u16;
        out[extensions..extensions + 2].copy_from_slice(&length.to_le_bytes());
    }

    out.put_slice(wave.payload());
    // Cannot truncate: encode() has checked the bound.
    let length = (out.len() - start - 4) as u32;
    out[start..start + 4].copy_from_slice(&length.to_le_bytes());
}

/// Whether a wave has no extension fields, the usual case.
fn is_plain(wave: &Wave) -> bool {
    wave.is_bare() && wave.phase() == Phase::ASSERT && !matches!(wave.content_type(), ContentType::Other(_))
}

fn put_extensions(out: &mut Vec<u8>, wave: &Wave) {
    if wave.phase() != Phase::ASSERT {
        put_varint(out, tag::PHASE);
        put_bytes(out, &wave.phase().radians().to_le_bytes());
    }
    if let Some(key) = wave.key() {
        put_varint(out, tag::KEY);
        put_bytes(out, key.as_bytes());
    }
    if let Some(cause) = wave.cause() {
        put_id(out, tag::CAUSE, cause);
    }
    if !wave.metadata().is_empty() {
        put_varint(out, tag::METADATA);
        put_pairs(out, wave.metadata().iter());
    }
    if let ContentType::Other(media_type) = wave.content_type() {
        put_varint(out, tag::CONTENT_TYPE);
        put_bytes(out, media_type.as_bytes());
    }
    if let Some(root) =
        wave.stored_root().filter(|root| wave.cause().is_some() || !root.is(wave.source(), wave.sequence()))
    {
        put_id(out, tag::ROOT, root);
    }
    if !wave.baggage().is_empty() {
        put_varint(out, tag::BAGGAGE);
        put_pairs(out, wave.baggage().iter());
    }
    if let Some(trace) = wave.stored_trace() {
        put_varint(out, tag::TRACE);
        put_varint(out, trace_len(trace) as u64);
        out.put_u128(trace.trace_id());
        out.put_u64(trace.span_id());
        out.put_u8(trace.flags());
        out.put_slice(trace.state().unwrap_or_default().as_bytes());
    }
}

fn trace_len(trace: &TraceContext) -> usize {
    FIXED_TRACE + trace.state().map_or(0, str::len)
}

fn put_id(out: &mut Vec<u8>, tag: u64, id: &WaveId) {
    put_varint(out, tag);
    put_varint(out, (8 + varint_len(id.sequence) + id.source.name().len()) as u64);
    out.put_u64_le(id.source.instance());
    put_varint(out, id.sequence);
    out.put_slice(id.source.name().as_bytes());
}

/// The length of the names and values, and then each with its own.
fn put_pairs<'a>(out: &mut Vec<u8>, pairs: impl Iterator<Item = (&'a str, &'a str)> + Clone) {
    let length: usize =
        pairs.clone().map(|(name, value)| bytes_len(name.len()) + bytes_len(value.len())).sum();
    put_varint(out, length as u64);
    for (name, value) in pairs {
        put_bytes(out, name.as_bytes());
        put_bytes(out, value.as_bytes());
    }
}

/// An upper bound on a frame's header, without sources and waves, in bytes.
#[must_use]
pub fn frame_bound(channel: Option<&Channel>) -> usize {
    FIXED_HEADER + channel.map_or(0, |channel| channel.as_str().len()) + 3 * MAX_VARINT + 2 + MAX_POSITION
}

/// How many bytes a wave's record may still grow before it is sent, because an older wave has a longer varint for its
/// age. Including them makes the size of a wave independent of when it is asked for.
#[must_use]
pub fn record_growth(wave: &Wave, now: Instant) -> usize {
    MAX_VARINT - varint_len(age_micros(wave, moment_of(now)))
}

fn age_micros(wave: &Wave, now: Moment) -> u64 {
    u64::try_from(wave.age_at(now).as_micros()).unwrap_or(u64::MAX)
}

/// An upper bound on what a wave adds to a frame, its entry in the source table included, in bytes.
#[must_use]
pub fn record_bound(wave: &Wave) -> usize {
    let extension = |bytes: usize| bytes + 2 * MAX_VARINT;
    let mut bound = 4 + FIXED_RECORD + 2 * MAX_VARINT + 2 + wave.payload().len();
    bound += 8 + extension(wave.source().name().len());
    if is_plain(wave) {
        return bound;
    }
    if wave.phase() != Phase::ASSERT {
        bound += extension(4);
    }
    bound += wave.key().map_or(0, |key| extension(key.len()));
    let ids = [wave.cause(), wave.stored_root()].into_iter().flatten();
    bound += ids.map(|id| extension(8 + MAX_VARINT + id.source.name().len())).sum::<usize>();
    if !wave.baggage().is_empty() {
        bound += extension(wave.baggage().bytes() + wave.baggage().len() * 2 * MAX_VARINT);
    }
    bound += wave.stored_trace().map_or(0, |trace| extension(trace_len(trace)));
    if !wave.metadata().is_empty() {
        bound += extension(wave.metadata().bytes() + wave.metadata().len() * 2 * MAX_VARINT);
    }
    if let ContentType::Other(media_type) = wave.content_type() {
        bound += extension(media_type.len());
    }
    bound
}

/// The ids and the flags of a trace context.
const FIXED_TRACE: usize = 16 + 8 + 1;

/// The maximum length of a u64 in LEB128.
const MAX_VARINT: usize = 10;

/// The maximum length of a position's extension field.
pub const MAX_POSITION: usize = field_len(3 * MAX_VARINT);

/// The maximum length of the extension fields of one wave, each with its tag and lengths.
const MAX_EXTENSIONS: usize = field_len(4)
    + field_len(MAX_KEY_BYTES)
    + 2 * field_len(8 + MAX_VARINT + MAX_SOURCE_BYTES)
    + field_len(MAX_BAGGAGE_BYTES + MAX_BAGGAGE_ENTRIES * 2 * varint_len(MAX_BAGGAGE_BYTES as u64))
    + field_len(MAX_METADATA_BYTES + MAX_METADATA_ENTRIES * 2 * varint_len(MAX_METADATA_BYTES as u64))
    + field_len(MAX_CONTENT_TYPE_BYTES)
    + field_len(FIXED_TRACE + MAX_TRACESTATE_BYTES);

// Their length is encoded as a u16.
const _: () = assert!(MAX_EXTENSIONS <= u16::MAX as usize);

const fn varint_len(value: u64) -> usize {
    (64 - (value | 1).leading_zeros() as usize).div_ceil(7)
}

const fn bytes_len(length: usize) -> usize {
    varint_len(length as u64) + length
}

/// The length of an extension field; all known tags take one byte.
const fn field_len(length: usize) -> usize {
    1 + bytes_len(length)
}

fn put_varint(out: &mut Vec<u8>, value: u64) {
    let mut bytes = [0; MAX_VARINT];
    let length = write_varint(&mut bytes, value);
    out.put_slice(&bytes[..length]);
}

/// Writes to the beginning of `out`, which has room, and returns the number of bytes.
#[inline]
fn write_varint(out: &mut [u8], mut value: u64) -> usize {
    let mut length = 0;
    while value >= 0x80 {
        out[length] = value as u8 | 0x80;
        value >>= 7;
        length += 1;
    }
    out[length] = value as u8;
    length + 1
}

fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    put_varint(out, bytes.len() as u64);
    out.put_slice(bytes);
}
