//! Emit, listen and ask between processes, over a real NATS server.

use std::io::{BufRead, BufReader};
#[cfg(unix)]
use std::sync::mpsc;

use aether_conformance::NatsServer;
use aether_core::Vibrator;
use serde_json::{Value, json};

use crate::process::{PATIENCE, Running, Said, run, run_with_stdin, sum, term};
use crate::up::{address, get};

/// A server, and the arguments that name it.
pub(crate) async fn server() -> (NatsServer, [String; 2]) {
    let server = NatsServer::start().await.unwrap();
    let medium = ["--medium".to_owned(), server.url()];
    (server, medium)
}

pub(crate) fn with<'a>(args: &[&'a str], medium: &'a [String; 2]) -> Vec<&'a str> {
    args.iter().copied().chain(medium.iter().map(String::as_str)).collect()
}

/// A listener that hears from now on.
pub(crate) fn listener(args: &[&str], medium: &[String; 2]) -> Running {
    let mut listener = Running::start(&with(&[&["listen"], args].concat(), medium));
    listener.tells("listening on ");
    listener
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_paths_the_second_is_used_when_the_first_is_killed() {
    let ((mut first, _), (second, _)) = (server().await, server().await);
    let medium = ["--medium".to_owned(), format!("{} {}", first.url(), second.url())];
    let mut listener = listener(&["orders.*", "--count", "2", "--json"], &medium);
    let emit = || run(&with(&["emit", "orders.created", "1"], &medium));
    assert_eq!(emit().code, Some(0));
    let hops = |line: &str| serde_json::from_str::<Value>(line).unwrap()["hops"].clone();
    assert_eq!(hops(&listener.line()), 0);
    first.kill().await.unwrap();
    assert_eq!(emit().code, Some(0));
    assert_eq!(hops(&listener.line()), 1);
    assert_eq!(listener.end().0.code, Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wave_crosses_from_emit_to_listen_with_all_it_has() {
    let (_server, medium) = server().await;
    let mut listener = listener(&["orders.>", "--group", "g", "--json", "--count", "1"], &medium);
    let args = ["emit", "orders.created", "{\"sku\": \"lamp\", \"n\": 12345678901234567890}"];
    let more =
        ["--amplitude", "0.9", "--key", "17", "--kind", "command", "--phase", "retract", "--name", "shop"];
    let emitted = run(&with(&[&args[..], &more].concat(), &medium));
    assert_eq!((emitted.code, emitted.err.as_str()), (Some(0), ""));

    let line = listener.line();
    let (ended, _) = listener.end();
    assert_eq!((ended.code, ended.out.as_str(), ended.err.as_str()), (Some(0), "", ""), "{ended:?}");
    assert!(line.contains("12345678901234567890"), "digits are kept: {line}");
    let mut record: Value = serde_json::from_str(&line).unwrap();
    assert_eq!(record["id"], emitted.out.trim());
    let age = record["age_ms"].take().as_f64().unwrap();
    assert!((0.0..60_000.0).contains(&age), "{age}");
    let phase = record["phase"].take().as_f64().unwrap();
    assert!((phase - std::f64::consts::PI).abs() < 1e-6, "{phase}");
    let expected = json!({
        "id": emitted.out.trim(), "channel": "orders.created", "kind": "command", "amplitude": 0.9,
        "source": "shop", "age_ms": null, "hops": 0, "phase": null, "key": "17",
        "content_type": "application/json", "payload": { "sku": "lamp", "n": 12345678901234567890_u64 }
    });
    assert_eq!(record, expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_that_nobody_hears_is_a_failure_and_an_event_is_none() {
    let (_server, medium) = server().await;
    let _observer = listener(&[">"], &medium);
    let mut listener = listener(&["heard.*", "--group", "workers", "--count", "3"], &medium);
    let emit = |channel, kind| run(&with(&["emit", channel, "1", "--count", "3", "--kind", kind], &medium));
    let unheard = emit("nobody.hears", "command");
    assert_eq!(unheard.code, Some(1), "{unheard:?}");
    assert!(unheard.out.starts_with("3 waves, "), "they were emitted: {unheard:?}");
    assert!(
        unheard.err.contains("3 of 3 waves came back: nobody but observers hears the channel (no_resonator)"),
        "{unheard:?}"
    );
    let event = emit("nobody.hears", "event");
    assert_eq!((event.code, event.err.as_str()), (Some(0), "waves: 3 emitted = 3 confirmed\n"));
    let heard = emit("heard.command", "command");
    assert_eq!((heard.code, heard.err.as_str()), (Some(0), "waves: 3 emitted = 3 confirmed\n"));
    for _ in 0..3 {
        listener.line();
    }
    assert_eq!(listener.end().0.code, Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn lines_of_stdin_are_waves_until_one_is_no_json() {
    let (_server, medium) = server().await;
    let mut listener = listener(&["stock.*", "--count", "2"], &medium);
    let emitted =
        run_with_stdin(&with(&["emit", "stock.counted", "-"], &medium), "17\n\n\"a lamp\"\n{\"a\":1,}\n5\n");
    assert_eq!(emitted.code, Some(1), "{emitted:?}");
    assert!(emitted.err.contains("line 4, column 8 of stdin is not JSON"), "{}", emitted.err);
    assert!(emitted.out.starts_with("2 waves, aether-emit@"), "{}", emitted.out);
    assert!(listener.line().ends_with("  17"));
    assert!(listener.line().ends_with("  \"a lamp\""));
    assert_eq!(listener.end().0.code, Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_line_of_stdin_that_no_wave_can_carry_is_named_with_the_limit() {
    let (_server, medium) = server().await;
    // One that is not even read, and one that is too long with what a frame has besides the payload.
    for (bytes, told) in [
        ((1 << 20) + 1, "line 3 of stdin is longer than 1048576 bytes"),
        (1 << 20, "line 3 of stdin was not emitted: the wave has "),
    ] {
        let lines = format!("17\n\n{}\n5\n", "1".repeat(bytes));
        let emitted = run_with_stdin(&with(&["emit", "a", "-"], &medium), &lines);
        assert_eq!(emitted.code, Some(1), "{}", emitted.err);
        assert!(emitted.err.contains(told) && emitted.err.contains("1048576"), "{}", emitted.err);
        assert!(emitted.out.trim().ends_with("/1"), "{}", emitted.out);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_thousand_waves_arrive_and_are_counted() {
    let (_server, medium) = server().await;
    let mut listener = listener(&["a", "--json", "--count", "10000"], &medium);
    let emitted = run(&with(&["emit", "a", "{}", "--count", "10000"], &medium));
    assert_eq!(emitted.code, Some(0), "{}", emitted.err);
    assert!(
        emitted.out.starts_with("10000 waves, ") && emitted.out.trim().ends_with("/10000"),
        "{}",
        emitted.out
    );
    for _ in 0..10_000 {
        listener.line();
    }
    assert_eq!(listener.end().0.code, Some(0));
}

#[cfg(unix)]
#[tokio::test(flavor = "multi_thread")]
async fn emitting_that_is_interrupted_has_emitted_exactly_what_it_says() {
    let (_server, medium) = server().await;
    let mut listener = listener(&["a", "--json"], &medium);
    let args = ["emit", "a", "1", "--count", "1000000", "--rate", "500"];
    let emitting = Running::start(&with(&args, &medium));
    for _ in 0..10 {
        listener.line();
    }
    emitting.signal(nix::sys::signal::Signal::SIGINT);
    let (said, _) = emitting.end();
    assert_eq!(said.code, Some(0), "{}", said.err);
    let waves: usize = said.out.split(' ').next().unwrap().parse().unwrap();
    assert!(said.out.trim().ends_with(&format!("/{waves}")), "{}", said.out);
    for _ in 10..waves {
        listener.line();
    }
    // A wave more would have come before this one.
    assert_eq!(run(&with(&["emit", "a", "\"end\""], &medium)).code, Some(0));
    assert!(listener.line().contains("\"payload\":\"end\""));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_not_heard_is_told_at_the_end() {
    let (_server, medium) = server().await;
    let mut listener = listener(&["a", "--floor", "0.4", "--count", "1"], &medium);
    for (amplitude, payload) in [("0.1", "1"), ("0.3", "2"), ("0.9", "3")] {
        let emitted = run(&with(&["emit", "a", payload, "--amplitude", amplitude], &medium));
        assert_eq!(emitted.code, Some(0), "{}", emitted.err);
    }
    assert!(listener.line().ends_with("  3"));
    let (ended, _) = listener.end();
    assert_eq!(ended.code, Some(0));
    let account = ended.err.lines().find(|line| line.starts_with("waves: ")).unwrap();
    let account = sum(account);
    assert_eq!((term(&account, "offered"), term(&account, "below floor")), (3, 2), "{account:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_that_goes_away_ends_the_listener_and_is_no_failure() {
    let (_server, medium) = server().await;
    let mut listener = Running::start_unread(&with(&["listen", ">"], &medium));
    listener.tells("listening on >");
    let mut reader = BufReader::new(listener.stdout());
    assert_eq!(run(&with(&["emit", "a", "1"], &medium)).code, Some(0));
    let mut line = String::new();
    reader.read_line(&mut line).unwrap();
    drop(reader);
    // The next line finds nobody.
    assert_eq!(run(&with(&["emit", "a", "2"], &medium)).code, Some(0));
    let (Said { code, err, .. }, _) = listener.end();
    assert_eq!((code, err.as_str()), (Some(0), ""));
}

#[cfg(unix)]
#[tokio::test(flavor = "multi_thread")]
async fn a_listener_whose_lines_nobody_reads_ends_when_it_is_told_to() {
    use std::io::Read as _;

    let (_server, medium) = server().await;
    let mut listener = Running::start_unread(&with(&["listen", "a", "--json"], &medium));
    listener.tells("listening on a");
    let mut unread = listener.stdout();
    let large = format!("\"{}\"", "x".repeat(120_000));
    assert_eq!(run(&with(&["emit", "a", &large], &medium)).code, Some(0));
    // It has begun to write, and a pipe has no room for the whole.
    unread.read_exact(&mut [0]).unwrap();
    listener.signal(nix::sys::signal::Signal::SIGTERM);
    let (Said { code, err, .. }, _) = listener.end();
    assert_eq!(code, Some(1), "{err}");
    assert!(err.contains("error: stdout: nobody reads it"), "{err}");
    drop(unread);
}

#[cfg(unix)]
#[tokio::test(flavor = "multi_thread")]
async fn a_group_shares_the_waves_and_a_signal_ends_a_listener() {
    let (server, medium) = server().await;
    let mut members = [(); 2].map(|()| listener(&["jobs", "--group", "workers"], &medium));
    let (printed, lines) = mpsc::channel();
    for (number, member) in members.iter_mut().enumerate() {
        let (of_member, printed) = (member.take_lines(), printed.clone());
        std::thread::spawn(move || of_member.into_iter().try_for_each(|_| printed.send(number)));
    }
    drop(printed);
    // One by one: events that are emitted at once travel in one message, which goes to one member.
    let aether = aether::connect(&server.url()).await.unwrap();
    let shop = aether.emitter("shop").unwrap();
    for _ in 0..40 {
        shop.emit_wave("jobs", &1).await.unwrap();
        aether.flush().await.unwrap();
    }
    let by: Vec<usize> = (0..40).map(|_| lines.recv_timeout(PATIENCE).unwrap()).collect();
    assert!(by.contains(&0) && by.contains(&1), "the server shares by chance, but not so: {by:?}");
    for member in members {
        member.signal(nix::sys::signal::Signal::SIGINT);
        let (said, _) = member.end();
        assert_eq!(said.code, Some(0), "{}", said.err);
    }
    assert_eq!(lines.iter().count(), 0, "each wave goes to one of them");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_is_printed_and_no_answer_is_code_1_whoever_listens() {
    let (server, medium) = server().await;
    let mut listener = listener(&["stock.>", "--json"], &medium);
    let nobody = run(&with(&["ask", "stock.count", "\"lamp\""], &medium));
    assert_eq!((nobody.code, nobody.out.as_str()), (Some(1), ""));
    assert!(nobody.err.contains("nobody listens on stock.count"), "{}", nobody.err);

    let aether = aether::connect(&server.url()).await.unwrap();
    let mut stock = Vibrator::create("stock", &aether).await.unwrap();
    stock.resonate_on("stock.count").await.unwrap();
    let asked = {
        let args = with(&["ask", "stock.count", "\"lamp\"", "--timeout", "2m"], &medium).join("\n");
        tokio::task::spawn_blocking(move || run(&args.split('\n').collect::<Vec<_>>()))
    };
    let question = stock.receive().await.unwrap();
    assert_eq!(question.text().unwrap(), "\"lamp\"");
    question.reply(&json!({ "lamps": 17 })).await.unwrap();
    let answered = asked.await.unwrap();
    assert_eq!((answered.code, answered.out.as_str()), (Some(0), "{\"lamps\":17}\n"), "{}", answered.err);

    // Of nobody and of the stock, and what the stock said.
    for kind in ["query", "query", "response"] {
        let line = listener.line();
        assert!(line.contains(&format!("\"kind\":\"{kind}\"")), "{line}");
    }

    let silent = run(&with(&["ask", "stock.count", "1", "--timeout", "200ms"], &medium));
    assert_eq!(silent.code, Some(1));
    assert!(silent.err.contains("no answer on stock.count within 200ms"), "{}", silent.err);
}

#[tokio::test(flavor = "multi_thread")]
async fn up_runs_over_nats_too_and_others_hear_it() {
    let (_server, medium) = server().await;
    let listener = listener(&["orders.completed", "--json", "--count", "3"], &medium);
    let args = ["up", "--orders", "20", "--rate", "200", "--listen", "127.0.0.1:0"];
    let said = run(&with(&args, &medium));
    assert_eq!(said.code, Some(0), "{}", said.err);
    let orders = said.out.lines().find(|line| line.starts_with("orders: ")).unwrap();
    assert_eq!(term(&sum(orders), "created"), 20);
    let waves = said.out.lines().find(|line| line.starts_with("waves: ")).unwrap();
    assert!(term(&sum(waves), "delivered") >= 20);
    let (heard, _) = listener.end();
    assert_eq!((heard.code, heard.out.lines().count()), (Some(0), 3), "{}", heard.err);
}

#[cfg(unix)]
#[tokio::test(flavor = "multi_thread")]
async fn the_gateway_alone_is_ready_and_ends_with_a_signal() {
    let (_server, medium) = server().await;
    let mut gateway = Running::start(&with(&["gateway", "--listen", "127.0.0.1:0"], &medium));
    let first = gateway.line();
    assert!(get(address(&first), "/readyz").starts_with("HTTP/1.1 200"));
    assert!(get(address(&first), "/api/status").contains("\"crosses_processes\":true"));
    gateway.signal(nix::sys::signal::Signal::SIGTERM);
    let (said, took) = gateway.end();
    assert_eq!(said.code, Some(0), "{}", said.err);
    // A second; the rest is for a busy machine. Nothing else ends it.
    assert!(took < PATIENCE, "{took:?}");
}

/// Two processes and a server that is killed in the middle of a stream: each wave that the one sent is printed by the
/// other or counted as lost.
#[cfg(unix)]
#[tokio::test(flavor = "multi_thread")]
async fn a_listener_says_how_many_waves_it_missed_when_the_server_was_killed() {
    let mut server = NatsServer::start().await.unwrap();
    let medium = ["--medium".to_owned(), server.url()];
    let mut listener = listener(&["a.*", "--json"], &medium);
    let args = ["emit", "a.b", "1", "--count", "3000", "--rate", "1500", "--half-life", "never"];
    let emitting = Running::start(&with(&args, &medium));
    for _ in 0..500 {
        listener.line();
    }
    server.kill().await.unwrap();
    server.restart().await.unwrap();
    let (emitted, _) = emitting.end();
    let account = emitted.err.lines().find(|line| line.starts_with("waves: ")).unwrap();
    // Waves in flight when the server was killed may be lost, and are counted as such.
    let is_confirmed = term(&sum(account), "confirmed") == 3000;
    assert_eq!(emitted.code, Some(if is_confirmed { 0 } else { 1 }), "{}", emitted.err);
    assert!(emitted.out.starts_with("3000 waves, "), "{}", emitted.out);
    // The server has all that the first process sent, so this comes behind it.
    assert_eq!(run(&with(&["emit", "a.end", "2"], &medium)).code, Some(0));
    let mut printed = 501;
    while !listener.line().contains("\"a.end\"") {
        printed += 1;
    }
    listener.signal(nix::sys::signal::Signal::SIGINT);
    let (said, _) = listener.end();
    assert!(said.err.contains("the connection broke 1 times"), "{}", said.err);
    let account = said.err.lines().find(|line| line.starts_with("waves: "));
    let lost = account.map_or(0, |account| {
        let account = sum(account);
        assert_eq!((term(&account, "offered"), term(&account, "delivered")), (3001, printed), "{account:?}");
        term(&account, "lost upstream")
    });
    assert_eq!(printed + lost, 3001, "{}", said.err);
    assert_eq!(said.code, Some(if lost == 0 { 0 } else { 1 }), "{}", said.err);
}
