//! Ledgers: registers as JSON lines with their stamps, as the sync engine aether-zta 0.4 writes them, and its snapshots.
//!
//! A record keeps its stamp and its writer, so a field that [imports](crate::Field::import) a ledger has the winners that
//! the engine had, and what [`line()`] writes is read back as it was. Counters and sets have no form in a ledger.
//!
//! ```
//! use aether_field::core::Limits;
//! use aether_field::ledger::Ledger;
//!
//! let text = br#"{"kind":"set","key":"a","value":1,"stamp":{"p":1700000000000000007,"l":0,"n":"node-a"}}
//! {"kind":"set","key":"a","val"#;
//! let ledger = Ledger::read(text, &Limits::default(), 1_700_000_001_000_000)?;
//! assert_eq!(ledger.changes.len(), 1);
//! assert_eq!(ledger.problems[0].to_string(), "line 2: the last line is not complete");
//! assert!(aether_field::ledger::line(&ledger.changes[0]).unwrap().contains(r#""p":1700000000000000007,"l":0"#));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod json;
mod node;

use std::collections::BTreeMap;
use std::fmt;

use bytes::Bytes;
use serde::Deserialize;
use serde_json::value::RawValue;

use self::json::compact;
use self::node::{name_of, writer_of};
use crate::core::{Change, Entry, Key, Limits, Refusal, Stamp};

/// The registers of a ledger or a snapshot.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Ledger {
    /// The newest valid record of each name, removals included. Each follows whatever is there, so importing it fires no
    /// [`superseded`](crate::Field::superseded).
    pub changes: Vec<Change>,
    /// The records that were older than others of their name.
    pub outdated: usize,
    /// The skipped records, in the order of the file.
    pub problems: Vec<Problem>,
}

/// A file cannot be read as a ledger at all.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LedgerError {
    /// No line is a record.
    #[error("no line can be read as a record of a ledger, and the file does not hold a snapshot")]
    Foreign,
    /// The snapshot has another version.
    #[error("the snapshot has version {version}; version 1 can be read")]
    Version {
        /// Its version.
        version: u64,
    },
}

/// A record that was skipped.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Problem {
    /// The line of a ledger, or the position in a snapshot. The first is 1.
    pub position: usize,
    /// Whether it is in a snapshot.
    pub is_in_snapshot: bool,
    /// Why it was skipped.
    pub reason: ProblemReason,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let place = if self.is_in_snapshot { "entry" } else { "line" };
        write!(f, "{place} {}: {}", self.position, self.reason)
    }
}

/// Why a record was skipped.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ProblemReason {
    /// The last line ends in the middle, as after a crash of its writer.
    #[error("the last line is not complete")]
    Torn,
    /// It cannot be read as a record, or its value is not JSON, such as `NaN`.
    #[error("not a record: {0}")]
    NoRecord(String),
    /// Its kind is neither `set` nor `del`.
    #[error("the kind {0:?} is neither \"set\" nor \"del\"")]
    Kind(String),
    /// Its value is `null`, which a field does not hold.
    #[error("the value is null, and a field holds no null")]
    Null,
    /// The counter of its stamp is too large.
    #[error("the counter {0} of the stamp is too large; at most {max} is allowed", max = PER_NANO - 1)]
    Counter(u64),
    /// It is out of the bounds of the field.
    #[error(transparent)]
    Refused(#[from] Refusal),
}

/// Stamps of ledgers count nanoseconds; stamps of a field count microseconds and have a counter of 32 bits. The counter
/// holds the nanoseconds and the counter of the ledger, in the same order; this many of the latter fit into each
/// nanosecond.
const PER_NANO: u64 = (1 << 32) / 1000;

#[derive(Deserialize)]
struct Record<'a> {
    kind: Option<String>,
    key: String,
    #[serde(borrow, default)]
    value: Option<&'a RawValue>,
    #[serde(default)]
    tombstone: bool,
    stamp: LedgerStamp,
}

#[derive(Deserialize, PartialEq, Eq, PartialOrd, Ord)]
struct LedgerStamp {
    p: u64,
    l: u64,
    n: String,
}

#[derive(Deserialize)]
struct Snapshot<'a> {
    version: u64,
    #[serde(borrow)]
    entries: Vec<&'a RawValue>,
}

impl Ledger {
    /// Reads a ledger or a snapshot. `wall` is the time in microseconds since 1970, by which stamps from the future are
    /// found.
    ///
    /// # Errors
    /// [`LedgerError`] if it is neither. An unreadable record is a [`Problem`] and not an error.
    pub fn read(bytes: &[u8], limits: &Limits, wall: u64) -> Result<Self, LedgerError> {
        let mut reader = Reader { limits, wall, newest: BTreeMap::new(), ledger: Self::default() };
        if let Ok(snapshot) = serde_json::from_slice::<Snapshot<'_>>(bytes) {
            if snapshot.version != 1 {
                return Err(LedgerError::Version { version: snapshot.version });
            }
            for (at, entry) in snapshot.entries.iter().enumerate() {
                if let Err(reason) = reader.take(entry.get().as_bytes()) {
                    reader.skip(at, true, reason);
                }
            }
            return Ok(reader.finish());
        }
        let mut records = 0;
        for (at, line) in bytes.split_inclusive(|&byte| byte == b'\n').enumerate() {
            if line.trim_ascii().is_empty() {
                continue;
            }
            records += 1;
            match reader.take(line) {
                Ok(()) => {}
                Err(ProblemReason::NoRecord(_)) if !line.ends_with(b"\n") => {
                    reader.skip(at, false, ProblemReason::Torn);
                }
                Err(reason) => reader.skip(at, false, reason),
            }
        }
        let is_record =
            |problem: &Problem| !matches!(problem.reason, ProblemReason::NoRecord(_) | ProblemReason::Torn);
        if records > 0 && reader.newest.is_empty() && !reader.ledger.problems.iter().any(is_record) {
            return Err(LedgerError::Foreign);
        }
        Ok(reader.finish())
    }
}

struct Reader<'a> {
    limits: &'a Limits,
    wall: u64,
    newest: BTreeMap<String, (LedgerStamp, Change)>,
    ledger: Ledger,
}

impl Reader<'_> {
    fn skip(&mut self, at: usize, is_in_snapshot: bool, reason: ProblemReason) {
        self.ledger.problems.push(Problem { position: at + 1, is_in_snapshot, reason });
    }

    fn take(&mut self, record: &[u8]) -> Result<(), ProblemReason> {
        let no_record = |error: serde_json::Error| ProblemReason::NoRecord(error.to_string());
        let Record { kind, key, value, tombstone, stamp } =
            serde_json::from_slice(record).map_err(no_record)?;
        let is_removal = match kind.as_deref() {
            Some("del") => true,
            Some("set") | None => tombstone,
            Some(other) => return Err(ProblemReason::Kind(other.chars().take(32).collect())),
        };
        let value = match (is_removal, value) {
            (true, _) => None,
            (false, None) => return Err(ProblemReason::Null),
            (false, Some(value)) => {
                // Half a pair of surrogates and values nested 128 levels deep are found only by reading it.
                serde_json::from_str::<serde_json::Value>(value.get()).map_err(no_record)?;
                Some(Bytes::from(compact(value.get())))
            }
        };
        let entry = Entry { stamp: stamp_of(&stamp)?, replaces: None, value };
        let mut change = Change { key: Key::Register(key.as_str().into()), entry };
        self.limits.check(&change)?;
        self.limits.check_time(change.entry.stamp, self.wall).map_err(Refusal::from)?;
        change.entry.replaces = change.entry.stamp.predecessor();
        match self.newest.get(&key) {
            Some((newest, _)) if *newest >= stamp => self.ledger.outdated += 1,
            Some(_) => {
                self.ledger.outdated += 1;
                self.newest.insert(key, (stamp, change));
            }
            None => drop(self.newest.insert(key, (stamp, change))),
        }
        Ok(())
    }

    fn finish(self) -> Ledger {
        let mut ledger = self.ledger;
        ledger.changes = self.newest.into_values().map(|(_, change)| change).collect();
        ledger
    }
}

fn stamp_of(stamp: &LedgerStamp) -> Result<Stamp, ProblemReason> {
    let (micros, nanos) = (stamp.p / 1000, stamp.p % 1000);
    let logical = u32::try_from(nanos * PER_NANO + stamp.l.min(u64::from(u32::MAX)));
    match logical {
        Ok(logical) if stamp.l < PER_NANO || nanos == 999 => {
            Ok(Stamp { micros, logical, writer: writer_of(&stamp.n) })
        }
        _ => Err(ProblemReason::Counter(stamp.l)),
    }
}

/// The line of a register, without its end; `None` for parts of counters and sets, which have no form in a ledger.
#[must_use]
pub fn line(change: &Change) -> Option<String> {
    let Key::Register(name) = &change.key else { return None };
    let Stamp { micros, logical, writer } = change.entry.stamp;
    let nanos = (u64::from(logical) / PER_NANO).min(999);
    let (p, l) = (u128::from(micros) * 1000 + u128::from(nanos), u64::from(logical) - nanos * PER_NANO);
    let kind = if change.entry.is_removed() { "del" } else { "set" };
    let value = change.entry.value.as_deref().unwrap_or(b"null");
    let (key, value, n) =
        (serde_json::Value::from(name.as_str()), String::from_utf8_lossy(value), name_of(writer));
    Some(format!(
        "{{\"kind\":\"{kind}\",\"key\":{key},\"value\":{value},\"stamp\":{{\"p\":{p},\"l\":{l},\"n\":\"{n}\"}}}}"
    ))
}
