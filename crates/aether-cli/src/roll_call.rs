//! The roll call: how long the commands about services wait for their announcements. `aether letters`, `aether describe` and
//! `aether doctor` use it.

use std::time::Duration;

use aether_core::presence::Roster;
use tokio::time::timeout;

/// Waits until the expected number is present, or for the whole time if no number was given. They announce themselves
/// together, once a second. They are counted again with each change of the roster, and whenever `again` completes.
///
/// # Cancel safety
/// Cancelled before completion, nothing is lost.
pub(crate) async fn wait(
    time: Duration,
    roster: &mut Roster,
    expected: Option<u64>,
    present: impl AsyncFn(&Roster) -> usize,
    again: impl AsyncFn(),
) {
    let all = async {
        let Some(expected) = expected else { return std::future::pending().await };
        while (present(roster).await as u64) < expected {
            tokio::select! {
                () = roster.changed() => {}
                () = again() => {}
            }
        }
    };
    // Those who have not come by then are not listed.
    let _ = timeout(time, all).await;
}

#[cfg(test)]
mod tests {
    use aether_core::{Aether, Vibrator};
    use tokio::time::Instant;

    use super::*;

    async fn pending() {
        std::future::pending().await
    }

    const LONG: Duration = Duration::from_secs(3600);

    #[tokio::test(start_paused = true)]
    async fn it_ends_with_the_last_that_is_expected_and_otherwise_with_the_time() {
        let aether = Aether::local();
        let mut roster = aether.roster().await.unwrap();
        let present = async |roster: &Roster| roster.vibrators().len();
        let started = Instant::now();
        wait(LONG, &mut roster, None, present, pending).await;
        assert!(started.elapsed() >= LONG);
        let started = Instant::now();
        let come = async {
            let mut all = Vec::new();
            for name in ["one", "two"] {
                tokio::time::sleep(Duration::from_secs(1)).await;
                let vibrator = Vibrator::create(name, &aether).await.unwrap();
                vibrator.resonate_on("a").await.unwrap();
                all.push(vibrator);
            }
            all
        };
        let ((), all) = tokio::join!(wait(LONG, &mut roster, Some(2), present, pending), come);
        assert!(started.elapsed() < Duration::from_secs(3), "{:?} {all:?}", started.elapsed());
        wait(LONG, &mut roster, Some(3), present, pending).await;
        assert!(started.elapsed() >= LONG);
    }
}
