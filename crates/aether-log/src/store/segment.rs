//! One segment: its file header, and reading it record by record past damage.

use std::fs::{File, Metadata};
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use bytes::Bytes;

use super::damage::Damage;
use super::record::{HEADER, Head, MARK, Parsed, Record, head, parse, u32_at, u64_at};

/// Magic, version, position of the first record (u64), random number of the log (u32), checksum (u32).
pub(super) const FILE_HEADER: usize = 24;
const MAGIC: &[u8; 7] = b"AETHLOG";
pub(super) const VERSION: u8 = 1;
/// How much is read at once, in bytes: by a reader of records, and by one of headers, which passes over large records.
const CHUNK: usize = 1 << 20;
const HEADS_CHUNK: usize = 4096;

/// The bytes at the beginning of a segment.
pub(super) fn file_header(first: u64, salt: u32) -> Vec<u8> {
    let mut bytes = [MAGIC.as_slice(), &[VERSION]].concat();
    bytes.extend_from_slice(&first.to_le_bytes());
    bytes.extend_from_slice(&salt.to_le_bytes());
    let checksum = crc32fast::hash(&bytes);
    bytes.extend_from_slice(&checksum.to_le_bytes());
    bytes
}

/// The kind of a file, by its beginning.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum FileHeader {
    Whole,
    /// The header of a segment of another version.
    Version(u8),
    /// Most of it matches the name of the file.
    Damaged,
    /// Damaged all over, or of another program.
    Unknown,
    /// Fewer bytes than a header: the process ended while it made the file.
    Short,
}

/// Reads the header. The name of the file repeats what is in it, so a damaged one costs nothing.
pub(super) fn read_file_header(path: &Path, first: u64, salt: u32) -> io::Result<FileHeader> {
    let mut bytes = Vec::new();
    File::open(path)?.take(FILE_HEADER as u64).read_to_end(&mut bytes)?;
    if bytes.len() < FILE_HEADER {
        return Ok(FileHeader::Short);
    }
    let expected = file_header(first, salt);
    let resembles = bytes.iter().zip(&expected).filter(|(is, expected)| is == expected).count();
    let is_whole = bytes.starts_with(MAGIC)
        && crc32fast::hash(&bytes[..FILE_HEADER - 4]) == u32_at(&bytes, FILE_HEADER - 4);
    Ok(match is_whole {
        true if bytes[7] != VERSION => FileHeader::Version(bytes[7]),
        true if (u64_at(&bytes, 8), u32_at(&bytes, 16)) == (first, salt) => FileHeader::Whole,
        _ if resembles > FILE_HEADER / 2 => FileHeader::Damaged,
        _ => FileHeader::Unknown,
    })
}

/// What is at a place of a segment.
#[derive(Debug)]
pub(super) enum Found {
    Record(Record, u64),
    Damaged(Damage),
    /// The beginning of a record, or zeros, up to the end.
    Torn {
        offset: u64,
        bytes: u64,
    },
}

/// Reads a segment from a place on.
#[derive(Debug)]
pub(super) struct SegmentReader {
    file: File,
    path: PathBuf,
    salt: u32,
    offset: u64,
    chunk: Bytes,
    chunk_at: u64,
    /// How much is read at once.
    chunk_bytes: usize,
}

impl SegmentReader {
    pub(super) fn open(path: &Path, salt: u32, offset: u64) -> io::Result<Self> {
        let (file, path) = (File::open(path)?, path.to_owned());
        Ok(Self { file, path, salt, offset, chunk: Bytes::new(), chunk_at: 0, chunk_bytes: CHUNK })
    }

    /// A reader for [`SegmentReader::next_head`], from the first record on.
    pub(super) fn of_heads(path: &Path, salt: u32) -> io::Result<Self> {
        Ok(Self::open(path, salt, FILE_HEADER as u64)?.scattered())
    }

    /// Reads little at once, for records that are far from each other.
    pub(super) fn scattered(self) -> Self {
        Self { chunk_bytes: HEADS_CHUNK, ..self }
    }

    /// The header of the next record before `end`; `None` at the end. Damage is passed over.
    pub(super) fn next_head(&mut self, end: u64) -> io::Result<Option<Head>> {
        loop {
            if let Some(head) = head(&self.bytes(HEADER, end)?, self.salt) {
                self.offset += head.size as u64;
                return Ok(Some(head));
            }
            match self.next(end)? {
                None | Some(Found::Torn { .. }) => return Ok(None),
                Some(Found::Damaged(_) | Found::Record(..)) => {}
            }
        }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// The system's metadata of the opened file, whichever file has its name now.
    pub(super) fn about(&self) -> io::Result<Metadata> {
        self.file.metadata()
    }

    pub(super) fn move_to(&mut self, offset: u64) {
        self.offset = offset;
    }

    /// The next record or damage before `end`; `None` at the end. At a torn record it stays.
    pub(super) fn next(&mut self, end: u64) -> io::Result<Option<Found>> {
        let found = self.find(end)?;
        if matches!(found, Some(Found::Torn { .. })) {
            // Another process may be writing it, or cut it off and write another one in its place.
            self.chunk = Bytes::new();
        }
        Ok(found)
    }

    fn find(&mut self, end: u64) -> io::Result<Option<Found>> {
        let left = end.saturating_sub(self.offset);
        if left == 0 {
            return Ok(None);
        }
        let offset = self.offset;
        let mut parsed = parse(&self.bytes(HEADER, end)?, self.salt);
        if let Parsed::Short { size } = parsed {
            if size as u64 > left {
                return Ok(Some(Found::Torn { offset, bytes: left }));
            }
            parsed = parse(&self.bytes(size, end)?, self.salt);
        }
        Ok(Some(match parsed {
            Parsed::Record(record, size) => {
                self.offset += size as u64;
                Found::Record(record, offset)
            }
            Parsed::BadBody { position, size } => {
                self.offset += size as u64;
                self.damage(offset, size as u64, Some(position))
            }
            // The file is shorter than it is said to be.
            Parsed::Short { .. } => Found::Torn { offset, bytes: left },
            Parsed::Nothing if left < HEADER as u64 => Found::Torn { offset, bytes: left },
            Parsed::Nothing => match self.search(end)? {
                Searched::Header(found) => {
                    self.offset = found;
                    self.damage(offset, found - offset, None)
                }
                Searched::OnlyZeros => Found::Torn { offset, bytes: left },
                Searched::Nothing => {
                    self.offset = end;
                    self.damage(offset, left, None)
                }
            },
        }))
    }

    fn damage(&self, offset: u64, bytes: u64, position: Option<u64>) -> Found {
        Found::Damaged(Damage { path: self.path.clone(), offset, bytes, position })
    }

    /// At least `needed` bytes from the place on, or as many as there are before `end`.
    fn bytes(&mut self, needed: usize, end: u64) -> io::Result<Bytes> {
        self.bytes_at(self.offset, needed, end)
    }

    fn bytes_at(&mut self, at: u64, needed: usize, end: u64) -> io::Result<Bytes> {
        let needed = (end.saturating_sub(at)).min(needed as u64);
        let held = self.chunk_at..self.chunk_at + self.chunk.len() as u64;
        if at < held.start || at + needed > held.end {
            let wanted = (end - at).min(needed.max(self.chunk_bytes as u64));
            let mut bytes = Vec::with_capacity(wanted as usize);
            self.file.seek(SeekFrom::Start(at))?;
            (&mut self.file).take(wanted).read_to_end(&mut bytes)?;
            (self.chunk, self.chunk_at) = (bytes.into(), at);
        }
        let start = ((at - self.chunk_at) as usize).min(self.chunk.len());
        // More than `end` may be in the chunk if the file was cut since.
        let most = usize::try_from(end - at).unwrap_or(usize::MAX);
        Ok(self.chunk.slice(start..start.saturating_add(most).min(self.chunk.len())))
    }

    /// Looks for the next header behind the place.
    fn search(&mut self, end: u64) -> io::Result<Searched> {
        let (mut at, mut only_zeros) = (self.offset, true);
        while end - at >= HEADER as u64 {
            let bytes = self.bytes_at(at, CHUNK, end)?;
            if bytes.len() < HEADER {
                break;
            }
            only_zeros &= bytes.iter().all(|byte| *byte == 0);
            let starts = 0..=bytes.len() - HEADER;
            let found = starts.clone().filter(|start| bytes[*start..].starts_with(&MARK)).find(|start| {
                at + *start as u64 > self.offset && head(&bytes[*start..], self.salt).is_some()
            });
            if let Some(found) = found {
                return Ok(Searched::Header(at + found as u64));
            }
            at += starts.count() as u64;
        }
        let rest = self.bytes_at(at, HEADER, end)?;
        only_zeros &= rest.iter().all(|byte| *byte == 0);
        Ok(if only_zeros { Searched::OnlyZeros } else { Searched::Nothing })
    }
}

enum Searched {
    Header(u64),
    OnlyZeros,
    Nothing,
}
