//! The gateway itself: observers on the medium and an HTTP server beside them.
//!
//! [`Gateway::start`] binds and subscribes, [`Gateway::run`] observes and serves until it is told to stop.

use std::fmt;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use aether_core::physics::PhysicsEngine;
use aether_core::{
    Aether, CreateError, InboxOptions, JoinError, Pattern, ServeOrder, Vibrator, Wave, WhenFull,
    physics::{ObserveError, PhysicsObserver},
};
use futures_util::FutureExt;
use tokio::net::{TcpListener, TcpSocket};
use tokio::task::coop;
use tokio_util::sync::CancellationToken;

use crate::insight::{self, Insight};
use crate::observed::Observed;
use crate::status::Scene;
use crate::{http, server};

/// The name of the gateway's vibrator, as it stands in the table of inboxes.
const NAME: &str = "gateway";
/// That of the one whose waves the detectors take in.
const PHYSICS_NAME: &str = "gateway-physics";

/// How many connections the system keeps for a gateway that is busy, where it allows as many. A burst beyond them is not
/// refused: each of its clients tries again a second later, whoever it is. The usual 128 are less than a burst of idle ones.
const BACKLOG: u32 = 4096;

/// Called with each wave that is observed, in the observer's task.
type OnWave = Box<dyn FnMut(&Wave) + Send>;

/// How a gateway shall be.
pub struct GatewayOptions {
    listen: Option<SocketAddr>,
    max_channels: usize,
    inbox: InboxOptions,
    physics: bool,
    on_wave: Option<OnWave>,
}

/// Why a gateway could not be started.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// The address cannot be listened on.
    #[error("cannot listen on {address}")]
    Bind {
        /// The address.
        address: SocketAddr,
        /// Why not.
        source: io::Error,
    },
    /// The observer's vibrator could not be made.
    #[error("the observer could not be made")]
    Create(#[from] CreateError),
    /// The observer could not subscribe.
    #[error("the observer could not subscribe to every channel")]
    Join(#[from] JoinError),
    /// The physics could not subscribe.
    #[error("the physics could not be observed")]
    Observe(#[from] ObserveError),
}

impl GatewayOptions {
    /// Where the gateway listens if nothing else is said.
    pub const DEFAULT_ADDRESS: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 8080);

    /// Where to listen; port 0 takes a free one. Default: [`Self::DEFAULT_ADDRESS`], or a free port on the same
    /// interface if that one is taken. An address given here is used or refused, never replaced.
    #[must_use]
    pub fn listen(mut self, address: SocketAddr) -> Self {
        self.listen = Some(address);
        self
    }

    /// How many channels are counted one by one; the others share the line [`OTHER`](crate::OTHER). When there are so many,
    /// a new one takes the place of the one that was silent for longest, if it was so for a minute. Default: 500. Cost:
    /// about 300 bytes each and its name, and up to 10 lines of metrics.
    #[must_use]
    pub fn max_channels(mut self, channels: usize) -> Self {
        self.max_channels = channels;
        self
    }

    /// The observer's inbox. Default: [`Self::observer_inbox`].
    #[must_use]
    pub fn inbox(mut self, options: InboxOptions) -> Self {
        self.inbox = options;
        self
    }

    /// Whether it looks for related channels, periodic streams, missing beats, polling and retry storms. Default: true.
    /// Cost: half a microsecond a wave for up to 30,000 waves a second, of more no more than that; and an inbox of its own.
    #[must_use]
    pub fn physics(mut self, looks: bool) -> Self {
        self.physics = looks;
        self
    }

    /// Called with each wave that is observed, questions and answers included, in the observer's task: keep it short.
    #[must_use]
    pub fn on_wave(mut self, callback: impl FnMut(&Wave) + Send + 'static) -> Self {
        self.on_wave = Some(Box::new(callback));
        self
    }

    /// The inbox of an observer.
    ///
    /// - It sheds when it is full, because watching must never slow those who are watched.
    /// - It has the size of the interactive profile and no sojourn cap: a wave that is counted a moment late is worth
    ///   more than one that is not counted, and the observer takes about a microsecond a wave.
    /// - It is served in the order of arrival: an observer has no strong waves to hurry, and what it shows as the last
    ///   wave of a channel should be the last one.
    #[must_use]
    pub fn observer_inbox() -> InboxOptions {
        InboxOptions::interactive().when_full(WhenFull::Shed).order(ServeOrder::Arrival)
    }
}

impl Default for GatewayOptions {
    fn default() -> Self {
        Self { listen: None, max_channels: 500, inbox: Self::observer_inbox(), physics: true, on_wave: None }
    }
}

impl fmt::Debug for GatewayOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GatewayOptions")
            .field("listen", &self.listen)
            .field("max_channels", &self.max_channels)
            .field("inbox", &self.inbox)
            .field("physics", &self.physics)
            .finish_non_exhaustive()
    }
}

/// Observes every wave of a medium and serves what it saw over HTTP. Ordinary term: an exporter with a status page.
///
/// Bound and subscribed when made; nothing is answered before [`Gateway::run`].
#[must_use = "nothing is observed before run()"]
pub struct Gateway {
    listener: TcpListener,
    address: SocketAddr,
    moved_from: Option<SocketAddr>,
    observer: Vibrator,
    physics: Option<PhysicsObserver>,
    on_wave: Option<OnWave>,
    scene: Arc<Scene>,
}

impl Gateway {
    /// Binds the address and subscribes to every channel: no wave that is emitted after this is missed.
    ///
    /// # Errors
    /// [`StartError`] says whether the address or the medium is the obstacle.
    ///
    /// # Cancel safety
    /// Cancelled before completion, nothing is bound and nothing is heard.
    pub async fn start(aether: &Aether, options: GatewayOptions) -> Result<Self, StartError> {
        let (listener, address, moved_from) = bind(options.listen, GatewayOptions::DEFAULT_ADDRESS)?;
        let observer = Vibrator::builder(NAME).observe().inbox(options.inbox).create(aether).await?;
        observer.resonate_on(Pattern::everything()).await?;
        let physics = if options.physics {
            let engine = PhysicsEngine::default();
            Some(PhysicsObserver::open(PHYSICS_NAME, Pattern::everything(), engine, aether).await?)
        } else {
            None
        };
        let insight = physics.as_ref().map(|_| Arc::default());
        let scene = Arc::new(Scene::new(aether.clone(), Observed::new(options.max_channels), insight));
        tracing::debug!(%address, "the gateway listens");
        Ok(Self { listener, address, moved_from, observer, physics, on_wave: options.on_wave, scene })
    }

    /// Where it listens, with the port that was really taken.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The default address, if it was taken by somebody else and the gateway listens on a free port instead.
    #[must_use]
    pub fn moved_from(&self) -> Option<SocketAddr> {
        self.moved_from
    }

    /// One line for people: where the page is, and why not at the default address if it is not there.
    #[must_use]
    pub fn announcement(&self) -> String {
        announcement(self.address, self.moved_from)
    }

    /// The account of what was observed; outlives the gateway.
    #[must_use]
    pub fn observed(&self) -> Arc<Observed> {
        self.scene.observed()
    }

    /// What the physics has found, if the gateway has it; outlives the gateway.
    #[must_use]
    pub fn insight(&self) -> Option<Arc<Insight>> {
        self.scene.insight()
    }

    /// Observes and serves until `shutdown` is cancelled; then observes what is queued, answers the requests that are
    /// being answered, for a quarter of a second at most, and ends. When the medium is closed it goes on serving, and
    /// says on `/readyz` that it is not ready.
    ///
    /// # Cancel safety
    /// Cancelled before completion, all connections are closed and the observer is gone.
    pub async fn run(self, shutdown: CancellationToken) {
        let app = http::routes(Arc::clone(&self.scene));
        let serving = server::serve(self.listener, self.scene.slots(), app, shutdown.clone());
        let observing = observe(self.observer, &self.scene, self.on_wave, shutdown.clone());
        let watching = async {
            if let (Some(observer), Some(insight)) = (self.physics, self.scene.insight()) {
                insight::watch(observer, &insight, shutdown).await;
            }
        };
        tokio::join!(observing, watching, serving);
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
    // Elsewhere it would let two programs listen on one address.
    #[cfg(unix)]
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

fn announcement(address: SocketAddr, moved_from: Option<SocketAddr>) -> String {
    let moved = moved_from.map(|taken| format!(" ({taken} is taken)")).unwrap_or_default();
    format!("gateway: http://{address}/{moved}")
}

async fn observe(
    mut observer: Vibrator,
    scene: &Scene,
    mut on_wave: Option<OnWave>,
    shutdown: CancellationToken,
) {
    let mut note = |wave: Wave| {
        scene.note(&wave);
        if let Some(on_wave) = &mut on_wave {
            on_wave(&wave);
        }
    };
    let told_to_stop = shutdown.cancelled();
    tokio::pin!(told_to_stop);
    loop {
        tokio::select! {
            () = &mut told_to_stop => break,
            wave = observer.receive() => match wave {
                Some(wave) => note(wave),
                None => {
                    scene.observer_ended();
                    tracing::warn!("the medium was closed: nothing more is observed");
                    return;
                }
            },
        }
    }
    // As many as are queued now: emitters that go on do not keep the gateway from ending.
    for _ in 0..observer.ledger().queued {
        match coop::unconstrained(observer.receive()).now_or_never() {
            Some(Some(wave)) => note(wave),
            _ => break,
        }
    }
    scene.observer_ended();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_default_address_gives_way_and_an_address_that_was_asked_for_does_not() {
        let any_port = (Ipv4Addr::LOCALHOST, 0).into();
        let (listener, taken, moved_from) = bind(Some(any_port), any_port).unwrap();
        assert_eq!((listener.local_addr().unwrap(), moved_from), (taken, None));

        let (_other, free, moved_from) = bind(None, taken).unwrap();
        assert_eq!((free.ip(), moved_from), (taken.ip(), Some(taken)));
        assert_ne!(free.port(), taken.port());
        assert_eq!(announcement(free, moved_from), format!("gateway: http://{free}/ ({taken} is taken)"));
        assert_eq!(announcement(taken, None), format!("gateway: http://{taken}/"));

        match bind(Some(taken), any_port).unwrap_err() {
            StartError::Bind { address, .. } => assert_eq!(address, taken),
            other => panic!("{other}"),
        }
    }
}
