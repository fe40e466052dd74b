//! The session with Zenoh: configuration, keys, and what is put on the network.
//!
//! Each process hears one key, `aether/REALM/NODE/in`, and shows a liveliness token, `aether/REALM/NODE`. The realm is
//! derived from the secret, so processes with another secret are told nothing. A router shows `aether-router/ID`. Everything here may block for as long as
//! Zenoh has no room, so it is called by the tasks of the medium's own runtime only.

use std::collections::HashSet;
use std::path::PathBuf;
use std::sync::Arc;

use zenoh::config::WhatAmI;
use zenoh::liveliness::LivelinessToken;
use zenoh::pubsub::Subscriber;
use zenoh::qos::CongestionControl;
use zenoh::sample::SampleKind;
use zenoh::scouting::{Hello, Scout};
use zenoh::{Config, Session};

use super::address::LanAddress;
use super::arrivals::Arrivals;
use super::error::LanError;
use super::lane::Lane;
use super::node::{LanChange, LanNode};

/// A connection over which nothing came for this long is broken. Zenoh says something four times as often.
const LEASE_MILLIS: u64 = 3000;
/// A connection that takes nothing for this long is closed, and so does not hold up the others for longer. What was on it
/// is lost and counted by its receiver. At 1 Mbit/s the queue of a priority, 128 KiB, leaves in 1 s.
const STUCK_MICROS: u64 = 2_000_000;
/// The longest message of a peer, which Zenoh puts together from fragments.
const MAX_MESSAGE: usize = 16 << 20;
/// How long others are looked for before the first of them is expected to have answered.
const SCOUT_MILLIS: u64 = 300;
/// Between the first attempts to reach a router again; the pause doubles twice.
const RETRY_MILLIS: u64 = 250;
/// A connection has to introduce itself within this time. Those that say nothing are so many at most: more would take the place
/// of peers. A handshake takes two round trips, and TCP repeats a lost packet twice within 0.6 s.
const INTRODUCED_MILLIS: u64 = 2000;
const MAX_NOT_INTRODUCED: usize = 1024;
/// As many peers as the table has room for.
const MAX_SESSIONS: usize = super::peers::MAX_PEERS;

/// Certificates for `tls/` endpoints.
#[derive(Debug, Clone)]
pub(super) struct Certificates {
    pub(super) authorities: PathBuf,
    pub(super) certificate: PathBuf,
    pub(super) key: PathBuf,
}

/// The session.
pub(super) struct Net {
    session: Session,
    realm: String,
}

/// What ends with the session: the subscriptions and the token.
pub(super) struct Declared {
    _data: Subscriber<()>,
    _others: Subscriber<()>,
    _token: LivelinessToken,
}

/// The same of a router.
pub(super) struct RouterDeclared {
    _processes: Subscriber<()>,
    _routers: Subscriber<()>,
    _token: LivelinessToken,
}

/// The longest name of a realm: an id of a key has 16 characters.
const MAX_REALM: usize = 32;

fn failed(step: &'static str) -> impl Fn(zenoh::Error) -> LanError {
    move |source| LanError::Zenoh { step, source }
}

/// The role of the session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    Process,
    Router,
}

fn config(
    address: &LanAddress,
    role: Role,
    certificates: Option<&Certificates>,
) -> Result<Config, zenoh::Error> {
    let mut config = Config::default();
    let mut set = |key: &str, value: serde_json::Value| config.insert_json5(key, &value.to_string());
    // A router of Zenoh connects clients with everybody. Peers it leaves to connect with each other, which two networks may
    // not allow.
    let mode = match role {
        Role::Router => "router",
        Role::Process if address.is_by_router() => "client",
        Role::Process => "peer",
    };
    set("mode", mode.into())?;
    set("connect/endpoints", address.connect().into())?;
    if mode == "client" {
        let retry = serde_json::json!({ "period_init_ms": RETRY_MILLIS, "period_max_ms": 4 * RETRY_MILLIS });
        set("connect/retry", retry)?;
    }
    if !address.listen.is_empty() {
        set("listen/endpoints", address.listen.clone().into())?;
    }
    set("scouting/multicast/enabled", (!address.no_multicast).into())?;
    set("scouting/delay", SCOUT_MILLIS.into())?;
    if let Some(interface) = &address.interface {
        set("scouting/multicast/interface", interface.clone().into())?;
    }
    set("transport/unicast/max_sessions", MAX_SESSIONS.into())?;
    set("transport/unicast/accept_timeout", INTRODUCED_MILLIS.into())?;
    set("transport/unicast/accept_pending", MAX_NOT_INTRODUCED.into())?;
    set("transport/link/tx/lease", LEASE_MILLIS.into())?;
    set("transport/link/tx/queue/congestion_control/block/wait_before_close", STUCK_MICROS.into())?;
    set("transport/link/rx/max_message_size", MAX_MESSAGE.into())?;
    if let Some(Certificates { authorities, certificate, key }) = certificates {
        let text = |path: &PathBuf| serde_json::Value::from(path.display().to_string());
        set("transport/link/tls/root_ca_certificate", text(authorities))?;
        for side in ["listen", "connect"] {
            set(&format!("transport/link/tls/{side}_certificate"), text(certificate))?;
            set(&format!("transport/link/tls/{side}_private_key"), text(key))?;
        }
        set("transport/link/tls/enable_mtls", true.into())?;
    }
    Ok(config)
}

impl Net {
    pub(super) async fn open(
        address: &LanAddress,
        role: Role,
        certificates: Option<&Certificates>,
        realm: String,
    ) -> Result<Self, LanError> {
        let config = config(address, role, certificates).map_err(failed("its configuration is not valid"))?;
        let session = zenoh::open(config).await.map_err(|source| match role {
            Role::Process if address.is_by_router() => {
                LanError::NoRouter { routers: address.routers.clone(), source }
            }
            _ => failed("cannot listen or connect")(source),
        })?;
        Ok(Self { session, realm })
    }

    /// Hears what comes for a node, and calls back with each other node of the realm that comes (true) or goes (false).
    pub(super) async fn declare(
        &self,
        node: u64,
        arrivals: Arc<Arrivals>,
        on_node: impl Fn(u64, bool) + Send + Sync + 'static,
    ) -> Result<Declared, LanError> {
        let data = self
            .session
            .declare_subscriber(self.key(node))
            .callback(move |sample| arrivals.bring(sample.payload().to_bytes().into_owned().into()))
            .await
            .map_err(failed("cannot subscribe"))?;
        // The token comes after the subscription, so that whoever sees it can reach this node.
        let liveliness = self.session.liveliness();
        let token = liveliness.declare_token(self.token(node)).await.map_err(failed("cannot be seen"))?;
        let others = liveliness
            .declare_subscriber(format!("aether/{}/*", self.realm))
            .history(true)
            .callback(move |sample| {
                let name = sample.key_expr().as_str().rsplit('/').next();
                let other = name.and_then(|name| u64::from_str_radix(name, 16).ok());
                if let Some(other) = other.filter(|other| *other != node) {
                    on_node(other, sample.kind() == SampleKind::Put);
                }
            })
            .await
            .map_err(failed("cannot see others"))?;
        Ok(Declared { _data: data, _others: others, _token: token })
    }

    /// The nodes of the realm whose tokens are seen now.
    pub(super) async fn nodes(&self) -> Vec<u64> {
        let liveliness = self.session.liveliness();
        let Ok(replies) = liveliness.get(format!("aether/{}/*", self.realm)).await else { return Vec::new() };
        let mut nodes = Vec::new();
        while let Ok(reply) = replies.recv_async().await {
            let name = reply.result().ok().and_then(|sample| sample.key_expr().as_str().rsplit('/').next());
            nodes.extend(name.and_then(|name| u64::from_str_radix(name, 16).ok()));
        }
        nodes
    }

    /// The realms that are seen now, with the number of nodes of each. Their names tell nothing but that they differ.
    pub(super) async fn realms(&self) -> Vec<(String, usize)> {
        let Ok(replies) = self.session.liveliness().get("aether/*/*").await else { return Vec::new() };
        let mut realms = std::collections::BTreeMap::<String, usize>::new();
        while let Ok(reply) = replies.recv_async().await {
            if let Ok(sample) = reply.result()
                && let Some(realm) = sample.key_expr().as_str().split('/').nth(1)
            {
                *realms.entry(realm.to_owned()).or_default() += 1;
            }
        }
        realms.into_iter().collect()
    }

    /// Shows a token of a router, and calls back with each process of any realm and each other router that comes or goes.
    pub(super) async fn declare_router(
        &self,
        on_change: impl Fn(LanChange) + Send + Sync + 'static,
    ) -> Result<RouterDeclared, LanError> {
        let own = self.id();
        let liveliness = self.session.liveliness();
        let token = liveliness.declare_token(format!("aether-router/{own}"));
        let token = token.await.map_err(failed("cannot be seen"))?;
        let on_change = Arc::new(on_change);
        let on_process = Arc::clone(&on_change);
        let processes = liveliness
            .declare_subscriber("aether/*/*")
            .history(true)
            .callback(move |sample| {
                if let Some(who) = process_of(sample.key_expr().as_str()) {
                    on_process(LanChange { who, is_there: sample.kind() == SampleKind::Put });
                }
            })
            .await
            .map_err(failed("cannot see processes"))?;
        let routers = liveliness
            .declare_subscriber("aether-router/*")
            .history(true)
            .callback(move |sample| {
                let id = sample.key_expr().as_str().rsplit('/').next().unwrap_or_default();
                if id != own && is_plain(id) {
                    let who = LanNode::Router { id: id.to_owned() };
                    on_change(LanChange { who, is_there: sample.kind() == SampleKind::Put });
                }
            })
            .await
            .map_err(failed("cannot see other routers"))?;
        Ok(RouterDeclared { _processes: processes, _routers: routers, _token: token })
    }

    /// The number of this session in the network of Zenoh.
    pub(super) fn id(&self) -> String {
        self.session.zid().to_string()
    }

    /// The numbers of the processes and routers that Zenoh is connected to.
    pub(super) async fn connected(&self) -> HashSet<String> {
        let info = self.session.info();
        let ids = info.peers_zid().await.chain(info.routers_zid().await);
        ids.map(|id| id.to_string()).collect()
    }

    /// The number of processes and of routers that Zenoh is connected to, whatever they are.
    pub(super) async fn surroundings(&self) -> (usize, usize) {
        let info = self.session.info();
        (info.peers_zid().await.count(), info.routers_zid().await.count())
    }

    /// Sends bytes to a node. Blocks until Zenoh has room. Returns false if the session has ended. `is_last`: nothing
    /// follows at once that could share a packet.
    pub(super) fn put(&self, to: u64, lane: Lane, bytes: Vec<u8>, is_last: bool) -> bool {
        use zenoh::Wait as _;
        self.session
            .put(self.key(to), bytes)
            .congestion_control(CongestionControl::Block)
            .priority(lane.priority())
            .express(is_last)
            .wait()
            .inspect_err(|error| tracing::debug!(%error, "a message was not sent"))
            .is_ok()
    }

    fn key(&self, node: u64) -> String {
        format!("aether/{}/{node:016x}/in", self.realm)
    }

    fn token(&self, node: u64) -> String {
        format!("aether/{}/{node:016x}", self.realm)
    }

    pub(super) async fn close(&self) {
        if let Err(error) = self.session.close().await {
            tracing::debug!(%error, "the session with the network did not close well");
        }
    }
}

/// Asks by multicast who is there, on the interface of an address, until the scout is dropped.
pub(super) async fn scout(
    address: &LanAddress,
    on_hello: impl Fn(Hello) + Send + Sync + 'static,
) -> Result<Scout<()>, LanError> {
    let config = config(address, Role::Process, None).map_err(failed("its configuration is not valid"))?;
    let asked = zenoh::scout(WhatAmI::Peer | WhatAmI::Router, config).callback(on_hello).await;
    asked.map_err(failed("cannot ask by multicast"))
}

/// Whether a part of a key is short and has nothing but letters and digits, as ids and realms do.
fn is_plain(part: &str) -> bool {
    part.len() <= MAX_REALM && part.bytes().all(|byte| byte.is_ascii_alphanumeric())
}

/// The process of a token.
fn process_of(key: &str) -> Option<LanNode> {
    let mut parts = key.split('/').skip(1);
    let (realm, node) = (parts.next()?, parts.next()?);
    let node = u64::from_str_radix(node, 16).ok()?;
    is_plain(realm).then(|| LanNode::Process { node, realm: realm.to_owned() })
}
