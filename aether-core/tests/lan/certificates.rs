//! Connections over TLS: both sides have to show a certificate.

use std::path::{Path, PathBuf};
use std::time::Duration;

use aether_core::medium::LanOptions;
use aether_core::{Aether, Wave};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use tokio::time::timeout;

use crate::{LONG, SECRET, free_port, vibrator};

/// Far longer than a connection over loopback takes.
const REFUSED_AFTER: Duration = Duration::from_secs(2);

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

    /// Signs a certificate of a machine, and returns its file and that of its key.
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

    /// What a machine needs that trusts this authority and has a certificate of it.
    fn options(&self, machine: &str) -> LanOptions {
        let [certificate, key] = self.sign(machine);
        LanOptions::default().secret(SECRET).certificates(self.file(), certificate, key)
    }
}

fn url(port: u16, other: Option<u16>) -> String {
    let peer = other.map(|other| format!("&peer=tls/127.0.0.1:{other}")).unwrap_or_default();
    format!("lan:?multicast=off&listen=tls/127.0.0.1:{port}{peer}")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn over_tls_two_with_certificates_talk_and_one_with_those_of_another_authority_does_not() {
    let folder = tempfile::tempdir().unwrap();
    let (ours, others) = (Authority::new(folder.path(), "ours"), Authority::new(folder.path(), "others"));
    let ports = [free_port(), free_port(), free_port()];
    let connect = |url: String, options: LanOptions| async move {
        Aether::builder().url(url).options(options).connect().await.unwrap()
    };
    let there = connect(url(ports[0], None), ours.options("there")).await;
    let here = connect(url(ports[1], Some(ports[0])), ours.options("here")).await;
    let mut oracle = vibrator("oracle", &there).await;
    oracle.resonate_on("ask").await.unwrap();
    let question = || Wave::builder("ask").text("?").build().unwrap();
    let asker = here.emitter("asker").unwrap();
    let (answer, ()) = tokio::join!(asker.ask_within(question(), LONG), async {
        timeout(LONG, oracle.receive()).await.unwrap().unwrap().reply(&7).await.unwrap();
    });
    assert_eq!(answer.unwrap().json::<u8>().unwrap(), 7);

    // It knows the secret, and its certificate is signed by somebody else.
    let foreign = connect(url(ports[2], Some(ports[0])), others.options("foreign")).await;
    let asker = foreign.emitter("asker").unwrap();
    let asked = asker.ask_within(question(), LONG).await;
    assert!(matches!(asked, Err(aether_core::AskError::NoResonator { .. })), "{asked:?}");
    for aether in [foreign, here, there] {
        aether.close().await.unwrap();
    }
}

/// A client of Zenoh that trusts the authority, with or without a certificate of its own: whether it is let in.
async fn is_let_in(port: u16, authority: &Authority, shows_certificate: bool) -> bool {
    let mut config = zenoh::Config::default();
    let mut set = |key: &str, value: &str| config.insert_json5(key, value).unwrap();
    let text = |path: &Path| format!("{:?}", path.display().to_string());
    set("mode", "\"client\"");
    set("scouting/multicast/enabled", "false");
    set("connect/endpoints", &format!("[\"tls/127.0.0.1:{port}\"]"));
    set("connect/timeout_ms", "0");
    set("connect/exit_on_failure", "true");
    set("transport/link/tls/root_ca_certificate", &text(&authority.file()));
    if shows_certificate {
        let [certificate, key] = authority.sign("client");
        set("transport/link/tls/connect_certificate", &text(&certificate));
        set("transport/link/tls/connect_private_key", &text(&key));
        set("transport/link/tls/enable_mtls", "true");
    }
    match timeout(REFUSED_AFTER, zenoh::open(config)).await {
        Ok(Ok(session)) => {
            let is_connected = session.info().peers_zid().await.count() > 0;
            session.close().await.unwrap();
            is_connected
        }
        Ok(Err(_)) | Err(_) => false,
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn over_tls_one_without_a_certificate_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let authority = Authority::new(folder.path(), "ours");
    let port = free_port();
    let options = authority.options("here");
    let here = Aether::builder().url(url(port, None)).options(options).connect().await.unwrap();
    assert!(is_let_in(port, &authority, true).await);
    assert!(!is_let_in(port, &authority, false).await);
    here.close().await.unwrap();
}
