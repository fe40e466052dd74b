//! The medium over a Unix socket: the conformance suite from outside of `aether-core`, and what it loses.

use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};

use aether_core::conformance::{self, Harness, Site, SiteError};
use aether_core::{Aether, InboxOptions, Vibrator};
use aether_medium_unix::Hub;
use futures_util::future::{BoxFuture, ready};

/// What it does not promise, and what the site has no means for: groups, what nobody hears, a link that can be broken,
/// clients that do not know Aether.
const SKIPPED: [&str; 0] = [];

struct OverUnix;

/// A hub of its own.
struct UnixSite {
    _hub: Hub,
    path: PathBuf,
}

impl Drop for UnixSite {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
    }
}

impl UnixSite {
    fn new(behind: usize) -> std::io::Result<Self> {
        static LAST: AtomicU64 = AtomicU64::new(0);
        let number = LAST.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("aether-{}-{number}", std::process::id()));
        Ok(Self { _hub: Hub::bind_with(&path, behind)?, path })
    }

    async fn connect(&self, outbox: InboxOptions) -> Result<Aether, aether_core::ConnectError> {
        let builder = Aether::builder().scheme("unix", aether_medium_unix::connect).outbox(outbox);
        builder.url(format!("unix:{}", self.path.display())).connect().await
    }
}

impl Harness for OverUnix {
    fn site(&self) -> BoxFuture<'_, Result<Box<dyn Site>, SiteError>> {
        let site = UnixSite::new(Hub::BEHIND).map_err(|error| SiteError::new("bind", error));
        Box::pin(ready(site.map(|site| Box::new(site) as Box<dyn Site>)))
    }
}

impl Site for UnixSite {
    fn connect(&self, outbox: InboxOptions) -> BoxFuture<'_, Result<Aether, SiteError>> {
        Box::pin(async { self.connect(outbox).await.map_err(|error| SiteError::new("connect", error)) })
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_medium_of_another_crate_conforms_but_for_what_it_does_not_promise() {
    let report = conformance::run(&OverUnix).await;
    assert!(report.passed(), "\n{report}");
    assert_eq!(report.skipped(), SKIPPED, "\n{report}");
}

/// The hub runs on the same thread and holds a single message for each client, so a burst overruns it.
#[tokio::test(flavor = "current_thread")]
async fn what_the_hub_loses_is_counted_at_the_receiver() {
    const WAVES: u64 = 20_000;
    let site = UnixSite::new(1).unwrap();
    let (here, there) = (
        site.connect(InboxOptions::interactive()).await.unwrap(),
        site.connect(InboxOptions::interactive()).await.unwrap(),
    );
    let options = InboxOptions::interactive().max_waves(2 * WAVES as usize);
    let ear = Vibrator::builder("ear").inbox(options).create(&there).await.unwrap();
    ear.resonate_on("burst.*").await.unwrap();
    let emitter = Vibrator::create("emitter", &here).await.unwrap();
    for count in 0..WAVES {
        // Two channels in turn, so that each wave travels alone.
        let channel = if count % 2 == 0 { "burst.even" } else { "burst.odd" };
        emitter.emit_bytes(channel, count.to_string()).await.unwrap();
    }
    // Markers may be lost as well. Sent again and again, the announcements before one of them arrive at last.
    let everything = async {
        while ear.ledger().offered < WAVES {
            let _ = here.flush().await;
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(60), everything).await.unwrap();
    let ledger = ear.ledger();
    assert!(ledger.adds_up() && ledger.offered == WAVES && ledger.lost_upstream > 0, "{ledger:?}");
    assert_eq!(there.status().lost_upstream, ledger.lost_upstream);
}
