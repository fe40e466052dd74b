//! Reconciliation: two replicas find out what differs and exchange only that.
//!
//! The differing changes are found by ranges (Meyer, "Range-Based Set Reconciliation", 2022), by the `negentropy` crate.
//! One side initiates; both sides feed the received messages to [`Initiator::handle`] or [`Responder::handle`] and send
//! the result. A reconciliation that breaks off is started again: the entries exchanged so far no longer differ.

use std::collections::{BTreeMap, BTreeSet};

use negentropy::{Id, Negentropy};
use serde::{Deserialize, Serialize};

use super::entry::{Change, ChangeId, Digest, Entry};
use super::key::Key;
use super::limits::{Refusal, RefusalReason, Refusals};
use super::owning::Intake;
use super::section::Section;
use super::stamp::Stamp;
use super::state::{Applied, State};

/// The size of one message of ranges, in bytes.
const RANGES: u64 = 60_000;

/// The size of one message of changes, in bytes, but for a single change that is larger.
const CHANGES: usize = 60_000;

/// The maximum number of identities in one request, and that in the first one: changes of 120 bytes fill a message then.
const WANTED: usize = 2_000;
const WANTED_FIRST: usize = 500;

/// A message of a reconciliation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Message {
    /// Begins a reconciliation, or follows [`Message::Sections`]: the first ranges of the initiator.
    Open(Vec<u8>),
    /// Ranges that differ, from either side.
    Ranges(Vec<u8>),
    /// Changes that the responder lacks. It answers with [`Message::Taken`].
    Offer(Vec<Change>),
    /// The offered changes were applied, but for these.
    Taken {
        /// Entries that were removed before, and that the initiator drops.
        gone: Vec<ChangeId>,
        /// How many were refused, and why.
        refused: Refusals,
    },
    /// Changes that the initiator lacks. The responder answers with [`Message::Given`].
    Want(Vec<ChangeId>),
    /// Changes that were asked for, as many as fit, in the order of the question; missing ones have been replaced since.
    Given {
        /// The changes.
        changes: Vec<Change>,
        /// How many of the wanted identities this message answers.
        answered: u32,
    },
    /// Changes that were given but were removed before: the responder drops them.
    Gone(Vec<ChangeId>),
    /// All is exchanged, if what was asked for before it is answered in full. Both sides send it.
    Done {
        /// [`State::collected`] when the reconciliation began.
        collected: Stamp,
    },
    /// Begins a reconciliation of replicas that trust owners: the parts that the initiator has. The responder answers
    /// with [`Message::Compared`].
    Sections(Vec<(Section, Digest)>),
    /// The parts that both have and that differ. Only these are compared, so replicas that trust different owners do not
    /// offer each other the same entries for ever.
    Compared {
        /// The parts, with the digests of the responder.
        differing: Vec<(Section, Digest)>,
        /// The parts that the responder does not have: it trusts nobody who may write them.
        lacking: Vec<Section>,
    },
}

/// A message that breaks the protocol. The reconciliation is over; the state is intact.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ProtocolError {
    /// A message that is not expected now.
    #[error("a message of a reconciliation came out of turn")]
    OutOfTurn,
    /// Ranges that cannot be read.
    #[error("the ranges of a reconciliation cannot be read: {0}")]
    Ranges(String),
}

impl From<negentropy::Error> for ProtocolError {
    fn from(error: negentropy::Error) -> Self {
        Self::Ranges(error.to_string())
    }
}

/// The result of a message.
#[derive(Debug, Default)]
#[must_use]
pub struct Step {
    /// The answers.
    pub send: Vec<Message>,
    /// The changes that are new here, with the entries that they replaced.
    pub changed: Vec<(Change, Option<Entry>)>,
    /// The entries that were removed elsewhere so long ago that no mark of it is kept.
    pub forgotten: Vec<Change>,
    /// The entries of owners that are void by what came: signed by a key that was given up, or older than a floor.
    pub voided: Vec<Change>,
    /// The changes that were refused.
    pub refused: Vec<(ChangeId, Refusal)>,
}

impl Step {
    fn send(message: Message) -> Self {
        Self { send: vec![message], ..Self::default() }
    }

    /// Applies changes. Returns those that are gone.
    fn apply(&mut self, state: &mut State, mut changes: Vec<Change>, wall: u64) -> Vec<ChangeId> {
        let mut gone = Vec::new();
        let mut intake = Intake::default();
        // A certificate may be younger than what it makes valid.
        changes.sort_by_key(|change| !matches!(change.key, Key::Binding(_)));
        for change in changes {
            match intake.apply(state, change.clone(), wall) {
                Ok(Applied::Changed { old }) => self.changed.push((state.joined(change), old)),
                Ok(Applied::Known) => {}
                Ok(Applied::Gone) => gone.push(change.id()),
                Err(refusal) => self.refused.push((change.id(), refusal)),
            }
        }
        self.voided.extend(state.take_voided());
        gone
    }

    fn refusals(&self) -> Refusals {
        let mut refusals = Refusals::new();
        for (_, refusal) in &self.refused {
            *refusals.entry(refusal.reason()).or_default() += 1;
        }
        refusals
    }

    fn forget(&mut self, state: &mut State, gone: &[ChangeId]) {
        self.forgotten.extend(gone.iter().filter_map(|&id| state.forget(id)));
    }
}

/// The side that begins.
#[derive(Debug)]
pub struct Initiator {
    /// What is compared.
    sections: Vec<Section>,
    collected: Stamp,
    offers: Vec<ChangeId>,
    wants: Vec<ChangeId>,
    /// How many of them the next request names: as many as the last answer had room for.
    fitting: usize,
    /// Whether nothing was refused here. Otherwise what the other side has collected cannot be relied on.
    is_complete: bool,
    has_certificates: bool,
    /// The refusals here, and there.
    refused: (Refusals, Refusals),
    /// The parts that were named, until the responder has compared them.
    named: Vec<(Section, Digest)>,
    /// The answers that have to come, the next one last.
    expected: Vec<Expected>,
    is_done: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Expected {
    Sections,
    Ranges,
    Taken,
    Given,
    Done,
}

impl Initiator {
    /// Begins a reconciliation. The message goes to the other replica, and so do all messages that [`Initiator::handle`]
    /// returns, in their order. Messages that come from one round of answers can go in one.
    ///
    /// # Errors
    /// [`ProtocolError::Ranges`] if the ranges cannot be made.
    pub fn start(state: &mut State) -> Result<(Self, Message), ProtocolError> {
        let mut initiator = Self {
            sections: Vec::new(),
            collected: state.collected(),
            offers: Vec::new(),
            wants: Vec::new(),
            fitting: WANTED_FIRST,
            is_complete: true,
            has_certificates: false,
            refused: <(Refusals, Refusals)>::default(),
            named: Vec::new(),
            expected: Vec::new(),
            is_done: false,
        };
        let sections = state.sections();
        let first = match sections[..] {
            [(Section::OPEN, _)] => initiator.open(state, vec![Section::OPEN])?,
            _ => {
                initiator.expected.push(Expected::Sections);
                initiator.named.clone_from(&sections);
                Message::Sections(sections)
            }
        };
        Ok((initiator, first))
    }

    fn open(&mut self, state: &mut State, sections: Vec<Section>) -> Result<Message, ProtocolError> {
        let ranges = Negentropy::owned(state.items(&sections), RANGES)?.initiate()?;
        self.sections = sections;
        self.expected.push(Expected::Ranges);
        Ok(Message::Open(ranges))
    }

    /// Whether all was exchanged.
    #[must_use]
    pub fn is_done(&self) -> bool {
        self.is_done
    }

    /// Whether certificates were exchanged. Then there may be owners whom only one side knew when it began: begin another
    /// reconciliation to compare what they have.
    #[must_use]
    pub const fn has_certificates(&self) -> bool {
        self.has_certificates
    }

    /// The entries of the responder that this replica has refused.
    #[must_use]
    pub const fn refused_here(&self) -> &Refusals {
        &self.refused.0
    }

    /// The entries of this replica that the responder has refused, entries of owners that it does not trust included.
    #[must_use]
    pub const fn refused_there(&self) -> &Refusals {
        &self.refused.1
    }

    /// The changes still to be exchanged, as far as they are known.
    #[must_use]
    pub const fn remaining(&self) -> usize {
        self.offers.len() + self.wants.len()
    }

    /// Takes in an answer of the responder.
    ///
    /// # Errors
    /// [`ProtocolError`]; the reconciliation is over then.
    pub fn handle(&mut self, state: &mut State, message: Message, wall: u64) -> Result<Step, ProtocolError> {
        let mut step = Step::default();
        match (self.expected.pop(), message) {
            (Some(Expected::Sections), Message::Compared { differing, lacking }) => {
                let named = std::mem::take(&mut self.named);
                let is_lacking = |(section, _): &&(Section, Digest)| lacking.contains(section);
                let missing: u64 = named.iter().filter(is_lacking).map(|(_, digest)| digest.entries).sum();
                if missing > 0 {
                    *self.refused.1.entry(RefusalReason::Trust).or_default() += missing;
                }
                if !differing.is_empty() {
                    let differing = differing.into_iter().map(|(section, _)| section).collect();
                    return Ok(Step::send(self.open(state, differing)?));
                }
            }
            (Some(Expected::Ranges), Message::Ranges(ranges)) => return self.compare(state, &ranges),
            (Some(Expected::Taken), Message::Taken { gone, refused }) => {
                step.forget(state, &gone);
                for (reason, number) in refused {
                    *self.refused.1.entry(reason).or_default() += number;
                }
            }
            (Some(Expected::Given), Message::Given { changes, answered }) => {
                self.has_certificates |= changes.iter().any(is_certificate);
                let gone = step.apply(state, changes, wall);
                if !gone.is_empty() {
                    step.send.push(Message::Gone(gone));
                }
                self.is_complete &= step.refused.is_empty();
                for (reason, number) in step.refusals() {
                    *self.refused.0.entry(reason).or_default() += number;
                }
                // At least one, so that it ends whatever the responder answers.
                let answered = usize::try_from(answered).unwrap_or(usize::MAX).max(1);
                let asked = self.fitting.min(self.wants.len());
                self.fitting = if answered < asked { answered } else { (2 * self.fitting).min(WANTED) };
                self.wants.truncate(self.wants.len().saturating_sub(answered));
            }
            (Some(Expected::Done), Message::Done { collected }) => {
                self.is_done = self.remaining() == 0;
                if self.is_done {
                    finish(&mut step, state, (collected, self.is_complete), wall);
                }
            }
            _ => return Err(ProtocolError::OutOfTurn),
        }
        if self.expected.is_empty() && !self.is_done {
            step.send.extend(self.next(state));
        }
        Ok(step)
    }

    fn compare(&mut self, state: &mut State, ranges: &[u8]) -> Result<Step, ProtocolError> {
        let mut negentropy = Negentropy::owned(state.items(&self.sections), RANGES)?;
        negentropy.set_initiator();
        let (mut have, mut need) = (Vec::new(), Vec::new());
        let next = negentropy.reconcile_with_ids(ranges, &mut have, &mut need)?;
        let read = |ids: Vec<Id>| ids.into_iter().map(|id| ChangeId::from_item(id.as_bytes()));
        self.offers.extend(read(have));
        self.wants.extend(read(need));
        let mut step = Step::default();
        match next {
            Some(ranges) => {
                self.expected.push(Expected::Ranges);
                step.send.push(Message::Ranges(ranges));
            }
            None => {
                // They are sent from the end: the oldest first, as far as replicas that join have it easier then.
                self.offers.sort_unstable_by(|a, b| b.cmp(a));
                self.wants.sort_unstable_by(|a, b| b.cmp(a));
                step.send.extend(self.next(state));
            }
        }
        Ok(step)
    }

    /// The next changes to exchange. With the last ones goes the end, which saves a round trip.
    fn next(&mut self, state: &State) -> Vec<Message> {
        let (mut messages, mut expected) = (Vec::new(), Vec::new());
        let changes = fitting(state, std::iter::from_fn(|| self.offers.pop()), |_| {});
        if !changes.is_empty() {
            self.has_certificates |= changes.iter().any(is_certificate);
            messages.push(Message::Offer(changes));
            expected.push(Expected::Taken);
        }
        if self.offers.is_empty() {
            if !self.wants.is_empty() {
                messages.push(Message::Want(self.wants.iter().rev().take(self.fitting).copied().collect()));
                expected.push(Expected::Given);
            }
            if self.wants.len() <= self.fitting {
                messages.push(Message::Done { collected: self.collected });
                expected.push(Expected::Done);
            }
        }
        expected.reverse();
        self.expected = expected;
        messages
    }
}

/// The side that answers. It can be kept for a reconciliation or for all of one peer: [`Message::Open`] starts over.
#[derive(Debug, Default)]
pub struct Responder {
    /// What is compared; empty if the initiator has not said it.
    sections: Vec<Section>,
    is_open: bool,
    collected: Stamp,
    is_complete: bool,
}

impl Responder {
    /// Takes in a message of the initiator.
    ///
    /// # Errors
    /// [`ProtocolError`]; the reconciliation is over then.
    pub fn handle(&mut self, state: &mut State, message: Message, wall: u64) -> Result<Step, ProtocolError> {
        match message {
            Message::Sections(theirs) => {
                let theirs: BTreeMap<_, _> = theirs.into_iter().collect();
                let differs = |(section, digest): &(Section, Digest)| {
                    theirs.get(section).is_some_and(|theirs| theirs != digest)
                };
                let differing: Vec<_> = state.sections().into_iter().filter(differs).collect();
                let own: BTreeSet<_> = state.sections().into_iter().map(|(section, _)| section).collect();
                let lacking = theirs.keys().filter(|section| !own.contains(section)).copied().collect();
                let sections = differing.iter().map(|(section, _)| *section).collect();
                *self = Self { sections, is_open: false, collected: state.collected(), is_complete: true };
                Ok(Step::send(Message::Compared { differing, lacking }))
            }
            Message::Open(ranges) => {
                let mut sections = std::mem::take(&mut self.sections);
                if sections.is_empty() {
                    // Not said: what everybody may write.
                    sections.push(Section::OPEN);
                }
                *self = Self { sections, is_open: true, collected: state.collected(), is_complete: true };
                self.compare(state, &ranges)
            }
            Message::Ranges(ranges) => self.compare(state, &ranges),
            Message::Offer(changes) => {
                let mut step = Step::default();
                let gone = step.apply(state, changes, wall);
                self.is_complete &= step.refused.is_empty();
                step.send.push(Message::Taken { gone, refused: step.refusals() });
                Ok(step)
            }
            Message::Want(ids) => {
                let mut answered = 0;
                let changes = fitting(state, ids.into_iter().take(WANTED), |_| answered += 1);
                Ok(Step::send(Message::Given { changes, answered }))
            }
            Message::Gone(ids) => {
                let mut step = Step::default();
                step.forget(state, &ids);
                Ok(step)
            }
            Message::Done { collected } => {
                let mut step = Step::send(Message::Done { collected: self.collected });
                (self.is_open, self.sections) = (false, Vec::new());
                finish(&mut step, state, (collected, self.is_complete), wall);
                Ok(step)
            }
            Message::Compared { .. } | Message::Taken { .. } | Message::Given { .. } => {
                Err(ProtocolError::OutOfTurn)
            }
        }
    }

    /// Compares with the state as it is now. Changes since the last message were sent to all replicas anyway.
    fn compare(&self, state: &mut State, ranges: &[u8]) -> Result<Step, ProtocolError> {
        if !self.is_open {
            return Err(ProtocolError::OutOfTurn);
        }
        let answer = Negentropy::owned(state.items(&self.sections), RANGES)?.reconcile(ranges)?;
        Ok(Step::send(Message::Ranges(answer)))
    }
}

const fn is_certificate(change: &Change) -> bool {
    matches!(change.key, Key::Binding(_))
}

/// The changes of these identities that still exist, as many as fit into a message. `each` sees every identity that was
/// taken from the iterator.
fn fitting(
    state: &State,
    ids: impl Iterator<Item = ChangeId>,
    mut each: impl FnMut(ChangeId),
) -> Vec<Change> {
    let (mut changes, mut bytes) = (Vec::new(), 0);
    for id in ids {
        each(id);
        if let Some(change) = state.change(id) {
            bytes += change.size();
            changes.push(change);
        }
        if bytes >= CHANGES {
            break;
        }
    }
    changes
}

fn finish(step: &mut Step, state: &mut State, (collected, is_complete): (Stamp, bool), wall: u64) {
    if is_complete && let Err(refusal) = state.note_collected(collected, wall) {
        step.refused.push((ChangeId::default(), refusal));
    }
}
