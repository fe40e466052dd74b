//! The conformance suite: for a local network alone, with cables that are pulled out, and as the first of two paths.

use aether::paths::WithPaths as _;
use std::time::Duration;

use aether::lan::{LanOptions, LanRouter, LanView};
use aether::seal::SealKeys;
use aether_conformance::{self, Harness, Link, NatsServer, Report, Site, SiteError, Suite};
use aether_core::{Aether, InboxOptions};
use futures::future::{BoxFuture, join_all};
use tokio::sync::Mutex;
use tokio::time::timeout;

use super::{STAYS, address, free_port};
use crate::proxy::Proxy;

/// Until a silent peer has gone, or one is back. Far longer than that takes.
const WITHIN: Duration = Duration::from_secs(120);
/// How soon a silent peer has gone where cables are pulled out.
const GONE_AFTER: Duration = Duration::from_secs(6);

/// Peers that connect to all earlier ones.
struct OverLan {
    keys: Option<SealKeys>,
    /// Whether the cables between them can be pulled out.
    has_cables: bool,
}

/// Peers that know a router, and a server as the second path.
struct OverLanAndServer;

struct LanSite {
    keys: Option<SealKeys>,
    has_cables: bool,
    second: Option<SecondPath>,
    peers: Mutex<Peers>,
}

/// With a router as well, because more than two peers tell each other how to connect past the cables.
struct SecondPath {
    server: Mutex<NatsServer>,
    router_port: u16,
    _router: LanRouter,
}

#[derive(Default)]
struct Peers {
    ports: Vec<u16>,
    views: Vec<LanView>,
    cables: Vec<Proxy>,
}

fn failed<E: Into<Box<dyn std::error::Error + Send + Sync>>>(step: &'static str) -> impl Fn(E) -> SiteError {
    move |error| SiteError::new(step, error)
}

/// Lays a cable to a port, and returns the port at its other end.
async fn lay(port: u16, cables: &mut Vec<Proxy>) -> Result<u16, SiteError> {
    let cable = Proxy::new(port).await.map_err(failed("lay a cable"))?;
    let port = cable.port();
    cables.push(cable);
    Ok(port)
}

impl Harness for OverLan {
    fn site(&self) -> BoxFuture<'_, Result<Box<dyn Site>, SiteError>> {
        let (keys, has_cables) = (self.keys.clone(), self.has_cables);
        let site = LanSite { keys, has_cables, second: None, peers: Mutex::default() };
        Box::pin(std::future::ready(Ok(Box::new(site) as Box<dyn Site>)))
    }
}

impl Harness for OverLanAndServer {
    fn site(&self) -> BoxFuture<'_, Result<Box<dyn Site>, SiteError>> {
        Box::pin(async {
            let server = Mutex::new(NatsServer::start().await.map_err(failed("start a server"))?);
            let router_port = free_port();
            let router =
                LanRouter::open(&address(router_port, &[])).await.map_err(failed("open a router"))?;
            let second = Some(SecondPath { server, router_port, _router: router });
            let site = LanSite { keys: None, has_cables: true, second, peers: Mutex::default() };
            Ok(Box::new(site) as Box<dyn Site>)
        })
    }
}

impl Site for LanSite {
    fn connect(&self, outbox: InboxOptions) -> BoxFuture<'_, Result<Aether, SiteError>> {
        Box::pin(async move {
            let peers = &mut *self.peers.lock().await;
            let (port, view) = (free_port(), LanView::default());
            let gone_after = if self.has_cables { GONE_AFTER } else { STAYS };
            let options = LanOptions::default().outbox(outbox.clone()).view(&view).gone_after(gone_after);
            let options = match &self.keys {
                Some(keys) => options.keys(keys.clone()),
                None => options.insecure(true),
            };
            let builder = match &self.second {
                None => {
                    let mut others = peers.ports.clone();
                    for port in others.iter_mut().filter(|_| self.has_cables) {
                        *port = lay(*port, &mut peers.cables).await?;
                    }
                    aether::builder().url(address(port, &others))
                }
                Some(SecondPath { server, router_port, .. }) => {
                    let to_router = lay(*router_port, &mut peers.cables).await?;
                    let to_server = lay(server.lock().await.port(), &mut peers.cables).await?;
                    let builder = aether::builder().path(format!("lan:?router=127.0.0.1:{to_router}"));
                    builder.path(format!("nats://127.0.0.1:{to_server}"))
                }
            };
            let connected = builder.options(options).connect().await;
            peers.ports.push(port);
            peers.views.push(view);
            connected.map_err(failed("connect"))
        })
    }

    fn link(&self) -> Option<&dyn Link> {
        self.has_cables.then_some(self as &dyn Link)
    }
}

impl Link for LanSite {
    fn cut(&self) -> BoxFuture<'_, Result<(), SiteError>> {
        Box::pin(async {
            if let Some(SecondPath { server, .. }) = &self.second {
                server.lock().await.kill().await.map_err(failed("kill the server"))?;
            }
            let peers = self.peers.lock().await;
            join_all(peers.cables.iter().map(Proxy::cut)).await;
            until_each_sees(&peers.views, 0).await
        })
    }

    fn mend(&self) -> BoxFuture<'_, Result<(), SiteError>> {
        Box::pin(async {
            if let Some(SecondPath { server, .. }) = &self.second {
                server.lock().await.restart().await.map_err(failed("restart the server"))?;
            }
            let peers = self.peers.lock().await;
            peers.cables.iter().for_each(Proxy::mend);
            match self.second {
                Some(_) => Ok(()),
                None => until_each_sees(&peers.views, peers.views.len() - 1).await,
            }
        })
    }

    fn holds_waves(&self) -> bool {
        self.second.is_some()
    }
}

/// Waits until each of those that have not ended sees this number of others.
async fn until_each_sees(views: &[LanView], others: usize) -> Result<(), SiteError> {
    for view in views {
        let Some(mut changes) = view.changes() else { continue };
        let seeing = async { while view.peers().len() != others && changes.changed().await.is_ok() {} };
        timeout(WITHIN, seeing).await.map_err(failed("see who is there"))?;
    }
    Ok(())
}

/// Cases in which waves wait in the outbox until a cable is mended. On a local network alone none waits: what a process
/// sends to itself does not cross the network, and nothing is held for those who are away.
const HELD: [&str; 10] = [
    "an_emitter_without_room_waits_and_blocks_no_thread",
    "try_emit_hands_back_a_wave_without_room",
    "a_refused_wave_leaves_no_gap_in_the_numbers",
    "weak_waves_are_refused_before_strong_ones",
    "the_strongest_waiting_emitter_is_admitted_first",
    "an_emit_cancelled_while_waiting_is_accounted_for",
    "waves_emitted_while_away_arrive",
    "a_full_outbox_sheds_the_weakest_and_counts_them",
    "a_wave_emitted_while_away_is_not_confirmed_and_still_arrives",
    "waves_shed_by_the_outbox_while_away_are_reflected_at_once",
];

/// A local network that is closed while nobody is there still delivers to this process what waits, also before a server. The
/// case expects that nobody hears it.
const CLOSING: &str = "closing_while_away_ends_and_counts_what_was_lost";

/// Cases with a client that does not know Aether. On a local network there is none: everything is in frames of Aether.
/// Messages of others are in `stranger` and `pretending`.
const FOREIGN: [&str; 4] = [
    "a_foreign_message_arrives_as_a_wave_with_default_values",
    "foreign_headers_become_metadata",
    "a_foreign_requester_gets_a_plain_answer",
    "malformed_messages_are_counted_and_end_nothing",
];

/// Cases of outages, which need cables that can be pulled out. Each pull takes some seconds, so they have a test of
/// their own.
const OUTAGES: [&str; 5] = [
    "subscriptions_are_restored_after_an_outage",
    "losses_on_the_way_are_counted",
    "a_join_begun_while_away_is_in_force_when_it_returns",
    "a_member_that_leaves_while_away_is_gone_afterwards",
    "failures_while_away_are_reflected_afterwards",
];

fn assert_conforms<'a>(report: &Report, skipped: impl IntoIterator<Item = &'a str>) {
    // Shows how long each case took.
    println!("{report}");
    assert!(report.passed(), "\n{report}");
    let (mut found, mut expected) = (report.skipped(), skipped.into_iter().collect::<Vec<_>>());
    found.sort_unstable();
    expected.sort_unstable();
    assert_eq!(found, expected, "\n{report}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn the_medium_of_a_local_network_conforms_with_a_secret() {
    let keys = Some(SealKeys::generate().unwrap());
    let report = aether_conformance::run(&OverLan { keys, has_cables: false }).await;
    assert_conforms(&report, HELD.into_iter().chain([CLOSING]).chain(FOREIGN).chain(OUTAGES));
}

#[tokio::test(flavor = "current_thread")]
async fn the_medium_of_a_local_network_conforms_on_one_thread() {
    let report = aether_conformance::run(&OverLan { keys: None, has_cables: false }).await;
    assert_conforms(&report, HELD.into_iter().chain([CLOSING]).chain(FOREIGN).chain(OUTAGES));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn the_medium_of_a_local_network_conforms_when_its_cables_are_pulled_out() {
    let over = OverLan { keys: Some(SealKeys::generate().unwrap()), has_cables: true };
    assert_conforms(&Suite::default().only(OUTAGES).run(&over).await, []);
}

/// Cases that a local network alone cannot show. The tests of paths run the other cases.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_local_network_before_a_server_holds_waves_while_both_are_away() {
    assert_conforms(&Suite::default().only(HELD).run(&OverLanAndServer).await, []);
}
