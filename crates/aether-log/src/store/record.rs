//! The bytes of one record: a header of 52 bytes, a name, and a body.
//!
//! Both checksums are CRC-32, which finds every change of up to 32 bits in a row, so every changed byte. They begin with a
//! random number of the log, so a body that was made up by somebody else cannot pass for a record.

use bytes::Bytes;

/// Each record begins with it: random bytes, which no text has. The search behind damage looks for it.
pub(super) const MARK: [u8; 4] = [0x9a, 0xe7, 0x4c, 0xd1];
/// Mark, kind, level, length of the name (u16), length of name and body (u32), position, micros, id (2 x u64), checksum of
/// name and body, checksum of the header.
pub(super) const HEADER: usize = 4 + 1 + 1 + 2 + 4 + 8 + 8 + 16 + 4 + 4;
/// The largest name and body of a record, in bytes: more than any medium carries by default.
pub(crate) const MAX_BODY: usize = 64 << 20;

/// What is appended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Its kind, for the caller.
    pub kind: u8,
    /// How important it is, for the caller: 0 is the most important.
    pub level: u8,
    /// The identity, 0 for none. A second record of the same identity is not stored.
    pub id: u128,
    /// The name, for example of a channel: at most 65,535 bytes.
    pub name: String,
    /// The content.
    pub body: Bytes,
}

impl Entry {
    /// The size, if it is too large.
    pub(super) fn excess(&self) -> Option<usize> {
        let bytes = self.name.len() + self.body.len();
        (self.name.len() > usize::from(u16::MAX) || bytes > MAX_BODY).then_some(bytes)
    }

    /// The size in a segment.
    pub(super) fn size(&self) -> usize {
        HEADER + self.name.len() + self.body.len()
    }

    /// Appends the bytes of the record.
    pub(super) fn write(&self, salt: u32, position: u64, micros: u64, out: &mut Vec<u8>) {
        let start = out.len();
        let length = (self.name.len() + self.body.len()) as u32;
        let mut checksum = crc32fast::Hasher::new_with_initial(salt);
        checksum.update(self.name.as_bytes());
        checksum.update(&self.body);
        out.extend_from_slice(&MARK);
        out.extend_from_slice(&[self.kind, self.level]);
        out.extend_from_slice(&(self.name.len() as u16).to_le_bytes());
        out.extend_from_slice(&length.to_le_bytes());
        out.extend_from_slice(&position.to_le_bytes());
        out.extend_from_slice(&micros.to_le_bytes());
        out.extend_from_slice(&self.id.to_le_bytes());
        out.extend_from_slice(&checksum.finalize().to_le_bytes());
        let header = checksum_of(salt, &out[start..]);
        out.extend_from_slice(&header.to_le_bytes());
        out.extend_from_slice(self.name.as_bytes());
        out.extend_from_slice(&self.body);
    }
}

/// A record that was read, and whose checksums are right.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Record {
    /// Its position: 1 for the first record of the log, and greater for each later one.
    pub position: u64,
    /// When it was stored, in microseconds since 1970. It never goes back within a log.
    pub micros: u64,
    /// The appended [`Entry::kind`].
    pub kind: u8,
    /// The appended [`Entry::level`].
    pub level: u8,
    /// The appended [`Entry::id`].
    pub id: u128,
    /// The appended [`Entry::name`].
    pub name: Bytes,
    /// The appended [`Entry::body`].
    pub body: Bytes,
}

impl Record {
    /// The same with contents of its own: as a slice, they keep a whole chunk of the file alive.
    pub(crate) fn copied(&self) -> Self {
        let mut name = Bytes::from([&*self.name, &*self.body].concat());
        let body = name.split_off(self.name.len());
        Self { name, body, ..*self }
    }

    /// The size in a segment.
    pub(crate) fn size(&self) -> usize {
        HEADER + self.name.len() + self.body.len()
    }

    /// The same record as an entry.
    pub(crate) fn entry(&self) -> Entry {
        let Self { kind, level, id, .. } = *self;
        let name = String::from_utf8_lossy(&self.name).into_owned();
        Entry { kind, level, id, name, body: self.body.clone() }
    }
}

fn checksum_of(salt: u32, bytes: &[u8]) -> u32 {
    let mut checksum = crc32fast::Hasher::new_with_initial(salt);
    checksum.update(bytes);
    checksum.finalize()
}

/// The first thing in some bytes.
#[derive(Debug)]
pub(super) enum Parsed {
    /// A whole record of this size.
    Record(Record, usize),
    /// A header, and a body that does not fit to it.
    BadBody { position: u64, size: usize },
    /// The beginning of a record of this size.
    Short { size: usize },
    /// Something else, or fewer bytes than a header.
    Nothing,
}

/// The fields of a record's header.
#[derive(Debug, Clone, Copy)]
pub(super) struct Head {
    /// The size of the record in a segment.
    pub(super) size: usize,
    pub(super) position: u64,
    pub(super) micros: u64,
    pub(super) id: u128,
}

/// The header at the beginning of these bytes; `None` if it is none.
pub(super) fn head(bytes: &[u8], salt: u32) -> Option<Head> {
    let bytes = bytes.get(..HEADER)?;
    let (head, sum) = bytes.split_at(HEADER - 4);
    if !head.starts_with(&MARK) || checksum_of(salt, head).to_le_bytes() != *sum {
        return None;
    }
    let length = usize::try_from(u32_at(head, 8)).ok()?;
    let name = usize::from(u16::from_le_bytes([head[6], head[7]]));
    let id = u128::from(u64_at(head, 28)) | u128::from(u64_at(head, 36)) << 64;
    let (position, micros) = (u64_at(head, 12), u64_at(head, 20));
    (name <= length && length <= MAX_BODY).then_some(Head { size: HEADER + length, position, micros, id })
}

/// Reads the record at the beginning of these bytes.
pub(super) fn parse(bytes: &Bytes, salt: u32) -> Parsed {
    let Some(Head { size, position, micros, id }) = head(bytes, salt) else { return Parsed::Nothing };
    if bytes.len() < size {
        return Parsed::Short { size };
    }
    if checksum_of(salt, &bytes[HEADER..size]) != u32_at(bytes, HEADER - 8) {
        return Parsed::BadBody { position, size };
    }
    let name = HEADER + usize::from(u16::from_le_bytes([bytes[6], bytes[7]]));
    let record = Record {
        position,
        micros,
        kind: bytes[4],
        level: bytes[5],
        id,
        name: bytes.slice(HEADER..name),
        body: bytes.slice(name..size),
    };
    Parsed::Record(record, size)
}

pub(super) fn u64_at(bytes: &[u8], at: usize) -> u64 {
    bytes.get(at..at + 8).and_then(|bytes| bytes.try_into().ok()).map_or(0, u64::from_le_bytes)
}

pub(super) fn u32_at(bytes: &[u8], at: usize) -> u32 {
    bytes.get(at..at + 4).and_then(|bytes| bytes.try_into().ok()).map_or(0, u32::from_le_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written() -> (Entry, Bytes) {
        let entry = Entry {
            kind: 1,
            level: 4,
            id: 7 << 64 | 9,
            name: "orders.created".into(),
            body: "a lamp".into(),
        };
        let mut bytes = Vec::new();
        entry.write(17, 3, 5, &mut bytes);
        (entry, bytes.into())
    }

    #[test]
    fn a_record_is_read_back_as_it_was_written() {
        let (entry, bytes) = written();
        let Parsed::Record(record, size) = parse(&bytes, 17) else { panic!("no record") };
        assert_eq!((size, record.position, record.micros), (bytes.len(), 3, 5));
        assert_eq!(record.entry(), entry);
        assert!(matches!(parse(&bytes, 18), Parsed::Nothing), "the number of another log");
    }

    #[test]
    fn every_flipped_bit_is_found() {
        let (_, bytes) = written();
        for bit in 0..bytes.len() * 8 {
            let mut changed = bytes.to_vec();
            changed[bit / 8] ^= 1 << (bit % 8);
            match parse(&changed.into(), 17) {
                Parsed::Nothing => assert!(bit < HEADER * 8, "bit {bit}"),
                Parsed::BadBody { position: 3, size } => assert_eq!(size, bytes.len()),
                other => panic!("bit {bit}: {other:?}"),
            }
        }
    }

    #[test]
    fn every_beginning_of_a_record_is_no_record() {
        let (_, bytes) = written();
        for end in 0..bytes.len() {
            match parse(&bytes.slice(..end), 17) {
                Parsed::Nothing => assert!(end < HEADER),
                Parsed::Short { size } => assert_eq!(size, bytes.len()),
                other => panic!("{end} bytes: {other:?}"),
            }
        }
    }
}
