//! `aether describe` beside the samples, against the published JSON schema of AsyncAPI.

use aether_conformance::{NatsServer, ServerOptions};
use serde_json::Value;

use crate::process::{Running, run};

fn check(document: &str) -> Value {
    let schema = include_str!("../../../../docs/protocol/asyncapi/asyncapi-3.1.0.json");
    let published = jsonschema::validator_for(&serde_json::from_str(schema).unwrap()).unwrap();
    let document: Value = serde_json::from_str(document).unwrap();
    let mistakes: Vec<_> =
        published.iter_errors(&document).map(|error| format!("{}: {error}", error.instance_path())).collect();
    assert_eq!(mistakes, [""; 0], "{document:#}");
    document
}

#[tokio::test]
async fn the_samples_describe_themselves() {
    let server = NatsServer::start().await.unwrap();
    let url = server.url();
    let samples = ["beta", "alpha"].map(|sample| Running::start(&[sample, "--medium", &url]));
    let describe = |args: &[&str], services: &str| {
        // It ends when they have described themselves, not after a time.
        let expect = ["--medium", &url, "--roll-call", "1m", "--expect", services];
        run(&[&["describe"], args, &expect].concat())
    };
    let all = describe(&[], "2");
    assert_eq!((all.code, all.err.as_str()), (Some(0), ""));
    let document = check(&all.out);
    let operations = document["operations"].as_object().unwrap();
    assert!(operations.contains_key("beta.receive.inventory.reserve"), "{operations:?}");
    assert!(operations.contains_key("payments.send.payments.charged"), "{operations:?}");
    let reserve = &document["components"]["schemas"]["beta.Reserve"];
    assert_eq!(reserve["properties"]["quantity"]["minimum"], 1, "{reserve:#}");

    let one = check(&describe(&["beta"], "1").out);
    assert_eq!(
        (&one["info"]["title"], &one["info"]["version"]),
        (&"beta".into(), &env!("CARGO_PKG_VERSION").into())
    );
    assert!(!one["operations"].as_object().unwrap().keys().any(|name| name.starts_with("payments")));
    let none = run(&["describe", "gamma", "--roll-call", "100ms", "--medium", &url]);
    assert!(none.code == Some(1) && none.err.contains("no service \"gamma\" describes itself"), "{none:?}");
    drop(samples);
}

#[tokio::test]
async fn a_description_that_the_server_does_not_carry_is_an_error_that_names_its_limit() {
    let options = ServerOptions::default().setting("max_payload", 1024);
    let server = NatsServer::start_with(options).await.unwrap();
    let url = server.url();
    let mut beta = Running::start(&["beta", "--medium", &url]);
    beta.tells("beta ");
    let said = run(&["describe", "beta", "--roll-call", "10s", "--expect", "1", "--medium", &url]);
    assert_eq!(said.code, Some(1), "{said:?}");
    let why = "the medium takes at most 1024. If it is larger than the medium takes, raise max_payload";
    assert!(said.err.contains("could not send its description") && said.err.contains(why), "{said:?}");
}

#[tokio::test]
async fn an_account_that_the_server_does_not_carry_is_a_warning_of_its_process() {
    let server = NatsServer::start_with(ServerOptions::default().setting("max_payload", 256)).await.unwrap();
    let mut beta = Running::start(&["beta", "--medium", &server.url(), "--set", "account.every=100ms"]);
    assert!(beta.tells("larger than the medium takes").contains("raise max_payload"));
}

#[test]
fn the_local_medium_has_no_other_services() {
    let alone = run(&["describe"]);
    assert!(alone.code == Some(2) && alone.err.contains("lives inside one process"), "{alone:?}");
}
