//! `aether letters --log`: looking while the service runs, changing while it does not.

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
    let listed = run(&["letters", "ls", "--log", path]);
    assert_eq!((listed.code, listed.err.as_str()), (Some(0), "2 dead letters\n"), "{listed:?}");
    let lines: Vec<_> = listed.out.lines().collect();
    assert!(
        lines.len() == 2 && lines[0].contains("orders.created") && lines[0].contains("billing"),
        "{listed:?}"
    );
    let id = lines[1].split_whitespace().next().unwrap();
    assert!(id.ends_with("-2"), "{listed:?}");
    assert_eq!(run(&["letters", "show", "--log", path, id]).code, Some(0), "by its whole id");
    let foreign = run(&["letters", "show", "--log", path, "1f9a3c5b7d2e4f60-2"]);
    assert!(foreign.code == Some(1) && foreign.err.contains("is not in this log"), "{foreign:?}");
    let none = run(&["letters", "ls", "--log", path, "--older", "1h", "--json"]);
    assert_eq!((none.code, none.out.as_str()), (Some(0), ""), "{none:?}");
    let shown = run(&["letters", "show", "--log", path, "2"]);
    assert!(shown.out.contains("a chair") && shown.out.contains("no ink"), "{shown:?}");
    assert!(shown.out.contains("position   2 of the log"), "{shown:?}");
    let unknown = run(&["letters", "show", "--log", path, "3"]);
    assert!(unknown.code == Some(3) && unknown.err.contains("1 of 1 dead letters are gone"), "{unknown:?}");
    let refused = run(&["letters", "drop", "--log", path, "1"]);
    assert_eq!(refused.code, Some(1));
    assert!(refused.err.contains(&format!("is open in process {}", std::process::id())), "{refused:?}");
    drop((billing, writing));

    let (server, medium) = server().await;
    let live = aether::connect(&server.url()).await.unwrap();
    let mut hears = Vibrator::create("live", &live).await.unwrap();
    hears.resonate_on("orders.>").await.unwrap();
    live.flush().await.unwrap();
    let replayed = run(&with(&["letters", "replay", "--log", path, "1"], &medium));
    assert!(replayed.code == Some(0) && replayed.out.contains("-1"), "{replayed:?}");
    assert_eq!(hears.receive().await.unwrap().text().unwrap(), "a lamp");
    let stored = run(&["letters", "replay", "--log", path, "2"]);
    assert!(stored.code == Some(0) && stored.out.contains(id), "{stored:?}");
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
    let of_no_log = run(&["letters", "replay", "--log", path, &number]);
    assert_eq!(of_no_log.code, Some(2), "a medium of its own reaches nobody: {of_no_log:?}");
    let dropped = run(&["letters", "drop", "--log", path, &number]);
    assert!(dropped.code == Some(0) && dropped.out.contains(&format!("-{number}")), "{dropped:?}");
    let none = run(&["letters", "ls", "--log", path]);
    assert_eq!((none.code, none.out.as_str()), (Some(0), ""), "{none:?}");
    assert_eq!(run(&["letters", "drop", "--log", path, "2"]).code, Some(3));
}
