//! Connections over QUIC: both sides have to show a certificate.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use aether::lan::{LanError, LanOptions, LanRouter, LanView};
use aether_core::{Aether, Vibrator, Wave};
use futures::future::join_all;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use tokio::net::UdpSocket;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use crate::lan::{LONG, SECRET, free_port, met, patient, until, vibrator};
use crate::settling::flushed;

/// The files of an authority and of the certificates that it has signed.
struct Authority {
    folder: PathBuf,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    fn new(folder: &Path, name: &str) -> Self {
        let folder = folder.join(name);
        std::fs::create_dir(&folder).unwrap();
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(Vec::<String>::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        std::fs::write(folder.join("authority.pem"), params.self_signed(&key).unwrap().pem()).unwrap();
        Self { folder, issuer: Issuer::new(params, key) }
    }

    /// Signs a certificate of a machine, and returns its file and the file of its key.
    fn sign(&self, machine: &str) -> [PathBuf; 2] {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec!["localhost".to_owned(), "127.0.0.1".to_owned()]).unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        let files = ["pem", "key"].map(|kind| self.folder.join(format!("{machine}.{kind}")));
        std::fs::write(&files[0], certificate.pem()).unwrap();
        std::fs::write(&files[1], key.serialize_pem()).unwrap();
        files
    }

    fn file(&self) -> PathBuf {
        self.folder.join("authority.pem")
    }

    /// The options of a machine that trusts this authority and has a certificate of it.
    fn options(&self, machine: &str) -> LanOptions {
        let [certificate, key] = self.sign(machine);
        patient().secret(SECRET).certificates(self.file(), certificate, key)
    }
}

async fn connected(url: String, options: LanOptions) -> Aether {
    aether::builder().url(url).options(options).connect().await.unwrap()
}

/// The same, of a process that names another one and knows it.
async fn acquainted(url: String, options: LanOptions) -> Aether {
    let view = LanView::default();
    let aether = connected(url, options.view(&view)).await;
    met(&aether, &view, 1).await;
    aether
}

fn url(port: u16, other: Option<u16>) -> String {
    let peer = other.map(|other| format!("&peer=quic/127.0.0.1:{other}")).unwrap_or_default();
    format!("lan:?multicast=off&listen=quic/127.0.0.1:{port}{peer}")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_with_certificates_talk_and_one_with_those_of_another_authority_does_not() {
    let folder = tempfile::tempdir().unwrap();
    let (ours, others) = (Authority::new(folder.path(), "ours"), Authority::new(folder.path(), "others"));
    let ports = [free_port(), free_port(), free_port()];
    let there = connected(url(ports[0], None), ours.options("there")).await;
    let here = acquainted(url(ports[1], Some(ports[0])), ours.options("here")).await;
    let mut oracle = vibrator("oracle", &there).await;
    oracle.resonate_on("ask").await.unwrap();
    let question = || Wave::builder("ask").text("?").build().unwrap();
    let asker = here.emitter("asker").unwrap();
    let (answer, ()) = tokio::join!(asker.ask_within(question(), LONG), async {
        timeout(LONG, oracle.receive()).await.unwrap().unwrap().reply(&7).await.unwrap();
    });
    assert_eq!(answer.unwrap().json::<u8>().unwrap(), 7);

    // It knows the secret, and its certificate is signed by somebody else.
    let foreign = connected(url(ports[2], Some(ports[0])), others.options("foreign")).await;
    let asker = foreign.emitter("asker").unwrap();
    let asked = asker.ask_within(question(), LONG).await;
    assert!(matches!(asked, Err(aether_core::AskError::NoResonator { .. })), "{asked:?}");
    for aether in [foreign, here, there] {
        aether.close().await.unwrap();
    }
}

/// How a client of Zenoh tries to get in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Attempt {
    Plain,
    WithoutCertificate,
    WithCertificate,
}

/// Whether a client of Zenoh that trusts the authority is let in.
async fn is_let_in(port: u16, authority: &Authority, attempt: Attempt) -> bool {
    let mut config = zenoh::Config::default();
    let mut set = |key: &str, value: &str| config.insert_json5(key, value).unwrap();
    let text = |path: &Path| format!("{:?}", path.display().to_string());
    let protocol = if attempt == Attempt::Plain { "tcp" } else { "quic" };
    set("mode", "\"client\"");
    set("scouting/multicast/enabled", "false");
    set("connect/endpoints", &format!("[\"{protocol}/127.0.0.1:{port}\"]"));
    set("connect/timeout_ms", "0");
    set("connect/exit_on_failure", "true");
    set("transport/link/tls/root_ca_certificate", &text(&authority.file()));
    if attempt == Attempt::WithCertificate {
        let [certificate, key] = authority.sign("client");
        set("transport/link/tls/connect_certificate", &text(&certificate));
        set("transport/link/tls/connect_private_key", &text(&key));
        set("transport/link/tls/enable_mtls", "true");
    }
    match timeout(LONG, zenoh::open(config)).await.expect("it is let in or refused") {
        Ok(session) => {
            let info = session.info();
            let is_connected = info.peers_zid().await.chain(info.routers_zid().await).count() > 0;
            session.close().await.unwrap();
            is_connected
        }
        Err(_) => false,
    }
}

async fn assert_only_with_certificates(port: u16, authority: &Authority) {
    assert!(is_let_in(port, authority, Attempt::WithCertificate).await);
    for attempt in [Attempt::WithoutCertificate, Attempt::Plain] {
        assert!(!is_let_in(port, authority, attempt).await, "{attempt:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_process_with_certificates_takes_and_makes_no_connection_without() {
    let folder = tempfile::tempdir().unwrap();
    let authority = Authority::new(folder.path(), "ours");
    let port = free_port();
    let connect = |url: String| {
        let view = LanView::default();
        let options = authority.options("here").view(&view);
        async move { aether::builder().url(url).options(options).connect().await.map(|aether| (aether, view)) }
    };
    // The protocol is QUIC, as with the certificates.
    let (here, _) = connect(format!("lan:?multicast=off&listen=127.0.0.1:{port}")).await.unwrap();
    assert_only_with_certificates(port, &authority).await;
    let (there, view) = connect(format!("lan:?multicast=off&peer=127.0.0.1:{port}")).await.unwrap();
    assert_eq!(view.endpoints().unwrap().listen, ["quic/[::]:0"]);
    met(&there, &view, 1).await;
    assert_eq!(view.peers().len(), 1);
    let plain = connect(format!("lan:?multicast=off&peer=tcp/127.0.0.1:{port}")).await;
    let plain = plain.unwrap_err();
    assert!(matches!(plain.of_medium(), Some(LanError::Plain { .. })), "{plain:?}");
    for aether in [here, there] {
        aether.close().await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_router_with_certificates_connects_those_that_have_one() {
    let folder = tempfile::tempdir().unwrap();
    let authority = Authority::new(folder.path(), "ours");
    let (port, [certificate, key]) = (free_port(), authority.sign("router"));
    let place = format!("lan:?multicast=off&listen=127.0.0.1:{port}");
    let router = LanRouter::open_with_certificates(&place, authority.file(), certificate, key).await.unwrap();
    assert_eq!(router.listens(), [format!("quic/127.0.0.1:{port}")]);
    assert_only_with_certificates(port, &authority).await;
    let mut ends = Vec::new();
    for (before, machine) in ["first", "second"].into_iter().enumerate() {
        let (url, view) = (format!("lan:?router=127.0.0.1:{port}"), LanView::default());
        let end = connected(url, authority.options(machine).view(&view)).await;
        met(&end, &view, before).await;
        ends.push(end);
    }
    let mut ear = vibrator("ear", &ends[1]).await;
    ear.resonate_on("said").await.unwrap();
    ends[0].emitter("speaker").unwrap().emit_bytes("said", "with certificates").await.unwrap();
    assert_eq!(timeout(LONG, ear.receive()).await.unwrap().unwrap().text().unwrap(), "with certificates");
    for end in ends {
        end.close().await.unwrap();
    }
    router.close().await;
}

/// Reading must not disturb writing: over TLS as Zenoh 1.10 has it, such connections break.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_with_certificates_that_send_to_each_other_at_once_lose_nothing() {
    const WAVES: u64 = 20_000;
    let folder = tempfile::tempdir().unwrap();
    let authority = Authority::new(folder.path(), "ours");
    let ports = [free_port(), free_port()];
    let mut sides = Vec::new();
    sides.push(connected(url(ports[0], None), authority.options("first")).await);
    sides.push(acquainted(url(ports[1], Some(ports[0])), authority.options("second")).await);
    let mut ears = Vec::new();
    for (number, side) in sides.iter().enumerate() {
        let ear = vibrator("ear", side).await;
        ear.resonate_on(&*format!("from.{}", 1 - number)).await.unwrap();
        ears.push(ear);
    }
    let speaking = sides.iter().enumerate().map(|(number, side)| async move {
        let speaker = side.emitter("speaker").unwrap();
        for _ in 0..WAVES {
            speaker.emit_bytes(&*format!("from.{number}"), vec![7; 512]).await.unwrap();
        }
        flushed(side).await;
    });
    let hearing = ears.iter_mut().map(|ear| async move {
        for _ in 0..WAVES {
            timeout(LONG, ear.receive()).await.unwrap().unwrap();
        }
        let ledger = ear.ledger();
        assert_eq!((ledger.offered, ledger.lost_upstream), (WAVES, 0));
    });
    tokio::join!(join_all(speaking), join_all(hearing));
    for side in sides {
        let status = side.status();
        assert_eq!((status.unconfirmed, status.in_flight), (0, 0), "{status:?}");
        side.close().await.unwrap();
    }
}

/// Zenoh 1.10 takes one new connection of QUIC after the other.
struct HeldUp {
    authority: Authority,
    port: u16,
    here: Aether,
    there: Aether,
    ear: Vibrator,
    half: JoinHandle<Aether>,
    hole: Hole,
    _folder: tempfile::TempDir,
}

/// A relay between a process and the one that it connects to. It passes on the first datagram.
struct Hole {
    outside: UdpSocket,
    from: SocketAddr,
    inside: UdpSocket,
}

impl Hole {
    /// From now on it passes on everything, also what has come meanwhile.
    async fn open(self) {
        let Self { outside, from, inside } = self;
        let (mut out, mut back) = ([0; 2000], [0; 2000]);
        loop {
            tokio::select! {
                Ok(length) = outside.recv(&mut out) => drop(inside.send(&out[..length]).await),
                Ok(length) = inside.recv(&mut back) => drop(outside.send_to(&back[..length], from).await),
            }
        }
    }
}

impl HeldUp {
    /// Two are connected, and a connection to the first has begun and is silent.
    async fn begin() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let authority = Authority::new(folder.path(), "ours");
        let port = free_port();
        let here = connected(url(port, None), authority.options("here")).await;
        let there = acquainted(url(free_port(), Some(port)), authority.options("there")).await;
        let ear = vibrator("ear", &here).await;
        ear.resonate_on("said").await.unwrap();
        let [outside, inside] = [UdpSocket::bind("127.0.0.1:0").await, UdpSocket::bind("127.0.0.1:0").await];
        let (outside, inside) = (outside.unwrap(), inside.unwrap());
        inside.connect(("127.0.0.1", port)).await.unwrap();
        let to_hole = outside.local_addr().unwrap().port();
        let half = tokio::spawn(connected(url(free_port(), Some(to_hole)), authority.options("half")));
        let mut first = [0; 2000];
        let (length, from) = outside.recv_from(&mut first).await.unwrap();
        inside.send(&first[..length]).await.unwrap();
        let hole = Hole { outside, from, inside };
        Self { authority, port, here, there, ear, half, hole, _folder: folder }
    }

    /// Another one wants to connect to the first. It has not, and those that were connected talk meanwhile.
    async fn hold_up(&mut self) -> (Aether, LanView) {
        let view = LanView::default();
        let options = self.authority.options("new").view(&view);
        let new = connected(url(free_port(), Some(self.port)), options).await;
        assert!(view.peers().is_empty(), "{view:?}");
        self.there.emitter("speaker").unwrap().emit_bytes("said", "meanwhile").await.unwrap();
        assert_eq!(timeout(LONG, self.ear.receive()).await.unwrap().unwrap().text().unwrap(), "meanwhile");
        (new, view)
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_that_begins_and_says_no_more_holds_up_new_ones_until_it_goes_on_and_no_others() {
    let mut held_up = HeldUp::begin().await;
    let (new, view) = held_up.hold_up().await;
    let HeldUp { here, there, half, hole, .. } = held_up;
    let opened = tokio::spawn(hole.open());
    until(&view, LONG, |view| !view.peers().is_empty()).await;
    for aether in [half.await.unwrap(), new, there, here] {
        aether.close().await.unwrap();
    }
    opened.abort();
}

mod long {
    use std::time::Duration;

    use super::*;

    /// QUIC gives a connection 30 s (the idle timeout of quinn, which Zenoh does not set).
    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_connection_that_begins_and_says_no_more_holds_up_new_ones_for_half_a_minute_and_no_others() {
        let mut held_up = HeldUp::begin().await;
        let (new, view) = held_up.hold_up().await;
        until(&view, Duration::from_secs(60), |view| !view.peers().is_empty()).await;
        let HeldUp { here, there, half, .. } = held_up;
        half.abort();
        for aether in [new, there, here] {
            aether.close().await.unwrap();
        }
    }
}
