//! Changes that were made elsewhere than at a replica, such as by a client of a gateway: they keep their stamp and their
//! writer.

use std::ops::Bound;

use bytes::Bytes;

use super::error::FieldError;
use super::field::Field;
use super::watch::Names;
use crate::core::{Applied, Change, ClientWrite, Entry, Key, Stamp, State, Submitted};

/// An entry of a field as a reader sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum PageEntry {
    /// A register.
    Register {
        /// Its name.
        name: String,
        /// Its JSON.
        value: Bytes,
        /// When it was written.
        stamp: Stamp,
    },
    /// A counter.
    Counter {
        /// Its name.
        name: String,
        /// Its sum.
        sum: i128,
    },
    /// A member of a set.
    Member {
        /// The name of the set.
        name: String,
        /// The member.
        member: Bytes,
        /// When it was added last.
        stamp: Stamp,
    },
    /// A value that only its owner writes.
    Owned {
        /// The owner.
        owner: String,
        /// The name that the owner gave it.
        name: String,
        /// Its JSON.
        value: Bytes,
        /// When it was written.
        stamp: Stamp,
    },
}

impl PageEntry {
    fn size(&self) -> usize {
        48 + match self {
            Self::Owned { owner, name, value, .. } => owner.len() + name.len() + value.len(),
            Self::Register { name, value, .. } => name.len() + value.len(),
            Self::Counter { name, .. } => name.len(),
            Self::Member { name, member, .. } => name.len() + member.len(),
        }
    }
}

/// A part of a field in the order of its keys: registers, counters, sets.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct Page {
    /// The entries.
    pub entries: Vec<PageEntry>,
    /// Where the next page begins; `None` if this is the last one.
    pub next: Option<PageStart>,
}

/// The place at which a page begins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PageStart(Key);

/// The maximum number of entries that one page looks at, marks of removals included. It bounds how long the replica is
/// locked: about a millisecond.
const LOOKED_AT: usize = 4096;

impl Field {
    /// Applies a change that keeps its stamp and its writer, and sends it to the other replicas. The same change may be
    /// submitted any number of times, at any replica: it is applied once. The stamp decides as between replicas, so the
    /// change may lose at once ([`Applied::Known`] or [`Applied::Gone`]).
    ///
    /// `replaces` of the entry is the newest stamp of this key that the writer had seen. It decides whether a writer is
    /// notified that its change was [superseded](Field::all_superseded).
    ///
    /// # Errors
    /// [`FieldError::Refused`] if the change is out of bounds, or its stamp too far in the future.
    pub fn submit(&self, change: Change) -> Result<Applied, FieldError> {
        Ok(self.shared().submit(self.amplitude(), change)?)
    }

    /// Carries out a write of a client of this replica, and sends it to the other replicas. The same write may be submitted
    /// any number of times, at any replica, also by a client whose clock is off: it is applied once.
    ///
    /// # Errors
    /// [`FieldError::Refused`] if the write is out of bounds, or its time too far in the future.
    pub fn submit_write(&self, write: ClientWrite) -> Result<Submitted, FieldError> {
        Ok(self.shared().submit_write(self.amplitude(), write)?)
    }

    /// Writes a register whose value is JSON text. The text is not looked at: it must be JSON, and not `null`.
    ///
    /// # Errors
    /// [`FieldError::Refused`] if name or value are out of bounds.
    pub fn set_json(&self, name: &str, json: Bytes) -> Result<(), FieldError> {
        let write = |state: &mut State, wall| state.set(name, json, wall).map(|change| ((), vec![change]));
        let old = |state: &State| state.entry(&Key::Register(name.into())).cloned();
        Ok(self.shared().write(self.amplitude(), write, old)?)
    }

    /// The entry of a register, also of one that was removed; `None` if there never was one, or its mark was dropped.
    #[must_use]
    pub fn register(&self, name: &str) -> Option<Entry> {
        self.entry(&Key::Register(name.into()))
    }

    /// The stamp of the newest addition of a member; `None` if it is not in the set.
    #[must_use]
    pub fn member(&self, set: &str, member: &Bytes) -> Option<Stamp> {
        self.shared().state().addition(set, member)
    }

    /// Reads the names that match, in pages of about `bytes`. A page is read at one moment; the field may change between
    /// two pages.
    #[must_use]
    pub fn page(&self, names: &Names, from: Option<PageStart>, bytes: usize) -> Page {
        let state = self.shared().state();
        let mut page = Page::default();
        let (mut size, mut looked_at) = (0, 0);
        let mut start = from.map_or_else(|| Key::Register(names.start().into()), |PageStart(key)| key);
        let mut bound = Bound::Included(start.clone());
        loop {
            let next = state.entries_from(bound.as_ref()).next();
            let Some((key, entry)) =
                next.filter(|(key, _)| key.kind() == start.kind() && names.has(key.name()))
            else {
                let Some(next) = start.first_of_next_kind(names.start()) else { break };
                (start, bound) = (next.clone(), Bound::Included(next));
                continue;
            };
            if size >= bytes || looked_at >= LOOKED_AT {
                page.next = Some(PageStart(key.clone()));
                break;
            }
            looked_at += 1;
            // A counter is one entry, however many parts it has.
            bound = Bound::Excluded(key.last_of_counter().unwrap_or_else(|| key.clone()));
            if entry.is_removed() {
                continue;
            }
            let Some(found) = read(&state, key, entry) else { continue };
            size += found.size();
            page.entries.push(found);
        }
        page
    }

    /// Reads what the owners whose names match have written, in pages of about `bytes`, as [`Field::page`] does.
    #[must_use]
    pub fn page_of_owners(&self, owners: &Names, from: Option<PageStart>, bytes: usize) -> Page {
        let state = self.shared().state();
        let mut page = Page::default();
        let first = match &from {
            Some(PageStart(Key::Owned(owner, name))) => (owner.as_str(), name.as_str()),
            _ => (owners.start(), ""),
        };
        let (mut size, mut looked_at) = (0, 0);
        for (key, entry) in state.owned_from(first.0, first.1) {
            let Some(owner) = key.owner().filter(|owner| owner.starts_with(owners.start())) else { break };
            if size >= bytes || looked_at >= LOOKED_AT {
                page.next = Some(PageStart(key.clone()));
                break;
            }
            looked_at += 1;
            let value = State::value_of(key, entry).filter(|_| owners.has(owner));
            let Some(value) = value else { continue };
            let (owner, name) = (owner.to_string(), key.name().to_owned());
            let found = PageEntry::Owned { owner, name, value, stamp: entry.stamp };
            size += found.size();
            page.entries.push(found);
        }
        page
    }

    /// The entry of a key, as it travels: with the signature of its owner, if it has one. `None` if there is none, or the
    /// mark of its removal was dropped.
    #[must_use]
    pub fn entry(&self, key: &Key) -> Option<Entry> {
        self.shared().state().entry(key).cloned()
    }
}

fn read(state: &State, key: &Key, entry: &Entry) -> Option<PageEntry> {
    let name = key.name().to_owned();
    Some(match key {
        Key::Register(_) => {
            PageEntry::Register { name, value: entry.value.clone().unwrap_or_default(), stamp: entry.stamp }
        }
        Key::Count(..) => PageEntry::Counter { sum: state.count(&name), name },
        Key::Member(_, member, tag) => {
            // A member may have been added several times. The newest addition represents all.
            let stamp = state.addition(&name, member).filter(|newest| newest == tag)?;
            PageEntry::Member { name, member: member.clone(), stamp }
        }
        Key::Binding(_) | Key::Owned(..) | Key::Floor(_) => return None,
    })
}
