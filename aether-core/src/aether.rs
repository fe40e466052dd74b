//! One connection to one medium, with the router behind it.
//!
//! A process makes one [`Aether`] and creates its vibrators from it. `aether/builder.rs` chooses the medium by its address.

mod builder;

pub use builder::AetherBuilder;

use std::any::Any;
use std::fmt;
use std::sync::{Arc, Weak};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::watch;

use crate::account::{Accounts, HandlersAccount, HandlersEntry, ProcessAccount, Teller};
use crate::bus::{Bus, Lifeline};
use crate::echo::{DeadLetters, EchoLedger, Reflector};
use crate::emission::EmissionRate;
use crate::inbox::Ledger;
use crate::medium::{Details, FlushError, Guard, JoinError, Medium, MediumStatus, Promises};
use crate::presence::{Presence, Roster};
use crate::router::{InboxReport, Router};

/// A medium that vibrators share. Cloning it is one reference count.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use aether_core::Aether;
///
/// let aether = Aether::local();
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
    /// The limit of emitters that have none of their own.
    emission: Option<EmissionRate>,
    guard: Option<Arc<dyn Guard>>,
    extensions: ExtensionMap,
}

/// How long closing waits until no failure waits to be reported.
const ECHO_PATIENCE: Duration = Duration::from_millis(500);

/// How long closing waits for an announcement under way, and then for the farewells of the vibrators and the process.
const FAREWELL_PATIENCE: Duration = Duration::from_millis(250);

impl Aether {
    /// The capabilities of the medium.
    #[must_use]
    pub fn promises(&self) -> Promises {
        self.shared.bus.medium().promises()
    }

    /// The status of the medium, with the account of the waves that were given to it.
    #[must_use]
    pub fn status(&self) -> MediumStatus {
        MediumStatus { shed_at_source: self.shared.presence.stopped(), ..self.shared.bus.medium().status() }
    }

    /// The details of one type that the media of this process offer beyond the status. The crates of media document
    /// their types. Several media, or layers around them, may have values of one type.
    #[must_use]
    pub fn details<T: Send + Sync + 'static>(&self) -> Vec<T> {
        let mut details = Details::default();
        self.shared.bus.medium().details(&mut details);
        details.into_values()
    }

    /// The [guard](AetherBuilder::guard) of this process, if it was connected with one.
    #[must_use]
    pub fn guard(&self) -> Option<&Arc<dyn Guard>> {
        self.shared.guard.as_ref()
    }

    /// The sum of the accounts of all inboxes of this process, including inboxes of dropped vibrators.
    #[must_use]
    pub fn ledger(&self) -> Ledger {
        self.shared.bus.router().ledger()
    }

    /// The accounts of the inboxes of this process by the names of their vibrators, including dropped ones.
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

    /// Follows which vibrators are present and what they hear, from now on. Vibrators of this process are known at
    /// once, others when they announce themselves. They are asked to do so now, and repeat it about every ten seconds.
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
    /// As [`Aether::flush`]; the medium is closed all the same. Closing again is not an error.
    ///
    /// # Cancel safety
    /// Cancelled before completion, the medium is closed and may still be sending. Each receiver gets its queued waves and
    /// then `None`. Waves that arrive afterwards are counted as `closed`. Closing again waits for the rest.
    pub async fn close(&self) -> Result<(), FlushError> {
        let _receiving = Receiving(&self.shared);
        // Failures are reported to their sources while the medium is open. The rest becomes dead letters.
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

    /// The limit of emitters that have none of their own.
    pub(crate) fn emission_rate(&self) -> Option<EmissionRate> {
        self.shared.emission.clone()
    }

    /// The [bus](crate::bus), for libraries that extend it.
    #[must_use]
    pub fn bus(&self) -> &Bus {
        &self.shared.bus
    }

    pub(crate) fn lifeline(&self) -> Lifeline {
        Lifeline::to(Arc::clone(&self.shared) as _)
    }

    /// The medium, with all layers around it, for what carries waves by itself.
    #[must_use]
    pub fn medium(&self) -> &dyn Medium {
        &**self.shared.bus.medium()
    }

    pub(crate) fn router(&self) -> &Router {
        self.shared.bus.router()
    }

    /// Waits until the sources of all waves that have failed here so far were told, or the waves were kept.
    ///
    /// # Cancel safety
    /// If cancelled before completion, nothing changes.
    #[cfg(feature = "test-util")]
    pub async fn echoes_settled(&self) {
        self.shared.reflector.settled().await;
    }

    /// The entries of the tables about vibrators in other processes, for simulations.
    #[cfg(feature = "test-util")]
    #[doc(hidden)]
    #[must_use]
    pub fn tables(&self) -> Vec<(&'static str, usize)> {
        self.shared.presence.tables()
    }

    pub(crate) fn reflector(&self) -> &Arc<Reflector> {
        &self.shared.reflector
    }

    /// The state that a library keeps with this `Aether`: one value of each type, made on first use and shared by all
    /// handles. It is dropped with the last handle.
    #[must_use]
    pub fn extension<T: Default + Send + Sync + 'static>(&self) -> Arc<T> {
        self.shared.extensions.get_or_insert_with(T::default)
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

impl Aether {
    /// Reads the accounts of all processes from now on: what every service received and lost, and why. Over a network each
    /// process sends its account every five seconds by default
    /// ([`AetherBuilder::account_every`](crate::AetherBuilder::account_every)). In process it reads the account of this
    /// process.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use aether_core::{Aether, Vibrator};
    ///
    /// let aether = Aether::local();
    /// let stock = Vibrator::create("stock", &aether).await?;
    /// stock.resonate_on("orders.*").await?;
    /// Vibrator::create("shop", &aether).await?.emit_bytes("orders.created", "17").await?;
    /// let accounts = aether.accounts().await?;
    /// for process in accounts.processes() {
    ///     let ledger = process.account.ledger();
    ///     println!("{}: {} offered, {} lost", process.account.process, ledger.offered, ledger.lost());
    /// }
    /// # assert_eq!(accounts.processes()[0].account.ledger().queued, 1);
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// [`JoinError`] if the medium is closed.
    ///
    /// # Cancel safety
    /// Cancelled before completion, nothing is read.
    pub async fn accounts(&self) -> Result<Accounts, JoinError> {
        Accounts::open(&self.shared.bus, &self.shared.teller, self.lifeline()).await
    }

    /// The account of this process now, as other processes receive it.
    #[must_use]
    pub fn account(&self) -> ProcessAccount {
        self.shared.teller.account()
    }

    /// Adds the handlers of a service to the account of this process, until the entry is dropped. For libraries that run
    /// handlers; `aether-service` does it for each service. The report is called whenever an account is made, with an empty
    /// one to fill in; it must not wait. Entries of one name are added up.
    pub fn account_handlers(
        &self,
        service: &str,
        report: impl Fn(&mut HandlersAccount) + Send + Sync + 'static,
    ) -> HandlersEntry {
        self.shared.teller.handlers().add(service, Arc::new(report))
    }
}

/// Observes when the connection of an [`Aether`] breaks and when it is restored. It does not keep the medium open.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use aether_core::Aether;
///
/// let aether = Aether::local();
/// let mut connection = aether.connection();
/// aether.close().await?;
/// assert!(connection.changed().await.is_none());
/// # Ok(()) }
/// ```
pub struct Connection {
    aether: Weak<Shared>,
    /// `None` for a medium without a connection.
    stands: Option<watch::Receiver<bool>>,
}

impl Connection {
    /// Waits until the connection breaks or is restored, and returns the status of the medium. Changes in quick
    /// succession may be reported as one: [`MediumStatus::connects`] shows whether the connection is a new one. Returns
    /// `None` when the medium was closed or dropped, and immediately for a medium without a connection, such as the
    /// in-process one.
    ///
    /// # Cancel safety
    /// If cancelled before completion, no change is missed.
    pub async fn changed(&mut self) -> Option<MediumStatus> {
        let status = match self.stands.as_mut()?.changed().await {
            Ok(()) => self.look(),
            Err(_) => None,
        };
        if status.is_none() {
            self.stands = None;
        }
        status
    }

    /// The account of all inboxes of the process: [`Aether::ledger`]. `None` if the `Aether` was dropped.
    #[must_use]
    pub fn ledger(&self) -> Option<Ledger> {
        self.aether().map(|aether| aether.ledger())
    }

    /// A handle of the `Aether`, which keeps it alive. `None` if it was dropped.
    #[must_use]
    pub fn aether(&self) -> Option<Aether> {
        Some(Aether { shared: self.aether.upgrade()? })
    }

    /// Returns `None` if the medium was closed or dropped.
    fn look(&mut self) -> Option<MediumStatus> {
        let stands = *self.stands.as_mut()?.borrow_and_update();
        let status = self.aether()?.status();
        // A closed medium reports `true` here although its status is not connected.
        (status.connected || !stands).then_some(status)
    }
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let stands = self.stands.as_ref().map(|stands| *stands.borrow());
        f.debug_struct("Connection").field("stands", &stands).finish_non_exhaustive()
    }
}

impl Aether {
    /// Observes the connection from now on.
    #[must_use]
    pub fn connection(&self) -> Connection {
        Connection { aether: Arc::downgrade(&self.shared), stands: self.medium().connection() }
    }
}

/// At most one value of each type. An empty map allocates nothing.
#[derive(Default)]
pub(crate) struct ExtensionMap {
    values: Mutex<Vec<Arc<dyn Any + Send + Sync>>>,
}

impl ExtensionMap {
    /// The value of this type, created on first use.
    pub(crate) fn get_or_insert_with<T: Any + Send + Sync>(&self, make: impl FnOnce() -> T) -> Arc<T> {
        let mut values = self.values.lock();
        let found = values.iter().find_map(|value| Arc::clone(value).downcast().ok());
        found.unwrap_or_else(|| {
            let value = Arc::new(make());
            values.push(Arc::clone(&value) as _);
            value
        })
    }
}

impl fmt::Debug for ExtensionMap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ExtensionMap").field("values", &self.values.lock().len()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_type_has_one_value_which_is_dropped_with_the_map() {
        let extensions = ExtensionMap::default();
        let first = extensions.get_or_insert_with(|| Mutex::new(1_u32));
        assert_eq!(*extensions.get_or_insert_with(|| "another type"), "another type");
        *first.lock() = 2;
        let again = extensions.get_or_insert_with(|| Mutex::new(3_u32));
        assert_eq!(*again.lock(), 2);
        drop(again);
        drop(extensions);
        assert_eq!(Arc::strong_count(&first), 1);
    }
}
