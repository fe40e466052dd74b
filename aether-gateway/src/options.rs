//! The options of a gateway, given before it starts: what it shows, to whom, and at which cost.

use std::fmt;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use aether::nats::NatsOptions;
use aether_core::{InboxOptions, ServeOrder, Wave, WhenFull};
use aether_metrics::{Tls, TrustedProxies, TrustedProxy};

use crate::archive::Archive;
use crate::durable::{LogFolder, LogServers};
use crate::field::FieldOptions;
use crate::trace_url::TraceUrl;

/// A callback for each observed wave. It runs in the observer's task.
pub(crate) type OnWave = Box<dyn FnMut(&Wave) + Send>;

/// Options of a gateway.
pub struct GatewayOptions {
    pub(crate) listen: Option<SocketAddr>,
    pub(crate) max_channels: usize,
    pub(crate) inbox: InboxOptions,
    pub(crate) physics: bool,
    pub(crate) emits: bool,
    pub(crate) insecure: bool,
    pub(crate) on_wave: Option<OnWave>,
    pub(crate) fields: FieldOptions,
    pub(crate) demos: bool,
    pub(crate) tls: Option<Tls>,
    pub(crate) trusted_proxies: TrustedProxies,
    pub(crate) archive: Option<Archive>,
    pub(crate) trace_url: Option<TraceUrl>,
    pub(crate) durable: Vec<LogFolder>,
    pub(crate) durable_keys: Option<PathBuf>,
    pub(crate) jetstream: Option<LogServers>,
}

impl GatewayOptions {
    /// The default address.
    pub const DEFAULT_ADDRESS: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 8080);

    /// Sets the address; port 0 takes a free port. Default: [`Self::DEFAULT_ADDRESS`], or a free port on the same
    /// interface if that is taken. An address set here is never replaced by another one.
    #[must_use]
    pub fn listen(mut self, address: SocketAddr) -> Self {
        self.listen = Some(address);
        self
    }

    /// The maximum number of channels with their own line; all others share the line [`OTHER`](crate::OTHER). When the
    /// table is full, a new channel replaces the one that was silent for longest, if that was at least a minute.
    /// Default: 500. Cost: about 5 KB and the name for each channel after an hour, of which its history takes 3.6 KB, and up
    /// to 10 lines of metrics.
    #[must_use]
    pub fn max_channels(mut self, channels: usize) -> Self {
        self.max_channels = channels;
        self
    }

    /// The options of the observer's inbox. Default: [`Self::observer_inbox`].
    #[must_use]
    pub fn inbox(mut self, options: InboxOptions) -> Self {
        self.inbox = options;
        self
    }

    /// Whether to detect related channels, periodic streams, missing beats, polling and retry storms. Default: true.
    /// Cost: another inbox, and half a microsecond a wave for up to 30,000 waves a second; beyond that rate the cost
    /// stays constant.
    #[must_use]
    pub fn physics(mut self, looks: bool) -> Self {
        self.physics = looks;
        self
    }

    /// Whether the pages and other programs may emit and ask through the gateway: without tokens everybody on a loopback
    /// address, otherwise holders of a token for it ([`Access`](crate::Access)). Default: true.
    #[must_use]
    pub fn emits(mut self, emits: bool) -> Self {
        self.emits = emits;
        self
    }

    /// Whether the gateway may listen where others than programs of this machine reach it although it has neither
    /// [tokens](crate::Access) nor asks for certificates. Everybody who connects may then read names and numbers, and use
    /// fields where there is neither a token nor a listed certificate; waves need a token all the same. Default: false,
    /// so that [`Gateway::start`](crate::Gateway::start) refuses, and where there are tokens, reading needs one.
    #[must_use]
    pub fn insecure(mut self, is_insecure: bool) -> Self {
        self.insecure = is_insecure;
        self
    }

    /// Sets a callback for each observed wave, including questions and answers. It runs in the observer's task, so keep
    /// it short.
    #[must_use]
    pub fn on_wave(mut self, callback: impl FnMut(&Wave) + Send + 'static) -> Self {
        self.on_wave = Some(Box::new(callback));
        self
    }

    /// Serves these fields over WebSocket, at `/field/{name}/ws`. Default: none.
    #[must_use]
    pub fn fields(mut self, fields: FieldOptions) -> Self {
        self.fields = fields;
        self
    }

    /// Serves the demos at `/demos/`. They share the field `demo`. Default: false.
    #[must_use]
    pub fn demos(mut self, serves: bool) -> Self {
        self.demos = serves;
        self
    }

    /// Serves everything over TLS. Default: without.
    #[must_use]
    pub fn tls(mut self, tls: Option<Tls>) -> Self {
        self.tls = tls;
        self
    }

    /// Proxies that pass on the addresses of their clients in the header `X-Forwarded-For`. The use of one address is
    /// then bounded for each client behind them, and not for all of them together. The header is believed from these
    /// addresses only, so let nobody else reach the gateway from them. It opens nothing: requests through a proxy need
    /// a token as before. Default: none.
    #[must_use]
    pub fn trusted_proxies(mut self, proxies: impl IntoIterator<Item = TrustedProxy>) -> Self {
        self.trusted_proxies = proxies.into_iter().collect();
        self
    }

    /// Records rates, losses and incidents in this file, for `aether report`. Default: none. Cost: some milliseconds a
    /// minute.
    #[must_use]
    pub fn archive(mut self, archive: Option<Archive>) -> Self {
        self.archive = archive;
        self
    }

    /// The tool in which traces are looked at, to which the pages link. Default: none; ids of traces can be copied.
    #[must_use]
    pub fn trace_url(mut self, url: Option<TraceUrl>) -> Self {
        self.trace_url = url;
        self
    }

    /// Shows the durable logs in these folders, their consumers and how far these are behind. Default: none. Cost: the
    /// journals of the consumers and what was stored since are read every five seconds, and at most a tenth of a processor.
    #[must_use]
    pub fn durable(mut self, folders: Vec<LogFolder>) -> Self {
        self.durable = folders;
        self
    }

    /// Opens what waits in sealed ones of these logs with the keys in this file. Default: none; only the counts are shown.
    #[must_use]
    pub fn durable_keys(mut self, keys: Option<PathBuf>) -> Self {
        self.durable_keys = keys;
        self
    }

    /// Shows the durable logs that these NATS servers keep in JetStream, several addresses separated by commas.
    /// Default: none. Cost: a connection of its own and some requests to the server when somebody asks for the logs or
    /// the metrics, at most once a second.
    #[must_use]
    pub fn jetstream(mut self, url: impl Into<String>, nats: NatsOptions) -> Self {
        self.jetstream = Some(LogServers::new(url, nats));
        self
    }

    /// The inbox of an observer.
    ///
    /// - It sheds when it is full, because watching must never slow those who are watched.
    /// - It has the size of the interactive profile and no sojourn cap: a wave that is counted a moment late is worth
    ///   more than one that is not counted, and the observer takes about a microsecond a wave.
    /// - It is served in the order of arrival: an observer has no strong waves to hurry, and what it shows as the last
    ///   wave of a channel should be the last one.
    #[must_use]
    pub fn observer_inbox() -> InboxOptions {
        InboxOptions::interactive().when_full(WhenFull::Shed).order(ServeOrder::Arrival)
    }
}

impl Default for GatewayOptions {
    fn default() -> Self {
        Self {
            listen: None,
            max_channels: 500,
            inbox: Self::observer_inbox(),
            physics: true,
            emits: true,
            insecure: false,
            on_wave: None,
            fields: FieldOptions::default(),
            demos: false,
            tls: None,
            trusted_proxies: TrustedProxies::default(),
            archive: None,
            trace_url: None,
            durable: Vec::new(),
            durable_keys: None,
            jetstream: None,
        }
    }
}

impl fmt::Debug for GatewayOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GatewayOptions")
            .field("listen", &self.listen)
            .field("demos", &self.demos)
            .field("max_channels", &self.max_channels)
            .field("inbox", &self.inbox)
            .field("physics", &self.physics)
            .finish_non_exhaustive()
    }
}
