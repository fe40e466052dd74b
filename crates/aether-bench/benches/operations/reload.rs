//! Whether a reload of the configuration under load loses waves: the ledger and the service count each of them.

use std::future::ready;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use aether_core::{Channel, Wave};
use aether_service::{CancellationToken, ConfigArgs, Service};
use bytes::Bytes;
use tokio::sync::Notify;
use tokio::time::{MissedTickBehavior, interval, timeout};

use crate::goal::Goals;
use crate::{Error, Outcome};

const CHANNEL: &str = "orders.created";
/// Waves a second.
const RATE: u64 = 100_000;
/// The waves of one millisecond are emitted one after the other, because no timer is finer.
const BURST: u64 = RATE / 1000;
/// How often the file is changed.
const EVERY: Duration = Duration::from_millis(50);
/// For what takes milliseconds. Nothing waits for it to pass.
const PATIENCE: Duration = Duration::from_secs(10);

/// Two versions that differ in all that applies at once. Neither refuses a wave of this load: the bounds are far beyond what
/// waits, the floors below the amplitude, the rates above the load.
const VERSIONS: [&str; 2] = [
    "inbox.max_waves = 65536\ninbox.max_bytes = '64MiB'\ninbox.floor = 0.0\nhandlers.rate = '1000000/s'\n\
     emit.rate = '1000000/s'\n",
    "inbox.max_waves = 131072\ninbox.max_bytes = '128MiB'\ninbox.floor = 0.1\nhandlers.rate = '2000000/s'\n\
     emit.rate = '2000000/s'\n",
];

pub(crate) async fn measure(seconds: u64, goals: &mut Goals) -> Outcome {
    eprintln!("reload: {seconds} s");
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("default.toml");
    let write = |version: usize| {
        // As editors do: nobody reads half of it.
        let new = folder.path().join("new");
        std::fs::write(&new, VERSIONS[version % VERSIONS.len()])?;
        std::fs::rename(&new, &file)
    };
    write(0)?;
    let mut args = ConfigArgs::default();
    args.folder = Some(folder.path().to_owned());
    let config = args.load_common()?;
    let shutdown = CancellationToken::new();
    let aether = config.connect_until(&shutdown, "bench").await?.ok_or("not connected")?;
    let emitted = seconds * RATE;
    let (handled, done) = (Arc::new(AtomicU64::new(0)), Arc::new(Notify::new()));
    let all_done = Arc::clone(&done);
    let handle = move || {
        if handled.fetch_add(1, Ordering::Relaxed) + 1 == emitted {
            all_done.notify_one();
        }
        ready(())
    };
    let service = Service::builder("orders").configured(&config).on(CHANNEL, handle).build(&aether).await?;
    let emitter = aether.emitter("shop")?;
    let running = tokio::spawn(service.run_until(shutdown.clone()));
    let start = Instant::now();
    let emitting = tokio::spawn(async move {
        let (channel, payload) = (Channel::new(CHANNEL)?, Bytes::from_static(&[7; 128]));
        let mut ticks = interval(Duration::from_millis(1));
        ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
        for _ in 0..seconds * 1000 {
            ticks.tick().await;
            for _ in 0..BURST {
                emitter.emit(Wave::from_bytes(&channel, payload.clone())?).await?;
            }
        }
        Ok::<_, Error>(start.elapsed())
    });
    let (mut reloads, mut changes) = (config.reloads(), interval(EVERY));
    changes.set_missed_tick_behavior(MissedTickBehavior::Delay);
    changes.tick().await;
    let mut version = 0;
    while !emitting.is_finished() {
        changes.tick().await;
        version += 1;
        write(version)?;
        timeout(PATIENCE, reloads.changed()).await.map_err(|_| "a change was not noticed")??;
    }
    let took = emitting.await??;
    // Waves that are lost are never handled, so the wait has an end.
    let _ = timeout(PATIENCE, done.notified()).await;
    shutdown.cancel();
    let report = running.await??;
    let (ledger, reloads) = (aether.ledger(), reloads.borrow().clone());
    if !ledger.adds_up() || !report.adds_up() || reloads.refused > 0 || !reloads.needs_restart.is_empty() {
        return Err(format!("{ledger:?} {report} {reloads:?}").into());
    }
    let lost = ledger.lost() + emitted.saturating_sub(report.succeeded);
    let how = format!(
        "{emitted} waves in {:.2} s, {:.0} a second; {} versions of the file applied meanwhile; {} handled, {} shed",
        took.as_secs_f64(),
        emitted as f64 / took.as_secs_f64(),
        reloads.applied,
        report.succeeded,
        ledger.lost(),
    );
    goals.none("a reload under load: waves lost", lost, how);
    Ok(())
}
