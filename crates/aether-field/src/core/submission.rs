//! Writes of clients of a replica: one rule of stamps for all of them.
//!
//! A client has a clock of its own, which may be off and may step, and may send a write again, to any replica. So the
//! stamp of a write depends on the write and on the present entry of its key, and never on the clock of a replica:
//! - It has the number of the write and its time, or a later time.
//! - A write is later than what its writer had seen, and later than the writes of the same client with smaller numbers.
//! - A repeated write is found by its number.

use bytes::Bytes;
use smol_str::SmolStr;

use super::entry::{Change, Entry};
use super::key::Key;
use super::limits::Refusal;
use super::owning::Written;
use super::stamp::Stamp;
use super::state::{Applied, State};

/// How far the time of an earlier write may be behind the time of a later one with a smaller number, in microseconds.
/// Numbers are compared as 32 bits, so beyond a day a smaller number has wrapped around.
const DAY: u64 = 24 * 60 * 60 * 1_000_000;

/// A write of a client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientWrite {
    /// The time at which the client made it, the number that the client gave it, and the client. It is the same for the same
    /// write, however often and wherever it arrives.
    pub made: Stamp,
    /// The part of the register, or of the member of the set, that the client had seen.
    pub seen: Seen,
    /// The operation.
    pub operation: Operation,
}

/// The state that the client had seen when it wrote.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Seen {
    /// Not stated. The entry of the replica counts as seen if it is older than the write.
    Unsaid,
    /// Nothing, not even a removal.
    Nothing,
    /// This version of a register, or this newest addition of a member.
    Version(Stamp),
}

/// The operation of a write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Operation {
    /// Writes a register.
    Set {
        /// Its name.
        key: String,
        /// Its JSON.
        value: Bytes,
    },
    /// Removes a register.
    Delete {
        /// Its name.
        key: String,
    },
    /// Has added to a counter, and taken from it: the sums of everything that the client ever did.
    Count {
        /// Its name.
        key: String,
        /// The sum of additions.
        up: u64,
        /// The sum of subtractions.
        down: u64,
    },
    /// Adds a member to a set.
    Insert {
        /// The name of the set.
        key: String,
        /// The member.
        member: Bytes,
    },
    /// Removes a member from a set.
    Discard {
        /// The name of the set.
        key: String,
        /// The member.
        member: Bytes,
    },
}

/// The outcome of a write of a client.
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use]
pub enum Submitted {
    /// The state has it, now or since an earlier time, or has a later write of the same client.
    Applied {
        /// The stamp that it has.
        stamp: Stamp,
        /// How many entries there are more.
        created: u64,
    },
    /// A later write of somebody else wins, or an addition that a removal had not seen.
    Lost {
        /// The stamp that it would have.
        stamp: Stamp,
        /// The present entry; `None` if it was removed so long ago that nobody keeps the mark.
        winner: Option<Entry>,
    },
}

impl State {
    /// Carries out a write of a client. Returns what became of it, and the changes that have to be sent to other replicas.
    /// The same write may be submitted any number of times, at any replica: it is applied once.
    ///
    /// # Errors
    /// [`Refusal`] if the write is out of bounds, or its time too far in the future.
    pub fn submit(&mut self, write: ClientWrite, wall: u64) -> Result<(Submitted, Vec<Written>), Refusal> {
        let ClientWrite { made, seen, operation } = write;
        match operation {
            Operation::Set { key, value } => {
                self.submit_register((made, seen), key.into(), Some(value), wall)
            }
            Operation::Delete { key } => self.submit_register((made, seen), key.into(), None, wall),
            Operation::Count { key, up, down } => {
                let change = Change::counted(&key, up, down, made);
                self.check_count(&change)?;
                let written = self.submit_change(change, wall)?.1;
                Ok((Submitted::Applied { stamp: made, created: created(&written) }, written))
            }
            Operation::Insert { key, member } => self.submit_member(made, &key, member, wall),
            Operation::Discard { key, member } => self.submit_discard((made, seen), &key, &member, wall),
        }
    }

    fn submit_register(
        &mut self,
        (made, seen): (Stamp, Seen),
        name: SmolStr,
        value: Option<Bytes>,
        wall: u64,
    ) -> Result<(Submitted, Vec<Written>), Refusal> {
        let key = Key::Register(name);
        let standing = self.entry(&key).cloned();
        let current = standing.as_ref().map(|entry| entry.stamp);
        let own = current.filter(|current| current.writer == made.writer);
        if own.is_some_and(|own| is_no_later(made, own)) {
            let is_same = own.is_some_and(|own| own.logical == made.logical);
            let stamp = own.filter(|_| is_same).unwrap_or(made);
            return Ok((Submitted::Applied { stamp, created: 0 }, Vec::new()));
        }
        let (stamp, replaces) = placed((made, seen), current, wall);
        let change = Change { key, entry: Entry { stamp, replaces, value } };
        let (applied, written) = self.submit_change(change, wall)?;
        let submitted = match applied {
            Applied::Changed { .. } => Submitted::Applied { stamp, created: created(&written) },
            Applied::Known => Submitted::Lost { stamp, winner: standing },
            Applied::Gone => Submitted::Lost { stamp, winner: None },
        };
        Ok((submitted, written))
    }

    fn submit_member(
        &mut self,
        made: Stamp,
        set: &str,
        member: Bytes,
        wall: u64,
    ) -> Result<(Submitted, Vec<Written>), Refusal> {
        let key = Key::Member(set.into(), member.clone(), made);
        let entry = Entry { stamp: made, replaces: None, value: Some(Bytes::new()) };
        let (applied, mut written) = self.submit_change(Change { key, entry }, wall)?;
        if matches!(applied, Applied::Changed { .. }) {
            // The new addition replaces the client's older ones. It may not have seen additions of others.
            let is_older = |tag: Stamp| tag.writer == made.writer && tag < made;
            written.extend(self.discard_tags((set, &member), is_older, wall)?);
        }
        Ok((Submitted::Applied { stamp: made, created: created(&written) }, written))
    }

    fn submit_discard(
        &mut self,
        (made, seen): (Stamp, Seen),
        set: &str,
        member: &Bytes,
        wall: u64,
    ) -> Result<(Submitted, Vec<Written>), Refusal> {
        // Its own with smaller numbers; of others, the ones up to the stated stamp, or older than the write if none is
        // stated.
        let is_seen = |tag: Stamp| match seen {
            _ if tag.writer == made.writer => tag.logical != made.logical && is_no_later(tag, made),
            Seen::Version(seen) => tag <= seen,
            Seen::Unsaid => tag < made,
            Seen::Nothing => false,
        };
        let mut written = self.discard_tags((set, member), is_seen, wall)?;
        let mut is_lost = false;
        if let Seen::Version(tag) = seen
            && tag >= self.collected()
        {
            // The addition that was seen may still be on its way here. A mark keeps it out, if its time has come.
            let key = Key::Member(set.into(), member.clone(), tag);
            let is_known = self.entry(&key).is_some();
            is_lost = !is_known && tag.micros >= wall;
            if !is_known && !is_lost {
                written.push((self.write(key, None, wall)?, None));
            }
        }
        let newest = self.additions(set, member, None).pop();
        let winner = newest.and_then(|key| self.entry(&key).cloned());
        let submitted = match is_lost || winner.is_some() {
            true => Submitted::Lost { stamp: made, winner },
            false => Submitted::Applied { stamp: made, created: created(&written) },
        };
        Ok((submitted, written))
    }

    /// Removes the additions of a member with these tags.
    fn discard_tags(
        &mut self,
        (set, member): (&str, &Bytes),
        is_meant: impl Fn(Stamp) -> bool,
        wall: u64,
    ) -> Result<Vec<Written>, Refusal> {
        let is_meant = |key: &Key| matches!(key, Key::Member(_, _, tag) if is_meant(*tag));
        let keys = self.additions(set, member, None).into_iter().filter(is_meant);
        keys.map(|key| {
            let old = self.entry(&key).cloned();
            Ok((self.write(key, None, wall)?, old))
        })
        .collect()
    }

    fn submit_change(&mut self, change: Change, wall: u64) -> Result<(Applied, Vec<Written>), Refusal> {
        let applied = self.apply(change.clone(), wall)?;
        let written = match &applied {
            Applied::Changed { old } => vec![(self.joined(change), old.clone())],
            Applied::Known | Applied::Gone => Vec::new(),
        };
        Ok((applied, written))
    }
}

fn created(written: &[Written]) -> u64 {
    written.iter().filter(|(_, old)| old.is_none()).count() as u64
}

/// Whether a write of a client is the same as another one of this client, or was made before it.
fn is_no_later(one: Stamp, other: Stamp) -> bool {
    let is_after = one.logical != other.logical && one.logical.wrapping_sub(other.logical) < 1 << 31;
    !is_after && one.micros <= other.micros.saturating_add(DAY)
}

/// The stamp of a write of a register, and what it replaces.
///
/// A write that follows a version is later than it, also if the clock of the writer of that version is fast: else it could
/// never be replaced. The version must be one that can exist: it is here, or its time has come. So no writer gets a stamp
/// from the future by naming one.
fn placed((made, seen): (Stamp, Seen), current: Option<Stamp>, wall: u64) -> (Stamp, Option<Stamp>) {
    let mut stamp = made;
    // Later than the client's own present write: its number is smaller.
    if let Some(own) = current.filter(|current| current.writer == made.writer) {
        let after = own.micros + u64::from(own.logical >= made.logical);
        stamp.micros = stamp.micros.max(after);
    }
    let replaces = match seen {
        Seen::Unsaid => current.filter(|&current| current < stamp),
        Seen::Nothing => None,
        Seen::Version(version) => {
            let is_possible = version.micros <= wall || current.is_some_and(|current| version <= current);
            if is_possible {
                // In the next microsecond: the numbers keep the order of the writes that have seen one version.
                stamp.micros = stamp.micros.max(version.micros.saturating_add(1));
            }
            Some(version)
        }
    };
    (stamp, replaces)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::WriterId;

    fn stamp(micros: u64, logical: u32, writer: u64) -> Stamp {
        Stamp { micros, logical, writer: WriterId(writer) }
    }

    #[test]
    fn a_write_is_later_than_the_version_that_it_replaces() {
        let (own, fast, slow) = (stamp(100, 1, 7), stamp(500, 3, 9), stamp(50, 0, 9));
        let of = |made, seen: Stamp| placed((made, Seen::Version(seen)), Some(seen), 110);
        assert_eq!(of(own, fast), (stamp(501, 1, 7), Some(fast)));
        assert_eq!(of(own, slow), (own, Some(slow)));
        let second = of(stamp(100, 2, 7), fast);
        assert!(second.0 > of(own, fast).0, "of two writes that have seen one version the second is later");
    }

    #[test]
    fn a_version_that_cannot_exist_moves_no_write_into_the_future() {
        let own = stamp(100, 1, 7);
        let invented = Seen::Version(stamp(5_000, 0, 9));
        assert_eq!(placed((own, invented), Some(stamp(90, 0, 9)), 110).0, own);
    }

    #[test]
    fn a_write_is_later_than_the_clients_own_write_before_also_if_its_clock_has_stepped_back() {
        let before = stamp(1_000, 8, 7);
        for seen in [Seen::Unsaid, Seen::Nothing, Seen::Version(stamp(500, 0, 9))] {
            assert!(placed((stamp(950, 9, 7), seen), Some(before), 2_000).0 > before, "{seen:?}");
        }
        // Numbers of 32 bits wrap around.
        assert!(placed((stamp(950, 0, 7), Seen::Unsaid), Some(stamp(1_000, u32::MAX, 7)), 2_000).0 > before);
    }

    #[test]
    fn numbers_tell_a_repeated_and_an_earlier_write_from_a_later_one() {
        assert!(is_no_later(stamp(5, 8, 7), stamp(5, 8, 7)) && is_no_later(stamp(9, 7, 7), stamp(5, 8, 7)));
        assert!(!is_no_later(stamp(1, 9, 7), stamp(5, 8, 7)));
        assert!(!is_no_later(stamp(1, 0, 7), stamp(5, u32::MAX, 7)), "32 bits wrap around");
        assert!(
            !is_no_later(stamp(2 * DAY, 1, 7), stamp(5, u32::MAX / 2, 7)),
            "so do they after a long time"
        );
    }
}
