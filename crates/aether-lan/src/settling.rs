//! Flushing and closing: a bounded wait until all peers that are there have received what was accepted.

use std::sync::atomic::Ordering;
use std::time::Duration;

use futures_util::future::join_all;
use tokio::sync::oneshot;
use tokio::time::timeout;

use super::Lan;
use super::lane::Lane;
use super::shared::Barrier;
use aether_core::FlushError;
use aether_link::within;

/// Flushing gives up after this long without any progress: two retransmissions of TCP take at least 0.6 s (RFC 6298, with
/// the minimum of 0.2 s that Linux uses), three 1.4 s.
const PATIENCE: Duration = Duration::from_secs(2);
/// Closing waits this long for the answers to its farewells: one lost packet is repeated after 1 s at first (RFC 9002,
/// with the round trip of 0.333 s that is assumed before one is measured).
const FAREWELL_WITHIN: Duration = Duration::from_millis(1500);
/// Closing waits this long for the task that delivers what has arrived, and for the session to end.
const END_WITHIN: Duration = Duration::from_secs(10);

impl Lan {
    /// Waits until everything in the outbox has left and all peers have it, and know what this process hears.
    pub(super) async fn settle(&self) -> Result<(), FlushError> {
        let shared = &*self.shared;
        let (mark, version) = (shared.outbox.mark(), shared.peers.version());
        let (_, lost_before) = shared.peers.flight();
        let settled = within(|| shared.progress.notified(), || PATIENCE, async {
            shared.until(|| shared.outbox.has_passed(mark)).await;
            let (asked, barrier) = oneshot::channel();
            if shared.barriers.send(asked).is_err() {
                return false;
            }
            // Dropped if the sending task has ended.
            let Ok(Barrier { first, nodes }) = barrier.await else { return false };
            shared.until(|| shared.peers.all_answered(first, &nodes) && shared.peers.all_know(version)).await
        });
        let settled = settled.await;
        let (on_the_way, lost) = shared.peers.flight();
        match (settled, lost - lost_before) {
            (Ok(true), 0) => match shared.peers.missed() {
                0 => Ok(()),
                processes => Err(FlushError::Unmet { processes }),
            },
            (Ok(true), waves) => Err(FlushError::Unconfirmed { waves, patience: PATIENCE }),
            (Ok(false), _) => Err(FlushError::Closed),
            (Err(patience), 0) if shared.outbox.has_passed(mark) && on_the_way == 0 => {
                Err(FlushError::Unanswered { patience })
            }
            (Err(patience), lost) => {
                let waves = shared.outbox.ledger().queued + on_the_way + lost;
                Err(FlushError::Unconfirmed { waves, patience })
            }
        }
    }

    /// The same. Waves that could not be sent are an error as well.
    pub(super) async fn settle_all(&self) -> Result<(), FlushError> {
        self.settle().await?;
        match self.shared.unsendable.swap(0, Ordering::Relaxed) {
            0 => Ok(()),
            waves => Err(FlushError::Unsendable { waves }),
        }
    }

    /// Sends farewell to all peers, and to those that may know this process though they have not introduced themselves
    /// yet: they would wait for it until it has been silent for long enough. With certificates it waits until they have
    /// heard it: the end of a connection of QUIC discards what the other side has not confirmed (RFC 9000, section
    /// 10.2). The end of a connection of TCP does not.
    async fn part(&self) {
        let shared = &*self.shared;
        shared.has_parted.store(true, Ordering::Release);
        let nodes = shared.peers.acquainted();
        for node in &nodes {
            shared.say(*node, Lane::CONTROL, shared.bye(*node)).await;
        }
        if !self.by_quic {
            return;
        }
        let heard = nodes.into_iter().map(|node| async move {
            let was_there = shared.peers.version_of(node).is_some();
            tokio::select! {
                biased;
                // In the lane of the farewell, behind it. Its measurement is of no interest.
                _ = self.presence.ping_anybody(shared, node, FAREWELL_WITHIN) => {}
                _ = shared.until(|| was_there && shared.peers.version_of(node).is_none()) => {}
            }
        });
        join_all(heard).await;
    }

    pub(super) async fn end(&self) -> Result<(), FlushError> {
        let shared = &*self.shared;
        shared.closed.store(true, Ordering::Release);
        // The sending task empties the outbox.
        shared.outbox.close();
        // A repeated close waits for the first one, and takes over if that one was cancelled.
        let mut is_over = self.closing.lock().await;
        if *is_over {
            return Ok(());
        }
        let settled = self.settle_all().await;
        shared.outbox.abandon();
        self.part().await;
        shared.ending.cancel();
        let tasks = self.tasks.lock().take();
        if let Some((receiving, ended)) = tasks {
            // A task that takes longer goes on.
            let _ = timeout(END_WITHIN, async { tokio::join!(receiving, ended) }).await;
        }
        *is_over = true;
        settled
    }
}
