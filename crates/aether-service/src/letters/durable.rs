//! Answers questions about the dead letters of a durable log: waves that its consumers have given up.
//!
//! Each log has a store of its own, so its letters are listed, sent again and dropped by the same questions as letters
//! in memory. Only the process that has the log open can change letters in a folder. Letters in JetStream are at the
//! server: every process that has the log open can answer, and one of them gets each question.

use std::path::Path;

use aether_core::echo::LetterId;
use aether_core::{Emitter, Wave};
use aether_log::{DeadError, DeadWave, DurableLog, ForgetError, SentAgain};

use super::{
    AttemptRecord, LetterAnswer, LetterFilter, LetterQuery, LetterRecord, PAGE, read_filter, read_id,
};
use crate::age::age_ms;
use crate::jobs::no_jobs;
use crate::{Json, Rejection, State, error_chain};

/// The reason of letters of a log, in [`LetterRecord::reason`].
const GIVEN_UP: &str = "given_up";

/// The same of a wave that was cancelled.
const CANCELLED: &str = "cancelled";

/// The store of the dead letters of a durable log in this folder: the same for all programs of a machine that see the
/// folder, whatever its path is for them. `None` where the system cannot distinguish one folder from another.
#[must_use]
pub fn store_of_log(folder: &Path) -> Option<u64> {
    #[cfg(target_os = "linux")]
    {
        use std::os::unix::fs::MetadataExt as _;
        let is = std::fs::metadata(folder).ok()?;
        let machine = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
        let numbers = [is.dev().to_le_bytes(), is.ino().to_le_bytes()].concat();
        Some(hash(machine.trim().bytes().chain(numbers)))
    }
    #[cfg(not(target_os = "linux"))]
    {
        let _ = folder;
        None
    }
}

/// The store of the dead letters of a durable log in JetStream, by its name: the same in all programs.
#[must_use]
pub fn store_of_stream(log: &str) -> u64 {
    hash("aether-log.".bytes().chain(log.bytes()))
}

/// FNV-1a: it must be the same in programs of other builds, and hides nothing.
fn hash(bytes: impl Iterator<Item = u8>) -> u64 {
    bytes.fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}

/// The letters of a log, and who sends them again.
#[derive(Debug, Clone)]
pub(crate) struct LogClerk {
    pub(crate) log: DurableLog,
    pub(crate) store: u64,
    pub(crate) emitter: Emitter,
}

/// The handler.
pub(crate) async fn answer_of_log(
    State(clerk): State<LogClerk>,
    Json(query): Json<LetterQuery>,
    question: Wave,
) -> Result<Json<LetterAnswer>, Rejection> {
    let asker = question.source();
    Ok(Json(match query {
        LetterQuery::Ls { filter, after } => clerk.page(filter, after).await?,
        LetterQuery::Show { id } => clerk.show(id).await?,
        LetterQuery::Replay { id } => {
            tracing::info!(%asker, id, "sending a dead letter of the durable log again");
            clerk.replay(id).await
        }
        LetterQuery::Drop { id } => {
            tracing::info!(%asker, id, "dropping a dead letter of the durable log");
            clerk.drop_letter(id).await
        }
        LetterQuery::Forget { consumer } => {
            tracing::info!(%asker, consumer, "forgetting a consumer of the durable log");
            clerk.forget(consumer).await?
        }
        // Each process that has the log open answers for its own.
        LetterQuery::Jobs(query) => LetterAnswer::Jobs(no_jobs(&query)),
    }))
}

impl LogClerk {
    /// The number of a letter of this store.
    fn number(&self, id: &str) -> Option<u64> {
        read_id(id).filter(|id| id.store == self.store).map(|id| id.number)
    }

    async fn page(&self, filter: LetterFilter, mut after: u64) -> Result<LetterAnswer, Rejection> {
        let (is_meant, mut letters) = (read_filter(filter)?, Vec::new());
        loop {
            let read = self.log.dead().after(after, PAGE).await.map_err(unread)?;
            let is_last = read.len() < PAGE;
            for letter in read {
                after = letter.number;
                if !is_meant(&letter.stored.wave, letter.at) {
                    continue;
                }
                if letters.len() == PAGE {
                    return Ok(LetterAnswer::Letters { letters, more: true });
                }
                letters.push(self.record(&letter, false));
            }
            if is_last {
                return Ok(LetterAnswer::Letters { letters, more: false });
            }
        }
    }

    async fn show(&self, id: String) -> Result<LetterAnswer, Rejection> {
        let Some(number) = self.number(&id) else { return Ok(gone(id)) };
        match self.log.dead().show(number).await {
            Ok(letter) => Ok(LetterAnswer::Letter(Box::new(self.record(&letter, true)))),
            Err(DeadError::Unknown { .. }) => Ok(gone(id)),
            Err(error) => Err(unread(error)),
        }
    }

    async fn replay(&self, id: String) -> LetterAnswer {
        let Some(number) = self.number(&id) else { return gone(id) };
        match self.log.dead().replay(number, &self.emitter).await {
            Ok(SentAgain { wave, .. }) => LetterAnswer::Replayed { id, wave: wave.to_string() },
            Err(DeadError::Unknown { .. }) => gone(id),
            Err(error) => LetterAnswer::NotSent { id, hint: error_chain(&error) },
        }
    }

    async fn drop_letter(&self, id: String) -> LetterAnswer {
        let Some(number) = self.number(&id) else { return gone(id) };
        match self.log.dead().drop_letter(number).await {
            Ok(()) => LetterAnswer::Dropped { id },
            Err(error) => LetterAnswer::Gone { id, hint: error_chain(&error) },
        }
    }

    async fn forget(&self, consumer: String) -> Result<LetterAnswer, Rejection> {
        let DurableLog::Folder(log) = self.log.clone() else {
            let hint = "the server keeps it: `nats consumer rm` removes it there".to_owned();
            return Ok(LetterAnswer::NotSent { id: consumer, hint });
        };
        let name = consumer.clone();
        // It removes files.
        let forgotten = tokio::task::spawn_blocking(move || log.forget_consumer(&name)).await;
        Ok(match forgotten.map_err(|error| Rejection::caused_by("the consumer stays", error))? {
            Ok(true) => LetterAnswer::Forgotten { consumer },
            Ok(false) => {
                let hint = format!("the log has no consumer {consumer}");
                LetterAnswer::Gone { id: consumer, hint }
            }
            Err(error @ ForgetError::InUse { .. }) => {
                LetterAnswer::NotSent { id: consumer, hint: error_chain(&error) }
            }
            Err(error) => return Err(Rejection::caused_by("the consumer stays", error)),
        })
    }

    fn record(&self, letter: &DeadWave, is_whole: bool) -> LetterRecord {
        record_of_log(LetterId { store: self.store, number: letter.number }, letter, is_whole)
    }
}

fn unread(error: DeadError) -> Rejection {
    Rejection::caused_by("the log was not read", error)
}

/// A letter of a log as JSON; `is_whole` with its payload and its attempts.
#[must_use]
pub fn record_of_log(id: LetterId, letter: &DeadWave, is_whole: bool) -> LetterRecord {
    let wave = &letter.stored.wave;
    let record = LetterRecord {
        reason: if letter.is_cancelled() { CANCELLED } else { GIVEN_UP }.to_owned(),
        hint: letter.failed.last().map(|attempt| attempt.error.clone()).unwrap_or_default(),
        by: letter.consumer.clone(),
        attempts: letter.attempts,
        age_ms: age_ms(letter.at),
        ..LetterRecord::of_wave(id, wave)
    };
    if !is_whole {
        return record;
    }
    let failed = letter.failed.iter().enumerate().map(|(number, attempt)| AttemptRecord {
        attempt: u8::try_from(number).unwrap_or(u8::MAX),
        age_ms: age_ms(std::time::UNIX_EPOCH + std::time::Duration::from_micros(attempt.micros)),
        error: attempt.error.clone(),
    });
    record.with_whole(wave, failed.collect())
}

fn gone(id: String) -> LetterAnswer {
    let hint = "it was replayed or dropped, or is being replayed".to_owned();
    LetterAnswer::Gone { id, hint }
}
