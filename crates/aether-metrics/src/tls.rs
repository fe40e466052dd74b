//! TLS for the HTTP server: a certificate and its key from PEM files, which are read again when they change.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use aether_files::private_file::{self, PrivateFileError};
use parking_lot::Mutex;
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use tokio_rustls::TlsAcceptor;

/// The certificate and the key of a server. [`serve_with`](crate::serve_with) uses them. Clones share them.
///
/// The files are read again at the first connection after they have changed, so a new certificate needs no restart.
/// Connections that are open go on. Files that cannot be used, such as a certificate whose key is not there yet, are
/// logged once, and the certificate stays as it was until they change again.
#[derive(Clone)]
pub struct Tls(Arc<Shared>);

struct Shared {
    files: Files,
    current: Mutex<Current>,
}

struct Files {
    certificate: PathBuf,
    key: PathBuf,
    /// The authorities of the clients, if clients need a certificate.
    clients: Option<PathBuf>,
}

/// When a file was written, how long it is, and its number where files have one, which tells two files of one moment
/// apart that replaced each other; `None` if that cannot be found out.
type Stamp = Option<(SystemTime, u64, u64)>;

/// The clock of a file system moves in steps of up to 10 ms, so a file that was written so recently may change again
/// without another time.
const UNSETTLED_FOR: Duration = Duration::from_millis(50);

struct Current {
    acceptor: TlsAcceptor,
    /// The files as they were when they were read last.
    stamps: [Stamp; 3],
}

/// The certificate or the key cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TlsError {
    /// A file cannot be opened.
    #[error("{} cannot be read", path.display())]
    Open {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// Other users of the machine can read or write the key.
    #[error("other users can use the private key {}; make it private with: chmod 600 {}", path.display(), path.display())]
    Public {
        /// The file.
        path: PathBuf,
    },
    /// A file has no PEM of the expected sort.
    #[error("{} is not a PEM file with {expected}", path.display())]
    Pem {
        /// The file.
        path: PathBuf,
        /// The expected content.
        expected: &'static str,
        /// Why it cannot be read.
        source: pem::Error,
    },
    /// The key does not fit the certificate, or is of an unsupported sort.
    #[error("the certificate {} cannot be used with the private key {}", certificate.display(), key.display())]
    Unfit {
        /// The file of the certificate.
        certificate: PathBuf,
        /// The file of the key.
        key: PathBuf,
        /// Why not.
        source: rustls::Error,
    },
    /// The authorities of the clients cannot be used.
    #[error("{} has no certificates of authorities for clients", path.display())]
    Authorities {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

impl Tls {
    /// Reads a chain of certificates, the server's first, and its private key, both in PEM.
    ///
    /// # Errors
    /// [`TlsError`] if a file cannot be read, the key is readable by every user, or the two do not fit.
    pub fn load(certificate: &Path, key: &Path) -> Result<Self, TlsError> {
        Self::of(Files { certificate: certificate.to_owned(), key: key.to_owned(), clients: None })
    }

    /// As [`load`](Self::load), and clients need a certificate of one of the authorities in a PEM file (mutual TLS).
    ///
    /// # Errors
    /// [`TlsError`], as [`load`](Self::load), or if the file has no certificate of an authority.
    pub fn load_mutual(certificate: &Path, key: &Path, clients: &Path) -> Result<Self, TlsError> {
        let clients = Some(clients.to_owned());
        Self::of(Files { certificate: certificate.to_owned(), key: key.to_owned(), clients })
    }

    fn of(files: Files) -> Result<Self, TlsError> {
        // Before they are read: what changes meanwhile is read again.
        let stamps = files.stamps();
        let acceptor = files.acceptor()?;
        Ok(Self(Arc::new(Shared { files, current: Mutex::new(Current { acceptor, stamps }) })))
    }

    /// Whether clients need a certificate.
    #[must_use]
    pub fn is_mutual(&self) -> bool {
        self.0.files.clients.is_some()
    }

    /// The acceptor of the next connection.
    pub(crate) fn acceptor(&self) -> TlsAcceptor {
        let Shared { files, current } = &*self.0;
        let mut current = current.lock();
        // Before they are read: what changes meanwhile is read again.
        let stamps = files.stamps();
        let has_changed = current.stamps != stamps;
        if has_changed || stamps.iter().any(is_unsettled) {
            current.stamps = stamps;
            match files.acceptor() {
                Ok(acceptor) => {
                    current.acceptor = acceptor;
                    tracing::debug!(certificate = %files.certificate.display(), "the certificate was read again");
                }
                Err(error) if has_changed => {
                    let error = &error as &dyn std::error::Error;
                    tracing::warn!(error, "the certificate of the server stays as it was");
                }
                // That was said when it changed.
                Err(_) => {}
            }
        }
        current.acceptor.clone()
    }
}

/// Whether a file may change without another stamp.
fn is_unsettled(stamp: &Stamp) -> bool {
    // A time in the future proves nothing.
    stamp.is_some_and(|(written, ..)| written.elapsed().is_ok_and(|age| age < UNSETTLED_FOR))
}

impl Files {
    fn stamps(&self) -> [Stamp; 3] {
        let stamp = |path: &Path| {
            let about = std::fs::metadata(path).ok()?;
            Some((about.modified().ok()?, about.len(), number_of(&about)))
        };
        [stamp(&self.certificate), stamp(&self.key), self.clients.as_deref().and_then(stamp)]
    }

    fn acceptor(&self) -> Result<TlsAcceptor, TlsError> {
        let chain = certificates(&self.certificate)?;
        let key = private_key(&self.key)?;
        let unfit =
            |source| TlsError::Unfit { certificate: self.certificate.clone(), key: self.key.clone(), source };
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .map_err(unfit)?;
        let config = match &self.clients {
            None => config.with_no_client_auth(),
            Some(path) => {
                let unusable = |source: Box<dyn std::error::Error + Send + Sync>| TlsError::Authorities {
                    path: path.clone(),
                    source,
                };
                let mut roots = RootCertStore::empty();
                for authority in certificates(path)? {
                    roots.add(authority).map_err(|error| unusable(error.into()))?;
                }
                let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build();
                config.with_client_cert_verifier(verifier.map_err(|error| unusable(error.into()))?)
            }
        };
        let mut config = config.with_single_cert(chain, key).map_err(unfit)?;
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(TlsAcceptor::from(Arc::new(config)))
    }
}

#[cfg(unix)]
fn number_of(about: &std::fs::Metadata) -> u64 {
    std::os::unix::fs::MetadataExt::ino(about)
}

#[cfg(not(unix))]
const fn number_of(_: &std::fs::Metadata) -> u64 {
    0
}

fn open(path: &Path) -> Result<File, TlsError> {
    File::open(path).map_err(|source| TlsError::Open { path: path.to_owned(), source })
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let chain = CertificateDer::pem_reader_iter(open(path)?).collect::<Result<Vec<_>, _>>();
    let chain =
        chain.and_then(|chain| if chain.is_empty() { Err(pem::Error::NoItemsFound) } else { Ok(chain) });
    chain.map_err(|source| TlsError::Pem { path: path.to_owned(), expected: "certificates", source })
}

fn private_key(path: &Path) -> Result<PrivateKeyDer<'static>, TlsError> {
    let file = private_file::open(path).map_err(|error| match error {
        PrivateFileError::Unread { path, source } => TlsError::Open { path, source },
        _ => TlsError::Public { path: path.to_owned() },
    })?;
    PrivateKeyDer::from_pem_reader(file).map_err(|source| TlsError::Pem {
        path: path.to_owned(),
        expected: "a private key",
        source,
    })
}

impl std::fmt::Debug for Tls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tls").field("certificate", &self.0.files.certificate).finish_non_exhaustive()
    }
}
