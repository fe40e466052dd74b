//! The patterns that a process hears, as its peers get them: all, or the changes since a version.

use std::sync::Arc;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use aether_core::medium::Subscription;
use aether_core::wave::ChannelError;
use aether_core::{Channel, Pattern};

/// The peers that a process knows at most.
pub(super) const MAX_PEERS: usize = 1024;
/// The subscriptions of one process that its peers know at most.
pub(super) const MAX_HEARERS: usize = 65_536;
/// The longest table.
pub(super) const MAX_TABLE: usize = 8 << 20;
/// The longest name of a process.
const MAX_NAME: usize = 64;

/// One subscription of a process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Hearer {
    pub(super) id: u64,
    pub(super) pattern: Pattern,
    pub(super) group: Option<Arc<str>>,
    pub(super) observes: bool,
}

impl Hearer {
    /// About what it takes in memory.
    pub(super) fn bytes(&self) -> usize {
        128 + self.pattern.as_str().len() + self.group.as_ref().map_or(0, |group| group.len())
    }
}

impl From<&Subscription> for Hearer {
    fn from(subscription: &Subscription) -> Self {
        Self {
            id: subscription.id(),
            pattern: subscription.pattern().clone(),
            group: subscription.group().map(Arc::from),
            observes: subscription.observes(),
        }
    }
}

/// A table, or a change of one.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct TableChange {
    /// The version that it is a change of; `None` for a whole table.
    pub(super) base: Option<u64>,
    pub(super) version: u64,
    /// The name of the process, in whole tables.
    pub(super) name: String,
    pub(super) added: Vec<Hearer>,
    pub(super) removed: Vec<u64>,
    /// The peers that its sender has heard of lately, in whole tables: whoever comes expects them.
    pub(super) peers: Vec<u64>,
}

#[derive(Serialize, Deserialize)]
struct HearerRecord {
    id: u64,
    pattern: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    group: Option<String>,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    observes: bool,
}

#[derive(Serialize, Deserialize)]
struct TableRecord {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    base: Option<u64>,
    version: u64,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    name: String,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    added: Vec<HearerRecord>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    removed: Vec<u64>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    peers: Vec<u64>,
}

/// A table that is not valid.
#[derive(Debug, thiserror::Error)]
pub(super) enum TableError {
    #[error("it has {bytes} bytes or {hearers} subscriptions: at most {MAX_TABLE} and {MAX_HEARERS}")]
    TooLarge { bytes: usize, hearers: usize },
    #[error("it is not valid JSON")]
    Json(#[from] serde_json::Error),
    #[error("it has an invalid name")]
    Name(#[from] ChannelError),
}

impl TableChange {
    pub(super) fn write(&self) -> Bytes {
        let added = self.added.iter().map(|hearer| HearerRecord {
            id: hearer.id,
            pattern: hearer.pattern.as_str().to_owned(),
            group: hearer.group.as_deref().map(str::to_owned),
            observes: hearer.observes,
        });
        let record = TableRecord {
            base: self.base,
            version: self.version,
            name: self.name.clone(),
            added: added.collect(),
            removed: self.removed.clone(),
            peers: self.peers.clone(),
        };
        // Numbers and texts always make JSON.
        serde_json::to_vec(&record).unwrap_or_default().into()
    }

    pub(super) fn read(json: &[u8]) -> Result<Self, TableError> {
        if json.len() > MAX_TABLE {
            return Err(TableError::TooLarge { bytes: json.len(), hearers: 0 });
        }
        let TableRecord { base, version, name, added, removed, mut peers } = serde_json::from_slice(json)?;
        if added.len() > MAX_HEARERS || removed.len() > MAX_HEARERS {
            return Err(TableError::TooLarge { bytes: json.len(), hearers: added.len() });
        }
        let added = added.into_iter().map(|HearerRecord { id, pattern, group, observes }| {
            let group =
                group.map(|group| Channel::new(group).map(|group| Arc::from(group.as_str()))).transpose()?;
            Ok(Hearer { id, pattern: Pattern::new(pattern)?, group, observes })
        });
        let added = added.collect::<Result<_, ChannelError>>()?;
        let name = name.chars().filter(|letter| !letter.is_control()).take(MAX_NAME).collect();
        peers.truncate(MAX_PEERS);
        Ok(Self { base, version, name, added, removed, peers })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_reads_as_it_was_written_and_other_texts_are_refused() {
        let hearer = |id, pattern: &str, group: Option<&str>| Hearer {
            id,
            pattern: Pattern::new(pattern).unwrap(),
            group: group.map(Arc::from),
            observes: id == 2,
        };
        let table = TableChange {
            base: Some(3),
            version: 4,
            name: "pi".to_owned(),
            added: vec![hearer(1, "orders.*", Some("shop")), hearer(2, ">", None)],
            removed: vec![7],
            peers: vec![8, 16],
        };
        assert_eq!(TableChange::read(&table.write()).unwrap(), table);
        for text in ["", "[]", "{}", r#"{"version":1,"added":[{"id":1,"pattern":"a..b"}]}"#] {
            assert!(TableChange::read(text.as_bytes()).is_err(), "{text}");
        }
        let named = TableChange::read(br#"{"version":1,"name":"a\u001b[2Jb"}"#).unwrap();
        assert_eq!(named.name, "a[2Jb");
    }
}
