//! One run: a schedule, sent by one contestant, to one handler.
//!
//! In process the handler is a thread, over a network another process. Sender and handler end in an orderly way, so
//! that each message is either handled or lost.

use std::sync::Arc;
use std::time::Duration;

use aether_core::{Aether, Channel, EmitError, InboxOptions, WhenFull};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::child::{Child, ChildError, ChildProgram};
use crate::clock;
use crate::contestant::{
    AetherReceiver, AetherSender, Contestant, ContestantError, Hear, NatsSender, Offer, broadcast, mpsc,
    two_mpsc,
};
use crate::handler::{Notes, handle};
use crate::losses::{Loss, Losses};
use crate::outcome::{Heard, Outcome};
use crate::pacer::{Paced, Pacer};
use crate::payload::{Load, Message};
use crate::processors::{before_others, left};
use crate::receiver::Job;
use crate::schedule::Schedule;
use crate::work::Work;

/// The delay before the schedule starts, so that all threads are ready.
const RUN_UP: u64 = 20_000_000;
/// The interval at which the end marker is repeated, because it can be lost like any message.
const END_AGAIN: Duration = Duration::from_millis(100);
/// The time limit for a receiving process to handle queued messages. 65,536 messages at 50 us take 3.3 s.
const END_WITHIN: Duration = Duration::from_secs(120);

/// The maximum outage of a server at the end of a run. Clients reconnect within half a second.
const AWAY_AT_MOST: Duration = Duration::from_secs(10);
/// The time limit of an orderly end after an interruption.
const STOPPED_WITHIN: Duration = Duration::from_secs(1);

/// The plan of a run.
#[derive(Debug, Clone)]
pub struct Plan {
    /// The schedule of messages.
    pub schedule: Arc<Schedule>,
    /// The work of the handler for each message.
    pub work: Work,
    /// The size of a message, in bytes.
    pub payload_bytes: usize,
}

/// Why a run failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RunError {
    /// Interrupted by `stop`.
    #[error("interrupted")]
    Stopped,
    /// The contestant could not start.
    #[error(transparent)]
    Contestant(#[from] ContestantError),
    /// A wave was not emitted.
    #[error("a wave was not emitted")]
    Emit(#[from] EmitError),
    /// The receiving process failed.
    #[error(transparent)]
    Child(#[from] ChildError),
    /// The server is away.
    #[error("the server accepted nothing for {0:?} after the end of the schedule; is it still running?")]
    ServerAway(Duration),
    /// The receiving process did not finish.
    #[error("the receiving process was not done {0:?} after the end of the schedule")]
    Unfinished(Duration),
    /// The sender or the handler panicked.
    #[error("the sender or the handler panicked")]
    Task(#[from] tokio::task::JoinError),
}

/// A channel that no other run uses.
pub(crate) fn channel() -> Channel {
    Channel::new(format!("bench.run-{:016x}", fastrand::u64(..))).expect("a valid name")
}

/// Runs a plan with a contestant.
///
/// # Errors
/// [`RunError`]; [`RunError::Stopped`] when `stop` is cancelled.
///
/// # Cancel safety
/// Cancelled before completion, the threads of the run end when `stop` is cancelled; a receiving process is killed.
pub async fn run(
    contestant: &Contestant,
    plan: &Plan,
    child: &ChildProgram,
    stop: &CancellationToken,
) -> Result<Outcome, RunError> {
    let losses = Arc::new(Losses::default());
    let channel = channel();
    match contestant {
        Contestant::Mpsc => {
            let (offer, hear) = mpsc(&losses);
            within(offer, hear, plan, &losses, stop).await
        }
        Contestant::TwoMpsc => {
            let (offer, hear) = two_mpsc(&losses);
            within(offer, hear, plan, &losses, stop).await
        }
        Contestant::Broadcast => {
            let (offer, hear) = broadcast();
            within(offer, hear, plan, &losses, stop).await
        }
        Contestant::AsyncNats { url } => {
            // Connect first, so that this process reports a missing server.
            let offer = unless_stopped(stop, NatsSender::connect(url, &channel, stop)).await??;
            let child = receiving(contestant, &channel, plan.work, Notes::Each, child, stop).await?;
            across(offer, child, plan, &losses, stop).await
        }
        Contestant::Aether { address, .. } if contestant.crosses_processes() => {
            // A full outbox sheds at once: this sender never waits.
            let outbox = InboxOptions::interactive().when_full(WhenFull::Shed);
            let connecting = address.connect(losses.watch(outbox, Loss::of_outbox));
            let aether = unless_stopped(stop, connecting).await??;
            let offer = AetherSender::new(aether.clone(), &channel, &losses).await?;
            let child = receiving(contestant, &channel, plan.work, Notes::Each, child, stop).await?;
            let outcome = across(offer, child, plan, &losses, stop).await;
            let _ = aether.close().await;
            outcome
        }
        Contestant::Aether { profile, .. } => {
            let aether = Aether::local();
            let hear = AetherReceiver::new(aether.clone(), &channel, *profile, &losses).await?;
            let offer = AetherSender::new(aether, &channel, &losses).await?;
            within(offer, hear, plan, &losses, stop).await
        }
    }
}

/// Starts a receiving process that is subscribed to the channel.
pub(crate) async fn receiving(
    contestant: &Contestant,
    channel: &Channel,
    work: Work,
    notes: Notes,
    program: &ChildProgram,
    stop: &CancellationToken,
) -> Result<Child, RunError> {
    let channel = channel.as_str().to_owned();
    let job =
        Job { contestant: contestant.clone(), channel, service: work.service, notes, processor: left() };
    Ok(unless_stopped(stop, Child::start(program, &job)).await??)
}

/// The result of a future, unless `stop` is cancelled first.
pub(crate) async fn unless_stopped<T>(
    stop: &CancellationToken,
    work: impl Future<Output = T>,
) -> Result<T, RunError> {
    stop.run_until_cancelled(work).await.ok_or(RunError::Stopped)
}

/// Inside this process.
async fn within<O: Offer, H: Hear>(
    offer: O,
    hear: H,
    plan: &Plan,
    losses: &Losses,
    stop: &CancellationToken,
) -> Result<Outcome, RunError> {
    let handling = handle(hear, plan.work, Notes::Each, stop.clone());
    // Nothing that the messages need runs on this sender's processor.
    let (sent, mut offer) = send(offer, plan, stop, Place::BeforeOthers).await?;
    offer.end().await;
    let heard = handling.await?;
    if stop.is_cancelled() {
        return Err(RunError::Stopped);
    }
    Ok(sent.outcome(losses, heard))
}

/// To another process.
async fn across<O: Offer>(
    offer: O,
    mut child: Child,
    plan: &Plan,
    losses: &Losses,
    stop: &CancellationToken,
) -> Result<Outcome, RunError> {
    // The server and the transport share this sender's processor. With priority over them it would only make them late.
    let (sent, mut offer) = send(offer, plan, stop, Place::AmongOthers).await?;
    let heard = unless_stopped(stop, end(&mut offer, &mut child)).await??;
    Ok(sent.outcome(losses, heard))
}

/// Sends the end marker to a receiving process, and waits for its result.
pub(crate) async fn end(offer: &mut impl Offer, child: &mut Child) -> Result<Heard, RunError> {
    let ending = async {
        let mut left = Instant::now();
        loop {
            if offer.end().await {
                left = Instant::now();
            } else if left.elapsed() > AWAY_AT_MOST {
                return Err(RunError::ServerAway(AWAY_AT_MOST));
            }
            if let Ok(heard) = tokio::time::timeout(END_AGAIN, child.heard()).await {
                return Ok(heard?);
            }
        }
    };
    match tokio::time::timeout(END_WITHIN, ending).await {
        Ok(heard) => heard,
        Err(_) => Err(RunError::Unfinished(END_WITHIN)),
    }
}

/// The same for an interrupted run: the receiver has a moment to report.
pub(crate) async fn end_soon(
    offer: &mut impl Offer,
    child: &mut Child,
    stop: &CancellationToken,
) -> Result<Heard, RunError> {
    let too_late = async {
        stop.cancelled().await;
        tokio::time::sleep(STOPPED_WITHIN).await;
    };
    tokio::select! {
        heard = end(offer, child) => heard,
        () = too_late => Err(RunError::Stopped),
    }
}

/// The messages sent so far.
struct Sent {
    /// When the schedule started.
    start: u64,
    paced: Paced,
}

impl Sent {
    fn outcome(self, losses: &Losses, heard: Heard) -> Outcome {
        Outcome { start: self.start, paced: self.paced, lost: losses.so_far(), heard }
    }
}

/// The priority of the sender on its processor.
enum Place {
    BeforeOthers,
    AmongOthers,
}

/// Sends the schedule from a thread that may block. Returns the counts and the sender's end of the contestant.
async fn send<O: Offer>(
    mut offer: O,
    plan: &Plan,
    stop: &CancellationToken,
    place: Place,
) -> Result<(Sent, O), RunError> {
    let start = clock::now() + RUN_UP;
    let (pacer, stop_pacer) = Pacer::new(start);
    let Plan { schedule, payload_bytes, .. } = plan.clone();
    let work = move || {
        let paced = pacer.run(schedule.arrivals().iter().copied(), |number, arrival| {
            let load = Load { number, strength: arrival.strength, due: start + arrival.due };
            offer.offer(Message::Load(load).to_payload(payload_bytes), arrival.strength);
        });
        (Sent { start, paced }, offer)
    };
    let mut sending = tokio::task::spawn_blocking(move || match place {
        Place::BeforeOthers => before_others(work),
        Place::AmongOthers => work(),
    });
    tokio::select! {
        sent = &mut sending => Ok(sent?),
        () = stop.cancelled() => {
            drop(stop_pacer);
            sending.await?;
            Err(RunError::Stopped)
        }
    }
}
