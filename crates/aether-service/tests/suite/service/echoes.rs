//! Being told: what a service learns of its own waves that failed.

use std::time::Duration;

use aether_conformance::NatsServer;
use aether_core::echo::EchoesError;
use aether_core::wave::EchoRequest;
use aether_core::{Aether, Echo, EchoReason, Emitter, Kind, Vibrator, Wave, WaveBuilder};
use aether_service::{Json, Service, State};
use tokio::sync::mpsc;

use crate::service::stage::{LONG, Stage, listener};

type Told = mpsc::UnboundedSender<(Echo, u32)>;

/// Tells the test, and emits an alert.
async fn failed(echo: Echo, State(told): State<Told>, Json(order): Json<u32>, emitter: Emitter) {
    emitter.emit_wave("alerts.failed", &order).await.unwrap();
    let _ = told.send((echo, order));
}

fn order(kind: Kind) -> WaveBuilder {
    let request = EchoRequest::told().payload();
    Wave::builder("stock.reserve")
        .kind(kind)
        .key("order-17")
        .metadata("tenant", "blue")
        .json(17)
        .echo(request)
}

/// A shop emits waves, and a stock in another process, or in the same, fails at them.
async fn failures_come_back(shops: Aether, stocks: Aether) {
    let (told, mut echoes) = mpsc::unbounded_channel();
    let shop = Service::builder("shop")
        .state(told)
        .on("shop.>", async || {})
        .on_echo(failed)
        .build(&shops)
        .await
        .unwrap();
    let emitter = shop.emitter();
    let shop = Stage::run(&shops, shop).await;
    let stock = Service::builder("stock")
        .on("stock.reserve", async || -> Result<(), std::io::Error> {
            Err(std::io::Error::other("no such lamp"))
        })
        .build(&stocks)
        .await
        .unwrap();
    let stock = Stage::run(&stocks, stock).await;
    let mut alerts = listener(&stocks, "alerts.failed").await;
    for kind in [Kind::Command, Kind::Event] {
        let receipt = emitter.emit(order(kind).build().unwrap()).await.unwrap();
        let (echo, number) = tokio::time::timeout(LONG, echoes.recv()).await.expect("an echo").unwrap();
        assert_eq!((&echo.of, number), (&emitter.id_of(&receipt), 17));
        assert_eq!(
            (echo.reason, &*echo.hint, &*echo.by),
            (EchoReason::HandlerFailed, "no such lamp", "stock")
        );
        assert_eq!((echo.key(), echo.metadata().value("tenant")), (Some("order-17"), Some("blue")));
        assert_eq!(echo.wave.as_ref().map(|wave| wave.kind), Some(kind));
        // Waves that the handler emits name the failed wave as their cause.
        let alert = tokio::time::timeout(LONG, alerts.receive()).await.unwrap().unwrap();
        assert_eq!(alert.cause(), Some(&echo.of));
    }
    stock.close().await;
    let report = shop.close().await;
    assert_eq!(
        (report.echoes, report.echoes_failed, report.echoes_left, report.received),
        (2, 0, 0, 0),
        "{report}"
    );
}

#[tokio::test]
async fn a_handler_of_echoes_gets_what_failed_with_its_key_metadata_and_payload() {
    let aether = Aether::local();
    failures_come_back(aether.clone(), aether).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_handler_of_echoes_gets_what_failed_in_another_process_over_nats() {
    let server = NatsServer::start().await.unwrap();
    let [shops, stocks] = [aether::connect(&server.url()).await, aether::connect(&server.url()).await];
    failures_come_back(shops.unwrap(), stocks.unwrap()).await;
}

#[tokio::test(start_paused = true)]
async fn a_handler_of_echoes_that_fails_is_counted_and_the_next_echo_is_handled() {
    let (told, mut handled) = mpsc::unbounded_channel();
    let moody = async |echo: Echo, State(told): State<mpsc::UnboundedSender<String>>| {
        told.send(echo.key().unwrap().to_owned()).unwrap();
        match echo.key() {
            Some("fails") => return Err("a mood"),
            Some("panics") => panic!("a mood"),
            Some("hangs") => std::future::pending().await,
            _ => {}
        }
        Ok(())
    };
    let builder = Service::builder("shop")
        .time_out(Duration::from_secs(1))
        .on("shop", async || {})
        .state(told)
        .on_echo(moody);
    let aether = Aether::local();
    let service = builder.build(&aether).await.unwrap();
    let emitter = service.emitter();
    let stage = Stage::run(&aether, service).await;
    for key in ["fails", "panics", "hangs", "is fine"] {
        let wave = Wave::builder("nobody").kind(Kind::Command).key(key).build().unwrap();
        emitter.emit(wave).await.unwrap();
        assert_eq!(handled.recv().await.unwrap(), key);
    }
    let report = stage.close().await;
    assert_eq!((report.echoes, report.echoes_failed, report.echoes_left), (1, 3, 0), "{report}");
}

/// The echoes of what the handlers emit while the service ends are handled, too, within the grace period.
#[tokio::test(start_paused = true)]
async fn a_service_that_ends_handles_its_last_echoes_within_the_grace_period() {
    for (takes, (handled, left)) in [(1, (2, 0)), (6, (1, 1)), (60, (0, 2))] {
        let slow = move |_: Echo| tokio::time::sleep(Duration::from_secs(takes));
        let last_words = async |emitter: Emitter| {
            for _ in 0..2 {
                let wave = Wave::builder("nobody").kind(Kind::Command).build().unwrap();
                emitter.emit(wave).await.unwrap();
            }
        };
        let builder = Service::builder("shop")
            .grace(Duration::from_secs(10))
            .on_query("shop", last_words)
            .on_echo(slow);
        let stage = Stage::of(builder).await;
        stage.ask("shop", &()).await.unwrap();
        let report = stage.close().await;
        assert_eq!(
            (report.echoes, report.echoes_left, report.succeeded),
            (handled, left, 1),
            "{takes} s: {report}"
        );
    }
}

#[tokio::test]
async fn the_echoes_of_a_service_are_a_stream_or_have_a_handler() {
    let aether = Aether::local();
    let service = Service::builder("shop").on("shop", async || {}).build(&aether).await.unwrap();
    let mut echoes = service.echoes().await.unwrap();
    let emitter = service.emitter();
    emitter.emit(order(Kind::Event).build().unwrap()).await.unwrap();
    let echo = echoes.receive().await.unwrap();
    assert_eq!((echo.reason, echo.payload().unwrap().as_ref()), (EchoReason::NoResonator, &b"17"[..]));
    let service = Service::builder("shop").on("shop", async || {}).on_echo(async |_: Echo| {});
    let service = service.build(&aether).await.unwrap();
    assert!(matches!(service.echoes().await, Err(EchoesError::Taken { .. })));
}

/// Nobody asked for these, so nobody gets an echo.
#[tokio::test]
async fn events_that_do_not_ask_are_not_told_of() {
    let aether = Aether::local();
    let user = Vibrator::create("shop", &aether).await.unwrap();
    let mut echoes = user.echoes().await.unwrap();
    user.emit_wave("nobody", &1).await.unwrap();
    user.emit(Wave::builder("nobody").kind(Kind::Response).echo(EchoRequest::told()).build().unwrap())
        .await
        .unwrap();
    user.emit(order(Kind::Event).build().unwrap()).await.unwrap();
    let only = echoes.receive().await.unwrap();
    assert_eq!((only.of.sequence, aether.echo_ledger().reflected), (3, 1));
}
