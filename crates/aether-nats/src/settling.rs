//! Flushing, confirming and closing: a bounded wait until the broker has received everything that was accepted.

use std::sync::atomic::Ordering;
use std::time::Duration;

use futures_util::future::join_all;
use tokio::time::timeout;

use super::Nats;
use super::link::{AWAY_PATIENCE, Ended};
use aether_core::FlushError;
use aether_link::within;

/// Closing and flushing give up after this long without any progress while the connection is up, when the network may have lost a packet or two and the server may be busy. Two TCP
/// retransmissions in a row take at least 0.6 s (RFC 6298, with the minimum of 0.2 s that Linux uses), and three take
/// at least 1.4 s.
const STANDING_PATIENCE: Duration = Duration::from_secs(2);

/// Closing waits this long for the tasks that deliver what has arrived. These tasks do not wait for anything; only slow
/// inbox callbacks can delay them.
const DELIVER_WITHIN: Duration = Duration::from_secs(10);

impl Nats {
    /// How long to wait for progress.
    fn patience(&self) -> Duration {
        if self.shared.link.is_connected() { STANDING_PATIENCE } else { AWAY_PATIENCE }
    }

    /// Waits until everything in the outbox has left and was confirmed, or until the patience expires.
    pub(super) async fn settle(&self) -> Result<(), FlushError> {
        let (shared, link) = (&*self.shared, &*self.shared.link);
        let lost_before = link.unconfirmed();
        let mut goal = link.goal();
        let settled = within(link.progress(), || self.patience(), async {
            let mut progress = link.progress();
            while {
                progress.borrow_and_update();
                link.unsettled(&mut goal).is_some()
            } {
                // Would fail only if the link had been dropped.
                let _ = progress.changed().await;
            }
            // This lets receivers detect missed waves even if nothing follows.
            shared.announcing.ask().await;
            shared.left().await;
            // Waves that were written off may still be in the client's hands, so a marker of our own is sent behind
            // them.
            link.round_trip_behind_errors(&shared.client).await?;
            // Waves that nobody hears came back, also those that had to be looked at again.
            if let Some(doubts) = &shared.doubts {
                doubts.decided().await;
            }
            Ok(())
        });
        let settled = settled.await;
        let waves = link.unsettled(&mut goal).unwrap_or(0) + link.unconfirmed() - lost_before;
        match settled {
            Ok(Err(Ended)) => Err(FlushError::Closed),
            Ok(Ok(())) if waves == 0 => Ok(()),
            Ok(Ok(())) => Err(FlushError::Unconfirmed { waves, patience: self.patience() }),
            Err(patience) if waves == 0 => Err(FlushError::Unanswered { patience }),
            Err(patience) => Err(FlushError::Unconfirmed { waves, patience }),
        }
    }

    /// The same. Waves that could not be sent are an error as well.
    pub(super) async fn settle_all(&self) -> Result<(), FlushError> {
        self.settle().await?;
        match self.shared.link.take_unsendable() {
            0 => Ok(()),
            waves => Err(FlushError::Unsendable { waves }),
        }
    }

    pub(super) async fn end(&self) -> Result<(), FlushError> {
        self.shared.closed.store(true, Ordering::Release);
        // The sending task empties the outbox and ends.
        self.shared.outbox.close();
        // A repeated close waits for the first one, and takes over if that one was cancelled.
        let mut is_over = self.closing.lock().await;
        if *is_over {
            return Ok(());
        }
        // Everything that the server sent before this marker returned is in the hands of the draining tasks.
        let settled = self.settle_all().await;
        if matches!(settled, Ok(()) | Err(FlushError::Unsendable { .. })) {
            // Departing receivers have already begun to send their notices. If the server goes away now too, no
            // recipient is left.
            let _ = timeout(self.patience(), self.notices.announced()).await;
        }
        if let Some(sender) = self.sender.lock().take() {
            sender.abort();
        }
        self.shared.outbox.abandon();
        self.ending.send_replace(true);
        // Tasks that take longer continue. The waves that they deliver are counted, because the inboxes are closed.
        let _ = timeout(DELIVER_WITHIN, join_all(self.joined.take_tasks())).await;
        self.shared.link.end();
        *is_over = true;
        settled
    }
}
