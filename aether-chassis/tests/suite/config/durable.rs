//! The log of a program that names durable channels in its configuration.

use aether_chassis::CancellationToken;
use aether_chassis::health::Health;
use aether_core::{ConnectError, Durability, EmitError, Wave};
use aether_log::{Log, ResonateDurable};

use crate::config::stage::{Folder, PATIENCE};

fn folder(more: &str) -> (Folder, tempfile::TempDir) {
    let logs = tempfile::tempdir().unwrap();
    let text = format!(
        "[durable]\nfolder = {:?}\nsynced = ['orders.>']\nstored = ['notes.>']\n{more}",
        logs.path().to_str().unwrap()
    );
    (Folder::with(&[("default.toml", &text)]), logs)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_that_names_durable_channels_in_its_configuration_has_its_log() {
    let (folder, logs) = folder("");
    let (config, shutdown) = (folder.load().unwrap(), CancellationToken::new());
    let aether = config.connect_until(&shutdown, "shop").await.unwrap().unwrap();
    assert!(logs.path().join("shop").is_dir(), "a folder of its name");
    let shop = aether.emitter("shop").unwrap();
    let reached = async |channel: &str| {
        let receipt = shop.emit(Wave::from_bytes(channel, "x").unwrap()).await.unwrap();
        receipt.stored.map(|stored| stored.durability)
    };
    assert_eq!(reached("orders.created").await, Some(Durability::Synced));
    assert_eq!(reached("notes.taken").await, Some(Durability::Stored));
    assert_eq!(reached("weather").await, None);
    let billing = aether.resonate_durable("orders.>", "billing").unwrap();
    billing.receive().await.unwrap().ack().await.unwrap();
    assert_eq!(Log::of(&aether).unwrap().extent().last, 2);
    assert_eq!(Health::of(&aether), Health::ready());
    // A second instance of the same name, on the same machine.
    let refused = config.connect_until(&shutdown, "shop").await.unwrap_err();
    assert!(matches!(&refused, ConnectError::Layer { layer: "durable log", .. }), "{refused}");
    let why = aether_chassis::error_chain(&refused);
    assert!(why.contains("one process at a time may write it") && !refused.is_transient(), "{why}");
    let other = config.connect_until(&shutdown, "other").await.unwrap().unwrap();
    assert!(Log::of(&other).is_some());
    // Without channels there is no log, and no folder.
    let plain = Folder::with(&[("default.toml", "")]).load().unwrap();
    let plain = plain.connect_until(&shutdown, "plain").await.unwrap().unwrap();
    assert!(Log::of(&plain).is_none() && !logs.path().join("plain").exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_program_whose_log_cannot_write_is_not_ready_until_it_can() {
    let (folder, logs) = folder("segment_bytes = '4 KiB'\n");
    let config = folder.load().unwrap();
    let aether = config.connect_until(&CancellationToken::new(), "shop").await.unwrap().unwrap();
    let shop = aether.emitter("shop").unwrap();
    let emit = async || shop.emit(Wave::from_bytes("orders.created", vec![7; 500]).unwrap()).await;
    emit().await.unwrap();
    // Without its folder no further segment can be made.
    let hidden = logs.path().join("hidden");
    std::fs::rename(logs.path().join("shop"), &hidden).unwrap();
    let refused = loop {
        if let Err(error) = emit().await {
            break error;
        }
    };
    assert!(matches!(&refused, EmitError::NotStored(_)) && refused.is_transient(), "{refused:?}");
    assert!(!Health::of(&aether).ready && !Health::of(&aether).ready);
    let health = Health::of(&aether);
    assert_eq!((health.ready, health.reasons[0].code), (false, "not_storing"));
    assert!(health.reasons[0].text.contains("make room, or check the rights"), "{health}");
    std::fs::rename(&hidden, logs.path().join("shop")).unwrap();
    let ready = async {
        while !Health::of(&aether).ready {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, ready).await.expect("it finds out by itself");
    emit().await.unwrap();
}
