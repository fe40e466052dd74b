//! What becomes of subscriptions when the rules change.

use crate::rules::{Border, Rule, Rules};
use crate::vibrator::Vibrator;
use crate::{Aether, JoinError};

fn rules(listen: &str) -> Rules {
    Rules::new([Rule::new("shop").emit([">"]), Rule::new("audit").listen([listen])]).unwrap()
}

#[tokio::test]
async fn a_subscription_that_new_rules_do_not_allow_hears_nothing_more_until_it_is_made_again() {
    let border = Border::default();
    let aether = Aether::builder().border(border.clone()).connect().await.unwrap();
    let mut audit = Vibrator::create("audit", &aether).await.unwrap();
    for pattern in ["orders.>", "invoices.>"] {
        audit.resonate_on(pattern).await.unwrap();
    }
    audit.resonate_in_group("orders.>", "auditors").await.unwrap();
    let shop = aether.emitter("shop").unwrap();
    let roster = aether.roster().await.unwrap();
    let patterns = || roster.heard_by_name().remove("audit").unwrap_or_default();
    assert_eq!(patterns().len(), 2);

    border.change(rules("invoices.>"));
    assert_eq!(border.refused().revoked, 2);
    assert_eq!(patterns().iter().map(|pattern| pattern.as_str()).collect::<Vec<_>>(), ["invoices.>"]);
    assert_eq!(shop.emit_bytes("orders.created", "1").await.unwrap().receivers, Some(0));
    shop.emit_bytes("invoices.sent", "2").await.unwrap();
    assert_eq!(audit.receive().await.unwrap().text().unwrap(), "2");
    let refused = audit.resonate_on("orders.>").await.unwrap_err();
    assert!(matches!(refused, JoinError::NotAllowed(_)), "{refused}");

    // What the rules allow again is heard again once it is asked for, and once only.
    border.change(None);
    audit.resonate_on("orders.>").await.unwrap();
    audit.resonate_on("orders.>").await.unwrap();
    shop.emit_bytes("orders.created", "3").await.unwrap();
    assert_eq!(audit.receive().await.unwrap().text().unwrap(), "3");
    assert_eq!((audit.ledger().queued, border.refused().revoked), (0, 2));
    // Leaving ends each once.
    audit.detune("orders.>").unwrap();
    drop(audit);
    assert_eq!(shop.emit_bytes("invoices.sent", "4").await.unwrap().receivers, Some(0));
}

#[tokio::test]
async fn a_border_without_rules_checks_nothing_until_it_has_some_and_again_when_they_are_gone() {
    let border = Border::default();
    let aether = Aether::builder().border(border.clone()).connect().await.unwrap();
    let anybody = aether.emitter("anybody").unwrap();
    anybody.emit_bytes("anything", "1").await.unwrap();
    border.change(rules("a"));
    assert!(anybody.emit_bytes("anything", "1").await.is_err());
    border.change(None);
    anybody.emit_bytes("anything", "1").await.unwrap();
    assert_eq!(aether.border().unwrap().refused().emitted, 1);
}
