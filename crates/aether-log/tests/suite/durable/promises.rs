//! The promises of a durable log, line by line. A test that waits for nothing to happen waits for a later wave instead.

use std::collections::BTreeSet;
use std::num::{NonZeroU32, NonZeroUsize};
use std::sync::Arc;
use std::time::Duration;

use aether_core::EmitError;
use aether_core::{Aether, Durability, Vibrator, Wave};
use aether_log::{
    ConsumeError, Consumer, ConsumerOptions, DeadError, Delivery, DurableLog, ResonateDurable, Start,
};
use futures_util::FutureExt as _;
use futures_util::future::try_join_all;
use parking_lot::Mutex;

pub(crate) use crate::durable::fair::d19_each_tenant_gets_its_part_whatever_the_others_emit;
pub(crate) use crate::durable::keyed::{
    d16_each_key_is_in_order_and_a_failed_wave_holds_its_key_only,
    d17_a_wave_that_goes_back_or_is_given_up_lets_its_key_go_on,
};
pub(crate) use crate::durable::limits::d20_no_tenant_gets_more_than_its_limit_and_holds_up_no_other;
use crate::durable::stage::{Place, connect, none_until, order, position, quick, receive, text};
pub(crate) use crate::durable::unique::d18_a_unique_wave_is_stored_and_heard_once;

/// Emits a wave for each text, one after the other.
async fn emit(aether: &Aether, texts: impl IntoIterator<Item = u64>) {
    let shop = aether.emitter("shop").unwrap();
    for number in texts {
        shop.emit(order(number.to_string(), 0.5)).await.unwrap();
    }
}

fn billing(log: &DurableLog) -> Consumer {
    log.consumer("billing", "orders.>", quick()).unwrap()
}

pub(crate) async fn d1_a_receipt_names_the_level_and_a_position_that_grows(place: &Place) {
    let log = place.open().await;
    let aether = connect(&log).await;
    let shop = aether.emitter("shop").unwrap();
    let mut last = 0;
    for number in 0..20 {
        let receipt = shop.emit(order(number.to_string(), 0.5)).await.unwrap();
        assert_eq!(receipt.stored.unwrap().durability, Durability::Stored);
        assert!(position(&receipt) > last, "{receipt:?}");
        last = position(&receipt);
    }
    // Also across a restart.
    drop((shop, aether, log));
    let log = place.open().await;
    let aether = connect(&log).await;
    let receipt = aether.emitter("shop").unwrap().emit(order("again", 0.5)).await.unwrap();
    assert!(position(&receipt) > last, "{receipt:?}");
    let consumer = billing(&log);
    // Held until the end: one that is let go comes again after a pause.
    let mut held = Vec::new();
    for number in 0..20 {
        let delivery = receive(&consumer).await;
        assert_eq!(text(&delivery), number.to_string(), "in the order of the positions");
        held.push(delivery);
    }
}

pub(crate) async fn d2_a_wave_is_stored_before_live_receivers_hear_it_and_others_are_not_stored(
    place: &Place,
) {
    let log = place.open().await;
    let aether = connect(&log).await;
    let mut live = Vibrator::create("live", &aether).await.unwrap();
    live.resonate_on(">").await.unwrap();
    let shop = aether.emitter("shop").unwrap();
    let plain = shop.emit(Wave::builder("plain").text("plain").build().unwrap()).await.unwrap();
    assert_eq!(plain.stored, None, "its channel is not durable");
    let refused = shop.try_emit(order("never", 0.5)).unwrap_err();
    assert!(matches!(refused, EmitError::NotStored(_)), "{refused:?}");
    assert_eq!(refused.into_wave().unwrap().text().unwrap(), "never");
    let stored = shop.emit(order("stored", 0.5)).await.unwrap();
    let mut heard = Vec::new();
    for _ in 0..2 {
        heard.push(live.receive().await.unwrap().text().unwrap().to_owned());
    }
    assert_eq!(heard, ["plain", "stored"]);
    let everything = log.consumer("everything", ">", quick()).unwrap();
    let first = receive(&everything).await;
    assert_eq!((text(&first), first.position()), ("stored".to_owned(), position(&stored)));
}

pub(crate) async fn d3_a_cancelled_emit_is_stored_and_carried_or_neither(place: &Place) {
    let log = place.open().await;
    let aether = connect(&log).await;
    let mut live = Vibrator::create("live", &aether).await.unwrap();
    live.resonate_on("orders.>").await.unwrap();
    let shop = aether.emitter("shop").unwrap();
    let (mut emitted, mut cancelled) = (0, 0);
    // On a busy machine the log may be quicker than the test, so some more may have to be tried.
    while emitted < 200 || cancelled == 0 {
        cancelled += u64::from(shop.emit(order(emitted.to_string(), 0.5)).now_or_never().is_none());
        emitted += 1;
    }
    aether.flush().await.unwrap();
    let (consumer, mut stored, mut heard) = (billing(&log), BTreeSet::new(), BTreeSet::new());
    for _ in 0..emitted {
        let delivery = receive(&consumer).await;
        stored.insert(text(&delivery));
        delivery.ack().await.unwrap();
        heard.insert(live.receive().await.unwrap().text().unwrap().to_owned());
    }
    assert_eq!(stored.len(), emitted, "each was stored, and once");
    assert_eq!(stored, heard);
}

pub(crate) async fn d4_what_the_log_does_not_take_is_handed_back(place: &Place) {
    let log = place.open().await;
    let aether = connect(&log).await;
    let shop = aether.emitter("shop").unwrap();
    let large = || Wave::builder("orders.created").bytes(vec![7; 65 << 20]).build().unwrap();
    let refused = shop.emit(large()).await.unwrap_err();
    assert!(matches!(refused, EmitError::TooLarge { .. }), "{refused:?}");
    assert_eq!(refused.into_wave().unwrap().payload().len(), 65 << 20);
    let receipt = shop.emit(order("small", 0.5)).await.unwrap();
    let first = receive(&billing(&log)).await;
    assert_eq!((text(&first), first.position()), ("small".to_owned(), position(&receipt)));
}

pub(crate) async fn d5_a_consumer_gets_each_wave_of_its_pattern_and_no_other(place: &Place) {
    let log = place.open().await;
    let aether = connect(&log).await;
    let shop = aether.emitter("shop").unwrap();
    let note = |number: u64| {
        let note =
            Wave::builder("notes.taken").kind(aether_core::Kind::Event).key("lamp").text(number.to_string());
        shop.emit(note.build().unwrap())
    };
    let begin = tokio::time::Instant::now();
    for number in 0..50 {
        note(number).await.unwrap();
        emit(&aether, [number]).await;
    }
    let notes = aether.resonate_durable("notes.*", "archive").unwrap();
    for number in 0..60 {
        if number >= 50 {
            note(number).await.unwrap();
        }
        let delivery = receive(&notes).await;
        assert_eq!(text(&delivery), number.to_string(), "also waves of before, and in order");
        let wave = delivery.wave();
        assert_eq!(
            (wave.channel().as_str(), wave.key(), delivery.attempt()),
            ("notes.taken", Some("lamp"), 1)
        );
        assert!(wave.age() < begin.elapsed() + Duration::from_secs(5), "{:?}", wave.age());
        delivery.ack().await.unwrap();
    }
}

pub(crate) async fn d6_an_acknowledged_wave_does_not_come_again_and_others_do_also_after_a_restart(
    place: &Place,
) {
    let positions = {
        let log = place.open().await;
        let aether = connect(&log).await;
        emit(&aether, 0..50).await;
        let consumer = billing(&log);
        let mut open = Vec::new();
        for _ in 0..50 {
            open.push(receive(&consumer).await);
        }
        let positions: Vec<_> = open.iter().map(|delivery| delivery.position()).collect();
        let mut together = Vec::new();
        for (number, delivery) in open.into_iter().enumerate() {
            // Each third is handled; the others are dropped.
            match number % 6 {
                0 => delivery.ack().await.unwrap(),
                3 => together.push(delivery),
                _ => drop(delivery),
            }
        }
        assert_eq!(together.len(), 8);
        Delivery::ack_all(together).await.unwrap();
        Delivery::ack_all([]).await.unwrap();
        positions
    };
    let log = place.open().await;
    let consumer = billing(&log);
    let mut again = BTreeSet::new();
    for _ in 0..positions.len() - 17 {
        let delivery = receive(&consumer).await;
        assert_eq!(delivery.attempt(), 2, "dropping it was a failed attempt, which is kept");
        assert!(again.insert(delivery.position()), "{}", delivery.position());
        delivery.ack().await.unwrap();
    }
    let expected = positions.into_iter().enumerate().filter(|(number, _)| number % 3 != 0);
    assert_eq!(again, expected.map(|(_, position)| position).collect());
    // Nothing else comes before a weaker wave.
    let aether = connect(&log).await;
    aether.emitter("shop").unwrap().emit(order("end", 0.1)).await.unwrap();
    assert_eq!(text(&receive(&consumer).await), "end");
}

pub(crate) async fn d7_a_new_consumer_begins_where_it_is_told_to(place: &Place) {
    let log = place.open().await;
    let aether = connect(&log).await;
    emit(&aether, 0..10).await;
    let from = |name, start| log.consumer(name, "orders.>", quick().start(start)).unwrap();
    assert_eq!(text(&receive(&from("first", Start::First)).await), "0");
    assert_eq!(text(&receive(&from("third", Start::Position(4))).await), "3");
    let new = from("new", Start::New);
    new.ready().await.unwrap();
    emit(&aether, [10]).await;
    assert_eq!(text(&receive(&new).await), "10");
}

pub(crate) async fn d8_consumers_of_one_name_share_the_waves(place: &Place) {
    let log = place.open().await;
    let aether = connect(&log).await;
    let seen = Arc::new(Mutex::new(Vec::new()));
    let workers: Vec<_> = (0..4)
        .map(|_| {
            let (consumer, seen) = (billing(&log), Arc::clone(&seen));
            tokio::spawn(async move {
                loop {
                    let delivery = receive(&consumer).await;
                    let number = text(&delivery);
                    delivery.ack().await.unwrap();
                    if number == "end" {
                        return;
                    }
                    seen.lock().push(number);
                }
            })
        })
        .collect();
    emit(&aether, 0..400).await;
    for _ in 0..4 {
        // Weaker, so it is delivered last.
        aether.emitter("shop").unwrap().emit(order("end", 0.1)).await.unwrap();
    }
    for worker in workers {
        worker.await.unwrap();
    }
    let seen = seen.lock();
    assert_eq!(seen.len(), 400, "each wave went to one of them");
    assert_eq!(seen.iter().collect::<BTreeSet<_>>().len(), 400);
}

pub(crate) async fn d9_the_strongest_within_the_window_comes_first(place: &Place) {
    let log = place.open().await;
    let aether = connect(&log).await;
    let shop = aether.emitter("shop").unwrap();
    let all = (0..3000).map(|number| shop.emit(order(number.to_string(), 0.2)));
    try_join_all(all).await.unwrap();
    shop.emit(order("strong", 0.9)).await.unwrap();
    let consumer = billing(&log);
    // The window may fill while it is read, so the strong one is among the first, and certainly after one round trip. A
    // consumer that takes no time for a wave would have taken them all by then.
    let takes_its_time = async || {
        tokio::time::sleep(Duration::from_millis(1)).await;
        receive(&consumer).await
    };
    let mut weak = 0;
    loop {
        let delivery = takes_its_time().await;
        let is_strong = text(&delivery) == "strong";
        delivery.ack().await.unwrap();
        if is_strong {
            break;
        }
        weak += 1;
        assert!(weak < 1500, "the strong wave is not among the first half");
    }
    // One that is emitted while the backlog is worked off overtakes it.
    shop.emit(order("stronger", 0.95)).await.unwrap();
    let mut behind = 0;
    while text(&takes_its_time().await) != "stronger" {
        behind += 1;
        assert!(behind < 1000, "the stronger wave waits for the backlog");
    }
    let small = quick().window(NonZeroUsize::new(10).unwrap());
    let consumer = log.consumer("small", "orders.>", small).unwrap();
    let first = receive(&consumer).await;
    assert_ne!(text(&first), "strong", "beyond the window nothing is overtaken");
}

pub(crate) async fn d10_a_failed_wave_comes_again_after_growing_pauses(place: &Place) {
    let log = place.open().await;
    let aether = connect(&log).await;
    emit(&aether, [7]).await;
    let pauses = ConsumerOptions::default().pauses(Duration::from_millis(100), Duration::from_millis(300));
    let consumer = log.consumer("billing", "orders.>", pauses).unwrap();
    let mut failed_at = tokio::time::Instant::now();
    for (attempt, pause) in [(1, 0), (2, 100), (3, 200), (4, 300)] {
        let delivery = receive(&consumer).await;
        assert_eq!((text(&delivery), delivery.attempt()), ("7".to_owned(), attempt));
        assert!(failed_at.elapsed() >= Duration::from_millis(pause), "{attempt}: {:?}", failed_at.elapsed());
        failed_at = tokio::time::Instant::now();
        delivery.nack("later");
    }
    let delivery = receive(&consumer).await;
    assert_eq!(delivery.attempt(), 5);
    delivery.ack().await.unwrap();
}

pub(crate) async fn d11_a_wave_that_is_given_up_is_a_letter_that_survives_until_it_is_replayed(
    place: &Place,
) {
    let at;
    {
        let log = place.open().await;
        let aether = connect(&log).await;
        let shop = aether.emitter("shop").unwrap();
        at = position(&shop.emit(order("7", 0.9)).await.unwrap());
        let options = quick().max_attempts(NonZeroU32::new(3).unwrap());
        let consumer = log.consumer("billing", "orders.>", options).unwrap();
        for attempt in 1..=3 {
            let delivery = receive(&consumer).await;
            assert_eq!((text(&delivery), delivery.attempt()), ("7".to_owned(), attempt));
            delivery.nack(&format!("no ink at attempt {attempt}"));
        }
        // Giving up happens while the next wave is waited for.
        assert_eq!(log.dead().given_up()["billing"], 0);
        none_until(&consumer, async || log.dead().given_up()["billing"] > 0).await;
        assert_eq!(log.dead().given_up(), [("billing".to_owned(), 1)].into());
    }
    let log = place.open().await;
    let aether = connect(&log).await;
    let consumer = billing(&log);
    let dead = log.dead();
    let number = dead.numbers().await.unwrap()[0];
    let letter = dead.show(number).await.unwrap();
    assert_eq!((letter.consumer.as_str(), letter.attempts, letter.stored.position), ("billing", 3, at));
    assert_eq!(
        (letter.stored.wave.text().unwrap(), letter.stored.wave.channel().as_str()),
        ("7", "orders.created")
    );
    let errors: Vec<_> = letter.failed.iter().map(|attempt| attempt.error.as_str()).collect();
    assert_eq!(errors, ["no ink at attempt 1", "no ink at attempt 2", "no ink at attempt 3"]);
    assert_eq!(dead.given_up()["billing"], 0, "the process before gave it up");
    assert!(matches!(dead.show(number + 7).await, Err(DeadError::Unknown { .. })));
    // Not sent, it stays.
    let closed = Aether::local();
    let emitter = closed.emitter("operator").unwrap();
    closed.close().await.unwrap();
    assert!(matches!(dead.replay(number, &emitter).await, Err(DeadError::Emit { .. })));
    assert_eq!(dead.numbers().await.unwrap(), [number]);
    let sent = dead.replay(number, &aether.emitter("operator").unwrap()).await.unwrap();
    assert_eq!(sent.wave, letter.stored.wave.id(), "it has kept its identity");
    assert!(dead.numbers().await.unwrap().is_empty());
    assert!(matches!(dead.drop_letter(number).await, Err(DeadError::Unknown { .. })));
    let delivery = receive(&consumer).await;
    assert_eq!((text(&delivery), delivery.position()), ("7".to_owned(), position(&sent.receipt)));
    assert_eq!(
        (delivery.attempt(), delivery.wave().attempts()),
        (1, 4),
        "the consumer starts to count again"
    );
    delivery.nack("still no ink");
    let mut is_letter = std::pin::pin!(async {
        while dead.numbers().await.unwrap().is_empty() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    });
    loop {
        tokio::select! {
            delivery = consumer.receive() => delivery.unwrap().nack("still no ink"),
            () = &mut is_letter => break,
        }
    }
    let letter = dead.show(dead.numbers().await.unwrap()[0]).await.unwrap();
    assert_eq!(letter.attempts, 3 + 5, "the attempts of the first life included");
}

pub(crate) async fn d12_the_account_adds_up_and_each_number_is_right(place: &Place) {
    let log = place.open().await;
    let aether = connect(&log).await;
    emit(&aether, 0..20).await;
    let once = quick().max_attempts(NonZeroU32::MIN);
    let consumer = log.consumer("billing", "orders.>", once).unwrap();
    receive(&consumer).await.nack("no ink");
    let (mut acknowledged, mut in_flight) = (0, Vec::new());
    while acknowledged < 5 {
        receive(&consumer).await.ack().await.unwrap();
        acknowledged += 1;
    }
    // Giving up happens while the next wave is waited for, and what is cut off there happens with a later one.
    while in_flight.len() < 2 || consumer.account().await.unwrap().dead == 0 {
        match tokio::time::timeout(Duration::from_secs(2), consumer.receive()).await {
            Ok(delivery) if in_flight.len() < 2 => in_flight.push(delivery.unwrap()),
            Ok(delivery) => {
                delivery.unwrap().ack().await.unwrap();
                acknowledged += 1;
            }
            Err(_) => {}
        }
    }
    let account = consumer.account().await.unwrap();
    assert!(account.adds_up(), "{account:?}");
    assert_eq!((account.stored, account.in_flight, account.dead), (20, 2, 1), "{account:?}");
    assert_eq!(log.dead().numbers().await.unwrap().len(), 1);
    assert_eq!((account.acknowledged, account.waiting), (acknowledged, 17 - acknowledged), "{account:?}");
    for delivery in in_flight {
        delivery.ack().await.unwrap();
    }
    let account = consumer.account().await.unwrap();
    assert!(account.adds_up(), "{account:?}");
    assert_eq!((account.acknowledged, account.in_flight), (acknowledged + 2, 0), "{account:?}");
    assert_eq!((account.waiting, account.expired), (20 - 1 - acknowledged - 2, 0), "{account:?}");
}

pub(crate) async fn d13_a_name_belongs_to_one_pattern(place: &Place) {
    let log = place.open().await;
    let consumer = log.consumer("billing", "orders.>", quick()).unwrap();
    consumer.ready().await.unwrap();
    let is_other = |error: &ConsumeError| {
        matches!(error, ConsumeError::OtherPattern { name, stored, .. }
            if name == "billing" && stored.as_str() == "orders.>")
    };
    let refused = log.consumer("billing", "orders.created", quick()).unwrap_err();
    assert!(is_other(&refused), "{refused:?}");
    drop((consumer, log));
    // Also when it is not open.
    let log = place.open().await;
    let refused = match log.consumer("billing", "orders.created", quick()) {
        Ok(consumer) => consumer.ready().await.unwrap_err(),
        Err(error) => error,
    };
    assert!(is_other(&refused), "{refused:?}");
    for name in ["", "../billing", "a b", &"x".repeat(65)] {
        let refused = log.consumer(name, "orders.>", quick());
        assert!(matches!(refused, Err(ConsumeError::Name { .. })), "{name:?}");
    }
}

pub(crate) async fn d14_a_cancelled_receive_takes_no_wave(place: &Place) {
    let log = place.open().await;
    let aether = connect(&log).await;
    let consumer = billing(&log);
    let mut next = 0;
    emit(&aether, 0..100).await;
    while next < 100 {
        // Polled once and dropped: at any point on its way.
        match consumer.receive().now_or_never() {
            Some(delivery) => {
                let delivery = delivery.unwrap();
                assert_eq!((text(&delivery), delivery.attempt()), (next.to_string(), 1));
                delivery.ack().await.unwrap();
                next += 1;
            }
            None => tokio::task::yield_now().await,
        }
        let within = Duration::from_micros(50);
        if let Ok(delivery) = tokio::time::timeout(within, consumer.receive()).await {
            let delivery = delivery.unwrap();
            assert_eq!((text(&delivery), delivery.attempt()), (next.to_string(), 1));
            delivery.ack().await.unwrap();
            next += 1;
        }
    }
}

pub(crate) async fn d15_handle_acknowledges_what_returns_ok_and_retries_the_rest(place: &Place) {
    let log = place.open().await;
    let aether = connect(&log).await;
    emit(&aether, 0..600).await;
    let consumer = billing(&log);
    let (done, mut all) = tokio::sync::oneshot::channel();
    let mut done = Some(done);
    let (mut handled, mut failed) = (BTreeSet::new(), 0);
    let handling = consumer.handle(async |delivery: &aether_log::Delivery| {
        let number = text(delivery);
        if number.ends_with('7') && delivery.attempt() == 1 {
            failed += 1;
            return Err("a seven");
        }
        assert!(handled.insert(number.clone()), "{number} was handled twice");
        if handled.len() == 600
            && let Some(done) = done.take()
        {
            done.send(()).unwrap();
        }
        Ok(())
    });
    tokio::select! {
        ended = handling => panic!("{ended:?}"),
        _ = &mut all => {}
        () = tokio::time::sleep(Duration::from_secs(180)) => panic!("not all were handled"),
    }
    assert_eq!(failed, 60);
    drop((consumer, aether, log));
    // Acknowledged for good: a consumer that starts over gets nothing but the last one, whose acknowledgement was cut
    // off.
    let log = place.open().await;
    let consumer = billing(&log);
    let aether = connect(&log).await;
    aether.emitter("shop").unwrap().emit(order("end", 0.1)).await.unwrap();
    let mut again = 0;
    loop {
        let delivery = receive(&consumer).await;
        let is_end = text(&delivery) == "end";
        delivery.ack().await.unwrap();
        if is_end {
            break;
        }
        again += 1;
    }
    assert!(again <= 1, "{again} waves came again");
}
