//! The scenarios: who runs, what is broken and when.

use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use nix::sys::signal::Signal;
use tokio::time::sleep;

use crate::Outcome;
use crate::beside::{Tasks, batches, job, limiter, repeated};
use crate::program::Program;
use crate::stage::{Stage, pass};

type Playing<'a> = Pin<Box<dyn Future<Output = Outcome> + Send + 'a>>;

/// A scenario: its name, whether its recording is small enough to be kept in the repository, and its plot.
#[derive(Clone, Copy)]
pub(crate) struct Scenario {
    pub(crate) name: &'static str,
    is_small: bool,
    plot: fn(&mut Stage) -> Playing<'_>,
}

impl Scenario {
    pub(crate) async fn play(&self, stage: &mut Stage) -> Outcome {
        (self.plot)(stage).await
    }
}

macro_rules! scenario {
    ($name:literal, $is_small:literal, $plot:ident) => {
        Scenario { name: $name, is_small: $is_small, plot: |stage| Box::pin($plot(stage)) }
    };
}

/// Those without a fault to page for come first.
const SCENARIOS: [Scenario; 19] = [
    scenario!("healthy-idle", true, idle),
    scenario!("healthy-steady", true, steady),
    scenario!("healthy-bursts", true, bursts),
    scenario!("healthy-jobs", true, jobs),
    scenario!("healthy-retries", true, retries),
    scenario!("healthy-rapid", true, rapid),
    scenario!("healthy-observer-paused", true, observer_paused),
    scenario!("healthy-deployed", true, deployed),
    scenario!("healthy-load", false, load),
    scenario!("healthy-long", false, long),
    scenario!("broker-killed", true, broker_killed),
    scenario!("beta-killed", true, beta_killed),
    scenario!("beta-ended", true, beta_ended),
    scenario!("beta-silent-killed", true, beta_silent_killed),
    scenario!("beta-frozen", true, beta_frozen),
    scenario!("beta-restarted", true, beta_restarted),
    scenario!("beta-slowed", true, beta_slowed),
    scenario!("alpha-killed", true, alpha_killed),
    scenario!("beside-beta-killed", true, beside_beta_killed),
];

/// The named scenarios; all small ones without names.
pub(crate) fn chosen(names: &[String]) -> Outcome<Vec<Scenario>> {
    if names.is_empty() {
        return Ok(SCENARIOS.into_iter().filter(|scenario| scenario.is_small).collect());
    }
    let find = |name: &String| {
        let all = SCENARIOS.map(|scenario| scenario.name).join(", ");
        let found = SCENARIOS.into_iter().find(|scenario| scenario.name == name);
        found.ok_or_else(|| format!("there is no scenario {name:?}: use {all}").into())
    };
    names.iter().map(find).collect()
}

async fn idle(stage: &mut Stage) -> Outcome {
    let _beta = stage.beta(&[]).await?;
    let _alpha = stage.alpha("0.3").await?;
    pass(90).await;
    Ok(())
}

async fn steady(stage: &mut Stage) -> Outcome {
    let _gateway = stage.gateway().await?;
    let _beta = stage.beta(&[]).await?;
    let _alpha = stage.alpha("8").await?;
    pass(75).await;
    Ok(())
}

async fn bursts(stage: &mut Stage) -> Outcome {
    let _beta = stage.beta(&[]).await?;
    let _alpha = stage.alpha("2").await?;
    let (aether, mut tasks) = (stage.connect().await?, Tasks::new());
    batches(&mut tasks, &aether, "shop", 40, Duration::from_secs(4), false).await?;
    batches(&mut tasks, &aether, "mobile", 15, Duration::from_secs(2), false).await?;
    batches(&mut tasks, &aether, "import", 10, Duration::from_secs(5), true).await?;
    pass(75).await;
    Ok(())
}

async fn jobs(stage: &mut Stage) -> Outcome {
    let _beta = stage.beta(&[]).await?;
    let _alpha = stage.alpha("2").await?;
    let (aether, mut tasks) = (stage.connect().await?, Tasks::new());
    beside(&mut tasks, &aether).await?;
    pass(90).await;
    Ok(())
}

/// Jobs of several periods, batches and a limiter.
async fn beside(tasks: &mut Tasks, aether: &aether_core::Aether) -> Outcome {
    for (name, millis) in [("pulse", 1000), ("sweep", 2500), ("report", 10_000), ("backup", 60_000)] {
        job(tasks, aether, name, Duration::from_millis(millis)).await?;
    }
    batches(tasks, aether, "export", 20, Duration::from_millis(500), true).await?;
    limiter(tasks, aether, 20.0).await
}

async fn retries(stage: &mut Stage) -> Outcome {
    let _beta = stage.beta(&[]).await?;
    let _alpha = stage.alpha("2").await?;
    let (aether, mut tasks) = (stage.connect().await?, Tasks::new());
    repeated(&mut tasks, &aether).await?;
    pass(75).await;
    Ok(())
}

async fn rapid(stage: &mut Stage) -> Outcome {
    let _beta = stage.beta(&[]).await?;
    let _alpha = stage.alpha("50").await?;
    let _sensor = stage.emit(&["sensors.temp", "17", "--count", "100000", "--rate", "800"])?;
    pass(12).await;
    Ok(())
}

async fn observer_paused(stage: &mut Stage) -> Outcome {
    let _beta = stage.beta(&[]).await?;
    let _alpha = stage.alpha("6").await?;
    pass(30).await;
    stage.begins("observer paused", "");
    stage.pause_recorder(9).await?;
    stage.ends("observer paused", "");
    pass(25).await;
    Ok(())
}

/// A new instance starts before the old one ends.
async fn deployed(stage: &mut Stage) -> Outcome {
    let old = stage.beta(&[]).await?;
    let _alpha = stage.alpha("6").await?;
    pass(30).await;
    stage.begins("deployed", "beta");
    let _new = stage.beta(&[]).await?;
    pass(2).await;
    old.terminate().await?;
    stage.ends("deployed", "beta");
    pass(30).await;
    Ok(())
}

/// The three processes under load, as in the README of the goals: too large to be kept.
async fn load(stage: &mut Stage) -> Outcome {
    let _gateway = stage.gateway().await?;
    let _beta = stage.beta(&[]).await?;
    let _alpha = stage.alpha("50").await?;
    let _sensor = stage.emit(&["sensors.temp", "17", "--count", "100000000", "--rate", "20000"])?;
    pass(120).await;
    Ok(())
}

/// Ten minutes of everything that is healthy.
async fn long(stage: &mut Stage) -> Outcome {
    let _gateway = stage.gateway().await?;
    let _beta = stage.beta(&[]).await?;
    let _alpha = stage.alpha("20").await?;
    let (aether, mut tasks) = (stage.connect().await?, Tasks::new());
    beside(&mut tasks, &aether).await?;
    batches(&mut tasks, &aether, "shop", 40, Duration::from_secs(4), false).await?;
    repeated(&mut tasks, &aether).await?;
    pass(600).await;
    Ok(())
}

async fn broker_killed(stage: &mut Stage) -> Outcome {
    let _beta = stage.beta(&[]).await?;
    let _alpha = stage.alpha("5").await?;
    for _ in 0..2 {
        pass(25).await;
        stage.begins("killed", "");
        stage.server.kill().await?;
        pass(8).await;
        stage.server.restart().await?;
        stage.ends("killed", "");
    }
    pass(25).await;
    Ok(())
}

async fn beta_killed(stage: &mut Stage) -> Outcome {
    let beta = stage.beta(&[]).await?;
    let _alpha = stage.alpha("6").await?;
    killed(stage, "beta", beta, 35, 25).await
}

/// After some seconds a service is killed, and it stays away for some.
async fn killed(stage: &mut Stage, service: &str, program: Program, after: u64, away: u64) -> Outcome {
    pass(after).await;
    stage.begins("stopped", service);
    program.kill().await?;
    pass(away).await;
    stage.ends("stopped", service);
    Ok(())
}

/// The same by Ctrl-C or a service manager: beta takes its leave.
async fn beta_ended(stage: &mut Stage) -> Outcome {
    let beta = stage.beta(&[]).await?;
    let _alpha = stage.alpha("6").await?;
    pass(35).await;
    stage.begins("stopped", "beta");
    beta.terminate().await?;
    pass(25).await;
    stage.ends("stopped", "beta");
    Ok(())
}

/// Without heartbeat: only its answers and events show that it lives.
async fn beta_silent_killed(stage: &mut Stage) -> Outcome {
    let beta = stage.beta(&["--heartbeat", "0", "--restock-every", "0", "--units", "100000"]).await?;
    let _alpha = stage.alpha("4").await?;
    killed(stage, "beta", beta, 35, 25).await
}

async fn beta_frozen(stage: &mut Stage) -> Outcome {
    let beta = stage.beta(&[]).await?;
    let _alpha = stage.alpha("6").await?;
    pass(30).await;
    stage.begins("frozen", "beta");
    beta.signal(Signal::SIGSTOP)?;
    pass(15).await;
    beta.signal(Signal::SIGCONT)?;
    stage.ends("frozen", "beta");
    pass(20).await;
    Ok(())
}

async fn beta_restarted(stage: &mut Stage) -> Outcome {
    let beta = stage.beta(&[]).await?;
    let _alpha = stage.alpha("6").await?;
    pass(30).await;
    stage.begins("restarted", "beta");
    beta.kill().await?;
    pass(12).await;
    let _beta = stage.beta(&[]).await?;
    stage.ends("restarted", "beta");
    pass(20).await;
    Ok(())
}

/// Beta gets a tenth of its time, in slices of half a second.
async fn beta_slowed(stage: &mut Stage) -> Outcome {
    let beta = stage.beta(&[]).await?;
    let _alpha = stage.alpha("6").await?;
    pass(30).await;
    stage.begins("slowed", "beta");
    for _ in 0..40 {
        beta.signal(Signal::SIGSTOP)?;
        sleep(Duration::from_millis(450)).await;
        beta.signal(Signal::SIGCONT)?;
        sleep(Duration::from_millis(50)).await;
    }
    stage.ends("slowed", "beta");
    pass(20).await;
    Ok(())
}

async fn alpha_killed(stage: &mut Stage) -> Outcome {
    let _beta = stage.beta(&[]).await?;
    let alpha = stage.alpha("6").await?;
    killed(stage, "alpha", alpha, 40, 20).await
}

/// Beta stops among jobs, batches and a limiter, which go on.
async fn beside_beta_killed(stage: &mut Stage) -> Outcome {
    let beta = stage.beta(&[]).await?;
    let _alpha = stage.alpha("4").await?;
    let (aether, mut tasks) = (stage.connect().await?, Tasks::new());
    beside(&mut tasks, &aether).await?;
    killed(stage, "beta", beta, 35, 20).await
}
