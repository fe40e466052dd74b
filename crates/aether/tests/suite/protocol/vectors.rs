//! The golden frames: the content of each, once as bytes and once as facts.

use serde::Serialize;

use crate::protocol::layout::{FrameSpec, Layout, WaveSpec, hex};
use crate::protocol::{readable, refused};

/// One golden frame, as described by its JSON file.
#[derive(Serialize)]
pub(crate) struct Vector {
    /// The file's name, without its extension.
    #[serde(skip)]
    pub(crate) name: &'static str,
    pub(crate) about: &'static str,
    /// The channel named by the medium's address.
    pub(crate) address: Option<&'static str>,
    #[serde(flatten)]
    pub(crate) outcome: Outcome,
    /// The frame, one run of bytes a line: hexadecimal, then its meaning.
    pub(crate) layout: Vec<String>,
    #[serde(skip)]
    pub(crate) bytes: Vec<u8>,
}

#[derive(Serialize)]
#[serde(untagged)]
pub(crate) enum Outcome {
    Read {
        /// Whether an encoder given the same waves writes the same bytes.
        canonical: bool,
        frame: FrameFacts,
    },
    Refused {
        /// The name of the error.
        error: &'static str,
    },
}

/// 64-bit numbers are strings, because JSON numbers are not exact beyond 2^53 everywhere.
#[derive(Serialize)]
pub(crate) struct FrameFacts {
    node: String,
    sent_micros: String,
    channel: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    position: Option<PositionFacts>,
    waves: Vec<WaveFacts>,
}

#[derive(Serialize)]
struct PositionFacts {
    stream: String,
    first: String,
    age_micros: String,
}

#[derive(Serialize)]
struct WaveFacts {
    id: String,
    source: String,
    instance: String,
    sequence: String,
    kind: &'static str,
    loss: u16,
    half_life_class: u8,
    hops: u8,
    age_micros: String,
    phase: f64,
    key: Option<String>,
    cause: Option<String>,
    root: String,
    baggage: Vec<(String, String)>,
    traceparent: Option<&'static str>,
    tracestate: Option<&'static str>,
    metadata: Vec<(String, String)>,
    content_type: String,
    payload_hex: String,
    loss_at_age: u64,
    level: u32,
    audible_until_micros: String,
}

/// The expected meaning of the fields of a wave.
#[derive(Clone, Default)]
pub(crate) struct Meant {
    pub(crate) phase: f32,
    pub(crate) key: Option<String>,
    pub(crate) cause: Option<&'static str>,
    /// Without it: the cause, or the wave itself.
    pub(crate) root: Option<&'static str>,
    pub(crate) baggage: Vec<(&'static str, &'static str)>,
    pub(crate) traceparent: Option<&'static str>,
    pub(crate) tracestate: Option<&'static str>,
    pub(crate) metadata: Vec<(&'static str, &'static str)>,
    pub(crate) content_type: Option<&'static str>,
}

const KINDS: [&str; 5] = ["event", "command", "query", "response", "broadcast"];
const CONTENT_TYPES: [&str; 3] = ["application/octet-stream", "application/json", "text/plain"];
pub(crate) const NEVER: u8 = 255;
/// The floor for which the JSON files give the age up to which a wave is audible: amplitude 0.25.
pub(crate) const FLOOR_LOSS: u16 = 4096;

impl WaveFacts {
    /// The arithmetic of the README, in wide integers.
    fn new(frame: &FrameSpec, wave: &WaveSpec, meant: &Meant) -> Self {
        let (instance, name) = &frame.sources[usize::from(wave.source)];
        let content_type = CONTENT_TYPES.get(usize::from(wave.content)).copied().or(meant.content_type);
        let path_loss = u64::from(wave.loss) + 152 * u64::from(wave.hops);
        let decay = match wave.half_life {
            NEVER => 0,
            class => ((u128::from(wave.age_micros) * 2048 / 1000) >> class) as u64,
        };
        let audible_until = match (u64::from(FLOOR_LOSS).checked_sub(path_loss), wave.half_life) {
            (None, _) => "inaudible".to_owned(),
            (_, NEVER) => "never".to_owned(),
            (Some(budget), class) => (((1000 * ((u128::from(budget) + 1) << class)) - 1) / 2048).to_string(),
        };
        let id = format!("{name}@{instance:x}/{}", wave.sequence);
        let owned = |pairs: &[(&str, &str)]| -> Vec<(String, String)> {
            pairs.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect()
        };
        Self {
            root: meant.root.or(meant.cause).unwrap_or(&id).to_owned(),
            baggage: owned(&meant.baggage),
            id,
            source: name.clone(),
            instance: format!("{instance:x}"),
            sequence: wave.sequence.to_string(),
            kind: KINDS[usize::from(wave.kind)],
            loss: wave.loss,
            half_life_class: wave.half_life,
            hops: wave.hops,
            age_micros: wave.age_micros.to_string(),
            phase: meant.phase.into(),
            key: meant.key.clone(),
            cause: meant.cause.map(str::to_owned),
            traceparent: meant.traceparent,
            tracestate: meant.tracestate,
            metadata: owned(&meant.metadata),
            content_type: content_type.unwrap_or_default().to_owned(),
            payload_hex: hex(&wave.payload),
            loss_at_age: path_loss + decay,
            level: ((path_loss / 512) as u32).min(63),
            audible_until_micros: audible_until,
        }
    }
}

impl Vector {
    fn new(name: &'static str, about: &'static str, outcome: Outcome, layout: &Layout) -> Self {
        let (lines, bytes) = (layout.lines(), layout.bytes());
        Self { name, about, address: None, outcome, layout: lines, bytes }
    }

    /// A valid frame with the expected meaning of its waves.
    pub(crate) fn read(name: &'static str, about: &'static str, frame: &FrameSpec, meant: &[Meant]) -> Self {
        assert_eq!(frame.waves.len(), meant.len(), "{name}");
        let waves = frame.waves.iter().zip(meant).map(|(wave, meant)| WaveFacts::new(frame, wave, meant));
        let facts = FrameFacts {
            node: format!("{:x}", frame.node),
            sent_micros: frame.sent_micros.to_string(),
            channel: frame.channel,
            position: None,
            waves: waves.collect(),
        };
        let outcome = Outcome::Read { canonical: true, frame: facts };
        Self::new(name, about, outcome, &frame.layout())
    }

    pub(crate) fn refused(
        name: &'static str,
        error: &'static str,
        about: &'static str,
        layout: Layout,
    ) -> Self {
        Self::new(name, about, Outcome::Refused { error }, &layout)
    }

    pub(crate) fn at(mut self, address: &'static str) -> Self {
        self.address = Some(address);
        if let Outcome::Read { frame, .. } = &mut self.outcome {
            frame.channel = address;
        }
        self
    }

    /// Stream, number of the first wave, and age of the stream.
    pub(crate) fn standing(mut self, [stream, first, age_micros]: [u64; 3]) -> Self {
        if let Outcome::Read { frame, .. } = &mut self.outcome {
            let [stream, first, age_micros] = [stream, first, age_micros].map(|number| number.to_string());
            frame.position = Some(PositionFacts { stream, first, age_micros });
        }
        self
    }

    pub(crate) fn not_canonical(mut self) -> Self {
        if let Outcome::Read { canonical, .. } = &mut self.outcome {
            *canonical = false;
        }
        self
    }
}

/// All golden frames.
pub(crate) fn all() -> Vec<Vector> {
    let mut all = readable::all();
    all.extend(refused::all());
    all
}
