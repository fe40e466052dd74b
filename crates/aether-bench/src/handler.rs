//! The handler: takes one message after the other and works on it, in its own thread.
//!
//! In its own thread its work does not delay the tasks that read the network. It is the same for all contestants.

use tokio::runtime::Handle;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::clock;
use crate::contestant::Hear;
use crate::outcome::{Handled, Heard};
use crate::processors::{on_the_handlers, weighing_most};
use crate::work::Work;

/// The record of a handler.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(crate) enum Notes {
    /// Each message, and when it was done.
    Each,
    /// Only the number, and when the last one was done.
    Count,
}

/// Handles messages until the end or until `stop` is cancelled. The caller counts losses.
pub(crate) fn handle<H: Hear>(
    mut hear: H,
    work: Work,
    notes: Notes,
    stop: CancellationToken,
) -> JoinHandle<Heard> {
    let runtime = Handle::current();
    let handle = move || {
        let handling = async move {
            let mut heard = Heard::default();
            while let Some(Some(load)) = stop.run_until_cancelled(hear.next()).await {
                work.handle();
                heard.count += 1;
                match notes {
                    Notes::Each => heard.handled.push(Handled { number: load.number, done: clock::now() }),
                    // Reads the clock for one message in many, because a reading costs a tenth of a message.
                    Notes::Count if heard.count % 64 == 1 => heard.last = clock::now(),
                    Notes::Count => {}
                }
            }
            heard.last = heard.handled.last().map_or(heard.last, |handled| handled.done);
            heard.lagged = hear.lagged();
            heard
        };
        runtime.block_on(handling)
    };
    tokio::task::spawn_blocking(|| on_the_handlers(|| weighing_most(handle)))
}
