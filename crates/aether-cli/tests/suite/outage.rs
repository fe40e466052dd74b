//! Programs and a server that is not there yet, does not answer for a while, or is killed: what they wait for, what they
//! say, and the account at the end.

use std::io::Write as _;

use aether_conformance::{NatsServer, ServerOptions};
use nix::sys::signal::Signal;

use crate::nats::{listener, server, with};
use crate::process::{PATIENCE, Running, Said, run, sum, term};

/// A server that has gone, and its address.
async fn gone() -> (NatsServer, [String; 2]) {
    let (mut server, medium) = server().await;
    server.kill().await.unwrap();
    (server, medium)
}

/// The account among what a program said.
fn account(text: &str) -> Vec<(String, u64)> {
    let line = text.lines().find_map(|line| line.find("waves: ").map(|at| &line[at..]));
    sum(line.unwrap_or_else(|| panic!("no account in {text:?}")))
}

const SERVICES: [&[&str]; 4] = [
    &["beta"],
    &["alpha", "--rate", "1"],
    &["gateway", "--listen", "127.0.0.1:0"],
    &["up", "--listen", "127.0.0.1:0"],
];

#[tokio::test(flavor = "multi_thread")]
async fn programs_that_start_before_the_server_wait_for_it_and_say_so() {
    let (mut server, medium) = gone().await;
    let wait = ["--wait", "5m"];
    let mut programs = SERVICES.map(|args| Running::start(&with(&[args, &wait].concat(), &medium)));
    let mut hears = Running::start(&with(&["listen", "a", "--count", "1", "--wait", "5m"], &medium));
    for program in programs.iter_mut().chain([&mut hears]) {
        program.tells("the server does not answer; retrying for up to 300s");
    }
    server.restart().await.unwrap();
    for (program, does) in
        programs.iter_mut().zip(["answers inventory.reserve", "creates orders", "observes every wave", ""])
    {
        program.tells("connected after");
        if !does.is_empty() {
            let line = program.tells(does);
            assert!(line.contains(env!("CARGO_PKG_VERSION")) && line.contains(&medium[1]), "{line}");
        }
    }
    hears.tells("listening on a");
    assert_eq!(run(&with(&["emit", "a", "17"], &medium)).code, Some(0));
    assert!(hears.line().ends_with("17"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_program_that_waits_for_a_server_ends_at_once_when_it_is_told_to() {
    let (_server, medium) = gone().await;
    let commands: [(&[&str], i32); 6] = [
        (SERVICES[0], 0),
        (SERVICES[1], 0),
        (SERVICES[2], 0),
        (&["emit", "a", "1"], 1),
        (&["listen", "a"], 1),
        (&["ask", "a", "1"], 1),
    ];
    for (args, code) in commands {
        let mut program = Running::start(&with(&[args, &["--wait", "5m"]].concat(), &medium));
        program.tells("retrying for up to");
        program.signal(Signal::SIGINT);
        let (said, took) = program.end();
        assert_eq!(said.code, Some(code), "{args:?}: {}", said.err);
        assert!(took < PATIENCE, "{args:?}: {took:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_no_waiting_helps_against_is_not_waited_for() {
    let options = ServerOptions::default().setting("authorization", "{ user: shop, password: right }");
    let server = NatsServer::start_with(options).await.unwrap();
    let refused = ["--medium".to_owned(), format!("nats://shop:wrong@127.0.0.1:{}", server.port())];
    let no_url = ["--medium".to_owned(), "amqp://a".to_owned()];
    for medium in [refused, no_url] {
        for args in [&["emit", "a", "1"][..], &["beta"]] {
            let said = run(&with(&[args, &["--wait", "1h"]].concat(), &medium));
            assert_eq!(said.code, Some(2), "{args:?} {medium:?}: {}", said.err);
            assert!(!said.err.contains("retrying") && !said.err.contains("wrong@"), "{}", said.err);
        }
    }
    let (_server, medium) = gone().await;
    let said = run(&with(&["beta", "--wait", "0"], &medium));
    assert_eq!(said.code, Some(1), "{}", said.err);
    assert!(!said.err.contains("retrying"), "{}", said.err);
    let said = run(&with(&["beta", "--wait", "300ms"], &medium));
    assert_eq!(said.code, Some(1), "{}", said.err);
    assert!(said.err.contains("retrying for up to 300ms"), "{}", said.err);
    assert!(
        said.err.contains("error: the inventory service cannot use its medium: cannot connect to"),
        "{}",
        said.err
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn services_say_when_the_connection_breaks_and_when_it_is_back() {
    let (mut server, medium) = server().await;
    let mut programs = SERVICES.map(|args| Running::start(&with(args, &medium)));
    for (program, begun) in programs.iter_mut().zip(["answers", "creates orders", "observes", "sent:"]) {
        if begun != "sent:" {
            program.tells(begun);
        }
    }
    // It prints the address of its page on stdout.
    programs[3].line();
    server.kill().await.unwrap();
    for program in &mut programs {
        program.tells("the connection to the server broke");
    }
    server.restart().await.unwrap();
    for program in &mut programs {
        let line = program.tells("the server is back after");
        assert!(line.contains("may be lost") && line.contains("wait to be sent"), "{line}");
    }
    for program in programs {
        program.signal(Signal::SIGTERM);
        let (said, _) = program.end();
        let sent = said.err.find("sent: ").map(|at| account(&said.err[at..])).unwrap();
        // Waves in flight when the server was killed may have been lost.
        let emitted = term(&sent, "emitted");
        let code = if term(&sent, "confirmed") == emitted { 0 } else { 1 };
        assert_eq!(said.code, Some(code), "{}", said.err);
    }
}

/// Emits lines of stdin. The server is stopped when the first of them has arrived, and the rest follows.
struct Stopped {
    server: Resumed,
    emitting: Running,
    writing: std::thread::JoinHandle<std::io::Result<()>>,
}

/// A server that goes on when it is dropped: while it is stopped it cannot be ended in an orderly way.
struct Resumed(NatsServer);

impl Stopped {
    async fn emitting(waves: u64, more: &[&str]) -> Self {
        let (server, medium) = server().await;
        let mut hears = listener(&["a", "--count", "1"], &medium);
        let (emitting, mut stdin) = Running::start_with_stdin(&with(
            &[&["emit", "a", "-", "--half-life", "never"], more].concat(),
            &medium,
        ));
        stdin.write_all(b"0\n").unwrap();
        hears.line();
        assert_eq!(hears.end().0.code, Some(0));
        server.stop().await.unwrap();
        let line = format!("\"{}\"\n", "x".repeat(BYTES));
        let writing =
            std::thread::spawn(move || (1..waves).try_for_each(|_| stdin.write_all(line.as_bytes())));
        Self { server: Resumed(server), emitting, writing }
    }

    fn go_on(&self) {
        self.server.0.resume().unwrap();
    }

    /// Waits for the end of the command; what it said, and whether it has read all of its stdin.
    fn end(self) -> (Said, std::io::Result<()>) {
        let (said, _) = self.emitting.end();
        (said, self.writing.join().unwrap())
    }
}

impl Drop for Resumed {
    fn drop(&mut self) {
        self.0.resume().unwrap();
    }
}

/// More lines of [`BYTES`] than the outbox, which takes 64 MiB, the client and the sockets hold together.
const MORE_THAN_FITS: u64 = 25_000;
const BYTES: usize = 4_000;

#[tokio::test(flavor = "multi_thread")]
async fn emit_waits_for_a_server_that_does_not_answer_and_loses_nothing() {
    let mut stopped = Stopped::emitting(MORE_THAN_FITS, &[]).await;
    // Ten times as long as an emitter waits before its outbox sheds, if nothing else is said.
    stopped.emitting.tells("the server has accepted nothing for 1s");
    stopped.go_on();
    let (said, written) = stopped.end();
    written.unwrap();
    assert_eq!(said.code, Some(0), "{}", said.err);
    let account = account(&said.err);
    assert_eq!(term(&account, "emitted"), MORE_THAN_FITS);
    assert_eq!(term(&account, "confirmed"), MORE_THAN_FITS);
    assert!(said.out.starts_with(&format!("{MORE_THAN_FITS} waves, ")), "{}", said.out);
}

#[tokio::test(flavor = "multi_thread")]
async fn emit_waits_at_its_end_until_the_server_has_confirmed_everything() {
    let mut stopped = Stopped::emitting(10, &[]).await;
    let told = stopped.emitting.tells("waiting for the server, which has not confirmed ");
    // The first one may have been heard before its sender could have it confirmed.
    assert!(["9 waves", "10 waves"].iter().any(|waves| told.ends_with(waves)), "{told}");
    stopped.go_on();
    let (said, _) = stopped.end();
    assert_eq!(said.code, Some(0), "{}", said.err);
    assert_eq!(term(&account(&said.err), "confirmed"), 10);
}

#[tokio::test(flavor = "multi_thread")]
async fn emit_that_sheds_says_what_it_lost_although_the_server_never_answers() {
    let stopped = Stopped::emitting(MORE_THAN_FITS, &["--shed", "--wait", "100ms"]).await;
    let (said, written) = stopped.end();
    written.unwrap();
    assert_eq!(said.code, Some(1), "{}", said.err);
    let account = account(&said.err);
    assert_eq!(term(&account, "emitted"), MORE_THAN_FITS);
    assert!(term(&account, "full") > 0, "{account:?}");
    let lost = MORE_THAN_FITS - term(&account, "confirmed");
    assert!(
        said.err.contains(&format!("error: {lost} of {MORE_THAN_FITS} waves may be lost: ")),
        "{}",
        said.err
    );
    assert!(said.out.starts_with(&format!("{MORE_THAN_FITS} waves, ")), "{}", said.out);
}

#[tokio::test(flavor = "multi_thread")]
async fn emit_that_waits_for_room_ends_with_its_account_when_it_is_told_to() {
    let mut stopped = Stopped::emitting(MORE_THAN_FITS, &[]).await;
    // Ten times as long as an emitter waits before its outbox sheds, if nothing else is said.
    stopped.emitting.tells("the server has accepted nothing for 1s");
    stopped.emitting.signal(Signal::SIGINT);
    let (said, _) = stopped.end();
    assert_eq!(said.code, Some(1), "{}", said.err);
    let account = account(&said.err);
    let emitted = term(&account, "emitted");
    assert!(emitted < MORE_THAN_FITS && term(&account, "confirmed") < emitted, "{account:?}");
    assert!(said.out.starts_with(&format!("{emitted} waves, ")), "{} {}", said.out, said.err);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_listener_without_a_server_at_its_end_says_that_waves_may_be_missing() {
    let (mut server, medium) = server().await;
    let mut listener = listener(&["a"], &medium);
    assert_eq!(run(&with(&["emit", "a", "17"], &medium)).code, Some(0));
    assert!(listener.line().ends_with("17"));
    server.kill().await.unwrap();
    listener.tells("the connection to the server broke");
    listener.signal(Signal::SIGINT);
    let (said, _) = listener.end();
    assert_eq!(said.code, Some(0), "nothing is known to be lost: {}", said.err);
    assert!(said.err.contains("the server was away at the end"), "{}", said.err);
}
