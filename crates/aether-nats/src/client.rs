//! The client of NATS as Aether uses it: it logs in, comes past messages that it cannot parse, and ends with its last
//! holder.
//!
//! The client does not say why a connection broke. If the server of that connection answers at once, it did not end:
//! the client could not parse a message, or something between the two broke it. Then the connection goes through the
//! filter ([`MessageFilter`]), so that one message breaks one connection at most. When a filtered connection breaks,
//! the next one is filtered if the filter had something to leave out, and else goes to the server itself again
//! ([`Reconnection`]).
//!
//! The client tries for ever to reconnect, also after its last handle is gone. So [`Reconnection`] ends the task of a
//! client that has no handle.

use std::collections::HashMap;
use std::future::ready;
use std::ops::Deref;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock, Weak};
use std::time::Duration;

use async_nats::client::Statistics;
use async_nats::{Auth, AuthError, Client, ConnectOptions, Event, ReconnectToServer, Server, ServerAddr};
use parking_lot::Mutex;
use tokio::time::{sleep, timeout};

use super::filter::MessageFilter;
use super::login::{NatsLogin, NatsLoginError};
use super::malformed::Malformed;
use super::options::NatsOptions;
use super::tls::TlsFailure;

/// How often a certificate and a key that do not fit are read again before that is an error. While they are replaced, the
/// client may read one of them before and the other after; the pauses together last 0.6 s.
const READINGS: u32 = 6;

/// The bound of the wait for the client to take the address of the filter.
const TAKEN_WITHIN: Duration = Duration::from_secs(2);

/// A server that runs answers at once. Where it does not, it is tried like the others.
const ANSWERS_WITHIN: Duration = Duration::from_secs(1);

/// As the client's own bound for an attempt.
const CONNECTED_WITHIN: Duration = Duration::from_secs(5);

/// A client of NATS servers. Dereferences to the client of async-nats, which comes past messages that it cannot parse: one
/// breaks its connection, and from then on a filter leaves such messages out.
///
/// Clones of that client work for as long as this one exists. Without it, the client ends instead of reconnecting.
#[derive(Debug)]
pub struct NatsClient {
    client: Client,
    malformed: Arc<Malformed>,
    /// [`Reconnection`] looks whether it exists.
    _holder: Arc<()>,
}

/// Why a client could not be made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum NatsClientError {
    /// A file with a secret or a certificate cannot be used.
    #[error(transparent)]
    Login(#[from] NatsLoginError),
    /// No server accepted the connection.
    #[error("cannot connect to a NATS server")]
    Connect(#[from] async_nats::ConnectError),
}

impl NatsClient {
    /// The number of messages that could not be parsed and were left out.
    #[must_use]
    pub fn malformed(&self) -> u64 {
        self.malformed.count()
    }

    pub(super) fn malformed_messages(&self) -> Arc<Malformed> {
        Arc::clone(&self.malformed)
    }
}

impl Deref for NatsClient {
    type Target = Client;

    fn deref(&self) -> &Client {
        &self.client
    }
}

impl NatsOptions {
    /// Connects a client to these servers, with the name, the login and the certificates of these options.
    /// `configure` adds what is the caller's, except for callbacks: `on_event` is called with the events of the
    /// client, one after the other.
    ///
    /// # Errors
    /// [`NatsClientError`] if a file cannot be used, or no server accepts the connection.
    ///
    /// # Cancel safety
    /// If cancelled before completion, there is no connection.
    pub async fn connect_client<F>(
        &self,
        servers: &[ServerAddr],
        configure: impl Fn(ConnectOptions) -> ConnectOptions,
        on_event: impl Fn(Event) -> F + Send + Sync + 'static,
    ) -> Result<NatsClient, NatsClientError>
    where
        F: Future<Output = ()> + Send + Sync + 'static,
    {
        let (malformed, holder, on_event) = (Arc::<Malformed>::default(), Arc::new(()), Arc::new(on_event));
        let requires_tls = self.tls.is_required();
        let servers: Vec<_> = match requires_tls {
            true => servers.iter().map(over_tls).collect(),
            false => servers.to_vec(),
        };
        let login = self.login_to(&servers);
        let mut reading = 1;
        loop {
            let filter = MessageFilter::new(self.tls.clone(), Arc::clone(&malformed));
            let filter = filter.inspect_err(|error| {
                tracing::warn!(
                    %error,
                    "no port on loopback for a filter: a message that the client cannot parse breaks the connection each time"
                );
            });
            let reconnection = Reconnection::new(filter.ok(), requires_tls, Arc::downgrade(&holder));
            let reconnection = Arc::new(reconnection);
            let options = self.named(options_of(login.clone(), &reconnection)?, login.as_ref());
            let options = configure(self.tls.add_to(options)?)
                .reconnect_delay_callback(pause_before)
                .reconnect_to_server_callback({
                    let reconnection = Arc::clone(&reconnection);
                    move |pool, _| {
                        let reconnection = Arc::clone(&reconnection);
                        async move { reconnection.next_server(&pool).await }
                    }
                })
                .event_callback({
                    let on_event = Arc::clone(&on_event);
                    move |event| on_event(event)
                });
            let client = match options.connect(servers.clone()).await {
                // They may just be replaced.
                Err(error) if TlsFailure::is_of_files(&error) && reading < READINGS => {
                    sleep(pause_before(reading as usize - 1)).await;
                    reading += 1;
                    continue;
                }
                connected => connected?,
            };
            reconnection.begin(client.statistics());
            let taken = timeout(TAKEN_WITHIN, tell_pool(&client, &reconnection)).await;
            if !matches!(taken, Ok(Ok(()))) {
                tracing::warn!(
                    "the client did not take the address of the filter: a message that it cannot parse breaks the connection each time"
                );
            }
            return Ok(NatsClient { client, malformed, _holder: holder });
        }
    }
}

/// Options that log in so, through the filter as well.
fn options_of(
    login: Option<NatsLogin>,
    reconnection: &Arc<Reconnection>,
) -> Result<ConnectOptions, NatsLoginError> {
    let auth = move |nonce: &[u8]| login.as_ref().map_or_else(|| Ok(Auth::new()), |login| login.auth(nonce));
    // A wrong file is found now, and not at the first connection.
    auth(b"")?;
    let reconnection = Arc::clone(reconnection);
    Ok(ConnectOptions::with_auth_callback(move |nonce| {
        let auth = auth(&nonce).map(|mut auth| {
            reconnection.log_in(&mut auth);
            auth
        });
        ready(auth.map_err(AuthError::new))
    }))
}

/// The client reconnects to addresses only that it knows.
async fn tell_pool(
    client: &Client,
    reconnection: &Reconnection,
) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    let servers: Vec<_> = client.server_pool().await?.into_iter().map(|server| server.addr).collect();
    Ok(client.set_server_pool(reconnection.pool(&servers)).await?)
}

/// The pause before an attempt: the first one is quick, to find a restarted server at once. Later ones come twice a
/// second on average, each at a random time, so that many clients of a server that is back do not come at once.
fn pause_before(attempt: usize) -> Duration {
    let usual = Duration::from_millis(20 << attempt.min(5)).min(Duration::from_millis(500));
    usual.mul_f64(0.5 + fastrand::f64())
}

/// The address with which a client makes TLS in any case.
fn over_tls(server: &ServerAddr) -> ServerAddr {
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
    fn pool(&self, servers: &[ServerAddr]) -> Vec<ServerAddr> {
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
    async fn next_server(&self, pool: &[Server]) -> Option<ReconnectToServer> {
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

    /// The servers of a pool. Where TLS is required, one that was discovered without that is the same as one with it,
    /// and reached through the filter, which makes TLS in any case.
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
