//! The session with Zenoh: configuration, keys, and what is put on the network.
//!
//! Each process hears one key, `aether/REALM/NODE/in`, and shows a liveliness token, `aether/REALM/NODE` and a proof,
//! in the realm of each of its keys ([`Realms`]). A realm is derived from a key, so processes with another secret learn
//! nothing. A message goes in the realm of the key that seals it: whoever can open it hears it there, also while
//! keys are rotated. A router shows `aether-router/ID`. Everything here may block for as long as Zenoh has no room, so
//! it is called by the tasks of the medium's own runtime only.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::path::PathBuf;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::oneshot;
use zenoh::config::WhatAmI;
use zenoh::liveliness::LivelinessToken;
use zenoh::pubsub::Subscriber;
use zenoh::qos::CongestionControl;
use zenoh::sample::SampleKind;
use zenoh::scouting::{Hello, Scout};
use zenoh::{Config, Session};

use super::node::{LanChange, LanNode};
use super::priority::priority_of;
use super::realms::Realms;
use crate::address::{LanAddress, Protocol};
use crate::error::LanError;
use crate::lane::Lane;
use crate::network::LanProcess;
use crate::surroundings::LanSurroundings;
use aether_seal::SealKeys;

/// A connection over which nothing came for this long is broken. Zenoh sends something four times as often.
const LEASE_MILLIS: u64 = 3000;
/// A connection that takes nothing for this long is closed, and so does not hold up the others for longer. Messages on it
/// are lost and counted by the receiver. At 1 Mbit/s the queue of a priority, 128 KiB, leaves in 1 s.
const STUCK_MICROS: u64 = 2_000_000;
/// The longest message of a peer, which Zenoh puts together from fragments.
const MAX_MESSAGE: usize = 16 << 20;
/// How long others are looked for before the first of them is expected to have answered.
const SCOUT_MILLIS: u64 = 300;
/// Between the first attempts to reach a router or a named peer; the pause doubles twice.
const RETRY_MILLIS: u64 = 250;
/// A connection has to introduce itself within this time. The number that may say nothing is bounded: more would take
/// the place of peers. A handshake takes two round trips, and TCP repeats a lost packet twice within 0.6 s.
const INTRODUCED_MILLIS: u64 = 2000;
const MAX_NOT_INTRODUCED: usize = 1024;
/// As many peers as the table has room for.
const MAX_SESSIONS: usize = crate::table::MAX_PEERS;

/// Certificates for `quic/` endpoints.
#[derive(Debug, Clone)]
pub(crate) struct Certificates {
    pub(crate) authorities: PathBuf,
    pub(crate) certificate: PathBuf,
    pub(crate) key: PathBuf,
}

/// How a process or a router with these certificates, or without any, connects.
pub(crate) const fn protocol_of(certificates: Option<&Certificates>) -> Protocol {
    if certificates.is_some() { Protocol::Quic } else { Protocol::Tcp }
}

/// The needs of a process that enters the network.
pub(crate) struct Entrance {
    pub(crate) address: LanAddress,
    pub(crate) certificates: Option<Certificates>,
    /// The keys of its secret, if there is one.
    pub(crate) keys: Option<SealKeys>,
}

impl Entrance {
    /// Enters, hears what comes for the process, and shows it to others.
    pub(crate) async fn enter(self, process: &LanProcess) -> Result<ZenohNet, LanError> {
        let Self { address, certificates, keys } = self;
        let realms = Realms::of(keys.as_ref());
        let net = ZenohNet::open(address, Role::Process, certificates.as_ref(), realms).await?;
        let declared = net.declare(process).await?;
        *net.declared.lock() = Some(declared);
        Ok(net)
    }
}

/// The session.
pub(crate) struct ZenohNet {
    session: Session,
    pub(super) address: LanAddress,
    /// Of each key. The first one belongs to the key that seals. Empty in a router.
    realms: Realms,
    seen: Arc<Seen>,
    /// Of a process, until it leaves.
    declared: Mutex<Option<Declared>>,
}

/// The nodes of our realms whose tokens the subscriptions brought, this node included. The answer of Zenoh to the question
/// which tokens there are lacks some that a subscription brings or has brought: in Zenoh 1.10 the end of the answer can
/// overtake them (`propagate_current_token` and `Face::interest` in its `net/routing`). A subscription brings those
/// that the routers and peers know before the end of such an answer.
#[derive(Default)]
struct Seen(Mutex<BTreeMap<String, HashSet<u64>>>);

impl Seen {
    fn note(&self, realm: &str, node: u64, is_there: bool) {
        let mut realms = self.0.lock();
        let nodes = realms.entry(realm.to_owned()).or_default();
        if !is_there {
            nodes.remove(&node);
        } else if nodes.len() < MAX_TOKENS {
            nodes.insert(node);
        }
    }
}

/// Subscriptions and tokens, which end with the session.
struct Declared {
    _subscribers: Vec<Subscriber<()>>,
    _tokens: Vec<LivelinessToken>,
}

/// The same of a router.
pub(super) struct RouterDeclared {
    _processes: Subscriber<()>,
    _routers: Subscriber<()>,
    _token: LivelinessToken,
}

/// The longest name of a realm: an id of a key has 16 characters.
const MAX_REALM: usize = 32;
/// The tokens that are looked at. They are not authenticated: anybody can show as many as they like.
const MAX_TOKENS: usize = 8192;
/// The realms that are distinguished.
const MAX_REALMS: usize = 256;

fn failed(step: &'static str) -> impl Fn(zenoh::Error) -> LanError {
    move |source| LanError::Network { step, source }
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
    set("connect/endpoints", of_one_stream(&address.connect()).into())?;
    let retry = serde_json::json!({ "period_init_ms": RETRY_MILLIS, "period_max_ms": 4 * RETRY_MILLIS });
    set("connect/retry", retry)?;
    if !address.listen.is_empty() {
        set("listen/endpoints", of_one_stream(&address.listen).into())?;
    }
    set("scouting/multicast/enabled", (!address.no_multicast).into())?;
    set("scouting/delay", SCOUT_MILLIS.into())?;
    if let Some(interface) = &address.interface {
        set("scouting/multicast/interface", interface.clone().into())?;
    }
    set("transport/unicast/max_sessions", MAX_SESSIONS.into())?;
    set("transport/unicast/open_timeout", INTRODUCED_MILLIS.into())?;
    set("transport/unicast/accept_timeout", INTRODUCED_MILLIS.into())?;
    set("transport/unicast/accept_pending", MAX_NOT_INTRODUCED.into())?;
    set("transport/link/tx/lease", LEASE_MILLIS.into())?;
    set("transport/link/tx/queue/congestion_control/block/wait_before_close", STUCK_MICROS.into())?;
    set("transport/link/rx/max_message_size", MAX_MESSAGE.into())?;
    if let Some(Certificates { authorities, certificate, key }) = certificates {
        let text = |path: &PathBuf| serde_json::Value::from(path.display().to_string());
        // Also those whom others claim to be found at.
        set("transport/link/protocols", serde_json::json!([Protocol::Quic.name()]))?;
        set("transport/link/tls/root_ca_certificate", text(authorities))?;
        for side in ["listen", "connect"] {
            set(&format!("transport/link/tls/{side}_certificate"), text(certificate))?;
            set(&format!("transport/link/tls/{side}_private_key"), text(key))?;
        }
        set("transport/link/tls/enable_mtls", true.into())?;
    }
    Ok(config)
}

/// Endpoints of QUIC with one stream instead of one for each priority: a ping confirms everything that was sent before
/// it, in all priorities, and must overtake nothing.
fn of_one_stream(endpoints: &[String]) -> Vec<String> {
    let quic = format!("{}/", Protocol::Quic.name());
    let of_one = |endpoint: &String| match endpoint.starts_with(&quic) {
        true => format!("{endpoint}?multistream=0"),
        false => endpoint.clone(),
    };
    endpoints.iter().map(of_one).collect()
}

impl ZenohNet {
    pub(super) async fn open(
        address: LanAddress,
        role: Role,
        certificates: Option<&Certificates>,
        realms: Realms,
    ) -> Result<Self, LanError> {
        let config =
            config(&address, role, certificates).map_err(failed("its configuration is not valid"))?;
        let session = zenoh::open(config).await.map_err(|source| match role {
            Role::Process if address.is_by_router() => {
                LanError::NoRouter { routers: address.routers.clone(), source }
            }
            _ => failed("cannot listen or connect")(source),
        })?;
        Ok(Self { session, address, realms, seen: Arc::default(), declared: Mutex::default() })
    }

    /// Hears what comes for a process, shows it, and shows it each other node of the realms that comes or goes; once for
    /// each realm that the other one shows itself in.
    async fn declare(&self, process: &LanProcess) -> Result<Declared, LanError> {
        let node = process.node();
        let (mut subscribers, mut tokens) = (Vec::new(), Vec::new());
        for realm in self.realms.names() {
            let process = process.clone();
            let data = self
                .session
                .declare_subscriber(Realms::key_in(realm, node))
                .callback(move |sample| {
                    process.bring_in_place(sample.payload().to_bytes().into_owned().into())
                })
                .await;
            subscribers.push(data.map_err(failed("cannot subscribe"))?);
        }
        // The tokens come after the subscriptions, so that whoever sees one can reach this node.
        let liveliness = self.session.liveliness();
        for realm in self.realms.names() {
            let token = liveliness.declare_token(self.realms.token(realm, node)).await;
            tokens.push(token.map_err(failed("cannot be seen"))?);
        }
        for realm in self.realms.names() {
            let (process, seen, realms) = (process.clone(), Arc::clone(&self.seen), self.realms.clone());
            let others = liveliness
                .declare_subscriber(format!("aether/{realm}/*"))
                .history(true)
                .callback(move |sample| {
                    let Some((realm, other)) = realms.read(sample.key_expr().as_str()) else { return };
                    let is_there = sample.kind() == SampleKind::Put;
                    seen.note(realm, other, is_there);
                    process.show(other, is_there);
                })
                .await;
            subscribers.push(others.map_err(failed("cannot see others"))?);
        }
        Ok(Declared { _subscribers: subscribers, _tokens: tokens })
    }

    /// The tokens that Zenoh names and that match a key expression, at most [`MAX_TOKENS`], as realm and node. When it
    /// returns, the subscriptions have brought what was there before it was called.
    async fn tokens(&self, expression: &str) -> Vec<(String, u64)> {
        let tokens = Arc::<Mutex<Vec<(String, u64)>>>::default();
        let (end, ended) = oneshot::channel::<()>();
        // Not through a channel that can be full: Zenoh hands over what it knows at once, with the session locked.
        let asked = self.session.liveliness().get(expression).callback({
            let (realms, tokens) = (self.realms.clone(), Arc::clone(&tokens));
            move |reply| {
                // Dropped with this closure, after the last reply.
                let _ = &end;
                let process =
                    reply.result().ok().and_then(|sample| process_of(&realms, sample.key_expr().as_str()));
                let mut tokens = tokens.lock();
                if let Some(LanNode::Process { node, realm }) = process
                    && tokens.len() < MAX_TOKENS
                {
                    tokens.push((realm, node));
                }
            }
        });
        if asked.await.is_ok() {
            let _ = ended.await;
        }
        std::mem::take(&mut *tokens.lock())
    }

    /// The nodes of our realms whose tokens are seen now.
    pub(crate) async fn nodes(&self) -> Vec<u64> {
        let mut nodes = BTreeSet::new();
        for realm in self.realms.names() {
            nodes.extend(self.tokens(&format!("aether/{realm}/*")).await.into_iter().map(|(_, node)| node));
        }
        nodes.extend(self.seen.0.lock().values().flatten());
        nodes.into_iter().collect()
    }

    /// The realms that are seen now, with the nodes of each. Their names tell nothing but that they differ.
    async fn all_realms(&self) -> BTreeMap<String, HashSet<u64>> {
        let tokens = self.tokens("aether/*/*").await;
        let mut realms = self.seen.0.lock().clone();
        for (realm, node) in tokens {
            if realms.len() < MAX_REALMS || realms.contains_key(&realm) {
                realms.entry(realm).or_default().insert(node);
            }
        }
        realms
    }

    /// The processes and routers that Zenoh sees.
    pub(crate) async fn surroundings(&self) -> LanSurroundings {
        let (peers, routers) = self.connections().await;
        let mut seen = LanSurroundings { peers, routers, ..LanSurroundings::default() };
        let realms = self.all_realms().await;
        let is_own = |realm: &String| self.realms.has(realm);
        let ours: HashSet<u64> =
            realms.iter().filter(|(realm, _)| is_own(realm)).flat_map(|(_, nodes)| nodes).copied().collect();
        seen.same_secret = ours.len();
        // One that also has a key of ours, and others, is counted once.
        let mut others: HashSet<u64> = HashSet::new();
        for (realm, nodes) in realms.iter().filter(|(realm, _)| !is_own(realm)) {
            let strangers = nodes.difference(&ours);
            match Realms::is_open(realm) {
                true => seen.no_secret += strangers.count(),
                false => others.extend(strangers),
            }
        }
        seen.other_secret = others.len();
        seen
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
        let (on_process, realms) = (Arc::clone(&on_change), self.realms.clone());
        let processes = liveliness
            .declare_subscriber("aether/*/*")
            .history(true)
            .callback(move |sample| {
                if let Some(who) = process_of(&realms, sample.key_expr().as_str()) {
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
    pub(super) async fn connections(&self) -> (usize, usize) {
        let info = self.session.info();
        (info.peers_zid().await.count(), info.routers_zid().await.count())
    }

    /// Sends bytes to a node. Blocks until Zenoh has room. Returns false if the session has ended. `is_last`: nothing
    /// follows at once that could share a packet.
    pub(crate) fn put(&self, to: u64, lane: Lane, bytes: Vec<u8>, is_last: bool) -> bool {
        use zenoh::Wait as _;
        self.session
            .put(self.key(to), bytes)
            .congestion_control(CongestionControl::Block)
            .priority(priority_of(lane))
            .express(is_last)
            .wait()
            .inspect_err(|error| tracing::debug!(%error, "a message was not sent"))
            .is_ok()
    }

    /// The same for a node that takes nothing at the moment, without waiting: what finds no room is lost.
    pub(crate) fn offer(&self, to: u64, lane: Lane, bytes: Vec<u8>) -> bool {
        use zenoh::Wait as _;
        self.session
            .put(self.key(to), bytes)
            .congestion_control(CongestionControl::Drop)
            .priority(priority_of(lane))
            .express(true)
            .wait()
            .is_ok()
    }

    /// Where a node hears what is sealed with our key.
    fn key(&self, node: u64) -> String {
        self.realms.key(node)
    }

    pub(crate) async fn close(&self) {
        drop(self.declared.lock().take());
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
fn process_of(realms: &Realms, token: &str) -> Option<LanNode> {
    let (realm, node) = realms.read(token)?;
    is_plain(realm).then(|| LanNode::Process { node, realm: realm.to_owned() })
}
