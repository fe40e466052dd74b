//! The gateway itself: observers on the medium and an HTTP server beside them.
//!
//! [`Gateway::start`] binds and subscribes, [`Gateway::run`] observes and serves until shutdown.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use aether::physics::PhysicsEngine;
use aether::physics::{ObserveError, PhysicsObserver};
use aether_core::{Aether, CreateError, Emitter, JoinError, Pattern, Vibrator, Wave};
use aether_metrics::{Metrics, Tls, TrustedProxies};
use aether_service::description::Directory;
use futures_util::FutureExt;
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpSocket};
use tokio::task::coop;
use tokio_util::sync::CancellationToken;

use crate::archive::{Archive, ArchiveError};
use crate::assets;
use crate::consumers::{self, Consumers};
use crate::demos;
use crate::durable::Durable;
use crate::field::Fields;
use crate::gate::{Gate, Reach};
use crate::http::{self, Guard};
use crate::insight::{self, Insight};
use crate::letters::{self, Letters};
use crate::log::Log;
use crate::metrics;
use crate::observed::Observed;
use crate::options::{GatewayOptions, OnWave};
use crate::queues;
use crate::status::{Heard, StatusSource};
use crate::stores::Stores;
use crate::trace_url::TraceUrl;
use crate::views::Views;
use crate::waves::{self, Shared};

/// The name of the gateway's vibrator in the table of inboxes.
const NAME: &str = "gateway";
/// The name of the vibrator that feeds the detectors.
const PHYSICS_NAME: &str = "gateway-physics";

/// How long connections may take to end with the gateway.
const CLOSING_PATIENCE: Duration = Duration::from_millis(250);

/// The listen backlog, if the system allows as many. Connections beyond it are not refused: the client's system retries
/// after a second. The usual 128 are fewer than a burst of idle connections.
const BACKLOG: u32 = 4096;

/// Why a gateway could not be started.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// Others than programs of this machine could read, without a token or a certificate.
    #[error(
        "everybody who can connect to {address} could read everything: set a token (AETHER_WAVES_TOKEN, or --field-tokens \
         FILE), ask clients for certificates (--tls-clients FILE), listen on 127.0.0.1, or allow it with --insecure"
    )]
    Exposed {
        /// The address.
        address: SocketAddr,
    },
    /// Certificates are listed beside the tokens, but clients are not asked for one.
    #[error(
        "certificates are listed with the tokens, but clients are not asked for one: set tls_clients (--tls-clients FILE)"
    )]
    Certificates,
    /// The address cannot be bound.
    #[error("cannot listen on {address}")]
    Bind {
        /// The address.
        address: SocketAddr,
        /// The error of the operating system.
        source: io::Error,
    },
    /// The observer's vibrator could not be created.
    #[error("the observer could not be created")]
    Create(#[from] CreateError),
    /// The observer could not subscribe.
    #[error("the observer could not subscribe to every channel")]
    Join(#[from] JoinError),
    /// The archive cannot be written.
    #[error("the archive cannot be used")]
    Archive(#[from] ArchiveError),
    /// The physics observer could not subscribe.
    #[error("the physics observer could not subscribe")]
    Observe(#[from] ObserveError),
}

/// An exporter with live pages: observes all traffic of a medium and serves the results over HTTP.
///
/// It is bound and subscribed from the start; requests are answered once [`Gateway::run`] runs.
#[must_use = "a gateway observes nothing before run()"]
pub struct Gateway {
    listener: TcpListener,
    address: SocketAddr,
    moved_from: Option<SocketAddr>,
    observer: Vibrator,
    physics: Option<PhysicsObserver>,
    on_wave: Option<OnWave>,
    tls: Option<Tls>,
    proxies: TrustedProxies,
    archive: Option<Archive>,
    trace_url: Option<TraceUrl>,
    fields: Arc<Fields>,
    demos: bool,
    source: Arc<StatusSource>,
    gate: Arc<Gate>,
    emitter: Emitter,
}

impl Gateway {
    /// Binds the address and subscribes to every channel. Every wave emitted afterwards is observed.
    ///
    /// # Errors
    /// [`StartError`] if the address is not a loopback address and nothing protects it, if certificates are listed that
    /// nobody is asked for, if it cannot be bound, or if subscribing fails.
    ///
    /// # Cancel safety
    /// Cancelled before completion, no address is bound and no subscription remains.
    pub async fn start(aether: &Aether, options: GatewayOptions) -> Result<Self, StartError> {
        let wanted = options.listen.unwrap_or(GatewayOptions::DEFAULT_ADDRESS);
        let reach = match &options.tls {
            Some(tls) if tls.is_mutual() => Reach::Certified,
            _ if wanted.ip().is_loopback() => Reach::Loopback,
            _ => Reach::Network,
        };
        if options.fields.lists_certificates() && reach != Reach::Certified {
            return Err(StartError::Certificates);
        }
        if reach == Reach::Network && !options.insecure && !options.fields.has_tokens() {
            return Err(StartError::Exposed { address: wanted });
        }
        if let Some(archive) = options.archive.clone() {
            // A minute later nobody looks any more.
            let checked = tokio::task::spawn_blocking(move || archive.check());
            checked.await.unwrap_or(Ok(()))?;
        }
        let (listener, address, moved_from) = bind(options.listen, GatewayOptions::DEFAULT_ADDRESS)?;
        let observer = Vibrator::builder(NAME).observe().inbox(options.inbox).create(aether).await?;
        observer.resonate_on(Pattern::everything()).await?;
        let physics = if options.physics {
            let engine = PhysicsEngine::default();
            Some(PhysicsObserver::open(PHYSICS_NAME, Pattern::everything(), engine, aether).await?)
        } else {
            None
        };
        let log = Arc::<Log>::default();
        let insight = physics.as_ref().map(|_| Arc::new(Insight::with(Arc::clone(&log))));
        let roster = aether.roster().await?;
        let observed = Observed::new(options.max_channels);
        if options.fields.is_open() && reach == Reach::Network {
            tracing::warn!(%address, "without tokens, everybody who can connect may read and write the fields");
        }
        if reach == Reach::Network && options.tls.is_none() && options.fields.has_tokens() {
            tracing::warn!(
                %address,
                "without TLS, everybody on the way can read the tokens of clients: use --tls-cert and --tls-key, or a proxy with TLS on this machine"
            );
        }
        let fields = Arc::new(Fields::new(options.fields));
        let accounts = aether.accounts().await?;
        let emitter = aether.emitter(NAME).map_err(CreateError::from)?;
        let directory = Directory::open(aether, emitter.clone()).await?;
        let durable = Arc::new(Durable::new(options.durable, options.durable_keys, options.jetstream));
        let heard = Heard { log, observed, insight, roster, accounts, directory, durable };
        let source = StatusSource::new(aether.clone(), heard, Arc::clone(&fields));
        let source = Arc::new(source);
        tracing::debug!(%address, "the gateway is listening");
        let (access, origins) = (Arc::clone(&fields.access), Arc::clone(&fields.origins));
        let gate = Gate::new(access, origins, reach, options.emits).insecure(options.insecure);
        let gate = Arc::new(gate);
        let (on_wave, tls, archive) = (options.on_wave, options.tls, options.archive);
        let (trace_url, demos) = (options.trace_url, options.demos);
        Ok(Self {
            listener,
            address,
            moved_from,
            observer,
            physics,
            on_wave,
            tls,
            proxies: options.trusted_proxies,
            archive,
            trace_url,
            fields,
            demos,
            source,
            gate,
            emitter,
        })
    }

    /// The bound address, with the actual port.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The default address, if it was taken and the gateway uses a free port instead.
    #[must_use]
    pub fn moved_from(&self) -> Option<SocketAddr> {
        self.moved_from
    }

    /// The URL of the page.
    #[must_use]
    pub fn url(&self) -> String {
        url(self.tls.is_some(), self.address)
    }

    /// One line with the URL of the page, and with the default address if that was taken.
    #[must_use]
    pub fn announcement(&self) -> String {
        announcement(self.tls.is_some(), self.address, self.moved_from)
    }

    /// The observed traffic. It outlives the gateway.
    #[must_use]
    pub fn observed(&self) -> Arc<Observed> {
        self.source.observed()
    }

    /// The findings of the physics, unless it is switched off. They outlive the gateway.
    #[must_use]
    pub fn insight(&self) -> Option<Arc<Insight>> {
        self.source.insight()
    }

    /// The metrics that the gateway serves, for an endpoint of one's own beside its page.
    #[must_use]
    pub fn metrics(&self) -> Metrics {
        metrics::metrics(self.source.aether(), Arc::clone(&self.source))
    }

    /// Observes and serves until `shutdown` is cancelled. Then it observes the queued waves, finishes open requests
    /// within a quarter of a second, and ends. When the medium is closed it continues to serve, and `/readyz` reports
    /// that it is not ready.
    ///
    /// # Cancel safety
    /// Cancelled before completion, all connections are closed and the observer is gone.
    pub async fn run(self, shutdown: CancellationToken) {
        let (source, gate) = (Arc::clone(&self.source), self.gate);
        let (field_routes, sharing) = self.fields.serve(Arc::clone(&gate), shutdown.clone());
        let views = Views::new(Arc::clone(&source), self.archive);
        let (emitter, limits) = (self.emitter, self.fields.limits.clone());
        let guard = Guard { gate: Arc::clone(&gate), taps: Arc::clone(source.taps()) };
        let stores = || Stores::new(&source, emitter.clone(), Arc::clone(&gate));
        let (letters, queues) = (Letters::new(stores(), Arc::clone(source.durable())), Arc::new(stores()));
        let consumers = Consumers::new(&source, emitter.clone(), Arc::clone(&gate));
        let shared = Shared::new(&source, gate, Arc::clone(&views), emitter, limits, shutdown.clone());
        let shared = shared.trace_url(self.trace_url);
        let others = waves::routes(Arc::clone(&shared)).merge(letters::routes(letters));
        let others =
            others.merge(queues::routes(queues)).merge(consumers::routes(consumers)).merge(field_routes);
        let others = if self.demos { others.merge(demos::routes()) } else { others };
        let routes = http::routes(
            source.aether(),
            Arc::clone(&source),
            Arc::clone(&views),
            guard,
            others,
            self.tls.is_some(),
        );
        // Before somebody asks for them. Nothing waits for it.
        drop(tokio::task::spawn_blocking(assets::pack));
        let app = TowerToHyperService::new(routes);
        let slots = self.source.slots();
        let serving =
            aether_metrics::serve_with(self.listener, self.tls, self.proxies, slots, app, shutdown.clone());
        let observing = observe(self.observer, &self.source, self.on_wave, shutdown.clone());
        let showing = views.run(shutdown.clone());
        let closing = async {
            shutdown.cancelled().await;
            // What is left over is a client that does not read its last message.
            let _ = tokio::time::timeout(CLOSING_PATIENCE, shared.ended()).await;
        };
        let watching = async {
            if let (Some(observer), Some(insight)) = (self.physics, self.source.insight()) {
                insight::watch(observer, &insight, shutdown.clone()).await;
            }
        };
        let reading = self.source.durable().run(shutdown.clone());
        tokio::join!(observing, watching, serving, sharing, showing, reading, closing);
    }
}

impl fmt::Debug for Gateway {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Gateway").field("address", &self.address).finish_non_exhaustive()
    }
}

/// The listener, its address, and the default address if that one is taken.
fn bind(
    wanted: Option<SocketAddr>,
    default: SocketAddr,
) -> Result<(TcpListener, SocketAddr, Option<SocketAddr>), StartError> {
    let address = wanted.unwrap_or(default);
    let refused = |source| StartError::Bind { address, source };
    let (listener, moved_from) = match listen(address) {
        Err(error) if wanted.is_none() && error.kind() == io::ErrorKind::AddrInUse => {
            (listen((address.ip(), 0).into()).map_err(refused)?, Some(address))
        }
        bound => (bound.map_err(refused)?, None),
    };
    let address = listener.local_addr().map_err(refused)?;
    Ok((listener, address, moved_from))
}

fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    // On other systems this option would let two programs bind one address.
    #[cfg(unix)]
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

fn announcement(is_secure: bool, address: SocketAddr, moved_from: Option<SocketAddr>) -> String {
    let moved = moved_from.map(|taken| format!(" ({taken} is taken)")).unwrap_or_default();
    format!("gateway: {}{moved}", url(is_secure, address))
}

fn url(is_secure: bool, address: SocketAddr) -> String {
    let scheme = if is_secure { "https" } else { "http" };
    format!("{scheme}://{address}/")
}

/// The number of waves that the observer takes at once.
const MANY: usize = 64;

async fn observe(
    mut observer: Vibrator,
    source: &StatusSource,
    mut on_wave: Option<OnWave>,
    shutdown: CancellationToken,
) {
    let mut note = |wave: Wave| {
        source.note(&wave);
        if let Some(on_wave) = &mut on_wave {
            on_wave(&wave);
        }
    };
    let told_to_stop = shutdown.cancelled();
    tokio::pin!(told_to_stop);
    let mut waves = Vec::with_capacity(MANY);
    loop {
        tokio::select! {
            () = &mut told_to_stop => break,
            taken = observer.receive_many(&mut waves, MANY) => {
                if taken == 0 {
                    source.observer_ended();
                    tracing::warn!("the medium was closed; observation has ended");
                    return;
                }
                waves.drain(..).for_each(&mut note);
            }
        }
    }
    // Only the waves queued now: emitters that continue must not keep the gateway from ending.
    for _ in 0..observer.ledger().queued {
        match coop::unconstrained(observer.receive()).now_or_never() {
            Some(Some(wave)) => note(wave),
            _ => break,
        }
    }
    source.observer_ended();
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    #[tokio::test]
    async fn the_default_address_is_replaced_if_taken_and_a_requested_one_is_not() {
        let any_port = (Ipv4Addr::LOCALHOST, 0).into();
        let (listener, taken, moved_from) = bind(Some(any_port), any_port).unwrap();
        assert_eq!((listener.local_addr().unwrap(), moved_from), (taken, None));

        let (_other, free, moved_from) = bind(None, taken).unwrap();
        assert_eq!((free.ip(), moved_from), (taken.ip(), Some(taken)));
        assert_ne!(free.port(), taken.port());
        assert_eq!(
            announcement(false, free, moved_from),
            format!("gateway: http://{free}/ ({taken} is taken)")
        );
        assert_eq!(announcement(true, taken, None), format!("gateway: https://{taken}/"));

        match bind(Some(taken), any_port).unwrap_err() {
            StartError::Bind { address, .. } => assert_eq!(address, taken),
            other => panic!("{other}"),
        }
    }
}
