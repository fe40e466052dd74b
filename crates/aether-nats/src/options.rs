//! Options for connecting to NATS servers.

use std::path::PathBuf;

use async_nats::{ConnectOptions, ServerAddr};

use super::login::NatsLogin;
use super::tls::NatsTls;
use crate::subjects::user_inbox;
use aether_core::InboxOptions;
use aether_core::medium::Wire;
use aether_seal::{FileOr, KeySource, SealOptions, Signers, SigningKey};

/// Options of the NATS medium, for [`AetherBuilder::options`](aether_core::AetherBuilder::options).
///
/// ```no_run
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use aether_core::Aether;
/// use aether_nats::NatsOptions;
///
/// let options = NatsOptions::default().prefix("shop").client_name("orders");
/// let aether = aether::builder().url("nats://127.0.0.1:4222").options(options).connect().await?;
/// # Ok(()) }
/// ```
#[derive(Debug, Clone)]
#[must_use = "options do nothing by themselves: give them to AetherBuilder::options"]
pub struct NatsOptions {
    pub(super) prefix: String,
    pub(super) wire: Wire,
    pub(crate) outbox: InboxOptions,
    pub(super) client_name: Option<String>,
    pub(crate) discovery: bool,
    login: Option<NatsLogin>,
    inbox: Option<String>,
    pub(super) tls: NatsTls,
    pub(super) keys: Option<KeySource>,
    signing_key: Option<FileOr<SigningKey>>,
    signers: Option<FileOr<Signers>>,
}

impl NatsOptions {
    /// The first tokens of each subject, in front of the channel. Default: `aether`. Systems with different prefixes
    /// are isolated from each other. A prefix may not end in `-ask` or `-seen`, because `PREFIX-ask` and `PREFIX-seen`
    /// are used as well.
    pub fn prefix(mut self, prefix: impl Into<String>) -> Self {
        self.prefix = prefix.into();
        self
    }

    /// The format in which waves are written. Default: [`Wire::Frames`]. All formats can be read.
    pub fn wire(mut self, wire: Wire) -> Self {
        self.wire = wire;
        self
    }

    /// The bounds and the discipline of the queue of waves waiting to be sent. All options apply, including a sojourn
    /// cap, a floor and an order. Default: [`InboxOptions::interactive`]. Emitters that wait for room fill the queue
    /// only while the connection is down; otherwise they start to wait once it holds 2048 waves. They give up when no
    /// wave of their strength or weaker has left for their entire patience, and at the latest after twice their
    /// patience.
    pub fn outbox(mut self, options: InboxOptions) -> Self {
        self.outbox = options;
        self
    }

    /// The name under which the server lists the connection. Default: none.
    pub fn client_name(mut self, name: impl Into<String>) -> Self {
        self.client_name = Some(name.into());
        self
    }

    /// Whether the vibrators of this process respond to service discovery, so that `nats micro ls` and other NATS tools
    /// list them. Default: yes. Turn it off in a program that is not permitted to subscribe to `$SRV.>`.
    pub fn discovery(mut self, answers: bool) -> Self {
        self.discovery = answers;
        self
    }

    /// How this program proves who it is. Default: by what the address has. Files are read again after each broken
    /// connection.
    pub fn login(mut self, login: NatsLogin) -> Self {
        self.login = Some(login);
        self
    }

    /// Receives answers on subjects below `_INBOX.NAME`, so that a server that allows each user only its own keeps
    /// others from reading and forging them (`NatsPermissions`, with the feature `rules`). Characters other than
    /// letters, digits, `-` and `_` become `=` and two digits. Default: the user of the login, if it has a name; else
    /// `_INBOX` itself.
    pub fn inbox(mut self, name: impl Into<String>) -> Self {
        self.inbox = Some(name.into());
        self
    }

    /// Trusts servers whose certificate one of these authorities (PEM) has signed, and no others. Servers without TLS are
    /// refused. Default: the authorities of the system, for `tls:` addresses and servers that ask for TLS.
    pub fn authorities(mut self, path: impl Into<PathBuf>) -> Self {
        self.tls.authorities = Some(path.into());
        self
    }

    /// The certificate of this program with its chain, and its key (PEM), for servers that ask for one. Servers without
    /// TLS are refused. Default: none.
    pub fn certificate(mut self, certificate: impl Into<PathBuf>, key: impl Into<PathBuf>) -> Self {
        self.tls.client = Some((certificate.into(), key.into()));
        self
    }

    /// Seals everything that this program sends with one of these keys, and refuses everything that is not sealed with one
    /// of them. Default: nothing is sealed. All programs of a system need the same keys. A file is read again for each
    /// new connection. With [`Wire::CloudEvents`] connecting fails, and the service discovery of NATS tools is not answered.
    /// Cost: 78 bytes for each frame, which has one wave or many, and about a microsecond; see the module
    /// [`seal`](aether_seal).
    pub fn keys(mut self, keys: impl Into<KeySource>) -> Self {
        self.keys = Some(keys.into());
        self
    }

    /// Signs everything that this program sends with this key, inside of the seal, so that others with a list of
    /// [signers](Self::signers) know who emitted. Default: nothing is signed. Needs [`keys`](Self::keys). A file that
    /// has changed is read again when messages arrive, at most once a second. Cost: 72 bytes for each frame, which has
    /// one wave or many, and some 20 us.
    pub fn signing_key(mut self, key: impl Into<FileOr<SigningKey>>) -> Self {
        self.signing_key = Some(key.into());
        self
    }

    /// Refuses everything that nobody on this list has signed, and each name that its signer may not use. Then
    /// [`Wave::proven_source`](aether_core::Wave::proven_source) names the emitter. Default: everybody with the keys
    /// may speak in any name. Needs [`keys`](Self::keys), and a [`signing_key`](Self::signing_key) that is on the
    /// list: a program hears itself over the server as well. A file that has changed is read again when messages
    /// arrive, at most once a second. Cost: some 30 us for each frame that arrives, for each subscription that it matches.
    pub fn signers(mut self, signers: impl Into<FileOr<Signers>>) -> Self {
        self.signers = Some(signers.into());
        self
    }

    /// The [keys](Self::keys), the [key that signs](Self::signing_key) and the [list of signers](Self::signers), also
    /// for what seals beside the bus, such as a durable log. `None` if nothing is sealed.
    ///
    /// # Errors
    /// [`SigningError::NotSealed`](aether_seal::SigningError::NotSealed) if there is a key that signs or a list, and
    /// no keys.
    pub fn seal_options(&self) -> Result<Option<SealOptions>, aether_seal::SigningError> {
        let Self { keys, signing_key, signers, .. } = self;
        let Some(keys) = keys else {
            let asks = self.asks_for_proof();
            return if asks { Err(aether_seal::SigningError::NotSealed) } else { Ok(None) };
        };
        let mut options = SealOptions::new(keys.clone());
        if let Some(key) = signing_key {
            options = options.signing_key(key.clone());
        }
        if let Some(signers) = signers {
            options = options.signers(signers.clone());
        }
        Ok(Some(options))
    }

    /// Whether sources are to be proven.
    pub const fn asks_for_proof(&self) -> bool {
        self.signing_key.is_some() || self.signers.is_some()
    }

    /// A setting that other media do not have and that is not as it is by default.
    pub fn set_for_nats(&self) -> Option<&'static str> {
        let default = Self::default();
        match self {
            Self { prefix, .. } if *prefix != default.prefix => {
                Some("prefix (--prefix, AETHER_PREFIX, medium.prefix)")
            }
            Self { wire, .. } if *wire != default.wire => {
                Some("wire format (--wire, AETHER_WIRE, medium.wire)")
            }
            _ => None,
        }
    }

    /// The login, by what the addresses have if there is no other.
    pub(super) fn login_to(&self, servers: &[ServerAddr]) -> Option<NatsLogin> {
        self.login.clone().or_else(|| NatsLogin::in_addresses(servers))
    }

    /// Adds the names of the connection and of the inbox.
    pub(super) fn named(&self, options: ConnectOptions, login: Option<&NatsLogin>) -> ConnectOptions {
        let user = self.inbox.clone().or_else(|| login?.user().map(str::to_owned));
        let options = match &self.client_name {
            Some(name) => options.name(name),
            None => options,
        };
        match user.filter(|name| !name.is_empty()) {
            Some(name) => options.custom_inbox_prefix(user_inbox(&name)),
            None => options,
        }
    }
}

impl Default for NatsOptions {
    fn default() -> Self {
        Self {
            prefix: "aether".to_owned(),
            wire: Wire::default(),
            outbox: InboxOptions::interactive(),
            client_name: None,
            discovery: true,
            login: None,
            inbox: None,
            tls: NatsTls::default(),
            keys: None,
            signing_key: None,
            signers: None,
        }
    }
}
