//! Flushing and closing: waiting until the broker has seen what was taken, for a time that has an end.

use std::pin::pin;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures_util::future::join_all;
use tokio::time::timeout;

use super::Nats;
use super::link::Ended;
use crate::medium::FlushError;

/// Without any progress for so long, closing and flushing give up: while the connection is away, and while it stands, when
/// the network may have lost a packet or two and the server may be busy. Two retransmissions of TCP in a row take 0.6 s at
/// least (RFC 6298, of a minimum of 0.2 s as Linux has it), three 1.4 s.
const AWAY_PATIENCE: Duration = Duration::from_millis(500);
const STANDING_PATIENCE: Duration = Duration::from_secs(2);

/// With progress all the time they give up after so long. An outbox that the server takes this slowly does not run empty
/// before whoever ends the process loses patience.
const SETTLE_WITHIN: Duration = Duration::from_secs(30);

/// Closing waits so long for those who deliver what has arrived. They wait for nobody; only callbacks of inboxes that
/// take long hold them up.
const DELIVER_WITHIN: Duration = Duration::from_secs(10);

impl Nats {
    /// How long to wait for something to move.
    fn patience(&self) -> Duration {
        if self.shared.link.is_connected() { STANDING_PATIENCE } else { AWAY_PATIENCE }
    }

    /// Waits for something that needs the broker. Gives up when nothing has moved for a while, and after
    /// [`SETTLE_WITHIN`] in any case; fails with the time that was too long.
    async fn patiently<T>(&self, wait: impl Future<Output = T>) -> Result<T, Duration> {
        let mut progress = self.shared.link.progress();
        let waiting = async {
            let mut wait = pin!(wait);
            loop {
                progress.borrow_and_update();
                let patience = self.patience();
                tokio::select! {
                    biased;
                    done = &mut wait => return Ok(done),
                    moved = timeout(patience, progress.changed()) => if moved.is_err() { return Err(patience) },
                }
            }
        };
        timeout(SETTLE_WITHIN, waiting).await.unwrap_or(Err(SETTLE_WITHIN))
    }

    /// Waits until everything in the outbox has left and was confirmed, or until patience is over.
    pub(super) async fn settle(&self) -> Result<(), FlushError> {
        let (shared, link) = (&*self.shared, &*self.shared.link);
        let lost_before = link.unconfirmed();
        let mut goal = link.goal();
        let settled = self.patiently(async {
            let mut progress = link.progress();
            while {
                progress.borrow_and_update();
                link.unsettled(&mut goal).is_some()
            } {
                // Fails only if the link were gone.
                let _ = progress.changed().await;
            }
            // So that receivers learn of what they have missed even if nothing follows.
            shared.announcing.ask().await;
            shared.left().await;
            // What was written off may still be in the client's hands: a marker of our own goes behind it.
            link.round_trip(&shared.client).await
        });
        let settled = settled.await;
        let waves = link.unsettled(&mut goal).unwrap_or(0) + link.unconfirmed() - lost_before;
        match settled {
            Ok(Err(Ended)) => Err(FlushError::Closed),
            Ok(Ok(())) if waves == 0 => match link.take_unsendable() {
                0 => Ok(()),
                waves => Err(FlushError::Unsendable { waves }),
            },
            Ok(Ok(())) => Err(FlushError::Unconfirmed { waves, patience: self.patience() }),
            Err(patience) if waves == 0 => Err(FlushError::Unanswered { patience }),
            Err(patience) => Err(FlushError::Unconfirmed { waves, patience }),
        }
    }

    pub(super) async fn end(&self) -> Result<(), FlushError> {
        self.shared.closed.store(true, Ordering::Release);
        // The sending task empties the outbox and ends.
        self.shared.outbox.close();
        // Whoever closes again waits for the first, and takes over from one that was cancelled.
        let mut is_over = self.closing.lock().await;
        if *is_over {
            return Ok(());
        }
        // What the server sent before this came back is in the hands of the draining tasks.
        let settled = self.settle().await;
        if matches!(settled, Ok(()) | Err(FlushError::Unsendable { .. })) {
            // Who goes has begun to say so before this. Should the server go now as well, nobody is there to tell.
            let _ = timeout(self.patience(), self.notices.told()).await;
        }
        if let Some(sender) = self.sender.lock().take() {
            sender.abort();
        }
        self.shared.outbox.abandon();
        self.ending.send_replace(true);
        // Those that take longer go on; what they bring is counted, as the inboxes are closed.
        let _ = timeout(DELIVER_WITHIN, join_all(self.joined.take_tasks())).await;
        self.shared.link.end();
        *is_over = true;
        settled
    }
}
