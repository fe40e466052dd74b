//! Traces, metrics and logs of the sample services, as a collector gets them.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write as _;
use std::net::TcpListener;

use nix::sys::signal::Signal;

use crate::collector::{Collector, Seen, SeenHistogram};
use crate::nats::{server, with};
use crate::process::{PATIENCE, Running, Said, run};

/// The kinds of spans in OTLP.
const INTERNAL: i32 = 1;
const CLIENT: i32 = 3;
const PRODUCER: i32 = 4;
const CONSUMER: i32 = 5;

/// Nobody asks twice because the machine is busy.
const PATIENT: [&str; 4] = ["--set", "service.alpha.patience=1m", "--set", "service.alpha.deadline=2m"];

/// The server gives each order to one of two processes by chance. Of 40 each of them gets some.
const ORDERS: usize = 40;

fn started(args: &[&str], medium: &[String; 2], more: &[&str]) -> Running {
    let mut running = Running::start(&with(&[args, more].concat(), medium));
    running.tells("the service started");
    running
}

fn ended(running: Running) -> Said {
    running.signal(Signal::SIGTERM);
    let (said, _) = running.end();
    assert_eq!(said.code, Some(0), "{said:?}");
    said
}

/// A process of orders, whose payments are shared with a second one, and one of the stock.
#[tokio::test(flavor = "multi_thread")]
async fn an_order_through_three_processes_is_one_trace_with_the_right_parents() {
    let (_server, medium) = server().await;
    let collector = Collector::start();
    let otlp = format!("telemetry.otlp={}", collector.address());
    let export = ["--set", &otlp];
    let beta = started(&["beta", "--units", "1000"], &medium, &export);
    // It creates one order, and then charges the cards of others.
    let payer = ["alpha", "--rate", "0.001", "--seed", "2", "--decline-rate", "0"];
    let payer = started(&[&payer[..], &PATIENT].concat(), &medium, &export);
    let number = ORDERS.to_string();
    let shop = ["alpha", "--orders", &number, "--rate", "200", "--decline-rate", "0"];
    let orders = run(&with(&[&shop[..], &PATIENT, &export].concat(), &medium));
    assert_eq!(orders.code, Some(0), "{orders:?}");
    assert!(!orders.err.contains("telemetry was lost"), "{}", orders.err);
    for running in [payer, beta] {
        assert!(!ended(running).err.contains("telemetry was lost"));
    }

    let received = collector.received();
    let mut traces: BTreeMap<&[u8], Vec<&Seen>> = BTreeMap::new();
    for span in &received.spans {
        traces.entry(&span.trace).or_default().push(span);
    }
    let is_order = |spans: &&Vec<&Seen>| spans.iter().any(|span| span.name == "order");
    let orders: Vec<_> = traces.values().filter(is_order).collect();
    assert_eq!(orders.len(), ORDERS + 1, "one trace an order");
    orders.iter().for_each(|spans| check_order(spans));
    let processes =
        |spans: &&&Vec<&Seen>| spans.iter().map(|span| &span.instance).collect::<BTreeSet<_>>().len();
    assert!(orders.iter().any(|spans| processes(&spans) == 3), "some order was paid in the other process");

    for service in ["aether-service-alpha", "aether-service-beta"] {
        let has = |of: &[(String, String)], part: &str| {
            of.iter().any(|(from, text)| from == service && text.contains(part))
        };
        assert!(has(&received.logs, "the service started"), "{:?}", received.logs);
        for name in ["aether.inbox.waves", "aether.outbox.waves", "aether.medium.connected"] {
            assert!(has(&received.metrics, name), "{:?}", received.metrics);
        }
    }
    // Each order asks the stock twice, from another process.
    for name in ["aether.wave.wait", "aether.wave.handling", "aether.wave.transit"] {
        check_histograms(
            &received.histograms,
            ["aether-service-beta", "beta"],
            name,
            2 * (ORDERS as u64 + 1),
        );
    }
    check_histograms(&received.histograms, ["aether-service-alpha", "payments"], "aether.wave.handling", 1);
}

/// The last export of a service has counted this much, in buckets that add up.
fn check_histograms(all: &[SeenHistogram], [process, service]: [&str; 2], name: &str, least: u64) {
    let is_of = |seen: &&SeenHistogram| {
        (seen.service.as_str(), seen.name.as_str()) == (process, name)
            && seen.attributes["aether.service"] == service
    };
    let by_band: BTreeMap<_, _> =
        all.iter().filter(is_of).map(|seen| (&seen.attributes["aether.amplitude"], seen)).collect();
    for seen in by_band.values() {
        assert_eq!((seen.buckets.len(), seen.unit.as_str()), (seen.bounds.len() + 1, "s"), "{seen:?}");
        assert_eq!(seen.buckets.iter().sum::<u64>(), seen.count, "{seen:?}");
        assert!(seen.bounds.is_sorted() && seen.count > 0 && seen.nanos.0 < seen.nanos.1, "{seen:?}");
        // The sum is possible for these buckets.
        let counted = seen.buckets.iter().zip(&seen.bounds);
        let most: f64 = counted.map(|(count, bound)| *count as f64 * bound).sum();
        assert!(seen.buckets[seen.bounds.len()] > 0 || seen.sum <= most, "{seen:?}");
    }
    let count: u64 = by_band.values().map(|seen| seen.count).sum();
    assert!(count >= least, "{name} of {service}: {by_band:?}");
}

/// The handling of the second order waits for an emission limit beyond its time-out, and is repeated.
#[tokio::test(flavor = "multi_thread")]
async fn the_pause_before_a_retry_is_a_span_between_the_two_attempts() {
    let (_server, medium) = server().await;
    let collector = Collector::start();
    let otlp = format!("telemetry.otlp={}", collector.address());
    // The time-out is long for a busy machine, on which the handling of the first order must not take as long.
    let settings =
        ["emit.rate=1/1h", "emit.patience=1m", "handlers.time_out=2s", "handlers.retries=2", &otlp];
    let settings: Vec<_> = settings.iter().flat_map(|setting| ["--set", setting]).collect();
    let beta =
        started(&["beta", "--units", "1000", "--heartbeat", "0", "--restock-every", "0"], &medium, &settings);
    let shop = ["alpha", "--orders", "2", "--rate", "5", "--decline-rate", "0", "--set", &otlp];
    let orders = run(&with(&[&shop[..], &PATIENT].concat(), &medium));
    assert!(orders.out.contains("2 created = 2 completed"), "{orders:?}");
    ended(beta);

    let spans = collector.received().spans;
    let retries: Vec<_> = spans.iter().filter(|span| span.name.starts_with("retry ")).collect();
    let [retry] = retries[..] else { panic!("{retries:#?}") };
    assert_eq!((retry.name.as_str(), retry.kind), ("retry inventory.reserve", CLIENT));
    assert_eq!(retry.attributes["messaging.operation.name"], "retry");
    assert_eq!(retry.attributes["messaging.operation.type"], "settle");
    assert_eq!(retry.attributes["aether.wave.attempt"], "1");
    let attempts: Vec<_> = spans
        .iter()
        .filter(|span| span.trace == retry.trace && span.name == "process inventory.reserve")
        .collect();
    let attempt = |number: Option<&str>| {
        let is_it = |span: &&&Seen| span.attributes.get("aether.wave.attempt").map(String::as_str) == number;
        *attempts.iter().find(is_it).unwrap_or_else(|| panic!("{attempts:#?}"))
    };
    let (failed, again) = (attempt(None), attempt(Some("1")));
    assert_eq!(failed.attributes["error.type"], "retried");
    assert_eq!((&retry.parent, &again.parent), (&failed.parent, &failed.parent));
    assert!(failed.nanos.1 <= retry.nanos.0 && retry.nanos.0 < retry.nanos.1, "{failed:?} {retry:?}");
    assert!(retry.nanos.1 <= again.nanos.0, "{retry:?} {again:?}");
}

fn check_order(spans: &[&Seen]) {
    let by_id: BTreeMap<&[u8], &Seen> = spans.iter().map(|span| (&span.id[..], *span)).collect();
    assert_eq!(by_id.len(), spans.len(), "span ids are unique");
    let of = |name: &str| spans.iter().filter(move |span| span.name == name).collect::<Vec<_>>();
    let parent = |span: &Seen| by_id.get(&span.parent[..]).copied();
    let roots: Vec<_> = spans.iter().filter(|span| span.parent.is_empty()).collect();
    assert_eq!(roots.iter().map(|span| &span.name[..]).collect::<Vec<_>>(), ["order"]);
    assert_eq!(roots[0].kind, INTERNAL);
    for span in spans.iter().filter(|span| !span.parent.is_empty()) {
        assert!(parent(span).is_some(), "{} has a parent that was not exported", span.name);
        assert!(span.nanos.0 <= span.nanos.1, "{span:?}");
    }
    // The saga asks and announces within the span of the order.
    for name in ["emit orders.created", "ask inventory.reserve", "ask payments.charge"] {
        let [span] = of(name)[..] else { panic!("{name}: {spans:#?}") };
        assert_eq!(parent(span).map(|span| &span.name[..]), Some("order"), "{name}");
        assert_eq!(span.kind, if name.starts_with("ask") { CLIENT } else { PRODUCER });
        assert_eq!(span.attributes["messaging.system"], "aether");
        assert_eq!(span.attributes["messaging.operation.type"], "send");
    }
    // The receiver's spans are children of the sender's, and what it emits is a child of its handling.
    for (channel, service, emitted) in [
        ("inventory.reserve", "aether-service-beta", "emit inventory.reserved"),
        ("payments.charge", "aether-service-alpha", "emit payments.charged"),
    ] {
        let asked = of(&format!("ask {channel}"))[0];
        let [wait] = of(&format!("wait {channel}"))[..] else { panic!("wait {channel}: {spans:#?}") };
        let [process] = of(&format!("process {channel}"))[..] else {
            panic!("process {channel}: {spans:#?}")
        };
        for span in [wait, process] {
            assert_eq!((&span.parent, span.kind), (&asked.id, CONSUMER), "{}", span.name);
            assert_eq!(span.service, service);
            assert_eq!(span.attributes["messaging.destination.name"], channel);
            assert_eq!(span.attributes["messaging.message.id"], asked.attributes["messaging.message.id"]);
        }
        assert_eq!(wait.attributes["messaging.operation.type"], "receive");
        assert!(wait.nanos.0 <= wait.nanos.1 && wait.nanos.1 <= process.nanos.1, "{wait:?} {process:?}");
        // All on one machine, so one clock. The handling may end after its answer was received.
        assert!(asked.nanos.0 <= process.nanos.0 && process.nanos.0 <= asked.nanos.1);
        let [emitted] = of(emitted)[..] else { panic!("{emitted}: {spans:#?}") };
        assert_eq!((&emitted.parent, &emitted.instance), (&process.id, &process.instance));
    }
}

/// Nothing is sampled, and the context tells the others.
#[tokio::test(flavor = "multi_thread")]
async fn the_variables_of_opentelemetry_are_obeyed() {
    let (_server, medium) = server().await;
    let collector = Collector::start();
    let mut command = crate::process::aether(&with(
        &["alpha", "--orders", "1", "--set", &format!("telemetry.otlp={}", collector.address())],
        &medium,
    ));
    command.env("OTEL_TRACES_SAMPLER", "always_off").env("OTEL_SERVICE_NAME", "shop");
    let beta = started(&["beta"], &medium, &[]);
    let said = command.output().unwrap();
    assert!(said.status.success(), "{said:?}");
    ended(beta);
    let received = collector.received();
    assert!(received.spans.is_empty(), "{:?}", received.spans);
    assert!(received.logs.iter().all(|(service, _)| service == "shop") && !received.logs.is_empty());
}

/// Orders are not delayed by a collector that is away, nor by one that never answers.
#[tokio::test(flavor = "multi_thread")]
async fn without_a_collector_the_service_goes_on_and_says_what_was_lost() {
    let (_server, medium) = server().await;
    let beta = started(&["beta", "--units", "1000"], &medium, &[]);
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let silent_address = format!("telemetry.otlp=http://{}", silent.local_addr().unwrap());
    // Nobody listens on port 1. Each waits for a while until it gives up, so both do it at the same time.
    let shops = ["telemetry.otlp=http://127.0.0.1:1", &silent_address].map(|address| {
        let shop = ["alpha", "--orders", "30", "--rate", "500", "--decline-rate", "0", "--set", address];
        let mut command = crate::process::aether(&with(&shop, &medium));
        command.env("OTEL_BSP_MAX_QUEUE_SIZE", "50");
        Running::of(command)
    });
    for shop in shops {
        let (said, took) = shop.end();
        assert_eq!(said.code, Some(0), "{said:?}");
        assert!(said.out.contains("30 created = 30 completed"), "{said:?}");
        let lost = said.err.lines().find(|line| line.contains("telemetry was lost: spans")).unwrap();
        let number = |word: &str| {
            let before = lost.split(word).next().unwrap().trim_end();
            before.rsplit(' ').next().unwrap().parse::<u64>().unwrap()
        };
        let (offered, full) = (number("offered"), number("lost for lack of room"));
        assert!(offered > 200 && full > 0, "{lost}");
        let fates = number("exported +") + full + number("not taken by") + number("queued");
        assert_eq!(offered, fates, "{lost}");
        assert!(took < PATIENCE, "{took:?}");
    }
    ended(beta);
}

/// Lines of JSON have the ids of the trace.
#[tokio::test(flavor = "multi_thread")]
async fn lines_of_json_are_objects_with_the_ids_of_their_trace() {
    let (_server, medium) = server().await;
    let collector = Collector::start();
    let otlp = format!("telemetry.otlp={}", collector.address());
    let settings = ["--set", "log.format=json", "--set", "log.filter=debug,aether_core=info", "--set", &otlp];
    // No card is charged, so each order is undone, and the saga logs why.
    let beta = started(&["beta"], &medium, &[]);
    let shop = ["alpha", "--orders", "2", "--rate", "100", "--decline-rate", "1"];
    let said = run(&with(&[&shop[..], &settings].concat(), &medium));
    ended(beta);
    let lines: Vec<serde_json::Value> = said
        .err
        .lines()
        .filter(|line| line.starts_with('{'))
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let started = lines.iter().find(|line| line["message"] == "the service started").unwrap();
    assert!(
        started["timestamp"].is_string()
            && started["level"] == "INFO"
            && started["fields"]["service"].is_string()
    );
    let traced: Vec<_> = lines.iter().filter(|line| line["trace_id"].is_string()).collect();
    assert!(!traced.is_empty(), "{}", said.err);
    let spans = collector.received().spans;
    for line in traced {
        assert!(line["spans"][0]["name"].is_string(), "{line}");
        let known = spans.iter().any(|span| {
            let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
            line["trace_id"] == hex(&span.trace) && line["span_id"] == hex(&span.id)
        });
        assert!(known, "{line}");
    }
}

/// A collector that refuses everything is said while the program runs, without its password, and by `doctor`.
#[tokio::test(flavor = "multi_thread")]
async fn a_collector_that_refuses_is_said_once_and_its_password_never() {
    let (server, medium) = server().await;
    let refusing = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = refusing.local_addr().unwrap();
    let (heads, seen) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        for connection in refusing.incoming().map_while(Result::ok) {
            let heads = heads.clone();
            std::thread::spawn(move || {
                let mut from = std::io::BufReader::new(&connection);
                let mut head = String::new();
                while !head.ends_with("\r\n\r\n")
                    && std::io::BufRead::read_line(&mut from, &mut head).unwrap_or(0) > 0
                {}
                let _ = heads.send(head);
                let _ = (&connection).write_all(
                    b"HTTP/1.1 401 Unauthorized\r\ncontent-length: 0\r\nconnection: close\r\n\r\n",
                );
            });
        }
    });
    let setting = format!("telemetry.otlp=http://user:s3%20cret@{address}");
    let shop = ["alpha", "--orders", "5", "--rate", "500", "--decline-rate", "0", "--set", &setting];
    let beta = started(&["beta", "--units", "1000"], &medium, &[]);
    let (said, _) = Running::start(&with(&shop, &medium)).end();
    ended(beta);
    let refusals = said.err.lines().filter(|line| line.contains("the collector refuses telemetry")).count();
    assert_eq!(refusals, 1, "{said:?}");
    assert!(!said.err.contains("s3%20cret") && !said.err.contains("s3 cret"), "{said:?}");
    let head = seen.recv().unwrap().to_ascii_lowercase();
    // The base64 of user:s3 cret, in lower case.
    assert!(head.contains("authorization: basic dxnlcjpzmybjcmv0"), "{head}");
    let url = server.url();
    let doctor = crate::process::run(&["doctor", "--medium", &url, "--set", &setting]);
    assert!(doctor.out.contains("warn  telemetry") && doctor.out.contains("401"), "{doctor:?}");
    assert!(!doctor.out.contains("s3%20cret"), "{doctor:?}");
}

#[cfg(unix)]
#[tokio::test(flavor = "multi_thread")]
async fn a_terminal_that_is_closed_ends_a_service_as_sigterm_does() {
    let (_server, medium) = server().await;
    let beta = started(&["beta", "--units", "1000"], &medium, &[]);
    beta.signal(nix::sys::signal::Signal::SIGHUP);
    let (said, _) = beta.end();
    assert_eq!(said.code, Some(0), "{said:?}");
}
