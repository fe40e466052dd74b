//! `aether dead`: looking while the service runs, changing while it does not.

use std::num::NonZeroU32;
use std::time::Duration;

use aether_core::{Vibrator, Wave};
use aether_log::ConsumerOptions;

use crate::log::Writing;
use crate::nats::{server, with};
use crate::process::{PATIENCE, run};

#[tokio::test(flavor = "multi_thread")]
async fn dead_letters_are_shown_at_any_time_and_replayed_or_dropped_once_the_service_is_stopped() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().to_str().unwrap();
    let writing = Writing::open(folder.path()).await;
    let once =
        ConsumerOptions::default().max_attempts(NonZeroU32::MIN).pauses(Duration::ZERO, Duration::ZERO);
    let billing = writing.log.consumer("billing", "orders.>", once).unwrap();
    for text in ["a lamp", "a chair"] {
        let wave = Wave::builder("orders.created").amplitude(0.9).text(text);
        writing.shop.emit(wave.build().unwrap()).await.unwrap();
        billing.receive().await.unwrap().nack("no ink");
    }
    // Weaker, so both are given up before it comes.
    writing
        .shop
        .emit(Wave::builder("orders.created").amplitude(0.1).text("last").build().unwrap())
        .await
        .unwrap();
    let last = tokio::time::timeout(PATIENCE, billing.receive()).await.unwrap().unwrap();
    last.ack().await.unwrap();
    let listed = run(&["dead", "ls", path]);
    assert_eq!((listed.code, listed.err.as_str()), (Some(0), ""), "{listed:?}");
    let lines: Vec<_> = listed.out.lines().collect();
    assert!(lines.len() == 2 && lines[0].starts_with("1 billing, 1 attempts: "), "{listed:?}");
    let shown = run(&["dead", "show", path, "2"]);
    assert!(shown.out.contains("a chair") && shown.out.contains("no ink"), "{shown:?}");
    assert!(shown.out.contains("position 2 of the log"), "{shown:?}");
    let unknown = run(&["dead", "show", path, "3"]);
    assert_eq!(unknown.code, Some(1));
    assert!(unknown.err.contains("there is no dead letter 3"), "{unknown:?}");
    let refused = run(&["dead", "drop", path, "1"]);
    assert_eq!(refused.code, Some(1));
    assert!(refused.err.contains(&format!("is open in process {}", std::process::id())), "{refused:?}");
    drop((billing, writing));

    let (server, medium) = server().await;
    let live = aether::connect(&server.url()).await.unwrap();
    let mut hears = Vibrator::create("live", &live).await.unwrap();
    hears.resonate_on("orders.>").await.unwrap();
    live.flush().await.unwrap();
    let replayed = run(&with(&["dead", "replay", path, "1"], &medium));
    assert_eq!((replayed.code, replayed.out.as_str()), (Some(0), "1 was emitted again\n"), "{replayed:?}");
    assert_eq!(hears.receive().await.unwrap().text().unwrap(), "a lamp");
    let stored = run(&["dead", "replay", path, "2"]);
    assert_eq!(
        (stored.code, stored.out.as_str()),
        (Some(0), "2 is in the log again, at position 5\n"),
        "{stored:?}"
    );
    // Heard live or not, its consumers get it again, under its identity.
    let number = {
        let log = aether_log::Log::builder(folder.path()).open().unwrap();
        let billing = log.consumer("billing", "orders.>", once).unwrap();
        let mut reader = log.read_from(0);
        let mut ids = Vec::new();
        while let Some(aether_log::LogItem::Wave(stored)) = reader.next_item().unwrap() {
            ids.push(stored.wave.id());
        }
        assert_eq!((ids.len(), ids[3] == ids[0], ids[4] == ids[1]), (5, true, true));
        for text in ["a lamp", "a chair"] {
            let delivery = tokio::time::timeout(PATIENCE, billing.receive()).await.unwrap().unwrap();
            assert_eq!(delivery.wave().text().unwrap(), text);
            delivery.ack().await.unwrap();
        }
        let lost = Wave::builder("orders.lost").build().unwrap();
        log.dead().keep("shop", &lost, &[]).await.unwrap().to_string()
    };
    let of_no_log = run(&["dead", "replay", path, &number]);
    assert_eq!(of_no_log.code, Some(2), "a medium of its own reaches nobody: {of_no_log:?}");
    let dropped = run(&["dead", "drop", path, &number]);
    assert_eq!((dropped.code, dropped.out), (Some(0), format!("{number} was dropped\n")));
    let none = run(&["dead", "ls", path]);
    assert_eq!((none.code, none.out.as_str()), (Some(0), ""), "{none:?}");
    assert!(run(&["dead", "drop", path, "2"]).err.contains("there is no dead letter 2"));
}
