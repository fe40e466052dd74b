//! The notice that nobody hears a message (status 503) is the server's and cannot be sealed. An enemy that hears a question
//! knows where it is awaited, and sends it at once, also for each frame with which the asker looks again.

use aether::seal::SealKeys;
use aether_conformance::NatsServer;
use aether_core::{AskError, EchoReason, Kind, Vibrator, Wave};
use futures::StreamExt;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::sealed::scene::{PATIENCE, Scene, connect, next, options, within};
use crate::settling::flushed;

/// With this number of frames an asker looks again.
const FRAMES_OF_A_LOOK: u64 = 12;

/// Claims of everything below `aether-ask` that nobody hears it, in the server's place, and counts how often for
/// `shop.price`. The client of the tests cannot send a status, so it speaks the protocol itself.
async fn say_nobody_hears(server: &NatsServer) -> (JoinHandle<()>, watch::Receiver<u64>) {
    let client = async_nats::connect(server.url()).await.unwrap();
    let mut heard = client.subscribe("aether-ask.>").await.unwrap();
    // The server processes one client's messages in order.
    let mut fence = client.subscribe("fence.notices").await.unwrap();
    client.publish("fence.notices", "".into()).await.unwrap();
    fence.next().await.unwrap();
    let mut raw = TcpStream::connect(("127.0.0.1", server.port())).await.unwrap();
    raw.set_nodelay(true).unwrap();
    raw.write_all(b"CONNECT {\"verbose\":false,\"headers\":true}\r\n").await.unwrap();
    let (count, counted) = watch::channel(0);
    let enemy = tokio::spawn(async move {
        let headers = "NATS/1.0 503\r\n\r\n";
        let length = headers.len();
        while let Some(message) = heard.next().await {
            if let Some(reply) = message.reply {
                let said = format!("HPUB {reply} {length} {length}\r\n{headers}\r\n");
                raw.write_all(said.as_bytes()).await.unwrap();
                count.send_modify(|count| *count += u64::from(message.subject.ends_with(".shop.price")));
            }
        }
    });
    (enemy, counted)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_forged_notice_that_nobody_listens_ends_no_question() {
    const QUESTIONS: u64 = 200;
    let mut scene = Scene::new().await;
    let (enemy, mut notices) = say_nobody_hears(&scene.server).await;
    for number in 1..=QUESTIONS {
        let asker = scene.shop.emitter();
        let question = Wave::builder("shop.price").text("?").build().unwrap();
        let asked = tokio::spawn(async move { asker.ask_within(question, PATIENCE).await });
        let question = next(&mut scene.ear).await;
        // The answer comes after the notice, which made the asker look again, and after the markers of that look.
        let looked = notices.wait_for(|count| *count == number * (1 + FRAMES_OF_A_LOOK));
        within("the look", looked).await.unwrap();
        flushed(&scene.here).await;
        assert!(!asked.is_finished(), "question {number}");
        question.reply_bytes("1").await.unwrap();
        let answer = within("the answer", asked).await.unwrap();
        assert_eq!(answer.unwrap().text().unwrap(), "1", "question {number}");
    }
    assert_eq!(scene.here.status().stray_answers, 0);
    // An answer can overtake the end of the look, which then counts nothing.
    assert!(scene.here.status().implausible > 0);
    enemy.abort();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_forged_notice_brings_no_command_back() {
    const COMMANDS: u64 = 200;
    let mut scene = Scene::new().await;
    let (enemy, _) = say_nobody_hears(&scene.server).await;
    for _ in 0..COMMANDS {
        let command = Wave::builder("shop.load").kind(Kind::Command).text("x").build().unwrap();
        scene.shop.emit(command).await.unwrap();
        next(&mut scene.ear).await;
    }
    // Most notices come after the marker behind the inquiry, which is then closed. The others are looked at again.
    flushed(&scene.here).await;
    scene.only_the_next_wave_arrives().await;
    flushed(&scene.here).await;
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

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn commands_that_nobody_hears_come_back_in_their_order() {
    let server = NatsServer::start().await.unwrap();
    let here = connect(&server.url(), options(SealKeys::generate().unwrap())).await;
    let shop = Vibrator::create("shop", &here).await.unwrap();
    let mut echoes = shop.echoes().await.unwrap();
    for _ in 0..50 {
        let channels: Vec<_> = (0..8).map(|number| format!("nobody.n{number}")).collect();
        for channel in &channels {
            shop.emit(Wave::builder(channel.as_str()).kind(Kind::Command)).await.unwrap();
        }
        for channel in &channels {
            let echo = within("the echo", echoes.receive()).await.unwrap();
            assert_eq!(echo.channel.as_str(), channel);
        }
    }
}

/// A way to the server that keeps back each look at a channel, so that it never ends: the frames without waves behind
/// the first question of the channel, each with the marker behind it.
async fn way_without_looks(server: &NatsServer, channel: &str) -> String {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let url = format!("nats://{}", listener.local_addr().unwrap());
    let (port, asked) = (server.port(), format!("aether-ask.{channel} "));
    tokio::spawn(async move {
        let (client, _) = listener.accept().await.unwrap();
        let (from_client, mut to_client) = client.into_split();
        let (mut from_server, mut to_server) =
            TcpStream::connect(("127.0.0.1", port)).await.unwrap().into_split();
        tokio::spawn(async move { tokio::io::copy(&mut from_server, &mut to_client).await });
        let mut from_client = BufReader::new(from_client);
        let (mut questions, mut is_marker_kept) = (0, false);
        let mut message = Vec::new();
        while from_client.read_until(b'\n', &mut message).await.unwrap() > 0 {
            let line = String::from_utf8_lossy(&message).into_owned();
            let mut is_kept = false;
            if let Some(arguments) = line.strip_prefix("PUB ") {
                let length: usize = arguments.trim_end().rsplit(' ').next().unwrap().parse().unwrap();
                let begin = message.len();
                message.resize(begin + length + 2, 0);
                from_client.read_exact(&mut message[begin..]).await.unwrap();
                if arguments.starts_with(&asked) {
                    questions += 1;
                    is_kept = questions > 1;
                    is_marker_kept |= is_kept;
                } else if arguments.contains(".marker ") && std::mem::take(&mut is_marker_kept) {
                    is_kept = true;
                }
            }
            if !is_kept {
                to_server.write_all(&message).await.unwrap();
            }
            message.clear();
        }
    });
    url
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_look_that_never_ends_is_given_up_and_its_command_is_counted() {
    let server = NatsServer::start().await.unwrap();
    let url = way_without_looks(&server, "nobody.stuck").await;
    let here = connect(&url, options(SealKeys::generate().unwrap())).await;
    let shop = Vibrator::create("shop", &here).await.unwrap();
    let mut echoes = shop.echoes().await.unwrap();
    for channel in ["nobody.stuck", "nobody.load"] {
        shop.emit(Wave::builder(channel).kind(Kind::Command)).await.unwrap();
    }
    // It waits for its turn.
    let echo = within("the echo", echoes.receive()).await.unwrap();
    assert_eq!(echo.channel.as_str(), "nobody.load");
    // The echo can arrive before the broker's confirmation that it has a receiver.
    within("the failures to settle", here.echoes_settled()).await;
    let ledger = here.echo_ledger();
    assert_eq!((ledger.reflected, ledger.echoed, ledger.unconfirmed), (2, 1, 1), "{ledger:?}");
}
