//! A filter between the client and a server, in this process: it leaves out the messages that the client cannot
//! parse, which the client would take for a broken connection.
//!
//! It is used from the moment that a connection broke without a visible reason
//! ([`Reconnection`](super::client::Reconnection) decides); until then it is a port of loopback on which nobody
//! listens. The client then connects to that port, and the filter to the real server. The filter speaks TLS with the
//! server where that is asked for, and the client's certificate is its own then. So other users of this machine must
//! not get through it: it takes a connection only while it expects one, and only from a client that shows a secret in
//! its login, which no file and no message has.

mod forwarding;
mod inspector;
#[cfg(test)]
mod tests;
mod upstream;

use std::io;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_nats::{Auth, ServerAddr};
use bytes::{Bytes, BytesMut};
use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use nkeys::KeyPair;
use parking_lot::Mutex;
use serde_json::{Map, Value};
use subtle::ConstantTimeEq as _;
use tokio::io::AsyncWriteExt as _;
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::mpsc;
use tokio::time::{sleep, timeout};
use zeroize::Zeroizing;

use super::malformed::Malformed;
use super::tls::NatsTls;
use forwarding::{Losses, forward};
use upstream::{Secured, Upstream, fields, line, written};

/// The client gives an attempt to connect up after five seconds.
const EXPECTED_FOR: Duration = Duration::from_secs(6);

/// A client shows its secret at once. Strangers that say nothing take the place of others for no longer than this.
const SHOWN_WITHIN: Duration = Duration::from_secs(1);

/// Connections that have not shown the secret yet.
const CANDIDATES: usize = 64;

/// The pause where connections cannot be accepted, such as without free file descriptors.
const PAUSE: Duration = Duration::from_millis(100);

/// The filter of one client.
#[derive(Debug)]
pub(super) struct MessageFilter {
    address: ServerAddr,
    secret: Arc<Secret>,
    door: Mutex<Door>,
    tls: NatsTls,
    losses: Losses,
    /// Whether the attempt under way, or else the connection, goes through it.
    is_used: AtomicBool,
    /// Whether the expected client has come.
    has_come: Arc<AtomicBool>,
}

#[derive(Debug)]
enum Door {
    /// The port belongs to this process, and nobody listens.
    Reserved(TcpSocket),
    Open(mpsc::Sender<Upstream>),
    Broken,
}

/// Text in front of the token of the login.
struct Secret(Zeroizing<String>);

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret(..)")
    }
}

impl Secret {
    fn new() -> io::Result<Self> {
        // 32 bytes of the operating system, as text.
        let seed = KeyPair::new_user().seed().map_err(io::Error::other)?;
        Ok(Self(Zeroizing::new(seed)))
    }

    /// Takes the secret out of a login. Whether it was there.
    fn taken_from(&self, login: &mut Map<String, Value>) -> bool {
        let Some(Value::String(token)) = login.remove("auth_token") else { return false };
        let Some((shown, rest)) = token.as_bytes().split_at_checked(self.0.len()) else { return false };
        let is_shown: bool = shown.ct_eq(self.0.as_bytes()).into();
        if is_shown && let Ok(rest) = std::str::from_utf8(rest) {
            let rest = if rest.is_empty() { Value::Null } else { Value::String(rest.to_owned()) };
            login.insert("auth_token".to_owned(), rest);
        }
        is_shown
    }
}

impl MessageFilter {
    /// Reserves a port.
    ///
    /// # Errors
    /// [`io::Error`] if this process may have none.
    pub(super) fn new(tls: NatsTls, malformed: Arc<Malformed>) -> io::Result<Self> {
        let socket = TcpSocket::new_v4()?;
        socket.bind((Ipv4Addr::LOCALHOST, 0).into())?;
        let address = format!("nats://{}", socket.local_addr()?).parse()?;
        let secret = Arc::new(Secret::new()?);
        let losses = Losses { malformed, left_out: Arc::default() };
        let door = Mutex::new(Door::Reserved(socket));
        let (is_used, has_come) = (AtomicBool::new(false), Arc::default());
        Ok(Self { address, secret, door, tls, losses, is_used, has_come })
    }

    /// Where the client connects to.
    pub(super) fn address(&self) -> &ServerAddr {
        &self.address
    }

    /// Connects to a server, and expects the client.
    ///
    /// # Errors
    /// Why the server is not there.
    pub(super) async fn expect(
        &self,
        server: &ServerAddr,
        requires_tls: bool,
        within: Duration,
    ) -> io::Result<()> {
        let upstream = timeout(within, Upstream::open(server, requires_tls)).await??;
        let door = self.door()?;
        self.losses.left_out.store(0, Ordering::Relaxed);
        self.has_come.store(false, Ordering::Relaxed);
        self.is_used.store(true, Ordering::Relaxed);
        door.send(upstream).await.map_err(io::Error::other)
    }

    /// The next attempt goes to the server itself.
    pub(super) fn is_passed_by(&self) {
        self.is_used.store(false, Ordering::Relaxed);
    }

    /// Whether the latest attempt or connection went through it.
    pub(super) fn is_used(&self) -> bool {
        self.is_used.load(Ordering::Relaxed)
    }

    /// Whether the client has come since it was expected.
    pub(super) fn has_come(&self) -> bool {
        self.has_come.load(Ordering::Relaxed)
    }

    /// Whether anything was left out since the client was expected.
    pub(super) fn has_left_out(&self) -> bool {
        self.losses.left_out.load(Ordering::Relaxed) > 0
    }

    /// Shows the secret in a login, if the attempt under way goes through the filter.
    pub(super) fn show_in(&self, auth: &mut Auth) {
        if self.is_used() {
            auth.token = Some([&*self.secret.0, auth.token.as_deref().unwrap_or_default()].concat());
        }
    }

    fn door(&self) -> io::Result<mpsc::Sender<Upstream>> {
        let mut door = self.door.lock();
        let (opened, expected) = match std::mem::replace(&mut *door, Door::Broken) {
            Door::Reserved(socket) => {
                let listener = socket.listen(CANDIDATES as u32)?;
                let (sender, expected) = mpsc::channel(1);
                (sender, Some((listener, expected)))
            }
            Door::Open(sender) => (sender, None),
            Door::Broken => return Err(io::Error::other("the filter has no port")),
        };
        *door = Door::Open(opened.clone());
        if let Some((listener, expected)) = expected {
            let acceptor = Acceptor {
                secret: Arc::clone(&self.secret),
                tls: self.tls.clone(),
                losses: self.losses.clone(),
                has_come: Arc::clone(&self.has_come),
            };
            tokio::spawn(acceptor.keep(listener, expected));
        }
        Ok(opened)
    }
}

/// Lets the expected client in. Ends with the filter; connections that it has let in go on.
struct Acceptor {
    secret: Arc<Secret>,
    tls: NatsTls,
    losses: Losses,
    has_come: Arc<AtomicBool>,
}

impl Acceptor {
    async fn keep(self, listener: TcpListener, mut expected: mpsc::Receiver<Upstream>) {
        let mut next = None;
        loop {
            let upstream = match next.take() {
                Some(upstream) => upstream,
                None => tokio::select! {
                    upstream = expected.recv() => match upstream {
                        Some(upstream) => upstream,
                        None => return,
                    },
                    // Nobody is expected.
                    accepted = listener.accept() => {
                        pause_after(accepted.map(drop)).await;
                        continue;
                    }
                },
            };
            let greeting = upstream.greeting();
            let mut candidates = FuturesUnordered::new();
            let expecting = async {
                loop {
                    tokio::select! {
                        biased;
                        upstream = expected.recv() => return Err(upstream),
                        Some(login) = candidates.next() => if let Some(login) = login { return Ok(login) },
                        accepted = listener.accept(), if candidates.len() < CANDIDATES => match accepted {
                            Ok((client, _)) => candidates.push(login(client, greeting.clone(), &self.secret)),
                            Err(error) => pause_after(Err(error)).await,
                        },
                    }
                }
            };
            match timeout(EXPECTED_FOR, expecting).await {
                Ok(Ok(login)) => {
                    self.has_come.store(true, Ordering::Relaxed);
                    tokio::spawn(connect(login, upstream, self.tls.clone(), self.losses.clone()));
                }
                // The client has given that attempt up.
                Ok(Err(Some(later))) => next = Some(later),
                Ok(Err(None)) => return,
                Err(_) => {}
            }
        }
    }
}

/// A connection that cannot be accepted now may be accepted later.
async fn pause_after(accepted: io::Result<()>) {
    if accepted.is_err() {
        sleep(PAUSE).await;
    }
}

/// A client that has shown the secret.
struct Login {
    client: TcpStream,
    /// Without the secret.
    connect: Bytes,
    /// The bytes that came behind it.
    early: BytesMut,
}

/// Greets a client that has connected, and reads its login. `None` without the secret.
async fn login(mut client: TcpStream, greeting: Bytes, secret: &Secret) -> Option<Login> {
    let shown = async {
        client.set_nodelay(true)?;
        client.write_all(&greeting).await?;
        let mut early = BytesMut::new();
        let mut login = fields(&line(&mut client, &mut early).await?, b"CONNECT ")?;
        let is_shown = secret.taken_from(&mut login);
        Ok::<_, io::Error>(is_shown.then(|| (written("CONNECT ", login), early)))
    };
    let (connect, early) = timeout(SHOWN_WITHIN, shown).await.ok()?.ok()??;
    Some(Login { client, connect, early })
}

/// Logs in to the server, and forwards until either side ends.
async fn connect(login: Login, upstream: Upstream, tls: NatsTls, losses: Losses) {
    let Login { client, connect, early } = login;
    let mut to_server = BytesMut::from(connect);
    to_server.extend_from_slice(&early);
    let forwarding = async {
        let (server, from_server) = upstream.secured(&tls).await?;
        match server {
            Secured::Plain(server) => forward(client, server, to_server, from_server, &losses).await,
            Secured::Tls(server) => forward(client, server, to_server, from_server, &losses).await,
        }
    };
    if let Err(error) = forwarding.await {
        tracing::debug!(%error, "a filtered connection to the server ended");
    }
}
