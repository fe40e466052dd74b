//! Questions about the queues of a process, in a folder and in JetStream.

use std::num::NonZeroU32;
use std::time::Duration;

use aether_conformance::{NatsServer, ServerOptions};
use aether_core::{Aether, Durability, Emitter, Kind, Wave};
use aether_log::{ConsumerOptions, DurableLog, JetStreamLog, Log, Schedule};
use aether_service::jobs::{JobAnswer, JobQuery, JobRecord, QueueRecord};
use aether_service::letters::{LetterAnswer, LetterFilter, LetterQuery, channel_of, store_of_stream};
use aether_service::{Durable, Service};

use crate::service::stage::{LONG, Stage};

async fn ask(asker: &Emitter, store: u64, query: JobQuery) -> JobAnswer {
    let query = LetterQuery::Jobs(query);
    let question = Wave::builder(channel_of(store)).kind(Kind::Query).json(&query).build().unwrap();
    match asker.ask_within(question, LONG).await.unwrap().json().unwrap() {
        LetterAnswer::Jobs(answer) => answer,
        other => panic!("{other:?}"),
    }
}

async fn queues(asker: &Emitter, store: u64) -> Vec<QueueRecord> {
    match ask(asker, store, JobQuery::Ls { after: String::new() }).await {
        JobAnswer::Queues { queues, more: false } => queues,
        other => panic!("{other:?}"),
    }
}

/// Waits until the only queue is so. The queue shows the work of handlers a moment later.
async fn queue_until(asker: &Emitter, store: u64, is_so: impl Fn(&QueueRecord) -> bool) -> QueueRecord {
    let asking = async {
        loop {
            let [queue] = &queues(asker, store).await[..] else { panic!("one queue") };
            if is_so(queue) {
                return queue.clone();
            }
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(LONG, asking).await.expect("the queue is so")
}

async fn jobs(asker: &Emitter, store: u64) -> Vec<JobRecord> {
    match ask(asker, store, JobQuery::Show { consumer: "mailer".to_owned(), after: 0 }).await {
        JobAnswer::Jobs { jobs, more: false } => jobs,
        other => panic!("{other:?}"),
    }
}

async fn queues_are_answered_for(log: DurableLog, name: &str) {
    let aether = log.connect(aether::builder().url("local:")).await.unwrap();
    let hour = Duration::from_secs(3600);
    let options = ConsumerOptions::default().pauses(hour, hour).max_attempts(NonZeroU32::new(3).unwrap());
    let fails = async |wave: Wave| match wave.text() {
        Ok("bad") => Err(std::io::Error::other("no such address")),
        _ => Ok(()),
    };
    let builder =
        Service::builder("post").on_durable("mail.*", Durable::consumer("mailer").options(options), fails);
    let stage = Stage::run(&aether, builder.with_letters().build(&aether).await.unwrap()).await;
    let (shop, store) = (aether.emitter("shop").unwrap(), aether.dead_letters().store());
    let consumer = || "mailer".to_owned();
    let mail = |text: &str| Wave::builder("mail.send").key("17").text(text).build().unwrap();
    shop.emit(mail("good")).await.unwrap();
    shop.emit(mail("bad")).await.unwrap();
    let queue = queue_until(&shop, store, |queue| queue.retrying == 1 && queue.done == 1).await;
    assert_eq!(
        (queue.consumer.as_str(), queue.pattern.as_str(), queue.log.as_str()),
        ("mailer", "mail.*", name)
    );
    assert!(queue.due_ms > Some(3_000_000) && !queue.paused && queue.waiting == 0, "{queue:?}");
    let [bad] = &jobs(&shop, store).await[..] else { panic!("one wave") };
    assert_eq!((bad.channel.as_str(), bad.key.as_deref(), bad.attempt), ("mail.send", Some("17"), 2));
    assert!(bad.running_ms.is_none() && bad.error.as_ref().unwrap().contains("no such address"), "{bad:?}");

    // Due now, it fails once more.
    let retry = JobQuery::Retry { consumer: consumer(), position: Some(bad.position) };
    assert_eq!(ask(&shop, store, retry).await, JobAnswer::Changed { number: 1 });
    queue_until(&shop, store, |queue| queue.retrying == 1).await;
    let again = async {
        while jobs(&shop, store).await.first().is_none_or(|job| job.attempt < 3 || job.due_ms.is_none()) {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(LONG, again).await.expect("the second attempt");

    // Paused, it takes nothing, and what is cancelled is a letter.
    let pause = JobQuery::Pause { consumer: consumer() };
    assert_eq!(ask(&shop, store, pause).await, JobAnswer::Changed { number: 1 });
    shop.emit(mail("later")).await.unwrap();
    let queue = queue_until(&shop, store, |queue| queue.waiting + queue.unseen == 1).await;
    assert!(queue.paused && queue.done == 1, "{queue:?}");
    let cancel = || JobQuery::Cancel { consumer: consumer(), position: bad.position };
    assert_eq!(ask(&shop, store, cancel()).await, JobAnswer::Changed { number: 1 });
    assert_eq!(ask(&shop, store, cancel()).await, JobAnswer::Changed { number: 0 });
    let resume = JobQuery::Resume { consumer: consumer() };
    assert_eq!(ask(&shop, store, resume).await, JobAnswer::Changed { number: 1 });
    let queue = queue_until(&shop, store, |queue| queue.done == 3).await;
    assert_eq!((queue.paused, queue.letters, queue.retrying), (false, 1, 0), "{queue:?}");
    let other = JobQuery::Pause { consumer: "other".to_owned() };
    assert_eq!(ask(&shop, store, other).await, JobAnswer::Changed { number: 0 });
    let letters = log.dead().after(0, 10).await.unwrap();
    assert!(letters.len() == 1 && letters[0].is_cancelled());

    // Schedules of the same log.
    let nightly = Schedule::cron("0 3 * * *", "Europe/Berlin").unwrap();
    log.schedules().put("nightly", nightly, mail("report")).await.unwrap();
    let list = || JobQuery::Schedules { after: String::new() };
    let JobAnswer::Schedules { schedules, more: false } = ask(&shop, store, list()).await else { panic!() };
    let [schedule] = &schedules[..] else { panic!("{schedules:?}") };
    assert_eq!((schedule.key.as_str(), schedule.channel.as_str()), ("nightly", "mail.send"));
    assert_eq!((schedule.schedule.as_str(), schedule.log.as_str()), ("0 3 * * * Europe/Berlin", name));
    assert!(schedule.next_unix_ms > 0);
    for number in [1, 0] {
        let end = JobQuery::Unschedule { key: "nightly".to_owned() };
        assert_eq!(ask(&shop, store, end).await, JobAnswer::Changed { number });
    }
    stage.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn queues_of_a_folder_are_listed_and_steered_by_questions() {
    let folder = tempfile::tempdir().unwrap();
    let log = Log::builder(folder.path()).channels("mail.>", Durability::Stored).unwrap().open().unwrap();
    queues_are_answered_for(log.into(), &folder.path().display().to_string()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn queues_of_jetstream_are_listed_and_steered_by_questions() {
    let streams = tempfile::tempdir().unwrap();
    let server = NatsServer::start_with(ServerOptions::default().jetstream(streams.path())).await.unwrap();
    let log = JetStreamLog::builder(server.url(), "shop").channels("mail.>", Durability::Stored).unwrap();
    queues_are_answered_for(log.open().await.unwrap().into(), "shop").await;
}

#[tokio::test]
async fn a_process_without_a_log_and_a_log_itself_have_no_queues() {
    let aether = Aether::local();
    let stage =
        Stage::run(&aether, Service::builder("stock").with_letters().build(&aether).await.unwrap()).await;
    let (shop, store) = (aether.emitter("shop").unwrap(), aether.dead_letters().store());
    assert!(queues(&shop, store).await.is_empty());
    let pause = JobQuery::Pause { consumer: "mailer".to_owned() };
    assert_eq!(ask(&shop, store, pause).await, JobAnswer::Changed { number: 0 });
    assert_ne!(store, store_of_stream("shop"));
    // The form on the wire.
    let query: LetterQuery =
        serde_json::from_str(r#"{"op":"jobs","do":"retry","consumer":"mailer"}"#).unwrap();
    assert_eq!(query, LetterQuery::Jobs(JobQuery::Retry { consumer: "mailer".to_owned(), position: None }));
    let ls: LetterQuery = serde_json::from_str(r#"{"op":"ls"}"#).unwrap();
    assert_eq!(ls, LetterQuery::Ls { filter: LetterFilter::default(), after: 0 });
    stage.close().await;
}
