//! Senders that are faster than a handler: over NATS they are slowed down, and nothing is lost.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use aether_conformance::NatsServer;
use aether_core::{InboxOptions, Wave, WhenFull};
use aether_service::{Service, State};
use tokio::sync::Notify;

use crate::service::stage::{LONG, Stage};

/// Three times what the inbox holds.
const ROOM: usize = 1 << 14;
const WAVES: u64 = 3 * ROOM as u64;

struct Count {
    left: AtomicU64,
    /// All were handled, or one was lost.
    over: Notify,
}

/// Slower than a sender, and busy.
async fn work(State(count): State<Arc<Count>>, wave: Wave) {
    for _ in 0..20 {
        std::hint::black_box(
            wave.payload().iter().fold(0_u32, |sum, byte| sum.wrapping_add(u32::from(*byte))),
        );
    }
    if count.left.fetch_sub(1, Ordering::Relaxed) == 1 {
        count.over.notify_one();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_handler_slower_than_its_senders_over_nats_loses_nothing() {
    let server = NatsServer::start().await.unwrap();
    let here = aether::connect(&server.url()).await.unwrap();
    let there = aether::connect(&server.url()).await.unwrap();
    let count = Arc::new(Count { left: AtomicU64::new(WAVES), over: Notify::new() });
    let lost = Arc::clone(&count);
    // Longer than a busy machine may delay the handler: an inbox sheds once the patience of its emitters is over.
    let inbox = InboxOptions::interactive().max_waves(ROOM).when_full(WhenFull::Wait { patience: LONG });
    let inbox = inbox.on_shed(move |_, _| lost.over.notify_one());
    let builder = Service::builder("slow").inbox(inbox).state(Arc::clone(&count)).on("work", work);
    let stage = Stage::on(there.clone(), builder).await;
    let emitter = here.emitter("quick").unwrap();
    let emitting = tokio::spawn(async move {
        for _ in 0..WAVES {
            emitter.emit_bytes("work", vec![7; 100]).await.unwrap();
        }
    });
    // Either all were handled, or one was lost.
    count.over.notified().await;
    let (ledger, status) = (there.ledger(), here.status());
    assert_eq!(ledger.lost() + status.outbox.lost(), 0, "received: {ledger:?}\nsent: {status:?}");
    emitting.await.unwrap();
    let report = stage.close().await;
    assert_eq!(report.succeeded, WAVES, "{report}");
}
