//! Frames put together byte by byte from `docs/protocol/README.md`, without the code under test.

/// Runs of bytes, each with its meaning.
#[derive(Debug, Clone, Default)]
pub(crate) struct Layout {
    pub(crate) parts: Vec<(Vec<u8>, String)>,
}

impl Layout {
    pub(crate) fn put(&mut self, bytes: impl AsRef<[u8]>, meaning: impl Into<String>) {
        self.parts.push((bytes.as_ref().to_vec(), meaning.into()));
    }

    fn append(&mut self, other: Self) {
        self.parts.extend(other.parts);
    }

    pub(crate) fn bytes(&self) -> Vec<u8> {
        self.parts.iter().flat_map(|(bytes, _)| bytes).copied().collect()
    }

    /// The same layout with the bytes of the first part whose meaning starts with this text replaced; lengths are not
    /// corrected.
    pub(crate) fn with(mut self, meaning: &str, bytes: &[u8]) -> Self {
        let part = self.parts.iter_mut().find(|(_, of)| of.starts_with(meaning));
        part.unwrap_or_else(|| panic!("no part {meaning:?}")).0 = bytes.to_vec();
        self
    }

    /// The same layout without its last bytes.
    pub(crate) fn cut(mut self, bytes: usize) -> Self {
        let mut left = self.bytes().len() - bytes;
        for (part, _) in &mut self.parts {
            part.truncate(left);
            left -= part.len();
        }
        self.parts.retain(|(part, _)| !part.is_empty());
        self
    }

    /// The same layout with bytes appended.
    pub(crate) fn and(mut self, bytes: &[u8], meaning: &str) -> Self {
        self.put(bytes, meaning);
        self
    }

    /// One part a line: hexadecimal, then its meaning.
    pub(crate) fn lines(&self) -> Vec<String> {
        let line = |(bytes, meaning): &(Vec<u8>, String)| format!("{} {meaning}", hex(bytes));
        self.parts.iter().map(line).collect()
    }
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The content of a frame.
#[derive(Debug, Clone)]
pub(crate) struct FrameSpec {
    pub(crate) node: u64,
    pub(crate) sent_micros: u64,
    /// Empty if the address names it.
    pub(crate) channel: &'static str,
    pub(crate) sources: Vec<(u64, String)>,
    pub(crate) fields: Vec<Field>,
    pub(crate) waves: Vec<WaveSpec>,
}

/// The content of a wave.
#[derive(Debug, Clone)]
pub(crate) struct WaveSpec {
    pub(crate) source: u16,
    pub(crate) kind: u8,
    pub(crate) loss: u16,
    pub(crate) half_life: u8,
    pub(crate) hops: u8,
    pub(crate) content: u8,
    pub(crate) sequence: u64,
    pub(crate) age_micros: u64,
    pub(crate) fields: Vec<Field>,
    pub(crate) payload: Vec<u8>,
}

/// An extension field.
#[derive(Debug, Clone)]
pub(crate) struct Field {
    tag: u64,
    name: &'static str,
    parts: Layout,
}

impl Field {
    /// A field with a single part.
    pub(crate) fn raw(tag: u64, name: &'static str, bytes: impl AsRef<[u8]>) -> Self {
        let mut parts = Layout::default();
        if !bytes.as_ref().is_empty() {
            parts.put(bytes, name);
        }
        Self { tag, name, parts }
    }

    /// The position field of a frame.
    pub(crate) fn position([stream, first, age_micros]: [u64; 3]) -> Self {
        let mut parts = Layout::default();
        parts.put(varint(stream), format!("position: stream {stream}"));
        parts.put(varint(first), format!("position: number {first}"));
        parts.put(varint(age_micros), format!("position: age {age_micros}"));
        Self { tag: 1, name: "position", parts }
    }

    pub(crate) fn phase(radians: f32) -> Self {
        Self::raw(1, "phase", radians.to_le_bytes())
    }

    pub(crate) fn key(key: &str) -> Self {
        Self::raw(2, "coherence key", key)
    }

    pub(crate) fn cause(instance: u64, sequence: u64, name: &str) -> Self {
        Self::id(3, "cause", instance, sequence, name)
    }

    pub(crate) fn root(instance: u64, sequence: u64, name: &str) -> Self {
        Self::id(6, "root", instance, sequence, name)
    }

    fn id(tag: u64, of: &'static str, instance: u64, sequence: u64, name: &str) -> Self {
        let mut parts = Layout::default();
        parts.put(instance.to_le_bytes(), format!("{of}: instance of its source"));
        parts.put(varint(sequence), format!("{of}: sequence {sequence}"));
        parts.put(name, format!("{of}: name of its source"));
        Self { tag, name: of, parts }
    }

    pub(crate) fn metadata(entries: &[(&str, &str)]) -> Self {
        Self::pairs(4, "metadata", entries)
    }

    pub(crate) fn baggage(entries: &[(&str, &str)]) -> Self {
        Self::pairs(7, "baggage", entries)
    }

    fn pairs(tag: u64, of: &'static str, entries: &[(&str, &str)]) -> Self {
        let mut parts = Layout::default();
        for (name, value) in entries {
            parts.put(varint(name.len() as u64), format!("length of a {of} name"));
            parts.put(name, format!("{of} name"));
            parts.put(varint(value.len() as u64), format!("length of a {of} value"));
            if !value.is_empty() {
                parts.put(value, format!("{of} value"));
            }
        }
        Self { tag, name: of, parts }
    }

    pub(crate) fn trace(trace_id: u128, span_id: u64, flags: u8, state: &str) -> Self {
        let mut parts = Layout::default();
        parts.put(trace_id.to_be_bytes(), "trace id");
        parts.put(span_id.to_be_bytes(), "span id");
        parts.put([flags], "trace flags");
        if !state.is_empty() {
            parts.put(state, "tracestate");
        }
        Self { tag: 8, name: "trace context", parts }
    }

    pub(crate) fn content_type(media_type: &str) -> Self {
        Self::raw(5, "content type", media_type)
    }
}

impl FrameSpec {
    /// The frame, byte by byte.
    pub(crate) fn layout(&self) -> Layout {
        let mut out = Layout::default();
        out.put(b"\xAETH", "magic");
        out.put([1], "version");
        out.put(self.node.to_le_bytes(), format!("node {:x}", self.node));
        out.put(self.sent_micros.to_le_bytes(), format!("sent {}", self.sent_micros));
        out.put(varint(self.channel.len() as u64), "length of the channel");
        if !self.channel.is_empty() {
            out.put(self.channel, "channel");
        }
        out.put(varint(self.sources.len() as u64), "number of sources");
        for (index, (instance, name)) in self.sources.iter().enumerate() {
            out.put(instance.to_le_bytes(), format!("source {index}: instance {instance:x}"));
            out.put(varint(name.len() as u64), format!("source {index}: length of the name"));
            out.put(name, format!("source {index}: name"));
        }
        out.append(fields_layout(&self.fields, "the frame"));
        out.put(varint(self.waves.len() as u64), "number of waves");
        for (index, wave) in self.waves.iter().enumerate() {
            let record = wave.layout();
            let length = record.bytes().len();
            out.put((length as u32).to_le_bytes(), format!("wave {index}: length of the record, {length}"));
            out.append(record);
        }
        out
    }
}

impl WaveSpec {
    fn layout(&self) -> Layout {
        let mut out = Layout::default();
        out.put(self.source.to_le_bytes(), "source index");
        out.put([self.kind], format!("kind {}", self.kind));
        out.put(self.loss.to_le_bytes(), format!("loss {}", self.loss));
        out.put([self.half_life], format!("half-life class {}", self.half_life));
        out.put([self.hops], format!("hops {}", self.hops));
        out.put([self.content], format!("content type code {}", self.content));
        out.put(varint(self.sequence), format!("sequence {}", self.sequence));
        out.put(varint(self.age_micros), format!("age {}", self.age_micros));
        out.append(fields_layout(&self.fields, "the wave"));
        if !self.payload.is_empty() {
            out.put(&self.payload, "payload");
        }
        out
    }
}

fn fields_layout(fields: &[Field], of: &str) -> Layout {
    let mut all = Layout::default();
    for Field { tag, name, parts } in fields {
        all.put(varint(*tag), format!("tag {tag}: {name}"));
        all.put(varint(parts.bytes().len() as u64), format!("length of field {tag}"));
        all.append(parts.clone());
    }
    let length = all.bytes().len();
    let mut out = Layout::default();
    out.put((length as u16).to_le_bytes(), format!("length of the extension fields of {of}, {length}"));
    out.append(all);
    out
}

/// LEB128.
pub(crate) fn varint(mut value: u64) -> Vec<u8> {
    let mut out = Vec::new();
    loop {
        let low = (value & 0x7F) as u8;
        value >>= 7;
        if value == 0 {
            out.push(low);
            return out;
        }
        out.push(low | 0x80);
    }
}
