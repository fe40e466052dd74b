//! A peer that is made by hand: it has the key, and sends what no process would send.

use aether::seal::{Role, Sealer};
use zenoh::Session;

use super::*;

/// Its number, and the lane of what keeps the peers together.
const NODE: u64 = 0x1000;
const CONTROL: u8 = 1;
/// The kinds of messages.
const WAVES: u8 = 1;
const TABLE: u8 = 7;
const KNOWN: u8 = 8;
const PING: u8 = 10;
const PONG: u8 = 11;
const BYE: u8 = 12;

struct Pretender {
    session: Session,
    sealer: Sealer,
    realm: String,
    /// The process that it talks to.
    victim: u64,
}

impl Pretender {
    /// Connects to the only process that listens on a port.
    async fn connect(port: u16, keys: &SealKeys) -> Self {
        let mut config = zenoh::Config::default();
        let mut set = |key: &str, value: &str| config.insert_json5(key, value).unwrap();
        set("mode", "\"peer\"");
        set("scouting/multicast/enabled", "false");
        set("listen/endpoints", "[]");
        set("connect/endpoints", &format!("[\"tcp/127.0.0.1:{port}\"]"));
        let session = zenoh::open(config).await.unwrap();
        let victim = loop {
            let tokens = session.liveliness().get("aether/*/*").await.unwrap();
            if let Ok(token) = tokens.recv_async().await {
                break token.result().unwrap().key_expr().to_string();
            }
        };
        let [_, realm, node] = victim.split('/').collect::<Vec<_>>()[..] else { panic!("{victim}") };
        assert_eq!(realm, keys.ids().next().unwrap().0.to_string());
        let (realm, victim) = (realm.to_owned(), u64::from_str_radix(&node[..16], 16).unwrap());
        Self { session, sealer: Sealer::new(keys.clone()).unwrap(), realm, victim }
    }

    /// Sends a message of a version and a kind.
    async fn say_as(&self, version: u8, lane: u8, kind: u8, rest: &[u8]) {
        let Self { session, sealer, realm, victim } = self;
        let inner = [&[version, kind][..], &NODE.to_be_bytes(), rest].concat();
        let sealed = sealer.seal(Role::Control, &format!("{victim:016x}.{lane}"), "", &inner).unwrap();
        let message = [&[lane][..], &sealed].concat();
        session.put(format!("aether/{realm}/{victim:016x}/in"), message).await.unwrap();
    }

    async fn say(&self, kind: u8, rest: &[u8]) {
        self.say_as(2, CONTROL, kind, rest).await;
    }

    async fn introduce(&self, version: u64) {
        let table = format!(r#"{{"version":{version},"name":"pretender on paper","added":[]}}"#);
        self.say(TABLE, table.as_bytes()).await;
    }

    async fn ping(&self, number: u64) {
        self.say(PING, &[&number.to_be_bytes()[..], &[0; 8], &[0; 4], &[0; 48]].concat()).await;
    }
}

async fn with_view(port: u16, keys: &SealKeys) -> (Aether, LanView) {
    connected(port, keys, STAYS).await
}

/// A process for which a peer has gone when it was silent for this long.
async fn connected(port: u16, keys: &SealKeys, gone_after: Duration) -> (Aether, LanView) {
    let view = LanView::default();
    let options = patient().keys(keys.clone()).gone_after(gone_after).view(&view);
    (aether::builder().url(address(port, &[])).options(options).connect().await.unwrap(), view)
}

/// A process that has shown itself and is about to introduce itself may know this one already. It would wait for it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_process_that_ends_says_so_to_those_that_have_not_introduced_themselves_yet() {
    let (port, key) = (free_port(), [9; 32]);
    let keys = SealKeys::from_secret(key);
    let (here, view) = with_view(port, &keys).await;
    let pretender = Pretender::connect(port, &keys).await;
    let Pretender { session, realm, .. } = &pretender;
    let heard = session.declare_subscriber(format!("aether/{realm}/{NODE:016x}/in")).await.unwrap();
    let _shown = session.liveliness().declare_token(super::meeting::token(&key, NODE)).await.unwrap();
    let mut guard = pretender.sealer.guard();
    let mut next = async || {
        let sample = timeout(LONG, heard.recv_async()).await.unwrap().unwrap();
        let message = sample.payload().to_bytes();
        assert_eq!(message[0], CONTROL);
        let address = format!("{NODE:016x}.{CONTROL}");
        let opened = pretender.sealer.open(Role::Control, &address, &message[1..], &mut guard).unwrap();
        opened.frame[1]
    };
    assert_eq!(next().await, TABLE);
    assert!(view.peers().is_empty());
    here.close().await.unwrap();
    // It is shown in no other way that can be trusted.
    while next().await != BYE {}
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_of_another_version_is_counted_and_understood_by_nobody() {
    let (port, keys) = (free_port(), SealKeys::generate().unwrap());
    let (here, view) = with_view(port, &keys).await;
    let pretender = Pretender::connect(port, &keys).await;
    for version in [1, 3] {
        pretender.say_as(version, CONTROL, TABLE, br#"{"version":1,"name":"from another time"}"#).await;
    }
    pretender.introduce(1).await;
    until(&view, LONG, |view| !view.peers().is_empty()).await;
    let seen = view.surroundings().await.unwrap();
    assert_eq!((seen.other_version, here.status().malformed), (2, 2), "{seen:?}");
    let peers = view.peers();
    assert!(peers.len() == 1 && peers[0].name == "pretender" && peers[0].machine == "paper", "{peers:?}");
    // It does not answer.
    assert!(matches!(here.close().await, Err(FlushError::Unanswered { .. })));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn impossible_numbers_of_a_peer_end_nothing() {
    let (port, keys) = (free_port(), SealKeys::generate().unwrap());
    let (here, view) = with_view(port, &keys).await;
    let mut ear = vibrator("ear", &here).await;
    ear.resonate_on("said.*").await.unwrap();
    let pretender = Pretender::connect(port, &keys).await;
    let most = [0xff; 64];
    pretender.introduce(u64::MAX).await;
    until(&view, LONG, |view| !view.peers().is_empty()).await;
    pretender.say(KNOWN, &most[..8]).await;
    // Number, version, way and what was sent; number, clock, way and what is missing, with and without the bit of
    // measurements.
    pretender.say(PING, &most).await;
    pretender.say(PING, &[&most[..], &most[..4]].concat()).await;
    for first in [0xff, 0x7f] {
        pretender.say(PONG, &[&[first], &most[..27]].concat()).await;
    }
    // The last place on the last way, twice, with an empty frame.
    for lane in [2, 7, 7] {
        pretender.say_as(2, lane, WAVES, &most[..12]).await;
    }
    let emitter = here.emitter("emitter").unwrap();
    emitter.emit_bytes("said.this", "it goes on").await.unwrap();
    assert_eq!(timeout(LONG, ear.receive()).await.unwrap().unwrap().text().unwrap(), "it goes on");
    pretender.say(BYE, &most[..12]).await;
    until(&view, LONG, |view| view.peers().is_empty()).await;
    // A ping that is too short, and three frames that are none. The farewell may overtake what comes in other lanes.
    let counted = async {
        while here.status().malformed < 4 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(LONG, counted).await.expect("all are counted");
    let status = here.status();
    assert_eq!((status.malformed, status.unconfirmed, status.refused()), (4, 0, 0), "{status:?}");
    timeout(LONG, flushed(&here)).await.unwrap();
    here.close().await.unwrap();
}

mod long {
    use super::*;

    /// As one whose table is full. Its heartbeat shows that it is there.
    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_join_that_a_peer_never_confirms_ends_and_names_the_peer() {
        let (port, keys) = (free_port(), SealKeys::generate().unwrap());
        // Longer than a heartbeat is late, also on a busy machine.
        let (here, view) = connected(port, &keys, Duration::from_secs(15)).await;
        let pretender = Pretender::connect(port, &keys).await;
        pretender.introduce(1).await;
        until(&view, LONG, |view| !view.peers().is_empty()).await;
        let beating = tokio::spawn(async move {
            let mut beats = tokio::time::interval(Duration::from_secs(1));
            for number in 1.. {
                beats.tick().await;
                pretender.ping(number).await;
            }
        });
        let ear = vibrator("ear", &here).await;
        match timeout(LONG, ear.resonate_on("said.*")).await.expect("the join ends") {
            Err(JoinError::Unconfirmed { peers, within }) => {
                assert_eq!(peers, [format!("pretender on paper ({NODE:016x})")]);
                assert!(within <= Duration::from_secs(10));
            }
            other => panic!("{other:?}"),
        }
        beating.abort();
        // Once it has gone, it is in nobody's way.
        until(&view, LONG, |view| view.peers().is_empty()).await;
        timeout(LONG, ear.resonate_on("said.*")).await.unwrap().unwrap();
        here.close().await.unwrap();
    }
}
