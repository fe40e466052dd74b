//! Two processes' worth of victims, with keys or without: `shop` emits and asks, `ear` hears and answers.

use std::time::Duration;

use aether::nats::NatsOptions;
use aether::seal::{SealKeys, Signers, SigningKey};
use aether_conformance::NatsServer;
use aether_core::{Aether, InboxOptions, Vibrator};
use tokio::time::timeout;

/// A bound for what takes seconds on a busy machine. No test waits for it to elapse.
pub(crate) const PATIENCE: Duration = Duration::from_secs(120);

pub(crate) async fn within<T>(what: &str, wait: impl Future<Output = T>) -> T {
    timeout(PATIENCE, wait).await.unwrap_or_else(|_| panic!("{what} takes too long"))
}

/// How many times as much as in the tests of each day: `AETHER_ATTACKS=20`, in release, for the figures of
/// docs/internals/attacks.md.
pub(crate) fn scale() -> u64 {
    std::env::var("AETHER_ATTACKS").ok().and_then(|text| text.parse().ok()).unwrap_or(1)
}

/// The memory of this process.
pub(crate) fn resident_bytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap_or_default();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap_or_default() << 10
}

pub(crate) struct Victims {
    pub(crate) server: NatsServer,
    pub(crate) has_keys: bool,
    pub(crate) here: Aether,
    pub(crate) there: Aether,
    pub(crate) shop: Vibrator,
    pub(crate) ear: Option<Vibrator>,
}

impl Victims {
    /// `ear` in `there` hears `shop.*`, which `shop` in `here` emits. With keys both also sign.
    pub(crate) async fn new(has_keys: bool) -> Self {
        let server = NatsServer::start().await.unwrap();
        let (keys, key) = (SealKeys::generate().unwrap(), SigningKey::generate().unwrap());
        let signers = Signers::new().allow("*", key.public_key()).unwrap();
        let options = match has_keys {
            true => NatsOptions::default().keys(keys).signing_key(key).signers(signers),
            false => NatsOptions::default(),
        };
        let connect =
            async || aether::builder().url(server.url()).options(options.clone()).connect().await.unwrap();
        let (here, there) = (connect().await, connect().await);
        let ear = Vibrator::builder("ear").inbox(InboxOptions::interactive()).create(&there).await.unwrap();
        ear.resonate_on("shop.*").await.unwrap();
        let shop = Vibrator::builder("shop").respect_floor().create(&here).await.unwrap();
        Self { server, has_keys, here, there, shop, ear: Some(ear) }
    }

    /// `with keys` or `without`.
    pub(crate) const fn mode(&self) -> &'static str {
        if self.has_keys { "with keys" } else { "without keys" }
    }
}
