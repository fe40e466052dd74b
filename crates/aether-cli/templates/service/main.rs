//! The service greeter: greets whoever asks, and tells everybody whom it has greeted.
//!
//! Run it with a NATS server:
//! `AETHER_MEDIUM=nats://127.0.0.1:4222 cargo run`, and ask it with
//! `aether ask greeter.greet '{"name":"Ada"}'`.

use std::process::ExitCode;

use aether::{ConnectError, EmitError, Emitter, Wave};
use aether_metrics::{Metrics, ServeError};
use aether_service::{
    CancellationToken, ConfigArgs, Configuration, LostWaves, Service, ServiceBuilder, ServiceError,
    Typed, close_with_account,
    config::ConfigError,
    run,
    schemars::{self, JsonSchema},
};
use clap::Parser;
use serde::{Deserialize, Serialize};

/// Greets
#[derive(Debug, Parser)]
#[command(version)]
struct Args {
    #[command(flatten)]
    config: ConfigArgs,
}

#[derive(Debug, Serialize, Deserialize, JsonSchema)]
struct Guest {
    name: String,
}

/// The handlers of the service. Of several instances one answers each question.
fn service(config: &Configuration) -> ServiceBuilder {
    Service::builder("greeter")
        .configured(config)
        .group("greeter")
        .on_query("greeter.greet", greet)
        .emits::<Guest>("greeter.greeted")
        .describe(env!("CARGO_PKG_VERSION"), "Greets whoever asks")
}

/// The arguments are taken from the wave; the value is the answer. Waves that it emits name the question as their cause.
async fn greet(Typed(guest): Typed<Guest>, emitter: Emitter) -> Result<Typed<String>, EmitError> {
    emitter
        .emit(
            Wave::builder("greeter.greeted")
                .key(&guest.name)
                .json(&guest),
        )
        .await?;
    Ok(Typed(format!("hello, {}", guest.name)))
}

#[derive(Debug, thiserror::Error)]
enum Failed {
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error("the service cannot use its medium")]
    Connect(#[from] ConnectError),
    #[error("the service failed")]
    Service(#[from] ServiceError),
    #[error(transparent)]
    Metrics(#[from] ServeError),
    #[error(transparent)]
    Lost(#[from] LostWaves),
}

async fn serve(args: Args, shutdown: CancellationToken) -> Result<(), Failed> {
    let config = args.config.load_common()?;
    let Some(aether) = config.connect_until(&shutdown, "greeter").await? else {
        return Ok(());
    };
    let service = service(&config).build(&aether).await?;
    // With --metrics ADDRESS, for Prometheus.
    let _metrics = Metrics::of(&aether)
        .service(&service)
        .serve_configured(&config)
        .await?;
    let report = service.run_until(shutdown).await?;
    println!("{report}");
    Ok(close_with_account(&aether).await?)
}

fn main() -> ExitCode {
    let args = Args::parse();
    run(|shutdown| serve(args, shutdown))
}

#[cfg(test)]
mod tests {
    use super::*;
    use aether_testing::TestBus;

    #[tokio::test(start_paused = true)]
    async fn a_guest_is_greeted_and_everybody_hears_of_it() {
        let bus = TestBus::start().await;
        bus.serve(service(&Configuration::default())).await;
        let mut probe = bus.probe("greeter.greeted").await;
        let asker = bus.vibrator("asker").await;

        let answer = asker
            .ask_wave(
                "greeter.greet",
                &Guest {
                    name: "Ada".to_owned(),
                },
            )
            .await
            .unwrap();
        assert_eq!(answer.json::<String>().unwrap(), "hello, Ada");
        let greeted = probe.wave("greeter.greeted").await;
        assert_eq!(
            (greeted.key(), greeted.cause()),
            (Some("Ada"), answer.cause())
        );
        bus.finish().await;
    }
}
