//! One connection to one medium, with the router behind it.
//!
//! A process makes one [`Aether`] and creates its vibrators from it. This file chooses the medium by its address.

mod accounting;
mod connection;

pub use connection::Connection;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::account::{DEFAULT_INTERVAL, Teller, TellerParts};
use crate::bus::{Bus, Lifeline};
use crate::echo::{DeadLetters, EchoLedger, EchoReason, NOBODY, Reflector, reflecting};
use crate::extensions::ExtensionMap;
use crate::inbox::Ledger;
use crate::medium::{
    ConnectError, ConnectRequest, FlushError, JoinError, Layers, Local, LocalOptions, LocalVibrators, Medium,
    MediumOptions, MediumStatus, Promises, Schemes,
};
use crate::presence::{Presence, Roster};
use crate::router::{InboxReport, Router};

/// A medium that vibrators share. Cloning it is one reference count.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use aether_core::Aether;
///
/// let aether = Aether::connect("local:").await?; // or nats://127.0.0.1:4222: the same code
/// assert!(!aether.promises().crosses_processes);
/// aether.close().await?;
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct Aether {
    shared: Arc<Shared>,
}

struct Shared {
    bus: Bus,
    reflector: Arc<Reflector>,
    presence: Arc<Presence>,
    teller: Arc<Teller>,
    extensions: ExtensionMap,
}

/// How long closing waits until the sources of failed waves are told.
const ECHO_PATIENCE: Duration = Duration::from_millis(500);

/// How long closing waits until other processes are told which vibrators leave.
const FAREWELL_PATIENCE: Duration = Duration::from_millis(250);

/// Options for connecting to a medium. Those of a medium that the address does not name are ignored.
#[derive(Debug, Clone)]
#[must_use = "nothing happens before connect()"]
pub struct AetherBuilder {
    url: String,
    options: MediumOptions,
    schemes: Schemes,
    layers: Layers,
    telling: Telling,
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

impl AetherBuilder {
    /// The address: `local:` (the default), or one or more of `nats://host:port` and `tls://host:port` separated by
    /// commas.
    pub fn url(mut self, url: impl Into<String>) -> Self {
        self.url = url.into();
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

    /// Connects.
    ///
    /// # Errors
    /// [`ConnectError`] says what is wrong with the address or the options, or that the server cannot be reached.
    ///
    /// # Cancel safety
    /// Cancelled before completion, nothing stays connected.
    pub async fn connect(self) -> Result<Aether, ConnectError> {
        self.connect_by_scheme().await.map_err(ConnectError::without_secrets)
    }

    async fn connect_by_scheme(self) -> Result<Aether, ConnectError> {
        let connector = self.schemes.find(&self.url)?;
        let parts = Parts::new();
        let (presence, reflector) = (Arc::downgrade(&parts.presence), Arc::clone(&parts.reflector));
        let request = ConnectRequest {
            url: self.url,
            router: Arc::clone(&parts.router),
            vibrators: LocalVibrators::new(move || presence.upgrade().map(|here| here.local_vibrators())),
            options: self.options,
            reflecting: Arc::new(move |outbox| reflecting(outbox, &reflector, NOBODY)),
            before: None,
        };
        Ok(parts.on(self.layers.around(connector(request).await?), self.telling))
    }
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
    fn on(self, medium: Arc<dyn Medium>, telling: Telling) -> Aether {
        let Self { router, reflector, presence } = self;
        let unheard = Arc::clone(&reflector);
        router.on_unheard(move |wave| {
            let hint = "nobody but observers hears the channel";
            unheard.reflect(wave, EchoReason::NoResonator, hint, NOBODY);
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
        Aether { shared: Arc::new(Shared { bus, reflector, presence, teller, extensions }) }
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
            options: MediumOptions::default(),
            schemes: Schemes::default(),
            layers: Layers::default(),
            telling: Telling::default(),
        }
    }

    /// Uses a medium of your own, which hands the waves that it hears to the router it is given.
    #[must_use]
    pub fn with_medium(make: impl FnOnce(Arc<Router>) -> Arc<dyn Medium>) -> Self {
        let parts = Parts::new();
        let medium = make(Arc::clone(&parts.router));
        parts.on(medium, Telling::default())
    }

    /// What the medium can do.
    #[must_use]
    pub fn promises(&self) -> Promises {
        self.shared.bus.medium().promises()
    }

    /// The status of the medium, with the account of the waves that were given to it.
    #[must_use]
    pub fn status(&self) -> MediumStatus {
        MediumStatus { shed_at_source: self.shared.presence.stopped(), ..self.shared.bus.medium().status() }
    }

    /// The sum of the accounts of all inboxes of this process, those of dropped vibrators included.
    #[must_use]
    pub fn ledger(&self) -> Ledger {
        self.shared.bus.router().ledger()
    }

    /// The accounts of the inboxes of this process by the names of their vibrators, those of dropped vibrators included.
    #[must_use]
    pub fn inboxes(&self) -> Vec<InboxReport> {
        self.shared.bus.router().reports()
    }

    /// The waves that failed here and were kept: nobody at their source listens for echoes, or this process
    /// ([`DeadLetters::keep_echoed`]) or the source ([`EchoRequest::letter`](crate::wave::EchoRequest::letter)) wants to
    /// have them kept.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use aether_core::{Aether, Kind, Vibrator, Wave};
    ///
    /// let aether = Aether::local();
    /// let shop = Vibrator::create("shop", &aether).await?;
    /// shop.emit(Wave::builder("stock.reserve").kind(Kind::Command).text("a lamp").build()?).await?;
    ///
    /// // Nobody heard it. Send it again once somebody does.
    /// let mut stock = Vibrator::create("stock", &aether).await?;
    /// stock.resonate_on("stock.*").await?;
    /// let letters = aether.dead_letters();
    /// for letter in letters.list() {
    ///     letters.replay(letter.number, &shop).await?;
    /// }
    /// assert_eq!(stock.receive().await.expect("the medium is open").text()?, "a lamp");
    /// # Ok(()) }
    /// ```
    #[must_use]
    pub fn dead_letters(&self) -> DeadLetters {
        self.shared.reflector.letters().clone()
    }

    /// Follows which vibrators are there and what they hear, from now on. Those of this process are known at once, those
    /// of others when they announce themselves. All are asked to do so now, and repeat it about every ten seconds.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use aether_core::{Aether, Vibrator};
    ///
    /// let aether = Aether::local();
    /// let stock = Vibrator::create("stock", &aether).await?;
    /// stock.resonate_in_group("orders.*", "stock").await?;
    /// let present = aether.roster().await?.vibrators();
    /// assert_eq!(present[0].vibrator.name(), "stock");
    /// assert_eq!(present[0].heard[0].pattern.as_str(), "orders.*");
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// [`JoinError`] if the medium is closed.
    ///
    /// # Cancel safety
    /// Cancelled before completion, announcements may be heard already. The next call continues from there.
    pub async fn roster(&self) -> Result<Roster, JoinError> {
        self.shared.presence.listen(&self.shared.bus).await?;
        Ok(Roster::new(&self.shared.presence, self.lifeline()))
    }

    /// The account of the waves that failed here and are reflected.
    #[must_use]
    pub fn echo_ledger(&self) -> EchoLedger {
        self.shared.reflector.ledger()
    }

    /// Waits until everything emitted so far is in the inboxes (in process) or was confirmed by the broker (NATS).
    ///
    /// Over NATS it gives up when the broker has confirmed nothing for 2 s, or for 0.5 s without a connection, and after
    /// 30 s in any case.
    ///
    /// # Errors
    /// [`FlushError`]: the medium is closed, not all waves were confirmed, the broker fell silent after that, or waves
    /// were not sent because the broker's limit has become smaller than they are.
    ///
    /// # Cancel safety
    /// Cancelled before completion, nothing is lost: the waves are sent all the same.
    pub async fn flush(&self) -> Result<(), FlushError> {
        self.shared.bus.medium().flush().await
    }

    /// Sends the waves that wait and closes the medium. Each receiver gets its queued waves and then `None`
    /// ([when a receiver ends](crate::Receiver#when-it-ends)).
    ///
    /// It takes at most 45 s: 30 s for a broker that confirms waves slowly, 10 s for slow callbacks of inboxes, and the
    /// rest for farewells and echoes. With a broker that does not answer it takes 3 s, without a connection 2 s.
    ///
    /// # Errors
    /// As [`Aether::flush`]; the medium is closed all the same. Closing again is no error.
    ///
    /// # Cancel safety
    /// Cancelled before completion, the medium is closed and may still be sending. Each receiver gets its queued waves and
    /// then `None`. Waves that arrive afterwards are counted as `closed`. Closing again waits for the rest.
    pub async fn close(&self) -> Result<(), FlushError> {
        let _receiving = Receiving(&self.shared);
        // While the medium is open, the sources of failed waves are told. The rest becomes dead letters.
        let _ = tokio::time::timeout(ECHO_PATIENCE, self.shared.reflector.settled()).await;
        let _ = tokio::time::timeout(FAREWELL_PATIENCE, self.shared.presence.fall_silent()).await;
        // The farewell begins first, so the closing medium waits for it. The medium takes no other waves from now on.
        let farewells = futures_util::future::join(self.shared.presence.leave(), self.shared.teller.leave());
        let farewell = tokio::time::timeout(FAREWELL_PATIENCE, farewells);
        let (_, flushed) = futures_util::future::join(farewell, self.shared.bus.medium().close()).await;
        // The same for waves that have failed since: nobody heard them, or they could not be sent.
        let _ = tokio::time::timeout(ECHO_PATIENCE, self.shared.reflector.settled()).await;
        flushed
    }

    pub(crate) fn bus(&self) -> &Bus {
        &self.shared.bus
    }

    pub(crate) fn lifeline(&self) -> Lifeline {
        Lifeline::to(Arc::clone(&self.shared) as _)
    }

    pub(crate) fn medium(&self) -> &dyn Medium {
        &**self.shared.bus.medium()
    }

    pub(crate) fn router(&self) -> &Router {
        self.shared.bus.router()
    }

    pub(crate) fn reflector(&self) -> &Arc<Reflector> {
        &self.shared.reflector
    }

    #[allow(dead_code, reason = "for optional parts")]
    /// The state that a library keeps with this `Aether`: one value of each type, made on first use and shared by all
    /// handles. It is dropped with the last handle.
    #[must_use]
    pub fn extension<T: Default + Send + Sync + 'static>(&self) -> Arc<T> {
        self.extensions().get_or_insert_with(T::default)
    }

    pub(crate) fn extensions(&self) -> &ExtensionMap {
        &self.shared.extensions
    }

    pub(crate) fn presence(&self) -> &Arc<Presence> {
        &self.shared.presence
    }
}

/// Ends all receivers when closing is over or was cancelled.
struct Receiving<'a>(&'a Shared);

impl Drop for Receiving<'_> {
    fn drop(&mut self) {
        self.0.bus.router().close();
        self.0.reflector.close();
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        self.reflector.end();
        self.presence.end();
        self.teller.end();
    }
}

/// [`Aether::local`].
impl Default for Aether {
    fn default() -> Self {
        Self::local()
    }
}

impl fmt::Debug for Aether {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Aether").field("medium", self.shared.bus.medium()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn errors_show_the_address_without_its_secrets() {
        for (url, shown) in [
            ("amqp://shop:secret@a:1", "amqp://***@a:1"),
            ("shop:se@cret@a", "***@a"),
            ("nats://secret@127.0.0.1:99999", "nats://***@127.0.0.1:99999"),
            // Nobody has port 1.
            ("nats://u:secret@127.0.0.1:1,nats://127.0.0.1:1", "nats://***@127.0.0.1:1,nats://127.0.0.1:1"),
        ] {
            let error = Aether::connect(url).await.unwrap_err();
            let (text, debug) = (error.to_string(), format!("{error:?}"));
            assert!(text.contains(shown), "{text}");
            assert!(!text.contains("cret") && !debug.contains("cret"), "{text} {debug}");
        }
    }
}
