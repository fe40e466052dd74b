//! The golden frames that are rejected: the example, corrupted in one place each.

use std::f32::consts::PI;

use crate::protocol::layout::{Field, FrameSpec, Layout};
use crate::protocol::readable::{single, with_fields};
use crate::protocol::vectors::Vector;

pub(crate) fn all() -> Vec<Vector> {
    let frame = || single().layout();
    let at = |position| FrameSpec { fields: vec![Field::position(position)], ..single() };
    let fields = |fields: Vec<Field>| with_fields(fields).layout();
    let raw = |tag, bytes: &[u8]| fields(vec![Field::raw(tag, "corrupted", bytes)]);
    let claim = [&[0x80; 8][..], &[0x10]].concat();
    let many = vec![("n", "v"); 33];
    let crowd: Vec<_> = (0..17).map(|at| (&"abcdefghijklmnopq"[at..=at], "v")).collect();
    let elsewhere = |mut vector: Vector| {
        vector.address = Some("orders.paid");
        vector
    };
    let no = Vector::refused;
    vec![
        no("bad-empty", "Magic", "No bytes.", Layout::default()),
        no("bad-magic", "Magic", "JSON.", Layout::default().and(b"{\"sku\":\"lamp\"}", "no frame")),
        no("bad-version", "Version", "A future version.", frame().with("version", &[2])),
        no("bad-header", "Truncated", "Ends within the header.", frame().cut(70)),
        no("bad-cut", "Truncated", "The last byte is missing.", frame().cut(1)),
        no("bad-rest", "LeftOver", "A byte after the last wave.", frame().and(&[0], "left over")),
        no("bad-no-channel", "Address", "Neither frame nor address names a channel.", {
            frame().with("length of the channel", &[0]).with("channel", &[])
        }),
        elsewhere(no("bad-address", "Address", "Frame and address name two channels.", frame())),
        no("bad-channel", "Channel", "A space in the channel.", frame().with("channel", b"orders created")),
        no(
            "bad-wildcard",
            "Channel",
            "A pattern for a channel.",
            frame().with("channel", b"orders.created*"[1..].as_ref()),
        ),
        no(
            "bad-channel-length",
            "TooLong",
            "A channel of 256 bytes.",
            frame().with("length of the channel", &[0x80, 2]),
        ),
        no("bad-utf-8", "Utf8", "A channel that is not UTF-8.", frame().with("channel", &[0xFF; 14])),
        no(
            "bad-overlong",
            "Varint",
            "The number 1 in two bytes.",
            frame().with("number of sources", &[0x81, 0]),
        ),
        no("bad-65-bits", "Varint", "A number of 65 bits.", {
            frame().with("number of sources", &[&[0xFF; 9][..], &[2]].concat())
        }),
        no("bad-no-sources", "Empty", "No sources.", FrameSpec { sources: vec![], ..single() }.layout()),
        no("bad-no-source-at", "Empty", "No sources and a position, but a wave.", {
            FrameSpec { sources: vec![], ..at([1, 2, 3]) }.layout()
        }),
        no("bad-short-position", "Truncated", "A position of one byte.", {
            let short = Field::raw(1, "corrupted", [1]);
            FrameSpec { fields: vec![short], ..single() }.layout()
        }),
        no("bad-long-position", "LeftOver", "A position of four numbers.", {
            let long = Field::raw(1, "corrupted", [1, 2, 3, 4]);
            FrameSpec { fields: vec![long], ..single() }.layout()
        }),
        no("bad-no-waves", "Empty", "No waves.", frame().with("number of waves", &[0])),
        no(
            "bad-many-sources",
            "Truncated",
            "A claim of 2^60 sources.",
            frame().with("number of sources", &claim),
        ),
        no("bad-many-waves", "Truncated", "A claim of 2^60 waves.", frame().with("number of waves", &claim)),
        no(
            "bad-source",
            "Source",
            "A line break in the name of a source.",
            frame().with("source 0: name", b"al\npa"),
        ),
        no("bad-no-name", "Source", "A source without a name.", {
            frame().with("source 0: length", &[0]).with("source 0: name", &[])
        }),
        no("bad-long-name", "TooLong", "A source with a name of 129 bytes.", {
            frame().with("source 0: length", &[0x81, 1]).with("source 0: name", &[b's'; 129])
        }),
        no(
            "bad-record",
            "Truncated",
            "A record longer than the frame.",
            frame().with("wave 0", &[99, 0, 0, 0]),
        ),
        no(
            "bad-short-record",
            "Truncated",
            "A record that ends before its age.",
            frame().with("wave 0", &[9, 0, 0, 0]),
        ),
        no(
            "bad-source-index",
            "Value",
            "A source that is not in the table.",
            frame().with("source index", &[1, 0]),
        ),
        no("bad-kind", "Value", "A kind that is not defined.", frame().with("kind", &[5])),
        no(
            "bad-half-life",
            "Value",
            "A half-life class that is not defined.",
            frame().with("half-life", &[41]),
        ),
        no("bad-hops", "Value", "Eleven hops.", frame().with("hops", &[11])),
        no(
            "bad-content-code",
            "Value",
            "A content type code that is not defined.",
            frame().with("content", &[3]),
        ),
        no("bad-content-missing", "Value", "Code 255 without a media type.", frame().with("content", &[255])),
        no(
            "bad-content-twice",
            "Value",
            "A code and a media type.",
            fields(vec![Field::content_type("a/b")]),
        ),
        no(
            "bad-media-type",
            "ContentType",
            "A line break in the media type.",
            raw(5, b"text/plain;\n").with("content", &[255]),
        ),
        no("bad-phase", "Phase", "A phase that is not a number.", fields(vec![Field::phase(f32::NAN)])),
        no("bad-short-phase", "Truncated", "A phase of three bytes.", raw(1, &[0, 0, 0])),
        no("bad-long-phase", "LeftOver", "A phase of five bytes.", raw(1, &[0, 0, 0, 0, 0])),
        no("bad-no-key", "Value", "A coherence key of no bytes.", raw(2, &[])),
        no("bad-long-key", "TooLong", "A coherence key of 256 bytes.", raw(2, &[b'k'; 256])),
        no(
            "bad-cause",
            "Source",
            "A cause without the name of its source.",
            fields(vec![Field::cause(1, 1, "")]),
        ),
        no(
            "bad-metadata-name",
            "Metadata",
            "A colon in a name.",
            fields(vec![Field::metadata(&[("a:b", "v")])]),
        ),
        no(
            "bad-metadata-value",
            "Metadata",
            "A line break in a value.",
            fields(vec![Field::metadata(&[("a", "v\r\nb: c")])]),
        ),
        no("bad-root", "Truncated", "A root of three bytes.", raw(6, &[1, 2, 3])),
        no(
            "bad-baggage-name",
            "Baggage",
            "A space in a name.",
            fields(vec![Field::baggage(&[("a b", "v")])]),
        ),
        no(
            "bad-baggage-value",
            "Baggage",
            "A line break in a value.",
            fields(vec![Field::baggage(&[("a", "v\r\nb: c")])]),
        ),
        no(
            "bad-baggage-order",
            "BaggageOrder",
            "Names that do not rise.",
            fields(vec![Field::baggage(&[("b", ""), ("a", "")])]),
        ),
        no("bad-baggage-twice", "BaggageOrder", "A repeated name.", {
            fields(vec![Field::baggage(&[("a", ""), ("a", "")])])
        }),
        no("bad-baggage-count", "Baggage", "17 entries.", fields(vec![Field::baggage(&crowd)])),
        no(
            "bad-baggage-size",
            "Baggage",
            "1025 bytes.",
            fields(vec![Field::baggage(&[("n", &"v".repeat(1024))])]),
        ),
        no("bad-trace-id", "Trace", "A trace id of zeros.", fields(vec![Field::trace(0, 1, 1, "")])),
        no("bad-trace-span", "Trace", "A span id of zeros.", fields(vec![Field::trace(1, 0, 1, "")])),
        no("bad-trace-state", "Trace", "A line break.", fields(vec![Field::trace(1, 1, 1, "a=1\nb")])),
        no("bad-trace-length", "Truncated", "No flags.", raw(8, &[1; 24])),
        no("bad-metadata-count", "Metadata", "33 entries.", fields(vec![Field::metadata(&many)])),
        no(
            "bad-metadata-size",
            "Metadata",
            "8193 bytes.",
            fields(vec![Field::metadata(&[("n", &"v".repeat(8192))])]),
        ),
        no(
            "bad-repeated-field",
            "TagOrder",
            "Two coherence keys.",
            fields(vec![Field::key("a"), Field::key("b")]),
        ),
        no(
            "bad-field-order",
            "TagOrder",
            "A phase after a key.",
            fields(vec![Field::key("a"), Field::phase(PI)]),
        ),
        no("bad-repeated-unknown", "TagOrder", "An unknown field twice in the frame.", {
            let unknown = Field::raw(9, "unknown", [1]);
            FrameSpec { fields: vec![unknown.clone(), unknown], ..single() }.layout()
        }),
        no(
            "bad-field-length",
            "Truncated",
            "A field longer than its fields.",
            raw(9, &[1]).with("length of field", &[2]),
        ),
    ]
}
