//! Clients that show a certificate: what each may do, over TLS.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::Arc;

use aether_core::Aether;
use aether_field::Field;
use aether_gateway::{Access, FieldOptions, Gateway, GatewayOptions, StartError};
use aether_metrics::Tls;
use futures_util::{SinkExt as _, StreamExt as _};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::pki_types::PrivateKeyDer;
use serde_json::Value;
use sha2::{Digest as _, Sha256};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_tungstenite::tungstenite::Message;

use crate::headers::assert_protected;
use crate::support::{self, Reply, Running};

struct Authority {
    issuer: Issuer<'static, KeyPair>,
    certificate: rcgen::Certificate,
}

/// The certificate and the key of a client.
struct Identity {
    certificate: rcgen::Certificate,
    key: KeyPair,
}

impl Authority {
    fn new() -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let certificate = params.self_signed(&key).unwrap();
        Self { issuer: Issuer::new(params, key), certificate }
    }

    fn issue(&self) -> Identity {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(["localhost".to_owned()]).unwrap();
        Identity { certificate: params.signed_by(&key, &self.issuer).unwrap(), key }
    }

    /// TLS that asks clients for a certificate of this authority.
    fn mutual(&self, folder: &Path) -> Tls {
        let Identity { certificate, key } = self.issue();
        let path = |name: &str| folder.join(name);
        private(&path("cert.pem"), &certificate.pem());
        private(&path("key.pem"), &key.serialize_pem());
        private(&path("clients.pem"), &self.certificate.pem());
        Tls::load_mutual(&path("cert.pem"), &path("key.pem"), &path("clients.pem")).unwrap()
    }

    async fn connect(&self, running: &Running, identity: &Identity) -> TlsStream<TcpStream> {
        let mut roots = rustls::RootCertStore::empty();
        roots.add(self.certificate.der().clone()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let key = PrivateKeyDer::try_from(identity.key.serialize_der()).unwrap();
        let config = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_client_auth_cert(vec![identity.certificate.der().clone()], key)
            .unwrap();
        let stream = TcpStream::connect(running.address).await.unwrap();
        let name = "localhost".try_into().unwrap();
        TlsConnector::from(Arc::new(config)).connect(name, stream).await.unwrap()
    }

    async fn ask(&self, running: &Running, identity: &Identity, head: &str, more: &str) -> Reply {
        let mut stream = self.connect(running, identity).await;
        let request = format!("{head} HTTP/1.1\r\ncontent-length: 0\r\n{more}\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut said = Vec::new();
        // The server may close without a farewell of TLS.
        let _ = stream.read_to_end(&mut said).await;
        Reply::of(&said)
    }
}

impl Identity {
    fn fingerprint(&self) -> String {
        Sha256::digest(self.certificate.der()).iter().map(|byte| format!("{byte:02X}:")).collect()
    }
}

fn private(path: &Path, text: &str) {
    std::fs::write(path, text).unwrap();
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)).unwrap();
}

const HOST: &str = "host: bus.example\r\n";

#[tokio::test(flavor = "multi_thread")]
async fn each_certificate_reads_and_only_a_listed_one_hears_and_emits_what_is_listed() {
    let folder = tempfile::tempdir().unwrap();
    let authority = Authority::new();
    let (ear, mouth, other) = (authority.issue(), authority.issue(), authority.issue());
    let tokens = folder.path().join("tokens.json");
    private(
        &tokens,
        &format!(
            r#"[{{"certificate": "{}", "hear": ["orders.>"], "field": "home", "read": ["*"]}},
                {{"certificate": "{}", "emit": ["orders.>"]}}, {{"token": "s3cret", "emit": ["orders.>"]}}]"#,
            ear.fingerprint(),
            mouth.fingerprint()
        ),
    );
    let aether = Aether::local();
    let field = Field::builder("home").replica("gateway").join(&aether).await.unwrap();
    let access = || Access::load(&tokens).unwrap();
    let fields = FieldOptions::default().field("home", field).access(access());
    let options = GatewayOptions::default().fields(fields).tls(Some(authority.mutual(folder.path())));
    let running = support::run(&aether, options).await;

    let ask = async |identity: &Identity, head: &str| authority.ask(&running, identity, head, HOST).await;
    for identity in [&ear, &mouth, &other] {
        assert_eq!(ask(identity, "GET /api/overview").await.code, 200);
    }
    for (identity, hears, emits) in [(&ear, 400, 403), (&mouth, 403, 202), (&other, 401, 401)] {
        // This filter is refused after the rights were looked at.
        assert_eq!(ask(identity, "GET /waves?kind=none").await.code, hears);
        assert_eq!(ask(identity, "POST /waves/orders.created").await.code, emits);
        assert_ne!(ask(identity, "POST /waves/salaries.paid").await.code, 202);
    }
    // A token adds to the rights of a certificate, and a wrong one gives none.
    let token = |token: &str| format!("{HOST}authorization: Bearer {token}\r\n");
    for (identity, sent, code) in [(&ear, "s3cret", 202), (&other, "s3cret", 202), (&mouth, "guess", 401)] {
        let head = "POST /waves/orders.created";
        assert_eq!(authority.ask(&running, identity, head, &token(sent)).await.code, code);
    }

    // The field that the certificate may read opens without a token, and takes no writes.
    let stream = authority.connect(&running, &ear).await;
    let (mut socket, _) =
        tokio_tungstenite::client_async("wss://bus.example/field/home/ws", stream).await.unwrap();
    let Some(Ok(Message::Text(hello))) = socket.next().await else { panic!("no hello") };
    assert_eq!(serde_json::from_str::<Value>(&hello).unwrap()["type"], "hello");
    socket.send(Message::text(r#"{"type":"set","key":"k","value":1}"#)).await.unwrap();
    let stream = authority.connect(&running, &other).await;
    let (mut socket, _) =
        tokio_tungstenite::client_async("wss://bus.example/field/home/ws?auth_token=guess", stream)
            .await
            .unwrap();
    assert!(
        matches!(socket.next().await, Some(Ok(Message::Close(_)))),
        "an unlisted certificate opens no field"
    );
    running.stop().await;

    // Listed certificates have no effect unless clients are asked for one.
    let fields = FieldOptions::default().access(access());
    let options = GatewayOptions::default().fields(fields).listen(support::any_port());
    let error = Gateway::start(&aether, options).await.unwrap_err();
    assert!(matches!(error, StartError::Certificates) && error.to_string().contains("--tls-clients"));
}

#[tokio::test(flavor = "multi_thread")]
async fn where_nothing_is_listed_a_certificate_may_do_everything_and_browsers_keep_to_tls() {
    let folder = tempfile::tempdir().unwrap();
    let authority = Authority::new();
    let options = GatewayOptions::default().tls(Some(authority.mutual(folder.path())));
    let running = support::run(&Aether::local(), options).await;
    let identity = authority.issue();
    for (head, code) in
        [("GET /", 200), ("GET /api/overview", 200), ("POST /waves/a", 202), ("GET /waves?kind=none", 400)]
    {
        let reply = authority.ask(&running, &identity, head, HOST).await;
        assert_eq!(reply.code, code, "{head}");
        assert_protected(&reply, head);
        assert_eq!(reply.headers["strict-transport-security"], "max-age=31536000", "{head}");
    }
    // On a port of its own, it does not speak for the other ports of its host.
    let reply = authority.ask(&running, &identity, "GET /", "host: bus.example:8443\r\n").await;
    assert!(!reply.headers.contains_key("strict-transport-security"), "{reply:?}");
    running.stop().await;
}
