//! The client of NATS as Aether uses it: it logs in, comes past messages that it cannot parse, and ends with its last holder.

use std::future::ready;
use std::ops::Deref;
use std::sync::Arc;
use std::time::Duration;

use async_nats::{Auth, AuthError, Client, ConnectOptions, Event, ServerAddr};
use tokio::time::{sleep, timeout};

use super::filter::MessageFilter;
use super::login::{NatsLogin, NatsLoginError};
use super::malformed::Malformed;
use super::options::NatsOptions;
use super::reconnection::{Reconnection, over_tls, pause_before};
use super::tls::TlsFailure;

/// How often a certificate and a key that do not fit are read again before that is an error. While they are replaced, the
/// client may read one of them before and the other after; the pauses together last 0.6 s.
const READINGS: u32 = 6;

/// The bound of the wait for the client to take the address of the filter.
const TAKEN_WITHIN: Duration = Duration::from_secs(2);

/// A client of NATS servers. Dereferences to that of async-nats, which comes past messages that it cannot parse: one breaks its
/// connection, and from then on a filter leaves such messages out.
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
    /// Connects a client to these servers, with the name, the login and the certificates of these options. `configure` adds what is the
    /// caller's, except for callbacks: `on_event` is called with the events of the client, one after the other.
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
