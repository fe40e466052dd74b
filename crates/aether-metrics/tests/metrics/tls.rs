//! TLS of the HTTP server: certificates that change while it serves, and clients that need one.

use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use aether_metrics::{Slots, Tls, TrustedProxies, serve_with};
use aether_service::CancellationToken;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Request, Response};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsConnector;

struct Authority {
    issuer: Issuer<'static, KeyPair>,
    certificate: rcgen::Certificate,
}

impl Authority {
    fn new() -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let certificate = params.self_signed(&key).unwrap();
        Self { issuer: Issuer::new(params, key), certificate }
    }

    fn issue(&self) -> (rcgen::Certificate, KeyPair) {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(["localhost".to_owned()]).unwrap();
        (params.signed_by(&key, &self.issuer).unwrap(), key)
    }
}

fn write(path: &Path, text: &str) {
    let new = path.with_extension("new");
    std::fs::write(&new, text).unwrap();
    std::fs::set_permissions(&new, std::fs::Permissions::from_mode(0o600)).unwrap();
    std::fs::rename(new, path).unwrap();
}

async fn server(tls: Tls) -> (SocketAddr, CancellationToken) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (address, shutdown) = (listener.local_addr().unwrap(), CancellationToken::new());
    let app = service_fn(async |_: Request<Incoming>| {
        Ok::<_, std::convert::Infallible>(Response::new("here".to_owned()))
    });
    tokio::spawn(serve_with(
        listener,
        Some(tls),
        TrustedProxies::default(),
        Slots::new(),
        app,
        shutdown.clone(),
    ));
    (address, shutdown)
}

type Identity = (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>);

/// Asks once; the certificate that the server showed, and its answer.
async fn ask(
    address: SocketAddr,
    authority: &Authority,
    identity: Option<Identity>,
) -> Result<(Vec<u8>, String), std::io::Error> {
    let mut roots = RootCertStore::empty();
    roots.add(authority.certificate.der().clone()).unwrap();
    let config = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()));
    let config = config.with_safe_default_protocol_versions().unwrap().with_root_certificates(roots);
    let config = match identity {
        Some((chain, key)) => config.with_client_auth_cert(chain, key).unwrap(),
        None => config.with_no_client_auth(),
    };
    let stream = TcpStream::connect(address).await?;
    let name = ServerName::try_from("localhost").unwrap();
    let mut stream = TlsConnector::from(Arc::new(config)).connect(name, stream).await?;
    let shown = stream.get_ref().1.peer_certificates().unwrap()[0].to_vec();
    stream.write_all(b"GET / HTTP/1.1\r\nhost: localhost\r\n\r\n").await?;
    let mut answer = String::new();
    // The server may close without a farewell of TLS.
    if let Err(error) = stream.read_to_string(&mut answer).await
        && answer.is_empty()
    {
        return Err(error);
    }
    Ok((shown, answer))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_certificate_that_is_replaced_again_and_again_refuses_nobody() {
    let folder = tempfile::tempdir().unwrap();
    let (certificate, key) = (folder.path().join("cert.pem"), folder.path().join("key.pem"));
    let authority = Arc::new(Authority::new());
    let (first, first_key) = authority.issue();
    write(&certificate, &first.pem());
    write(&key, &first_key.serialize_pem());
    let (address, shutdown) = server(Tls::load(&certificate, &key).unwrap()).await;

    let stop = Arc::new(AtomicBool::new(false));
    let clients: Vec<_> = (0..2)
        .map(|_| {
            let (stop, authority) = (Arc::clone(&stop), Arc::clone(&authority));
            tokio::spawn(async move {
                let mut answers = 0;
                while answers == 0 || !stop.load(Ordering::Relaxed) {
                    let (_, answer) = ask(address, &authority, None).await.unwrap();
                    assert!(answer.ends_with("here"), "{answer}");
                    answers += 1;
                }
                answers
            })
        })
        .collect();
    let mut last = first.der().to_vec();
    for _ in 0..25 {
        let (next, next_key) = authority.issue();
        // Between the two writes certificate and key do not fit.
        write(&certificate, &next.pem());
        ask(address, &authority, None).await.unwrap();
        write(&key, &next_key.serialize_pem());
        let (shown, _) = ask(address, &authority, None).await.unwrap();
        assert_eq!(shown, next.der().to_vec(), "the new certificate is shown");
        assert_ne!(shown, std::mem::replace(&mut last, shown.clone()));
    }
    // Unusable files change nothing.
    write(&certificate, "no certificate");
    assert_eq!(ask(address, &authority, None).await.unwrap().0, last);
    std::fs::remove_file(&certificate).unwrap();
    assert_eq!(ask(address, &authority, None).await.unwrap().0, last);
    stop.store(true, Ordering::Relaxed);
    for client in clients {
        assert!(client.await.unwrap() > 0);
    }
    shutdown.cancel();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_without_a_certificate_of_the_authority_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let (ours, others) = (Authority::new(), Authority::new());
    let (certificate, key) = ours.issue();
    write(&path("cert.pem"), &certificate.pem());
    write(&path("key.pem"), &key.serialize_pem());
    write(&path("clients.pem"), &ours.certificate.pem());
    let tls = Tls::load_mutual(&path("cert.pem"), &path("key.pem"), &path("clients.pem")).unwrap();
    assert!(tls.is_mutual());
    let (address, shutdown) = server(tls).await;

    let identity = |authority: &Authority| {
        let (certificate, key) = authority.issue();
        (vec![certificate.der().clone()], PrivateKeyDer::try_from(key.serialize_der()).unwrap())
    };
    assert!(ask(address, &ours, Some(identity(&ours))).await.unwrap().1.ends_with("here"));
    assert!(ask(address, &ours, None).await.is_err());
    assert!(ask(address, &ours, Some(identity(&others))).await.is_err());
    // Clients of another authority are served once it is in the file.
    write(&path("clients.pem"), &(ours.certificate.pem() + &others.certificate.pem()));
    assert!(ask(address, &ours, Some(identity(&others))).await.unwrap().1.ends_with("here"));

    write(&path("clients.pem"), "nobody");
    let refused = Tls::load_mutual(&path("cert.pem"), &path("key.pem"), &path("clients.pem")).unwrap_err();
    assert!(refused.to_string().contains("certificates"), "{refused}");
    shutdown.cancel();
}
