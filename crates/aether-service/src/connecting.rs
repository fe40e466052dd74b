//! Connects with retries, and logs when the connection breaks and when it is back.
//!
//! The programs of a system start in any order, and servers are restarted while they run. So a program waits for a
//! server that is not up yet, and logs outages later.

use std::sync::LazyLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use aether_core::{Aether, AetherBuilder, ConnectError, medium::MediumStatus};
use backon::{BackoffBuilder, ExponentialBuilder};
use tokio::time::{Instant, sleep, sleep_until};

use crate::error_chain;
use crate::memory_watch::Buses;

/// Pauses between attempts. The first ones are short, so that a starting server is found at once.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// Connects. Retries an unreachable server for `patience`. An invalid address or a refusal by the server is an error at
/// once.
///
/// Cancel safety: cancelled before completion, nothing stays connected.
pub(crate) async fn patiently(builder: &AetherBuilder, patience: Duration) -> Result<Aether, ConnectError> {
    let begun = Instant::now();
    let mut error = match builder.clone().connect().await {
        Err(error) if error.is_transient() && !patience.is_zero() => error,
        connected => return connected,
    };
    tracing::info!(
        error = error_chain(&error),
        "the server does not answer; retrying for up to {patience:?}"
    );
    let mut pauses = ExponentialBuilder::default()
        .with_min_delay(FIRST_PAUSE)
        .with_max_delay(LONGEST_PAUSE)
        .with_jitter()
        .without_max_times()
        .build();
    // An end beyond the range of the clock means no end.
    let end = begun.checked_add(patience);
    let is_over = async {
        match end {
            Some(end) => sleep_until(end).await,
            None => std::future::pending().await,
        }
    };
    tokio::pin!(is_over);
    loop {
        let attempt = async {
            sleep(pauses.next().unwrap_or(LONGEST_PAUSE)).await;
            builder.clone().connect().await
        };
        let connected = tokio::select! {
            biased;
            connected = attempt => connected,
            () = &mut is_over => return Err(error),
        };
        match connected {
            Err(again) if again.is_transient() => error = again,
            Ok(aether) => {
                tracing::info!("connected after {:.1?}", begun.elapsed());
                return Ok(aether);
            }
            refused => return refused,
        }
    }
}

/// How long after an outage the waves are counted that others sent meanwhile: senders announce their numbers when they are
/// connected again, and with their next waves.
const SETTLING: Duration = Duration::from_secs(5);

/// The buses of this process.
pub(crate) fn buses() -> &'static Buses {
    static BUSES: LazyLock<Buses> = LazyLock::new(Buses::default);
    &BUSES
}

/// Whether the changes of a connection are logged already.
#[derive(Debug, Default)]
struct IsLogged(AtomicBool);

/// Logs when the connection breaks and when it is back, until the medium is closed: once for each `Aether`, however often
/// it is called. It does not keep the medium open.
pub(crate) fn log_changes(aether: &Aether) {
    if aether.extension::<IsLogged>().0.swap(true, Ordering::Relaxed) {
        return;
    }
    buses().add(aether.connection());
    let mut connection = aether.connection();
    let mut log = ConnectionLog::new(aether.status(), Instant::now());
    let mut missed = None;
    tokio::spawn(async move {
        loop {
            let status = tokio::select! {
                biased;
                changed = connection.changed() => changed,
                () = settled(missed.as_ref()) => {
                    let lost = connection.ledger().map_or(0, |ledger| ledger.lost_upstream);
                    if let Some((_, before)) = missed.take() && lost > before {
                        let lost = lost - before;
                        tracing::warn!(lost, "waves to this process were lost while the connection was away");
                    }
                    continue;
                }
            };
            let Some(status) = status else { return };
            // An outage within this time belongs to the one before.
            let before = missed.map_or_else(
                || connection.ledger().map_or(0, |ledger| ledger.lost_upstream),
                |(_, before)| before,
            );
            match log.next(status, Instant::now()) {
                Some(LogLine::Broke(line)) => {
                    tracing::warn!("{line}");
                    missed = Some((None, before));
                }
                Some(LogLine::Back(line)) => {
                    tracing::info!("{line}");
                    missed = Some((Some(Instant::now() + SETTLING), before));
                }
                None => {}
            }
        }
    });
}

/// Waits for the time at which the missed waves are counted, if there is one.
async fn settled(missed: Option<&(Option<Instant>, u64)>) {
    match missed {
        Some((Some(end), _)) => sleep_until(*end).await,
        _ => std::future::pending().await,
    }
}

#[derive(Debug, PartialEq, Eq)]
enum LogLine {
    Broke(String),
    Back(String),
}

/// The state of a connection from one change to the next.
#[derive(Debug)]
struct ConnectionLog {
    /// The status when the connection was last up, or when it broke.
    before: MediumStatus,
    broke: Option<Instant>,
}

impl ConnectionLog {
    fn new(status: MediumStatus, now: Instant) -> Self {
        Self { before: status, broke: (!status.connected).then_some(now) }
    }

    /// The log line for a change of the connection, if it did change.
    fn next(&mut self, status: MediumStatus, now: Instant) -> Option<LogLine> {
        if !status.connected {
            if self.broke.replace(self.broke.unwrap_or(now)).is_some() {
                return None;
            }
            // Keep the old count: unconfirmed waves are compared with the count from before the outage, even if the
            // medium has already added the new ones.
            let unconfirmed = self.before.unconfirmed;
            self.before = status;
            self.before.unconfirmed = unconfirmed;
            let queued = status.outbox.queued;
            return Some(LogLine::Broke(format!(
                "the connection to the server broke; reconnecting; {queued} waves wait to be sent"
            )));
        }
        let away = match self.broke.take() {
            Some(broke) => format!("the server is back after {:.1?}", now.saturating_duration_since(broke)),
            // The outage was short enough to be seen as one change.
            None if status.connects > self.before.connects => {
                "the connection to the server broke and is back".to_owned()
            }
            None => return None,
        };
        let unconfirmed = status.unconfirmed.saturating_sub(self.before.unconfirmed);
        let shed = status.outbox.lost().saturating_sub(self.before.outbox.lost());
        let queued = status.outbox.queued;
        self.before = status;
        Some(LogLine::Back(format!(
            "{away}: {unconfirmed} waves were under way when it broke and may be lost, {shed} were shed meanwhile, \
             {queued} wait to be sent"
        )))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(connected: bool, connects: u64) -> MediumStatus {
        let mut status = MediumStatus::default();
        (status.connected, status.connects) = (connected, connects);
        status
    }

    #[test]
    fn an_outage_is_logged_when_it_begins_and_when_it_is_over() {
        let start = Instant::now();
        let mut log = ConnectionLog::new(status(true, 1), start);
        assert_eq!(log.next(status(true, 1), start), None);
        let mut away = status(false, 1);
        away.outbox.queued = 3;
        let broke = log.next(away, start).unwrap();
        assert!(matches!(&broke, LogLine::Broke(line) if line.contains("3 waves wait")), "{broke:?}");
        assert_eq!(log.next(away, start), None);
        let mut back = status(true, 2);
        (back.unconfirmed, back.outbox.shed_full, back.outbox.queued) = (5, 7, 11);
        let told = log.next(back, start + Duration::from_secs(8)).unwrap();
        let LogLine::Back(line) = told else { panic!("{told:?}") };
        for part in ["after 8.0s", "5 waves were under way", "7 were shed", "11 wait"] {
            assert!(line.contains(part), "{line}");
        }
        // An outage that is over before it is noticed is one line, and does not repeat the numbers of the first one.
        (back.connects, back.unconfirmed) = (3, 6);
        let told = log.next(back, start).unwrap();
        let LogLine::Back(line) = told else { panic!("{told:?}") };
        assert!(
            line.contains("broke and is back: 1 waves were under way") && line.contains("0 were shed"),
            "{line}"
        );
    }
}
