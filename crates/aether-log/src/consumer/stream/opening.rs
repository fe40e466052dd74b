//! Opens what the server has of a wave, and checks it.

use std::time::Duration;

use bytes::Bytes;
use tokio::time::Instant;

use super::claim::Taken;
use super::complaints::Complaint;
use super::shared::StreamShared;
use super::window::Cut;
use crate::jetstream::{Incomplete, JetStreamError};
use crate::schedule::micros;
use crate::sealing::{OpenedBody, Unopened};
use crate::stored_wave::{Decoder, StoredWave, identity};

/// The longest time until the server delivers a wave again whose key is not here.
const LOCKED_AGAIN: Duration = Duration::from_secs(5);

/// The answer about a wave whose key is not here: it comes again, no later than a wave of a silent process.
pub(super) fn again_when_unlocked(shared: &StreamShared) -> Bytes {
    let delay = LOCKED_AGAIN.min(shared.ack_wait).as_nanos();
    format!("-NAK {{\"delay\":{delay}}}").into()
}

/// Why a wave is not delivered.
pub(super) enum PassedOver {
    /// Its key is not here.
    Locked,
    Unreadable,
}

impl StreamShared {
    fn complaint(&self, of: Complaint) -> Option<u64> {
        self.complaints.lock().due(of, Instant::now())
    }

    pub(super) fn open(&self, position: u64, subject: &str, body: &Bytes) -> Result<OpenedBody, PassedOver> {
        let consumer = &self.name;
        self.connection.sealing.open(subject, body).map_err(|error| match error {
            Unopened::Locked => {
                if let Some(left_out) = self.complaint(Complaint::Locked) {
                    tracing::warn!(position, consumer, %error, left_out, "a wave waits for its key and is delivered again");
                }
                PassedOver::Locked
            }
            Unopened::Refused(_) => {
                if let Some(left_out) = self.complaint(Complaint::Refused) {
                    tracing::warn!(position, consumer, %error, left_out, "a message of the stream is refused and passed over");
                }
                PassedOver::Unreadable
            }
        })
    }

    /// Reads the frame of a wave, or of the head of one.
    pub(super) fn framed(
        &self,
        decoder: &mut Decoder,
        position: u64,
        micros: u64,
        subject: &str,
        frame: &Bytes,
    ) -> Result<StoredWave, PassedOver> {
        let (consumer, name) = (&self.name, self.subjects.name(subject).unwrap_or_default());
        decoder.read_delivered(position, micros, Some(name.as_bytes()), frame).map_err(|error| {
            if let Some(left_out) = self.complaint(Complaint::NoWave) {
                tracing::warn!(position, consumer, %error, left_out, "a message of the stream cannot be read as a wave and is passed over");
            }
            PassedOver::Unreadable
        })
    }

    /// Reads a wave that was opened. The signer and the rules of the bus must allow it.
    pub(super) fn read(
        &self,
        decoder: &mut Decoder,
        position: u64,
        micros: u64,
        subject: &str,
        opened: OpenedBody,
    ) -> Result<StoredWave, PassedOver> {
        let consumer = &self.name;
        let mut stored = self.framed(decoder, position, micros, subject, &opened.frame)?;
        if opened.proof.is_some_and(|proof| !stored.wave.prove(&proof)) {
            if let Some(left_out) = self.complaint(Complaint::Name) {
                let name = stored.wave.source().name();
                tracing::warn!(
                    position,
                    consumer,
                    name,
                    left_out,
                    "its signer may not use the name: a wave is passed over"
                );
            }
            return Err(PassedOver::Unreadable);
        }
        // A copy, so that the schema of one wave delays no other consumer.
        let border = self.connection.border.lock().clone();
        if let Some(border) = border
            && let Err(refusal) = border.admit_stored(&mut stored.wave)
        {
            if let Some(left_out) = self.complaint(Complaint::Rules) {
                tracing::warn!(position, consumer, %refusal, left_out, "the rules refuse a wave of the stream: it is passed over");
            }
            return Err(PassedOver::Unreadable);
        }
        Ok(stored)
    }

    /// The whole wave, which is collected if it is cut. `None` if that cannot be: it was passed over.
    pub(super) async fn whole(&self, taken: Taken) -> Result<Option<(Taken, StoredWave)>, JetStreamError> {
        let Some(held) = taken.held() else { return Ok(None) };
        if held.cut.is_none() {
            let stored = held.stored.clone();
            return Ok(Some((taken, stored)));
        }
        match Box::pin(self.uncut(&held.stored, held.cut.as_deref())).await? {
            Ok(stored) => return Ok(Some((taken, stored))),
            Err(PassedOver::Locked) => taken.pass_over(again_when_unlocked(self)).await,
            Err(PassedOver::Unreadable) => {
                self.window.expire();
                taken.pass_over(Bytes::from_static(b"+TERM")).await;
            }
        }
        Ok(None)
    }

    /// The wave with its payload.
    pub(super) async fn uncut(
        &self,
        head: &StoredWave,
        cut: Option<&Cut>,
    ) -> Result<Result<StoredWave, PassedOver>, JetStreamError> {
        let Some(Cut { parts, subject }) = cut else { return Ok(Ok(head.clone())) };
        let (position, consumer) = (head.position, &self.name);
        let channel = self.subjects.name(subject).unwrap_or_default();
        let incomplete = |error: Incomplete| {
            if let Some(left_out) = self.complaint(Complaint::Incomplete) {
                tracing::warn!(position, consumer, %error, left_out, "a wave cannot be collected from its parts and is passed over");
            }
            Ok(Err(PassedOver::Unreadable))
        };
        let body = match self.parts.collect(channel, parts).await {
            Ok(body) => body,
            Err(Incomplete::Server(error)) => return Err(error),
            Err(error) => return incomplete(error),
        };
        let opened = match self.open(position, subject, &body) {
            Ok(opened) => opened,
            Err(passed_over) => return Ok(Err(passed_over)),
        };
        drop(body);
        match self.read(&mut Decoder::default(), position, micros(head.at), subject, opened) {
            // It is acknowledged, and known again, by this identity.
            Ok(stored) if identity(&stored.wave) != identity(&head.wave) => incomplete(Incomplete::Altered),
            read => Ok(read),
        }
    }
}
