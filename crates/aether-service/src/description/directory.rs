//! Asks all services on a medium for their descriptions.
//!
//! `aether describe`, `aether doctor` and the gateway use it. A description is asked for once and kept while its
//! service is on the roster. The cost that others can cause is bounded: the number of services, their bytes, and the
//! time.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::Duration;

use aether_core::clock::micros_since_1970;
use aether_core::presence::Roster;
use aether_core::{Aether, AskError, Emitter, JoinError, Kind, Wave};
use futures_util::{StreamExt, stream};
use serde::Serialize;
use tokio::sync::Mutex;
use tokio::time::{Instant, sleep_until, timeout};

use super::answering::{DescriptionAnswer, channel_of, id_of};
use super::error::DescriptionError;
use super::model::{Description, MAX_BYTES};

/// The maximum number of services that are asked.
const MAX_SERVICES: usize = 256;
/// The maximum size of all descriptions that are kept, in bytes as JSON.
const MAX_TOTAL_BYTES: usize = 8 << 20;
/// How many services are asked at a time.
const CONCURRENT: usize = 16;
/// How long one service has to answer.
const PATIENCE: Duration = Duration::from_secs(2);
/// How long all of them have together.
const PATIENCE_FOR_ALL: Duration = Duration::from_secs(5);
/// How long a service that did not answer is not asked again at first: it may just be starting. Each time twice as long.
const FIRST_REST: Duration = Duration::from_secs(1);
/// How long a service that did not answer properly is not asked again, and one that never answers at most.
const REST: Duration = Duration::from_secs(30);

/// The descriptions of the services on a medium.
pub struct Directory {
    emitter: Emitter,
    roster: Roster,
    /// Also keeps two readers from asking at the same time.
    known: Mutex<Known>,
    /// As of the last reading.
    refused: parking_lot::Mutex<RefusedDescriptions>,
}

#[derive(Default)]
struct Known {
    services: BTreeMap<u64, Described>,
    bytes: usize,
    /// Services that did not answer properly.
    resting: BTreeMap<u64, Rest>,
    refused: RefusedDescriptions,
    failed: Option<String>,
}

/// When a service may be asked again.
#[derive(Clone, Copy)]
struct Rest {
    until: Instant,
    length: Duration,
}

/// A service and its description.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Described {
    /// The description, as the service wrote it.
    pub description: Description,
    /// Its clock minus the clock of this process when it answered, in microseconds.
    pub clock_offset_micros: i64,
    /// How long question and answer took, in microseconds. The offset is exact to half of it.
    pub round_trip_micros: u64,
    bytes: usize,
}

/// The services that were asked without success since the directory was opened, by reason.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
#[non_exhaustive]
pub struct RefusedDescriptions {
    /// Answers that are not valid descriptions.
    pub invalid: u64,
    /// Answers that are too large, or for which there was no room.
    pub too_large: u64,
    /// Questions without an answer.
    pub silent: u64,
    /// Services beyond the number that is asked.
    pub left_out: u64,
}

/// The present knowledge of a [`Directory`].
#[derive(Debug, Clone, PartialEq, Default)]
#[non_exhaustive]
pub struct Listing {
    /// The services, ordered by name.
    pub services: Vec<Described>,
    /// The refusals so far.
    pub refused: RefusedDescriptions,
    /// The reported reason why the last service that failed to send its description could not.
    pub failed: Option<String>,
}

impl Listing {
    /// The descriptions alone.
    #[must_use]
    pub fn descriptions(&self) -> Vec<Description> {
        self.services.iter().map(|service| service.description.clone()).collect()
    }
}

/// Why there is no description.
enum Refusal {
    Invalid(DescriptionError),
    TooLarge,
    Silent(AskError),
}

impl Directory {
    /// Follows from now on which services answer. Services of other processes announce themselves within about a
    /// second.
    ///
    /// # Errors
    /// [`JoinError`] if the medium is closed.
    ///
    /// # Cancel safety
    /// Cancelled before completion, nothing is followed.
    pub async fn open(aether: &Aether, emitter: Emitter) -> Result<Self, JoinError> {
        let roster = aether.roster().await?;
        Ok(Self { emitter, roster, known: Mutex::default(), refused: parking_lot::Mutex::default() })
    }

    /// Asks the services that are not known yet, and returns all that are there: at most 256 services and 8 MiB, within
    /// about 5 s. A service that does not answer within 2 s is asked again after a second, then after twice as long
    /// each time, up to 30 s, and one that does not answer properly after 30 s.
    ///
    /// # Cancel safety
    /// Cancelled before completion, the services are asked again by the next call.
    pub async fn read(&self) -> Listing {
        let mut known = self.known.lock().await;
        let announced = self.announced();
        known.forget_all_but(&announced);
        let now = Instant::now();
        let rests = |id: &u64| known.resting.get(id).is_some_and(|rest| rest.until > now);
        let is_unknown = |id: &u64| !known.services.contains_key(id) && !rests(id);
        let mut unknown: Vec<u64> = announced.into_iter().filter(is_unknown).collect();
        let resting = known.resting.keys().filter(|id| rests(id)).count();
        let room = MAX_SERVICES.saturating_sub(known.services.len() + resting);
        known.refused.left_out += unknown.len().saturating_sub(room) as u64;
        unknown.truncate(room);
        let mut answers = stream::iter(unknown.clone())
            .map(|id| async move { (id, self.ask(id).await) })
            .buffer_unordered(CONCURRENT);
        let mut waiting: BTreeSet<u64> = unknown.iter().copied().collect();
        let asking = async {
            while let Some((id, answer)) = answers.next().await {
                waiting.remove(&id);
                known.note(id, answer);
            }
        };
        let is_over = timeout(PATIENCE_FOR_ALL, asking).await.is_err();
        if is_over {
            known.refused.silent += waiting.len() as u64;
            waiting.into_iter().for_each(|id| known.rest_longer(id));
        }
        *self.refused.lock() = known.refused;
        let mut services: Vec<_> = known.services.values().cloned().collect();
        let key =
            |service: &Described| (service.description.service.clone(), service.description.version.clone());
        services.sort_by_key(key);
        Listing { services, refused: known.refused, failed: known.failed.clone() }
    }

    /// Completes when a service that did not answer may be asked again, so that [`read`](Self::read) is worth another
    /// call. It never does if there is none.
    ///
    /// # Cancel safety
    /// Cancelled before completion, nothing is lost.
    pub async fn rested(&self) {
        let next = self.known.lock().await.resting.values().map(|rest| rest.until).min();
        match next {
            // Where there are too many, one that may be asked is not asked.
            Some(until) => sleep_until(until.max(Instant::now() + FIRST_REST)).await,
            None => std::future::pending().await,
        }
    }

    /// The refusals until the last [`read`](Self::read) ended.
    #[must_use]
    pub fn refused(&self) -> RefusedDescriptions {
        *self.refused.lock()
    }

    /// The services on the roster that answer.
    fn announced(&self) -> BTreeSet<u64> {
        let heard = self.roster.vibrators().into_iter().flat_map(|vibrator| vibrator.heard);
        heard.filter_map(|heard| id_of(heard.pattern.as_str())).collect()
    }

    async fn ask(&self, id: u64) -> Result<Described, Refusal> {
        let sent = micros_since_1970();
        let question = Wave::builder(channel_of(id)).kind(Kind::Query).build();
        let question =
            question.map_err(|error| Refusal::Silent(AskError::from(aether_core::EmitError::from(error))))?;
        let answer = self.emitter.ask_within(question, PATIENCE).await.map_err(Refusal::Silent)?;
        let received = micros_since_1970();
        let bytes = answer.payload().len();
        // The answer holds little beside the description.
        if bytes > MAX_BYTES + 64 {
            return Err(Refusal::TooLarge);
        }
        let read = serde_json::from_slice(answer.payload());
        let DescriptionAnswer { wall_micros, description } =
            read.map_err(|error| Refusal::Invalid(DescriptionError::Unreadable(error)))?;
        let description = description.checked().map_err(Refusal::Invalid)?;
        let middle = sent / 2 + received / 2;
        Ok(Described {
            description,
            clock_offset_micros: i64::try_from(i128::from(wall_micros) - i128::from(middle))
                .unwrap_or(i64::MAX),
            round_trip_micros: received.saturating_sub(sent),
            bytes,
        })
    }
}

impl Known {
    fn forget_all_but(&mut self, announced: &BTreeSet<u64>) {
        self.services.retain(|id, _| announced.contains(id));
        self.bytes = self.services.values().map(|service| service.bytes).sum();
        self.resting.retain(|id, _| announced.contains(id));
    }

    fn note(&mut self, id: u64, answer: Result<Described, Refusal>) {
        let answer = answer.and_then(|service| {
            if self.bytes + service.bytes > MAX_TOTAL_BYTES { Err(Refusal::TooLarge) } else { Ok(service) }
        });
        match answer {
            Ok(service) => {
                self.bytes += service.bytes;
                self.services.insert(id, service);
                self.resting.remove(&id);
                return;
            }
            Err(Refusal::Invalid(error)) => {
                self.refused.invalid += 1;
                tracing::debug!(
                    service = format_args!("{id:x}"),
                    error = crate::error_chain(&error),
                    "a description was refused"
                );
            }
            Err(Refusal::TooLarge) => {
                self.refused.too_large += 1;
                tracing::debug!(service = format_args!("{id:x}"), "a description is too large");
            }
            Err(Refusal::Silent(error)) => {
                self.refused.silent += 1;
                if let AskError::Failed { source, .. } = &error {
                    self.failed = Some(source.to_string());
                }
                tracing::debug!(
                    service = format_args!("{id:x}"),
                    error = crate::error_chain(&error),
                    "no description"
                );
                self.rest_longer(id);
                return;
            }
        }
        self.resting.insert(id, Rest { until: Instant::now() + REST, length: REST });
    }

    /// A service that was silent once more is not asked for twice as long as the last time.
    fn rest_longer(&mut self, id: u64) {
        let length = self.resting.get(&id).map_or(FIRST_REST, |rest| (rest.length * 2).min(REST));
        self.resting.insert(id, Rest { until: Instant::now() + length, length });
    }
}

impl fmt::Debug for Directory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Directory").field("roster", &self.roster).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn described(bytes: usize) -> Described {
        let description: Description =
            serde_json::from_value(serde_json::json!({ "service": "a", "version": "1" })).unwrap();
        Described { description, clock_offset_micros: 0, round_trip_micros: 0, bytes }
    }

    #[tokio::test]
    async fn what_is_kept_is_bounded_and_given_back_when_its_service_has_gone() {
        let mut known = Known::default();
        for id in 0..40 {
            known.note(id, Ok(described(MAX_BYTES)));
        }
        assert_eq!((known.services.len(), known.bytes), (32, MAX_TOTAL_BYTES));
        assert_eq!((known.refused.too_large, known.resting.len()), (8, 8));
        known.forget_all_but(&BTreeSet::from([0, 39]));
        assert_eq!((known.services.len(), known.bytes, known.resting.len()), (1, MAX_BYTES, 1));
    }
}
