//! Several paths as one medium, over real servers that are killed, stopped and cut off: the conformance suite, and what is
//! particular to paths.

mod breaking;
mod connecting;

use std::time::Duration;

use crate::proxy::Proxy;
use crate::settling::patient;
use aether::nats::NatsOptions;
use aether::paths::{PathState, PathStatus, WithPaths as _};
use aether_conformance::{self, Harness, Link, NatsServer, Site, SiteError};
use aether_core::{Aether, InboxOptions, Vibrator};
use futures::future::{BoxFuture, join_all};
use tokio::sync::Mutex;
use tokio::time::{Instant, sleep, timeout};

/// Far longer than anything here takes.
const LONG: Duration = Duration::from_secs(120);

/// Two servers for each site, which are two paths.
struct OverPaths;

struct PathsSite {
    ports: [u16; 2],
    servers: Mutex<[NatsServer; 2]>,
    /// Two for each connected `Aether`.
    proxies: Mutex<Vec<Proxy>>,
}

impl Harness for OverPaths {
    fn site(&self) -> BoxFuture<'_, Result<Box<dyn Site>, SiteError>> {
        Box::pin(async {
            let server =
                async || NatsServer::start().await.map_err(|error| SiteError::new("start a server", error));
            let servers = [server().await?, server().await?];
            let ports = servers.each_ref().map(NatsServer::port);
            let site = PathsSite { ports, servers: Mutex::new(servers), proxies: Mutex::default() };
            Ok(Box::new(site) as Box<dyn Site>)
        })
    }
}

impl Site for PathsSite {
    fn connect(&self, outbox: InboxOptions) -> BoxFuture<'_, Result<Aether, SiteError>> {
        Box::pin(async {
            let mut builder = aether::builder();
            for port in self.ports {
                let proxy = Proxy::new(port).await.map_err(|error| SiteError::new("listen", error))?;
                builder = builder.path(proxy.url());
                self.proxies.lock().await.push(proxy);
            }
            let connected = builder.options(NatsOptions::default().outbox(outbox)).connect().await;
            connected.map_err(|error| SiteError::new("connect", error))
        })
    }

    fn link(&self) -> Option<&dyn Link> {
        Some(self)
    }
}

impl Link for PathsSite {
    fn cut(&self) -> BoxFuture<'_, Result<(), SiteError>> {
        Box::pin(async {
            for server in &mut *self.servers.lock().await {
                server.kill().await.map_err(|error| SiteError::new("kill a server", error))?;
            }
            join_all(self.proxies.lock().await.iter().map(Proxy::cut)).await;
            Ok(())
        })
    }

    fn mend(&self) -> BoxFuture<'_, Result<(), SiteError>> {
        Box::pin(async {
            for server in &mut *self.servers.lock().await {
                server.restart().await.map_err(|error| SiteError::new("restart a server", error))?;
            }
            self.proxies.lock().await.iter().for_each(Proxy::mend);
            Ok(())
        })
    }
}

/// The cases with clients that do not know Aether, which have only one of the paths.
const SKIPPED: [&str; 4] = [
    "a_foreign_message_arrives_as_a_wave_with_default_values",
    "a_foreign_requester_gets_a_plain_answer",
    "foreign_headers_become_metadata",
    "malformed_messages_are_counted_and_end_nothing",
];

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn two_paths_conform_as_one_medium() {
    let report = aether_conformance::run(&OverPaths).await;
    assert!(report.passed(), "\n{report}");
    let mut skipped = report.skipped();
    skipped.sort_unstable();
    assert_eq!(skipped, SKIPPED, "\n{report}");
}

/// A process with these paths.
async fn process(paths: &[&str]) -> Aether {
    let builder = paths.iter().fold(aether::builder(), |builder, path| builder.path(*path));
    builder.options(patient()).account_every(None).connect().await.unwrap()
}

async fn listener(aether: &Aether, pattern: &str) -> Vibrator {
    let vibrator = Vibrator::create("listener", aether).await.unwrap();
    vibrator.resonate_on(pattern).await.unwrap();
    vibrator
}

/// Waits until the paths of a process are as wanted. There is no event for that: an application has no use for one.
async fn until(aether: &Aether, is_so: impl Fn(&[PathStatus]) -> bool) {
    let deadline = Instant::now() + LONG;
    while !is_so(&aether::paths::paths(aether)) {
        assert!(Instant::now() < deadline, "{:#?}", aether::paths::paths(aether));
        sleep(Duration::from_millis(10)).await;
    }
}

async fn until_in_use(aether: &Aether, path: usize) {
    until(aether, |paths| paths[path].state == PathState::InUse).await;
}

/// The text of the next wave.
async fn heard(listener: &mut Vibrator) -> String {
    timeout(LONG, listener.receive()).await.unwrap().unwrap().text().unwrap().to_owned()
}
