//! A gateway on an address that others than programs of this machine reach.

use std::net::SocketAddr;

use aether_core::Aether;
use aether_gateway::{Access, FieldOptions, Gateway, GatewayOptions, StartError};
use serde_json::json;

use crate::api::{heard, request, say, socket};
use crate::support::{self, Running};

fn everywhere() -> SocketAddr {
    ([0, 0, 0, 0], 0).into()
}

fn with_token() -> GatewayOptions {
    let access = Access::default().waves_token("s3cret").unwrap();
    GatewayOptions::default().fields(FieldOptions::default().access(access))
}

/// The routes that show names and numbers, or waves.
pub(crate) const GUARDED: [&str; 22] = [
    "/status",
    "/metrics",
    "/map.dot",
    "/map.mmd",
    "/asyncapi.json",
    "/api/status",
    "/api/accounts",
    "/api/overview",
    "/api/services",
    "/api/ledger",
    "/api/map",
    "/api/history",
    "/api/incidents",
    "/api/findings",
    "/api/log",
    "/api/durable",
    "/api/durable/consumer?log=a&consumer=b",
    "/api/waves/a@1%2F1/chain",
    "/api/dead",
    "/api/queues",
    "/api/schedules",
    "/waves?kind=none",
];
/// The routes without names, numbers and waves.
const OPEN: [&str; 7] =
    ["/livez", "/readyz", "/healthz", "/", "/openapi.json", "/client/", "/client/aether-client.min.js"];

async fn code(running: &Running, path: &str, token: Option<&str>) -> u16 {
    let token = token.map(|token| format!("\r\nauthorization: Bearer {token}")).unwrap_or_default();
    request(running, &format!("GET {path} HTTP/1.1{token}"), "").await.0
}

#[tokio::test]
async fn without_a_token_it_does_not_start_and_says_what_would_help() {
    let aether = Aether::local();
    for address in [everywhere(), "[::]:0".parse().unwrap(), "192.0.2.1:8080".parse().unwrap()] {
        let error = Gateway::start(&aether, GatewayOptions::default().listen(address)).await.unwrap_err();
        assert!(matches!(error, StartError::Exposed { address: of } if of == address), "{error}");
        let text = error.to_string();
        for remedy in ["AETHER_WAVES_TOKEN", "--field-tokens", "--tls-clients", "127.0.0.1", "--insecure"] {
            assert!(text.contains(remedy) && !text.contains('\n'), "{text}");
        }
    }
    let loopback = Gateway::start(&aether, GatewayOptions::default().listen(support::any_port())).await;
    assert!(loopback.is_ok());
}

#[tokio::test(flavor = "multi_thread")]
async fn with_a_token_names_and_numbers_need_it_and_probes_do_not() {
    let running = support::run_at(&Aether::local(), with_token(), everywhere()).await;
    for path in GUARDED {
        assert_eq!(code(&running, path, None).await, 401, "{path}");
        assert_eq!(code(&running, path, Some("guess")).await, 401, "{path}");
        assert_ne!(code(&running, path, Some("s3cret")).await, 401, "{path}");
    }
    for path in OPEN.into_iter().chain(["/page/app.js"]) {
        assert_eq!(code(&running, path, None).await, 200, "{path}");
    }
    // Every path that is described is in one of the lists, or is a field, which has rights of its own.
    let document: serde_json::Value = serde_json::from_str(include_str!("../../openapi.json")).unwrap();
    for (path, item) in document["paths"].as_object().unwrap() {
        let example = path.replace("{id}", "a@1%2F1");
        let listed = GUARDED.iter().any(|known| known.split('?').next() == Some(&example));
        let is_open = path == "/page/{path}" || OPEN.contains(&path.as_str());
        let has_own = path.starts_with("/field/")
            || path == "/ws"
            || path.starts_with("/api/dead/")
            || path.starts_with("/api/queues/")
            || item.get("get").is_none();
        assert!(listed || is_open || has_own, "is {path} guarded?");
    }

    let mut client = socket(&running).await;
    assert!(heard(&mut client, "hello").await["watch_refused"].as_str().unwrap().contains("token"));
    say(&mut client, json!({ "op": "watch", "view": "overview" })).await;
    assert_eq!(heard(&mut client, "error").await["reason"], "no_token");
    say(&mut client, json!({ "op": "token", "token": "s3cret" })).await;
    heard(&mut client, "done").await;
    say(&mut client, json!({ "op": "watch", "view": "overview" })).await;
    assert_eq!(heard(&mut client, "view").await["view"], "overview");
    running.stop().await;
}

/// The exit code of the separate program, and its output.
fn ended(args: &[&str]) -> (Option<i32>, String) {
    let mut program = std::process::Command::new(env!("CARGO_BIN_EXE_aether-gateway"));
    for name in ["AETHER_WAVES_TOKEN", "AETHER_FIELD_TOKEN", "AETHER_MEDIUM", "AETHER_CONFIG", "AETHER_LOG"] {
        program.env_remove(name);
    }
    let output = program.args(args).output().unwrap();
    (output.status.code(), String::from_utf8(output.stderr).unwrap())
}

#[test]
fn the_separate_program_ends_with_2_if_it_would_be_exposed_and_with_1_if_its_address_is_taken() {
    let (code, said) = ended(&["--listen", "0.0.0.0:0"]);
    assert!(code == Some(2) && said.contains("--insecure"), "{code:?}: {said}");
    let (code, said) = ended(&["--set", "service.gateway.max_channels=0"]);
    assert!(code == Some(2) && said.contains("max_channels"), "{code:?}: {said}");
    let (code, said) = ended(&["--medium", "http://127.0.0.1:1"]);
    assert_eq!(code, Some(2), "{said}");
    let taken = std::net::TcpListener::bind(support::any_port()).unwrap();
    let (code, said) = ended(&["--listen", &taken.local_addr().unwrap().to_string()]);
    assert!(code == Some(1) && said.contains("cannot listen"), "{code:?}: {said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn told_to_be_insecure_it_shows_names_and_still_emits_nothing_without_a_token() {
    let options = GatewayOptions::default().insecure(true);
    let running = support::run_at(&Aether::local(), options, everywhere()).await;
    assert_eq!(code(&running, "/api/overview", None).await, 200);
    let (code, answer) = request(&running, "POST /waves/a HTTP/1.1", "1").await;
    assert!(code == 401 && answer.contains("AETHER_WAVES_TOKEN"), "{answer}");
    running.stop().await;
}
