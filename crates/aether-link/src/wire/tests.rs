//! Frames of arbitrary content, corrupt frames and malicious ones.

mod arbitrary;
mod extensions;

use std::time::Duration;

use bytes::Bytes;
use proptest::prelude::*;

use super::{
    EncodeError, Frame, FrameError, MAX_CONTENT_TYPE_BYTES, Position, Sender, decode, encode, encode_at,
    frame_bound, is_frame, record_bound,
};
use aether_core::clock::{self, Instant};
use aether_core::wave::{
    BaggageError, Body, ChannelError, ContentType, Extras, MAX_HOPS, MAX_KEY_BYTES, MAX_METADATA_BYTES,
    MAX_METADATA_ENTRIES, MAX_NAME_BYTES, MAX_SOURCE_BYTES, MetadataError, Origin, Request, Signal,
    SourceError,
};
use aether_core::{Amplitude, Channel, HalfLife, Kind, Metadata, Phase, Source, Wave, WaveId};
use extensions::{any_baggage, fullest_request, fullest_trace};

const SENDER: Sender = Sender { node: 0x0123_4567_89AB_CDEF, sent_micros: 1_700_000_000_000_000 };

fn channel() -> Channel {
    Channel::new("orders.created").unwrap()
}

fn alpha() -> Source {
    Source::with_instance("alpha", 0x1F9A_3C5B_7D2E_4F60).unwrap()
}

fn body(source: Source, payload: impl Into<Bytes>) -> Body {
    Body {
        source,
        sequence: 1,
        channel: channel(),
        kind: Kind::Event,
        signal: Signal::new(Amplitude::NORMAL, HalfLife::EIGHT_SECONDS),
        phase: Phase::ASSERT,
        age: Duration::ZERO,
        since: None,
        content_type: ContentType::Bytes,
        payload: payload.into(),
        extras: None,
    }
}

fn extras(key: Option<String>, cause: Option<WaveId>, metadata: Metadata) -> Extras {
    let mut extras = Extras::default();
    (extras.key, extras.cause, extras.metadata) = (key.map(String::into_boxed_str), cause, metadata);
    extras
}

/// A wave with every field at its maximum.
fn fullest_wave() -> Wave {
    let longest = || Source::with_instance(&"s".repeat(MAX_SOURCE_BYTES), u64::MAX).unwrap();
    let mut metadata = Metadata::default();
    for _ in 0..MAX_METADATA_ENTRIES {
        metadata.push("n", &"v".repeat(MAX_METADATA_BYTES / MAX_METADATA_ENTRIES - 1)).unwrap();
    }
    assert_eq!(metadata.bytes(), MAX_METADATA_BYTES);
    let mut rare = extras(
        Some("k".repeat(MAX_KEY_BYTES)),
        Some(WaveId { source: longest(), sequence: u64::MAX }),
        metadata,
    );
    (rare.request, rare.trace) = (fullest_request(longest()), Some(fullest_trace()));
    Wave::from_body(Body {
        sequence: u64::MAX,
        kind: Kind::Broadcast,
        signal: Signal { amplitude: Amplitude::FAINTEST, half_life: HalfLife::NEVER, hops: MAX_HOPS },
        phase: Phase::RETRACT,
        age: Duration::from_micros(u64::MAX),
        extras: rare.boxed(),
        content_type: ContentType::new(&"t".repeat(MAX_CONTENT_TYPE_BYTES)).unwrap(),
        ..body(longest(), vec![7; 100_000])
    })
}

/// Decodes with no transit time, at the moment of encoding.
fn read(bytes: impl Into<Bytes>, address: Option<&Channel>) -> Result<Frame, FrameError> {
    decode(&bytes.into(), address, now(), |_| Duration::ZERO)
}

/// One moment for all tests, so that they decode at the moment of encoding.
fn now() -> Instant {
    static NOW: std::sync::LazyLock<Instant> = std::sync::LazyLock::new(clock::test_now);
    *NOW
}

/// The fields of a wave that a frame carries, for comparison.
fn facts(wave: &Wave) -> impl PartialEq + std::fmt::Debug + use<> {
    let about = (wave.id(), wave.channel().clone(), wave.kind(), wave.signal(), wave.phase());
    let more = (wave.age_when(now()), wave.key().map(str::to_owned));
    (
        about,
        more,
        Origin::from(wave),
        wave.cause().cloned(),
        wave.metadata().clone(),
        wave.content_type().clone(),
        wave.payload().clone(),
    )
}

fn any_source() -> impl Strategy<Value = Source> {
    let name = prop_oneof![4 => "\\PC{1,30}", 1 => Just("s".repeat(MAX_SOURCE_BYTES))];
    (name, prop_oneof![0..3u64, any::<u64>()])
        .prop_map(|(name, instance)| Source::with_instance(&name, instance).unwrap())
}

fn any_metadata() -> impl Strategy<Value = Metadata> {
    prop_oneof![
        2 => Just(Vec::new()),
        3 => prop::collection::vec(("[!-9;-~]{1,20}", "\\PC{0,30}"), 0..=MAX_METADATA_ENTRIES),
    ]
    .prop_map(|entries| {
        let mut metadata = Metadata::default();
        for (name, value) in entries {
            metadata.push(&name, &value).unwrap();
        }
        metadata
    })
}

fn any_content_type() -> impl Strategy<Value = ContentType> {
    prop_oneof![
        Just(ContentType::Bytes),
        Just(ContentType::Json),
        Just(ContentType::Text),
        "[a-z]{1,9}/[a-z.+-]{1,20}(; v=[0-9])?".prop_map(|text| ContentType::new(&text).unwrap()),
    ]
}

fn any_payload() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        1 => Just(Vec::new()),
        8 => prop::collection::vec(any::<u8>(), 0..200),
        1 => (4000..200_000usize, any::<u8>()).prop_map(|(bytes, fill)| vec![fill; bytes]),
    ]
}

fn any_signal() -> impl Strategy<Value = Signal> {
    let half_life = prop_oneof![0..=40u8, Just(255)].prop_map(|class| HalfLife::from_class(class).unwrap());
    (any::<u16>().prop_map(Amplitude::from_loss), half_life, 0..=MAX_HOPS)
        .prop_map(|(amplitude, half_life, hops)| Signal { amplitude, half_life, hops })
}

fn any_wave(sources: Vec<Source>) -> impl Strategy<Value = Wave> {
    let number = || prop_oneof![0..300u64, any::<u64>()];
    let phase = prop_oneof![Just(Phase::ASSERT), Just(Phase::RETRACT), (-10f32..10.0).prop_map(turned)];
    let key = prop::option::of(prop_oneof![4 => "\\PC{1,40}", 1 => Just("k".repeat(MAX_KEY_BYTES))]);
    let id = || (any_source(), number()).prop_map(|(source, sequence)| WaveId { source, sequence });
    let followed = (prop::option::of(id()), prop::option::of(id()), any_baggage());
    let about = (prop::sample::select(sources), number(), prop::sample::select(&Kind::ALL), any_signal());
    (about, (number(), phase, key, followed), any_metadata(), any_content_type(), any_payload()).prop_map(
        |((source, sequence, kind, signal), (age, phase, key, followed), metadata, content_type, payload)| {
            let (cause, root, baggage) = followed;
            let mut rare = extras(key, cause, metadata);
            rare.request = Request::of(root, baggage);
            let age = Duration::from_micros(age);
            let body = body(source, payload);
            let since = Some(clock::moment_of(now()));
            Wave::from_body(Body {
                sequence,
                kind,
                signal,
                phase,
                age,
                since,
                extras: rare.boxed(),
                content_type,
                ..body
            })
        },
    )
}

fn turned(radians: f32) -> Phase {
    Phase::new(radians).unwrap()
}

fn any_waves() -> impl Strategy<Value = Vec<Wave>> {
    prop::collection::vec(any_source(), 1..30)
        .prop_flat_map(|sources| prop::collection::vec(any_wave(sources), 1..40))
}

/// A frame of one wave put together by hand: channel `a`, source `s`. Byte offsets: channel 20, sources 22, name 31,
/// extension fields 33, waves 35, record 36; within the record the source index 40, kind 42, half-life 45, hops 46,
/// content type 47, sequence 48, age 49, extension fields 50.
fn handmade(frame_fields: &[u8], wave_fields: &[u8], payload: &[u8]) -> Vec<u8> {
    let mut record = vec![0, 0, 0, 0, 8, 13, 0, 0, 1, 0];
    record.extend((wave_fields.len() as u16).to_le_bytes());
    record.extend([wave_fields, payload].concat());
    let mut frame = b"\xAETH\x01".to_vec();
    frame.extend([SENDER.node.to_le_bytes(), SENDER.sent_micros.to_le_bytes()].concat());
    frame.extend([1, b'a', 1, 9, 0, 0, 0, 0, 0, 0, 0, 1, b's']);
    frame.extend((frame_fields.len() as u16).to_le_bytes());
    frame.extend(frame_fields);
    frame.push(1);
    frame.extend((record.len() as u32).to_le_bytes());
    frame.extend(record);
    frame
}

/// The same frame with some bytes replaced.
fn corrupted(range: std::ops::Range<usize>, with: &[u8]) -> Vec<u8> {
    let mut frame = handmade(&[], &[], b"xyz");
    frame.splice(range, with.iter().copied());
    frame
}

#[test]
fn each_defect_is_rejected_by_name_and_offset() {
    use FrameError::*;
    let field = |fields: &[u8]| handmade(&[], fields, b"");
    let long = |bytes: u8| [&[2, bytes, 2][..], &[b'k'; 256]].concat();
    let spoilt_name = |name: &[u8]| corrupted(31..33, &[&[name.len() as u8], name].concat());
    let value = |field, value, at, allowed| Value { field, value, at, allowed };
    let cut = |field, at| Truncated { field, at };
    let bad_channel = aether_core::Channel::new(" ").unwrap_err();
    let types = "255 with a media type in extension field 5, or else 0, 1 or 2 without it";
    let cases = [
        (b"".to_vec(), Magic { found: vec![] }),
        (b"{\"a\":1}".to_vec(), Magic { found: b"{\"a".to_vec() }),
        (corrupted(3..4, &[2]), Version { found: 2 }),
        (corrupted(3..4, &[0x81]), Sealed),
        (corrupted(9..55, &[]), cut("node", 9)),
        (corrupted(20..21, &[0]), Address { frame: String::new(), address: String::new() }),
        (corrupted(20..22, &[1, 0xFF]), Utf8 { field: "channel", at: 21 }),
        (corrupted(20..22, &[1, b' ']), Channel(bad_channel)),
        (corrupted(20..22, &[0x80, 2]), TooLong { field: "channel", bytes: 256, max_bytes: 255, at: 22 }),
        (corrupted(22..33, &[0]), Empty { what: "sources" }),
        (corrupted(22..23, &[0x81, 0]), Varint { field: "sources", at: 22 }),
        (corrupted(22..23, &[[0xFF; 9].as_slice(), &[2]].concat()), Varint { field: "sources", at: 22 }),
        (corrupted(22..23, &[0x80; 11]), Varint { field: "sources", at: 22 }),
        (spoilt_name(b""), Source(SourceError::Name { name: String::new() })),
        (spoilt_name(b"a\n"), Source(SourceError::Name { name: "a\n".into() })),
        (corrupted(31..32, &[0x81, 1]), TooLong { field: "source name", bytes: 129, max_bytes: 128, at: 33 }),
        (corrupted(33..35, &[99, 0]), cut("extensions", 55)),
        (handmade(&[5, 1, 0, 5, 1, 0], &[], b""), TagOrder { tag: 5, before: 5, at: 38 }),
        (corrupted(35..36, &[0]), Empty { what: "waves" }),
        (corrupted(36..40, &[99, 0, 0, 0]), cut("record", 55)),
        (corrupted(36..40, &[9, 0, 0, 0]), cut("age", 49)),
        (corrupted(40..42, &[1, 0]), value("source index", 1, 40, "an index into the source table")),
        (corrupted(42..43, &[5]), value("kind", 5, 42, "0 to 4")),
        (corrupted(45..46, &[41]), value("half-life", 41, 45, "0 to 40, or 255 for never")),
        (corrupted(46..47, &[11]), value("hops", 11, 46, "0 to 10")),
        (corrupted(47..48, &[3]), value("content type", 3, 47, "0, 1, 2 or 255")),
        (corrupted(47..48, &[255]), value("content type", 255, 47, types)),
        (field(&[5, 3, b'a', b'/', b'b']), value("content type", 0, 47, types)),
        (field(&[5, 0]), ContentType { at: 54 }),
        (field(&[1, 4, 0, 0, 0xC0, 0x7F]), Phase),
        (field(&[1, 3, 0, 0, 0]), cut("phase", 57)),
        (field(&[1, 5, 0, 0, 0, 0, 0]), LeftOver { field: "an extension field", bytes: 1 }),
        (field(&[2, 0]), value("key length", 0, 54, "1 to 255")),
        (field(&long(0x80)), TooLong { field: "key", bytes: 256, max_bytes: 255, at: 55 }),
        (field(&[2, 1, b'k', 2, 1, b'k']), TagOrder { tag: 2, before: 2, at: 55 }),
        (field(&[2, 1, b'k', 1, 4, 0, 0, 0, 0]), TagOrder { tag: 1, before: 2, at: 55 }),
        (field(&[3, 9, 1, 0, 0, 0, 0, 0, 0, 0, 1]), Source(SourceError::Name { name: String::new() })),
        (field(&[4, 4, 1, b':', 1, b'v']), Metadata(MetadataError::Name { name: ":".into() })),
        (field(&[4, 3, 1, b'n', 9]), cut("metadata value", 57)),
        (field(&[6, 10, 1, 0, 0, 0, 0, 0, 0, 0, 1, b'\n']), Source(SourceError::Name { name: "\n".into() })),
        (field(&[7, 4, 1, b'a', 1, 0]), Baggage(BaggageError::Value { name: "a".into() })),
        (field(&[7, 6, 1, b'b', 0, 1, b'a', 0]), BaggageOrder { at: 57 }),
        (field(&[7, 6, 1, b'a', 0, 1, b'a', 0]), BaggageOrder { at: 57 }),
        (field(&[&[8, 25][..], &[0; 25]].concat()), Trace(aether_core::wave::TraceContextError::Zero)),
        (field(&[9, 2, 1]), cut("extension field", 55)),
        (corrupted(55..55, b"!"), LeftOver { field: "the last wave", bytes: 1 }),
    ];
    let mut seen = [false; 20];
    for (frame, expected) in cases {
        assert_eq!(read(frame.clone(), None).unwrap_err(), expected, "{frame:02x?}");
        // Without a wildcard, so that a new variant needs a case.
        let variant = match expected {
            Magic { .. } => 0,
            Version { .. } => 1,
            Truncated { .. } => 2,
            LeftOver { .. } => 3,
            Varint { .. } => 4,
            Empty { .. } => 5,
            Value { .. } => 6,
            Utf8 { .. } => 7,
            Address { .. } => 8,
            Channel(_) => 9,
            Source(_) => 10,
            Phase => 11,
            TooLong { .. } => 12,
            TagOrder { .. } => 13,
            Metadata(_) => 14,
            ContentType { .. } => 15,
            Baggage(_) => 16,
            BaggageOrder { .. } => 17,
            Trace(_) => 18,
            Sealed => 19,
            Misnamed { .. } => unreachable!("who reads the frame holds it against its signer"),
        };
        seen[variant] = true;
    }
    assert_eq!(seen, [true; 20], "a variant of FrameError has no case");
}

#[test]
fn the_channel_comes_from_the_frame_or_the_address_and_must_not_differ() {
    let (here, elsewhere) = (channel(), Channel::new("orders.paid").unwrap());
    let waves = [Wave::from_body(body(alpha(), "x"))];
    let named = encode(SENDER, Some(&here), &waves, now()).unwrap();
    let unnamed = encode(SENDER, None, &waves, now()).unwrap();
    for (bytes, address) in [(&named, None), (&named, Some(&here)), (&unnamed, Some(&here))] {
        assert_eq!(read(bytes.clone(), address).unwrap().channel, here);
    }
    let error = read(named, Some(&elsewhere)).unwrap_err();
    assert_eq!(error, FrameError::Address { frame: here.to_string(), address: elsewhere.to_string() });
}

#[test]
fn a_frame_that_is_cut_off_anywhere_is_refused() {
    let mut small = body(Source::with_instance("ü", 3).unwrap(), "payload");
    let mut metadata = Metadata::default();
    metadata.push("n", "v").unwrap();
    small.extras = extras(Some("k".into()), None, metadata).boxed();
    let waves = [Wave::from_body(small), fullest_wave()];
    let frame = encode(SENDER, Some(&channel()), &waves, now()).unwrap();
    let cut = |end: usize| read(frame.slice(..end), None);
    assert_eq!(cut(frame.len()).unwrap().waves.len(), 2);
    // The payload of the last wave is 100,000 equal bytes, so every seventh offset in it suffices.
    for end in (0..12_000).chain((12_000..frame.len()).step_by(7)) {
        let error = cut(end).unwrap_err();
        let by_name = matches!(error, FrameError::Truncated { .. } | FrameError::Magic { .. });
        assert!(by_name, "cut off at {end}: {error}");
    }
}

#[test]
fn claims_of_2_to_the_60_items_are_rejected_before_memory_is_allocated() {
    let claim = [[0x80; 8].as_slice(), &[0x10]].concat();
    let refused = |at: usize| read(corrupted(at..at + 1, &claim), None).unwrap_err();
    assert_eq!(refused(22), FrameError::Truncated { field: "sources", at: 63 });
    assert_eq!(refused(35), FrameError::Truncated { field: "waves", at: 63 });
    assert_eq!(refused(20), FrameError::TooLong { field: "channel", bytes: 1 << 60, max_bytes: 255, at: 29 });
    // One more than the 19 remaining bytes could hold, at 16 bytes a wave.
    let frame = corrupted(35..36, &[2]);
    assert_eq!(read(frame, None).unwrap_err(), FrameError::Truncated { field: "waves", at: 55 });
}

#[test]
fn an_error_does_not_hold_oversized_remote_text() {
    let name = vec![b'\n'; 1 << 20];
    let frame = corrupted(31..33, &[&[0x80, 0x80, 0x40], &name[..]].concat());
    let error = read(frame, None).unwrap_err();
    assert_eq!(error, FrameError::TooLong { field: "source name", bytes: 1 << 20, max_bytes: 128, at: 34 });
    let fields = [&[4, 0x84, 0x80, 2, 0x80, 0x80, 2], &name[..0x8001]].concat();
    assert!(format!("{:?}", read(handmade(&[], &fields, b""), None).unwrap_err()).len() < 200);
}

#[test]
fn the_fullest_wave_fits_and_no_longer_media_type_can_be_made() {
    let frame = encode(SENDER, None, &[fullest_wave()], now()).unwrap();
    let read = read(frame, Some(&channel())).unwrap();
    assert_eq!(facts(&read.waves[0]), facts(&fullest_wave()));
    assert!(ContentType::new(&"t".repeat(MAX_CONTENT_TYPE_BYTES + 1)).is_err());
}

#[test]
fn an_excessive_age_saturates() {
    aether_core::clock::follow_tokio();
    let frame = encode(SENDER, None, &[fullest_wave()], now()).unwrap();
    let frame = decode(&frame, Some(&channel()), now(), |_| Duration::MAX).unwrap();
    let later = now() + Duration::from_secs(3600);
    assert_eq!(frame.waves[0].age_when(later), Duration::from_micros(u64::MAX) + Duration::from_secs(3600));
    let again = encode(SENDER, None, &frame.waves, later).unwrap();
    assert_eq!(read(again, Some(&channel())).unwrap().waves[0].age_when(now()).as_micros(), u64::MAX.into());
}

#[test]
fn a_wave_keeps_a_frame_alive_only_if_it_is_most_of_it() {
    let kept = |sizes: &[usize]| {
        let waves = sizes.iter().map(|size| Wave::from_body(body(alpha(), vec![7; *size])));
        let bytes = encode(SENDER, None, &waves.collect::<Vec<_>>(), now()).unwrap();
        let frame = decode(&bytes, Some(&channel()), now(), |_| Duration::ZERO).unwrap();
        assert!(frame.waves.iter().map(|wave| wave.payload().len()).eq(sizes.iter().copied()));
        !bytes.is_unique()
    };
    assert!(kept(&[4096]) && kept(&[100_000, 100]));
    assert!(!kept(&[4095]) && !kept(&[100; 64]) && !kept(&[50_000; 3]) && !kept(&[0]));
}

#[test]
fn the_estimated_transit_is_added_to_each_age() {
    let waves =
        [1, 2].map(|age| Wave::from_body(Body { age: Duration::from_secs(age), ..body(alpha(), "x") }));
    let bytes = encode(SENDER, None, &waves, now()).unwrap();
    let frame = decode(&bytes, Some(&channel()), now(), |sender| {
        assert_eq!(sender, SENDER);
        Duration::from_millis(250)
    });
    let ages = frame.unwrap().waves.iter().map(|wave| wave.age_when(now()).as_millis()).collect::<Vec<_>>();
    assert_eq!(ages, [1250, 2250]);
}

#[test]
fn waves_that_do_not_fit_one_frame_are_refused_by_name() {
    let wave = |instance| Wave::from_body(body(Source::with_instance("s", instance).unwrap(), ""));
    let refused = |channel: Option<&Channel>, waves: &[Wave]| encode(SENDER, channel, waves, now());
    assert_eq!(refused(None, &[]), Err(EncodeError::Empty));
    assert_eq!(refused(Some(&channel()), &[]), Err(EncodeError::Empty));

    let (expected, found) = (channel(), Channel::new("orders.paid").unwrap());
    let stray = Wave::from_body(Body { channel: found.clone(), ..body(alpha(), "") });
    let error = EncodeError::Channel { index: 1, expected: expected.clone(), found: found.clone() };
    assert_eq!(refused(None, &[wave(1), stray.clone()]), Err(error));
    let error = EncodeError::Channel { index: 0, expected, found };
    assert_eq!(refused(Some(&channel()), &[stray]), Err(error));

    let mut waves = (0..=65_536).map(wave).collect::<Vec<_>>();
    assert_eq!(refused(None, &waves), Err(EncodeError::Sources { index: 65_536 }));
    waves.truncate(65_536);
    waves.extend_from_within(..20);
    let frame = read(refused(None, &waves).unwrap(), Some(&channel())).unwrap();
    assert!(frame.waves.iter().map(facts).eq(waves.iter().map(facts)));
}

/// The memory is never touched: the system maps 4 GiB of zeros lazily.
#[test]
#[cfg(target_pointer_width = "64")]
fn a_wave_of_four_gibibytes_is_refused_before_copying() {
    let wave = Wave::from_body(body(alpha(), vec![0; u32::MAX as usize]));
    let error = encode(SENDER, None, &[wave], now()).unwrap_err();
    assert!(
        matches!(error, EncodeError::TooLarge { index: 0, bytes } if bytes > u32::MAX as usize),
        "{error}"
    );
}

#[test]
fn a_frame_is_distinguished_from_text() {
    assert!(is_frame(&handmade(&[], &[], b"")));
    assert!(!is_frame(b"\xAETG") && !is_frame("{}".as_bytes()) && !is_frame(b""));
    assert_eq!(
        Channel::with_reserved(&"a".repeat(256)),
        Err(ChannelError::TooLong { bytes: MAX_NAME_BYTES + 1 })
    );
}
