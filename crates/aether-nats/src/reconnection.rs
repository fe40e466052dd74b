//! Chooses the server of each new connection, and whether it goes through the filter.
//!
//! The client does not say why a connection broke. If the server of that connection answers at once, it did not end: the client could
//! not parse a message, or something between the two broke it. Then the connection goes through the filter
//! ([`MessageFilter`]), so that one message breaks one connection at most. When a filtered connection breaks, the next one is
//! filtered if the filter had something to leave out, and else goes to the server itself again.
//!
//! The client tries for ever to reconnect, also after its last handle is gone. So the last thing is here, too: without a handle the
//! task of the client ends.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock, Weak};
use std::time::Duration;

use async_nats::client::Statistics;
use async_nats::{Auth, ReconnectToServer, Server, ServerAddr};
use parking_lot::Mutex;
use tokio::time::sleep;

use super::filter::MessageFilter;

/// A server that runs answers at once. Where it does not, it is tried like the others.
const ANSWERS_WITHIN: Duration = Duration::from_secs(1);

/// As the client's own bound for an attempt.
const CONNECTED_WITHIN: Duration = Duration::from_secs(5);

/// The pause before an attempt: the first one is quick, to find a restarted server at once. Later ones come twice a second on
/// average, each at a random time, so that many clients of a server that is back do not come at once.
pub(super) fn pause_before(attempt: usize) -> Duration {
    let usual = Duration::from_millis(20 << attempt.min(5)).min(Duration::from_millis(500));
    usual.mul_f64(0.5 + fastrand::f64())
}

/// The address with which a client makes TLS in any case.
pub(super) fn over_tls(server: &ServerAddr) -> ServerAddr {
    let url = server.as_url_str().strip_prefix("nats://").map(|rest| format!("tls://{rest}"));
    url.and_then(|url| url.parse().ok()).unwrap_or_else(|| server.clone())
}

/// The reconnections of one client.
#[derive(Debug)]
pub(super) struct Reconnection {
    pub(super) filter: Option<MessageFilter>,
    pub(super) requires_tls: bool,
    /// Dead when nobody holds the client any more.
    holders: Weak<()>,
    statistics: OnceLock<Arc<Statistics>>,
    /// The client calls back for its first connection, too, and tries all servers by itself then.
    is_first: AtomicBool,
    outage: Mutex<Outage>,
}

/// The latest outage.
#[derive(Debug, Default)]
struct Outage {
    /// The number of connections before it.
    connects: u64,
    attempt: usize,
    way: Way,
    /// The server of the latest attempt.
    latest: Option<ServerAddr>,
    /// How often each server was tried since it was last connected.
    tried: HashMap<String, u32>,
}

/// How the next attempt is made.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Way {
    #[default]
    Direct,
    /// Through the filter to the latest server, if it answers at once. Direct otherwise.
    Probing,
    Filtered,
}

impl Reconnection {
    pub(super) fn new(filter: Option<MessageFilter>, requires_tls: bool, holders: Weak<()>) -> Self {
        let (statistics, is_first, outage) = (OnceLock::new(), AtomicBool::new(true), Mutex::default());
        Self { filter, requires_tls, holders, statistics, is_first, outage }
    }

    /// Called when the client is connected.
    pub(super) fn begin(&self, statistics: Arc<Statistics>) {
        let _ = self.statistics.set(statistics);
    }

    /// Prepares the login of an attempt.
    pub(super) fn log_in(&self, auth: &mut Auth) {
        if let Some(filter) = &self.filter {
            filter.show_in(auth);
        }
    }

    /// The servers that the client is to know.
    pub(super) fn pool(&self, servers: &[ServerAddr]) -> Vec<ServerAddr> {
        let filter = self.filter.as_ref().map(|filter| filter.address().clone());
        let servers = servers.iter().map(|server| match self.requires_tls {
            true => over_tls(server),
            false => server.clone(),
        });
        servers.chain(filter).collect()
    }

    /// Where the client connects to next.
    ///
    /// Cancel safety: the attempt is lost.
    pub(super) async fn next_server(&self, pool: &[Server]) -> Option<ReconnectToServer> {
        if self.is_first.swap(false, Ordering::Relaxed) {
            return None;
        }
        let filter = self.filter.as_ref().filter(|filter| is_in(pool, filter.address()));
        let servers = self.servers(pool, filter);
        self.look_back(pool, filter);
        loop {
            self.end_without_holders().await;
            let attempt = self.outage.lock().next_attempt();
            sleep(pause_before(attempt)).await;
            self.end_without_holders().await;
            if let Some(target) = self.attempt(&servers, filter).await {
                let delay = Some(Duration::ZERO);
                return Some(ReconnectToServer { addr: target, delay });
            }
        }
    }

    /// `None` if a server was tried through the filter and does not answer.
    async fn attempt(&self, servers: &[ServerAddr], filter: Option<&MessageFilter>) -> Option<ServerAddr> {
        let probed = self.outage.lock().probed();
        if let (Some(filter), Some(server)) = (filter, probed)
            && filter.expect(&server, self.requires_tls, ANSWERS_WITHIN).await.is_ok()
        {
            tracing::info!(
                "the connection broke although the server is there: from now on a filter leaves out what the client cannot parse"
            );
            return Some(filter.address().clone());
        }
        let (server, way) = self.outage.lock().choose(servers)?;
        match filter {
            Some(filter) if way == Way::Filtered || self.requires_tls && !server.tls_required() => {
                let expected = filter.expect(&server, self.requires_tls, CONNECTED_WITHIN).await;
                expected.is_ok().then(|| filter.address().clone())
            }
            Some(filter) => {
                filter.is_passed_by();
                Some(server)
            }
            None => Some(server),
        }
    }

    /// Judges what became of the latest attempt.
    fn look_back(&self, pool: &[Server], filter: Option<&MessageFilter>) {
        let connects =
            self.statistics.get().map_or(0, |statistics| statistics.connects.load(Ordering::Relaxed));
        let mut outage = self.outage.lock();
        let used = filter.filter(|filter| filter.is_used());
        if outage.connects == connects {
            if used.is_some_and(|filter| !filter.has_come()) && outage.way != Way::Direct {
                tracing::warn!(
                    "the client does not reach the filter on loopback: it connects to the server itself"
                );
                outage.way = Way::Direct;
            }
            return;
        }
        let connected = pool.iter().find(|server| server.did_connect).map(|server| server.addr.clone());
        let latest = outage.latest.take().or(connected);
        if let Some(latest) = &latest {
            outage.tried.remove(latest.as_url_str());
        }
        outage.way = match used {
            Some(filter) if filter.has_left_out() => Way::Filtered,
            Some(_) => Way::Direct,
            None => Way::Probing,
        };
        (outage.connects, outage.attempt, outage.latest) = (connects, 0, latest);
    }

    /// The servers of a pool. Where TLS is required, one that was discovered without that is the same as one with it, and reached
    /// through the filter, which makes TLS in any case.
    fn servers(&self, pool: &[Server], filter: Option<&MessageFilter>) -> Vec<ServerAddr> {
        let is_reached = |server: &ServerAddr| {
            !self.requires_tls || server.tls_required() || filter.is_some() && !is_in(pool, &over_tls(server))
        };
        let own = self.filter.as_ref().map(MessageFilter::address);
        let servers = pool.iter().map(|server| &server.addr);
        servers.filter(|server| Some(*server) != own && is_reached(server)).cloned().collect()
    }

    /// Ends the task that calls this, if nobody holds the client any more.
    async fn end_without_holders(&self) {
        if self.holders.strong_count() > 0 {
            return;
        }
        tracing::debug!("nobody uses the connection to the server any more, and it is away: it is given up");
        // Nothing else ends the task of the client while it reconnects. No panic hook runs, and the runtime catches it.
        #[cfg(panic = "unwind")]
        std::panic::resume_unwind(Box::new("nobody uses this connection"));
        #[cfg(not(panic = "unwind"))]
        std::future::pending::<()>().await;
    }
}

impl Outage {
    fn next_attempt(&mut self) -> usize {
        self.attempt += 1;
        self.attempt
    }

    /// The server that is tried through the filter, once.
    fn probed(&mut self) -> Option<ServerAddr> {
        if self.way != Way::Probing {
            return None;
        }
        self.way = Way::Direct;
        self.latest.clone()
    }

    /// A server that was tried no more often than the others since it was last connected.
    fn choose(&mut self, servers: &[ServerAddr]) -> Option<(ServerAddr, Way)> {
        self.tried.retain(|url, _| servers.iter().any(|server| server.as_url_str() == url));
        let tries = |server: &ServerAddr| self.tried.get(server.as_url_str()).copied().unwrap_or(0);
        let fewest = servers.iter().map(tries).min()?;
        let least: Vec<_> = servers.iter().filter(|server| tries(server) == fewest).collect();
        let server = least[fastrand::usize(..least.len())].clone();
        *self.tried.entry(server.as_url_str().to_owned()).or_default() += 1;
        self.latest = Some(server.clone());
        Some((server, self.way))
    }
}

fn is_in(pool: &[Server], address: &ServerAddr) -> bool {
    pool.iter().any(|server| server.addr == *address)
}
