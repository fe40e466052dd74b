//! Connecting: the options, and what a new [`Aether`] is made of.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::{Aether, ExtensionMap, Shared};
use crate::account::{DEFAULT_INTERVAL, Teller, TellerParts};
use crate::bus::Bus;
use crate::echo::{EchoReason, NOBODY, Reflector, reflecting};
use crate::emission::EmissionRate;
use crate::medium::{
    ConnectError, ConnectRequest, Guard, Layer, Local, LocalOptions, LocalVibrators, Medium, MediumOptions,
    SEVERAL, Schemes, addresses_in, without_secrets,
};
use crate::presence::Presence;
use crate::router::{Router, Subscription, Unheard};
use crate::source::Source;

/// Options for connecting to a medium. Options of media that the address does not name are ignored. `Debug` does not
/// show secrets.
#[derive(Clone)]
#[must_use = "nothing happens before connect()"]
pub struct AetherBuilder {
    url: String,
    options: MediumOptions,
    schemes: Schemes,
    layers: Vec<Layer>,
    telling: Telling,
    emission: Option<EmissionRate>,
    guard: Option<Arc<dyn Guard>>,
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
        let Self { url, options, schemes, layers, telling, emission, guard } = self;
        f.debug_struct("AetherBuilder")
            .field("url", &without_secrets(url))
            .field("options", options)
            .field("schemes", schemes)
            .field("layers", &layers.len())
            .field("telling", telling)
            .field("emission", emission)
            .field("guard", guard)
            .finish()
    }
}

impl Default for AetherBuilder {
    fn default() -> Self {
        Self {
            url: "local:".to_owned(),
            options: MediumOptions::default(),
            schemes: Schemes::default(),
            layers: Vec::new(),
            telling: Telling::default(),
            emission: None,
            guard: None,
        }
    }
}

impl AetherBuilder {
    /// A builder that knows `local:` alone. The crate `aether` has one that knows all media that are compiled in.
    pub fn new() -> Self {
        Self::default()
    }

    /// The address: `local:` (the default), or one of a [scheme](Self::scheme) that is registered. Several addresses
    /// with blanks between them are for the connector of [`AetherBuilder::several`].
    pub fn url(mut self, url: impl Into<String>) -> Self {
        self.url = url.into();
        self
    }

    /// Connects to several addresses as one medium: `connector` gets all of them as the address of its request, with blanks
    /// between them, and connects to each by [`ConnectRequest::connect_to`].
    pub fn several<F>(mut self, connector: impl Fn(ConnectRequest) -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = Result<Arc<dyn Medium>, ConnectError>> + Send + 'static,
    {
        self.schemes.register(SEVERAL, connector);
        self
    }

    /// The options of this type that were given, such as to add to them.
    #[must_use]
    pub fn given<T: Clone + Default + Send + Sync + 'static>(&self) -> T {
        self.options.find().cloned().unwrap_or_default()
    }

    /// Options of a medium, by their type: [`LocalOptions`](crate::LocalOptions) for `local:`, or the type of a
    /// medium of another crate. Later options of the same type replace earlier ones.
    ///
    /// ```
    /// use aether_core::{AetherBuilder, LocalOptions};
    ///
    /// let builder = AetherBuilder::new().options(LocalOptions::default().max_payload(1 << 16));
    /// # let _ = builder;
    /// ```
    pub fn options<T: Clone + Send + Sync + 'static>(mut self, options: T) -> Self {
        self.options.insert(options);
        self
    }

    /// Registers a medium for the addresses of a scheme, or wraps the one that the scheme has: inside of `connector`,
    /// [`ConnectRequest::connect`] connects to what the scheme meant before. `local` is registered by default.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use aether_core::AetherBuilder;
    /// use aether_core::medium::ConnectRequest;
    ///
    /// let builder = AetherBuilder::new().url("local:").scheme("local", async |request: ConnectRequest| {
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
        self.layers.push(Arc::new(layer));
        self
    }

    /// The name of the program in its [account](crate::account). A name that is empty, longer than 128 bytes, or has control
    /// characters is not used. Default: the name of the executable.
    pub fn program(mut self, name: &str) -> Self {
        self.telling.program = Some(name.to_owned());
        self
    }

    /// Sets how often the process sends its [account](crate::account) over a network: 100 ms to 60 s. A value outside
    /// of that becomes the nearest end; with `None` the process sends no accounts. In process nothing is sent. Default:
    /// 5 s. Cost: a message of 0.5 to 32 KiB each.
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
    /// use aether_core::{AetherBuilder, EmitError};
    ///
    /// let rate = EmissionRate::new(2, Duration::from_secs(60))?.patience(Duration::ZERO);
    /// let aether = AetherBuilder::new().emission_rate(rate).connect().await?;
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

    /// Checks what this process emits and hears, and what arrives over a network. The guard is outside of all layers.
    /// Default: everything is allowed.
    pub fn guard(mut self, guard: impl Guard) -> Self {
        self.guard = Some(Arc::new(guard));
        self
    }

    /// Whether a medium has this address, or each of several addresses. Nothing is connected.
    ///
    /// # Errors
    /// [`ConnectError::Url`] or [`ConnectError::Scheme`], which name the schemes that there are, without secrets.
    pub fn check_address(&self, url: &str) -> Result<(), ConnectError> {
        let checked = addresses_in(url).into_iter().try_for_each(|url| self.schemes.find(url).map(|_| ()));
        checked.map_err(ConnectError::without_secrets)
    }

    /// Connects.
    ///
    /// # Errors
    /// [`ConnectError`] if the address or the options are wrong, or the server cannot be reached or refuses.
    ///
    /// # Cancel safety
    /// Cancelled before completion, nothing stays connected.
    pub async fn connect(self) -> Result<Aether, ConnectError> {
        self.connect_to_medium().await.map_err(ConnectError::without_secrets)
    }

    async fn connect_to_medium(self) -> Result<Aether, ConnectError> {
        // What is not the address of a medium at all is an error at once, also as one of several.
        self.check_address(&self.url)?;
        let parts = Unconnected::new();
        let (presence, reflector) = (Arc::downgrade(&parts.presence), Arc::clone(&parts.reflector));
        let request = ConnectRequest {
            url: String::new(),
            router: Arc::clone(&parts.router),
            vibrators: LocalVibrators::new(move || presence.upgrade().map(|here| here.local_vibrators())),
            options: self.options,
            reflecting: Arc::new(move |outbox| reflecting(outbox, &reflector, NOBODY)),
            before: None,
            find: Arc::new({
                let schemes = self.schemes.clone();
                move |url| schemes.find(url).cloned()
            }),
        };
        // Before the medium delivers anything.
        if let Some(guard) = &self.guard {
            parts.router.set_filter(Arc::clone(guard) as _);
        }
        let medium = if addresses_in(&self.url).len() > 1 {
            let connector = self.schemes.find_several(&self.url)?;
            connector(ConnectRequest { url: self.url, ..request }).await?
        } else {
            request.connect_to(self.url).await?
        };
        let mut medium = self.layers.iter().fold(medium, |medium, layer| layer(medium));
        if let Some(guard) = &self.guard {
            let presence = Arc::downgrade(&parts.presence);
            let on_revoked = move |subscription: &Subscription| {
                if let Some(presence) = presence.upgrade() {
                    presence.detune_wherever(subscription.id());
                }
            };
            medium = guard.around(medium, Arc::clone(&parts.router), Box::new(on_revoked));
        }
        Ok(parts.on(medium, self.telling, self.emission, self.guard))
    }
}

/// The process of a program, with the first valid name: the given one, the name of the executable, `unnamed`.
fn program(given: Option<String>) -> Source {
    let executable = || Some(std::env::current_exe().ok()?.file_stem()?.to_str()?.to_owned());
    let named = given.and_then(|name| Source::new(&name).ok());
    named
        .or_else(|| Source::new(&executable()?).ok())
        .unwrap_or_else(|| Source::new("unnamed").unwrap_or_else(|_| Source::none()))
}

/// All of an [`Aether`] but its medium.
struct Unconnected {
    router: Arc<Router>,
    reflector: Arc<Reflector>,
    presence: Arc<Presence>,
}

impl Unconnected {
    fn new() -> Self {
        let (router, reflector) = (Arc::new(Router::new()), Arc::new(Reflector::new()));
        Self { router, reflector, presence: Arc::new(Presence::new()) }
    }

    /// Completes the `Aether` with a medium that delivers to the router.
    fn on(
        self,
        medium: Arc<dyn Medium>,
        telling: Telling,
        emission: Option<EmissionRate>,
        guard: Option<Arc<dyn Guard>>,
    ) -> Aether {
        let Self { router, reflector, presence } = self;
        let (unheard, keeping) = (Arc::clone(&reflector), Arc::downgrade(&medium));
        router.on_unheard(move |wave, is_unheard| match is_unheard {
            // Those that read the log hear it.
            _ if keeping.upgrade().is_some_and(|medium| medium.keeps(wave.channel())) => {}
            Unheard::Known => {
                let hint = "nobody but observers hears the channel";
                unheard.reflect(wave, EchoReason::NoResonator, hint, NOBODY);
            }
            Unheard::Unverified => unheard.count_unconfirmed(wave),
        });
        if medium.promises().crosses_processes {
            reflector.reach_over(Arc::downgrade(&medium));
            presence.reach_over(Arc::downgrade(&medium));
        }
        reflector.note_runtime();
        let teller = Arc::new(Teller::new(TellerParts {
            program: program(telling.program),
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
        Aether { shared: Arc::new(Shared { bus, reflector, presence, teller, emission, guard, extensions }) }
    }
}

impl Aether {
    /// Makes a medium inside this process. There is nothing to install or to configure.
    #[must_use]
    pub fn local() -> Self {
        Self::with_medium(|router| Arc::new(Local::new(router, &LocalOptions::default())))
    }

    /// Uses a medium of your own, which hands the waves that it hears to the router it is given.
    #[must_use]
    pub fn with_medium(make: impl FnOnce(Arc<Router>) -> Arc<dyn Medium>) -> Self {
        let parts = Unconnected::new();
        let medium = make(Arc::clone(&parts.router));
        parts.on(medium, Telling::default(), None, None)
    }
}
