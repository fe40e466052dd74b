//! Traffic beside the samples: batches, a rate limiter, jobs at fixed times, questions that are repeated.
//!
//! Each is a vibrator of this process, and ends when its task is aborted.

use std::time::Duration;

use aether_core::{Aether, Kind, Vibrator, Wave};
use aether_service::{Asker, AskerOptions, CancellationToken, Json, Service};
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval, sleep};

use crate::Outcome;

/// The tasks of one scenario; dropped, they end.
pub(crate) type Tasks = JoinSet<Outcome>;

/// A job at fixed times: one wave each.
pub(crate) async fn job(tasks: &mut Tasks, aether: &Aether, name: &str, every: Duration) -> Outcome {
    let vibrator = Vibrator::create(name, aether).await?;
    let channel = format!("jobs.{name}");
    tasks.spawn(async move {
        let mut times = interval(every);
        times.set_missed_tick_behavior(MissedTickBehavior::Delay);
        for number in 0_u64.. {
            times.tick().await;
            vibrator.emit_wave(channel.as_str(), &number).await?;
        }
        Ok(())
    });
    Ok(())
}

/// Bursts of `size` waves (at most), at fixed times or at random ones.
pub(crate) async fn batches(
    tasks: &mut Tasks,
    aether: &Aether,
    name: &str,
    size: u64,
    every: Duration,
    is_even: bool,
) -> Outcome {
    let vibrator = Vibrator::create(name, aether).await?;
    let channel = format!("batch.{name}");
    tasks.spawn(async move {
        let mut random = fastrand::Rng::with_seed(size);
        loop {
            let (waves, factor) =
                if is_even { (size, 1.0) } else { (random.u64(1..=size), 0.3 + 1.4 * random.f64()) };
            for number in 0..waves {
                vibrator.emit_wave(channel.as_str(), &number).await?;
            }
            sleep(every.mul_f64(factor)).await;
        }
    });
    Ok(())
}

/// A rate limiter: work arrives in lumps and leaves at an even rate while there is some.
pub(crate) async fn limiter(tasks: &mut Tasks, aether: &Aether, a_second: f64) -> Outcome {
    let vibrator = Vibrator::create("limiter", aether).await?;
    tasks.spawn(async move {
        let mut random = fastrand::Rng::with_seed(7);
        loop {
            for number in 0..random.u64(5..60) {
                vibrator.emit_wave("mails.sent", &number).await?;
                sleep(Duration::from_secs_f64(1.0 / a_second)).await;
            }
            sleep(Duration::from_secs_f64(4.0 * random.f64())).await;
        }
    });
    Ok(())
}

/// A service that fails one time in five, and a client that asks again by the usual policy.
pub(crate) async fn repeated(tasks: &mut Tasks, aether: &Aether) -> Outcome {
    let service = Service::builder("prices").on_query("prices.of", price).build(aether).await?;
    tasks.spawn(async move {
        service.run_until(CancellationToken::new()).await?;
        Ok(())
    });
    let client = Vibrator::create("client", aether).await?;
    tasks.spawn(async move {
        let asker =
            Asker::new(client.emitter(), AskerOptions::default().patience(Duration::from_millis(300)));
        let mut random = fastrand::Rng::with_seed(11);
        for number in 0_u64.. {
            let key = format!("article-{}", number % 40);
            let question = Wave::builder("prices.of").kind(Kind::Query).key(&key);
            // A question that failed for good is part of the scenario.
            let _ = asker.ask(question.json(&number).build()?).await;
            sleep(Duration::from_secs_f64(0.2 * random.f64())).await;
        }
        Ok(())
    });
    Ok(())
}

async fn price(Json(number): Json<u64>) -> Result<Json<u64>, &'static str> {
    if fastrand::u8(..) < 51 { Err("busy") } else { Ok(Json(100 * number)) }
}
