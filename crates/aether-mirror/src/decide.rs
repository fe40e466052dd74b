//! Decides about one path, from the version that the file came from, the file as it is, and the register.
//!
//! Nothing here touches a file or a field. A deletion is a version like others, so an edit that was made beside it differs
//! from one that was made before it.

use aether_field::core::Stamp;

use crate::memory::Record;
use crate::version::{Content, Relation, Seen, Version};

/// The register of a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum There {
    /// There never was one, or nobody remembers.
    Nothing,
    /// It was removed, but not by a mirror, or is the mark of a deletion of long ago.
    Removed {
        /// The stamp of what was removed.
        replaced: Option<Stamp>,
    },
    /// It holds something else than a version of a file.
    Foreign,
    /// A version of the file.
    Version(Version, Stamp),
}

/// The role of this machine in the edits of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    /// All machines edit it.
    Shared,
    /// Only this machine edits it.
    Own,
    /// Only another machine edits it.
    Other,
}

/// The work that a path needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Step {
    Nothing,
    /// The file is the version of the register: remember that.
    Adopt,
    /// The register gets the file as it is, with what this version is made from. `is_edit` adds a new edit of this
    /// folder to that.
    Send {
        seen: Seen,
        is_edit: bool,
    },
    /// The file becomes the version of the register.
    Take,
    /// The same, but the present file stays beside it.
    KeepAndTake,
    /// The file is deleted, because its register was removed.
    Delete,
    /// There is neither file nor register: forget both.
    Forget,
    /// The register holds something else than a version of a file.
    Foreign,
    /// The file is not this machine's to send.
    NotOurs,
}

/// Decides. `found` is the file as it is, `modified` when it was modified, in microseconds since 1970.
pub(crate) fn decide(
    role: Role,
    record: Option<&Record>,
    found: Option<&Content>,
    modified: u64,
    there: &There,
) -> Step {
    let base = record.and_then(|record| record.content.as_ref());
    let seen = record.map(|record| record.seen.clone()).unwrap_or_default();
    let is_edit = found != base;
    match there {
        There::Foreign => Step::Foreign,
        There::Nothing => match (found, record) {
            (None, None) => Step::Nothing,
            _ if role == Role::Other => Step::NotOurs,
            _ => Step::Send { seen, is_edit },
        },
        There::Removed { replaced } => match (found, record) {
            (None, None) => Step::Nothing,
            (None, Some(_)) => Step::Forget,
            // The removed version is this one, or a later one.
            (Some(_), Some(record))
                if !is_edit && replaced.is_some_and(|replaced| replaced >= record.stamp) =>
            {
                Step::Delete
            }
            _ if role == Role::Other => Step::NotOurs,
            _ => Step::Send { seen, is_edit },
        },
        There::Version(version, stamp) => {
            let relation = seen.relation(&version.seen);
            if found == version.content.as_ref() {
                return match (record, found) {
                    // Nothing to remember: others may delete any number of names.
                    (None, None) => Step::Nothing,
                    _ => same(record, is_edit, relation, version),
                };
            }
            match role {
                // A folder that was lost gets its files back.
                Role::Own if record.is_none() && found.is_none() => Step::Take,
                Role::Own => Step::Send { seen: seen.merged(&version.seen), is_edit },
                Role::Other if !is_edit => Step::Take,
                Role::Other if record.is_some() && relation == Relation::Same => Step::NotOurs,
                Role::Other => Step::KeepAndTake,
                // The register was written once more with the bytes that were edited here.
                Role::Shared if is_edit && record.is_some() && version.content.as_ref() == base => {
                    Step::Send { seen: seen.merged(&version.seen), is_edit }
                }
                Role::Shared if is_edit => match relation {
                    // Made from this version, or from a later one that the register has lost.
                    Relation::Same | Relation::After if record.is_some() => Step::Send { seen, is_edit },
                    _ => clash(found, seen, is_edit, modified, version, *stamp),
                },
                Role::Shared => match relation {
                    Relation::Before => Step::Take,
                    Relation::After => Step::Send { seen, is_edit },
                    Relation::Same | Relation::Concurrent => {
                        let written = record.map_or(0, |record| record.stamp.micros);
                        clash(found, seen, is_edit, written, version, *stamp)
                    }
                },
            }
        }
    }
}

/// The file has the content of the register.
fn same(record: Option<&Record>, is_edit: bool, relation: Relation, version: &Version) -> Step {
    match (record, relation) {
        (Some(_), Relation::Same) if !is_edit => Step::Nothing,
        // Nobody has seen that it was edited here.
        (None, _) => Step::Adopt,
        _ if is_edit => Step::Adopt,
        (Some(_), Relation::Before | Relation::Same) => Step::Adopt,
        (Some(record), Relation::After) => Step::Send { seen: record.seen.clone(), is_edit: false },
        (Some(record), Relation::Concurrent) => {
            Step::Send { seen: record.seen.clone().merged(&version.seen), is_edit: false }
        }
    }
}

/// Neither was made from the other.
fn clash(
    found: Option<&Content>,
    seen: Seen,
    is_edit: bool,
    micros: u64,
    version: &Version,
    stamp: Stamp,
) -> Step {
    match (found, &version.content) {
        // An edit wins against a deletion.
        (None, _) => Step::Take,
        (Some(_), None) => Step::Send { seen: seen.merged(&version.seen), is_edit },
        // The other version is kept by the machines that have it: to them this one is concurrent, too.
        (Some(_), Some(_)) if micros > stamp.micros => Step::Send { seen, is_edit },
        (Some(_), Some(_)) => Step::KeepAndTake,
    }
}

#[cfg(test)]
mod tests {
    use aether_field::core::WriterId;

    use super::*;
    use crate::hash::Hash;
    use crate::version::FolderId;

    fn content(text: &str) -> Content {
        let hash = Hash::of_file(text.len() as u64, &[Hash::of_block(text.as_bytes())]);
        Content { size: text.len() as u64, hash, executable: false }
    }

    fn seen(edits: &[(u64, u64)]) -> Seen {
        edits.iter().fold(Seen::default(), |seen, &(id, edit)| seen.edited(FolderId(id), edit))
    }

    fn stamp(micros: u64) -> Stamp {
        Stamp { micros, logical: 0, writer: WriterId(1) }
    }

    fn record(text: Option<&str>, edits: &[(u64, u64)], micros: u64) -> Record {
        Record {
            seen: seen(edits),
            content: text.map(content),
            stamp: stamp(micros),
            machine: String::new(),
            time: micros,
            stat: None,
            is_settled: false,
            blocks: Vec::new(),
        }
    }

    fn there(text: Option<&str>, edits: &[(u64, u64)], micros: u64) -> There {
        let version = Version {
            machine: String::new(),
            time: micros,
            seen: seen(edits),
            content: text.map(content),
            data: None,
        };
        There::Version(version, stamp(micros))
    }

    /// With the text of the file, and the time of its modification.
    fn shared(record: Option<&Record>, found: Option<&str>, modified: u64, there: &There) -> Step {
        decide(Role::Shared, record, found.map(content).as_ref(), modified, there)
    }

    #[test]
    fn without_a_conflict_the_side_that_has_changed_is_taken() {
        let old = record(Some("old"), &[(1, 5)], 5);
        let same = there(Some("old"), &[(1, 5)], 5);
        let send = |edits: &[(u64, u64)], is_edit| Step::Send { seen: seen(edits), is_edit };
        for (record, found, there, step) in [
            (None, None, There::Nothing, Step::Nothing),
            (None, Some("new"), There::Nothing, send(&[], true)),
            (None, None, same.clone(), Step::Take),
            (None, Some("old"), same.clone(), Step::Adopt),
            (Some(&old), Some("old"), same.clone(), Step::Nothing),
            (Some(&old), Some("new"), same.clone(), send(&[(1, 5)], true)),
            (Some(&old), None, same, send(&[(1, 5)], true)),
            (Some(&old), Some("old"), there(Some("new"), &[(1, 5), (2, 9)], 9), Step::Take),
            (Some(&old), Some("old"), there(None, &[(1, 5), (2, 9)], 9), Step::Take),
            // The register is back at an older version, or has none: all replicas were lost.
            (Some(&old), Some("old"), there(Some("older"), &[(1, 4)], 99), send(&[(1, 5)], false)),
            (Some(&old), Some("old"), There::Nothing, send(&[(1, 5)], false)),
            // The same edit on both machines.
            (Some(&old), Some("new"), there(Some("new"), &[(1, 5), (2, 9)], 9), Step::Adopt),
            (Some(&old), None, there(None, &[(1, 5), (2, 9)], 9), Step::Adopt),
            (None, None, there(None, &[(2, 9)], 9), Step::Nothing),
            // Removed, but not by a mirror.
            (Some(&old), Some("old"), There::Removed { replaced: Some(stamp(5)) }, Step::Delete),
            (Some(&old), None, There::Removed { replaced: Some(stamp(5)) }, Step::Forget),
            (Some(&old), Some("old"), There::Removed { replaced: Some(stamp(4)) }, send(&[(1, 5)], false)),
            (Some(&old), Some("new"), There::Removed { replaced: Some(stamp(5)) }, send(&[(1, 5)], true)),
            (None, Some("new"), There::Removed { replaced: None }, send(&[], true)),
            (None, None, There::Foreign, Step::Foreign),
        ] {
            assert_eq!(shared(record, found, 0, &there), step, "{record:?} {found:?} {there:?}");
        }
    }

    #[test]
    fn of_two_edits_the_later_one_wins_and_the_other_one_is_kept() {
        let old = record(Some("old"), &[(1, 5)], 5);
        let theirs = there(Some("theirs"), &[(1, 5), (2, 9)], 9);
        // Edited here, and not sent yet.
        assert_eq!(shared(Some(&old), Some("mine"), 8, &theirs), Step::KeepAndTake);
        let step = shared(Some(&old), Some("mine"), 10, &theirs);
        assert_eq!(step, Step::Send { seen: seen(&[(1, 5)]), is_edit: true });
        // Sent, and beaten by a later one.
        let mine = record(Some("mine"), &[(1, 8)], 8);
        assert_eq!(shared(Some(&mine), Some("mine"), 8, &theirs), Step::KeepAndTake);
        // Also if the machine that won has edited once more, so that its first edit was never seen.
        let again = there(Some("again"), &[(1, 5), (2, 12)], 12);
        assert_eq!(shared(Some(&mine), Some("mine"), 8, &again), Step::KeepAndTake);
        // A new file on both machines.
        assert_eq!(shared(None, Some("mine"), 8, &theirs), Step::KeepAndTake);
        // An edit of the same bytes, which both machines had sent: no conflict.
        let twice = there(Some("old"), &[(1, 5), (2, 9)], 9);
        let step = shared(Some(&old), Some("mine"), 8, &twice);
        assert_eq!(step, Step::Send { seen: seen(&[(1, 5), (2, 9)]), is_edit: true });
        // The same text on both machines, sent by both: no conflict.
        let merged = Step::Send { seen: seen(&[(1, 8), (2, 9)]), is_edit: false };
        let same = record(Some("theirs"), &[(1, 8)], 8);
        assert_eq!(shared(Some(&same), Some("theirs"), 8, &theirs), merged);
    }

    #[test]
    fn an_edit_wins_against_a_deletion_that_did_not_know_it() {
        let old = record(Some("old"), &[(1, 5)], 5);
        let deleted = there(None, &[(1, 5), (2, 99)], 99);
        let send = |edits: &[(u64, u64)], is_edit| Step::Send { seen: seen(edits), is_edit };
        let both = [(1, 5), (2, 99)];
        assert_eq!(shared(Some(&old), Some("mine"), 8, &deleted), send(&both, true));
        let mine = record(Some("mine"), &[(1, 8)], 8);
        assert_eq!(shared(Some(&mine), Some("mine"), 8, &deleted), send(&[(1, 8), (2, 99)], false));
        assert_eq!(shared(None, Some("mine"), 8, &deleted), send(&both, true));
        // Deleted here, edited there.
        assert_eq!(shared(Some(&old), None, 0, &there(Some("b"), &[(1, 5), (2, 9)], 9)), Step::Take);
        let gone = record(None, &[(1, 99)], 99);
        assert_eq!(shared(Some(&gone), None, 0, &there(Some("b"), &[(1, 5), (2, 9)], 9)), Step::Take);
        // One that knew it wins.
        assert_eq!(shared(Some(&mine), Some("mine"), 8, &there(None, &[(1, 8), (2, 9)], 9)), Step::Take);
    }

    #[test]
    fn a_machine_sends_only_its_own_subfolder() {
        let old = record(Some("old"), &[(1, 5)], 5);
        let theirs = there(Some("theirs"), &[(1, 5), (2, 9)], 9);
        let of = |role, record, found: Option<&str>, there: &There| {
            decide(role, record, found.map(content).as_ref(), 10, there)
        };
        // Whatever others write into it, it has what is here.
        let back = Step::Send { seen: seen(&[(1, 5), (2, 9)]), is_edit: false };
        assert_eq!(of(Role::Own, Some(&old), Some("old"), &theirs), back);
        assert_eq!(of(Role::Own, None, None, &theirs), Step::Take);
        // Nothing in the subfolder of another machine is sent, and an edit there is kept beside when theirs comes.
        assert_eq!(of(Role::Other, None, Some("mine"), &There::Nothing), Step::NotOurs);
        assert_eq!(of(Role::Other, Some(&old), Some("old"), &theirs), Step::Take);
        assert_eq!(of(Role::Other, Some(&old), Some("mine"), &theirs), Step::KeepAndTake);
        let same = there(Some("old"), &[(1, 5)], 5);
        assert_eq!(of(Role::Other, Some(&old), Some("mine"), &same), Step::NotOurs);
    }
}
