//! Three services that watch machines and know nothing of each other. `main.rs` runs them; `tests/monitor.rs` tests
//! them.
//!
//! - A *probe* checks a target and emits a heartbeat. While the target is down it claims so.
//! - Two *alerters* in a group add up the claims of all probes. One of them orders a page when two sources agree. Each
//!   also watches the heartbeats, and claims that a probe is silent.
//! - The *notifier* sends pages by a pager that fails now and then. Pages that it cannot send become dead letters.

use std::sync::Arc;
use std::time::Duration;

use aether::physics::{Finding, Fringe, FringeKind, Interfere, ObserveError, PhysicsEngine, PhysicsObserver};
use aether_core::{Aether, EmitError, Emitter, JoinError, Kind, Phase, Receipt, Wave};
use aether_service::{Breaker, Handlers, Json, Limits, Resend, RetryBudget, Service, ServiceBuilder, State};
use tokio::time::interval;

/// The time between two checks of a probe.
pub const BEAT: Duration = Duration::from_secs(10);

/// Checks a target until the medium is closed.
///
/// # Errors
/// [`EmitError`] when the medium is closed.
pub async fn probe<C>(emitter: Emitter, target: String, is_up: impl Fn() -> C) -> Result<(), EmitError>
where
    C: Future<Output = bool>,
{
    let (mut beats, mut was_up) = (interval(BEAT), true);
    loop {
        beats.tick().await;
        emitter.emit(Wave::builder("probes.alive").key(&target)).await?;
        let up = is_up().await;
        // The claim is repeated while the target is down, and taken back once.
        if !(up && was_up) {
            let phase = if up { Phase::RETRACT } else { Phase::ASSERT };
            emitter.emit(Wave::builder("probes.down").key(&target).phase(phase)).await?;
        }
        was_up = up;
    }
}

/// A service that pages when two sources agree. Of all its instances one pages.
pub fn alerter() -> ServiceBuilder {
    let both = Interfere::by_key().sources(2).rise(0.7).fall(0.4).window(Duration::from_secs(60));
    Service::builder("alerter").group("alerters").on_fringe("probes.down", both.clone(), alert).on_fringe(
        "probes.silent",
        both,
        alert,
    )
}

async fn alert(fringe: Fringe, emitter: Emitter) -> Result<Receipt, EmitError> {
    let what = if fringe.channel.as_str() == "probes.silent" { "silent" } else { "down" };
    let text = match fringe.kind {
        FringeKind::Rise => format!("{} is {what}, by {} sources", fringe.key, fringe.sources),
        _ => format!("{} is no longer {what}", fringe.key),
    };
    let page = Wave::builder("pages.send").kind(Kind::Command).amplitude(0.9).key(&fringe.key);
    emitter.emit(page.json(&text)).await
}

/// Why the heartbeats are not watched any more.
#[derive(Debug, thiserror::Error)]
#[error("the heartbeats are not watched")]
pub enum WatchError {
    /// They cannot be observed.
    Observe(#[from] ObserveError),
    /// They cannot be heard again after a pause.
    Join(#[from] JoinError),
    /// A claim cannot be emitted.
    Emit(#[from] EmitError),
}

/// Claims that a probe is silent when its heartbeat stops, until the medium is closed. Each alerter has one.
///
/// # Errors
/// [`WatchError`] when the medium is closed.
pub async fn watch(aether: Aether, emitter: Emitter) -> Result<(), WatchError> {
    let mut observer =
        PhysicsObserver::open("watch", "probes.alive", PhysicsEngine::default(), &aether).await?;
    while observer.advance(256).await?.is_some() {
        while let Some(found) = observer.found() {
            if let Finding::MissingBeat { stream, .. } = found {
                emitter.emit(Wave::builder("probes.silent").key(stream.source.name())).await?;
            }
        }
    }
    Ok(())
}

/// Sends the text of a page. It fails now and then.
pub type Pager = Arc<dyn Fn(&str) -> Result<(), PagerError> + Send + Sync>;

/// The pager did not send the page.
#[derive(Debug, thiserror::Error)]
#[error("the pager is broken")]
pub struct PagerError;

/// A service that sends pages. While the pager is broken, it still tells its status.
pub fn notifier(pager: Pager) -> ServiceBuilder {
    let resend = Resend::default().most(4).budget(RetryBudget::unlimited());
    let breaker = Breaker::default().failures(3).open_for(Duration::from_secs(30));
    let limits = Limits::new().time_out(Duration::from_secs(5)).retry(resend).circuit_breaker(breaker);
    Service::builder("notifier")
        .on_query("notifier.status", async || "on duty")
        .handlers(Handlers::new().state(pager).group("notifiers").on("pages.send", page).limits(limits))
}

async fn page(State(pager): State<Pager>, Json(text): Json<String>) -> Result<(), PagerError> {
    pager(&text)
}
