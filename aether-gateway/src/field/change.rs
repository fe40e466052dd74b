//! One change on its way to many clients. Each protocol writes it once, however many clients get it.

use std::sync::{Arc, OnceLock};

use aether_field::core::{Key, State};
use aether_field::{Field, Update, UpdateKind};
use axum::extract::ws::Utf8Bytes;
use smol_str::SmolStr;

use super::slot::{Content, Slot};
use super::{v1, v04};

#[derive(Debug)]
pub(super) struct Change {
    pub(super) slot: Slot,
    pub(super) content: Content,
    in_v04: OnceLock<Option<Utf8Bytes>>,
    in_v1: OnceLock<Option<Utf8Bytes>>,
}

impl Change {
    pub(super) fn new(slot: Slot, content: Content) -> Arc<Self> {
        Arc::new(Self { slot, content, in_v04: OnceLock::new(), in_v1: OnceLock::new() })
    }

    pub(super) fn of(field: &Field, update: &Update) -> Option<Arc<Self>> {
        let name = SmolStr::from(update.name());
        let (slot, content) = match update.kind() {
            UpdateKind::Register { new, .. } => {
                let content = Content::Register { value: new.clone(), version: Some(update.stamp()) };
                let slot = match update.owner() {
                    Some(owner) => Slot::Owned(owner.into(), name),
                    None => Slot::Register(name),
                };
                (slot, content)
            }
            UpdateKind::Counter { sum } => (Slot::Counter(name), Content::Counter { sum: *sum }),
            UpdateKind::Member { member, .. } => {
                let version = field.member(&name, member);
                (Slot::Member(name, member.clone()), Content::Member { version })
            }
            // Kinds that this version of the gateway does not know.
            _ => return None,
        };
        Some(Self::new(slot, content))
    }

    /// The state of a slot at this moment.
    pub(super) fn now(field: &Field, slot: Slot) -> Arc<Self> {
        let register = |key: Key| {
            let entry = field.entry(&key);
            let version = entry.as_ref().map(|entry| entry.stamp);
            Content::Register { value: entry.and_then(|entry| State::value_of(&key, &entry)), version }
        };
        let content = match &slot {
            Slot::Register(name) => register(Key::Register(name.clone())),
            Slot::Owned(owner, name) => register(Key::Owned(owner.clone(), name.clone())),
            Slot::Counter(name) => Content::Counter { sum: field.count(name) },
            Slot::Member(name, member) => Content::Member { version: field.member(name, member) },
        };
        Self::new(slot, content)
    }

    /// The message of protocol 0.4; `None` if it has no words for it, or the value of another replica is not JSON.
    pub(super) fn in_v04(&self) -> Option<&Utf8Bytes> {
        self.in_v04.get_or_init(|| v04::change(&self.slot, &self.content).map(Utf8Bytes::from)).as_ref()
    }

    /// The entry of the own protocol; `None` if the value of another replica is not JSON.
    pub(super) fn in_v1(&self) -> Option<&Utf8Bytes> {
        self.in_v1.get_or_init(|| v1::entry(&self.slot, &self.content).map(Utf8Bytes::from)).as_ref()
    }

    /// About its size in memory, in bytes.
    pub(super) fn size(&self) -> usize {
        let value =
            if let Content::Register { value: Some(value), .. } = &self.content { value.len() } else { 0 };
        128 + self.slot.size() + 2 * value
    }
}
