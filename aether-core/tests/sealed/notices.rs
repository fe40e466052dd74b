//! The notice that nobody hears a message (status 503) is the server's and cannot be sealed. An enemy that hears a question
//! knows where it is awaited, and sends it at once, also for each frame with which the asker looks again.

use aether_core::conformance::NatsServer;
use aether_core::seal::SealKeys;
use aether_core::{AskError, EchoReason, Kind, Vibrator, Wave};
use futures::StreamExt;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;
use tokio::task::JoinHandle;

use crate::scene::{PATIENCE, Scene, connect, next, options, within};

/// Says of everything below `aether-ask` that nobody hears it, in the server's place. The client of the tests cannot send a
/// status, so it speaks the protocol itself.
async fn say_nobody_hears(server: &NatsServer) -> JoinHandle<()> {
    let client = async_nats::connect(server.url()).await.unwrap();
    let mut heard = client.subscribe("aether-ask.>").await.unwrap();
    // The server processes one client's messages in order.
    let mut fence = client.subscribe("fence.notices").await.unwrap();
    client.publish("fence.notices", "".into()).await.unwrap();
    fence.next().await.unwrap();
    let mut raw = TcpStream::connect(("127.0.0.1", server.port())).await.unwrap();
    raw.set_nodelay(true).unwrap();
    raw.write_all(b"CONNECT {\"verbose\":false,\"headers\":true}\r\n").await.unwrap();
    tokio::spawn(async move {
        let headers = "NATS/1.0 503\r\n\r\n";
        let length = headers.len();
        while let Some(message) = heard.next().await {
            if let Some(reply) = message.reply {
                let said = format!("HPUB {reply} {length} {length}\r\n{headers}\r\n");
                raw.write_all(said.as_bytes()).await.unwrap();
            }
        }
    })
}

/// Waits until so many notices were found out.
async fn found_out(scene: &Scene, notices: u64) {
    within("the notices", async {
        while scene.here.status().implausible < notices {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_forged_notice_that_nobody_listens_ends_no_question() {
    const QUESTIONS: u64 = 200;
    let mut scene = Scene::new().await;
    let enemy = say_nobody_hears(&scene.server).await;
    for number in 1..=QUESTIONS {
        let asker = scene.shop.emitter();
        let question = Wave::builder("shop.price").text("?").build().unwrap();
        let asked = tokio::spawn(async move { asker.ask_within(question, PATIENCE).await });
        let question = next(&mut scene.ear).await;
        // The answer comes after the notice, and after it was found out.
        found_out(&scene, number).await;
        assert!(!asked.is_finished(), "question {number}");
        question.reply_bytes("1").await.unwrap();
        let answer = within("the answer", asked).await.unwrap();
        assert_eq!(answer.unwrap().text().unwrap(), "1", "question {number}");
    }
    assert_eq!(scene.here.status().stray_answers, 0);
    enemy.abort();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_forged_notice_brings_no_command_back() {
    const COMMANDS: u64 = 200;
    let mut scene = Scene::new().await;
    let enemy = say_nobody_hears(&scene.server).await;
    for _ in 0..COMMANDS {
        let command = Wave::builder("shop.load").kind(Kind::Command).text("x").build().unwrap();
        scene.shop.emit(command).await.unwrap();
        next(&mut scene.ear).await;
    }
    // Most notices come after the marker behind the inquiry, which is then closed. The others are looked at again.
    scene.here.flush().await.unwrap();
    scene.only_the_next_wave_arrives().await;
    scene.here.flush().await.unwrap();
    assert_eq!(scene.here.echo_ledger().reflected, 0, "{:?}", scene.here.echo_ledger());
    enemy.abort();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn that_nobody_listens_is_still_known_at_once() {
    let server = NatsServer::start().await.unwrap();
    let here = connect(&server.url(), options(SealKeys::generate().unwrap())).await;
    let shop = Vibrator::create("shop", &here).await.unwrap();
    let mut echoes = shop.echoes().await.unwrap();
    let question = Wave::builder("nobody.price").text("?").build().unwrap();
    let asked = within("the notice", shop.ask_within(question, 2 * PATIENCE)).await;
    assert!(matches!(asked, Err(AskError::NoResonator { .. })), "{asked:?}");
    shop.emit(Wave::builder("nobody.load").kind(Kind::Command).build().unwrap()).await.unwrap();
    let echo = within("the echo", echoes.receive()).await.unwrap();
    assert_eq!((echo.channel.as_str(), echo.reason), ("nobody.load", EchoReason::NoResonator));
    assert_eq!(here.status().implausible, 0);
}
