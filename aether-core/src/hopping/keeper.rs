//! Who keeps the clock of a key, and how the others ask for the time.
//!
//! A question on a reserved channel that only those can name who have the key, eight times, with a random number in it
//! that the sealed answer repeats. Ordinary term: time synchronisation by request and reply.

use std::sync::Arc;
use std::time::Duration;

use tokio::task::AbortHandle;

use super::hop::Hop;
use super::offset::{Exchange, Offset};
use super::sequence::letters;
use super::timing::ClockError;
use crate::aether::Aether;
use crate::channel::{Channel, Pattern};
use crate::clock::Instant;
use crate::inbox::{Inbox, InboxOptions, WhenFull};
use crate::medium::{AskError, JoinError};
use crate::router::Listener;
use crate::source::{Sequencer, Source};
use crate::wave::{ContentType, Wave};

/// So many exchanges; the best counts.
const EXCHANGES: usize = 8;
const PATIENCE: Duration = Duration::from_millis(500);
const QUESTION_BYTES: usize = 16;
/// Two times of 8 bytes and a seal.
const ANSWER_BYTES: usize = 16 + 16;
/// The year 2262. Who says that it is later is wrong, and slots are counted without overflow until then.
const LATEST: u64 = i64::MAX as u64;
/// Questions that wait. Who is shed asks again.
const QUESTIONS: usize = 256;

/// Whoever keeps the clock for a key, for as long as this lives. Ordinary term: a time server.
#[derive(Debug)]
#[must_use = "dropping it ends the keeping"]
pub struct ClockKeeper {
    task: AbortHandle,
}

impl Drop for ClockKeeper {
    fn drop(&mut self) {
        self.task.abort();
    }
}

pub(super) fn channel(hop: &Hop) -> Result<Channel, ClockError> {
    let name = hop.sequence_of().of_clock(b"name", &[]).ok_or(ClockError::Implausible)?;
    let letters = letters(&name);
    let letters = std::str::from_utf8(&letters).unwrap_or_default();
    Channel::with_reserved(&format!("_aether.clock.{letters}")).map_err(|_| ClockError::Implausible)
}

/// The proof that an answer is of somebody who has the key, and belongs to this question.
fn seal(hop: &Hop, question: &[u8], times: &[u8]) -> Option<[u8; 16]> {
    hop.sequence_of().of_clock(b"seal", &[question, times].concat())?.first_chunk().copied()
}

/// Answers questions for the time from now on.
pub(crate) async fn keep(aether: &Aether, hop: &Hop) -> Result<ClockKeeper, JoinError> {
    let options = InboxOptions::default().max_waves(QUESTIONS).when_full(WhenFull::Shed);
    // Both are made of what is valid.
    let (Ok(inbox), Ok(channel)) = (Inbox::new(options), channel(hop)) else { return Err(JoinError::Closed) };
    let inbox = Arc::new(inbox);
    let sequencer = Arc::new(Sequencer::new(Source::framework()));
    let listener =
        Listener { sequencer: Arc::clone(&sequencer), hears_own: false, observes: false, tuned: None };
    let joined =
        super::ears::Ear::join(aether, Pattern::from(&channel), Arc::clone(&inbox), listener).await?;
    let (aether, hop) = (aether.clone(), hop.clone());
    // From here on the wall clock is not looked at: time goes on with the monotonic clock, whatever is set.
    let (began, began_at) = (Instant::now(), (aether.hopping().wall())());
    let task = tokio::spawn(async move {
        let _joined = joined;
        let time = || began_at.saturating_add(u64::try_from(began.elapsed().as_nanos()).unwrap_or(u64::MAX));
        while let Some(question) = std::future::poll_fn(|cx| inbox.poll_receive(cx)).await {
            let received = time();
            if question.payload().len() != QUESTION_BYTES {
                continue;
            }
            let question = question.heard_by(&sequencer);
            let mut times = received.to_be_bytes().to_vec();
            times.extend(time().to_be_bytes());
            let Some(seal) = seal(&hop, question.payload(), &times) else { return };
            times.extend(seal);
            // Who has gone meanwhile needs no answer.
            let _ = question.reply_bytes(times).await;
        }
    });
    Ok(ClockKeeper { task: task.abort_handle() })
}

/// Measures the offset to whoever keeps the clock.
pub(super) async fn measure(
    aether: &Aether,
    hop: &Hop,
    mono: impl Fn(Instant) -> u64,
) -> Result<Offset, ClockError> {
    let channel = channel(hop)?;
    let sequencer = Sequencer::new(Source::framework());
    let mut exchanges = Vec::with_capacity(EXCHANGES);
    let mut refused = None;
    for _ in 0..EXCHANGES {
        // Through the key, as the generator alone could be foreseen, and with it an old answer be given again.
        let drawn = fastrand::u128(..).to_be_bytes();
        let once = hop.sequence_of().of_clock(b"once", &drawn).ok_or(ClockError::Implausible)?;
        let once = once[..QUESTION_BYTES].to_vec();
        let question =
            Wave::plain(channel.clone(), once.clone().into(), ContentType::Bytes).noticed(&sequencer);
        let asked = mono(Instant::now());
        match aether.medium().ask(question, PATIENCE).await {
            Ok(answer) => {
                let returned = mono(Instant::now());
                exchanges.extend(read(hop, &once, answer.payload(), asked, returned));
            }
            // A second one would not be heard by anybody either.
            Err(error @ (AskError::NoResonator { .. } | AskError::Emit(_))) => {
                return Err(ClockError::Unkept(error));
            }
            Err(error) => refused = Some(error),
        }
    }
    match (Offset::of(&exchanges), refused) {
        (Some(offset), _) => Ok(offset),
        (None, Some(error)) => Err(ClockError::Unkept(error)),
        (None, None) => Err(ClockError::Implausible),
    }
}

fn read(hop: &Hop, question: &[u8], answer: &[u8], asked: u64, returned: u64) -> Option<Exchange> {
    let answer: &[u8; ANSWER_BYTES] = answer.try_into().ok()?;
    let (times, sealed) = answer.split_at(16);
    if seal(hop, question, times)? != sealed {
        return None;
    }
    let time = |at: usize| times[at..at + 8].iter().fold(0, |sum, byte| sum << 8 | u64::from(*byte));
    let exchange = Exchange { asked, received: time(0), answered: time(8), returned };
    (exchange.answered <= LATEST).then_some(exchange)
}
