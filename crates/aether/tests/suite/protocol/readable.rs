//! The golden frames that are valid, and their content.

use std::f32::consts::PI;

use crate::protocol::layout::{Field, FrameSpec, WaveSpec};
use crate::protocol::vectors::{Meant, NEVER, Vector};

/// The example: one event, sent at the beginning of 2026.
pub(crate) fn single() -> FrameSpec {
    FrameSpec {
        node: 0x0123_4567_89AB_CDEF,
        sent_micros: 1_767_225_600_000_000,
        channel: "orders.created",
        sources: vec![(0x1F9A_3C5B_7D2E_4F60, "alpha".into())],
        fields: vec![],
        waves: vec![wave()],
    }
}

fn wave() -> WaveSpec {
    WaveSpec {
        source: 0,
        kind: 0,
        loss: 2048,
        half_life: 13,
        hops: 0,
        content: 1,
        sequence: 17,
        age_micros: 1500,
        fields: vec![],
        payload: br#"{"sku":"lamp"}"#.to_vec(),
    }
}

pub(crate) fn with_fields(fields: Vec<Field>) -> FrameSpec {
    FrameSpec { waves: vec![WaveSpec { fields, ..wave() }], ..single() }
}

pub(crate) fn all() -> Vec<Vector> {
    let nothing = Meant::default();
    let unnamed = FrameSpec { channel: "", ..single() };

    let several = FrameSpec {
        channel: "orders",
        sources: ["alpha", "beta", "gamma"].iter().zip(1..).map(|(name, n)| (n, (*name).into())).collect(),
        waves: (0..5)
            .map(|kind| WaveSpec {
                source: [0, 0, 1, 2, 1][usize::from(kind)],
                kind,
                loss: u16::from(kind) * 1000,
                half_life: if kind % 4 == 0 { 13 } else { NEVER },
                hops: kind,
                content: kind % 3,
                sequence: 127 + u64::from(kind),
                age_micros: 5_000_000 * u64::from(kind),
                payload: vec![b'x'; usize::from(kind)],
                fields: vec![],
            })
            .collect(),
        ..single()
    };

    let metadata =
        [("request", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"), ("note", ""), ("note", "b")];
    let baggage = [("region", ""), ("tenant", "Zürich AG, 2nd")];
    let every_field = FrameSpec {
        waves: vec![WaveSpec {
            content: 255,
            fields: vec![
                Field::phase(PI),
                Field::key("order-17"),
                Field::cause(0x2A, 300, "shop"),
                Field::metadata(&metadata),
                Field::content_type("application/cbor"),
                Field::root(0x2A, 7, "shop"),
                Field::baggage(&baggage),
                Field::trace(
                    0x0af7_6519_16cd_43dd_8448_eb21_1c80_319c,
                    0x00f0_67aa_0ba9_02b7,
                    1,
                    "rojo=1,congo=t61",
                ),
            ],
            payload: vec![0xA0],
            ..wave()
        }],
        ..single()
    };
    let every_meaning = Meant {
        phase: PI,
        key: Some("order-17".into()),
        cause: Some("shop@2a/300"),
        root: Some("shop@2a/7"),
        baggage: baggage.to_vec(),
        traceparent: Some("00-0af7651916cd43dd8448eb211c80319c-00f067aa0ba902b7-01"),
        tracestate: Some("rojo=1,congo=t61"),
        metadata: metadata.to_vec(),
        content_type: Some("application/cbor"),
    };
    // Roots that a writer leaves out, and a root without a cause.
    let roots = FrameSpec {
        waves: vec![
            WaveSpec { fields: vec![Field::cause(1, 2, "s"), Field::root(1, 2, "s")], ..wave() },
            WaveSpec { fields: vec![Field::root(0x1F9A_3C5B_7D2E_4F60, 17, "alpha")], ..wave() },
            WaveSpec { fields: vec![Field::root(1, 2, "s"), Field::baggage(&[])], ..wave() },
        ],
        ..single()
    };
    let meant_roots = [
        Meant { cause: Some("s@1/2"), ..nothing.clone() },
        nothing.clone(),
        Meant { root: Some("s@1/2"), ..nothing.clone() },
    ];

    let key = "k".repeat(255);
    let extremes = FrameSpec {
        node: u64::MAX,
        sent_micros: u64::MAX,
        sources: vec![(u64::MAX, "s".repeat(128))],
        waves: vec![
            WaveSpec {
                kind: 4,
                loss: 65_535,
                half_life: NEVER,
                hops: 10,
                content: 0,
                sequence: u64::MAX,
                age_micros: u64::MAX,
                fields: vec![Field::key(&key)],
                payload: vec![],
                ..wave()
            },
            WaveSpec { loss: 0, half_life: 0, age_micros: 999, content: 0, payload: vec![], ..wave() },
            WaveSpec { loss: 0, half_life: 40, age_micros: 1 << 40, content: 0, payload: vec![], ..wave() },
        ],
        ..single()
    };
    let extreme_meanings = [Meant { key: Some(key), ..nothing.clone() }, nothing.clone(), nothing.clone()];

    let in_utf8 = FrameSpec {
        sources: vec![(1, "Bestellungen Süd/@".into())],
        waves: vec![WaveSpec {
            content: 2,
            fields: vec![Field::key("Ünïque 鍵"), Field::metadata(&[("stadt", "Zürich")])],
            payload: "Größe: 3 µm".into(),
            ..wave()
        }],
        ..single()
    };
    let meant_in_utf8 =
        Meant { key: Some("Ünïque 鍵".into()), metadata: vec![("stadt", "Zürich")], ..nothing.clone() };

    let unknown = FrameSpec {
        fields: vec![Field::raw(0, "unknown", [1]), Field::raw(300, "unknown", [2, 3])],
        waves: vec![WaveSpec {
            fields: vec![
                Field::raw(0, "unknown", []),
                Field::key("k"),
                Field::raw(100, "unknown", [9; 200]),
                Field::raw(u64::MAX, "unknown", [7]),
            ],
            ..wave()
        }],
        ..single()
    };
    let defaults = FrameSpec {
        waves: vec![WaveSpec {
            content: 255,
            fields: vec![
                Field::phase(0.0),
                Field::metadata(&[]),
                Field::content_type("text/plain; charset=utf-8"),
            ],
            ..wave()
        }],
        ..single()
    };
    let unused_sources = FrameSpec {
        sources: vec![(5, "unused".into()), (6, "twice".into()), (6, "twice".into())],
        waves: vec![WaveSpec { source: 2, ..wave() }],
        ..single()
    };
    let (place, end) = ([3, 300, 1 << 40], [0, u64::MAX, u64::MAX]);
    let numbered = FrameSpec { fields: vec![Field::position(place)], ..single() };
    let announcement =
        FrameSpec { fields: vec![Field::position(end)], sources: vec![], waves: vec![], ..single() };
    let one = std::slice::from_ref(&nothing);
    let read = Vector::read;
    vec![
        read("single", "One event; the example of the README.", &single(), one),
        read("addressed", "Only the address names the channel.", &unnamed, one).at("orders.created"),
        read("named-twice", "Frame and address name the channel.", &single(), one).at("orders.created"),
        read(
            "several",
            "Three sources, a wave of each kind, ages and hops.",
            &several,
            &vec![nothing.clone(); 5],
        ),
        read("position", "The frame's position in its sender's stream.", &numbered, one).standing(place),
        read("announcement", "No waves, only the sender's position.", &announcement, &[]).standing(end),
        read("every-field", "Each extension field of a wave.", &every_field, &[every_meaning]),
        read("roots", "Roots that follow from other fields, and one that does not.", &roots, &meant_roots)
            .not_canonical(),
        read("extremes", "The largest and smallest values.", &extremes, &extreme_meanings),
        read("utf-8", "Text that is not ASCII.", &in_utf8, &[meant_in_utf8]),
        read(
            "reserved",
            "A channel of the framework.",
            &FrameSpec { channel: "_aether.floor", ..single() },
            one,
        ),
        read(
            "unknown-fields",
            "Unknown extension fields, in the frame and in a wave.",
            &unknown,
            &[Meant { key: Some("k".into()), ..nothing.clone() }],
        )
        .not_canonical(),
        read(
            "defaults-written",
            "Extension fields with their default values.",
            &defaults,
            &[Meant { content_type: Some("text/plain"), ..nothing.clone() }],
        )
        .not_canonical(),
        read(
            "turned-phase",
            "A phase of -pi, normalized to pi.",
            &with_fields(vec![Field::phase(-PI)]),
            &[Meant { phase: PI, ..nothing.clone() }],
        )
        .not_canonical(),
        read("unused-sources", "Unused sources, and a repeated one.", &unused_sources, one).not_canonical(),
    ]
}
