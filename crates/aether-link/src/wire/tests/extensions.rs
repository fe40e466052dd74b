//! Extension fields: the root and the baggage of a wave, and unknown ones.

use std::sync::Arc;

use proptest::prelude::*;

use super::{FrameError, SENDER, alpha, body, channel, encode, extras, handmade, now, read, turned};
use aether_core::wave::{
    Baggage, BaggageError, Body, MAX_BAGGAGE_BYTES, MAX_BAGGAGE_ENTRIES, MAX_TRACESTATE_BYTES, Request,
    TraceContext, TraceContextError,
};
use aether_core::{Metadata, Source, Wave, WaveId};

/// Baggage of the largest size.
pub(super) fn fullest_baggage() -> Baggage {
    let value = "v".repeat(MAX_BAGGAGE_BYTES / MAX_BAGGAGE_ENTRIES - 1);
    let names: Vec<_> = ('a'..).take(MAX_BAGGAGE_ENTRIES).map(String::from).collect();
    let baggage = Baggage::of(names.iter().map(|name| (&**name, &*value))).unwrap();
    assert_eq!(baggage.bytes(), MAX_BAGGAGE_BYTES);
    baggage
}

/// A root and baggage of the largest size.
pub(super) fn fullest_request(source: Source) -> Option<Arc<Request>> {
    Request::of(Some(WaveId { source, sequence: u64::MAX - 1 }), fullest_baggage())
}

/// A trace context of the largest size.
pub(super) fn fullest_trace() -> TraceContext {
    let trace = TraceContext::new(u128::MAX, u64::MAX, u8::MAX).unwrap();
    trace.with_state(&"s".repeat(MAX_TRACESTATE_BYTES)).unwrap()
}

#[test]
fn a_trace_context_is_read_as_it_was_written_and_its_length_is_checked() {
    let frame_with = |trace: &TraceContext| {
        let mut wave = Wave::from_body(body(alpha(), "x"));
        wave.set_trace_context(trace.clone());
        encode(SENDER, Some(&channel()), std::slice::from_ref(&wave), now()).unwrap()
    };
    let short = TraceContext::new(0x0102 << 112 | 3, 0x0405, 1).unwrap();
    for trace in [short.clone(), fullest_trace()] {
        let read = read(frame_with(&trace), None).unwrap().waves.remove(0);
        assert_eq!(read.trace_context(), Some(trace));
        assert!(read.metadata().is_empty());
    }
    // The bytes of W3C's text form, in its order.
    let ids = [&[1, 2], &[0; 13][..], &[3], &[0; 6], &[4, 5], &[1]].concat();
    assert!(frame_with(&short).windows(25).any(|bytes| bytes == ids));
    let with_field =
        |content: &[u8]| read(handmade(&[], &[&[8, content.len() as u8], content].concat(), b""), None);
    assert_eq!(with_field(&[0; 25]).unwrap_err(), FrameError::Trace(TraceContextError::Zero));
    assert!(matches!(with_field(&[1; 24]), Err(FrameError::Truncated { .. })));
}

pub(super) fn any_baggage() -> impl Strategy<Value = Baggage> {
    let some = prop::collection::btree_map("[a-z.]{1,10}", "\\PC{0,10}", 0..=MAX_BAGGAGE_ENTRIES);
    let of = |entries: std::collections::BTreeMap<String, String>| {
        Baggage::of(entries.iter().map(|(name, value)| (&**name, &**value))).unwrap()
    };
    prop_oneof![2 => Just(Baggage::default()), 1 => Just(fullest_baggage()), 2 => some.prop_map(of)]
}

#[test]
fn a_wave_that_begins_a_request_and_one_that_it_caused_have_no_byte_more() {
    let id = |sequence| WaveId { source: alpha(), sequence };
    let bytes = |cause: Option<WaveId>, root: Option<WaveId>| {
        let request = Request::of(root, Baggage::default());
        let mut extras = extras(None, cause, Metadata::default());
        extras.request = request;
        let wave = Wave::from_body(Body { extras: Some(Box::new(extras)), ..body(alpha(), "x") });
        let frame = encode(SENDER, Some(&channel()), std::slice::from_ref(&wave), now()).unwrap();
        let read = read(frame.clone(), None).unwrap().waves.remove(0);
        assert_eq!((read.root(), read.cause()), (wave.root(), wave.cause()));
        frame.len()
    };
    let plain = bytes(None, None);
    // Tag, length, instance, sequence, name.
    let an_id = 1 + 1 + 8 + 1 + "alpha".len();
    assert_eq!(bytes(None, Some(id(1))), plain, "its own root");
    assert_eq!(bytes(Some(id(7)), None), plain + an_id, "the cause is the root");
    assert_eq!(bytes(Some(id(7)), Some(id(3))), plain + 2 * an_id);
    assert_eq!(bytes(Some(id(7)), Some(id(1))), plain + 2 * an_id, "it is caused, and its root is itself");
    assert_eq!(bytes(None, Some(id(7))), plain + an_id);
}

#[test]
fn baggage_beyond_its_bounds_is_refused_and_not_read_to_its_end() {
    let entries = |many: u8| (0..many).flat_map(|n| [2, b'a' + n / 26, b'a' + n % 26, 0]).collect::<Vec<_>>();
    let refused = |content: &[u8]| {
        // The length as a varint of two bytes.
        let length = [content.len() as u8 | 0x80, (content.len() >> 7) as u8];
        read(handmade(&[], &[&[7], &length[..], content].concat(), b""), None).unwrap_err()
    };
    let most = [&[7, 64][..], &entries(16)].concat();
    let most = read(handmade(&[], &most, b""), None).unwrap();
    assert_eq!(most.waves[0].baggage().len(), MAX_BAGGAGE_ENTRIES);
    let full = |name: &str| FrameError::Baggage(BaggageError::Full { name: name.into() });
    // Nothing after the entry that is one too many is looked at, though it is malformed.
    assert_eq!(refused(&[entries(17), vec![99; 80]].concat()), full("aq"));
    assert_eq!(refused(&[&[1, b'a', 0x80, 8][..], &[b'v'; MAX_BAGGAGE_BYTES]].concat()), full("a"));
    let longer = refused(&[&[1, b'a', 0x81, 8][..], &[b'v'; MAX_BAGGAGE_BYTES + 1]].concat());
    let is_too_long =
        matches!(longer, FrameError::TooLong { field: "baggage value", max_bytes: MAX_BAGGAGE_BYTES, .. });
    assert!(is_too_long, "{longer}");
}

#[test]
fn unknown_extension_fields_are_skipped_in_frame_and_wave() {
    let unknown = [0, 1, 0xFF, 6, 0, 0x80, 0x01, 2, 1, 2];
    let between = [1, 4, 0, 0, 0x80, 0x3F, 2, 1, b'k', 77, 3, 9, 9, 9];
    let frame = read(handmade(&unknown, &between, b"xyz"), None).unwrap();
    let wave = &frame.waves[0];
    assert_eq!((wave.key(), wave.phase(), wave.payload().as_ref()), (Some("k"), turned(1.0), &b"xyz"[..]));
    assert_eq!((frame.sender, frame.channel.as_str()), (SENDER, "a"));
    assert_eq!(wave.id().to_string(), "s@9/1");
}
