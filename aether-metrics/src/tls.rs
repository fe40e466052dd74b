//! TLS for the HTTP server: a certificate and its key from PEM files.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::ServerConfig;
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::TlsAcceptor;

/// The certificate and the key of a server. [`serve_with`](crate::serve_with) uses them.
#[derive(Clone)]
pub struct Tls(TlsAcceptor);

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
    /// Every user of the machine can read the key.
    #[error("every user can read the private key {}; make it private with: chmod 600 {}", path.display(), path.display())]
    Public {
        /// The file.
        path: PathBuf,
    },
    /// A file has no PEM of the expected sort.
    #[error("{} is not a PEM file with {expected}", path.display())]
    Pem {
        /// The file.
        path: PathBuf,
        /// What it must have.
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
}

impl Tls {
    /// Reads a chain of certificates, the server's first, and its private key, both in PEM.
    ///
    /// # Errors
    /// [`TlsError`] if a file cannot be read, the key is readable by every user, or the two do not fit.
    pub fn load(certificate: &Path, key: &Path) -> Result<Self, TlsError> {
        let open =
            |path: &Path| File::open(path).map_err(|source| TlsError::Open { path: path.to_owned(), source });
        let expected = |path: &Path, expected| {
            let path = path.to_owned();
            move |source| TlsError::Pem { path, expected, source }
        };
        let chain = CertificateDer::pem_reader_iter(open(certificate)?)
            .collect::<Result<Vec<_>, _>>()
            .and_then(|chain| if chain.is_empty() { Err(pem::Error::NoItemsFound) } else { Ok(chain) })
            .map_err(expected(certificate, "certificates"))?;
        let file = open(key)?;
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt as _;
            let about = file.metadata().map_err(|source| TlsError::Open { path: key.to_owned(), source })?;
            if about.permissions().mode() & 0o004 != 0 {
                return Err(TlsError::Public { path: key.to_owned() });
            }
        }
        let secret = PrivateKeyDer::from_pem_reader(file).map_err(expected(key, "a private key"))?;
        let unfit =
            |source| TlsError::Unfit { certificate: certificate.to_owned(), key: key.to_owned(), source };
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(unfit)?
            .with_no_client_auth()
            .with_single_cert(chain, secret)
            .map_err(unfit)?;
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Self(TlsAcceptor::from(Arc::new(config))))
    }

    pub(crate) const fn acceptor(&self) -> &TlsAcceptor {
        &self.0
    }
}

impl std::fmt::Debug for Tls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tls").finish_non_exhaustive()
    }
}
