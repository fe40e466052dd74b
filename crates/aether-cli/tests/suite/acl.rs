//! `aether acl`: verdicts and permissions from a configuration.

use crate::process::run;

const RULES: &str = r#"
[border]
rules = [
  "billing: emit invoices.>; listen orders.>; max_rate 100; rewrite bills -> invoices.sent, drafts -> invoices.drafts",
  "*: deny listen secrets.>; deny emit invoices.drafts.>",
]
"#;

fn acl(args: &[&str]) -> (Option<i32>, String, String) {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("default.toml"), RULES).unwrap();
    let config = ["--config", folder.path().to_str().unwrap()];
    let said = run(&[&["acl"], args, &config].concat());
    (said.code, said.out, said.err)
}

#[test]
fn a_verdict_says_what_is_allowed_and_why_not() {
    let (code, said, _) = acl(&["check", "billing", "emit", "invoices.sent"]);
    assert_eq!(
        (code, said.as_str()),
        (Some(0), "allowed: billing may emit on invoices.sent, 100 waves a second\n")
    );
    let (code, said, error) = acl(&["check", "billing", "emit", "orders.created"]);
    assert_eq!((code, said.as_str()), (Some(1), ""));
    assert!(error.contains("it may emit on invoices.>"), "{error}");
    let (code, _, error) = acl(&["check", "billing", "listen", "secrets.one"]);
    assert!(code == Some(1) && error.contains("rule 2 denies secrets.>"), "{error}");
    let (code, _, error) = acl(&["check", "billing", "listen", "not..a.channel"]);
    assert_eq!(code, Some(2), "{error}");
}

#[test]
fn a_verdict_says_what_a_rewrite_makes_of_a_channel() {
    let (code, said, _) = acl(&["check", "billing", "emit", "bills.17"]);
    let text = "allowed: bills.17 leaves as invoices.sent.17 (rule 1), and billing may emit on invoices.sent.17, 100 waves a second\n";
    assert_eq!((code, said.as_str()), (Some(0), text));
    let (code, _, error) = acl(&["check", "billing", "emit", "drafts.17"]);
    let text = "drafts.17 leaves as invoices.drafts.17 (rule 1): billing may not emit on invoices.drafts.17: rule 2 denies";
    assert!(code == Some(1) && error.contains(text), "{error}");
    // The rights of others stay as they are, and so does the right to hear.
    let (_, _, error) = acl(&["check", "shop", "emit", "bills.17"]);
    assert!(error.contains("shop may not emit on bills.17"), "{error}");
}

#[test]
fn permissions_are_those_of_nats_server() {
    let (code, said, _) = acl(&["nats", "billing"]);
    assert_eq!(code, Some(0));
    assert!(said.contains("\"aether.invoices.>\"") && said.contains("deny: [\"aether.secrets.>\""), "{said}");
    assert!(said.contains("\"_INBOX.billing.>\"") && !said.contains("_INBOX.>"), "{said}");
    assert!(said.contains("allow_responses: {"), "{said}");
}
