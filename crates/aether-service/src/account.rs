//! The final account of a program: what happened to the waves that it sent and received, as sums.

use std::fmt;

use aether_core::{Aether, Ledger, ShedReason, medium::MediumStatus};

/// The outcomes of the waves emitted on a network: `waves: 12 emitted = 9 confirmed + 2 full + 1 unconfirmed`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sent(MediumStatus);

/// The outcomes of the waves routed to inboxes: `waves: 12 offered = 10 delivered + 2 full + ... + 0 queued`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Received(Ledger);

/// The messages refused because they are not sealed with a key of this program, or because they are replays: `messages
/// refused: 3 plain + 1 replayed`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Refused(MediumStatus);

/// Not all waves that a program emitted have reached the server.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{lost} of {emitted} waves may be lost: {why}")]
pub struct LostWaves {
    /// Waves without a confirmation from the server.
    pub lost: u64,
    /// Waves emitted in total.
    pub emitted: u64,
    why: String,
}

impl Sent {
    /// The waves given to the medium so far.
    #[must_use]
    pub const fn of(status: MediumStatus) -> Self {
        Self(status)
    }

    /// Waves that were given to the medium.
    #[must_use]
    pub const fn emitted(&self) -> u64 {
        self.0.outbox.offered
    }

    /// Waves that the server has confirmed.
    #[must_use]
    pub const fn confirmed(&self) -> u64 {
        self.0.outbox.delivered.saturating_sub(self.0.unconfirmed).saturating_sub(self.0.in_flight)
    }

    /// Waves without a confirmation from the server: shed, unsendable, under way when a connection broke, or not sent
    /// or confirmed yet.
    #[must_use]
    pub const fn lost(&self) -> u64 {
        self.emitted().saturating_sub(self.confirmed())
    }

    /// # Errors
    /// [`LostWaves`] if not every wave is known to have reached the server.
    pub fn check(&self) -> Result<(), LostWaves> {
        if self.lost() == 0 {
            return Ok(());
        }
        let terms: Vec<_> = self.losses().map(|(waves, words)| format!("{waves} {words}")).collect();
        Err(LostWaves { lost: self.lost(), emitted: self.emitted(), why: terms.join(", ") })
    }

    /// The unconfirmed waves by reason, without zeros.
    fn losses(&self) -> impl Iterator<Item = (u64, String)> {
        let Self(status) = self;
        let shed = status.outbox.losses().map(|(reason, waves)| (waves, words(reason)));
        let others = [
            (status.unconfirmed, "unconfirmed"),
            (status.in_flight, "not confirmed yet"),
            (status.outbox.queued, "not sent"),
        ];
        shed.into_iter()
            .chain(others.map(|(waves, words)| (waves, words.to_owned())))
            .filter(|(waves, _)| *waves > 0)
    }
}

impl fmt::Display for Sent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "waves: {} emitted = {} confirmed", self.emitted(), self.confirmed())?;
        self.losses().try_for_each(|(waves, words)| write!(f, " + {waves} {words}"))
    }
}

impl Refused {
    /// The messages refused so far.
    #[must_use]
    pub const fn of(status: MediumStatus) -> Self {
        Self(status)
    }
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("messages refused: ")?;
        let refusals = self.0.refusals().into_iter().filter(|(_, messages)| *messages > 0);
        for (index, (reason, messages)) in refusals.enumerate() {
            let plus = if index > 0 { " + " } else { "" };
            write!(f, "{plus}{messages} {}", reason.replace('_', " "))?;
        }
        Ok(())
    }
}

impl Received {
    /// The ledger of one inbox, or the sum of several.
    #[must_use]
    pub const fn of(ledger: Ledger) -> Self {
        Self(ledger)
    }

    /// Lost waves that the receiver wanted: waves below its floor and expired waves do not count.
    #[must_use]
    pub const fn missed(&self) -> u64 {
        self.0.lost() - self.0.shed_below_floor - self.0.expired
    }
}

impl fmt::Display for Received {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(ledger) = self;
        write!(f, "waves: {} offered = {} delivered", ledger.offered, ledger.delivered)?;
        // An inbox sends nothing, so nothing in it can be unsendable.
        for (reason, waves) in ledger.losses().into_iter().filter(|loss| loss.0 != ShedReason::Unsendable) {
            write!(f, " + {waves} {}", words(reason))?;
        }
        write!(f, " + {} lost upstream + {} queued", ledger.lost_upstream, ledger.queued)
    }
}

fn words(reason: ShedReason) -> String {
    reason.as_str().replace('_', " ")
}

/// Closes the medium at the end of a program, and logs what happened to the waves it sent and received, and which dead
/// letters end with it. It flushes
/// first if the server is connected and waves wait to be confirmed, then closes as [`close`](crate::close) does.
///
/// # Errors
/// [`LostWaves`] if not every wave that was emitted is known to have reached the server.
///
/// # Cancel safety
/// Cancelled before completion, the medium may still be sending.
pub async fn close_with_account(aether: &Aether) -> Result<(), LostWaves> {
    // Flushing gives the last waves time to be confirmed, so that the account does not call them lost. It is skipped
    // while the server is away.
    let status = aether.status();
    if status.connected && status.outbox.queued + status.in_flight > 0 {
        let _ = aether.flush().await;
    }
    crate::close(aether).await;
    let (sent, received) = (Sent::of(aether.status()), Received::of(aether.ledger()));
    if aether.promises().crosses_processes {
        tracing::info!("sent: {sent}");
    }
    for path in aether::paths::paths(aether) {
        let unconfirmed = path.medium.map_or(0, |medium| medium.unconfirmed);
        tracing::info!("of these by {}: {} waves, {unconfirmed} of them unconfirmed", path.url, path.sent);
    }
    tracing::info!("received: {received}");
    let status = aether.status();
    if status.refused() > 0 {
        tracing::warn!("{}", Refused::of(status));
    }
    sent.check()
}

#[cfg(test)]
mod tests {
    use super::*;
    use aether_core::{Floor, InboxOptions, Vibrator, Wave};

    fn status(offered: u64, delivered: u64, unconfirmed: u64, in_flight: u64) -> MediumStatus {
        let mut status = MediumStatus::default();
        (status.outbox.offered, status.outbox.delivered) = (offered, delivered);
        (status.unconfirmed, status.in_flight) = (unconfirmed, in_flight);
        status
    }

    #[test]
    fn refused_messages_are_said_by_reason() {
        let mut status = status(0, 0, 0, 0);
        (status.refused_plain, status.refused_unknown_key) = (3, 1);
        assert_eq!(Refused::of(status).to_string(), "messages refused: 3 plain + 1 unknown key");
    }

    #[test]
    fn sent_waves_add_up_and_unconfirmed_waves_are_an_error() {
        let mut status = status(20, 12, 2, 3);
        (status.outbox.shed_full, status.outbox.shed_unsendable, status.outbox.queued) = (5, 1, 2);
        let sent = Sent::of(status);
        assert_eq!(
            sent.to_string(),
            "waves: 20 emitted = 7 confirmed + 5 full + 1 unsendable + 2 unconfirmed + 3 not confirmed yet + 2 not sent"
        );
        let error = sent.check().unwrap_err();
        assert_eq!((error.lost, error.emitted), (13, 20));
        assert!(error.to_string().starts_with("13 of 20 waves may be lost: 5 full, 1 unsendable"), "{error}");
    }

    #[test]
    fn all_confirmed_is_no_error_and_numbers_never_go_below_zero() {
        let sent = Sent::of(status(3, 3, 0, 0));
        assert_eq!((sent.to_string().as_str(), sent.check()), ("waves: 3 emitted = 3 confirmed", Ok(())));
        assert_eq!(Sent::of(status(1, 1, 5, 5)).confirmed(), 0);
        assert_eq!(Sent::of(status(1, 2, 0, 0)).lost(), 0);
    }

    #[tokio::test]
    async fn received_waves_add_up() {
        let aether = Aether::local();
        let inbox = InboxOptions::overload().max_waves(2).sojourn_cap(None).floor(Floor::new(0.2).unwrap());
        let mut hears = Vibrator::builder("hears").inbox(inbox).create(&aether).await.unwrap();
        hears.resonate_on("a").await.unwrap();
        let emits = Vibrator::create("emits", &aether).await.unwrap();
        for amplitude in [0.1, 0.5, 0.5, 0.5, 0.9] {
            emits
                .emit(Wave::builder("a").amplitude(amplitude).never_decays().build().unwrap())
                .await
                .unwrap();
        }
        hears.receive().await.unwrap();
        let received = Received::of(hears.ledger());
        assert_eq!(
            received.to_string(),
            "waves: 5 offered = 1 delivered + 2 full + 1 below floor + 0 sojourn + 0 expired + 0 closed + 0 lost upstream + 1 queued"
        );
        assert_eq!(received.missed(), 2);
    }
}
