//! Decoding of frames. Payloads become slices of their frame, or of small copies of parts of it.

use std::ops::Range;
use std::time::Duration;

use aether_core::clock::{Instant, Moment, moment_of};
use bytes::Bytes;
use smallvec::SmallVec;

use super::reader::Reader;
use super::{
    FIXED_RECORD, FrameError, MAGIC, MAX_CONTENT_TYPE_BYTES, Position, SEALED_VERSION, SIGNED_VERSION,
    Sender, VERSION, content, frame_tag, tag,
};
use aether_core::wave::{
    Baggage, Body, ContentType, Extras, MAX_BAGGAGE_BYTES, MAX_BAGGAGE_ENTRIES, MAX_HOPS, MAX_KEY_BYTES,
    MAX_METADATA_BYTES, MAX_NAME_BYTES, MAX_SOURCE_BYTES, MAX_TRACESTATE_BYTES, Request, Signal,
    TraceContext,
};
use aether_core::{Amplitude, Channel, HalfLife, Kind, Phase, Source, Wave, WaveId};

/// Payloads from this size on may be slices of their frame. A slice keeps a whole block alive, 64 KiB as clients read it
/// from a socket: at this size at most 16 times the payload.
pub const SHARED_FROM: usize = 4096;

/// The size of a copy that several payloads share. One wave that waits long keeps it alive when all others are gone,
/// which no inbox counts: at most ten times the 200 bytes that the smallest wave takes.
///
/// Measured with payloads of 128 bytes: 14 waves share two allocations instead of having one each.
const COPIED: usize = 2048;

/// A decoded frame.
#[derive(Debug)]
#[non_exhaustive]
pub struct Frame {
    /// The sender, and the time of sending.
    pub sender: Sender,
    /// The channel of all its waves.
    pub channel: Channel,
    /// The position in its sender's stream, if included.
    pub position: Option<Position>,
    /// The waves in the order of sending; empty in a frame that only reports a position.
    pub waves: Vec<Wave>,
}

/// Whether bytes begin like a frame. Anything else on a shared address comes from a foreign publisher.
#[must_use]
pub fn is_frame(bytes: &[u8]) -> bool {
    bytes.starts_with(&MAGIC)
}

/// Whether bytes claim to be a sealed frame, signed or not. Nothing proves it.
#[must_use]
pub fn is_sealed(bytes: &[u8]) -> bool {
    let version = bytes.strip_prefix(&MAGIC).and_then(<[u8]>::first);
    version.is_some_and(|version| [SEALED_VERSION, SIGNED_VERSION].contains(version))
}

/// Decodes a frame. `address` is the channel named by the medium's own address, if any. `transit` estimates how long
/// the frame was in flight. That is added to the age of each wave, which keeps growing from `now`. `transit` is called
/// once the header is read, so also for a frame that is rejected later.
///
/// Payloads of 4 KiB and more that make up most of the frame are slices of `bytes`. Others are copied, so that no wave
/// keeps more than 2 KiB alive beside its own payload.
///
/// # Errors
/// [`FrameError`] names the fault and its place; no wave is returned in that case.
pub fn decode(
    bytes: &Bytes,
    address: Option<&Channel>,
    now: Instant,
    transit: impl FnOnce(Sender) -> Duration,
) -> Result<Frame, FrameError> {
    let now = moment_of(now);
    let mut input = Reader { bytes, at: 0, end: bytes.len() };
    let magic = input.take(bytes.len().min(MAGIC.len()), "magic")?;
    if magic != MAGIC {
        return Err(FrameError::Magic { found: magic.to_vec() });
    }
    let version = input.u8("version")?;
    if is_sealed(bytes) {
        return Err(FrameError::Sealed);
    }
    if version != VERSION {
        return Err(FrameError::Version { found: version });
    }
    let sender = Sender { node: input.u64("node")?, sent_micros: input.u64("sent")? };
    let channel = match (input.text("channel", MAX_NAME_BYTES)?, address) {
        ("", Some(address)) => address.clone(),
        (named, Some(address)) if named == address.as_str() => address.clone(),
        (named, None) if !named.is_empty() => Channel::with_reserved(named)?,
        (named, address) => {
            let address = address.map_or("", Channel::as_str).to_owned();
            return Err(FrameError::Address { frame: named.to_owned(), address });
        }
    };

    let source_count = input.count("sources", 8 + 2)?;
    let count = source_count.unwrap_or(0);
    let mut sources: SmallVec<[Source; 4]> = SmallVec::with_capacity(count);
    for _ in 0..count {
        let instance = input.u64("source instance")?;
        sources.push(Source::with_instance(input.text("source name", MAX_SOURCE_BYTES)?, instance)?);
    }
    let position = read_position(&mut input)?;
    let count = match (input.count("waves", 4 + FIXED_RECORD + 2 + 2)?, position) {
        (Some(_), _) | (None, None) if source_count.is_none() => {
            return Err(FrameError::Empty { what: "sources" });
        }
        (None, None) => return Err(FrameError::Empty { what: "waves" }),
        (count, _) => count.unwrap_or(0),
    };
    let transit = transit(sender);
    let mut waves = Vec::with_capacity(count);
    let mut payloads = Payloads::new(bytes);
    for _ in 0..count {
        let length = input.u32("record length")? as usize;
        let mut record = input.part(length, "record")?;
        waves.push(read_record(&mut record, &mut payloads, &sources, &channel, transit, now)?);
    }
    match input.end - input.at {
        0 => Ok(Frame { sender, channel, position, waves }),
        bytes => Err(FrameError::LeftOver { field: "the last wave", bytes }),
    }
}

/// Reads the extension fields of a frame.
fn read_position(input: &mut Reader<'_>) -> Result<Option<Position>, FrameError> {
    let extensions = usize::from(input.u16("extensions")?);
    let mut position = None;
    for_each_field(&mut input.part(extensions, "extensions")?, |tag, field| {
        if tag != frame_tag::POSITION {
            return Ok(());
        }
        let (stream, first) = (field.varint("position: stream")?, field.varint("position: first")?);
        position = Some(Position { stream, first, age_micros: field.varint("position: age")? });
        match field.end - field.at {
            0 => Ok(()),
            bytes => Err(FrameError::LeftOver { field: "an extension field", bytes }),
        }
    })?;
    Ok(position)
}

fn read_record(
    record: &mut Reader<'_>,
    payloads: &mut Payloads<'_>,
    sources: &[Source],
    channel: &Channel,
    transit: Duration,
    now: Moment,
) -> Result<Wave, FrameError> {
    let at = record.at;
    let undefined =
        |field, value, offset, allowed| FrameError::Value { field, value, at: at + offset, allowed };
    let [source_low, source_high, kind, loss_low, loss_high, half_life, hops, content_code] =
        record.fixed_part()?;
    let source = u16::from_le_bytes([source_low, source_high]);
    let source = sources
        .get(usize::from(source))
        .ok_or_else(|| undefined("source index", source.into(), 0, "an index into the source table"))?;
    let kind =
        *Kind::ALL.get(usize::from(kind)).ok_or_else(|| undefined("kind", kind.into(), 2, "0 to 4"))?;
    let amplitude = Amplitude::from_loss(u16::from_le_bytes([loss_low, loss_high]));
    let half_life = HalfLife::from_class(half_life)
        .ok_or_else(|| undefined("half-life", half_life.into(), 5, "0 to 40, or 255 for never"))?;
    if hops > MAX_HOPS {
        return Err(undefined("hops", hops.into(), 6, "0 to 10"));
    }
    let known_type = match content_code {
        content::BYTES => Some(ContentType::Bytes),
        content::JSON => Some(ContentType::Json),
        content::TEXT => Some(ContentType::Text),
        content::OTHER => None,
        code => return Err(undefined("content type", code.into(), 7, "0, 1, 2 or 255")),
    };
    let sequence = record.varint("sequence")?;
    // The field bounds the age, so adding the time spent here cannot overflow.
    let age = Duration::from_micros(record.varint("age")?);
    let age = age.saturating_add(transit).min(Duration::from_micros(u64::MAX));

    let Extensions { phase, media_type, extras } = match usize::from(record.u16("extensions")?) {
        0 => Extensions::default(),
        extensions => read_extensions(&mut record.part(extensions, "extensions")?, source, sequence)?,
    };
    let content_type = match (known_type, media_type) {
        (Some(known), None) => known,
        (None, Some(given)) => given,
        _ => {
            let allowed = "255 with a media type in extension field 5, or else 0, 1 or 2 without it";
            return Err(undefined("content type", content_code.into(), 7, allowed));
        }
    };
    Ok(Wave::from_body(Body {
        source: source.clone(),
        sequence,
        channel: channel.clone(),
        kind,
        signal: Signal { amplitude, half_life, hops },
        phase,
        age,
        since: Some(now),
        content_type,
        payload: payloads.take(record.at..record.end),
        extras,
    }))
}

/// The extension fields of a wave.
#[derive(Default)]
struct Extensions {
    phase: Phase,
    media_type: Option<ContentType>,
    extras: Option<Box<Extras>>,
}

/// Reads the extension fields of the wave with this identity.
fn read_extensions(
    fields: &mut Reader<'_>,
    source: &Source,
    sequence: u64,
) -> Result<Extensions, FrameError> {
    let (mut phase, mut extras, mut media_type) = (Phase::ASSERT, Extras::default(), None);
    let (mut stored_root, mut baggage) = (None, Baggage::default());
    for_each_field(fields, |tag, field| {
        match tag {
            tag::PHASE => phase = Phase::new(f32::from_bits(field.u32("phase")?))?,
            tag::KEY => {
                let at = field.at;
                let text = field.rest_as_text("key", MAX_KEY_BYTES)?;
                if text.is_empty() {
                    let (field, allowed) = ("key length", "1 to 255");
                    return Err(FrameError::Value { field, value: 0, at, allowed });
                }
                extras.key = Some(text.into());
            }
            tag::CAUSE => {
                extras.cause = Some(read_id(field, "cause")?);
            }
            tag::METADATA => {
                while field.at < field.end {
                    let name = field.text("metadata name", MAX_METADATA_BYTES)?;
                    extras.metadata.push(name, field.text("metadata value", MAX_METADATA_BYTES)?)?;
                }
            }
            tag::CONTENT_TYPE => {
                let at = field.at;
                let text = field.rest_as_text("content type", MAX_CONTENT_TYPE_BYTES)?;
                let given = ContentType::new(text).map_err(|_| FrameError::ContentType { at })?;
                media_type = Some(given);
            }
            tag::ROOT => {
                let root = read_id(field, "root")?;
                // Where it follows from the other fields it is not stored, so that it is not written again.
                let is_usual =
                    extras.cause.as_ref().map_or(root.is(source, sequence), |cause| *cause == root);
                stored_root = (!is_usual).then_some(root);
            }
            tag::BAGGAGE => baggage = read_baggage(field)?,
            tag::TRACE => extras.trace = Some(read_trace(field)?),
            _ => field.at = field.end,
        }
        match field.end - field.at {
            0 => Ok(()),
            bytes => Err(FrameError::LeftOver { field: "an extension field", bytes }),
        }
    })?;
    extras.request = Request::of(stored_root, baggage);
    Ok(Extensions { phase, media_type, extras: extras.boxed() })
}

/// The identity of a wave, up to the end of the field.
fn read_id(field: &mut Reader<'_>, name: &'static str) -> Result<WaveId, FrameError> {
    let instance = field.u64(name)?;
    let sequence = field.varint(name)?;
    let source = Source::with_instance(field.rest_as_text(name, MAX_SOURCE_BYTES)?, instance)?;
    Ok(WaveId { source, sequence })
}

/// Ids and flags, and the state up to the end of the field. The ids are in the order of their text form.
fn read_trace(field: &mut Reader<'_>) -> Result<TraceContext, FrameError> {
    const NAME: &str = "trace context";
    // Of a number read from the lowest byte on, the bytes are turned around.
    let [high, low, span_id] = [field.u64(NAME)?, field.u64(NAME)?, field.u64(NAME)?].map(u64::swap_bytes);
    let trace_id = u128::from(high) << 64 | u128::from(low);
    let trace = TraceContext::new(trace_id, span_id, field.u8(NAME)?)?;
    Ok(match field.rest_as_text(NAME, MAX_TRACESTATE_BYTES)? {
        "" => trace,
        state => trace.with_state(state)?,
    })
}

/// Entries up to the end of the field. They are sorted, so that each baggage has one encoding.
fn read_baggage(field: &mut Reader<'_>) -> Result<Baggage, FrameError> {
    let mut entries: SmallVec<[(&str, &str); MAX_BAGGAGE_ENTRIES]> = SmallVec::new();
    // Reading ends with the first entry that is one too many, which is then refused.
    while field.at < field.end && entries.len() <= MAX_BAGGAGE_ENTRIES {
        let at = field.at;
        let name = field.text("baggage name", MAX_BAGGAGE_BYTES)?;
        if entries.last().is_some_and(|(before, _)| *before >= name) {
            return Err(FrameError::BaggageOrder { at });
        }
        entries.push((name, field.text("baggage value", MAX_BAGGAGE_BYTES)?));
    }
    Ok(Baggage::of(entries)?)
}

/// Calls `f` with the tag and the content of each extension field. Tags are strictly increasing, unknown ones included,
/// so that none is repeated and each wave has exactly one encoding.
fn for_each_field(
    fields: &mut Reader<'_>,
    mut f: impl FnMut(u64, &mut Reader<'_>) -> Result<(), FrameError>,
) -> Result<(), FrameError> {
    let mut before = None;
    while fields.at < fields.end {
        let at = fields.at;
        let tag = fields.varint("extension tag")?;
        if let Some(before) = before.replace(tag).filter(|before| *before >= tag) {
            return Err(FrameError::TagOrder { tag, before, at });
        }
        let length = fields.length("extension length")?;
        f(tag, &mut fields.part(length, "extension field")?)?;
    }
    Ok(())
}

/// Cuts payloads out of a frame, in the order of their places.
///
/// A slice of the frame would keep all of it in memory while the wave waits, and the block into which a medium read the
/// frame. No inbox could count that: one strong wave of 100 bytes out of each frame of 1 MiB would fill the memory while
/// the inbox seems empty. So a payload is a slice of the frame only if it is most of the memory kept alive by it.
struct Payloads<'a> {
    frame: &'a Bytes,
    /// A copy of the part of the frame that `place` names.
    copy: Bytes,
    place: Range<usize>,
}

impl<'a> Payloads<'a> {
    const fn new(frame: &'a Bytes) -> Self {
        Self { frame, copy: Bytes::new(), place: 0..0 }
    }

    /// The payload at this place.
    #[inline]
    fn take(&mut self, place: Range<usize>) -> Bytes {
        if place.is_empty() {
            return Bytes::new();
        }
        if place.start < self.place.start || place.end > self.place.end {
            let bytes = place.len();
            if bytes >= SHARED_FROM && bytes >= self.frame.len() / 2 {
                return self.frame.slice(place);
            }
            // A copy of its own for one that would be alone.
            if bytes > COPIED / 2 || place.end == self.frame.len() {
                return Bytes::copy_from_slice(&self.frame[place]);
            }
            self.place = place.start..self.frame.len().min(place.start + COPIED);
            self.copy = Bytes::copy_from_slice(&self.frame[self.place.clone()]);
        }
        self.copy.slice(place.start - self.place.start..place.end - self.place.start)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(bytes: usize) -> Bytes {
        (0..bytes).map(|byte| byte as u8).collect::<Vec<_>>().into()
    }

    #[test]
    fn payloads_are_what_the_frame_holds_at_their_places() {
        let frame = frame(20_000);
        let mut payloads = Payloads::new(&frame);
        let places =
            [0..0, 3..131, 151..279, 2_000..2_060, 2_060..5_000, 5_010..5_020, 5_010..5_020, 19_990..20_000];
        for place in places {
            assert_eq!(payloads.take(place.clone()), frame[place]);
        }
    }

    #[test]
    fn a_small_payload_keeps_at_most_two_kibibytes_alive_and_shares_them_with_its_neighbours() {
        let frame = frame(8_192);
        let mut payloads = Payloads::new(&frame);
        let taken: Vec<_> = (0..50).map(|index| payloads.take(index * 150..index * 150 + 128)).collect();
        drop(payloads);
        assert!(frame.is_unique(), "none is a slice of the frame");
        // Neighbours are slices of one copy if they lie as far apart as in the frame.
        let is_shared = |pair: &[Bytes]| pair[1].as_ptr().addr().wrapping_sub(pair[0].as_ptr().addr()) == 150;
        let copies = 1 + taken.windows(2).filter(|pair| !is_shared(pair)).count();
        assert_eq!(copies, 4, "50 payloads take 7,500 bytes of the frame");
        let mut alone = Payloads::new(&frame);
        assert!(alone.take(8_000..8_192).is_unique() && alone.take(10..2_000).is_unique());
        drop(alone);
        assert!(frame.is_unique());
    }

    #[test]
    fn a_payload_that_is_most_of_its_frame_is_a_slice_of_it() {
        let frame = frame(8_192);
        let payload = Payloads::new(&frame).take(1_000..8_000);
        assert_eq!(payload.as_ptr().addr() - frame.as_ptr().addr(), 1_000);
    }
}
