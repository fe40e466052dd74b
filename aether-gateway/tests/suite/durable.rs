//! `/api/durable`: logs in folders, written by the library while the gateway reads them.

use std::fs;
use std::num::NonZeroU32;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use aether_core::{Aether, Durability, Vibrator};
use aether_gateway::{GatewayOptions, LogFolder};
use aether_log::store::Retention;
use aether_log::{Consumer, ConsumerOptions, Log};
use serde_json::Value;
use tokio::time::timeout;

use crate::api::PATIENCE;
use crate::support::{self, Metrics, Running, StoppedTime};

/// A log with a bus.
async fn shop(folder: &Path) -> (Log, Aether) {
    let log = Log::builder(folder).channels("orders.>", Durability::Stored).unwrap().open().unwrap();
    let aether = log.connect(aether::builder().url("local:")).await.unwrap();
    (log, aether)
}

async fn emit(aether: &Aether, waves: u64) {
    let shop = aether.emitter("shop").unwrap();
    for number in 0..waves {
        shop.emit_wave("orders.created", &number).await.unwrap();
    }
}

async fn acknowledge(consumer: &Consumer, waves: u64) {
    for _ in 0..waves {
        consumer.receive().await.unwrap().ack().await.unwrap();
    }
}

async fn watching(folders: Vec<LogFolder>) -> Running {
    support::run(&Aether::local(), GatewayOptions::default().physics(false).durable(folders)).await
}

/// How long the gateway waits for a reading before it answers with the last one.
const READ_WITHIN: Duration = Duration::from_secs(3);

/// The answer with a new reading. One that took long may have the last one, because the disk or the machine was busy.
pub(crate) async fn read(running: &Running) -> Value {
    let reading = async {
        loop {
            let asked = Instant::now();
            let body = answer(running).await;
            if asked.elapsed() < READ_WITHIN {
                return body;
            }
        }
    };
    timeout(2 * PATIENCE, reading).await.expect("a new reading")
}

async fn answer(running: &Running) -> Value {
    let answer = timeout(PATIENCE, running.get("/api/durable")).await.unwrap();
    assert_eq!(answer.code, 200, "{}", answer.body);
    let body: Value = serde_json::from_str(&answer.body).unwrap();
    let document: Value = serde_json::from_str(include_str!("../../openapi.json")).unwrap();
    let schema = jsonschema::validator_for(&document["components"]["schemas"]["Durable"]).unwrap();
    let errors: Vec<_> = schema.iter_errors(&body).map(|error| error.to_string()).collect();
    assert!(errors.is_empty(), "{errors:?}");
    body
}

/// The hearers of each channel, on the map, and by which log.
pub(crate) async fn hearers(running: &Running) -> Vec<(String, String, Value)> {
    let map: Value = serde_json::from_str(&running.get("/api/map").await.body).unwrap();
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let hears = map["hears"].as_array().unwrap().iter();
    hears.map(|edge| (text(&edge["service"]), text(&edge["channel"]), edge["log"].clone())).collect()
}

/// The standing of a consumer, by its name.
fn consumer<'b>(log: &'b Value, name: &str) -> &'b Value {
    let all = log["consumers"].as_array().unwrap();
    &all.iter().find(|consumer| consumer["name"] == name).unwrap_or_else(|| panic!("{log}"))["standing"]
}

fn copied(from: &Path, to: &Path) {
    fs::create_dir(to).unwrap();
    for entry in fs::read_dir(from).unwrap().map(Result::unwrap) {
        let to = to.join(entry.file_name());
        match entry.path().is_dir() {
            true => copied(&entry.path(), &to),
            false => drop(fs::copy(entry.path(), to).unwrap()),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_map_has_durable_consumers_among_those_who_hear_a_channel() {
    let folder = tempfile::tempdir().unwrap();
    let (log, aether) = shop(&folder.path().join("shop")).await;
    let _billing = log.consumer("billing", "orders.*", ConsumerOptions::default()).unwrap();
    let _other = log.consumer("other", "orders.other", ConsumerOptions::default()).unwrap();
    let live = Vibrator::create("billing", &aether).await.unwrap();
    live.resonate_on("orders.created").await.unwrap();
    let options = GatewayOptions::default().physics(false).durable(vec![LogFolder::new(folder.path())]);
    let mut running = support::run(&aether, options).await;
    emit(&aether, 1).await;
    running.observes(1).await;
    read(&running).await;
    let edge = |log: Value| ("billing".to_owned(), "orders.created".to_owned(), log);
    assert_eq!(hearers(&running).await, [edge("shop".into()), edge(Value::Null)], "one name, two ways");
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_consumer_that_is_behind_has_its_exact_lag_in_the_answer_and_in_the_metrics() {
    let root = tempfile::tempdir().unwrap();
    let (log, aether) = shop(&root.path().join("shop")).await;
    emit(&aether, 20).await;
    let once = ConsumerOptions::default().max_attempts(NonZeroU32::MIN);
    let billing = log.consumer("billing", "orders.>", once.pauses(Duration::ZERO, Duration::ZERO)).unwrap();
    let _audit = log.consumer("audit", ">", ConsumerOptions::default()).unwrap();
    acknowledge(&billing, 3).await;
    billing.receive().await.unwrap().nack("no ink");
    // The failed wave is given up while the next one is waited for.
    acknowledge(&billing, 1).await;

    let mut folder = LogFolder::new(root.path());
    let mut retention = Retention::default();
    retention.max_records = Some(1_000_000);
    folder.retention = Some(retention);
    let running = watching(vec![folder]).await;
    let body = read(&running).await;
    let [log_line] = body["logs"].as_array().unwrap().as_slice() else { panic!("{body}") };
    assert_eq!((&log_line["name"], &log_line["error"]), (&"shop".into(), &Value::Null));
    let held = &log_line["held"];
    assert_eq!((&held["first"], &held["last"], &held["dead_letters"]), (&1.into(), &20.into(), &1.into()));
    assert_eq!(held["retention"]["max_waves"], 1_000_000);
    assert!(held["oldest_unix_ms"].as_u64() <= held["newest_unix_ms"].as_u64());
    let of_billing = consumer(log_line, "billing");
    assert_eq!((&of_billing["lag"], &of_billing["is_exact"]), (&15.into(), &true.into()), "{of_billing}");
    assert_eq!((&of_billing["position"], &of_billing["acknowledged"]), (&5.into(), &4.into()));
    assert_eq!((&of_billing["dead"], &of_billing["dead_letters"]), (&1.into(), &1.into()));
    assert_eq!(
        (&of_billing["pattern"], &consumer(log_line, "audit")["lag"]),
        (&"orders.>".into(), &20.into())
    );
    assert!(of_billing["last_acknowledged_unix_ms"].is_u64());
    assert_eq!(consumer(log_line, "audit")["last_acknowledged_unix_ms"], Value::Null);
    assert!(body["jetstream"]["is_observed"] == false && body["jetstream"]["reason"].is_string());

    // Read again for each request, while the log is written.
    emit(&aether, 3).await;
    acknowledge(&billing, 5).await;
    let later = read(&running).await;
    let of_billing = consumer(&later["logs"][0], "billing");
    assert_eq!((&of_billing["lag"], &of_billing["acknowledged"]), (&13.into(), &9.into()));
    assert_eq!(of_billing["lag_history"][0], 15, "a history has one number each five seconds");

    let metrics = Metrics::read(&running.get("/metrics").await.body);
    let folder = root.path().join("shop").display().to_string();
    let of_log = [("store", "folder"), ("log", folder.as_str())];
    let of_billing = [of_log[0], of_log[1], ("consumer", "billing")];
    assert_eq!(metrics.value("aether_durable_lag_waves", &of_billing), 13.0);
    assert_eq!(metrics.value("aether_durable_retrying_waves", &of_billing), 0.0);
    assert_eq!(metrics.value("aether_durable_dead_letters", &of_log), 1.0);
    assert_eq!(metrics.value("aether_durable_readable", &of_log), 1.0);
    assert!(metrics.value("aether_durable_log_bytes", &of_log) > 500.0);
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_folders_the_answer_is_empty_and_says_what_is_not_observed() {
    let running = watching(Vec::new()).await;
    let body = read(&running).await;
    assert_eq!((&body["logs"], &body["unix_ms"]), (&Value::Array(Vec::new()), &Value::Null));
    assert!(body["jetstream"]["reason"].as_str().unwrap().contains("on no NATS server"));
    assert!(!running.get("/metrics").await.body.contains("aether_durable"));
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_that_vanishes_is_an_error_until_it_is_back_and_the_others_are_read() {
    let root = tempfile::tempdir().unwrap();
    for name in ["shop", "till"] {
        emit(&shop(&root.path().join(name)).await.1, 2).await;
    }
    // A folder of something else is none of a log.
    fs::create_dir(root.path().join("pictures")).unwrap();
    let nowhere = root.path().join("nowhere");
    let running = watching(vec![LogFolder::new(root.path()), LogFolder::new(&nowhere)]).await;
    let lines = |body: &Value| -> Vec<(String, bool)> {
        let logs = body["logs"].as_array().unwrap().iter();
        logs.map(|log| (log["name"].as_str().unwrap().to_owned(), log["error"].is_string())).collect()
    };
    let named = |all: [(&str, bool); 3]| all.map(|(name, fails)| (name.to_owned(), fails)).to_vec();
    let first = read(&running).await;
    assert_eq!(lines(&first), named([("nowhere", true), ("shop", false), ("till", false)]));
    fs::remove_dir_all(root.path().join("shop")).unwrap();
    let gone = read(&running).await;
    assert_eq!(lines(&gone), named([("nowhere", true), ("shop", true), ("till", false)]));
    let metrics = Metrics::read(&running.get("/metrics").await.body);
    let folder = root.path().join("shop").display().to_string();
    assert_eq!(metrics.value("aether_durable_readable", &[("store", "folder"), ("log", &folder)]), 0.0);
    emit(&shop(&root.path().join("shop")).await.1, 5).await;
    emit(&shop(&nowhere).await.1, 1).await;
    let back = read(&running).await;
    assert_eq!(lines(&back), named([("nowhere", false), ("shop", false), ("till", false)]));
    assert_eq!(back["logs"][1]["held"]["last"], 5);
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_torn_end_of_a_journal_costs_one_acknowledgement_and_no_log() {
    let root = tempfile::tempdir().unwrap();
    let folder = root.path().join("shop");
    {
        let (log, aether) = shop(&folder).await;
        emit(&aether, 5).await;
        acknowledge(&log.consumer("billing", "orders.>", ConsumerOptions::default()).unwrap(), 3).await;
    }
    let journals = fs::read_dir(folder.join("consumers/billing")).unwrap();
    let is_segment = |path: &PathBuf| path.extension().is_some_and(|end| end == "log");
    let path = journals.map(|file| file.unwrap().path()).find(is_segment).unwrap();
    let running = watching(vec![LogFolder::new(&folder)]).await;
    assert_eq!(consumer(&read(&running).await["logs"][0], "billing")["lag"], 2);
    let whole = fs::read(&path).unwrap();
    fs::write(&path, &whole[..whole.len() - 5]).unwrap();
    assert_eq!(consumer(&read(&running).await["logs"][0], "billing")["lag"], 3);
    // Another program's file in its place concerns this consumer only.
    fs::write(path.with_file_name("notes.log"), "nothing of a log").unwrap();
    let body = read(&running).await;
    let line = &body["logs"][0];
    assert_eq!((&line["error"], &line["consumers"][0]["standing"]), (&Value::Null, &Value::Null));
    assert!(line["consumers"][0]["error"].as_str().unwrap().contains("notes.log"), "{line}");
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hostile_number_of_consumers_and_logs_has_a_bounded_answer() {
    let root = tempfile::tempdir().unwrap();
    let first = root.path().join("log-000");
    {
        let (log, aether) = shop(&first).await;
        emit(&aether, 2).await;
        let _billing = log.consumer("billing", "orders.>", ConsumerOptions::default()).unwrap();
    }
    for number in 1..80 {
        copied(&first, &root.path().join(format!("log-{number:03}")));
    }
    for number in 0..1500 {
        fs::create_dir(first.join(format!("consumers/{}-{number:04}", "x".repeat(50)))).unwrap();
    }
    let running = watching(vec![LogFolder::new(root.path())]).await;
    // So much takes a build without optimisation longer than the gateway waits. The first reading is as good as any.
    let mut body = answer(&running).await;
    while body["unix_ms"].is_null() {
        body = answer(&running).await;
    }
    assert_eq!((body["logs"].as_array().unwrap().len(), &body["more_logs"]), (64, &16.into()));
    let line = &body["logs"][0];
    assert_eq!((line["consumers"].as_array().unwrap().len(), &line["more_consumers"]), (64, &1437.into()));
    assert_eq!(consumer(line, "billing")["lag"], 2);
    let bytes = body.to_string().len();
    assert!(bytes < 200_000, "{bytes}");
    running.stop().await;
}

/// A pipe in the place of a segment: opening it waits for a writer.
#[cfg(unix)]
#[tokio::test]
async fn a_disk_that_does_not_answer_delays_no_scrape_and_a_request_gets_what_was_read_last() {
    let root = tempfile::tempdir().unwrap();
    let folder = root.path().join("shop");
    emit(&shop(&folder).await.1, 2).await;
    let running = watching(vec![LogFolder::new(&folder)]).await;
    let before = read(&running).await;
    let journal = folder.join("consumers/stuck");
    fs::create_dir_all(&journal).unwrap();
    let pipe = journal.join("00000000000000000001-00000001.log");
    assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    let time = StoppedTime::new();
    let passing = async {
        loop {
            time.second_passes().await;
            // The request gets as far as another answer takes.
            running.get("/livez").await;
        }
    };
    let stale = tokio::select! {
        stale = answer(&running) => stale,
        () = passing => unreachable!(),
    };
    assert_eq!(stale["unix_ms"], before["unix_ms"], "nothing was read since");
    let scrape = timeout(Duration::from_secs(20), running.get("/metrics")).await.unwrap();
    assert!(scrape.body.contains("aether_durable_readable"));
    drop(time);
    timeout(PATIENCE, running.stop()).await.expect("the gateway ends without the disk");
    // The thread ends, too.
    drop(fs::OpenOptions::new().write(true).open(&pipe).unwrap());
}
