//! A wave that one consumer in JetStream has taken.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use async_nats::Subject;
use bytes::Bytes;
use futures_util::future::join_all;
use tokio::time::Instant;

use super::shared::StreamShared;
use super::window::{Held, InFlight};
use crate::consumer::options::ConsumerOptions;
use crate::consumer::window::Failures;
use crate::dead::{Attempt, Noted, Underway};
use crate::jetstream::JetStreamError;
use crate::stored_wave::StoredWave;

/// After how many acknowledgements that nobody waits for one is confirmed, so that their number is bounded.
const CONFIRMED_EVERY: u64 = 256;

/// A wave in flight. Its delivery answers for it, also when it is dropped.
#[derive(Debug)]
pub(crate) struct StreamClaim {
    shared: Arc<StreamShared>,
    position: u64,
    id: u128,
    failures: Failures,
    /// Whether the server knows of failures, or of this attempt.
    is_noted: bool,
    /// Pinned: the wave, which waits here for its next attempt.
    kept: Option<Box<Held>>,
}

/// A wave that is about to be delivered. Dropped, it is ready again.
#[derive(Debug)]
pub(super) struct Taken {
    shared: Arc<StreamShared>,
    held: Option<Held>,
}

impl Taken {
    pub(super) const fn new(shared: Arc<StreamShared>, held: Held) -> Self {
        Self { shared, held: Some(held) }
    }

    pub(super) const fn held(&self) -> Option<&Held> {
        self.held.as_ref()
    }

    /// The claim on the wave.
    pub(super) fn claim(mut self, failures: Failures, is_noted: bool) -> Option<StreamClaim> {
        let held = self.held.take()?;
        let (shared, position, id) = (Arc::clone(&self.shared), held.order.position, held.id);
        let kept = shared.options.is_pinned().then(|| Box::new(held));
        Some(StreamClaim { shared, position, id, failures, is_noted, kept })
    }

    /// Passes over the wave, and answers so.
    pub(super) async fn pass_over(mut self, content: Bytes) {
        let Some(held) = self.held.take() else { return };
        if let Some(reply) = self.shared.window.pass_over(held.order.position) {
            answer(&self.shared, reply, content).await;
        }
    }
}

impl Drop for Taken {
    fn drop(&mut self) {
        if let Some(held) = self.held.take() {
            put_back(&self.shared, held, None);
        }
    }
}

impl StreamClaim {
    pub(crate) fn options(&self) -> &ConsumerOptions {
        &self.shared.options
    }

    /// Acknowledges, and waits until the server has noted it.
    pub(crate) async fn acknowledge(self) -> Result<(), JetStreamError> {
        self.acknowledge_then(|| {}).await
    }

    /// Acknowledges a wave whose letter is at the server, and counts it.
    pub(super) async fn give_up(
        self,
        stored: StoredWave,
        attempts: u32,
        failed: Vec<Attempt>,
    ) -> Result<(), JetStreamError> {
        let shared = Arc::clone(&self.shared);
        self.acknowledge_then(move || shared.letters.count_given_up(&shared.name, &stored, attempts, &failed))
            .await
    }

    async fn acknowledge_then(self, then: impl FnOnce() + Send + 'static) -> Result<(), JetStreamError> {
        let runtime = self.shared.connection.runtime.clone();
        let name = self.shared.name.clone();
        // A task of its own, which goes on when nobody waits any more.
        let confirmed = async {
            self.confirmed().await?;
            then();
            Ok(())
        };
        runtime.spawn(confirmed).await.unwrap_or_else(|error| {
            let source = Arc::new(error);
            Err(JetStreamError::Refused { doing: "acknowledge a wave of", name, source })
        })
    }

    async fn confirmed(self) -> Result<(), JetStreamError> {
        let Self { shared, position, id, is_noted, .. } = self;
        let Some(reply) = shared.window.reply(position) else { return Ok(()) };
        let confirmed = shared.connection.acknowledge(&shared.name, &reply).await;
        // Not confirmed, it is delivered again when the server has waited long enough.
        shared.window.settle(position, confirmed.is_ok().then_some(id));
        if shared.options.is_pinned() && confirmed.is_err() {
            shared.window.doubt();
        }
        confirmed?;
        if is_noted {
            forget(&shared, position, id).await;
        }
        Ok(())
    }

    /// Acknowledges without waiting for the server, except for one acknowledgement in a fixed number. A wave whose
    /// acknowledgement is lost is recognised when it comes again. Pinned, each is confirmed, also before the next wave of
    /// its key.
    pub(crate) async fn acknowledge_soon(self) -> Result<(), JetStreamError> {
        if self.is_to_be_confirmed() {
            return self.acknowledge().await;
        }
        if let Some(flight) = self.settle() {
            self.answer_settled(flight).await;
        }
        Ok(())
    }

    /// The same for several. Fails with the position of one that was not acknowledged.
    pub(crate) async fn acknowledge_all(claims: Vec<Self>) -> Result<(), (u64, JetStreamError)> {
        let (confirmed, others): (Vec<_>, Vec<_>) = claims.into_iter().partition(Self::is_to_be_confirmed);
        let confirmed = confirmed.into_iter().map(|claim| async {
            let position = claim.position;
            claim.acknowledge().await.map_err(|error| (position, error))
        });
        // All of them before the first answer, which may have to wait.
        let settled = others.into_iter().filter_map(|claim| Some((claim.settle()?, claim)));
        let settled: Vec<_> = settled.collect();
        let answers = async {
            for (flight, claim) in settled {
                claim.answer_settled(flight).await;
            }
        };
        let (confirmed, ()) = tokio::join!(join_all(confirmed), answers);
        confirmed.into_iter().collect()
    }

    fn is_to_be_confirmed(&self) -> bool {
        let number = self.shared.unconfirmed.fetch_add(1, Ordering::Relaxed) + 1;
        self.shared.options.is_pinned() || number.is_multiple_of(CONFIRMED_EVERY)
    }

    fn settle(&self) -> Option<InFlight> {
        self.shared.window.settle(self.position, Some(self.id))
    }

    async fn answer_settled(self, flight: InFlight) {
        answer(&self.shared, flight.reply, Bytes::from_static(b"+ACK")).await;
        if self.is_noted {
            forget(&self.shared, self.position, self.id).await;
        }
    }

    /// Reports a failure: the server delivers the wave again after a pause, or at once if it is final. Pinned, it pauses
    /// here, and its key is held.
    pub(crate) fn fail(mut self, attempt: Attempt, is_final: bool) {
        self.failures.push(attempt);
        self.failures.is_final = is_final;
        let Self { shared, position, id, failures, kept, .. } = self;
        let pause = if is_final { Duration::ZERO } else { shared.options.pause_after(failures.count) };
        if let Some(mut held) = kept {
            let due = Instant::now() + pause;
            held.known = Some((failures.clone(), true));
            shared.window.note_failures(position, failures.clone());
            shared.connection.runtime.clone().spawn(async move {
                note(&shared, (position, id), failures).await;
                put_back(&shared, *held, Some(due));
            });
            return;
        }
        let Some(flight) = shared.window.settle(position, None) else { return };
        shared.window.note_failures(position, failures.clone());
        shared.connection.runtime.clone().spawn(async move {
            note(&shared, (position, id), failures).await;
            let nak = format!("-NAK {{\"delay\": {}}}", pause.as_nanos());
            answer(&shared, flight.reply.clone(), nak.into()).await;
            if !pause.is_zero() {
                shared.window.pauses(Instant::now() + pause, flight);
            }
        });
    }

    /// Gives the wave back: the server delivers it again at once. Pinned, it stays here, as others of its key may be here.
    pub(crate) fn release(self) {
        let Self { shared, position, id, failures, is_noted, kept } = self;
        let reply = match kept {
            Some(_) => None,
            None => match shared.window.settle(position, None) {
                Some(flight) => Some(flight.reply),
                None => return,
            },
        };
        shared.connection.runtime.clone().spawn(async move {
            // The attempt that the server knows of has not taken place.
            if is_noted {
                note(&shared, (position, id), failures.clone()).await;
            }
            if let Some(reply) = reply {
                answer(&shared, reply, Bytes::from_static(b"-NAK")).await;
            } else if let Some(mut held) = kept {
                held.known = Some((failures, is_noted));
                put_back(&shared, *held, None);
            }
        });
    }
}

/// Puts a wave back into the window, or gives it back to the server if it cannot stay.
fn put_back(shared: &Arc<StreamShared>, held: Held, due: Option<Instant>) {
    let Some(reply) = shared.window.put_back(held, due) else { return };
    let of_task = Arc::clone(shared);
    shared.connection.runtime.spawn(async move { give_back(&of_task, [reply]).await });
}

/// Notes the failures of a wave, with no attempt under way.
async fn note(shared: &StreamShared, (position, id): (u64, u128), failures: Failures) {
    let noted = Noted { count: failures.count, listed: failures.listed, underway: Underway::None };
    if let Err(error) = shared.letters.note_failures(&shared.name, (position, id), &noted).await {
        tracing::warn!(position, consumer = shared.name, %error, "a failed attempt was not noted");
    }
}

/// Sends an answer about a delivery. What is lost on the way, the server makes good by delivering again.
pub(super) async fn answer(shared: &StreamShared, reply: Subject, content: Bytes) {
    if let Err(error) = shared.connection.client.publish(reply, content).await {
        tracing::warn!(consumer = shared.name, %error, "an answer to the server was not sent");
    }
}

/// Gives waves back: the server delivers them again at once.
pub(super) async fn give_back(shared: &StreamShared, replies: impl IntoIterator<Item = Subject>) {
    for reply in replies {
        answer(shared, reply, Bytes::from_static(b"-NAK")).await;
    }
}

/// Removes what was noted of a wave.
pub(super) async fn forget(shared: &StreamShared, position: u64, id: u128) {
    if let Err(error) = shared.letters.forget_failures(&shared.name, (position, id)).await {
        tracing::warn!(position, consumer = shared.name, %error, "the failures of a wave were not removed");
    }
}
