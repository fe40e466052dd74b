//! The task that takes in changes, beats, participants, and questions of other replicas.

use std::collections::BTreeMap;
use std::sync::Arc;

use aether_core::{FailureReason, Receiver, Wave};
use tokio::time::Instant;

use super::clock::ClockOffset;
use super::peers::Heard;
use super::shared::{Shared, wall};
use super::wire::{Answer, Beat, Changes, Participants, Question, VERSION};
use crate::core::{ProtocolError, Responder, WriterId};

/// The number of waves taken at once.
const MANY: usize = 64;

/// The number of reconciliations that other replicas may have open here. Beyond it the oldest has to start over.
const MAX_OPEN: usize = 64;

/// Takes waves in until the receiver ends.
pub(super) async fn listen(shared: Arc<Shared>, mut receiver: Receiver) {
    let tuner = receiver.tuner();
    let mut waves = Vec::with_capacity(MANY);
    let mut lost = 0;
    let mut open = Open::default();
    while receiver.receive_many(&mut waves, MANY).await > 0 {
        for wave in waves.drain(..) {
            if wave.channel() == &shared.channels.changes {
                changes(&shared, &wave);
            } else if wave.channel() == &shared.channels.beats {
                beat(&shared, &wave);
            } else if wave.channel() == &shared.channels.presence {
                participants(&shared, &wave);
            } else {
                open.answer(&shared, &wave).await;
            }
        }
        let now_lost = tuner.ledger().lost();
        if now_lost > lost {
            lost = now_lost;
            shared.sync_now.notify_one();
        }
    }
}

fn changes(shared: &Shared, wave: &Wave) {
    match postcard::from_bytes::<Changes>(wave.payload()) {
        Ok(Changes { version: VERSION, changes }) => shared.apply(changes),
        _ => unreadable(shared, wave),
    }
}

fn beat(shared: &Shared, wave: &Wave) {
    let beat = match postcard::from_bytes::<Beat>(wave.payload()) {
        Ok(beat) if beat.version == VERSION => beat,
        _ => return unreadable(shared, wave),
    };
    // A repetition costs no signature.
    if beat.proof.is_some() && shared.peers.lock().is_old(&beat) {
        return;
    }
    let (own, owner, allowed) = {
        let state = shared.state();
        if beat.writer == state.writer() {
            return;
        }
        (state.digest(), beat.owner(&state, wall()).cloned(), state.limits().max_drift)
    };
    let clock = ClockOffset::of(beat.clock, wall());
    let heard = {
        let mut peers = shared.peers.lock();
        let was_off = peers.clock(beat.writer).is_some_and(|clock| clock.by() > allowed);
        let heard = peers.heard(&beat, owner.as_ref(), clock, Instant::now());
        if matches!(heard, Heard::New | Heard::Known) && clock.by() > allowed && !was_off {
            tracing::warn!(
                field = shared.field,
                replica = beat.replica,
                "the clock of another replica of the field is {clock} the one here; one of the two refuses the writes of the \
                 other"
            );
        }
        heard
    };
    match heard {
        Heard::New => shared.progress.send_modify(|progress| *progress += 1),
        Heard::Known | Heard::Left => {}
        Heard::Old => return,
        Heard::Forged => return shared.count(|account| &mut account.forged),
    }
    if beat.asks {
        shared.beat_now.notify_one();
        shared.presence.asked();
    }
    if beat.digest != own && !beat.leaves {
        shared.sync_now.notify_one();
    }
}

fn participants(shared: &Shared, wave: &Wave) {
    match postcard::from_bytes::<Participants>(wave.payload()) {
        Ok(said) if said.version == VERSION => {
            let refused = shared.presence.heard(said);
            if refused > 0 {
                shared.refuse_participants(refused);
                tracing::debug!(
                    source = wave.source().name(),
                    refused,
                    "participants of the field were refused"
                );
            }
        }
        _ => unreadable(shared, wave),
    }
}

fn unreadable(shared: &Shared, wave: &Wave) {
    shared.count(|account| &mut account.unreadable);
    tracing::debug!(channel = %wave.channel(), source = wave.source().name(), "a message of the field is unreadable");
}

/// Reconciliations that other replicas have begun.
#[derive(Debug, Default)]
struct Open {
    responders: BTreeMap<WriterId, (u32, u64, Responder)>,
    used: u64,
}

impl Open {
    async fn answer(&mut self, shared: &Shared, wave: &Wave) {
        let question = match postcard::from_bytes::<Question>(wave.payload()) {
            Ok(question) if question.version == VERSION => question,
            _ => {
                unreadable(shared, wave);
                return refuse(wave, "the question is unreadable, or of another version").await;
            }
        };
        match self.answers(shared, question).map(|answer| postcard::to_allocvec(&answer)) {
            Ok(Ok(answer)) => {
                // An asker that is gone starts over.
                let _ = wave.reply_bytes(answer).await;
            }
            Ok(Err(error)) => refuse(wave, &error.to_string()).await,
            Err(error) => refuse(wave, &error.to_string()).await,
        }
    }

    fn answers(&mut self, shared: &Shared, question: Question) -> Result<Answer, ProtocolError> {
        let mut messages = Vec::new();
        let mut state = shared.state();
        if !question.messages.is_empty() {
            let responder = self.responder(question.from, question.session);
            for message in question.messages {
                let step = responder.handle(&mut state, message, wall())?;
                shared.take_in(&state, &step);
                messages.extend(step.send);
            }
        }
        Ok(Answer { digest: state.digest(), messages })
    }

    fn responder(&mut self, from: WriterId, session: u32) -> &mut Responder {
        self.used += 1;
        if !self.responders.contains_key(&from)
            && self.responders.len() >= MAX_OPEN
            && let Some((&oldest, _)) = self.responders.iter().min_by_key(|(_, (_, used, _))| *used)
        {
            self.responders.remove(&oldest);
        }
        let entry = self.responders.entry(from).or_default();
        if entry.0 != session {
            *entry = (session, self.used, Responder::default());
        }
        entry.1 = self.used;
        &mut entry.2
    }
}

async fn refuse(wave: &Wave, why: &str) {
    let _ = wave.reply_failure(FailureReason::Rejected, why).await;
}
