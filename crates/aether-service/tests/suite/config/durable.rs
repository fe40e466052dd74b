//! The log of a program that names durable channels in its configuration.

use aether_core::{ConnectError, Durability, EmitError, Wave};
use aether_log::{Log, ResonateDurable};
use aether_service::CancellationToken;
use aether_service::health::Health;

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
    let why = aether_service::error_chain(&refused);
    assert!(why.contains("one process at a time may write it") && !refused.is_transient(), "{why}");
    let other = config.connect_until(&shutdown, "other").await.unwrap().unwrap();
    assert!(Log::of(&other).is_some());
    // Without channels there is no log, and no folder.
    let plain = Folder::with(&[("default.toml", "")]).load().unwrap();
    let plain = plain.connect_until(&shutdown, "plain").await.unwrap().unwrap();
    assert!(Log::of(&plain).is_none() && !logs.path().join("plain").exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_program_with_keys_seals_its_log_unless_it_is_not_to() {
    let keys = tempfile::tempdir().unwrap();
    let file = keys.path().join("own.keys");
    aether::seal::SealKeys::generate().unwrap().save_new(&file).unwrap();
    let with_keys = format!("[medium]\nkeys = {:?}\n", file.to_str().unwrap());
    let (sealed, logs) = folder(&with_keys);
    let open =
        async |folder: &Folder| folder.load().unwrap().connect_until(&CancellationToken::new(), "shop").await;
    let emit = async |folder: &Folder| {
        let aether = open(folder).await.unwrap().unwrap();
        let wave = Wave::builder("orders.created").text("a lamp").build().unwrap();
        aether.emitter("shop").unwrap().emit(wave).await.unwrap();
    };
    emit(&sealed).await;
    assert_eq!(aether_log::is_sealed(&logs.path().join("shop")).unwrap(), Some(true));
    // A log that was begun without keys is not opened with them, and its waves stay.
    let folder_of = |logs: &tempfile::TempDir, more: &str| {
        let text =
            format!("[durable]\nfolder = {:?}\nsynced = ['orders.>']\n{more}", logs.path().to_str().unwrap());
        Folder::with(&[("default.toml", &text)])
    };
    let plain = tempfile::tempdir().unwrap();
    emit(&folder_of(&plain, "")).await;
    let refused = open(&folder_of(&plain, &with_keys)).await.unwrap_err();
    let why = aether_service::error_chain(&refused);
    assert!(why.contains("is not sealed: give a sealed log a folder of its own"), "{why}");
    emit(&folder_of(&plain, &format!("sealed = false\n{with_keys}"))).await;
    let refused = open(&folder_of(&logs, &format!("sealed = false\n{with_keys}"))).await.unwrap_err();
    assert!(aether_service::error_chain(&refused).contains("is sealed: open it with its keys"), "{refused}");
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

/// A log in JetStream, which a program waits for and logs in to as it does for its medium.
#[cfg(feature = "jetstream")]
mod jetstream {
    use std::num::NonZeroU32;
    use std::os::unix::fs::PermissionsExt as _;

    use aether_conformance::{NatsCluster, NatsServer, ServerOptions};
    use aether_core::Kind;
    use aether_log::{ConsumerOptions, DurableLog};
    use aether_service::Service;
    use aether_service::health::log_trouble;
    use aether_service::letters::{LetterAnswer, LetterFilter, LetterQuery, channel_of, store_of_stream};
    use async_nats::ConnectOptions;

    use super::*;

    /// A server that asks for a password, the folder of its streams, and a configuration that names a log there.
    async fn stage(more: &str) -> (NatsServer, tempfile::TempDir, Folder) {
        let streams = tempfile::tempdir().unwrap();
        let users = "{ users: [{ user: shop, password: right }] }";
        let options = ServerOptions::default().setting("authorization", users).jetstream(streams.path());
        let server = NatsServer::start_with(options).await.unwrap();
        let password = streams.path().join("password");
        std::fs::write(&password, "right").unwrap();
        std::fs::set_permissions(&password, std::fs::Permissions::from_mode(0o600)).unwrap();
        let text = format!(
            "[medium]\nurl = \"{}\"\nwait = \"60s\"\nlogin = \"password:shop:{}\"\n\
             [durable]\nlog = \"jetstream:orders\"\nstored = ['orders.>']\n{more}",
            server.url(),
            password.display()
        );
        (server, streams, Folder::with(&[("default.toml", &text)]))
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_program_that_names_a_log_in_jetstream_waits_for_the_server_and_logs_in_as_its_medium_does() {
        let (mut server, _streams, folder) = stage("").await;
        server.kill().await.unwrap();
        let (config, shutdown) = (folder.load().unwrap(), CancellationToken::new());
        let connecting = tokio::spawn({
            let (config, shutdown) = (config.clone(), shutdown.clone());
            async move { config.connect_until(&shutdown, "shop").await }
        });
        server.restart().await.unwrap();
        let aether = connecting.await.unwrap().unwrap().unwrap();
        let shop = aether.emitter("shop").unwrap();
        let receipt = shop.emit(Wave::from_bytes("orders.created", "x").unwrap()).await.unwrap();
        assert_eq!(receipt.stored.map(|stored| stored.durability), Some(Durability::Stored));
        assert!(
            matches!(DurableLog::of(&aether), Some(DurableLog::JetStream(log)) if log.name() == "orders")
        );
        let billing = aether.resonate_durable("orders.>", "billing").unwrap();
        billing.receive().await.unwrap().ack().await.unwrap();
        assert_eq!(Health::of(&aether), Health::ready());

        server.kill().await.unwrap();
        let storing = async |stores: bool| {
            let waiting = async {
                while log_trouble(&aether).is_none() != stores {
                    tokio::task::yield_now().await;
                }
            };
            tokio::time::timeout(PATIENCE, waiting).await.expect("it finds out by itself");
        };
        storing(false).await;
        assert!(log_trouble(&aether).unwrap().contains("not connected to nats://"));
        server.restart().await.unwrap();
        storing(true).await;

        // A program that gets a signal to end while it waits.
        server.kill().await.unwrap();
        shutdown.cancel();
        assert!(config.connect_until(&shutdown, "other").await.unwrap().is_none());
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_service_answers_for_the_dead_letters_of_its_log_in_jetstream() {
        let (_server, _streams, folder) = stage("").await;
        let shutdown = CancellationToken::new();
        let aether = folder.load().unwrap().connect_until(&shutdown, "shop").await.unwrap().unwrap();
        let service = Service::builder("shop").with_letters().build(&aether).await.unwrap();
        let running = tokio::spawn(service.run_until(shutdown.clone()));
        let shop = aether.emitter("shop").unwrap();
        shop.emit(Wave::from_bytes("orders.created", "x").unwrap()).await.unwrap();
        let once = ConsumerOptions::default().max_attempts(NonZeroU32::MIN);
        let log = DurableLog::of(&aether).unwrap();
        let billing = log.consumer("billing", "orders.>", once).unwrap();
        billing.receive().await.unwrap().nack("no such customer");
        // It becomes a letter when it comes again, and is not delivered.
        let receiving = tokio::spawn(async move {
            let delivery = billing.receive().await.unwrap();
            assert_eq!(delivery.attempt(), 1, "the replayed one");
            delivery.ack().await.unwrap();
        });

        let asker = aether.emitter("operator").unwrap();
        let ask = async |query: LetterQuery| {
            let channel = channel_of(store_of_stream("orders"));
            let question = Wave::builder(channel).kind(Kind::Query).json(&query).build().unwrap();
            asker.ask_within(question, PATIENCE).await.unwrap().json::<LetterAnswer>().unwrap()
        };
        let listing = async {
            loop {
                match ask(LetterQuery::Ls { filter: LetterFilter::default(), after: 0 }).await {
                    LetterAnswer::Letters { letters, more: false } if letters.is_empty() => {}
                    LetterAnswer::Letters { letters, more: false } => break letters,
                    other => panic!("{other:?}"),
                }
            }
        };
        let letters = tokio::time::timeout(PATIENCE, listing).await.expect("a letter");
        let [letter] = &letters[..] else { panic!("{letters:?}") };
        assert_eq!((&*letter.channel, &*letter.by, letter.attempts), ("orders.created", "billing", 1));
        assert_eq!(letter.hint, "no such customer");
        let id = letter.id.clone();
        let shown = ask(LetterQuery::Show { id: id.clone() }).await;
        assert!(matches!(shown, LetterAnswer::Letter(letter) if letter.failed.len() == 1));
        let replayed = ask(LetterQuery::Replay { id: id.clone() }).await;
        assert!(matches!(replayed, LetterAnswer::Replayed { .. }), "{replayed:?}");
        receiving.await.unwrap();
        assert!(matches!(ask(LetterQuery::Drop { id }).await, LetterAnswer::Gone { .. }));
        shutdown.cancel();
        running.await.unwrap().unwrap();
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn settings_of_a_log_in_jetstream_are_those_of_its_stream_and_its_consumers() {
        let more = "ack_wait = '7s'\nduplicate_window = '5m'\nmax_age = '7d'\nmax_bytes = '1 MiB'\nmax_waves = 100\n";
        let (server, _streams, folder) = stage(more).await;
        let shutdown = CancellationToken::new();
        let aether = folder.load().unwrap().connect_until(&shutdown, "shop").await.unwrap().unwrap();
        aether.resonate_durable("orders.>", "billing").unwrap().ready().await.unwrap();
        let client = ConnectOptions::with_user_and_password("shop".to_owned(), "right".to_owned());
        let context = async_nats::jetstream::new(client.connect(server.url()).await.unwrap());
        let stream = context.get_stream("orders").await.unwrap();
        let config = &stream.cached_info().config;
        let times = [config.duplicate_window, config.max_age].map(|time| time.as_secs());
        assert_eq!((times, config.max_bytes, config.max_messages), ([300, 604_800], 1 << 20, 100));
        assert_eq!(stream.consumer_info("billing").await.unwrap().config.ack_wait.as_secs(), 7);
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_cluster_keeps_as_many_replicas_as_the_configuration_names() {
        let streams = tempfile::tempdir().unwrap();
        let cluster = NatsCluster::start(3, streams.path()).await.unwrap();
        let url = cluster.url();
        for (replicas, reached) in [(1, Durability::Stored), (3, Durability::Replicated(3))] {
            let text = format!(
                "[medium]\nurl = \"{url}\"\nwait = \"60s\"\n\
                 [durable]\nlog = \"jetstream:orders\"\nsynced = ['orders.>']\nreplicas = {replicas}"
            );
            let config = Folder::with(&[("default.toml", &text)]).load().unwrap();
            let aether = config.connect_until(&CancellationToken::new(), "shop").await.unwrap().unwrap();
            let shop = aether.emitter("shop").unwrap();
            let receipt = shop.emit(Wave::from_bytes("orders.created", "x").unwrap()).await.unwrap();
            assert_eq!(receipt.stored.map(|stored| stored.durability), Some(reached));
        }
    }

    #[tokio::test]
    async fn settings_that_do_not_go_with_a_log_in_jetstream_are_named() {
        for (more, named) in
            [("folder = 'logs'", "durable.folder"), ("compact = ['state.*']", "durable.compact")]
        {
            let text = format!("[durable]\nlog = \"jetstream:orders\"\nstored = ['orders.>']\n{more}");
            let config = Folder::with(&[("default.toml", &text)]).load().unwrap();
            let refused = config.connect_until(&CancellationToken::new(), "shop").await.unwrap_err();
            let why = aether_service::error_chain(&refused);
            assert!(why.contains(named), "{why}");
        }
        let text = "[durable]\nlog = \"jetstream:orders\"\nstored = ['orders.>']";
        let config = Folder::with(&[("default.toml", text)]).load().unwrap();
        let refused = config.connect_until(&CancellationToken::new(), "shop").await.unwrap_err();
        assert!(aether_service::error_chain(&refused).contains("set medium.url"));
    }
}
