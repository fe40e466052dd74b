//! An authority that signs certificates into files.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use aether::nats::NatsOptions;
use aether_conformance::ServerOptions;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use tempfile::TempDir;

/// A folder with an authority (`ca.pem`) and the certificates that it has signed (`NAME.pem`, `NAME-key.pem`).
pub(crate) struct Authority {
    folder: TempDir,
    issuer: CertifiedIssuer<'static, KeyPair>,
}

impl Authority {
    pub(crate) fn new() -> Self {
        let authority = Self { folder: TempDir::new().unwrap(), issuer: issuer() };
        authority.write();
        authority
    }

    fn write(&self) {
        fs::write(self.path("ca.pem"), self.issuer.pem()).unwrap();
        self.sign("server", |_| {});
        self.sign("client", |_| {});
    }

    /// Makes another authority in the same folder, which signs all again.
    pub(crate) fn replace(&mut self) {
        self.issuer = issuer();
        self.write();
    }

    pub(crate) fn sign(&self, name: &str, change: impl FnOnce(&mut CertificateParams)) {
        let mut params = CertificateParams::new(["127.0.0.1".to_owned(), "localhost".to_owned()]).unwrap();
        change(&mut params);
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        fs::write(self.path(&format!("{name}.pem")), certificate.pem()).unwrap();
        secret(&self.path(&format!("{name}-key.pem")), &key.serialize_pem());
        // In one file that is replaced at once, nobody reads a new certificate and an old key.
        let bundle = self.path(&format!("{name}-bundle.new"));
        secret(&bundle, &(certificate.pem() + &key.serialize_pem()));
        fs::rename(bundle, self.path(&format!("{name}-bundle.pem"))).unwrap();
    }

    /// Makes the certificate of the server sign itself. One of an authority is what `openssl req -x509` makes.
    pub(crate) fn sign_itself(&self, is_authority: bool) {
        let mut params = CertificateParams::new(["127.0.0.1".to_owned(), "localhost".to_owned()]).unwrap();
        params.is_ca = match is_authority {
            true => IsCa::Ca(BasicConstraints::Unconstrained),
            false => IsCa::ExplicitNoCa,
        };
        params.distinguished_name.push(DnType::CommonName, "a server");
        let key = KeyPair::generate().unwrap();
        fs::write(self.path("server.pem"), params.self_signed(&key).unwrap().pem()).unwrap();
        secret(&self.path("server-key.pem"), &key.serialize_pem());
    }

    pub(crate) fn path(&self, file: &str) -> PathBuf {
        self.folder.path().join(file)
    }

    /// The settings of a server with TLS; `more` is inside of them.
    pub(crate) fn tls(&self, more: &str) -> ServerOptions {
        let path = |file: &str| self.path(file).display().to_string();
        let value = format!(
            "{{ cert_file: \"{}\", key_file: \"{}\", ca_file: \"{}\", {more} }}",
            path("server.pem"),
            path("server-key.pem"),
            path("ca.pem")
        );
        ServerOptions::default().setting("tls", value)
    }

    pub(crate) fn trusted(&self) -> NatsOptions {
        NatsOptions::default().authorities(self.path("ca.pem"))
    }

    pub(crate) fn certified(&self) -> NatsOptions {
        self.trusted().certificate(self.path("client.pem"), self.path("client-key.pem"))
    }
}

fn issuer() -> CertifiedIssuer<'static, KeyPair> {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.distinguished_name.push(DnType::CommonName, "an authority");
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

/// Writes a file that only its owner can read.
pub(crate) fn secret(path: &Path, text: &str) {
    fs::write(path, text).unwrap();
    fs::set_permissions(path, Permissions::from_mode(0o600)).unwrap();
}
