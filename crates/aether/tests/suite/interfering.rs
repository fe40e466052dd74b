//! Interference in a build whose clock a test can pause although Aether's own clocks cannot be.

use std::time::Duration;

use aether::physics::{Fringe, FringeKind, Interfere, Interfering as _};
use aether_core::{Aether, Vibrator, Wave};
use futures::StreamExt;
use tokio::time::Instant;

#[tokio::test(start_paused = true)]
async fn a_fringe_falls_when_its_timer_ends_and_nothing_spins() {
    let aether = Aether::local();
    let pager = Vibrator::create("pager", &aether).await.unwrap();
    let window = Duration::from_secs(30);
    let options = Interfere::by_key().sources(2).rise(0.7).fall(0.5).window(window);
    let mut fringes = pager.interfere("probes.*", options).await.unwrap();
    let machine = std::time::Instant::now();
    for name in ["oslo", "rome"] {
        let probe = aether.emitter(name).unwrap();
        probe.emit(Wave::builder("probes.down").key("db")).await.unwrap();
    }
    let start = Instant::now();
    let mut next = async || tokio::time::timeout(10 * window, fringes.next()).await.unwrap().unwrap();
    let risen = next().await;
    let fallen = next().await;
    assert_eq!((risen.kind, fallen.kind), (FringeKind::Rise, FringeKind::Fall));
    // From 0.75 to 0.5 in one window, within the resolution of a timer. Waves age on the clock of the machine, so the
    // timer lacks the time that has passed there.
    let (after, passed) = (start.elapsed(), machine.elapsed());
    assert!(window <= after + passed && after < window + Duration::from_millis(10), "{after:?} {passed:?}");
    assert_eq!(risen.id, fallen.id);
    let read: Fringe = serde_json::from_str(&serde_json::to_string(&risen).unwrap()).unwrap();
    assert_eq!(read, risen, "a fringe can be written and read");
}
