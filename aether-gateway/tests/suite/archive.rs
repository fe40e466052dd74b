//! The contents of the archive after a gateway has ended.

use std::time::UNIX_EPOCH;

use aether_conformance::NatsServer;
use aether_gateway::{Archive, GatewayOptions};

use crate::accounts::{line, status, store};
use crate::support;

#[tokio::test(flavor = "multi_thread")]
async fn waves_and_losses_while_the_gateway_ran_are_in_the_archive() {
    let folder = tempfile::tempdir().unwrap();
    let archive = Archive::new(folder.path().join("history.redb"));
    let server = NatsServer::start().await.unwrap();
    let aether = aether::connect(&server.url()).await.unwrap();
    // The second gateway starts when the store has lost its waves, so it records nothing of that.
    let mut elsewhere = Vec::new();
    for gateway in [1, 2] {
        let options = GatewayOptions::default().archive(Some(archive.clone()));
        let mut running = support::run(&aether, options).await;
        if gateway == 1 {
            elsewhere.push(store(&server).await);
            running.observes(10).await;
        }
        status(&running, |accounts| {
            let shed = |line: &serde_json::Value| line["inboxes"]["shed"]["full"] == 8;
            line(accounts, "programs").is_some_and(shed)
        })
        .await;
        running.stop().await;
        let archived = archive.since(UNIX_EPOCH).unwrap();
        assert_eq!(archived.spans.iter().map(|span| span.waves).sum::<u64>(), 10);
        let all = archived.spans.iter().flat_map(|span| &span.lost);
        let places: Vec<_> =
            all.map(|loss| (&*loss.program, &*loss.queue, &*loss.reason, loss.waves)).collect();
        assert_eq!(places, [("store \"quoted\"", "inbox", "full", 8)]);
        let accounts = archived.spans.iter().flat_map(|span| &span.accounts);
        let of_store = accounts.filter(|account| account.program == "store \"quoted\"");
        let counts: Vec<_> =
            of_store.map(|it| (&*it.queue, it.offered, it.delivered, it.lost, it.queued)).collect();
        assert_eq!(counts, [("inbox", 10, 0, 8, 2), ("outbox", 10, 10, 0, 0)]);
    }
}
