//! Connecting: the client, the subscriptions that only this connection uses, and the errors.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize};
use std::time::Duration;

use async_nats::{ConnectErrorKind, ConnectOptions, Event, ServerAddr};
use futures_util::FutureExt as _;
use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::time::timeout;

use super::authentication::Sealing;
use super::client::NatsClientError;
use super::connection::{CLIENT_QUEUE, NatsShared};
use super::error::NatsError;
use super::joins::{AnnouncementRequests, Joins};
use super::no_responders::Unverified;
use super::options::NatsOptions;
use super::reach::Notices;
use super::receiver::NatsReceiver;
use super::refusals::NatsRefusals;
use super::requests::Requests;
use super::state::{ConnectionState, Renew};
use super::subjects::Root;
use super::subscriptions::Subscriptions;
use super::tls::TlsFailure;
use super::{Nats, reach, sender, subscriptions};
use aether_core::medium::{ConnectRequest, without_secrets};
use aether_core::{Channel, ConnectError};
use aether_link::{Flow, OutboxReader, PathOutbox};

/// Where another path can take over, a server that has said nothing is asked this often whether it is there. The
/// client gives it up when it has not answered three times.
const ALIVE: Duration = Duration::from_secs(1);

/// The bound of the wait for the first marker. A server that answers later may still be usable.
const ANSWERED_WITHIN: Duration = Duration::from_secs(2);

/// Whether a text is the address of NATS servers. Nothing is connected.
///
/// # Errors
/// [`ConnectError::Url`] with the whole text, without secrets.
pub fn check_address(url: &str) -> Result<(), ConnectError> {
    servers(url).map(|_| ()).map_err(ConnectError::without_secrets)
}

/// The servers of an address.
fn servers(url: &str) -> Result<Vec<ServerAddr>, ConnectError> {
    // As a whole: a part of an address may be a part of a password, and hidden only as that.
    let refused = |_| ConnectError::Url {
        url: url.to_owned(),
        known: "nats://host:port or tls://host:port".to_owned(),
    };
    url.split(',').map(|server| server.trim().parse().map_err(refused)).collect()
}

impl Nats {
    /// Connects, and makes sure that the server permits what every connection needs.
    pub(super) async fn make(
        request: ConnectRequest,
        options: NatsOptions,
    ) -> Result<Arc<Self>, ConnectError> {
        let confirming = PathOutbox::of(&request).map(|path| path.confirming()).unwrap_or_default();
        let sealing = Arc::new(Sealing::new(&options)?);
        let outbox = OutboxReader::of(&request, confirming.watching(options.outbox.clone()))?;
        let has_other_paths = PathOutbox::of(&request).is_some();
        let ConnectRequest { url, router, .. } = request;
        let prefix = Channel::new(&options.prefix).map_err(NatsError::Prefix)?.as_str().to_owned();
        for suffix in [Root::Questions, Root::Seen].map(Root::as_suffix) {
            if prefix.ends_with(suffix) {
                return Err(NatsError::PrefixTaken { prefix, suffix }.into());
            }
        }
        let servers = servers(&url)?;
        let renew = sealing.is_on().then(|| -> Renew {
            let sealing = Arc::clone(&sealing);
            Arc::new(move || sealing.renew())
        });
        let state = Arc::new(ConnectionState::new(outbox.clone(), renew));
        let refusals = Arc::<NatsRefusals>::default();
        let mut first_refusal = Box::pin(refusals.next());
        let configure = |options: ConnectOptions| {
            let options = options
                .subscription_capacity(CLIENT_QUEUE)
                // Channels and patterns were validated when they were created.
                .skip_subject_validation(true);
            if has_other_paths { options.ping_interval(ALIVE) } else { options }
        };
        let on_event = {
            let (state, refusals, confirming) =
                (Arc::clone(&state), Arc::clone(&refusals), Arc::clone(&confirming));
            let waves = [&prefix, "."].concat();
            move |event| {
                let refused = refusals.note(&event);
                if let Some(channel) = refused.as_deref().and_then(|subject| subject.strip_prefix(&waves)) {
                    confirming.not_permitted(channel);
                }
                let state = Arc::clone(&state);
                async move {
                    if matches!(event, Event::Connected) {
                        state.renew().await;
                    }
                    state.note(&event);
                }
            }
        };
        let client = options.connect_client(&servers, configure, on_event).await;
        let client = client.map_err(|error| match error {
            NatsClientError::Login(error) => NatsError::Login(error).into(),
            NatsClientError::Connect(error) => refused(url.clone(), error),
        })?;
        let malformed = client.malformed_messages();
        let unreachable = |error| unreachable(url.clone(), true, error);
        let requests =
            Requests::new(&client, Arc::clone(&state), Arc::clone(&sealing)).await.map_err(unreachable)?;
        let (unverified, entries) = sealing.is_on().then(Unverified::new).unzip();
        let shared = Arc::new(NatsShared {
            client,
            state,
            refusals,
            malformed,
            outbox,
            prefix,
            wire: options.wire,
            sealing,
            unverified,
            node: fastrand::u64(1..),
            closed: AtomicBool::new(false),
            announcements: AnnouncementRequests::new(),
            joins: Joins::new(),
            flow: Flow::new(),
            waiting_bytes: AtomicUsize::new(0),
            leaving: Mutex::default(),
        });
        let unheard_waves = reach::unheard_waves(&shared, Arc::clone(&router));
        let attempt = Attempt(Some(Arc::clone(&shared.state)));
        shared.state.connected_to(&shared.client, unheard_waves).await.map_err(unreachable)?;
        // Without its own inbox no join and no flush of this connection would ever end.
        let refused = tokio::select! {
            biased;
            subject = &mut first_refusal => Some(subject),
            // It may have been refused since it was looked at above.
            _ = timeout(ANSWERED_WITHIN, shared.state.round_trip_behind_errors(&shared.client)) => first_refusal.now_or_never(),
        };
        if let Some(subject) = refused {
            return Err(NatsError::NotPermitted { url: without_secrets(&url), subject }.into());
        }
        attempt.succeeded();
        if let Some(entries) = entries {
            tokio::spawn(reach::verify_waves(Arc::downgrade(&shared), Arc::clone(&router), entries));
        }
        let ending = watch::Sender::new(false);
        subscriptions::listen(&shared, ending.subscribe()).await.map_err(unreachable)?;
        let notices = Notices::new(shared.client.new_inbox());
        let sender = tokio::spawn(sender::send(Arc::clone(&shared), ending.subscribe()));
        Ok(Arc::new(Self {
            receiver: Arc::new(NatsReceiver::new(Arc::clone(&router), Arc::clone(&shared))),
            shared,
            router,
            joined: Subscriptions::default(),
            notices,
            requests,
            confirming,
            sender: Mutex::new(Some(sender)),
            closing: tokio::sync::Mutex::default(),
            ending,
        }))
    }
}

/// An attempt to connect. Dropped before it has succeeded, it ends the task that receives markers: its subscription
/// would keep the client, and the client the connection.
struct Attempt(Option<Arc<ConnectionState>>);

impl Attempt {
    fn succeeded(mut self) {
        self.0 = None;
    }
}

impl Drop for Attempt {
    fn drop(&mut self) {
        if let Some(state) = &self.0 {
            state.end();
        }
    }
}

fn refused(url: String, error: async_nats::ConnectError) -> ConnectError {
    use ConnectErrorKind::{Authentication, AuthorizationViolation};
    if let Some(failure) = TlsFailure::of(&error) {
        return NatsError::Tls { url: without_secrets(&url), failure, source: error.into() }.into();
    }
    if matches!(error.kind(), Authentication | AuthorizationViolation) {
        return NatsError::Unauthorized { url: without_secrets(&url), source: error.into() }.into();
    }
    unreachable(url, may_pass(&error), error)
}

fn unreachable(
    url: String,
    is_transient: bool,
    error: impl Into<Box<dyn std::error::Error + Send + Sync>>,
) -> ConnectError {
    ConnectError::Unreachable { url, is_transient, source: error.into() }
}

/// Whether the error is transient: no server answered, and none refused the connection. A name that DNS cannot
/// resolve counts as transient, because it may be assigned to a host later.
fn may_pass(error: &async_nats::ConnectError) -> bool {
    use ConnectErrorKind::{Dns, Io, TimedOut};
    matches!(error.kind(), Dns | Io | TimedOut)
}
