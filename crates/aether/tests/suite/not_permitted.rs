//! A server that does not permit everything: what a program wants and may not have is an error where it is asked for, and
//! counted elsewhere.

use aether::nats::NatsError;
use aether::paths::WithPaths as _;
use std::time::Duration;

use aether_conformance::{NatsServer, ServerOptions};
use aether_core::{Aether, AskError, ConfirmError, ConnectError, JoinError, Kind, Vibrator, Wave};
use tokio::time::timeout;

use crate::settling::flushed;

/// A bound for what takes milliseconds on an idle machine. No test waits for it to elapse.
const LONG: Duration = Duration::from_secs(60);

/// Two users: `all` may do everything, `some` what these permissions say.
async fn server(permissions: &str) -> NatsServer {
    let users = format!(
        "{{ users: [{{ user: all, password: all }}, {{ user: some, password: some, permissions: {{ {permissions} }} }}] }}"
    );
    NatsServer::start_with(ServerOptions::default().setting("authorization", users)).await.unwrap()
}

async fn connect(server: &NatsServer, user: &str) -> Result<Aether, ConnectError> {
    let url = server.url().replace("nats://", &format!("nats://{user}:{user}@"));
    timeout(LONG, aether::connect(&url)).await.expect("an answer")
}

/// All but the channels `secret.>`.
const NOT_SECRET: &str = r#"publish: { deny: ["aether.secret.>", "aether-ask.secret.>"] },
    subscribe: { deny: ["aether.secret.>", "aether-ask.secret.>"] }"#;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wave_that_the_server_refuses_is_not_confirmed_and_is_counted() {
    let server = server(NOT_SECRET).await;
    let (here, there) = (connect(&server, "some").await.unwrap(), connect(&server, "all").await.unwrap());
    let mut ear = Vibrator::create("ear", &there).await.unwrap();
    ear.resonate_on(">").await.unwrap();
    let shop = here.emitter("shop").unwrap();
    assert_eq!(here.status().refused_by_server, 0, "{:?}", here.status());
    let wave = || Wave::builder("secret.plan").text("x").build().unwrap();
    let refused = timeout(LONG, shop.emit_confirmed(wave())).await.unwrap();
    assert!(
        matches!(&refused, Err(ConfirmError::NotPermitted { channel, .. }) if channel.as_str() == "secret.plan"),
        "{refused:?}"
    );
    let counted = here.status().refused_by_server;
    assert!(counted >= 1 && here.status().refused() == counted, "{:?}", here.status());
    // A plain emit does not wait for the server. Its fate is counted.
    shop.emit(wave()).await.unwrap();
    flushed(&here).await;
    // Other channels are not affected.
    timeout(LONG, shop.emit_confirmed(Wave::builder("open").text("y"))).await.unwrap().unwrap();
    assert!(here.status().refused_by_server > counted, "{:?}", here.status());
    assert_eq!(timeout(LONG, ear.receive()).await.unwrap().unwrap().text().unwrap(), "y");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn several_paths_tell_the_emitter_as_well() {
    let (first, second) = (server(NOT_SECRET).await, server(NOT_SECRET).await);
    let url = |server: &NatsServer| server.url().replace("nats://", "nats://some:some@");
    let aether = aether::builder().path(url(&first)).path(url(&second)).connect().await.unwrap();
    let shop = aether.emitter("shop").unwrap();
    let refused = timeout(LONG, shop.emit_confirmed(Wave::builder("secret.plan").text("x"))).await.unwrap();
    assert!(matches!(refused, Err(ConfirmError::NotPermitted { .. })), "{refused:?}");
    timeout(LONG, shop.emit_confirmed(Wave::builder("open").text("y"))).await.unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_subscription_that_the_server_refuses_is_an_error() {
    let server = server(NOT_SECRET).await;
    let (here, there) = (connect(&server, "some").await.unwrap(), connect(&server, "all").await.unwrap());
    for group in [None, Some("workers")] {
        let mut ear = Vibrator::create("ear", &here).await.unwrap();
        let join = async |pattern: &'static str| match group {
            None => timeout(LONG, ear.resonate_on(pattern)).await.unwrap(),
            Some(group) => timeout(LONG, ear.resonate_in_group(pattern, group)).await.unwrap(),
        };
        for _ in 0..2 {
            let refused = join("secret.*").await;
            assert!(
                matches!(&refused, Err(JoinError::NotPermitted { subject }) if subject.ends_with(".secret.*")),
                "{refused:?}"
            );
        }
        // What is permitted is heard.
        join("open.*").await.unwrap();
        there.emitter("shop").unwrap().emit_bytes("open.day", "x").await.unwrap();
        assert_eq!(timeout(LONG, ear.receive()).await.unwrap().unwrap().channel().as_str(), "open.day");
    }
    assert!(here.status().refused_by_server >= 4, "{:?}", here.status());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn vibrators_that_join_a_refused_pattern_at_the_same_time_are_all_told() {
    let server = server(NOT_SECRET).await;
    let here = connect(&server, "some").await.unwrap();
    let ears = futures::future::join_all((0..8).map(|_| Vibrator::create("ear", &here))).await;
    let joins = ears.iter().map(|ear| ear.as_ref().unwrap().resonate_on("secret.>"));
    for joined in timeout(LONG, futures::future::join_all(joins)).await.unwrap() {
        assert!(matches!(joined, Err(JoinError::NotPermitted { .. })), "{joined:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_question_that_the_server_refuses_fails_at_once() {
    let server = server(NOT_SECRET).await;
    let here = connect(&server, "some").await.unwrap();
    let asker = here.emitter("asker").unwrap();
    let question = Wave::builder("secret.plan").kind(Kind::Query).text("?").build().unwrap();
    let asked = timeout(LONG, asker.ask_within(question, 2 * LONG)).await.expect("no wait for the patience");
    assert!(
        matches!(&asked, Err(AskError::NotPermitted { subject, .. }) if subject == "aether-ask.secret.plan"),
        "{asked:?}"
    );
    assert!(!asked.unwrap_err().is_transient());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_without_an_inbox_of_its_own_is_refused_and_names_it() {
    for permissions in [r#"subscribe: { deny: "_INBOX.>" }"#, r#"publish: { deny: "_INBOX.>" }"#] {
        let server = server(permissions).await;
        let error = connect(&server, "some").await.unwrap_err();
        let Some(NatsError::NotPermitted { subject, .. }) = error.of_medium() else { panic!("{error:?}") };
        assert!(subject.starts_with("_INBOX.") && !error.is_transient(), "{error}");
        assert!(!error.to_string().contains("some:some"), "{error}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn service_discovery_that_is_not_permitted_is_neither_an_error_nor_counted() {
    let server = server(r#"subscribe: { deny: "$SRV.>" }"#).await;
    let here = connect(&server, "some").await.unwrap();
    let mut ear = Vibrator::create("ear", &here).await.unwrap();
    ear.resonate_on("open").await.unwrap();
    here.emitter("shop").unwrap().emit_bytes("open", "x").await.unwrap();
    timeout(LONG, ear.receive()).await.unwrap().unwrap();
    assert_eq!(here.status().refused_by_server, 0);
}
