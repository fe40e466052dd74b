//! One connection to one medium, and the router behind it.
//!
//! A process makes one [`Aether`] and creates its vibrators from it. This file chooses the medium by its address; it
//! carries nothing itself.

mod connection;

pub use connection::Connection;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::bus::{Bus, Lifeline};
use crate::echo::{DeadLetters, EchoLedger, EchoReason, NOBODY, Reflector, reflecting};
use crate::extensions::ExtensionMap;
use crate::inbox::Ledger;
use crate::medium::{
    ConnectError, ConnectRequest, FlushError, JoinError, Local, LocalVibrators, Medium, MediumStatus,
    Promises, Schemes, Wire,
};
use crate::presence::{Presence, Roster};
use crate::router::{InboxReport, Router};

/// The medium that vibrators share. Cloning it is a reference count.
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
    extensions: ExtensionMap,
}

/// How long closing waits until the sources of what has failed are told.
const ECHO_PATIENCE: Duration = Duration::from_millis(500);

/// How long closing waits until the others are told who goes.
const FAREWELL_PATIENCE: Duration = Duration::from_millis(250);

/// How a medium shall be. Options that a medium does not have are ignored by it.
#[derive(Debug, Clone)]
#[must_use = "nothing happens before connect()"]
pub struct AetherBuilder {
    pub(crate) url: String,
    pub(crate) prefix: String,
    pub(crate) wire: Wire,
    pub(crate) max_payload: usize,
    pub(crate) outbox: crate::InboxOptions,
    pub(crate) client_name: Option<String>,
    pub(crate) discovery: bool,
    pub(crate) schemes: Schemes,
}

impl AetherBuilder {
    /// 1 MiB, what a NATS server takes by default: what fits in process fits on NATS too.
    pub const DEFAULT_MAX_PAYLOAD: usize = 1 << 20;

    /// Where: `local:` (the default), or one or more of `nats://host:port` and `tls://host:port` separated by commas.
    pub fn url(mut self, url: impl Into<String>) -> Self {
        self.url = url.into();
        self
    }

    /// NATS: what stands before each channel in the subject. Default: `aether`. Systems with different prefixes do
    /// not hear each other; `PREFIX-ask` and `PREFIX-seen` are taken as well, so no
    /// prefix may end in `-ask` or `-seen`.
    pub fn prefix(mut self, prefix: impl Into<String>) -> Self {
        self.prefix = prefix.into();
        self
    }

    /// NATS: how waves are written. Default: frames.
    pub fn wire(mut self, wire: Wire) -> Self {
        self.wire = wire;
        self
    }

    /// Local: the largest payload in bytes. Default: 1 MiB. On NATS the server says it.
    pub fn max_payload(mut self, bytes: usize) -> Self {
        self.max_payload = bytes;
        self
    }

    /// NATS: the bounds and the discipline of what waits to be sent: also a sojourn cap, a floor and an order. Default: [`InboxOptions::interactive`](crate::InboxOptions). Emitters
    /// that wait for room fill it only while the connection is away; else they wait with 2048 waves in it.
    pub fn outbox(mut self, options: crate::InboxOptions) -> Self {
        self.outbox = options;
        self
    }

    /// NATS: the name under which the server lists the connection. Default: none.
    pub fn client_name(mut self, name: impl Into<String>) -> Self {
        self.client_name = Some(name.into());
        self
    }

    /// NATS: whether the vibrators of this process answer service discovery, so that `nats micro ls` and other NATS
    /// tools list them. Default: yes. A program that may not subscribe to `$SRV.>` turns it off.
    pub fn discovery(mut self, answers: bool) -> Self {
        self.discovery = answers;
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
        let presence = Arc::downgrade(&parts.presence);
        let request = ConnectRequest {
            router: Arc::clone(&parts.router),
            outbox: reflecting(self.outbox, &parts.reflector, NOBODY),
            vibrators: LocalVibrators::new(move || presence.upgrade().map(|here| here.local_vibrators())),
            url: self.url,
            prefix: self.prefix,
            wire: self.wire,
            max_payload: self.max_payload,
            client_name: self.client_name,
            discovery: self.discovery,
            before: None,
        };
        Ok(parts.on(connector(request).await?))
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

    /// The whole, once there is a medium that brings what it hears to the router.
    fn on(self, medium: Arc<dyn Medium>) -> Aether {
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
        let (bus, extensions) = (Bus::new(router, medium), ExtensionMap::default());
        Aether { shared: Arc::new(Shared { bus, reflector, presence, extensions }) }
    }
}

impl Aether {
    /// A medium inside this process: nothing to install, nothing to configure.
    #[must_use]
    pub fn local() -> Self {
        Self::with_medium(|router| Arc::new(Local::new(router, AetherBuilder::DEFAULT_MAX_PAYLOAD)))
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

    /// A medium with options.
    pub fn builder() -> AetherBuilder {
        AetherBuilder {
            url: "local:".to_owned(),
            prefix: "aether".to_owned(),
            wire: Wire::Frames,
            max_payload: AetherBuilder::DEFAULT_MAX_PAYLOAD,
            outbox: crate::InboxOptions::interactive(),
            client_name: None,
            discovery: true,
            schemes: Schemes::default(),
        }
    }

    /// A medium of one's own making, which brings what it hears to the router it is given.
    #[must_use]
    pub fn with_medium(make: impl FnOnce(Arc<Router>) -> Arc<dyn Medium>) -> Self {
        let parts = Parts::new();
        let medium = make(Arc::clone(&parts.router));
        parts.on(medium)
    }

    /// What the medium can do.
    #[must_use]
    pub fn promises(&self) -> Promises {
        self.shared.bus.medium().promises()
    }

    /// How the medium is doing, with the account of what was given to it.
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

    /// The waves that failed here and whose source could not be told: nobody there listens for echoes.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use aether_core::{Aether, Kind, Vibrator, Wave};
    ///
    /// let aether = Aether::local();
    /// let shop = Vibrator::create("shop", &aether).await?;
    /// shop.emit(Wave::builder("stock.reserve").kind(Kind::Command).text("a lamp").build()?).await?;
    ///
    /// // Nobody heard it. Once somebody does, it is sent again.
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

    /// Who is there and what they hear, from now on: the vibrators of this process at once, those of others as they
    /// announce themselves. All are asked to do so now, and do so again every ten seconds or so.
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
    /// Cancelled before completion, announcements may be heard all the same; the next call goes on with that.
    pub async fn roster(&self) -> Result<Roster, JoinError> {
        self.shared.presence.listen(&self.shared.bus).await?;
        Ok(Roster::new(&self.shared.presence, self.lifeline()))
    }

    /// What became of the waves that failed here and are reflected.
    #[must_use]
    pub fn echo_ledger(&self) -> EchoLedger {
        self.shared.reflector.ledger()
    }

    /// Waits until everything emitted so far is in the inboxes (in process) or was seen by the broker (NATS).
    ///
    /// Over NATS it gives up when the broker has confirmed nothing for 2 s, or for 0.5 s without a connection, and after
    /// 30 s in any case.
    ///
    /// # Errors
    /// [`FlushError`]: the medium is closed, not all waves were confirmed or the broker fell silent after that, or waves
    /// were not sent because they are larger than the broker takes by now.
    ///
    /// # Cancel safety
    /// Cancelled before completion, nothing is lost; the waves go on their way.
    pub async fn flush(&self) -> Result<(), FlushError> {
        self.shared.bus.medium().flush().await
    }

    /// Sends what waits, ends the medium, and lets each vibrator receive what is queued and then `None`.
    ///
    /// It takes at most 45 s: 30 s for a broker that confirms waves slowly, 10 s for callbacks of inboxes that take long, the
    /// rest for what is told to others. With a broker that does not answer it takes 3 s, without a connection 2 s.
    ///
    /// # Errors
    /// As [`Aether::flush`]; the medium is closed all the same. Closing again is no error.
    ///
    /// # Cancel safety
    /// Cancelled before completion, the medium is closed and may still be sending; each vibrator receives what is queued
    /// and then `None`. What arrives afterwards is counted as `closed`. Closing again waits for the rest.
    pub async fn close(&self) -> Result<(), FlushError> {
        let _receiving = Receiving(&self.shared);
        // Before the medium ends, the sources of what has failed are told. What cannot be told becomes dead letters.
        let _ = tokio::time::timeout(ECHO_PATIENCE, self.shared.reflector.settled()).await;
        // Begun first, and so a medium that closes waits for it; from the first moment on it takes no other waves.
        let farewell = tokio::time::timeout(FAREWELL_PATIENCE, self.shared.presence.leave());
        let (_, flushed) = futures_util::future::join(farewell, self.shared.bus.medium().close()).await;
        // The same for what has failed since: what nobody heard of the last waves, or what could not be sent.
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
    pub(crate) fn extensions(&self) -> &ExtensionMap {
        &self.shared.extensions
    }

    pub(crate) fn presence(&self) -> &Arc<Presence> {
        &self.shared.presence
    }
}

/// Receiving, until closing is over or was cancelled.
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
    async fn errors_show_the_address_without_what_is_secret() {
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
