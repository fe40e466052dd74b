//! The settings of the gateway in a configuration: the section `[service.gateway]`.

use std::path::PathBuf;

use aether_core::Aether;
use aether_metrics::{Tls, TlsError, TrustedProxy};
use aether_service::config::{Count, List, ListenAddress, OrOff, Section, Settings};
use serde::{Deserialize, Serialize};

use crate::field::{self, FieldOptions};
use crate::{
    AllowedOrigin, Archive, GatewayOptions, JoinedFields, LimitSetting, LogFolder, ServeFieldsError,
    ServedField, TraceUrl,
};

/// The settings of the gateway. `config/default.toml` describes each of them.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct GatewaySettings {
    /// The HTTP address; off for the default address, or a free port if that is taken.
    pub listen: OrOff<ListenAddress>,
    /// The PEM file with the certificates; off to serve without TLS.
    pub tls_cert: OrOff<PathBuf>,
    /// The PEM file with the private key of the certificate.
    pub tls_key: OrOff<PathBuf>,
    /// The PEM file with the authorities of the clients; off to serve clients without a certificate.
    pub tls_clients: OrOff<PathBuf>,
    /// Whether the gateway may be reached by others than programs of this machine without a token or a certificate.
    pub insecure: bool,
    /// The proxies that tell the addresses of their clients.
    pub trusted_proxies: List<TrustedProxy>,
    /// Whether patterns in the traffic are detected.
    pub physics: bool,
    /// Whether pages and programs may emit and ask through the gateway.
    pub emit: bool,
    /// The file in which rates, losses and incidents are recorded.
    pub archive: OrOff<PathBuf>,
    /// Where the pages link traces to; off for no link.
    pub trace_url: OrOff<TraceUrl>,
    /// The folders whose durable logs are shown, in addition to the folder of `[durable]`.
    pub durable: List<LogFolder>,
    /// The maximum number of channels with their own line.
    pub max_channels: Count<1, 1_000_000>,
    /// The fields that are served over WebSocket.
    pub fields: List<ServedField>,
    /// The field that is served at `/`, too.
    pub field_root: OrOff<String>,
    /// The file with the tokens, and what their holders may read, write, hear and emit.
    pub field_tokens: OrOff<PathBuf>,
    /// The origins whose pages may use the fields and the waves.
    pub field_origins: List<AllowedOrigin>,
    /// The bounds on what clients may cost that are not as built in.
    pub field_limits: List<LimitSetting>,
}

/// Why the gateway cannot serve over TLS.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TlsSettingsError {
    /// Only one of the two files was given.
    #[error("set both tls_cert and tls_key in [service.gateway] (--tls-cert, --tls-key), or neither")]
    Half,
    /// Certificates of clients are asked for without one of the server.
    #[error("tls_clients in [service.gateway] (--tls-clients) needs tls_cert and tls_key")]
    ClientsOnly,
    /// A file cannot be used.
    #[error(transparent)]
    Files(#[from] TlsError),
}

impl Section for GatewaySettings {
    const NAME: &'static str = "gateway";
}

impl Default for GatewaySettings {
    fn default() -> Self {
        Self {
            listen: OrOff::Off,
            tls_cert: OrOff::Off,
            tls_key: OrOff::Off,
            tls_clients: OrOff::Off,
            insecure: false,
            trusted_proxies: List::default(),
            physics: true,
            emit: true,
            archive: OrOff::Off,
            trace_url: OrOff::Off,
            durable: List::default(),
            max_channels: Count::new(500).unwrap_or(Count::LEAST),
            fields: List::default(),
            field_root: OrOff::Off,
            field_tokens: OrOff::Off,
            field_origins: List::default(),
            field_limits: List::default(),
        }
    }
}

impl GatewaySettings {
    /// Whether any field is served.
    pub(crate) fn serves_fields(&self) -> bool {
        !self.fields.0.is_empty()
    }

    /// Joins the fields that are served. Returns what the gateway needs, and the replicas, which are to be closed after it.
    ///
    /// # Errors
    /// [`ServeFieldsError`] if a field cannot be joined, or the tokens cannot be read.
    ///
    /// # Cancel safety
    /// Cancelled before completion, the replicas that have joined leave.
    pub async fn join_fields(
        &self,
        aether: &Aether,
    ) -> Result<(FieldOptions, JoinedFields), ServeFieldsError> {
        let (root, tokens) = (self.field_root.clone().on(), self.field_tokens.clone().on());
        let fields = (&self.fields.0[..], root.as_deref());
        field::join(fields, tokens.as_deref(), &self.field_origins.0, &self.field_limits.0, aether).await
    }

    /// The options of the gateway, which also shows the durable logs of the programs with the same configuration, and those
    /// in JetStream if its medium is NATS.
    ///
    /// # Errors
    /// [`TlsSettingsError`] if the certificate or its key cannot be used.
    pub fn options(&self, settings: &Settings) -> Result<GatewayOptions, TlsSettingsError> {
        let tls = match (&self.tls_cert, &self.tls_key, &self.tls_clients) {
            (OrOff::On(certificate), OrOff::On(key), OrOff::On(clients)) => {
                Some(Tls::load_mutual(certificate, key, clients)?)
            }
            (OrOff::On(certificate), OrOff::On(key), OrOff::Off) => Some(Tls::load(certificate, key)?),
            (OrOff::Off, OrOff::Off, OrOff::Off) => None,
            (OrOff::Off, OrOff::Off, OrOff::On(_)) => return Err(TlsSettingsError::ClientsOnly),
            _ => return Err(TlsSettingsError::Half),
        };
        let options = GatewayOptions::default()
            .physics(self.physics)
            .emits(self.emit)
            .insecure(self.insecure)
            .trusted_proxies(self.trusted_proxies.0.iter().copied())
            .max_channels(self.max_channels.as_usize())
            .archive(self.archive.clone().on().map(Archive::new))
            .trace_url(self.trace_url.clone().on())
            .durable(LogFolder::all(&self.durable.0, &settings.durable))
            .durable_keys(settings.medium.keys.clone().on())
            .tls(tls);
        let medium = &settings.medium;
        let options = match medium.args().nats_address() {
            Some(url) => options.jetstream(url, medium.args().nats("aether-gateway-logs")),
            None => options,
        };
        Ok(match self.listen {
            OrOff::On(ListenAddress(address)) => options.listen(address),
            OrOff::Off => options,
        })
    }
}
