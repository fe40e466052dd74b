//! `/api/queues` and `/api/schedules`: the queues of running services, listed and steered.

use std::num::NonZeroU32;
use std::time::Duration;

use aether_conformance::{NatsServer, ServerOptions};
use aether_core::{Aether, Durability, Vibrator, Wave};
use aether_gateway::GatewayOptions;
use aether_log::{ConsumerOptions, DurableLog, JetStreamLog, Log, Schedule};
use aether_service::jobs::{JobAnswer, JobQuery, JobRecord, QueueRecord};
use aether_service::letters::{LetterAnswer, LetterQuery};
use aether_service::{CancellationToken, Durable, Json, Service};
use serde_json::Value;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use crate::api::{PATIENCE, request};
use crate::schemas::Described;
use crate::support::{self, Running};

/// A service with a wave that pauses after a failure, and one that is in flight until the post ends.
struct Post {
    aether: Aether,
    stop: CancellationToken,
    running: JoinHandle<()>,
}

fn mail(channel: &str, text: &str) -> Wave {
    Wave::builder(channel).key("17").text(text).build().unwrap()
}

impl Post {
    async fn open(log: &DurableLog, url: &str) -> Self {
        let aether = log.connect(aether::builder().url(url)).await.unwrap();
        let hour = Duration::from_secs(3600);
        let options = ConsumerOptions::default().pauses(hour, hour).max_attempts(NonZeroU32::new(9).unwrap());
        let stop = CancellationToken::new();
        let ending = stop.clone();
        let handle = move |wave: Wave| {
            let ending = ending.clone();
            async move {
                match wave.text() {
                    Ok("bad") => Err(std::io::Error::other("no such address")),
                    _ => {
                        ending.cancelled().await;
                        Ok(())
                    }
                }
            }
        };
        let mailer = Durable::consumer("mailer").options(options);
        let service = Service::builder("post").on_durable("mail.*", mailer, handle).with_letters();
        let service = service.build(&aether).await.unwrap();
        let running = service.run_until(stop.clone());
        let running = tokio::spawn(async move {
            running.await.unwrap();
        });
        let post = Self { aether, stop, running };
        let shop = post.aether.emitter("shop").unwrap();
        shop.emit(mail("mail.send", "bad")).await.unwrap();
        shop.emit(mail("mail.secret", "slow")).await.unwrap();
        let mailer = log.consumers().remove(0);
        let begun = async {
            loop {
                let queue = mailer.queue().await.unwrap();
                if (queue.retrying, queue.in_flight) == (1, 1) {
                    break;
                }
                tokio::task::yield_now().await;
            }
        };
        timeout(PATIENCE, begun).await.expect("both waves were taken");
        post
    }

    async fn end(self) {
        self.stop.cancel();
        self.running.await.unwrap();
        aether_service::close(&self.aether).await;
    }
}

fn in_folder(folder: &std::path::Path) -> DurableLog {
    Log::builder(folder).channels("mail.>", Durability::Stored).unwrap().open().unwrap().into()
}

/// An answer, and its code.
async fn asked(running: &Running, method: &str, path: &str) -> (u16, Value) {
    let answer = running.request(method, path).await;
    (answer.code, serde_json::from_str(&answer.body).unwrap_or_else(|_| panic!("{path}: {}", answer.body)))
}

/// The list when a service has answered with this many queues.
async fn listed(running: &Running, described: &Described, queues: usize) -> Value {
    let listed = async {
        loop {
            let list = described.get(running, "/api/queues").await;
            if list["queues"].as_array().unwrap().len() == queues {
                return list;
            }
        }
    };
    timeout(PATIENCE, listed).await.expect("the queues")
}

/// The address of the first queue.
fn address(list: &Value) -> String {
    let queue = &list["queues"][0];
    format!("/api/queues/{}/{}", queue["store"].as_str().unwrap(), queue["consumer"].as_str().unwrap())
}

async fn steered(log: DurableLog, url: &str, name: &str, on: impl AsyncFn(&Post) -> Aether) {
    let post = Post::open(&log, url).await;
    let running = support::run(&on(&post).await, GatewayOptions::default()).await;
    let described = Described::by(&running).await;
    let list = listed(&running, &described, 1).await;
    let queue = &list["queues"][0];
    for (field, value) in [
        ("service", Value::from("post")),
        ("consumer", "mailer".into()),
        ("log", name.into()),
        ("pattern", "mail.*".into()),
        ("paused", false.into()),
        ("retrying", 1.into()),
        ("in_flight", 1.into()),
        ("letters", 0.into()),
    ] {
        assert_eq!(queue[field], value, "{field}: {queue}");
    }
    assert!(queue["due_ms"].is_u64() && queue["longest_ms"].is_u64(), "{queue}");
    assert_eq!((&list["hidden"], &list["more"]), (&0.into(), &false.into()));

    let mailer = address(&list);
    let shown = described.get_as(&running, &mailer, "/api/queues/{store}/{consumer}").await;
    let [bad, slow] = shown["jobs"].as_array().unwrap().as_slice() else { panic!("{shown}") };
    assert_eq!((&bad["position"], &bad["key"], &bad["attempt"]), (&1.into(), &"17".into(), &2.into()));
    assert!(bad["due_ms"].is_u64() && bad["running_ms"].is_null(), "{bad}");
    assert!(bad["error"].as_str().unwrap().contains("no such address"), "{bad}");
    assert_eq!((&slow["position"], &slow["channel"]), (&2.into(), &"mail.secret".into()));
    assert!(slow["running_ms"].is_u64() && slow["due_ms"].is_null(), "{slow}");

    let post_to = async |change: &str| asked(&running, "POST", &format!("{mailer}/{change}")).await;
    let one = (200, serde_json::json!({ "changed": 1 }));
    assert_eq!(post_to("pause").await, one);
    assert_eq!(listed(&running, &described, 1).await["queues"][0]["paused"], true);
    assert_eq!(post_to("retry?position=1").await, one);
    assert_eq!(post_to("cancel?position=2").await.0, 404, "it is in flight");
    // JetStream delivers it a moment later.
    let cancelled = async { while post_to("cancel?position=1").await != one {} };
    timeout(PATIENCE, cancelled).await.expect("it waits");
    let (code, again) = post_to("cancel?position=1").await;
    assert_eq!((code, &again["reason"]), (404, &"queue".into()), "{again}");
    assert_eq!(post_to("retry").await.0, 404, "nothing pauses");
    assert_eq!(post_to("resume").await, one);
    for wrong in ["pause?position=1", "cancel", "retry?position=x", "retry?wave=1", "explode"] {
        assert_eq!(post_to(wrong).await.0, 400, "{wrong}");
    }
    let store = mailer.split('/').nth(3).unwrap();
    assert_eq!(asked(&running, "POST", &format!("/api/queues/{store}/nobody/pause")).await.0, 404);
    assert_eq!(asked(&running, "GET", "/api/queues/x/mailer").await.0, 400);
    assert_eq!(asked(&running, "GET", "/api/queues/1/mailer").await.0, 404, "no such store");

    let nightly = Schedule::cron("0 3 * * *", "Europe/Berlin").unwrap();
    log.schedules().put("nightly", nightly, mail("mail.send", "report")).await.unwrap();
    let planned = described.get(&running, "/api/schedules").await;
    let [schedule] = planned["schedules"].as_array().unwrap().as_slice() else { panic!("{planned}") };
    assert_eq!((&schedule["key"], &schedule["log"]), (&"nightly".into(), &name.into()), "{schedule}");
    assert_eq!(schedule["schedule"], "0 3 * * * Europe/Berlin");
    let end = format!("/api/schedules/{}/nightly/unschedule", schedule["store"].as_str().unwrap());
    assert_eq!(asked(&running, "POST", &end).await, one);
    assert_eq!(asked(&running, "POST", &end).await.0, 404);
    running.stop().await;
    post.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn queues_of_a_log_in_a_folder_are_listed_and_steered() {
    let folder = tempfile::tempdir().unwrap();
    let name = folder.path().display().to_string();
    steered(in_folder(folder.path()), "local:", &name, async |post| post.aether.clone()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn queues_of_a_log_in_jetstream_are_listed_and_steered_from_another_process() {
    let streams = tempfile::tempdir().unwrap();
    let server = NatsServer::start_with(ServerOptions::default().jetstream(streams.path())).await.unwrap();
    let log = JetStreamLog::builder(server.url(), "shop").channels("mail.>", Durability::Stored).unwrap();
    let log = log.open().await.unwrap().into();
    let elsewhere = async |_: &Post| aether::connect(&server.url()).await.unwrap();
    steered(log, &server.url(), "shop", elsewhere).await;
}

#[cfg(unix)]
#[tokio::test(flavor = "multi_thread")]
async fn queues_waves_and_schedules_are_for_those_who_may_hear_them() {
    use std::os::unix::fs::PermissionsExt as _;

    use aether_gateway::{Access, FieldOptions};
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("tokens.json");
    let tokens = r#"[{"token": "mail", "hear": ["mail.>"]}, {"token": "sent", "hear": ["mail.send"]}, {"token": "deaf", "emit": [">"]},
                     {"token": "all", "hear": [">"], "emit": ["aether.letters.*"]}]"#;
    std::fs::write(&path, tokens).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
    let log = in_folder(&folder.path().join("shop"));
    let post = Post::open(&log, "local:").await;
    let nightly = || Schedule::cron("0 3 * * *", "Europe/Berlin").unwrap();
    log.schedules().put("secret", nightly(), mail("mail.secret", "report")).await.unwrap();
    let fields = FieldOptions::default().access(Access::load(&path).unwrap());
    let running = support::run(&post.aether, GatewayOptions::default().fields(fields)).await;
    let ask = async |token: &str, method: &str, path: &str| {
        let head = format!("{method} {path} HTTP/1.1\r\nauthorization: Bearer {token}");
        let (code, body) = request(&running, &head, "").await;
        (code, serde_json::from_str::<Value>(&body).unwrap())
    };
    // The service announces itself a moment later.
    let listed = async {
        loop {
            let (_, list) = ask("mail", "GET", "/api/queues").await;
            if list["queues"].as_array().is_some_and(|queues| !queues.is_empty()) {
                return list;
            }
        }
    };
    let list = timeout(PATIENCE, listed).await.expect("the queue");
    let mailer = address(&list);
    let rows = async |token: &str, path: &str, name: &str| {
        let (code, body) = ask(token, "GET", path).await;
        assert_eq!(code, 200, "{body}");
        (body[name].as_array().unwrap().len(), body["hidden"].as_u64().unwrap())
    };
    // The consumer takes more channels than one.
    for (path, name, whole, part) in [
        ("/api/queues", "queues", (1, 0), (0, 1)),
        (&*mailer, "jobs", (2, 0), (1, 1)),
        ("/api/schedules", "schedules", (1, 0), (0, 1)),
    ] {
        assert_eq!(rows("mail", path, name).await, whole, "{path}");
        assert_eq!(rows("sent", path, name).await, part, "{path}");
        let (code, refused) = ask("deaf", "GET", path).await;
        assert_eq!((code, &refused["reason"]), (403, &"right".into()), "{path}");
        assert_eq!(ask("guess", "GET", path).await.0, 401, "{path}");
    }
    let (pause, end) = (format!("{mailer}/pause"), mailer.replace("queues", "schedules"));
    let end = end.replace("mailer", "secret/unschedule");
    for (token, code) in [("guess", 401), ("mail", 403), ("sent", 403), ("all", 200)] {
        assert_eq!(ask(token, "POST", &pause).await.0, code, "{token}");
        assert_eq!(ask(token, "POST", &end).await.0, code, "{token}");
    }
    running.stop().await;
    post.end().await;
}

/// Queues and waves without end in the store 1, and none in others.
fn endless(store: &str, query: JobQuery) -> JobAnswer {
    let more = store == "aether.letters.1";
    let numbers = |after: u64| after + 1..=after + if more { 128 } else { 0 };
    match query {
        JobQuery::Ls { after } => {
            let queue = |number| QueueRecord {
                consumer: format!("{number:09}"),
                log: String::new(),
                pattern: "a".to_owned(),
                by_key: false,
                paused: false,
                waiting: 0,
                limited: 0,
                unseen: 0,
                oldest_ms: None,
                retrying: 0,
                due_ms: None,
                in_flight: 0,
                longest_ms: None,
                letters: 0,
                done: 0,
                per_second: 0.5,
            };
            JobAnswer::Queues { queues: numbers(after.parse().unwrap_or(0)).map(queue).collect(), more }
        }
        JobQuery::Show { after, .. } => {
            let job = |position| JobRecord {
                position,
                wave: String::new(),
                channel: String::new(),
                key: None,
                attempt: 1,
                running_ms: None,
                due_ms: None,
                error: None,
            };
            JobAnswer::Jobs { jobs: numbers(after).map(job).collect(), more }
        }
        _ => JobAnswer::Changed { number: 0 },
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn of_many_stores_and_endless_lists_the_first_are_shown_and_more_is_true() {
    let aether = Aether::local();
    let mut many = Service::builder("many");
    for store in 1..=70 {
        let answer = async |Json(query): Json<LetterQuery>, wave: Wave| match query {
            LetterQuery::Jobs(query) => Json(LetterAnswer::Jobs(endless(wave.channel().as_str(), query))),
            _ => Json(LetterAnswer::Letters { letters: Vec::new(), more: false }),
        };
        many = many.on_query(format!("aether.letters.{store:x}"), answer);
    }
    let many = many.build(&aether).await.unwrap();
    let stop = CancellationToken::new();
    let serving = tokio::spawn(many.run_until(stop.clone()));
    let running = support::run(&aether, GatewayOptions::default()).await;
    let described = Described::by(&running).await;
    let list = listed(&running, &described, 1000).await;
    assert_eq!((list["stores"].as_array().unwrap().len(), &list["more"]), (64, &true.into()));
    assert!(list["stores"].as_array().unwrap().iter().all(|store| store["error"].is_null()), "{list}");
    let shown = described.get_as(&running, "/api/queues/1/mailer", "/api/queues/{store}/{consumer}").await;
    assert_eq!((shown["jobs"].as_array().unwrap().len(), &shown["more"]), (1000, &true.into()));
    // What is none of the answers to the question.
    let schedules = described.get(&running, "/api/schedules").await;
    assert_eq!(schedules["stores"][0]["error"], "its answer cannot be read", "{schedules}");
    stop.cancel();
    serving.await.unwrap().unwrap();
    running.stop().await;
}

#[tokio::test]
async fn services_that_do_not_answer_are_named_and_after_ten_seconds_no_more_are_asked() {
    let aether = Aether::local();
    // It never receives.
    let mute = Vibrator::create("mute", &aether).await.unwrap();
    for store in 1..=6 {
        mute.resonate_on(&format!("aether.letters.{store}")).await.unwrap();
    }
    let running = support::run_stopped(&aether, GatewayOptions::default().physics(false)).await;
    let passing = async |method: &str, path: &str| {
        let mut asked = std::pin::pin!(asked(&running, method, path));
        loop {
            tokio::select! {
                answer = &mut asked => break answer,
                () = running.second_passes() => {}
            }
        }
    };
    let (code, list) = passing("GET", "/api/queues").await;
    let errors: Vec<_> =
        list["stores"].as_array().unwrap().iter().map(|store| store["error"].as_str().unwrap()).collect();
    assert_eq!((code, errors.len()), (200, 6), "{list}");
    assert_eq!(errors[0], "no answer on aether.letters.1 within 2s");
    assert_eq!(errors[5], "it was not asked any more, as others took too long", "{list}");
    for (method, path) in [("GET", "/api/queues/1/mailer"), ("POST", "/api/queues/1/mailer/pause")] {
        let (code, answer) = passing(method, path).await;
        assert_eq!((code, &answer["reason"]), (504, &"queue".into()), "{path}: {answer}");
    }
    running.stop().await;
}
