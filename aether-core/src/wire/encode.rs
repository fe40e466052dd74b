//! Writing frames.

use crate::clock::Instant;
use bytes::{BufMut, Bytes, BytesMut};
use smallvec::SmallVec;

use super::{FIXED_HEADER, FIXED_RECORD, MAGIC, VERSION, content, tag};
use crate::channel::Channel;
use crate::phase::Phase;
use crate::source::Source;
use crate::wave::{ContentType, Kind, Wave};

/// Who sends a frame, and when: what receivers estimate the transit time from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sender {
    /// A number drawn when the sending process joined the medium.
    pub node: u64,
    /// The sender's wall clock in microseconds since 1970. Only differences of it are used.
    pub sent_micros: u64,
}

/// Writes waves of one channel as one frame. The channel itself is written only if `channel` is given; on a medium
/// whose addresses name the channel it can be left out.
///
/// `now` is the moment of leaving: each wave's age is written as of then. Nothing is written for an empty list.
#[must_use]
pub fn encode(sender: Sender, channel: Option<&Channel>, waves: &[Wave], now: Instant) -> Bytes {
    if waves.is_empty() {
        return Bytes::new();
    }
    let mut sources: SmallVec<[&Source; 4]> = SmallVec::new();
    let mut indices: SmallVec<[u16; 64]> = SmallVec::new();
    let mut bound = frame_bound(channel);
    for wave in waves {
        bound += record_bound(wave);
        // From the back: waves of one source come in runs.
        let index = sources.iter().rposition(|source| *source == wave.source()).unwrap_or_else(|| {
            sources.push(wave.source());
            sources.len() - 1
        });
        // A frame of more than 65,535 sources is never packed: see the media's own limits.
        indices.push(index as u16);
    }

    let mut out = BytesMut::with_capacity(bound);
    out.put_slice(&MAGIC);
    out.put_u8(VERSION);
    out.put_u64_le(sender.node);
    out.put_u64_le(sender.sent_micros);
    put_bytes(&mut out, channel.map_or("", Channel::as_str).as_bytes());
    put_varint(&mut out, sources.len() as u64);
    for source in sources {
        out.put_u64_le(source.instance());
        put_bytes(&mut out, source.name().as_bytes());
    }
    // No extension fields of the frame so far.
    out.put_u16_le(0);
    put_varint(&mut out, waves.len() as u64);
    for (wave, index) in waves.iter().zip(indices) {
        put_record(&mut out, wave, index, now);
    }
    out.freeze()
}

fn put_record(out: &mut BytesMut, wave: &Wave, source: u16, now: Instant) {
    let start = out.len();
    out.put_u32_le(0);
    out.put_u16_le(source);
    let kind = Kind::ALL.iter().position(|kind| *kind == wave.kind()).unwrap_or_default();
    out.put_u8(kind as u8);
    out.put_u16_le(wave.amplitude().loss());
    out.put_u8(wave.half_life().class());
    out.put_u8(wave.hops());
    out.put_u8(match wave.content_type() {
        ContentType::Bytes => content::BYTES,
        ContentType::Json => content::JSON,
        ContentType::Text => content::TEXT,
        ContentType::Other(_) => content::OTHER,
    });
    put_varint(out, wave.sequence());
    put_varint(out, u64::try_from(wave.age_at(now).as_micros()).unwrap_or(u64::MAX));

    let extensions = out.len();
    out.put_u16_le(0);
    if wave.phase() != Phase::ASSERT {
        put_varint(out, tag::PHASE);
        put_bytes(out, &wave.phase().radians().to_le_bytes());
    }
    if let Some(key) = wave.key() {
        put_varint(out, tag::KEY);
        put_bytes(out, key.as_bytes());
    }
    if let Some(cause) = wave.cause() {
        put_varint(out, tag::CAUSE);
        put_varint(out, (8 + varint_len(cause.sequence) + cause.source.name().len()) as u64);
        out.put_u64_le(cause.source.instance());
        put_varint(out, cause.sequence);
        out.put_slice(cause.source.name().as_bytes());
    }
    if !wave.metadata().is_empty() {
        let length: usize =
            wave.metadata().iter().map(|(name, value)| bytes_len(name.len()) + bytes_len(value.len())).sum();
        put_varint(out, tag::METADATA);
        put_varint(out, length as u64);
        for (name, value) in wave.metadata().iter() {
            put_bytes(out, name.as_bytes());
            put_bytes(out, value.as_bytes());
        }
    }
    if let ContentType::Other(media_type) = wave.content_type() {
        put_varint(out, tag::CONTENT_TYPE);
        put_bytes(out, media_type.as_bytes());
    }
    // Key, cause, metadata and content type are bounded and together below 16 KiB.
    let length = (out.len() - extensions - 2) as u16;
    out[extensions..extensions + 2].copy_from_slice(&length.to_le_bytes());

    out.put_slice(wave.payload());
    // A record never exceeds the medium's max_payload, which is below 4 GiB.
    let length = (out.len() - start - 4) as u32;
    out[start..start + 4].copy_from_slice(&length.to_le_bytes());
}

/// No frame's header is larger than this, sources and waves left out.
pub(crate) fn frame_bound(channel: Option<&Channel>) -> usize {
    FIXED_HEADER + channel.map_or(0, |channel| channel.as_str().len()) + 3 * MAX_VARINT + 2
}

/// No wave adds more than this to a frame, its entry in the table of sources included.
pub(crate) fn record_bound(wave: &Wave) -> usize {
    let extension = |bytes: usize| bytes + 2 * MAX_VARINT;
    let mut bound = 4 + FIXED_RECORD + 2 * MAX_VARINT + 2 + wave.payload().len();
    bound += 8 + extension(wave.source().name().len());
    if wave.phase() != Phase::ASSERT {
        bound += extension(4);
    }
    bound += wave.key().map_or(0, |key| extension(key.len()));
    bound += wave.cause().map_or(0, |cause| extension(8 + MAX_VARINT + cause.source.name().len()));
    if !wave.metadata().is_empty() {
        bound += extension(wave.metadata().bytes() + wave.metadata().len() * 2 * MAX_VARINT);
    }
    if let ContentType::Other(media_type) = wave.content_type() {
        bound += extension(media_type.len());
    }
    bound
}

/// LEB128 of a u64.
const MAX_VARINT: usize = 10;

fn varint_len(value: u64) -> usize {
    (64 - (value | 1).leading_zeros() as usize).div_ceil(7)
}

fn bytes_len(length: usize) -> usize {
    varint_len(length as u64) + length
}

fn put_varint(out: &mut BytesMut, mut value: u64) {
    while value >= 0x80 {
        out.put_u8(value as u8 | 0x80);
        value >>= 7;
    }
    out.put_u8(value as u8);
}

fn put_bytes(out: &mut BytesMut, bytes: &[u8]) {
    put_varint(out, bytes.len() as u64);
    out.put_slice(bytes);
}
