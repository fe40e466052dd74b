//! Connecting: the options, and what a new [`Aether`] is made of.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::{BoxFuture, ready};

use super::{Aether, Shared, accounting};
use crate::account::{DEFAULT_INTERVAL, Teller, TellerParts};
use crate::bus::Bus;
use crate::echo::{EchoReason, NOBODY, Reflector, reflecting};
use crate::emission::EmissionRate;
use crate::extensions::ExtensionMap;
use crate::medium::{
    BorderMedium, ConnectError, ConnectRequest, Layers, Local, LocalOptions, LocalVibrators, Medium,
    MediumOptions, PathOptions, Schemes, connect_paths, without_secrets,
};
use crate::presence::Presence;
use crate::router::{Router, Subscription, Unheard};
use crate::rules::Border;

/// Options for connecting to a medium. Those of a medium that the address does not name are ignored. `Debug` does not show
/// secrets.
#[derive(Clone)]
#[must_use = "nothing happens before connect()"]
pub struct AetherBuilder {
    url: String,
    paths: Vec<PathOptions>,
    options: MediumOptions,
    schemes: Schemes,
    layers: Layers,
    telling: Telling,
    emission: Option<EmissionRate>,
    border: Option<Border>,
}

/// How the process tells its account.
#[derive(Debug, Clone)]
struct Telling {
    program: Option<String>,
    every: Option<Duration>,
}

impl Default for Telling {
    fn default() -> Self {
        Self { program: None, every: Some(DEFAULT_INTERVAL) }
    }
}

impl fmt::Debug for AetherBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { url, paths, options, schemes, layers, telling, emission, border } = self;
        f.debug_struct("AetherBuilder")
            .field("url", &without_secrets(url))
            .field("paths", paths)
            .field("options", options)
            .field("schemes", schemes)
            .field("layers", layers)
            .field("telling", telling)
            .field("emission", emission)
            .field("border", border)
            .finish()
    }
}

impl AetherBuilder {
    /// The address: `local:` (the default), `lan:`, or one or more of `nats://host:port` and `tls://host:port` separated by
    /// commas, which are servers of one cluster. Addresses separated by spaces are [paths](Self::path).
    pub fn url(mut self, url: impl Into<String>) -> Self {
        self.url = url.into();
        self
    }

    /// Adds a path: the address of a medium that is used when those before it are broken, or do not reach all processes. The
    /// paths replace the [`url`](Self::url). All processes should have the same paths in the same order: each of them hears on
    /// all paths, and emits by the first one that all can use. Connecting fails if no path can be reached, or if one fails with
    /// an error that time does not mend; paths that are away follow. Up to [`MAX_PATHS`](crate::medium::MAX_PATHS). Options hold for all paths that they fit.
    ///
    /// A wave that waits when its path breaks goes by the next one, weaker by the hops of that path. A wave that is on its way
    /// counts as [`unconfirmed`](crate::medium::MediumStatus::unconfirmed), and none is sent twice.
    ///
    /// ```no_run
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use aether_core::Aether;
    ///
    /// let aether = Aether::builder().path("nats://10.0.0.1:4222").path("nats://10.0.1.1:4222").connect().await?;
    /// for path in aether.paths() {
    ///     println!("{}: {}, {} waves", path.url, path.state.as_str(), path.sent);
    /// }
    /// # Ok(()) }
    /// ```
    pub fn path(mut self, path: impl Into<PathOptions>) -> Self {
        self.paths.push(path.into());
        self
    }

    /// Options of a medium, by their type: [`NatsOptions`](crate::NatsOptions) for `nats:` and `tls:`,
    /// [`LocalOptions`](crate::medium::LocalOptions) for `local:`, or the type of a medium of another crate. Later options of
    /// the same type replace earlier ones.
    ///
    /// ```
    /// use aether_core::{Aether, medium::LocalOptions};
    ///
    /// let builder = Aether::builder().options(LocalOptions::default().max_payload(1 << 16));
    /// # let _ = builder;
    /// ```
    pub fn options<T: Clone + Send + Sync + 'static>(mut self, options: T) -> Self {
        self.options.insert(options);
        self
    }

    /// Registers a medium for the addresses of a scheme, or wraps the one that the scheme has: inside of `connector`,
    /// [`ConnectRequest::connect`] connects to what the scheme meant before. `local`, `nats` and `tls` are registered by
    /// default.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use aether_core::Aether;
    /// use aether_core::medium::ConnectRequest;
    ///
    /// let builder = Aether::builder().url("local:").scheme("local", async |request: ConnectRequest| {
    ///     println!("connecting to {}", request.url);
    ///     request.connect().await // or a medium of your own around it
    /// });
    /// let aether = builder.connect().await?;
    /// # aether.close().await?;
    /// # Ok(()) }
    /// ```
    pub fn scheme<F>(
        mut self,
        scheme: &str,
        connector: impl Fn(ConnectRequest) -> F + Send + Sync + 'static,
    ) -> Self
    where
        F: Future<Output = Result<Arc<dyn Medium>, ConnectError>> + Send + 'static,
    {
        self.schemes.register(scheme, connector);
        self
    }

    /// Puts a medium around the one that the address names, whichever that is. A later layer is outside of an earlier one.
    /// [`AetherBuilder::scheme`] does the same for one scheme, before anything is connected.
    pub fn layer(
        mut self,
        layer: impl Fn(Arc<dyn Medium>) -> Arc<dyn Medium> + Send + Sync + 'static,
    ) -> Self {
        self.layers.push(layer);
        self
    }

    /// The name of the program in its [account](crate::account). A name that is empty, longer than 128 bytes, or has control
    /// characters is not used. Default: the name of the executable.
    pub fn program(mut self, name: &str) -> Self {
        self.telling.program = Some(name.to_owned());
        self
    }

    /// How often the process tells its [account](crate::account) over a network, from 100 ms to 60 s; the nearest end for
    /// others, and `None` for never. In process nothing is told. Default: 5 s. Cost: a message of 0.5 to 32 KiB each.
    pub fn account_every(mut self, interval: Option<Duration>) -> Self {
        self.telling.every = interval;
        self
    }

    /// Limits what is emitted over this connection in a time: all of its emitters and vibrators share the limit, except
    /// those with a [limit of their own](crate::VibratorBuilder::rate), or [without one](crate::VibratorBuilder::unlimited).
    /// Default: no limit. Cost: a lock for each wave; without a limit none.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use std::time::Duration;
    /// use aether_core::vibrator::EmissionRate;
    /// use aether_core::{Aether, EmitError};
    ///
    /// let rate = EmissionRate::new(2, Duration::from_secs(60))?.patience(Duration::ZERO);
    /// let aether = Aether::builder().emission_rate(rate).connect().await?;
    /// let (shop, stock) = (aether.emitter("shop")?, aether.emitter("stock")?);
    /// shop.emit_bytes("orders.created", "1").await?;
    /// stock.emit_bytes("stock.low", "1").await?;
    /// assert!(matches!(shop.emit_bytes("orders.created", "2").await, Err(EmitError::RateLimited { .. })));
    /// # Ok(()) }
    /// ```
    pub fn emission_rate(mut self, rate: EmissionRate) -> Self {
        self.emission = Some(rate);
        self
    }

    /// Checks what this process emits and hears by [rules](crate::rules), and what arrives over a network. The border is
    /// outside of all layers. Default: everything is allowed. Keep a clone to change the rules while the process runs, also one
    /// without rules so far: as long as it has none it costs a few instructions for each wave.
    pub fn border(mut self, border: Border) -> Self {
        self.border = Some(border);
        self
    }

    /// Connects.
    ///
    /// # Errors
    /// [`ConnectError`] says what is wrong with the address or the options, or that the server cannot be reached.
    ///
    /// # Cancel safety
    /// Cancelled before completion, nothing stays connected.
    pub async fn connect(self) -> Result<Aether, ConnectError> {
        self.connect_to_medium().await.map_err(ConnectError::without_secrets)
    }

    async fn connect_to_medium(self) -> Result<Aether, ConnectError> {
        let parts = Parts::new();
        let (presence, reflector) = (Arc::downgrade(&parts.presence), Arc::clone(&parts.reflector));
        let request = ConnectRequest {
            url: String::new(),
            router: Arc::clone(&parts.router),
            vibrators: LocalVibrators::new(move || presence.upgrade().map(|here| here.local_vibrators())),
            options: self.options,
            reflecting: Arc::new(move |outbox| reflecting(outbox, &reflector, NOBODY)),
            before: None,
            path: None,
        };
        // Before the medium delivers anything.
        if let Some(border) = &self.border {
            parts.router.guard(border.clone());
        }
        let medium = connect_by_scheme(self.schemes, request, self.url, self.paths).await?;
        let mut medium = self.layers.around(medium);
        if let Some(border) = self.border {
            let presence = Arc::downgrade(&parts.presence);
            let on_revoked = move |subscription: &Subscription| {
                if let Some(presence) = presence.upgrade() {
                    presence.detune_wherever(subscription.id());
                }
            };
            medium = Arc::new(BorderMedium::new(medium, border, Arc::clone(&parts.router), on_revoked));
        }
        Ok(parts.on(medium, self.telling, self.emission))
    }
}

/// Connects to one address, or to several paths.
async fn connect_by_scheme(
    schemes: Schemes,
    request: ConnectRequest,
    url: String,
    mut paths: Vec<PathOptions>,
) -> Result<Arc<dyn Medium>, ConnectError> {
    if paths.is_empty() && url.split_whitespace().nth(1).is_some() {
        paths = url.split_whitespace().map(PathOptions::from).collect();
    }
    let url = match paths.len() {
        0 => url,
        1 => paths.remove(0).into_url(),
        _ => {
            // What is not the address of a medium at all is an error at once.
            for path in &paths {
                schemes.find(path.url())?;
            }
            let router = Arc::clone(&request.router);
            let connect = move |url: String, path| -> BoxFuture<'static, _> {
                match schemes.find(&url) {
                    Ok(connector) => connector(ConnectRequest { url, path: Some(path), ..request.clone() }),
                    Err(error) => Box::pin(ready(Err(error))),
                }
            };
            return connect_paths(paths, router, Arc::new(connect)).await;
        }
    };
    let connector = schemes.find(&url)?;
    connector(ConnectRequest { url, ..request }).await
}

/// All of an [`Aether`] but its medium.
struct Parts {
    router: Arc<Router>,
    reflector: Arc<Reflector>,
    presence: Arc<Presence>,
}

impl Parts {
    fn new() -> Self {
        let (router, reflector) = (Arc::new(Router::new()), Arc::new(Reflector::new()));
        Self { router, reflector, presence: Arc::new(Presence::new()) }
    }

    /// Completes the `Aether` with a medium that delivers to the router.
    fn on(self, medium: Arc<dyn Medium>, telling: Telling, emission: Option<EmissionRate>) -> Aether {
        let Self { router, reflector, presence } = self;
        let (unheard, keeping) = (Arc::clone(&reflector), Arc::downgrade(&medium));
        router.on_unheard(move |wave, is_unheard| match is_unheard {
            // Those that read the log hear it.
            _ if keeping.upgrade().is_some_and(|medium| medium.keeps(wave.channel())) => {}
            Unheard::Known => {
                let hint = "nobody but observers hears the channel";
                unheard.reflect(wave, EchoReason::NoResonator, hint, NOBODY);
            }
            #[cfg(feature = "nats")]
            Unheard::Unverified => unheard.count_unconfirmed(wave),
        });
        if medium.promises().crosses_processes {
            reflector.reach_over(Arc::downgrade(&medium));
            presence.reach_over(Arc::downgrade(&medium));
        }
        reflector.note_runtime();
        let teller = Arc::new(Teller::new(TellerParts {
            program: accounting::program(telling.program),
            every: telling.every,
            router: Arc::clone(&router),
            presence: Arc::clone(&presence),
            reflector: Arc::clone(&reflector),
            medium: Arc::downgrade(&medium),
        }));
        if medium.promises().crosses_processes {
            teller.start();
        }
        let (bus, extensions) = (Bus::new(router, medium), ExtensionMap::default());
        Aether { shared: Arc::new(Shared { bus, reflector, presence, teller, emission, extensions }) }
    }
}

impl Aether {
    /// Makes a medium inside this process. There is nothing to install or to configure.
    #[must_use]
    pub fn local() -> Self {
        Self::with_medium(|router| Arc::new(Local::new(router, &LocalOptions::default())))
    }

    /// Connects to a medium by its address, `local:` or `nats://host:port`, with default options.
    ///
    /// # Errors
    /// [`ConnectError`] if the address is not valid or the server cannot be reached.
    ///
    /// # Cancel safety
    /// Cancelled before completion, nothing stays connected.
    pub async fn connect(url: &str) -> Result<Self, ConnectError> {
        Self::builder().url(url).connect().await
    }

    /// Connects to a medium with options.
    pub fn builder() -> AetherBuilder {
        AetherBuilder {
            url: "local:".to_owned(),
            paths: Vec::new(),
            options: MediumOptions::default(),
            schemes: Schemes::default(),
            layers: Layers::default(),
            telling: Telling::default(),
            emission: None,
            border: None,
        }
    }

    /// Uses a medium of your own, which hands the waves that it hears to the router it is given.
    #[must_use]
    pub fn with_medium(make: impl FnOnce(Arc<Router>) -> Arc<dyn Medium>) -> Self {
        let parts = Parts::new();
        let medium = make(Arc::clone(&parts.router));
        parts.on(medium, Telling::default(), None)
    }
}
