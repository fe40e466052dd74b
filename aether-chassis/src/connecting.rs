//! Connecting with patience, and what is said of a connection that breaks and comes back.
//!
//! Programs of one system start in any order, and servers are restarted beneath them. So a program waits for a server that
//! is not there yet, and says so; later it says when the connection breaks and when it is back.

use std::time::Duration;

use aether_core::{Aether, AetherBuilder, ConnectError, medium::MediumStatus};
use backon::{BackoffBuilder, ExponentialBuilder};
use tokio::time::{Instant, sleep, sleep_until};

use crate::error_chain;

/// The pauses between attempts: soon at first, so that a server that is just starting is found at once.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// Connects. A server that does not answer is tried again for `patience`; what is wrong with the address or refused by
/// the server is an error at once.
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
        "the server does not answer: waiting for it, {patience:?} at most"
    );
    let mut pauses = ExponentialBuilder::default()
        .with_min_delay(FIRST_PAUSE)
        .with_max_delay(LONGEST_PAUSE)
        .with_jitter()
        .without_max_times()
        .build();
    // A patience that no clock can tell the end of has none.
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

/// Says in the log when the connection breaks and when it is back, until the medium is closed. It does not keep the medium
/// open.
pub(crate) fn tell_changes(aether: &Aether) {
    let mut connection = aether.connection();
    let mut story = Story::new(aether.status(), Instant::now());
    tokio::spawn(async move {
        while let Some(status) = connection.changed().await {
            match story.next(status, Instant::now()) {
                Some(Said::Broke(line)) => tracing::warn!("{line}"),
                Some(Said::Back(line)) => tracing::info!("{line}"),
                None => {}
            }
        }
    });
}

#[derive(Debug, PartialEq, Eq)]
enum Said {
    Broke(String),
    Back(String),
}

/// What is known of a connection from one change to the next.
#[derive(Debug)]
struct Story {
    /// When the connection stood last, or what was so when it broke.
    before: MediumStatus,
    broke: Option<Instant>,
}

impl Story {
    fn new(status: MediumStatus, now: Instant) -> Self {
        Self { before: status, broke: (!status.connected).then_some(now) }
    }

    /// What there is to say of a change, if it is one.
    fn next(&mut self, status: MediumStatus, now: Instant) -> Option<Said> {
        if !status.connected {
            if self.broke.replace(self.broke.unwrap_or(now)).is_some() {
                return None;
            }
            // What is written off was under way when it broke, whether or not that is counted by now.
            let unconfirmed = self.before.unconfirmed;
            self.before = status;
            self.before.unconfirmed = unconfirmed;
            let queued = status.outbox.queued;
            return Some(Said::Broke(format!(
                "the connection to the server broke: trying to connect again; {queued} waves wait to be sent"
            )));
        }
        let away = match self.broke.take() {
            Some(broke) => format!("the server is back after {:.1?}", now.saturating_duration_since(broke)),
            // It was away so shortly that both are told as one.
            None if status.connects > self.before.connects => {
                "the connection to the server broke and is back".to_owned()
            }
            None => return None,
        };
        let unconfirmed = status.unconfirmed.saturating_sub(self.before.unconfirmed);
        let shed = status.outbox.lost().saturating_sub(self.before.outbox.lost());
        let queued = status.outbox.queued;
        self.before = status;
        Some(Said::Back(format!(
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
    fn an_outage_is_a_line_when_it_begins_and_one_when_it_is_over() {
        let start = Instant::now();
        let mut story = Story::new(status(true, 1), start);
        assert_eq!(story.next(status(true, 1), start), None);
        let mut away = status(false, 1);
        away.outbox.queued = 3;
        let broke = story.next(away, start).unwrap();
        assert!(matches!(&broke, Said::Broke(line) if line.contains("3 waves wait")), "{broke:?}");
        assert_eq!(story.next(away, start), None);
        let mut back = status(true, 2);
        (back.unconfirmed, back.outbox.shed_full, back.outbox.queued) = (5, 7, 11);
        let told = story.next(back, start + Duration::from_secs(8)).unwrap();
        let Said::Back(line) = told else { panic!("{told:?}") };
        for part in ["after 8.0s", "5 waves were under way", "7 were shed", "11 wait"] {
            assert!(line.contains(part), "{line}");
        }
        // Too fast for two lines; and what was said of the first outage is not said again.
        (back.connects, back.unconfirmed) = (3, 6);
        let told = story.next(back, start).unwrap();
        let Said::Back(line) = told else { panic!("{told:?}") };
        assert!(
            line.contains("broke and is back: 1 waves were under way") && line.contains("0 were shed"),
            "{line}"
        );
    }
}
