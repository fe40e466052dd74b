//! Queues of a running service, listed and steered from a shell, over a real NATS server with JetStream.

use std::num::NonZeroU32;
use std::time::Duration;

use aether_conformance::{NatsServer, ServerOptions};
use aether_core::{Durability, Wave};
use aether_log::{ConsumerOptions, JetStreamLog, Log, Schedule};
use aether_service::{CancellationToken, Durable, Service};
use serde_json::Value;

use crate::process::{PATIENCE, run};

/// A service that fails at bad mail, and what it is connected with.
async fn steered(log: aether_log::DurableLog, url: &str, name: &str) {
    let aether = log.connect(aether::builder().url(url)).await.unwrap();
    let hour = Duration::from_secs(3600);
    let options = ConsumerOptions::default().pauses(hour, hour).max_attempts(NonZeroU32::new(9).unwrap());
    let fails = async |wave: Wave| match wave.text() {
        Ok("bad") => Err(std::io::Error::other("no such address")),
        _ => Ok(()),
    };
    let builder =
        Service::builder("post").on_durable("mail.*", Durable::consumer("mailer").options(options), fails);
    let service = builder.with_letters().build(&aether).await.unwrap();
    let shutdown = CancellationToken::new();
    let running = tokio::spawn(service.run_until(shutdown.clone()));
    let shop = aether.emitter("shop").unwrap();
    let mail = |text: &str| Wave::builder("mail.send").key("17").text(text).build().unwrap();
    shop.emit(mail("bad")).await.unwrap();
    let mailer = log.consumers().remove(0);
    let failed = async {
        while mailer.queue().await.unwrap().retrying == 0 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, failed).await.unwrap();
    // The store of the process, and the one of the log.
    let medium = ["--medium", url, "--expect", "2", "--roll-call", "30s"];
    let aether_jobs = |args: &[&str]| {
        let args = [&["jobs"], args, &medium].concat();
        tokio::task::block_in_place(|| run(&args))
    };

    let listed = aether_jobs(&["ls"]);
    assert!(listed.code == Some(0) && listed.out.starts_with("mailer mail.* post ("), "{listed:?}");
    assert!(listed.out.contains("0 wait, 0 run, 1 pause after a failure (next in "), "{listed:?}");
    let listed = aether_jobs(&["ls", "--json"]);
    let queue: Value = serde_json::from_str(&listed.out).unwrap();
    assert_eq!(
        (&queue["service"], &queue["log"], &queue["retrying"]),
        (&"post".into(), &name.into(), &1.into())
    );
    let shown = aether_jobs(&["show", "mailer", "--json"]);
    let job: Value = serde_json::from_str(&shown.out).unwrap();
    assert_eq!(
        (&job["position"], &job["key"], &job["attempt"]),
        (&1.into(), &"17".into(), &2.into()),
        "{job}"
    );
    let shown = aether_jobs(&["show", "mailer"]);
    assert!(shown.out.contains("attempt 2 due in ") && shown.out.contains("no such address"), "{shown:?}");

    let paused = aether_jobs(&["pause", "mailer"]);
    assert_eq!(
        (paused.code, paused.out.as_str()),
        (Some(0), "mailer paused in 1 of 1 processes\n"),
        "{paused:?}"
    );
    assert!(aether_jobs(&["ls"]).out.contains("PAUSED"));
    let retried = aether_jobs(&["retry", "mailer", "--all"]);
    assert_eq!((retried.code, retried.out.as_str()), (Some(0), "1 due now\n"), "{retried:?}");
    let cancelled = async {
        // JetStream delivers it a moment later.
        while aether_jobs(&["cancel", "mailer", "1"]).code != Some(0) {}
    };
    cancelled.await;
    let again = aether_jobs(&["cancel", "mailer", "1"]);
    assert!(again.code == Some(3) && again.err.contains("nothing was changed"), "{again:?}");
    let resumed = aether_jobs(&["resume", "mailer"]);
    assert_eq!(resumed.out, "mailer resumed in 1 of 1 processes\n", "{resumed:?}");
    let unknown = aether_jobs(&["pause", "nobody"]);
    assert!(unknown.code == Some(1) && unknown.err.contains("no running service has nobody"), "{unknown:?}");

    let nightly = Schedule::cron("0 3 * * *", "Europe/Berlin").unwrap();
    log.schedules().put("nightly", nightly, mail("report")).await.unwrap();
    let listed = aether_jobs(&["schedules"]);
    assert!(listed.out.starts_with("nightly 0 3 * * * Europe/Berlin mail.send next "), "{listed:?}");
    let ended = aether_jobs(&["unschedule", "nightly"]);
    assert_eq!((ended.code, ended.out.as_str()), (Some(0), "nightly ended\n"), "{ended:?}");
    assert_eq!(aether_jobs(&["schedules", "--json"]).out, "");
    shutdown.cancel();
    running.await.unwrap().unwrap();
    aether_service::close(&aether).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn queues_of_a_log_in_jetstream_are_listed_and_steered() {
    let streams = tempfile::tempdir().unwrap();
    let server = NatsServer::start_with(ServerOptions::default().jetstream(streams.path())).await.unwrap();
    let log = JetStreamLog::builder(server.url(), "shop").channels("mail.>", Durability::Stored).unwrap();
    steered(log.open().await.unwrap().into(), &server.url(), "shop").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn queues_of_a_log_in_a_folder_are_listed_and_steered() {
    let folder = tempfile::tempdir().unwrap();
    let server = NatsServer::start().await.unwrap();
    let log = Log::builder(folder.path()).channels("mail.>", Durability::Stored).unwrap().open().unwrap();
    steered(log.into(), &server.url(), &folder.path().display().to_string()).await;
}
