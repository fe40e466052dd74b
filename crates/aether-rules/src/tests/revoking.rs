//! Subscriptions when the rules change.

use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use tokio::sync::watch;

use crate::{Border, Rule, Rules};
use aether_core::medium::{Carried, Medium, MediumStatus, Offered, Promises, Reach, Subscription};
use aether_core::{AskError, EmitError, FlushError, JoinError, Vibrator, Wave};

fn rules(listen: &str) -> Rules {
    Rules::new([Rule::new("shop").emit([">"]), Rule::new("audit").listen([listen])]).unwrap()
}

#[tokio::test]
async fn a_subscription_that_new_rules_do_not_allow_hears_nothing_more_until_it_is_made_again() {
    let border = Border::default();
    let aether = aether_core::AetherBuilder::new().guard(border.clone()).connect().await.unwrap();
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

    // A pattern that the rules allow again is heard again once it is asked for, and once only.
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
    let aether = aether_core::AetherBuilder::new().guard(border.clone()).connect().await.unwrap();
    let anybody = aether.emitter("anybody").unwrap();
    anybody.emit_bytes("anything", "1").await.unwrap();
    border.change(rules("a"));
    assert!(anybody.emit_bytes("anything", "1").await.is_err());
    border.change(None);
    anybody.emit_bytes("anything", "1").await.unwrap();
    assert_eq!(Border::of(&aether).unwrap().refused().emitted, 1);
}

/// A medium between processes whose notices leave once this is true.
#[derive(Debug)]
struct Slow {
    inner: Arc<dyn Medium>,
    is_sending: watch::Receiver<bool>,
}

impl Medium for Slow {
    fn promises(&self) -> Promises {
        Promises::new(true, 1 << 20)
    }
    fn carry(&self, wave: Wave) -> Result<Carried, EmitError> {
        self.inner.carry(wave)
    }
    fn try_carry(&self, wave: Wave) -> Result<Offered, EmitError> {
        self.inner.try_carry(wave)
    }
    fn join(&self, subscription: Arc<Subscription>) -> BoxFuture<'_, Result<(), JoinError>> {
        self.inner.join(subscription)
    }
    fn leave(&self, subscription: &Subscription) {
        self.inner.leave(subscription);
    }
    fn ask(&self, question: Wave, patience: Duration) -> BoxFuture<'_, Result<Wave, AskError>> {
        self.inner.ask(question, patience)
    }
    fn notify(&self, notices: Vec<Wave>) -> BoxFuture<'_, Vec<Reach>> {
        let mut is_sending = self.is_sending.clone();
        async move {
            let _ = is_sending.wait_for(|is_sending| *is_sending).await;
            vec![Reach::Delivered; notices.len()]
        }
        .boxed()
    }
    fn flush(&self) -> BoxFuture<'_, Result<(), FlushError>> {
        self.inner.flush()
    }
    fn close(&self) -> BoxFuture<'_, Result<(), FlushError>> {
        self.inner.close()
    }
    fn status(&self) -> MediumStatus {
        self.inner.status()
    }
}

#[tokio::test]
async fn a_subscription_that_ends_while_it_is_announced_is_not_announced_any_more() {
    let (sends, is_sending) = watch::channel(false);
    let border = Border::default();
    let builder = aether_core::AetherBuilder::new().guard(border.clone());
    let builder = builder.layer(move |inner| Arc::new(Slow { inner, is_sending: is_sending.clone() }));
    let aether = builder.connect().await.unwrap();
    let audit = Vibrator::create("audit", &aether).await.unwrap();
    let mut joining = tokio_test::task::spawn(audit.resonate_on("orders.>"));
    assert!(joining.poll().is_pending(), "the announcement waits");

    border.change(rules("invoices.>"));
    assert_eq!(border.refused().revoked, 1);
    sends.send_replace(true);
    joining.await.unwrap();
    let roster = aether.roster().await.unwrap();
    assert_eq!(roster.heard_by_name().remove("audit").unwrap_or_default(), []);
    let refused = audit.resonate_on("orders.>").await.unwrap_err();
    assert!(matches!(refused, JoinError::NotAllowed(_)), "{refused}");
}
