//! Dead letters of services: the wave as it was, and what was tried.

use std::time::{Duration, SystemTime};

use aether_conformance::NatsServer;
use aether_core::echo::DeadLetter;
use aether_core::wave::EchoRequest;
use aether_core::{Aether, DeadLetters, Kind, Wave};
use aether_service::{Resend, RetryBudget, Service, State};
use tokio::sync::mpsc;

use crate::service::stage::{LONG, Stage};

fn retries(most: u8) -> Resend {
    let pause = Duration::from_millis(1);
    Resend::default().most(most).budget(RetryBudget::unlimited()).pauses(pause, pause).unwrap()
}

/// Reports each attempt and fails at it.
async fn reluctant(State(seen): State<mpsc::UnboundedSender<Wave>>, wave: Wave) -> Result<(), String> {
    let attempt = wave.attempt();
    let _ = seen.send(wave);
    Err(format!("not at attempt {attempt}"))
}

/// The only letter, once it is there: over NATS only the server knows when the source does not listen.
async fn only(letters: &DeadLetters) -> DeadLetter {
    let there = async {
        loop {
            if let [letter] = &letters.list()[..] {
                return letter.clone();
            }
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(LONG, there).await.expect("a letter")
}

/// A command fails three times, becomes a letter, is sent again, and fails again.
async fn letters_are_as_the_waves_were(shops: Aether, stocks: Aether) {
    let (seen, mut attempts) = mpsc::unbounded_channel();
    let began = SystemTime::now();
    let builder = Service::builder("stock").retry(retries(2)).state(seen).on("stock.>", reluctant);
    let stage = Stage::run(&stocks, builder.build(&stocks).await.unwrap()).await;
    let shop = shops.emitter("shop").unwrap();
    let order = Wave::builder("stock.reserve").kind(Kind::Command).amplitude(0.8).key("17").text("a lamp");
    let receipt = shop.emit(order.metadata("tenant", "blue").build().unwrap()).await.unwrap();
    let mut handled = async |waves: usize| {
        let mut seen = Vec::new();
        for _ in 0..waves {
            seen.push(tokio::time::timeout(LONG, attempts.recv()).await.expect("an attempt").unwrap());
        }
        seen
    };
    let amplitudes: Vec<_> = handled(3).await.iter().map(|wave| wave.amplitude().as_f32()).collect();
    assert_eq!(amplitudes.iter().map(|a| (a * 10.0).round()).collect::<Vec<_>>(), [8.0, 4.0, 2.0]);
    let letters = stocks.dead_letters();
    let letter = only(&letters).await;
    let wave = &letter.wave;
    assert_eq!((wave.id(), wave.text().unwrap()), (shop.id_of(&receipt), "a lamp"));
    assert_eq!((wave.key(), wave.metadata().value("tenant"), wave.attempt()), (Some("17"), Some("blue"), 0));
    assert_eq!(wave.amplitude(), Wave::builder("a").amplitude(0.8).build().unwrap().amplitude());
    let failed: Vec<_> = letter.failed.iter().map(|failed| (failed.attempt, failed.error.as_str())).collect();
    assert_eq!(failed, [(0, "not at attempt 0"), (1, "not at attempt 1"), (2, "not at attempt 2")]);
    assert!(letter.failed.is_sorted_by_key(|failed| failed.at));
    assert!(letter.failed[0].at >= began && letter.failed[2].at <= letter.at);
    // Sent again, it is as strong as at first, and a new letter counts what was tried before.
    let clerk = stocks.emitter("clerk").unwrap();
    letters.replay(letter.number, &clerk).await.unwrap();
    assert_eq!(handled(3).await[0].amplitude(), wave.amplitude());
    let second = only(&letters).await;
    assert_eq!((letter.attempts, letter.failed.len()), (3, 3), "the attempts of the handler count");
    assert_eq!((second.attempts, second.failed.len(), second.id.store), (6, 3, letters.store()));
    assert_eq!(second.wave.cause(), Some(&shop.id_of(&receipt)));
    stage.close().await;
    let counts = letters.counts();
    assert!(counts.adds_up() && (counts.buried, counts.kept, counts.taken) == (2, 1, 1), "{counts:?}");
}

#[tokio::test]
async fn a_letter_is_the_wave_as_it_was_with_all_of_its_attempts() {
    let aether = Aether::local();
    letters_are_as_the_waves_were(aether.clone(), aether).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_letter_is_the_wave_as_it_was_with_all_of_its_attempts_over_nats() {
    let server = NatsServer::start().await.unwrap();
    let [shops, stocks] = [aether::connect(&server.url()).await, aether::connect(&server.url()).await];
    letters_are_as_the_waves_were(shops.unwrap(), stocks.unwrap()).await;
}

#[tokio::test(start_paused = true)]
async fn an_event_that_asks_becomes_a_letter_and_others_do_not() {
    let aether = Aether::local();
    let never = async || -> Result<(), &str> { Err("never") };
    let stage =
        Stage::run(&aether, Service::builder("stock").on("stock", never).build(&aether).await.unwrap()).await;
    for (text, request) in [("asked", Some(EchoRequest::told())), ("not asked", None)] {
        let wave = Wave::builder("stock").text(text);
        let wave = request.into_iter().fold(wave, |wave, request| wave.echo(request));
        stage.user.emit(wave.build().unwrap()).await.unwrap();
    }
    let report = stage.close().await;
    assert_eq!(report.failed + report.left, 2, "{report}");
    let texts: Vec<_> =
        aether.dead_letters().list().iter().map(|letter| letter.wave.text().unwrap().to_owned()).collect();
    assert_eq!(texts, ["asked"]);
}
