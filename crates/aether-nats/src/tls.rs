//! TLS to NATS servers: the certificates, and what a failed handshake means.

use std::error::Error;
use std::fmt;
use std::io::{self, BufReader, Read as _};
use std::path::{Path, PathBuf};

use async_nats::ConnectOptions;
use async_nats::rustls::pki_types::pem::PemObject as _;
use async_nats::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use async_nats::rustls::{
    AlertDescription, CertificateError, ClientConfig, Error as RustlsError, RootCertStore,
};

use super::login::NatsLoginError;
use aether_files::{byte_order_mark, private_file};

/// The part of a file of authorities that is looked at; the list of a system has about 250 KiB.
const MAX_AUTHORITIES: u64 = 4 << 20;

/// The certificates for TLS to NATS servers. The files are in PEM, and are read again for each connection: a connection
/// that is up is not broken by new ones.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct NatsTls {
    /// The authorities that are trusted instead of the authorities of the system.
    pub(super) authorities: Option<PathBuf>,
    /// The client's certificate with its chain, and the key.
    pub(super) client: Option<(PathBuf, PathBuf)>,
}

impl NatsTls {
    /// Whether servers without TLS are refused.
    pub(super) const fn is_required(&self) -> bool {
        self.authorities.is_some() || self.client.is_some()
    }

    /// Adds the certificates to the options of a client.
    pub(super) fn add_to(&self, mut options: ConnectOptions) -> Result<ConnectOptions, NatsLoginError> {
        if let Some(path) = &self.authorities {
            check_authorities(path)?;
            options = options.add_root_certificates(path.clone());
        }
        if let Some((certificate, key)) = &self.client {
            let unread = |source| NatsLoginError::Unread { path: certificate.clone(), source };
            std::fs::File::open(certificate).map_err(unread)?;
            private_file::open(key)?;
            options = options.add_client_certificate(certificate.clone(), key.clone());
        }
        Ok(options)
    }

    /// The same for a connection of our own, as the client makes it. Reads the files.
    ///
    /// # Errors
    /// [`io::Error`] if a file cannot be used, or there are no authorities.
    pub(super) fn client_config(&self) -> io::Result<ClientConfig> {
        let mut roots = RootCertStore::empty();
        match &self.authorities {
            Some(path) => {
                for certificate in CertificateDer::pem_file_iter(path).map_err(io::Error::other)? {
                    roots.add(certificate.map_err(io::Error::other)?).map_err(io::Error::other)?;
                }
            }
            None => {
                let found = rustls_native_certs::load_native_certs();
                if let Some(error) = found.errors.into_iter().next() {
                    return Err(io::Error::other(error));
                }
                roots.add_parsable_certificates(found.certs);
            }
        }
        let config = ClientConfig::builder().with_root_certificates(roots);
        let Some((certificate, key)) = &self.client else { return Ok(config.with_no_client_auth()) };
        let chain = CertificateDer::pem_file_iter(certificate).and_then(Iterator::collect);
        let key = private_file::open(key).map_err(io::Error::other)?;
        let key = PrivateKeyDer::from_pem_reader(BufReader::new(key)).map_err(io::Error::other)?;
        config.with_client_auth_cert(chain.map_err(io::Error::other)?, key).map_err(io::Error::other)
    }
}

/// A file without a certificate would trust nobody, and the server would be blamed for it.
fn check_authorities(path: &Path) -> Result<(), NatsLoginError> {
    let unread = |source| NatsLoginError::Unread { path: path.to_owned(), source };
    let malformed = |expected| NatsLoginError::Malformed { path: path.to_owned(), expected };
    let mut pem = Vec::new();
    std::fs::File::open(path).map_err(unread)?.take(MAX_AUTHORITIES).read_to_end(&mut pem).map_err(unread)?;
    if byte_order_mark::without(&pem).len() < pem.len() {
        return Err(malformed(
            "certificate of an authority in its first line: save it without a byte order mark",
        ));
    }
    let begins = |line: &[u8]| line.trim_ascii() == b"-----BEGIN CERTIFICATE-----";
    if pem.split(|byte| *byte == b'\n').any(begins) {
        Ok(())
    } else {
        Err(malformed("certificate of an authority in PEM"))
    }
}

/// Why a TLS handshake with a server failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum TlsFailure {
    /// The server's certificate has expired.
    Expired,
    /// The server's certificate is not valid yet.
    NotYetValid,
    /// The server's certificate is for other hosts.
    WrongHost,
    /// No trusted authority has signed the server's certificate.
    UnknownIssuer,
    /// The server's certificate is a CA certificate, as `openssl req -x509` makes them. It cannot be the
    /// certificate of a server, also if it is trusted.
    SelfSigned,
    /// The server does not speak TLS.
    NoTls,
    /// The server refused the client's certificate, or the client has none.
    ClientRefused,
    /// This machine has no list of authorities that it trusts.
    NoAuthorities,
    /// A certificate or a key cannot be used, or something else; the source has it.
    Other,
}

impl TlsFailure {
    /// The meaning of an error of the client, if it is one of TLS.
    #[must_use]
    pub fn of(error: &async_nats::ConnectError) -> Option<Self> {
        match of_rustls(error) {
            Some(error) => Some(Self::meaning(error)),
            None => matches!(error.kind(), async_nats::ConnectErrorKind::Tls).then(|| {
                // The client has no kind for it. It reads them before it connects.
                let text = error.source().map(ToString::to_string).unwrap_or_default();
                if text.contains("could not load platform certs") { Self::NoAuthorities } else { Self::Other }
            }),
        }
    }

    /// Whether a certificate or a key could not be read, or the two do not fit: no server was asked yet.
    pub(super) fn is_of_files(error: &async_nats::ConnectError) -> bool {
        matches!(error.kind(), async_nats::ConnectErrorKind::Tls) && of_rustls(error).is_none()
    }

    fn meaning(error: &RustlsError) -> Self {
        use CertificateError as Bad;
        match error {
            RustlsError::InvalidCertificate(bad) => match bad {
                Bad::Expired | Bad::ExpiredContext { .. } => Self::Expired,
                Bad::NotValidYet | Bad::NotValidYetContext { .. } => Self::NotYetValid,
                Bad::NotValidForName | Bad::NotValidForNameContext { .. } => Self::WrongHost,
                // Another authority of the same name.
                Bad::UnknownIssuer | Bad::BadSignature => Self::UnknownIssuer,
                // An error of webpki, which rustls has no name for.
                Bad::Other(error) if error.to_string().contains("CaUsedAsEndEntity") => Self::SelfSigned,
                _ => Self::Other,
            },
            RustlsError::InvalidMessage(_) => Self::NoTls,
            RustlsError::AlertReceived(
                AlertDescription::BadCertificate
                | AlertDescription::CertificateRequired
                | AlertDescription::CertificateExpired
                | AlertDescription::CertificateUnknown
                | AlertDescription::CertificateRevoked
                | AlertDescription::UnsupportedCertificate
                | AlertDescription::UnknownCA
                | AlertDescription::AccessDenied
                | AlertDescription::HandshakeFailure,
            ) => Self::ClientRefused,
            _ => Self::Other,
        }
    }
}

/// The error of TLS inside of an error of the client.
fn of_rustls(error: &async_nats::ConnectError) -> Option<&RustlsError> {
    let mut source: Option<&(dyn Error + 'static)> = Some(error);
    while let Some(error) = source {
        // An I/O error hides the error inside of it from `source`.
        let inner = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
        let found = error.downcast_ref().or_else(|| inner.and_then(|inner| inner.downcast_ref()));
        if found.is_some() {
            return found;
        }
        source = error.source();
    }
    None
}

/// The failure, and how to repair it.
impl fmt::Display for TlsFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Expired => "the server's certificate has expired: renew it, and check the clock of this machine",
            Self::NotYetValid => "the server's certificate is not valid yet: check the clock of this machine",
            Self::WrongHost => "the server's certificate is for another host: use one of its names in the address",
            Self::UnknownIssuer => {
                "no trusted authority has signed the server's certificate: set medium.ca to the one that has, or to the \
                 certificate itself if it is self-signed"
            }
            Self::SelfSigned => {
                "the server's certificate is a CA certificate, as `openssl req -x509` makes them: sign one for the \
                 server with it, or make one with -addext basicConstraints=critical,CA:FALSE"
            }
            Self::NoTls => "the server does not speak TLS: use nats:// without certificates, or turn its TLS on",
            Self::ClientRefused => {
                "the server refused the certificate of this program: set medium.certificate to one that it trusts, and to its key"
            }
            Self::NoAuthorities => {
                "this machine has no list of trusted authorities: install it (the package ca-certificates), or set medium.ca"
            }
            Self::Other => "check the certificates and the key",
        })
    }
}
