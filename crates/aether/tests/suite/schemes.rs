//! Media selected by the schemes of their addresses. Applications can register schemes and wrap media.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use aether_core::medium::{
    Carried, ConnectRequest, Local, Medium, MediumStatus, Offered, Promises, Reach, Subscription,
};
use aether_core::{
    Aether, AskError, ConnectError, EmitError, FlushError, InboxOptions, JoinError, LocalOptions, Vibrator,
    Wave,
};
use futures::future::BoxFuture;

/// Counts the carried waves and leaves the rest to the inner medium.
#[derive(Debug)]
struct Counting {
    inner: Arc<dyn Medium>,
    carried: Arc<AtomicU64>,
}

impl Medium for Counting {
    fn promises(&self) -> Promises {
        self.inner.promises()
    }

    fn carry(&self, wave: Wave) -> Result<Carried, EmitError> {
        self.carried.fetch_add(1, Ordering::Relaxed);
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
        self.inner.notify(notices)
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

async fn counting(request: ConnectRequest, carried: Arc<AtomicU64>) -> Result<Arc<dyn Medium>, ConnectError> {
    let inner = request.connect().await?;
    Ok(Arc::new(Counting { inner, carried }))
}

async fn carries(aether: &Aether) {
    let mut receiver = Vibrator::create("receiver", aether).await.expect("an open medium");
    receiver.resonate_on("orders.*").await.expect("an open medium");
    let emitter = Vibrator::create("emitter", aether).await.expect("an open medium");
    emitter.emit_bytes("orders.created", "a lamp").await.expect("an open medium");
    assert_eq!(receiver.receive().await.expect("an open medium").text().expect("an open medium"), "a lamp");
}

#[tokio::test]
async fn a_medium_can_be_wrapped_and_wrapped_again() {
    let (first, second) = (Arc::<AtomicU64>::default(), Arc::<AtomicU64>::default());
    let mut builder = aether::builder().url("local:");
    for carried in [&first, &second] {
        let carried = Arc::clone(carried);
        builder = builder.scheme("LOCAL", move |request| counting(request, Arc::clone(&carried)));
    }
    carries(&builder.connect().await.unwrap()).await;
    assert_eq!((first.load(Ordering::Relaxed), second.load(Ordering::Relaxed)), (1, 1));
}

#[tokio::test]
async fn a_scheme_of_anybody_gets_its_address_and_its_options() {
    let builder =
        aether::builder().url("Mesh://shop:secret@a").options(InboxOptions::overload().max_waves(7));
    let builder = builder.scheme("mesh", async |request: ConnectRequest| {
        assert_eq!(request.url, "Mesh://shop:secret@a");
        assert!(!format!("{request:?}").contains("secret"));
        assert!(request.vibrators.list().is_some_and(|vibrators| vibrators.is_empty()));
        assert!(format!("{:?}", request.options::<InboxOptions>()).contains('7'));
        Ok(Arc::new(Local::new(request.router, &LocalOptions::default())) as Arc<dyn Medium>)
    });
    carries(&builder.connect().await.unwrap()).await;
}

#[tokio::test]
async fn a_scheme_without_a_medium_has_nothing_to_wrap() {
    let connected =
        aether::builder().url("mesh://shop:secret@a").scheme("mesh", ConnectRequest::connect).connect();
    match connected.await.unwrap_err() {
        ConnectError::Scheme { scheme, url, .. } => assert_eq!((&*scheme, &*url), ("mesh", "mesh://***@a")),
        error => panic!("{error}"),
    }
    let unknown = aether::builder().url("mesh://a").connect().await.unwrap_err();
    assert!(matches!(unknown, ConnectError::Scheme { .. }), "{unknown}");
}

#[tokio::test]
async fn the_vibrators_of_a_process_are_listed_until_it_lets_go_of_them() {
    let (sender, mut listed) = tokio::sync::mpsc::unbounded_channel();
    let builder = aether::builder().scheme("local", move |request: ConnectRequest| {
        sender.send(request.vibrators.clone()).unwrap();
        request.connect()
    });
    let aether = builder.connect().await.unwrap();
    let vibrators = listed.recv().await.unwrap();
    let receiver = Vibrator::create("receiver", &aether).await.unwrap();
    receiver.resonate_in_group("orders.*", "stock").await.unwrap();
    let listed = vibrators.list().unwrap();
    assert_eq!(listed.len(), 1);
    assert_eq!((listed[0].vibrator.name(), listed[0].heard[0].pattern.as_str()), ("receiver", "orders.*"));
    assert_eq!(listed[0].heard[0].group.as_deref(), Some("stock"));
    drop((receiver, aether));
    assert!(vibrators.list().is_none());
}
