//! `aether describe` beside the samples, against the published JSON schema of AsyncAPI.

use aether_core::conformance::NatsServer;
use serde_json::Value;

use crate::process::{Running, run};

fn check(document: &str) -> Value {
    let schema = include_str!("../../../protocol/asyncapi/asyncapi-3.1.0.json");
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

#[test]
fn the_local_medium_has_no_other_services() {
    let alone = run(&["describe"]);
    assert!(alone.code == Some(2) && alone.err.contains("lives inside one process"), "{alone:?}");
}
