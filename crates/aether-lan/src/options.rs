//! Options of the medium of a local network.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::network::LanNetwork;
use super::secret::Secret;
#[cfg(feature = "zenoh")]
use super::sockets::Certificates;
use super::view::LanView;
use aether_core::InboxOptions;
use aether_seal::KeySource;

/// Options of the medium of a local network, for [`AetherBuilder::options`](aether_core::AetherBuilder::options).
///
/// ```no_run
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use aether_core::Aether;
/// use aether_lan::LanOptions;
///
/// let options = LanOptions::default().secret_file("/etc/aether/secret");
/// let aether = aether::builder().url("lan:").options(options).connect().await?;
/// # Ok(()) }
/// ```
#[derive(Debug, Clone, Default)]
#[must_use = "options do nothing by themselves: give them to AetherBuilder::options"]
pub struct LanOptions {
    pub(super) outbox: InboxOptions,
    pub(super) secret: Option<Secret>,
    pub(super) insecure: bool,
    pub(super) name: Option<String>,
    #[cfg(feature = "zenoh")]
    pub(super) certificates: Option<Certificates>,
    pub(super) network: Option<Arc<dyn LanNetwork>>,
    pub(super) view: Option<LanView>,
    pub(super) gone_after: Option<Duration>,
}

impl LanOptions {
    /// The secret that all machines share, of at least 16 bytes. The keys are derived from it with Argon2id (RFC 9106),
    /// which takes 19 MiB for a fraction of a second. Default: the file that `AETHER_LAN_SECRET_FILE` names, or the text of
    /// `AETHER_LAN_SECRET`.
    pub fn secret(mut self, secret: impl Into<String>) -> Self {
        self.secret = Some(Secret::text(secret.into()));
        self
    }

    /// A file with the secret, which only its owner and a group may read. It may also be a file with keys as
    /// `aether keys new` writes it.
    pub fn secret_file(mut self, path: impl Into<PathBuf>) -> Self {
        self.secret = Some(Secret::File(path.into()));
        self
    }

    /// The keys that all machines share, in place of a secret.
    pub fn keys(mut self, keys: impl Into<KeySource>) -> Self {
        self.secret = Some(Secret::Keys(keys.into()));
        self
    }

    /// Whether to do without a secret if there is none. Everybody on the network can then read and send everything.
    /// Default: no; connecting fails.
    pub fn insecure(mut self, is_allowed: bool) -> Self {
        self.insecure = is_allowed;
        self
    }

    /// The name of this process, which others see with the name of the machine. Default: the name of the machine alone.
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.name = Some(name.into());
        self
    }

    /// Certificates (PEM): of the authorities, and of this machine with its key. Everything then is over QUIC
    /// (RFC 9000, with TLS 1.3), and nothing is connected without. Both sides of a connection must show a certificate,
    /// and the one of the side that listens must have its name or address. Default: none; the secret protects what is sent
    /// over TCP as well.
    #[cfg(feature = "zenoh")]
    pub fn certificates(
        mut self,
        authorities: impl Into<PathBuf>,
        certificate: impl Into<PathBuf>,
        key: impl Into<PathBuf>,
    ) -> Self {
        let (authorities, certificate, key) = (authorities.into(), certificate.into(), key.into());
        self.certificates = Some(Certificates { authorities, certificate, key });
        self
    }

    /// The network below the medium, in place of Zenoh. Of the address only `insecure` counts then, and certificates do not.
    pub fn network(mut self, network: Arc<dyn LanNetwork>) -> Self {
        self.network = Some(network);
        self
    }

    /// How long a peer may be silent until it has gone: it gets no more waves, and nobody waits for it. Peers are
    /// pinged several times within it, and each second at least. At least half a second: a shorter time counts as that.
    /// On a network whose packets are late or lost, a short time loses peers that are there. Default: 3.5 s.
    pub fn gone_after(mut self, silence: Duration) -> Self {
        self.gone_after = Some(silence);
        self
    }

    /// For tools: fills the view once the medium has connected.
    pub fn view(mut self, view: &LanView) -> Self {
        self.view = Some(view.clone());
        self
    }

    /// The bounds and the discipline of the queue of waves waiting to be sent. Default: [`InboxOptions::interactive`].
    /// Emitters start to wait once it holds 2048 waves.
    pub fn outbox(mut self, options: InboxOptions) -> Self {
        self.outbox = options;
        self
    }
}
