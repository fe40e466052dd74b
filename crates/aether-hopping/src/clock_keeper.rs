//! The time server of a key: answers the time queries of [`clock_offset`](crate::clock_offset).

use std::sync::Arc;

use aether_core::bus::Bus;
use aether_core::clock;
use aether_core::inbox::Inbox;
use aether_core::medium::{Listener, Sequencer};
use aether_core::{Aether, InboxOptions, JoinError, Pattern, Source, WhenFull};
use tokio::task::AbortHandle;

use crate::clock::Clocks;
use crate::clock_offset::{QUESTION_BYTES, clock_channel, nanos, seal};
use crate::hop::Hop;

/// The maximum number of questions queued at the keeper. Further ones are shed, and their askers ask again.
const MAX_QUESTIONS: usize = 256;

/// The time server of a key. All senders and receivers of that key on this medium measure their offset to this machine's
/// clock. Start it in one process per key. It runs until this value is dropped.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use aether_core::Aether;
/// use aether_hopping::{ClockKeeper, Hop};
///
/// let aether = Aether::local();
/// let hop = Hop::keyed(b"32 bytes that nobody else knows.").build()?;
/// let keeper = ClockKeeper::start(&aether, &hop).await?;
/// # drop(keeper);
/// # Ok(()) }
/// ```
#[derive(Debug)]
#[must_use = "dropping it stops the clock"]
pub struct ClockKeeper {
    task: AbortHandle,
}

impl ClockKeeper {
    /// Starts the time server of a key. The wall clock is read once, at the call. Setting it later does not move the
    /// slots.
    ///
    /// # Errors
    /// [`JoinError`] if the medium is closed.
    ///
    /// # Cancel safety
    /// If cancelled before completion, no time server is started.
    pub async fn start(aether: &Aether, hop: &Hop) -> Result<Self, JoinError> {
        keep(aether.bus(), hop, || Clocks::of(aether).wall_time()).await
    }
}

impl Drop for ClockKeeper {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Answers time queries. The clock starts at `wall_time`, in nanoseconds since 1970.
async fn keep(bus: &Bus, hop: &Hop, wall_time: impl FnOnce() -> u64) -> Result<ClockKeeper, JoinError> {
    let options = InboxOptions::default().max_waves(MAX_QUESTIONS).when_full(WhenFull::Shed);
    // Cannot fail: the options and the name are valid.
    let (Ok(inbox), Ok(channel)) = (Inbox::new(options), clock_channel(hop)) else {
        return Err(JoinError::Closed);
    };
    let inbox = Arc::new(inbox);
    let sequencer = Arc::new(Sequencer::new(Source::framework()));
    let listener =
        Listener { sequencer: Arc::clone(&sequencer), hears_own: false, observes: false, relabel: None };
    let joined = bus.join(Pattern::from(&channel), Arc::clone(&inbox), listener).await?;
    let hop = hop.clone();
    // The wall clock is not read again, so setting it does not change the answers.
    let (began, began_at) = (clock::now(), wall_time());
    let task = tokio::spawn(async move {
        let _joined = joined;
        let time = || began_at.saturating_add(nanos(clock::since(began)));
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
            // Fails only if the asker is gone.
            let _ = question.reply_bytes(times).await;
        }
    });
    Ok(ClockKeeper { task: task.abort_handle() })
}
