//! Versions of files, as the registers of the field hold them.

use std::collections::BTreeMap;

use base64::prelude::{BASE64_STANDARD, Engine as _};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::hash::Hash;

/// The size up to which a file is in its register, in bytes. As text it is a third larger, and a field takes 32 KiB.
pub(crate) const INLINE: usize = 16 << 10;

/// The edits of different folders that one version knows. Beyond it the oldest one is forgotten, which may show as a
/// conflict that is none, and never hides one.
const MAX_SEEN: usize = 64;

/// The maximum length of the name of a machine, in bytes.
pub(crate) const MAX_MACHINE: usize = 64;

/// The number of a mirrored folder: random, and kept in the folder.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct FolderId(pub(crate) u64);

/// The newest edit of each folder that a version is made from: a version vector. The numbers of the edits of one folder
/// are the time in microseconds since 1970, and increase. Time makes them unique even if a folder has forgotten its last
/// edit.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(crate) struct Seen(BTreeMap<FolderId, u64>);

/// How two versions are related.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Relation {
    Same,
    /// The first is an ancestor of the second.
    Before,
    /// The second is an ancestor of the first.
    After,
    Concurrent,
}

impl Seen {
    /// How this version is related to another one.
    pub(crate) fn relation(&self, other: &Self) -> Relation {
        let has = |one: &Self, all: &Self| {
            one.0.iter().all(|(id, edit)| all.0.get(id).is_some_and(|newest| newest >= edit))
        };
        match (has(self, other), has(other, self)) {
            (true, true) => Relation::Same,
            (true, false) => Relation::Before,
            (false, true) => Relation::After,
            (false, false) => Relation::Concurrent,
        }
    }

    /// With everything that another version is made from.
    pub(crate) fn merged(mut self, other: &Self) -> Self {
        for (&id, &edit) in &other.0 {
            let newest = self.0.entry(id).or_default();
            *newest = edit.max(*newest);
        }
        self.bounded()
    }

    /// With a new edit of a folder, at this time.
    pub(crate) fn edited(mut self, by: FolderId, micros: u64) -> Self {
        let newest = self.0.entry(by).or_default();
        *newest = micros.max(newest.saturating_add(1));
        self.bounded()
    }

    fn bounded(mut self) -> Self {
        while self.0.len() > MAX_SEEN
            && let Some((&oldest, _)) = self.0.iter().min_by_key(|(_, edit)| **edit)
        {
            self.0.remove(&oldest);
        }
        self
    }
}

/// The size, hash and mode of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Content {
    /// In bytes.
    pub(crate) size: u64,
    pub(crate) hash: Hash,
    pub(crate) executable: bool,
}

/// A version of a file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Version {
    /// The machine on which it was written.
    pub(crate) machine: String,
    /// When the file was modified, in microseconds since 1970.
    pub(crate) time: u64,
    pub(crate) seen: Seen,
    /// `None` if the file was deleted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) content: Option<Content>,
    /// The bytes of a small file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) data: Option<Data>,
}

/// Bytes as base64.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Data(pub(crate) Vec<u8>);

impl Version {
    /// Reads a register; `None` if it holds something else than a version that a mirror can have made.
    pub(crate) fn read(json: &[u8]) -> Option<Self> {
        let version: Self = serde_json::from_slice(json).ok()?;
        let is_possible = version.seen.0.len() <= MAX_SEEN
            && version.machine.len() <= MAX_MACHINE
            && match (&version.content, &version.data) {
                (None, data) => data.is_none(),
                (Some(_), None) => true,
                (Some(content), Some(Data(data))) => content.is_of(data),
            };
        is_possible.then_some(version)
    }
}

impl Content {
    /// Whether these are the bytes.
    pub(crate) fn is_of(&self, data: &[u8]) -> bool {
        let blocks: Vec<_> = data.chunks(crate::hash::BLOCK as usize).map(Hash::of_block).collect();
        self.size == data.len() as u64 && self.hash == Hash::of_file(self.size, &blocks)
    }
}

impl Serialize for Data {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&BASE64_STANDARD.encode(&self.0))
    }
}

impl<'de> Deserialize<'de> for Data {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = <std::borrow::Cow<'_, str>>::deserialize(deserializer)?;
        BASE64_STANDARD.decode(&*text).map(Self).map_err(de::Error::custom)
    }
}

impl Serialize for FolderId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if serializer.is_human_readable() {
            serializer.collect_str(&format_args!("{:016x}", self.0))
        } else {
            self.0.serialize(serializer)
        }
    }
}

impl<'de> Deserialize<'de> for FolderId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        if !deserializer.is_human_readable() {
            return u64::deserialize(deserializer).map(Self);
        }
        let text = <std::borrow::Cow<'_, str>>::deserialize(deserializer)?;
        u64::from_str_radix(&text, 16).map(Self).map_err(de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(edits: &[(u64, u64)]) -> Seen {
        Seen(edits.iter().map(|&(id, edit)| (FolderId(id), edit)).collect())
    }

    #[test]
    fn a_version_comes_before_those_that_were_made_from_it() {
        let (none, a, b) = (seen(&[]), seen(&[(1, 5)]), seen(&[(2, 5)]));
        let both = a.clone().merged(&b);
        for (one, other, relation) in [
            (&none, &none, Relation::Same),
            (&none, &a, Relation::Before),
            (&a, &none, Relation::After),
            (&a, &b, Relation::Concurrent),
            (&a, &both, Relation::Before),
            (&both, &b, Relation::After),
            (&a.clone().edited(FolderId(1), 6), &both, Relation::Concurrent),
            (&both, &both.clone().edited(FolderId(2), 6), Relation::Before),
        ] {
            assert_eq!(one.relation(other), relation, "{one:?} {other:?}");
        }
    }

    #[test]
    fn edits_of_one_folder_increase_although_its_clock_goes_back() {
        let edited = seen(&[]).edited(FolderId(1), 100).edited(FolderId(1), 7);
        assert_eq!(edited, seen(&[(1, 101)]));
    }

    #[test]
    fn the_edits_that_a_version_knows_are_bounded() {
        let many = (0..200).fold(seen(&[]), |seen, id| seen.edited(FolderId(id), 1000 + id));
        assert_eq!(many.0.len(), MAX_SEEN);
        assert_eq!(many.relation(&many.clone().edited(FolderId(7), 9999)), Relation::Concurrent);
    }

    #[test]
    fn versions_that_nobody_can_have_made_are_none() {
        let data = b"hello".to_vec();
        let content =
            Content { size: 5, hash: Hash::of_file(5, &[Hash::of_block(&data)]), executable: false };
        let version = Version {
            machine: "pi-2".into(),
            time: 7,
            seen: seen(&[(1, 5)]),
            content: Some(content),
            data: Some(Data(data)),
        };
        let json = serde_json::to_string(&version).unwrap();
        assert_eq!(Version::read(json.as_bytes()), Some(version.clone()));
        let gone = Version { content: None, data: None, ..version.clone() };
        assert_eq!(Version::read(&serde_json::to_vec(&gone).unwrap()), Some(gone));
        for wrong in [
            json.replace("\"size\":5", "\"size\":6"),
            json.replace("aGVsbG8=", "aGVsbG9="),
            json.replace("pi-2", &"m".repeat(65)),
            json.replace("0000000000000001", "x"),
            "7".into(),
            "{}".into(),
        ] {
            assert_ne!(wrong, json);
            assert_eq!(Version::read(wrong.as_bytes()), None, "{wrong}");
        }
        let largest = Version { data: Some(Data(vec![255; INLINE])), ..version };
        assert!(serde_json::to_vec(&largest).unwrap().len() < 24_000);
    }
}
